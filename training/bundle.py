"""The bundle: everything the daemon loads, and the manifest that vouches for it.

What every bundle has is written here; `Contents` says what each kind of bundle adds.
"""

import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from tokenizers import Tokenizer
from torch import nn

from export import export_encoder
from vocabulary import save_tokenizer

CLEAR_SCORE = 0.06
CLEAR_LOGIT = 0.25
"""How clear an answer must be to serve as a self-test vector: a flipped rounding moves scores by up to 0.03."""

MANIFEST_HEAD = """\
schema = 1
name = "{name}"
version = "{version}"
languages = ["en"]
licence = "{licence}"
tasks = [{tasks}]
minimum_intentd = "0.1.0"
size_class = "{size}"
max_tokens = {max_tokens}
"""
VERSION = "0.2.0"


class Untested(ValueError):
    """A bundle that the daemon would not start, since nothing tests one of its tasks."""


class Calibrated(Protocol):
    """What scores mean, task by task."""

    def as_json(self) -> dict: ...


@dataclass(kw_only=True)
class Contents(ABC):
    """What goes into a bundle; its model has an `encoder`."""

    name: str
    size: str
    model: nn.Module
    tokenizer: Tokenizer
    calibration: Calibrated
    card: str
    licence: str = "Apache-2.0"

    @property
    @abstractmethod
    def tasks(self) -> list[str]:
        """The names of the tasks, as the manifest has them."""

    @abstractmethod
    def write_heads(self, folder: Path) -> None:
        """Writes a graph for each head."""

    @abstractmethod
    def labels_json(self) -> str:
        """The text of labels.json."""

    @abstractmethod
    def self_test(self) -> list[dict]:
        """What the int8 model answers to some lines; the daemon must answer the same before it serves.

        Lines on which the model hovers between two answers are left out: engines may differ there.
        """


def write_bundle(folder: Path, contents: Contents, limit: int) -> int:
    """Writes every file of the bundle, the manifest last; returns the size of all in bytes."""
    vectors = contents.self_test()
    _check_tested(vectors, contents.tasks)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "heads", ignore_errors=True)
    export_encoder(contents.model.encoder, folder / "encoder.onnx")
    contents.write_heads(folder / "heads")
    save_tokenizer(contents.tokenizer, folder / "tokenizer.json")
    _write(folder / "labels.json", contents.labels_json())
    calibration = json.dumps(contents.calibration.as_json(), ensure_ascii=False, indent=2)
    _write(folder / "calibration.json", calibration + "\n")
    _write(folder / "selftest.jsonl", "".join(json.dumps(v, ensure_ascii=False) + "\n" for v in vectors))
    _write(folder / "CARD.md", contents.card)
    _write_manifest(folder, contents)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > limit:
        raise ValueError(f"the bundle has {size} bytes, more than {limit}: choose a smaller vocabulary")
    return size


def _check_tested(vectors: list[dict], tasks: list[str]) -> None:
    """The daemon asks for a question where there is `qa`, for a text where there is any other task."""
    for kind, needed in (("question", "qa" in tasks), ("text", tasks != ["qa"])):
        if needed and not any(kind in vector for vector in vectors):
            raise Untested(f"the model has a clear answer to no {kind} of the self-test; intentd starts no untested bundle")


def _write_manifest(folder: Path, contents: Contents) -> None:
    """Lists every other file with its checksum and size, in the order of their paths."""
    entries = [
        MANIFEST_HEAD.format(
            name=contents.name,
            version=VERSION,
            licence=contents.licence,
            tasks=", ".join(f'"{task}"' for task in contents.tasks),
            size=contents.size,
            max_tokens=contents.model.encoder.shape.max_tokens,
        )
    ]
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in ("manifest.toml", "manifest.toml.minisig"):
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            entries.append(f'[[files]]\npath = "{name}"\nsha256 = "{digest}"\nbytes = {len(content)}\n')
    _write(folder / "manifest.toml", "\n".join(entries))


def transitions_json(transitions: np.ndarray, indent: str) -> str:
    """The entry of an object whose entries stand `indent` deep: a row a line."""
    rows = ",\n".join(f"{indent}  {json.dumps(row)}" for row in transitions.tolist())
    return f'{indent}"transitions": [\n{rows}\n{indent}]'


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
