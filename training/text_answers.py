"""Answers to questions: the best span over the windows of all passages, or none.

A window's null score is start + end at [CLS], as in BERT on SQuAD 2.0 (Devlin et al. 2019). The margin is how far the best
span lies above the null score of its window. With a sentence weight a span stands within one sentence, whose likeness to the
question (the cosine of their embeddings) counts beside its own scores: a head that has learnt from a few hundred questions finds the words
in a sentence, but not the sentence.
"""

import re
import string
from collections import Counter
from dataclasses import asdict, dataclass, replace
from math import tanh

import numpy as np
import torch
from tokenizers import Tokenizer

from batches import pad
from evaluate import fit_temperature
from model import set_quantised
from text_cloze import SENTENCE
from text_data import Question, TextData, unanswerable
from text_input import CASES, TokenTypes, Typed, Window, encode_texts, pad_types, windows
from text_model import AnswerModel, TextModel, ask
from text_targets import embed

LONGEST_ANSWER = 20
"""In words."""
WINDOWS_PER_BATCH = 16
SENTENCE_WEIGHT = 40.0
"""Chosen on valid with text-en's first weights. With those of today the F1 at f32 is 15.3 without, 16.6 with 15, 20.9 with 25, 22.5
with 40, 22.7 with 60, 22.8 with 100; told apart whether there is an answer are 62 % without, 84 with 15, 89, 93, 96 and 97 with the others."""


@dataclass
class Answer:
    """The best span: which passage, its code points, and its margin above no answer."""

    passage: int
    start: int
    end: int
    margin: float
    runner_up: float
    """How much worse the best span is that starts or ends elsewhere."""
    windows: list[Window]


def best_span(
    window: Window, logits: np.ndarray, sentences: list[tuple[int, float]] | None = None
) -> tuple[float, int, int, float]:
    """Score, first and last of the passage's tokens, and the score of the next best span; `logits` is [tokens, 2].

    `sentences`: where each begins, and what it adds to the score of a span in it.
    """
    inside = logits[window.first : len(window.ids) - 1]
    words = np.array(window.words)
    scores = inside[:, 0][:, None] + inside[:, 1][None, :]
    out = np.tril(np.ones_like(scores, dtype=bool), -1) | (words[None, :] - words[:, None] >= LONGEST_ANSWER)
    if sentences is not None:
        starts, bonus = zip(*sentences, strict=True)
        sentence = np.searchsorted(starts, [start for start, _ in window.spans], side="right") - 1
        scores = scores + np.array(bonus)[sentence][:, None]
        out |= sentence[None, :] != sentence[:, None]
    scores[out] = -np.inf
    first, last = divmod(int(scores.argmax()), scores.shape[1])
    best = float(scores[first, last])
    scores[first, last] = -np.inf
    return best, first, last, float(scores.max())


def sentences_of(passage: str) -> list[tuple[int, str]]:
    """The sentences, each with the code point where it begins."""
    starts = [0, *(match.end() for match in SENTENCE.finditer(passage))]
    return list(zip(starts, SENTENCE.split(passage), strict=True))


@torch.no_grad()
def likeness(model: TextModel, reader: Tokenizer, question: str, passages: list[str]) -> list[list[tuple[int, float]]]:
    """Of each passage the sentences: where each begins, and the cosine of its embedding and the question's."""
    sentences = [sentences_of(passage) for passage in passages]
    texts = [question, *(text for passage in sentences for _, text in passage)]
    longest = model.encoder.shape.max_tokens
    rows = embed(model.encoder, [cut(e, longest) for e in encode_texts(reader, texts)], pad_types)
    cosines = iter((rows[1:] @ rows[0]).tolist())
    return [[(start, next(cosines)) for start, _ in passage] for passage in sentences]


def cut(line: Typed, longest: int) -> Typed:
    """As much as the encoder takes; some sentences are lists without an end."""
    if len(line.ids) <= longest:
        return line
    return replace(line, ids=line.ids[: longest - 1] + line.ids[-1:], types=line.types[: longest - 1] + line.types[-1:])


@torch.no_grad()
def answer(
    model: AnswerModel | TextModel,
    reader: Tokenizer,
    question: str,
    passages: list[str],
    types: TokenTypes = CASES,
    weight: float = 0.0,
) -> Answer:
    """The best answer in any passage, with the arithmetic that the model is set to."""
    longest = model.encoder.shape.max_tokens
    weighed = None
    if weight:
        alike = likeness(model, reader, question, passages)
        weighed = [[(start, weight * cosine) for start, cosine in passage] for passage in alike]
    read = [(i, window) for i, text in enumerate(passages) for window in windows(reader, question, text, types, longest)]
    best, lost = None, -np.inf
    for at in range(0, len(read), WINDOWS_PER_BATCH):
        part = read[at : at + WINDOWS_PER_BATCH]
        asked = [window for _, window in part]
        hidden = model.encoder(*pad(asked), pad_types(asked))[-1]
        for (index, window), logits in zip(part, ask(model.answers, hidden).numpy(), strict=True):
            score, first, last, next_best = best_span(window, logits, weighed and weighed[index])
            if best is None or score > best[0]:
                lost = max(lost, next_best, -np.inf if best is None else best[0])
                best = (score, index, window, first, last, float(logits[0].sum()))
            else:
                lost = max(lost, score)
    score, index, window, first, last, null = best
    # Whole words, though the scores may point into them.
    start, end = window.word_spans[window.words[first]][0], window.word_spans[window.words[last]][1]
    return Answer(index, start, end, score - null, score - lost, [w for _, w in read])


