"""What the text tasks learn from: labelled sentences, tweets, questions, and plain text.

Everything that is trained on is free of the validation lines of all sets, made-up lines included: see `unseen`.
"""

import json
import random
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data import Example, SlotValues, load_requests, load_utterances, normalise, read_examples, read_lines, swap_slot_values
from tasks import held_out_lines

PLAIN = {"films": 36_000, "prose": 10_000, "utterances": 10_000, "requests": 3_000}
"""How many plain lines of each kind. Films are many: the labelled opinions are about films, and tell how those are meant."""
FILMS = re.compile(r" [.!?]$")
"""Only the corpora about films, and a few of products, have a space before the last stop."""
LONGEST_PLAIN = 300
"""In characters; longer ones cost more than they teach."""
SWAPPED_COPIES = 1
"""Copies of the lines with entities in which other values of the same kind stand."""
REVIEWS = 8_000
"""How many of the marked lines of product reviews."""
MARK = re.compile(r"^<(Pros|Cons)>")
POLARITY = {"Pros": "positive", "Cons": "negative"}


@dataclass(frozen=True)
class Question:
    """A question about a passage; without an answer the passage does not have it."""

    text: str
    passage: str
    answer: str = ""
    start: int = 0


class TextData:
    """The sets in one folder."""

    def __init__(self, root: Path, seed: int):
        self.root, self.seed = root, seed

    @cached_property
    def held_out(self) -> set[str]:
        """The validation lines of all sets, normalised."""
        lines = [e.text for e in self.entities_valid] + [text for text, _ in self.sentiment_valid]
        lines += [q.text for q in self.questions_valid]
        return held_out_lines(self.root) | {normalise(line) for line in lines}

    def unseen(self, line: str) -> bool:
        """Whether a line may be trained on."""
        return normalise(line) not in self.held_out

    @cached_property
    def sentiment_train(self) -> list[tuple[str, str]]:
        return [pair for pair in _sentiment(self.root / "sentiment/train.jsonl") if self.unseen(pair[0])]

    @cached_property
    def reviews_train(self) -> list[tuple[str, str]]:
        """What buyers wrote under pros and cons: opinions about things, where the labelled ones are about films."""
        lines = read_lines(self.root / "text/cc-by.txt")
        marked = [(MARK.sub("", line).strip(" ~"), m.group(1)) for line in lines if (m := MARK.match(line))]
        usable = [pair for pair in dict.fromkeys(marked) if 0 < len(pair[0]) <= LONGEST_PLAIN and self.unseen(pair[0])]
        chosen = random.Random(self.seed).sample(usable, min(REVIEWS, len(usable)))
        return [(text, POLARITY[mark]) for text, mark in chosen]

    @cached_property
    def sentiment_valid(self) -> list[tuple[str, str]]:
        return _sentiment(self.root / "sentiment/valid.jsonl")

    @cached_property
    def entities_labelled(self) -> list[Example]:
        return [e for e in read_examples(self.root / "wnut17/train.jsonl") if self.unseen(e.text)]

    @cached_property
    def entities_train(self) -> list[Example]:
        """The labelled lines, and copies of those with entities in which other values stand."""
        lines = self.entities_labelled
        values, named = SlotValues(lines), [e for e in lines if e.slots]
        rng = random.Random(self.seed)
        swapped = [swap_slot_values(e, values, rng) for e in named * SWAPPED_COPIES]
        return lines + [e for e in swapped if self.unseen(e.text)]

    @cached_property
    def entities_valid(self) -> list[Example]:
        return read_examples(self.root / "wnut17/dev.jsonl")

    @cached_property
    def questions_train(self) -> list[Question]:
        return [q for q in _questions(self.root / "qa/train.jsonl") if self.unseen(q.text)]

    @cached_property
    def questions_valid(self) -> list[Question]:
        return _questions(self.root / "qa/valid.jsonl")

    @cached_property
    def plain(self) -> list[str]:
        """Lines without labels: about films, other prose and reviews, utterances, and requests."""
        prose = [MARK.sub("", line) for line in read_lines(self.root / "text/cc-by.txt")]
        kinds = {
            "films": [line for line in prose if FILMS.search(line)],
            "prose": [line for line in prose if not FILMS.search(line)],
            "utterances": load_utterances(self.root),
            "requests": load_requests(self.root),
        }
        chosen, rng = [], random.Random(self.seed)
        for kind, lines in kinds.items():
            usable = [line for line in dict.fromkeys(lines) if len(line) <= LONGEST_PLAIN and self.unseen(line)]
            chosen += rng.sample(usable, min(PLAIN[kind], len(usable)))
        return chosen


def unanswerable(questions: list[Question], seed: int) -> list[Question]:
    """Every question with the passage of another one, which does not answer it."""
    rng, passages = random.Random(seed), sorted({q.passage for q in questions})
    return [Question(q.text, rng.choice([p for p in passages if p != q.passage])) for q in questions]


def _sentiment(path: Path) -> list[tuple[str, str]]:
    records = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [(record["text"], record["label"]) for record in records]


def _questions(path: Path) -> list[Question]:
    records = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [
        Question(r["question"], r["context"], r["answers"][0]["text"], r["answers"][0]["start"]) for r in records
    ]
