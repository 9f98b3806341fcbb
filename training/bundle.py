"""The bundle: everything the daemon loads, and the manifest that vouches for it."""

import hashlib
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from data import OUT_OF_SCOPE
from evaluate import Calibration, Logits, outcome, probabilities, run, slots_as_json
from export import export_encoder, export_intent_head, export_slots_head
from labels import Labels, decode_slots
from model import Understander
from vocabulary import encode, save_tokenizer

SELF_TEST_LINES = Path(__file__).with_name("selftest.txt")
SIZE_LIMIT = 10_000_000
CLEAR_SCORE = 0.06
CLEAR_LOGIT = 0.25
"""How clear an answer must be to serve as a self-test vector: a flipped rounding moves scores by up to 0.03."""

MANIFEST_HEAD = """\
schema = 1
name = "home-en"
version = "0.1.0"
languages = ["en"]
licence = "Apache-2.0"
tasks = ["intent", "slots"]
minimum_intentd = "0.1.0"
size_class = "small"
max_tokens = 128
"""


def write_bundle(
    folder: Path, model: Understander, tokenizer: Tokenizer, labels: Labels, calibration: Calibration, card: str
) -> int:
    """Writes every file of the bundle, the manifest last; returns the size of all in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    export_encoder(model.encoder, folder / "encoder.onnx")
    export_intent_head(model.intent, folder / "heads/intent.onnx")
    export_slots_head(model.slots, folder / "heads/slots.onnx")
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    _write_json(folder / "labels.json", {"intents": labels.intents, "out_of_scope": OUT_OF_SCOPE, "tags": labels.tags})
    _write_json(folder / "calibration.json", calibration.as_json())
    lines = self_test(model, tokenizer, labels, calibration)
    _write(folder / "selftest.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    _write(folder / "CARD.md", card)
    write_manifest(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > SIZE_LIMIT:
        raise ValueError(f"the bundle has {size} bytes, more than {SIZE_LIMIT}: choose a smaller vocabulary")
    return size


def self_test(model: Understander, tokenizer: Tokenizer, labels: Labels, calibration: Calibration) -> list[dict]:
    """What the int8 model answers to the self-test utterances; the daemon must answer the same before it serves.

    Utterances on which the model hovers between two answers are left out: engines may differ there.
    """
    texts = SELF_TEST_LINES.read_text(encoding="utf-8").splitlines()
    vectors = []
    for text, answer in zip(texts, run(model, encode(tokenizer, texts), quantised=True), strict=True):
        scores = probabilities(answer.intent, calibration.intent_temperature)
        if not is_clear(answer, scores, calibration):
            continue
        verdict, intent, _ = outcome(labels, scores, calibration)
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


def is_clear(answer: Logits, scores: np.ndarray, calibration: Calibration) -> bool:
    """Whether intent, outcome and every tag would survive a small change of the logits."""
    in_scope = np.sort(scores[:-1])
    best, out_of_scope = in_scope[-1], scores[-1]
    to_threshold = min(abs(best - calibration.recognized), abs(best - calibration.not_recognized))
    tags = np.sort(answer.tags[answer.encoded.first_piece], axis=1)
    return bool(
        best >= 1.3 * in_scope[-2]
        and abs(best - out_of_scope) >= CLEAR_SCORE
        and to_threshold >= CLEAR_SCORE / 2
        and (tags[:, -1] - tags[:, -2] >= CLEAR_LOGIT).all()
    )


def write_manifest(folder: Path) -> None:
    """Lists every other file with its checksum and size, in the order of their paths."""
    entries = [MANIFEST_HEAD]
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in ("manifest.toml", "manifest.toml.minisig"):
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            entries.append(f'[[files]]\npath = "{name}"\nsha256 = "{digest}"\nbytes = {len(content)}\n')
    _write(folder / "manifest.toml", "\n".join(entries))


def _write_json(path: Path, content: dict) -> None:
    _write(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
