"""Answers and figures: intent accuracy, exact-span slot F1, calibration, outcomes."""

from dataclasses import asdict, dataclass

import numpy as np
import torch

from batches import pad
from data import Example, Slot
from labels import Labels, decode_slots, tag_pieces
from model import Understander, set_quantised
from vocabulary import Encoded

RECOGNISED_PRECISION = 0.97
"""RECOGNIZED is meant to be acted on without asking: at least this share of such answers must be right on valid."""
REJECTED_SHARE = 0.03
"""NOT_RECOGNIZED may cost at most this share of valid's in-scope lines."""


@dataclass
class Logits:
    """The raw outputs for one utterance."""

    encoded: Encoded
    intent: np.ndarray
    tags: np.ndarray


@dataclass
class Calibration:
    """Temperatures and thresholds, as calibration.json has them."""

    intent_temperature: float
    recognized: float
    not_recognized: float
    slots_temperature: float

    def as_json(self) -> dict:
        return {
            "intent": {
                "temperature": self.intent_temperature,
                "recognized": self.recognized,
                "not_recognized": self.not_recognized,
            },
            "slots": {"temperature": self.slots_temperature},
        }


def run(model: Understander, encoded: list[Encoded], quantised: bool) -> list[Logits]:
    """Runs the model on lines of equal length together: no padding, so each line is as if alone."""
    model.eval()
    set_quantised(model, quantised)
    by_length: dict[int, list[int]] = {}
    for index, e in enumerate(encoded):
        by_length.setdefault(len(e.ids), []).append(index)
    results: dict[int, Logits] = {}
    with torch.no_grad():
        for indexes in by_length.values():
            ids, _ = pad([encoded[i] for i in indexes])
            intent, tags = model(ids)
            for row, index in enumerate(indexes):
                results[index] = Logits(encoded[index], intent[row].numpy(), tags[row].numpy())
    set_quantised(model, False)
    return [results[i] for i in range(len(encoded))]


@dataclass
class Quality:
    """Figures on one set; fractions 0 to 1."""

    examples: int
    intent_accuracy: float
    slot_precision: float
    slot_recall: float
    slot_f1: float
    frame_accuracy: float

    def as_json(self) -> dict:
        return {name: round(value, 4) for name, value in asdict(self).items()}


def measure(labels: Labels, examples: list[Example], logits: list[Logits]) -> Quality:
    """Arg max over in-scope intents; a slot counts when name, start and end agree (micro average)."""
    right = frames = hits = predicted = gold = 0
    for example, answer in zip(examples, logits, strict=True):
        intent = labels.intents[int(answer.intent[:-1].argmax())]
        found, wanted = set(decode_slots(labels, answer.encoded, answer.tags)), set(example.slots)
        right += intent == example.intent
        frames += intent == example.intent and found == wanted
        hits += len(found & wanted)
        predicted += len(found)
        gold += len(wanted)
    precision, recall = hits / max(predicted, 1), hits / max(gold, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    return Quality(len(examples), right / len(examples), precision, recall, f1, frames / len(examples))


def probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of logits / temperature over the last axis."""
    scaled = logits.astype(np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    return scaled / scaled.sum(-1, keepdims=True)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """The temperature with the smallest negative log likelihood (Guo et al. 2017), by a grid of 1 %."""
    grid = np.exp(np.arange(np.log(0.3), np.log(5.0), 0.01))
    losses = [-np.log(probabilities(logits, t)[np.arange(len(targets)), targets] + 1e-12).mean() for t in grid]
    return round(float(grid[int(np.argmin(losses))]), 4)


def outcome(labels: Labels, scores: np.ndarray, calibration: Calibration) -> tuple[str, str, float]:
    """Outcome, best in-scope intent and its confidence, from calibrated scores."""
    best = int(scores[:-1].argmax())
    confidence = float(scores[best])
    if int(scores.argmax()) == len(scores) - 1 or confidence < calibration.not_recognized:
        verdict = "NOT_RECOGNIZED"
    elif confidence < calibration.recognized:
        verdict = "UNCERTAIN"
    else:
        verdict = "RECOGNIZED"
    return verdict, labels.intents[best], confidence


def choose_thresholds(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """`recognized` and `not_recognized` on valid's in-scope lines.

    `recognized` is the smallest confidence above which RECOGNISED_PRECISION of the answers are right; `not_recognized`
    is the confidence that REJECTED_SHARE of the lines do not reach (counting lines already lost to out of scope).
    """
    confidence = np.where(scores.argmax(1) == scores.shape[1] - 1, 0.0, scores[:, :-1].max(1))
    order = np.sort(confidence)
    not_recognized = float(order[int(REJECTED_SHARE * len(order))])
    recognized = 0.99
    for candidate in np.arange(0.30, 0.99, 0.01):
        accepted = confidence >= candidate
        if right[accepted].mean() >= RECOGNISED_PRECISION:
            recognized = float(candidate)
            break
    not_recognized = float(np.floor(not_recognized * 100) / 100)
    return round(max(recognized, not_recognized), 2), round(not_recognized, 2)


def calibrate(labels: Labels, examples: list[Example], logits: list[Logits], outside: list[Logits]) -> Calibration:
    """Temperatures by likelihood on valid, that of intents with the out-of-scope lines; thresholds on valid alone."""
    intents = np.stack([answer.intent for answer in logits])
    targets = np.array([labels.intents.index(e.intent) for e in examples])
    outside_logits = np.stack([answer.intent for answer in outside])
    outside_targets = np.full(len(outside), len(labels.intents) - 1)
    temperature = fit_temperature(np.concatenate([intents, outside_logits]), np.concatenate([targets, outside_targets]))
    scores = probabilities(intents, temperature)
    recognized, not_recognized = choose_thresholds(scores, intents[:, :-1].argmax(1) == targets)

    words, tags = [], []
    for example, answer in zip(examples, logits, strict=True):
        gold = tag_pieces(labels, answer.encoded, example.slots)
        words += [answer.tags[piece] for piece in answer.encoded.first_piece]
        tags += [gold[piece] for piece in answer.encoded.first_piece]
    return Calibration(temperature, recognized, not_recognized, fit_temperature(np.stack(words), np.array(tags)))


def outcome_shares(labels: Labels, logits: list[Logits], calibration: Calibration) -> dict[str, float]:
    """How often each outcome is given."""
    verdicts = [
        outcome(labels, probabilities(a.intent, calibration.intent_temperature), calibration)[0] for a in logits
    ]
    return {v: round(verdicts.count(v) / len(verdicts), 4) for v in ("RECOGNIZED", "UNCERTAIN", "NOT_RECOGNIZED")}


def slots_as_json(slots: list[Slot]) -> list[dict]:
    """Slots as the self-test vectors carry them."""
    return [{"name": s.name, "start": s.start, "end": s.end} for s in slots]