@dataclass
class AnswerCalibration:
    """What a margin means, as calibration.json has it."""

    temperature: float
    threshold: float
    sentence_weight: float = 0.0

    def probability(self, margin: float) -> float:
        """That the words answer the question: sigmoid((margin - threshold) / temperature), of any margin."""
        return (1 + tanh((margin - self.threshold) / self.temperature / 2)) / 2

    def as_json(self) -> dict:
        return {"qa": asdict(self)}


def words_of(text: str) -> list[str]:
    """SQuAD's normalisation (Rajpurkar et al. 2016)."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def overlap(found: str, gold: str) -> float:
    """F1 of the words."""
    a, b = words_of(found), words_of(gold)
    same = sum((Counter(a) & Counter(b)).values())
    return 2 * same / (len(a) + len(b)) if same else 0.0


@dataclass
class Margins:
    """What was found for the questions that have an answer, and for those that have none."""

    f1: np.ndarray
    exact: np.ndarray
    answerable: np.ndarray
    unanswerable: np.ndarray

    def threshold(self) -> float:
        """The margin that best tells answerable from unanswerable."""
        candidates = np.sort(np.concatenate([self.answerable, self.unanswerable]))
        middles = (candidates[1:] + candidates[:-1]) / 2
        return float(middles[int(np.argmax([self.accuracy(m) for m in middles]))])

    def accuracy(self, threshold: float) -> float:
        """The share told apart, answerable and unanswerable ones counting alike."""
        return float(((self.answerable >= threshold).mean() + (self.unanswerable < threshold).mean()) / 2)

    def temperature(self, threshold: float) -> float:
        """Fits sigmoid((margin - threshold) / temperature) to what is answerable."""
        margins = np.concatenate([self.answerable, self.unanswerable]) - threshold
        targets = np.array([1] * len(self.answerable) + [0] * len(self.unanswerable))
        return fit_temperature(np.stack([np.zeros_like(margins), margins], 1), targets)

    def figures(self, threshold: float) -> dict:
        """Best span of every answerable question; and, at the threshold, what a caller gets."""
        accepted, rejected = self.answerable >= threshold, self.unanswerable < threshold
        wins = (self.answerable[:, None] > self.unanswerable[None, :]).mean()
        with_threshold = np.concatenate([self.f1 * accepted, rejected])
        return {
            "examples": len(self.f1),
            "f1": round(float(self.f1.mean()), 4),
            "exact_match": round(float(self.exact.mean()), 4),
            "answerable_accuracy": round(self.accuracy(threshold), 4),
            "answerable_auroc": round(float(wins), 4),
            "f1_with_threshold": round(float(with_threshold.mean()), 4),
        }


def _margins(answers: list[tuple[str, float]], questions: list[Question], others: list[float]) -> Margins:
    return Margins(
        np.array([overlap(text, q.answer) for (text, _), q in zip(answers, questions, strict=True)]),
        np.array([words_of(text) == words_of(q.answer) for (text, _), q in zip(answers, questions, strict=True)]),
        np.array([margin for _, margin in answers]),
        np.array(others),
    )


def answer_margins(model: TextModel, reader: Tokenizer, data: TextData, quantised: bool, limit: int = 10**6) -> Margins:
    """The model on the validation questions, each with its own passage and with another one."""
    set_quantised(model, quantised)
    questions = data.questions_valid[:limit]
    found = []
    for question in questions:
        a = answer(model, reader, question.text, [question.passage], weight=SENTENCE_WEIGHT)
        found.append((question.passage[a.start : a.end], a.margin))
    others = [
        answer(model, reader, q.text, [q.passage], weight=SENTENCE_WEIGHT).margin for q in unanswerable(questions, data.seed)
    ]
    set_quantised(model, False)
    return _margins(found, questions, others)


def best_sentence_margins(model: TextModel, reader: Tokenizer, data: TextData) -> Margins:
    """The baseline: the sentence whose embedding lies nearest to the question's; the margin is the cosine."""
    set_quantised(model, True)

    def nearest(question: Question) -> tuple[str, float]:
        sentences = sentences_of(question.passage)
        (alike,) = likeness(model, reader, question.text, [question.passage])
        best = max(range(len(alike)), key=lambda i: alike[i][1])
        return sentences[best][1], alike[best][1]

    found = [nearest(question) for question in data.questions_valid]
    others = [nearest(question)[1] for question in unanswerable(data.questions_valid, data.seed)]
    set_quantised(model, False)
    return _margins(found, data.questions_valid, others)
