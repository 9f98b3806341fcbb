"""`bundles.toml` as types: the sizes of encoders, and which bundle is which task at which size."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from model import Shape

FILE = Path(__file__).with_name("bundles.toml")


@dataclass(frozen=True)
class Size:
    """An encoder, and how long it is trained before any bundle's own task."""

    shape: Shape
    distil_tokens: int
    joint_epochs: int


@dataclass(frozen=True)
class Recipe:
    """One bundle to build."""

    name: str
    task: str
    size: str
    shape: Shape
    vocabulary: int
    epochs: int
    limit: int
    title: str
    labels_of: str = ""
    lines_of: str = ""
    start: str = ""
    """The committed bundle whose wordpieces it has and, but for the task `text`, whose encoder it starts from; if none,
    the joint stage's."""
    tuned_teacher: bool = False
    """For the task `text`: whether a fine-tuned teacher answers every line, which costs a third more."""


def sizes() -> dict[str, Size]:
    """Every size."""
    result = {}
    for name, size in _read()["sizes"].items():
        distil_tokens, joint_epochs = size.pop("distil_tokens"), size.pop("joint_epochs")
        result[name] = Size(Shape(**size), distil_tokens, joint_epochs)
    return result


def recipes() -> dict[str, Recipe]:
    """Every bundle."""
    known = sizes()
    return {
        name: Recipe(name=name, shape=known[bundle["size"]].shape, **bundle)
        for name, bundle in _read()["bundles"].items()
    }


def _read() -> dict:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))
