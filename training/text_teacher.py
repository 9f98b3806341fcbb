"""The fine-tuned teacher of the text tasks: all-MiniLM-L6-v2 whose upper layers learn sentiment and entities.

The lower layers stay as they are, so their states are computed once for every line, together with what the plain
teacher says of it, and an epoch costs a third. How words are written is added to those states.
"""

import copy
import math

import torch
from torch import Tensor, nn

from batches import batches
from model import Encoder, Pointwise
from text_input import TOKEN_TYPES, pad_types
from text_lines import Lines

KEPT_LAYERS = 4
TOKENS_PER_BATCH = 4096


class UpperTeacher(nn.Module):
    """The teacher's layers above KEPT_LAYERS, and heads."""

    def __init__(self, teacher: Encoder, sentiments: int, tags: int):
        super().__init__()
        hidden = teacher.shape.hidden
        self.layers = copy.deepcopy(teacher.layers[kept_layers(teacher) :]).requires_grad_(True)
        self.types = nn.Parameter(torch.zeros(TOKEN_TYPES, hidden))
        self.sentiment = Pointwise(hidden, sentiments, 1)
        self.entities = Pointwise(hidden, tags, 1)

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """What is trained slowly, and what is new."""
        fresh = [p for head in (self.sentiment, self.entities) for p in head.parameters()]
        return list(self.layers.parameters()), [*fresh, self.types]

    def hidden(self, lines: Lines, index: list[int]) -> tuple[Tensor, Tensor]:
        """The last hidden states of some lines, and which of them are no padding."""
        x = nn.utils.rnn.pad_sequence([lines.states[i].float() for i in index], batch_first=True)
        lengths = torch.tensor([len(lines.states[i]) for i in index])
        present = torch.arange(x.shape[1])[None, :] < lengths[:, None]
        mask = torch.zeros(present.shape).masked_fill(~present, -math.inf)[:, None, None, :]
        x = x + self.types[pad_types([lines.encoded[i] for i in index])]
        for layer in self.layers:
            x = layer(x, mask)
        return x, present


def kept_layers(teacher: Encoder) -> int:
    """How many of its layers stay as they are."""
    return min(KEPT_LAYERS, teacher.shape.layers - 1)


@torch.no_grad()
def lower_and_last(teacher: Encoder, lines: Lines):
    """Runs the plain teacher: yields each batch with its last states, and keeps its lower ones in `lines`."""
    lines.states = [None] * len(lines)
    for batch in batches(lines.encoded, TOKENS_PER_BATCH, 0):
        states = teacher(batch.ids, batch.present)
        lower = states[kept_layers(teacher)].half()
        for row, i in enumerate(batch.index):
            lines.states[i] = lower[row, : len(lines.encoded[i].ids)].clone()
        yield batch, states[-1]
