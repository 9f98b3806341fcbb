"""The models of the text tasks: one encoder, a head for each task.

Sentiment is read from the mean over all tokens, entities from every token, answers as a start and an end per token. The
embedding has no head: it is the mean over all tokens itself, at length one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from batches import pad
from model import Encoder, Pointwise
from text_input import TOKEN_TYPES, pad_types
from text_lines import Asked, Lines


class AnswerModel(nn.Module):
    """An encoder that knows token types, with the start and end of an answer as its one head."""

    def __init__(self, encoder: Encoder, answers: Pointwise):
        super().__init__()
        self.encoder = encoder
        self.answers = answers


class TextModel(nn.Module):
    """An encoder that knows token types, and the heads."""

    def __init__(self, encoder: Encoder, sentiments: int, tags: int):
        super().__init__()
        hidden = encoder.shape.hidden
        self.encoder = encoder.requires_grad_(True)
        # Most words of the world are in no label's line.
        encoder.embedding.words.requires_grad_(False)
        if encoder.embedding.segments is None:
            encoder.embedding.segments = nn.Parameter(torch.zeros(TOKEN_TYPES, hidden))
        self.sentiment = Pointwise(hidden, sentiments, 1)
        self.entities = Pointwise(hidden, tags, 1)
        self.answers = Pointwise(hidden, 2, 1)

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """What is trained slowly, and what is new."""
        fresh = [p for head in (self.sentiment, self.entities, self.answers) for p in head.parameters()]
        fresh.append(self.encoder.embedding.segments)
        slow = [p for p in self.encoder.parameters() if p.requires_grad and all(p is not new for new in fresh)]
        return slow, fresh

    def hidden(self, lines: Lines | Asked, index: list[int]) -> tuple[Tensor, Tensor]:
        """The last hidden states of some lines, and which of them are no padding."""
        encoded = [lines.encoded[i] for i in index]
        ids, present = pad(encoded)
        return self.encoder(ids, present, pad_types(encoded))[-1], present


def mean(hidden: Tensor, present: Tensor) -> Tensor:
    """The mean over the tokens that are there."""
    weight = present.to(hidden.dtype)[..., None]
    return (hidden * weight).sum(1) / weight.sum(1)


def ask(head: Pointwise, x: Tensor, dropout: float = 0.0) -> Tensor:
    """A head's logits."""
    if dropout:
        x = F.dropout(x, dropout)
    return head(head.prepare(x))
