"""Batches of lines of about the same length, with a bounded number of tokens."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vocabulary import Encoded

SORTED_TOGETHER = 2048
"""Lines are shuffled, and within this many sorted by length: little padding, and still random batches."""


@dataclass
class Batch:
    """Padded token ids of some lines; `index` says which lines of the list they are."""

    index: list[int]
    ids: Tensor
    present: Tensor


def pad(encoded: list[Encoded]) -> tuple[Tensor, Tensor]:
    """Token ids and which of them are real, [lines, longest line]."""
    longest = max(len(e.ids) for e in encoded)
    ids = torch.zeros(len(encoded), longest, dtype=torch.long)
    present = torch.zeros(len(encoded), longest, dtype=torch.bool)
    for row, e in enumerate(encoded):
        ids[row, : len(e.ids)] = torch.tensor(e.ids)
        present[row, : len(e.ids)] = True
    return ids, present


def batches(encoded: list[Encoded], tokens: int, seed: int) -> Iterator[Batch]:
    """Every line once, in batches of at most `tokens` tokens with padding (a longer line makes its own batch)."""
    rng = random.Random(seed)
    order = list(range(len(encoded)))
    rng.shuffle(order)
    for start in range(0, len(order), SORTED_TOGETHER):
        chunk = sorted(order[start : start + SORTED_TOGETHER], key=lambda i: len(encoded[i].ids))
        groups: list[list[int]] = [[]]
        for index in chunk:
            if groups[-1] and (len(groups[-1]) + 1) * len(encoded[index].ids) > tokens:
                groups.append([])
            groups[-1].append(index)
        rng.shuffle(groups)
        for group in groups:
            ids, present = pad([encoded[i] for i in group])
            yield Batch(group, ids, present)
