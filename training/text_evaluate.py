"""Figures of the text tasks on the validation sets, what is calibrated there, and trivial baselines."""

import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from batches import batches
from data import Example, Slot, read_examples
from evaluate import TRANSITION_WEIGHTS, calibration_error, fit_temperature, probabilities
from labels import Labels, decode_slots, tag_pieces, tag_transitions
from model import Encoder, set_quantised
from text_answers import AnswerCalibration
from text_data import TextData
from text_input import Typed, encode_texts, pad_types
from text_lines import Lines
from text_model import TextModel, ask, mean
from text_targets import embed
from vocabulary import encode

TOKENS_PER_BATCH = 4096
OUTSIDE_BIASES = np.arange(-2.0, 2.01, 0.25)
EMBEDDED = 600
"""Of each valid set so many lines are compared with the teacher."""
PROBE_LINES = 10
"""Of each intent."""
PROBE_STEPS = 60
PROBE_DECAY = 3e-4
PROBE_SCALE = 8.0


@dataclass
class TextLogits:
    """The raw outputs for one text."""

    encoded: Typed
    sentiment: np.ndarray
    tags: np.ndarray
    embedding: np.ndarray


@dataclass
class TextCalibration:
    """As calibration.json has it."""

    sentiment_temperature: float
    entities_temperature: float
    outside_bias: float
    qa: AnswerCalibration

    def as_json(self) -> dict:
        return {
            "sentiment": {"temperature": self.sentiment_temperature},
            "entities": {"temperature": self.entities_temperature, "outside_bias": self.outside_bias},
            **self.qa.as_json(),
        }


@torch.no_grad()
def run_lines(model: TextModel, lines: Lines, quantised: bool = False) -> list[TextLogits]:
    """The outputs for every line."""
    model.eval()
    set_quantised(model, quantised)
    results: dict[int, TextLogits] = {}
    for batch in batches(lines.encoded, TOKENS_PER_BATCH, 0):
        hidden, present = model.hidden(lines, batch.index)
        pooled = mean(hidden, present)
        sentiment, tags = ask(model.sentiment, pooled), ask(model.entities, hidden)
        pooled = F.normalize(pooled, dim=-1)
        for row, i in enumerate(batch.index):
            e = lines.encoded[i]
            results[i] = TextLogits(
                e, sentiment[row].numpy(), tags[row, : len(e.ids)].numpy(), pooled[row].numpy()
            )
    set_quantised(model, False)
    return [results[i] for i in range(len(lines))]


def run_texts(model: TextModel, reader: Tokenizer, texts: list[str], quantised: bool) -> list[TextLogits]:
    """The outputs for every text."""
    return run_lines(model, Lines("", encode_texts(reader, texts), [], []), quantised)


def find_entities(labels: Labels, answer: TextLogits, outside_bias: float) -> list[Slot]:
    """Decoded as slots are, with a bias on the tag of words outside of all entities."""
    logits = answer.tags.copy()
    logits[:, 0] += outside_bias
    return decode_slots(labels, answer.encoded, logits)


@dataclass
class SpanQuality:
    """Exact spans and types, micro average."""

    f1: float
    precision: float
    recall: float


def span_quality(found: list[list[Slot]], examples: list[Example]) -> SpanQuality:
    """Compares what was found with the labels."""
    hits = sum(len(set(f) & set(e.slots)) for f, e in zip(found, examples, strict=True))
    precision = hits / max(sum(len(set(f)) for f in found), 1)
    recall = hits / max(sum(len(e.slots) for e in examples), 1)
    return SpanQuality(2 * precision * recall / max(precision + recall, 1e-9), precision, recall)


def entity_quality(labels: Labels, answers: list[TextLogits], examples: list[Example], bias: float = 0.0) -> SpanQuality:
    return span_quality([find_entities(labels, a, bias) for a in answers], examples)


def sentiment_accuracy(answers: list[TextLogits], names: list[str], valid: list[tuple[str, str]]) -> float:
    right = [names[int(a.sentiment.argmax())] == label for a, (_, label) in zip(answers, valid, strict=True)]
    return float(np.mean(right))


def fit_decoding(
    data: TextData, labels: Labels, reader: Tokenizer, answers: list[TextLogits], examples: list[Example]
) -> tuple[Labels, float]:
    """Transitions and the bias of outside with which entity F1 is best."""
    train = data.entities_labelled
    scores = tag_transitions(labels, encode(reader, [e.text for e in train]), [e.slots for e in train])
    weighed = [labels] + [replace(labels, transitions=(weight * scores).round(2)) for weight in TRANSITION_WEIGHTS]
    pairs = [(one, float(bias)) for one in weighed for bias in OUTSIDE_BIASES]
    return max(pairs, key=lambda pair: entity_quality(pair[0], answers, examples, pair[1]).f1)


def halves_f1(data: TextData, labels: Labels, reader: Tokenizer, answers: list[TextLogits]) -> float:
    """Entity F1 where each half of valid is decoded as suits the other half best: what tuning on valid is worth."""
    examples, found, gold = data.entities_valid, [], []
    for half in (0, 1):
        fitted, measured = range(half, len(examples), 2), range(1 - half, len(examples), 2)
        chosen, bias = fit_decoding(data, labels, reader, [answers[i] for i in fitted], [examples[i] for i in fitted])
        found += [find_entities(chosen, answers[i], bias) for i in measured]
        gold += [examples[i] for i in measured]
    return span_quality(found, gold).f1


