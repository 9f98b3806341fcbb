"""The lines and question windows that the text model is trained on, with their labels.

A set holds lines of one kind. What a line has no label for carries NO_TAG, which the losses ignore.
"""

import random
from dataclasses import dataclass

from tokenizers import Tokenizer

from data import Example
from labels import NO_TAG, Labels, tag_pieces
from text_cloze import clozes
from text_data import Question, TextData, unanswerable
from text_input import MAX_TOKENS, Typed, Window, encode_texts, windows

CLOZES = 1500
"""Made-up questions in an epoch."""
NEGATIVES = 350
"""Questions in an epoch with a passage that does not answer them."""


OPINIONS = ("sentiment", "reviews")
"""The kinds of lines that have a sentiment."""


@dataclass
class Lines:
    """Texts of one kind, as one tokenizer reads them."""

    kind: str
    encoded: list[Typed]
    sentiment: list[int]
    tags: list[list[int]]

    def __len__(self) -> int:
        return len(self.encoded)


@dataclass
class Asked:
    """Windows and where in them the answers stand: [CLS] where there is none."""

    encoded: list[Window]
    answers: list[tuple[int, int]]
    kind: str = "answers"


def text_labels(data: TextData) -> tuple[list[str], Labels]:
    """The sentiments, and the tags of entities."""
    sentiments = sorted({label for _, label in data.sentiment_train})
    names = sorted({s.name for e in data.entities_train for s in e.slots})
    return sentiments, Labels.of([], names, out_of_scope=False)


def labelled_and_plain(data: TextData, readers: list[Tokenizer], plain: bool = True) -> list[list[Lines]]:
    """For each tokenizer the same sets: sentiment, reviews, entities and, where wanted, plain lines.

    A line that is too long, or empty, for one of the tokenizers is in none of the results.
    """
    sentiments, labels = text_labels(data)
    sets: list[tuple[str, list[Example]]] = [
        ("sentiment", [Example(text, label) for text, label in data.sentiment_train]),
        ("entities", data.entities_train),
        ("reviews", [Example(text, label) for text, label in data.reviews_train]),
    ]
    if plain:
        sets.append(("plain", [Example(text, "") for text in data.plain]))
    results: list[list[Lines]] = [[] for _ in readers]
    for kind, examples in sets:
        read = [encode_texts(reader, [e.text for e in examples]) for reader in readers]
        usable = [
            row for row in range(len(examples)) if all(e[row].first_piece and len(e[row].ids) <= MAX_TOKENS for e in read)
        ]
        for result, encoded in zip(results, read, strict=True):
            lines = Lines(kind, [encoded[row] for row in usable], [], [])
            for row, e in zip(usable, lines.encoded, strict=True):
                known = kind in OPINIONS
                lines.sentiment.append(sentiments.index(examples[row].intent) if known else NO_TAG)
                known = kind == "entities"
                lines.tags.append(tag_pieces(labels, e, examples[row].slots) if known else [NO_TAG] * len(e.ids))
            result.append(lines)
    return results


def asked(data: TextData, reader: Tokenizer, seed: int) -> Asked:
    """The windows of one epoch: written questions, made-up ones, and some that their passage does not answer."""
    rng = random.Random(seed)
    passages = sorted({q.passage for q in data.questions_train})
    answered = data.questions_train + clozes(passages, CLOZES, rng)
    negatives = rng.sample(answered, min(NEGATIVES, len(answered)))
    result = Asked([], [])
    for question in answered:
        hits = [(w, span) for w in windows(reader, question.text, question.passage) if (span := place(w, question))]
        if hits:
            window, span = rng.choice(hits)
            result.encoded.append(window)
            result.answers.append(span)
    for question in unanswerable(negatives, seed) if len(passages) > 1 else []:
        result.encoded.append(rng.choice(windows(reader, question.text, question.passage)))
        result.answers.append((0, 0))
    return result


def place(window: Window, question: Question) -> tuple[int, int] | None:
    """The first and last token of the answer, if all of it stands in the window."""
    start, end = question.start, question.start + len(question.answer)
    inside = [i for i, (a, b) in enumerate(window.spans) if a < end and start < b]
    if not inside or window.spans[inside[0]][0] > start or window.spans[inside[-1]][1] < end:
        return None
    return window.first + inside[0], window.first + inside[-1]
