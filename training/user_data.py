"""Utterances of a user's own, in the formats they already have: JSON lines, Rasa NLU YAML, plain sentences.

Plain sentences stand under the name of their intent; `(value){slot}` marks a slot, `[words]` may be left out, and
`(this | that)` is a choice (a slot's value may be one):

    [TurnOnLight]
    turn on [the] (kitchen | bedroom){room} (light | lamp)

Rasa: `nlu:` items with `intent` and `examples`, slots as `[value](slot)` or `[value]{"entity": "slot", ...}`. Its
synonyms, lookups and regexes are left out.
"""

import itertools
import json
import random
import re
from pathlib import Path

import yaml

from data import Example, Slot

MOST_EXPANSIONS = 200
"""Of one sentence with choices; beyond, a seeded sample of them."""

RASA_SLOT = re.compile(r"\[(?P<value>[^\]]+)\](?:\((?P<name>[^)]+)\)|(?P<json>\{[^}]*\}))")
HEADER = re.compile(r"\[(?P<intent>[^\]]+)\]\s*$")


class BadData(Exception):
    """A file that cannot be read, with the place and what is wrong."""


def read_user_data(path: Path) -> list[Example]:
    """Reads by the ending: .jsonl, .yml or .yaml, else plain sentences."""
    if path.suffix == ".jsonl":
        examples = _read_json_lines(path)
    elif path.suffix in (".yml", ".yaml"):
        examples = read_rasa(path.read_text(encoding="utf-8"), path.name)
    else:
        examples = read_sentences(path.read_text(encoding="utf-8"), path.name)
    if not examples:
        raise BadData(f"{path}: holds no utterance")
    return examples


def _read_json_lines(path: Path) -> list[Example]:
    examples = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            text, intent = record["text"], record["intent"]
            slots = tuple(Slot(s["name"], s["start"], s["end"]) for s in record.get("slots", []))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise BadData(f"{path}: line {number}: {error!r}; each line is {{text, intent, slots}}") from error
        for slot in slots:
            if not 0 <= slot.start < slot.end <= len(text):
                raise BadData(f"{path}: line {number}: slot {slot.name} spans {slot.start}..{slot.end} outside the text")
        examples.append(Example(text, intent, slots))
    return examples


def read_rasa(content: str, name: str) -> list[Example]:
    """The intents of a Rasa NLU file."""
    try:
        items = yaml.safe_load(content)["nlu"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise BadData(f"{name}: no Rasa NLU data: {error!r}") from error
    examples = []
    for item in items:
        if "intent" not in item:
            continue
        for line in str(item.get("examples", "")).splitlines():
            if line.strip().startswith("- "):
                # A retrieval intent `faq/hours` is the intent `faq/hours`.
                examples.append(_rasa_example(line.strip()[2:].strip(), item["intent"], name))
    return examples


def _rasa_example(marked: str, intent: str, name: str) -> Example:
    text, slots, at = "", [], 0
    for match in RASA_SLOT.finditer(marked):
        text += marked[at : match.start()]
        slot = match["name"]
        if slot is None:
            try:
                slot = json.loads(match["json"])["entity"]
            except (json.JSONDecodeError, KeyError) as error:
                raise BadData(f"{name}: {marked!r}: {match['json']} names no entity") from error
        slots.append(Slot(slot.split(":")[0], len(text), len(text) + len(match["value"])))
        text += match["value"]
        at = match.end()
    return Example(text + marked[at:], intent, tuple(slots))


def read_sentences(content: str, name: str) -> list[Example]:
    """Plain sentences under `[Intent]` headers; empty lines and lines that begin with # are left out."""
    examples, intent = [], None
    for number, line in enumerate(content.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if header := HEADER.match(line):
            intent = header["intent"]
            continue
        if intent is None:
            raise BadData(f"{name}: line {number}: a sentence before the first [Intent]")
        try:
            examples += [Example(text, intent, slots) for text, slots in expand(line)]
        except ValueError as error:
            raise BadData(f"{name}: line {number}: {error}") from error
    return examples


Part = tuple[str, str | None]
"""Words, and the slot that they fill."""


def expand(template: str) -> list[tuple[str, tuple[Slot, ...]]]:
    """Every sentence that a template stands for, at most MOST_EXPANSIONS of them."""
    tokens = [t for t in re.findall(r"\{[^}]*\}|[\[\]()|]|[^\[\](){}|]+", template) if t.strip()]
    alternatives, rest = _alternatives(tokens)
    if rest:
        raise ValueError(f"{rest[0]!r} closes nothing")
    if len(alternatives) > MOST_EXPANSIONS:
        alternatives = random.Random(template).sample(alternatives, MOST_EXPANSIONS)
    return [_joined(parts) for parts in alternatives]


def _alternatives(tokens: list[str]) -> tuple[list[list[Part]], list[str]]:
    """Choices separated by `|` up to a closing bracket or the end."""
    choices: list[list[Part]] = []
    sequence: list[list[list[Part]]] = []
    while tokens and tokens[0] not in (")", "]"):
        token, tokens = tokens[0], tokens[1:]
        if token == "|":
            choices += _product(sequence)
            sequence = []
        elif token in ("(", "["):
            inner, tokens = _alternatives(tokens)
            closing = ")" if token == "(" else "]"
            if not tokens or tokens[0] != closing:
                raise ValueError(f"{token!r} is not closed by {closing!r}")
            tokens = tokens[1:]
            sequence.append(inner if token == "(" else [*inner, []])
        elif token.startswith("{"):
            if not sequence:
                raise ValueError(f"{token} follows no (value)")
            slot = token[1:-1].strip()
            sequence[-1] = [[(" ".join(words for words, _ in parts), slot)] for parts in sequence[-1]]
        else:
            sequence.append([[(token.strip(), None)]])
    return choices + _product(sequence), tokens


def _product(sequence: list[list[list[Part]]]) -> list[list[Part]]:
    count = 1
    for choices in sequence:
        count *= len(choices)
    if count > 100_000:
        raise ValueError(f"stands for {count} sentences; write it as several")
    return [[part for parts in combination for part in parts] for combination in itertools.product(*sequence)]


def _joined(parts: list[Part]) -> tuple[str, tuple[Slot, ...]]:
    text, slots = "", []
    for words, slot in parts:
        text += " " if text else ""
        if slot is not None:
            slots.append(Slot(slot, len(text), len(text) + len(words)))
        text += words
    return text, tuple(slots)
