"""Answers and figures: intent accuracy, exact-span slot F1, calibration, outcomes."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from tokenizers import Tokenizer

from batches import pad
from data import OUT_OF_SCOPE, Example, Slot
from labels import Labels, decode_slots, tag_pieces, tag_transitions
from model import Understander, set_quantised
from tasks import Task
from vocabulary import Encoded, encode

RECOGNISED_PRECISION = 0.97
"""RECOGNIZED is meant to be acted on without asking: at least this share of such answers must be right on valid."""
REJECTED_SHARE = 0.03
"""NOT_RECOGNIZED may cost at most this share of valid's in-scope lines."""


TRANSITION_WEIGHTS = (0.1, 0.2, 0.3, 0.5)
BINS = 15
"""Of the expected calibration error."""


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
                # Without a slot head every word is outside.
                row_tags = np.zeros((len(encoded[index].ids), 1), np.float32) if tags is None else tags[row].numpy()
                results[index] = Logits(encoded[index], intent[row].numpy(), row_tags)
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
        intent = labels.intents[int(answer.intent[: labels.in_scope].argmax())]
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
    best = int(scores[: labels.in_scope].argmax())
    confidence = float(scores[best])
    if int(scores.argmax()) >= labels.in_scope or confidence < calibration.not_recognized:
        verdict = "NOT_RECOGNIZED"
    elif confidence < calibration.recognized:
        verdict = "UNCERTAIN"
    else:
        verdict = "RECOGNIZED"
    return verdict, labels.intents[best], confidence


def choose_thresholds(scores: np.ndarray, right: np.ndarray, in_scope: int) -> tuple[float, float]:
    """`recognized` and `not_recognized` on valid's in-scope lines.

    `recognized` is the smallest confidence above which RECOGNISED_PRECISION of the answers are right; `not_recognized`
    is the confidence that REJECTED_SHARE of the lines do not reach (counting lines already lost to out of scope), but
    one half at most: above it no other answer is as probable. `recognized` is no smaller than what that share reaches.
    """
    confidence = np.where(scores.argmax(1) >= in_scope, 0.0, scores[:, :in_scope].max(1))
    order = np.sort(confidence)
    reached = float(np.floor(order[int(REJECTED_SHARE * len(order))] * 100) / 100)
    recognized = 0.99
    for candidate in np.arange(0.30, 0.99, 0.01):
        accepted = confidence >= candidate
        if accepted.any() and right[accepted].mean() >= RECOGNISED_PRECISION:
            recognized = float(candidate)
            break
    return round(max(recognized, reached), 2), round(min(reached, 0.5), 2)


