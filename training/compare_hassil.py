"""What hassil, with Home Assistant's own templates, makes of labelled lines: the strict matcher that a home has today.

    python training/compare_hassil.py training/paraphrases.jsonl

It is given every advantage: a home that has exactly the names, areas and floors of the lines, each name in every domain,
and a line counts as right when any of its readings has the intent and the slots. Slots that no word says are ignored.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import home_assistant_intents
from hassil.intents import Intents, TextSlotList
from hassil.recognize import recognize_all

from data import Example, read_examples

KINDS_OF = {"input_boolean": "switch", "input_button": "button"}
"""Domains that hold the same things as others."""
KINDS = ("light", "switch", "fan", "media_player", "climate", "cover", "valve", "lock", "sensor", "binary_sensor", "scene",
         "script", "button", "vacuum", "lawn_mower", "person", "weather", "todo", *KINDS_OF)


Reading = tuple[str, set[tuple[str, str]]]
"""An intent, and its slots as names and words."""


def home_of(lines: list[Example], kinds_of: Callable[[str], Iterable[str]]) -> dict[str, TextSlotList]:
    """The lists of a home that has what the lines speak of; `kinds_of` says which domains a name is of."""
    said: dict[str, set[str]] = {"name": set(), "area": {"kitchen"}, "floor": set()}
    for line in lines:
        for slot in line.slots:
            if slot.name in said:
                said[slot.name].add(_value(line, slot))
    names = [(name, name, {"domain": kind}) for name in sorted(said["name"]) for kind in kinds_of(name)]
    return {
        "name": TextSlotList.from_tuples(names, name="name", allow_template=False),
        "area": TextSlotList.from_strings(sorted(said["area"]), name="area", allow_template=False),
        "floor": TextSlotList.from_strings(sorted(said["floor"]), name="floor", allow_template=False),
    }


def _value(line: Example, slot) -> str:
    value = line.text[slot.start : slot.end]
    return value.removesuffix(" floor") if slot.name == "floor" else value


@dataclass
class Counts:
    """How many of the lines are matched at all, have the intent, and have intent and slots."""

    lines: int
    matched: int
    with_intent: int
    right: int


def readings(lines: list[Example], kinds_of: Callable[[str], Iterable[str]] = lambda _: KINDS) -> list[list[Reading]]:
    """All that the templates make of each line."""
    intents, home = Intents.from_dict(home_assistant_intents.get_intents("en")), home_of(lines, kinds_of)
    return [
        [
            (found.intent.name, {(name, e.text.strip()) for name, e in found.entities.items() if _is_said(e.text, line)})
            for found in recognize_all(line.text, intents, home, intent_context={"area": "kitchen"}, language="en")
        ]
        for line in lines
    ]


def compare(lines: list[Example]) -> Counts:
    """Matches every line strictly."""
    counts = Counts(len(lines), 0, 0, 0)
    for line, found in zip(lines, readings(lines), strict=True):
        wanted = {(s.name, _value(line, s)) for s in line.slots if s.name != "domain"}
        counts.matched += bool(found)
        counts.with_intent += any(intent == line.intent for intent, _ in found)
        counts.right += any(intent == line.intent and slots == wanted for intent, slots in found)
    return counts


def _is_said(words: str | None, line: Example) -> bool:
    return bool(words) and bool(words.strip()) and words.strip() in line.text


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures hassil with Home Assistant's templates on labelled lines.")
    parser.add_argument("data", type=Path, help="JSON lines with text, intent and slots")
    counts = compare(read_examples(parser.parse_args().data))
    print(
        f"{counts.lines} lines: {counts.matched} matched, {counts.with_intent} with the intent, "
        f"{counts.right} with intent and slots"
    )


if __name__ == "__main__":
    main()
