"""The bundle: everything the daemon loads, and the manifest that vouches for it."""

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from data import OUT_OF_SCOPE, read_lines
from evaluate import Calibration, Logits, outcome, probabilities, run, slots_as_json
from export import export_encoder, export_intent_head, export_token_head
from labels import Labels, decode_slots
from model import Pointwise, Understander
from vocabulary import encode, save_tokenizer

SELF_TEST_LINES = Path(__file__).with_name("selftest.txt")
SELF_TEST_VECTORS = 24
"""Enough to notice a wrong kernel or file; each costs the start a pass through the model."""
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


@dataclass
class Contents:
    """What goes into a bundle."""

    name: str
    size: str
    model: Understander
    tokenizer: Tokenizer
    labels: Labels
    calibration: Calibration
    card: str
    self_test_lines: list[str] = field(default_factory=lambda: read_lines(SELF_TEST_LINES))
    licence: str = "Apache-2.0"

    tasks: list[str] = field(default_factory=list)
    """The names of the heads; by default those that the model has."""
    answers: Pointwise | None = None
    """Start and end of an answer, for the task `qa`."""

    def __post_init__(self) -> None:
        if not self.tasks:
            self.tasks = ["intent"] if self.model.slots is None else ["intent", "slots"]


def write_bundle(folder: Path, contents: Contents, limit: int) -> int:
    """Writes every file of the bundle, the manifest last; returns the size of all in bytes."""
    model, labels, calibration = contents.model, contents.labels, contents.calibration
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "heads", ignore_errors=True)
    export_encoder(model.encoder, folder / "encoder.onnx")
    if "intent" in contents.tasks:
        export_intent_head(model.intent, folder / "heads/intent.onnx", model.pooler)
    if model.slots is not None:
        export_token_head("slots", model.slots, folder / "heads/slots.onnx")
    if contents.answers is not None:
        export_token_head("qa", contents.answers, folder / "heads/qa.onnx")
    save_tokenizer(contents.tokenizer, folder / "tokenizer.json")
    outside = OUT_OF_SCOPE if labels.in_scope < len(labels.intents) else None
    lists = {"intents": labels.intents, "out_of_scope": outside, "tags": labels.tags}
    write(folder / "labels.json", _labels_json(lists, labels.transitions))
    write_json(folder / "calibration.json", calibration.as_json())
    lines = self_test(contents)
    write(folder / "selftest.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    write(folder / "CARD.md", contents.card)
    write_manifest(folder, contents)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > limit:
        raise ValueError(f"the bundle has {size} bytes, more than {limit}: choose a smaller vocabulary")
    return size


def self_test(contents: Contents) -> list[dict]:
    """What the int8 model answers to the self-test utterances; the daemon must answer the same before it serves.

    Utterances on which the model hovers between two answers are left out: engines may differ there.
    """
    labels, calibration, texts = contents.labels, contents.calibration, contents.self_test_lines
    vectors = []
    for text, answer in zip(texts, run(contents.model, encode(contents.tokenizer, texts), quantised=True), strict=True):
        if len(vectors) == SELF_TEST_VECTORS:
            break
        scores, verdict, intent = np.zeros(0), "RECOGNIZED", None
        if "intent" in contents.tasks:
            scores = probabilities(answer.intent, calibration.intent_temperature)
            verdict, intent, _ = outcome(labels, scores, calibration)
            if not is_clear_intent(scores, labels, calibration):
                continue
        if not are_clear_tags(answer):
            continue
        vectors.append(
            {
                "text": text,
                "input_ids": answer.encoded.ids,
                "intent_scores": [round(float(score), 6) for score in scores],
                "outcome": verdict,
                "intent": intent,
                "slots": slots_as_json(decode_slots(labels, answer.encoded, answer.tags)),
            }
        )
    return vectors


def is_clear_intent(scores: np.ndarray, labels: Labels, calibration: Calibration) -> bool:
    """Whether intent and outcome would survive a small change of the logits."""
    in_scope = np.sort(scores[: labels.in_scope])
    best, out_of_scope = in_scope[-1], scores[labels.in_scope :].sum()
    to_threshold = min(abs(best - calibration.recognized), abs(best - calibration.not_recognized))
    return bool(
        (len(in_scope) == 1 or best >= 1.3 * in_scope[-2])
        and abs(best - out_of_scope) >= CLEAR_SCORE
        and to_threshold >= CLEAR_SCORE / 2
    )


def are_clear_tags(answer: Logits) -> bool:
    """Whether every tag would survive a small change of the logits; a single tag has nothing to be mistaken for."""
    tags = np.sort(answer.tags[answer.encoded.first_piece], axis=1)
    return tags.shape[1] == 1 or bool((tags[:, -1] - tags[:, -2] >= CLEAR_LOGIT).all())


def write_manifest(folder: Path, contents: Contents) -> None:
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
    write(folder / "manifest.toml", "\n".join(entries))


def _labels_json(lists: dict, transitions: np.ndarray | None) -> str:
    """A label a line, and a row of transitions a line."""
    text = json.dumps(lists, ensure_ascii=False, indent=2)
    if transitions is None:
        return text + "\n"
    rows = ",\n".join("    " + json.dumps(row) for row in transitions.tolist())
    return f'{text[:-2]},\n  "transitions": [\n{rows}\n  ]\n}}\n'


def write_json(path: Path, content: dict) -> None:
    """Writes an object, a value a line."""
    write(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def write(path: Path, content: str) -> None:
    """Writes a text file."""
    path.write_text(content, encoding="utf-8")