def calibrate(labels: Labels, examples: list[Example], logits: list[Logits]) -> Calibration:
    """Temperatures by likelihood on in-scope lines, thresholds on the confidences they give."""
    intents = np.stack([answer.intent for answer in logits])
    targets = np.array([labels.intents.index(e.intent) for e in examples])
    temperature = fit_temperature(intents, targets)
    scores = probabilities(intents, temperature)
    recognized, not_recognized = choose_thresholds(
        scores, intents[:, : labels.in_scope].argmax(1) == targets, labels.in_scope
    )

    words, tags = [], []
    for example, answer in zip(examples, logits, strict=True):
        gold = tag_pieces(labels, answer.encoded, example.slots)
        words += [answer.tags[piece] for piece in answer.encoded.first_piece]
        tags += [gold[piece] for piece in answer.encoded.first_piece]
    slots_temperature = fit_temperature(np.stack(words), np.array(tags)) if len(labels.tags) > 1 else 1.0
    return Calibration(temperature, recognized, not_recognized, slots_temperature)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error in BINS bins of equal width, each open below and closed above."""
    bins = np.clip(np.ceil(confidence * BINS), 1, BINS)
    gaps = [abs((confidence[bins == b] - right[bins == b]).sum()) for b in range(1, BINS + 1)]
    return float(sum(gaps) / len(confidence))


def halves_error(labels: Labels, examples: list[Example], logits: list[Logits]) -> list[float]:
    """The calibration error of each half of valid at the temperature fitted on the other half."""
    intents = np.stack([answer.intent for answer in logits])
    targets = np.array([labels.intents.index(e.intent) for e in examples])
    errors = []
    for half in (0, 1):
        fitted, measured = np.arange(len(targets)) % 2 == half, np.arange(len(targets)) % 2 != half
        scores = probabilities(intents[measured], fit_temperature(intents[fitted], targets[fitted]))
        right = scores[:, : labels.in_scope].argmax(1) == targets[measured]
        errors.append(calibration_error(scores[:, : labels.in_scope].max(1), right))
    return errors


def rejection(inside: np.ndarray, outside: np.ndarray) -> tuple[float, float]:
    """AUROC of 1 - confidence, and the share of out-of-scope lines rejected where 5 % of in-scope lines are."""
    order = np.sort(inside)
    threshold = order[len(order) // 20]
    below = np.searchsorted(order, outside, side="left")
    upto = np.searchsorted(order, outside, side="right")
    wins = (len(order) - upto) + (upto - below) / 2
    return float(wins.mean() / len(order)), float((outside < threshold).mean())


def f1_interval(labels: Labels, examples: list[Example], logits: list[Logits], seed: int = 0) -> tuple[float, float]:
    """95 % interval of slot F1 by 1,000 resamples of the lines."""
    counts = []
    for example, answer in zip(examples, logits, strict=True):
        found, wanted = set(decode_slots(labels, answer.encoded, answer.tags)), set(example.slots)
        counts.append((len(found & wanted), len(found) + len(wanted)))
    counts = np.array(counts)
    picks = np.random.default_rng(seed).integers(0, len(counts), (1000, len(counts)))
    sums = counts[picks].sum(1)
    low, high = np.quantile(2 * sums[:, 0] / np.maximum(sums[:, 1], 1), [0.025, 0.975])
    return float(low), float(high)


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share of `count` (Wilson 1927)."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return middle - half, middle + half


def choose_transitions(task: Task, tokenizer: Tokenizer, logits: list[Logits]) -> Labels:
    """Weighs the log probabilities of the tags' transitions on train so that slot F1 on valid is best.

    The tagger decides word by word; this tells it which tags follow each other, as the transitions of a conditional
    random field would, without training them.
    """
    inside = [e for e in task.train if e.intent != OUT_OF_SCOPE]
    encoded = encode(tokenizer, [e.text for e in inside])
    scores = tag_transitions(task.labels, encoded, [e.slots for e in inside])
    weighed = [replace(task.labels, transitions=(weight * scores).round(2)) for weight in TRANSITION_WEIGHTS]
    return max([task.labels, *weighed], key=lambda labels: measure(labels, task.valid, logits).slot_f1)


def assess(model: Understander, tokenizer: Tokenizer, task: Task) -> tuple[dict, Calibration, Labels]:
    """All figures of a model on its task's validation lines, and the calibration and transitions fitted there."""
    examples = task.valid
    encoded = encode(tokenizer, [e.text for e in examples])
    plain, logits = run(model, encoded, quantised=False), run(model, encoded, quantised=True)
    labels = choose_transitions(task, tokenizer, logits) if task.slot_names else task.labels
    outside_encoded = encode(tokenizer, [e.text for e in task.valid_out_of_scope])
    outside = run(model, outside_encoded, quantised=True)
    calibration = calibrate(labels, examples, logits)
    inside_scores = _confidences(labels, logits, calibration)
    quality = measure(labels, examples, logits)
    right = np.array(
        [labels.intents[int(a.intent[: labels.in_scope].argmax())] == e.intent for a, e in zip(logits, examples, strict=True)]
    )
    figures = {
        "slot_f1_without_transitions": round(measure(task.labels, examples, logits).slot_f1, 4),
        "valid_f32": measure(labels, examples, plain).as_json(),
        "valid_int8": quality.as_json(),
        "intent_interval": _rounded(wilson(quality.intent_accuracy, quality.examples)),
        "slot_f1_interval": _rounded(f1_interval(labels, examples, logits)) if task.slot_names else None,
        "calibration_error_halves": _rounded(halves_error(labels, examples, logits)),
        "calibration_error": round(calibration_error(inside_scores, right), 4),
        "valid_outcomes": outcome_shares(labels, logits, calibration),
        "out_of_scope_examples": len(outside),
        "calibration": calibration.as_json(),
    }
    for name, lines in task.also.items():
        also = encode(tokenizer, [e.text for e in lines])
        for kind, int8 in (("f32", False), ("int8", True)):
            figures[f"{name}_{kind}"] = measure(labels, lines, run(model, also, int8)).as_json()
    if outside:
        auroc, recall = rejection(inside_scores, _confidences(labels, outside, calibration))
        figures["out_of_scope_outcomes"] = outcome_shares(labels, outside, calibration)
        figures["out_of_scope_auroc"], figures["out_of_scope_recall"] = round(auroc, 4), round(recall, 4)
    return figures, calibration, labels


def _confidences(labels: Labels, logits: list[Logits], calibration: Calibration) -> np.ndarray:
    scores = probabilities(np.stack([answer.intent for answer in logits]), calibration.intent_temperature)
    return scores[:, : labels.in_scope].max(1)


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 4) for value in values]


def outcome_shares(labels: Labels, logits: list[Logits], calibration: Calibration) -> dict[str, float]:
    """How often each outcome is given."""
    verdicts = [
        outcome(labels, probabilities(a.intent, calibration.intent_temperature), calibration)[0] for a in logits
    ]
    return {v: round(verdicts.count(v) / len(verdicts), 4) for v in ("RECOGNIZED", "UNCERTAIN", "NOT_RECOGNIZED")}


def slots_as_json(slots: list[Slot]) -> list[dict]:
    """Slots as the self-test vectors carry them."""
    return [{"name": s.name, "start": s.start, "end": s.end} for s in slots]