def entities_temperature(labels: Labels, answers: list[TextLogits], examples: list[Example]) -> float:
    """Fitted to the tags of words."""
    words, tags = [], []
    for example, answer in zip(examples, answers, strict=True):
        gold = tag_pieces(labels, answer.encoded, example.slots)
        words += [answer.tags[piece] for piece in answer.encoded.first_piece]
        tags += [gold[piece] for piece in answer.encoded.first_piece]
    return fit_temperature(np.stack(words), np.array(tags))


def sentiment_calibration(answers: list[TextLogits], names: list[str], valid: list[tuple[str, str]]) -> tuple[float, float]:
    """The temperature, and the calibration error that is left of each half with the other half's temperature."""
    logits = np.stack([a.sentiment for a in answers])
    targets = np.array([names.index(label) for _, label in valid])
    errors = []
    for half in (0, 1):
        fitted, measured = np.arange(len(targets)) % 2 == half, np.arange(len(targets)) % 2 != half
        scores = probabilities(logits[measured], fit_temperature(logits[fitted], targets[fitted]))
        errors.append(calibration_error(scores.max(1), scores.argmax(1) == targets[measured]))
    return fit_temperature(logits, targets), float(np.mean(errors))


def keyword_accuracy(data: TextData, words: int = 100) -> float:
    """The baseline of sentiment: the words of train that are most unevenly spread vote."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for text, label in data.sentiment_train:
        counts[label].update(set(text.split()))
    names = sorted(counts)
    log_odds = {w: np.log((counts[names[1]][w] + 1) / (counts[names[0]][w] + 1)) for c in counts.values() for w in c if c[w] >= 10}
    chosen = set(sorted(log_odds, key=lambda w: -abs(log_odds[w]))[:words])
    votes = [sum(np.sign(log_odds[w]) for w in set(text.split()) & chosen) for text, _ in data.sentiment_valid]
    right = [names[int(vote > 0)] == label for vote, (_, label) in zip(votes, data.sentiment_valid, strict=True)]
    return float(np.mean(right))


def gazetteer_quality(data: TextData) -> SpanQuality:
    """The baseline of entities: every value of train, wherever it stands, as what it was most often."""
    kinds: dict[str, Counter] = defaultdict(Counter)
    for example in data.entities_train:
        for slot in example.slots:
            kinds[example.text[slot.start : slot.end]][slot.name] += 1
    values = sorted(kinds, key=len, reverse=True)
    pattern = re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, values)) + r")(?!\w)")
    found = [
        [Slot(kinds[m.group()].most_common(1)[0][0], *m.span()) for m in pattern.finditer(e.text)]
        for e in data.entities_valid
    ]
    return span_quality(found, data.entities_valid)


def probe(train: Tensor, labels: Tensor, valid: Tensor, gold: Tensor) -> float:
    """Accuracy of a linear classifier on embeddings (logistic regression, all lines at once)."""
    layer = torch.nn.Linear(train.shape[1], int(labels.max()) + 1)
    torch.nn.init.zeros_(layer.weight)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=PROBE_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(layer(train * PROBE_SCALE), labels) + PROBE_DECAY * layer.weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return float((layer(valid * PROBE_SCALE).argmax(1) == gold).float().mean())


def embedding_figures(
    model: TextModel, reader: Tokenizer, teacher: Encoder, teacher_reader: Tokenizer, data: TextData
) -> dict:
    """Cosine to the teacher's embedding on every valid set, and linear probes on intents for both, int8."""
    rng = random.Random(data.seed)

    def some(lines: list) -> list:
        return rng.sample(lines, min(EMBEDDED, len(lines)))

    def both(texts: list[str]) -> tuple[Tensor, Tensor]:
        set_quantised(model, True)
        ours = embed(model.encoder, encode_texts(reader, texts), pad_types)
        set_quantised(model, False)
        return ours, embed(teacher, encode(teacher_reader, texts))

    figures: dict = {}
    cosines = {}
    for name, valid in (("clinc150", "clinc150/val"), ("hwu64", "hwu64/valid")):
        train, asked = read_examples(data.root / f"{name}/train.jsonl"), some(read_examples(data.root / f"{valid}.jsonl"))
        intents = sorted({e.intent for e in train})
        rng.shuffle(train)
        known = [e for intent in intents for e in [e for e in train if e.intent == intent][:PROBE_LINES]]
        labels, gold = (torch.tensor([intents.index(e.intent) for e in lines]) for lines in (known, asked))
        of_train, of_valid = (both([e.text for e in lines]) for lines in (known, asked))
        cosines[name] = F.cosine_similarity(*of_valid)
        for whose, rows, wanted in zip(("ours", "teacher"), of_train, of_valid, strict=True):
            figures[f"probe_{name}_{whose}"] = round(probe(rows, labels, wanted, gold), 4)
    for name, texts in (
        ("sentiment", [text for text, _ in data.sentiment_valid]),
        ("wnut17", [e.text for e in data.entities_valid]),
        ("questions", [q.text for q in data.questions_valid]),
    ):
        cosines[name] = F.cosine_similarity(*both(some(texts)))
    figures |= {f"cosine_{name}": round(float(c.mean()), 4) for name, c in cosines.items()}
    figures["cosine"] = round(float(torch.cat(list(cosines.values())).mean()), 4)
    return figures
