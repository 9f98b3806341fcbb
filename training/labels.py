"""Label lists, and slots as tags of words.

BIO tags (Ramshaw and Marcus 1995) stand on the first wordpiece of each word; the other pieces carry none. Words are
those of BertPreTokenizer, so a slot can begin and end at punctuation.
"""

from dataclasses import dataclass, field

import numpy as np

from data import OUT_OF_SCOPE, Slot
from vocabulary import Encoded

OUTSIDE = "O"
NO_TAG = -100
"""The target of pieces that are not tagged (the value PyTorch's cross entropy ignores)."""


@dataclass(frozen=True)
class Labels:
    """The label lists of a bundle, in the order of the logits; out of scope, where there is one, is the last intent."""

    intents: list[str]
    tags: list[str]
    transitions: np.ndarray | None = field(default=None, compare=False)
    """[from, to] scores added to those of the tags in decoding; none: only what is legal counts."""

    @staticmethod
    def of(intents: list[str], slot_names: list[str], out_of_scope: bool = True) -> "Labels":
        tags = [OUTSIDE] + [f"{prefix}-{name}" for name in slot_names for prefix in "BI"]
        return Labels([*intents, OUT_OF_SCOPE] if out_of_scope else list(intents), tags)

    @property
    def in_scope(self) -> int:
        """How many intents are in scope: they come first."""
        return len(self.intents) - (self.intents[-1:] == [OUT_OF_SCOPE])


def tag_pieces(labels: Labels, encoded: Encoded, slots: tuple[Slot, ...]) -> list[int]:
    """The tag of each piece: a word that overlaps a slot belongs to it."""
    tags = [NO_TAG] * len(encoded.ids)
    previous = None
    for piece, (start, end) in zip(encoded.first_piece, encoded.spans, strict=True):
        slot = next((s for s in slots if s.start < end and start < s.end), None)
        if slot is None:
            tags[piece] = labels.tags.index(OUTSIDE)
        else:
            tags[piece] = labels.tags.index(f"{'I' if slot == previous else 'B'}-{slot.name}")
        previous = slot
    return tags


def forbidden(tags: list[str]) -> np.ndarray:
    """[from, to] transitions that BIO forbids: I-x follows B-x or I-x only."""
    matrix = np.zeros((len(tags), len(tags)), dtype=bool)
    for to, tag in enumerate(tags):
        if tag.startswith("I-"):
            for before, previous in enumerate(tags):
                matrix[before, to] = previous == OUTSIDE or previous[2:] != tag[2:]
    return matrix


def tag_transitions(labels: Labels, encoded: list[Encoded], slots: list[tuple[Slot, ...]]) -> np.ndarray:
    """[from, to] log probabilities of tags that follow each other in labelled lines, smoothed by a tenth of a count."""
    counts = np.full((len(labels.tags), len(labels.tags)), 0.1)
    for line, of_line in zip(encoded, slots, strict=True):
        tags = [tag for tag in tag_pieces(labels, line, of_line) if tag != NO_TAG]
        for before, after in zip(tags[:-1], tags[1:], strict=True):
            counts[before, after] += 1
    return np.log(counts / counts.sum(1, keepdims=True))


def decode_slots(labels: Labels, encoded: Encoded, logits: np.ndarray) -> list[Slot]:
    """The best legal tag sequence (Viterbi over tags and transitions) as spans. `logits` is [tokens, tags]."""
    if not encoded.first_piece:
        return []
    scores = logits[encoded.first_piece]
    scores = scores - scores.max(1, keepdims=True)
    scores = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    illegal = np.where(forbidden(labels.tags), -np.inf, 0.0)
    if labels.transitions is not None:
        illegal = illegal + labels.transitions
    best = scores[0] + np.array([-np.inf if tag.startswith("I-") else 0.0 for tag in labels.tags])
    back = []
    for row in scores[1:]:
        paths = best[:, None] + illegal
        back.append(paths.argmax(0))
        best = paths.max(0) + row
    tag = int(best.argmax())
    path = [tag]
    for pointers in reversed(back):
        tag = int(pointers[tag])
        path.append(tag)
    path.reverse()

    slots: list[Slot] = []
    for tag, (start, end) in zip(path, encoded.spans, strict=True):
        name = labels.tags[tag]
        if name.startswith("B-"):
            slots.append(Slot(name[2:], start, end))
        elif name.startswith("I-"):
            slots[-1] = Slot(slots[-1].name, slots[-1].start, end)
    return slots
