"""Which answers of the int8 model are steady: a value that lies between two roundings falls the one way or the other by the
order of an f32 sum, and in some sentences that reaches the scores. Such an answer cannot test another engine.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from model import Encoder

NUDGE = 1e-6
"""About how far the f32 sums of two engines lie apart, as a share."""
STEADY_SCORE = 0.01
"""How far a nudge may move a score, a third of what the daemon allows. How far roundings reach differs from one model to
another: they moved the margins of a random one of 12 layers by more than 1."""

Answered = TypeVar("Answered")


def nudged(encoder: Encoder, answers: Callable[[], list[Answered]]) -> list[tuple[Answered, list[Answered]]]:
    """Each answer as it is, and as it is after a nudge up and one down."""
    plain = answers()
    others = []
    for nudge in (NUDGE, -NUDGE):
        with _positions(encoder, 1 + nudge):
            others.append(answers())
    return [(answer, list(nudges)) for answer, *nudges in zip(plain, *others, strict=True)]


@contextmanager
def _positions(encoder: Encoder, factor: float) -> Iterator[None]:
    """Other values at the very start, so that other roundings follow."""
    positions = encoder.embedding.positions
    before = positions.data
    positions.data = before * factor
    try:
        yield
    finally:
        positions.data = before
