"""The bundle of intents and slots: its labels, heads and self-test. `reading.py` reads it back."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bundle import CLEAR_LOGIT, CLEAR_SCORE, Contents, transitions_json
from data import OUT_OF_SCOPE, read_lines
from evaluate import Calibration, Logits, outcome, probabilities, run, slots_as_json
from export import export_intent_head, export_token_head
from labels import Labels, decode_slots
from model import Understander
from nudge import STEADY_SCORE, nudged
from vocabulary import encode

SELF_TEST_LINES = Path(__file__).with_name("selftest.txt")
SELF_TEST_VECTORS = 24
"""Enough to notice a wrong kernel or file; each costs the start a pass through the model."""


@dataclass(kw_only=True)
class IntentContents(Contents):
    """What goes into a bundle of intents, slots or both."""

    model: Understander
    labels: Labels
    calibration: Calibration
    self_test_lines: list[str] = field(default_factory=lambda: read_lines(SELF_TEST_LINES))
    has_intents: bool = True
    """False: the model's intent head means nothing."""

    @property
    def tasks(self) -> list[str]:
        return ["intent"] * self.has_intents + ["slots"] * (self.model.slots is not None)

    def write_heads(self, folder: Path) -> None:
        if self.has_intents:
            export_intent_head(self.model.intent, folder / "intent.onnx", self.model.pooler)
        if self.model.slots is not None:
            export_token_head("slots", self.model.slots, folder / "slots.onnx")

    def labels_json(self) -> str:
        labels = self.labels
        outside = OUT_OF_SCOPE if labels.in_scope < len(labels.intents) else None
        lists = {"intents": labels.intents, "out_of_scope": outside, "tags": labels.tags}
        text = json.dumps(lists, ensure_ascii=False, indent=2)
        if labels.transitions is None:
            return text + "\n"
        return f"{text[:-2]},\n{transitions_json(labels.transitions, '  ')}\n}}\n"

    def self_test(self) -> list[dict]:
        texts = self.self_test_lines
        encoded = encode(self.tokenizer, texts)
        answers = nudged(self.model.encoder, lambda: run(self.model, encoded, quantised=True))
        vectors = (self._vector(text, *answer) for text, answer in zip(texts, answers, strict=True))
        return [vector for vector in vectors if vector is not None][:SELF_TEST_VECTORS]

    def _vector(self, text: str, answer: Logits, others: list[Logits]) -> dict | None:
        """None where the model hovers between two answers."""
        labels, calibration = self.labels, self.calibration
        scores, verdict, intent = np.zeros(0), "RECOGNIZED", None
        if self.has_intents:
            scores, *nudges = (probabilities(a.intent, calibration.intent_temperature) for a in (answer, *others))
            verdict, intent, _ = outcome(labels, scores, calibration)
            if not is_clear_intent(scores, labels, calibration):
                return None
            if any(np.abs(nudge - scores).max() > STEADY_SCORE for nudge in nudges):
                return None
        if not all(are_clear_tags(a) and (a.tags.argmax(1) == answer.tags.argmax(1)).all() for a in (answer, *others)):
            return None
        return {
            "text": text,
            "input_ids": answer.encoded.ids,
            "intent_scores": [round(float(score), 6) for score in scores],
            "outcome": verdict,
            "intent": intent,
            "slots": slots_as_json(decode_slots(labels, answer.encoded, answer.tags)),
        }


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
