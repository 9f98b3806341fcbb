"""What the teachers say about every line, computed once: an epoch of the student then needs no teacher.

The plain teacher (all-MiniLM-L6-v2 as it is) gives the embedding and the hidden states of each word, the fine-tuned ones
their answers to sentiment and entities.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from batches import batches, pad
from distil import Words
from finetune import first_pieces
from model import Encoder
from text_lines import Lines
from text_model import TextModel, ask, mean

TOKENS_PER_BATCH = 4096


@dataclass
class Targets:
    """One row a line, or one a word: `words` counts [CLS] and [SEP], `entities` does not."""

    starts: Tensor
    embedding: Tensor
    words: Tensor
    sentiment: Tensor | None = None
    entities: Tensor | None = None

    def of_words(self, index: list[int]) -> Tensor:
        """The words' hidden states of some lines, line after line."""
        return torch.cat([self.words[self.starts[i] : self.starts[i + 1]] for i in index]).float()

    def of_entities(self, index: list[int]) -> Tensor:
        """The words' tag logits of some lines, line after line."""
        return torch.cat([self.entities[self.starts[i] - 2 * i : self.starts[i + 1] - 2 * i - 2] for i in index])


@torch.no_grad()
def plain_targets(teacher: Encoder, lines: Lines) -> Targets:
    """The embeddings, at length one, and the hidden states, in half precision."""
    starts = torch.tensor([0] + [len(e.first_piece) + 2 for e in lines.encoded]).cumsum(0)
    words = torch.zeros(int(starts[-1]), teacher.shape.hidden, dtype=torch.float16)
    targets = Targets(starts, torch.zeros(len(lines), teacher.shape.hidden), words)
    for batch in batches(lines.encoded, TOKENS_PER_BATCH, 0):
        hidden = teacher(batch.ids, batch.present)[-1]
        targets.embedding[batch.index] = F.normalize(mean(hidden, batch.present), dim=-1)
        means, at = Words([lines.encoded[i] for i in batch.index]).means(hidden).half(), 0
        for i in batch.index:
            first, after = int(starts[i]), int(starts[i + 1])
            words[first:after] = means[at : at + after - first]
            at += after - first
    return targets


@torch.no_grad()
def tuned_targets(teachers: list[TextModel], lines: Lines, into: Targets) -> None:
    """The mean of the fine-tuned teachers' logits."""
    into.sentiment = torch.zeros(len(lines), teachers[0].sentiment.bias.shape[0])
    into.entities = torch.zeros(int(into.starts[-1]) - 2 * len(lines), teachers[0].entities.bias.shape[0])
    for teacher in teachers:
        teacher.eval()
        for batch in batches(lines.encoded, TOKENS_PER_BATCH, 0):
            hidden, present = teacher.hidden(lines, batch.index)
            into.sentiment[batch.index] += ask(teacher.sentiment, mean(hidden, present)) / len(teachers)
            encoded = [lines.encoded[i] for i in batch.index]
            tags, at = first_pieces(ask(teacher.entities, hidden), encoded) / len(teachers), 0
            for i, e in zip(batch.index, encoded, strict=True):
                first = int(into.starts[i]) - 2 * i
                into.entities[first : first + len(e.first_piece)] += tags[at : at + len(e.first_piece)]
                at += len(e.first_piece)


@torch.no_grad()
def embed(encoder: Encoder, encoded: list, types=None) -> Tensor:
    """The embeddings of some lines, at length one."""
    rows = torch.zeros(len(encoded), encoder.shape.hidden)
    for batch in batches(encoded, TOKENS_PER_BATCH, 0):
        lines = [encoded[i] for i in batch.index]
        hidden = encoder(*pad(lines), None if types is None else types(lines))[-1]
        rows[batch.index] = F.normalize(mean(hidden, batch.present), dim=-1)
    return rows
