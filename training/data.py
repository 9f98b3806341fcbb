"""Reading the data sets: labelled utterances, out-of-scope lines, plain text.

Every file is JSON lines, `{"text", "intent", "slots": [{"name", "value", "start", "end"}]}`; `start` and `end` count
Unicode code points of `text`, `end` is exclusive. Plain text is one sentence a line.
"""

import json
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

OUT_OF_SCOPE = "oos"
"""The label of everything the model should not act on."""

@dataclass(frozen=True)
class Slot:
    """A labelled span of an utterance, in code points."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Example:
    """One utterance with its gold intent and slots."""

    text: str
    intent: str
    slots: tuple[Slot, ...] = field(default=())


def normalise(text: str) -> str:
    """The form in which two lines count as the same: lower case, letters and digits only."""
    return re.sub(r"[\W_]+", "", text.lower())


def read_examples(path: Path) -> list[Example]:
    """Reads one JSON lines file."""
    examples = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        slots = tuple(Slot(s["name"], s["start"], s["end"]) for s in record["slots"])
        examples.append(Example(record["text"], record["intent"], slots))
    return examples


def read_lines(path: Path) -> list[str]:
    """Reads one file of plain sentences."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def read_questions(path: Path) -> list[str]:
    """The distinct questions of a question answering set."""
    records = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return list(dict.fromkeys(record["question"] for record in records))


def load_utterances(root: Path) -> list[str]:
    """The text of every labelled train utterance: what the encoder will see in use."""
    names = ["hwu64/train", "slurp/devel", "clinc150/train", "clinc150/oos_train", "snips/train"]
    return [e.text for name in names for e in read_examples(root / f"{name}.jsonl")]


def load_requests(root: Path) -> list[str]:
    """Plain sentences that people said to an assistant."""
    return read_lines(root / "text/sgd-user-turns.cc-by-sa.txt")


def load_text(root: Path) -> list[str]:
    """Plain English for distillation and for counting wordpieces."""
    return read_lines(root / "text/cc-by.txt") + load_requests(root)


def swap_slot_values(example: Example, values: "SlotValues", rng: random.Random) -> Example:
    """Replaces each slot's value by another one of the same name, so that the model learns the frame, not the value."""
    text, slots = example.text, []
    shift = 0
    for slot in sorted(example.slots, key=lambda s: s.start):
        value = values.another(slot.name, rng)
        start, end = slot.start + shift, slot.end + shift
        text = text[:start] + value + text[end:]
        slots.append(Slot(slot.name, start, start + len(value)))
        shift += len(value) - (end - start)
    return Example(text, example.intent, tuple(slots))


class SlotValues:
    """The values that augmentation puts into slots.

    A slot is open when its values hardly repeat (titles, names): then any words will do, and INVENTED_SHARE of its
    values are one to three words drawn from all values of open slots. A closed slot (times, rooms) keeps to what was
    seen.
    """

    INVENTED_SHARE = 0.3
    OPEN_VALUES = 100
    OPEN_RATIO = 0.5

    def __init__(self, examples: list[Example]):
        seen: dict[str, list[str]] = {}
        for example in examples:
            for slot in example.slots:
                seen.setdefault(slot.name, []).append(example.text[slot.start : slot.end])
        self.values = {name: sorted(set(values)) for name, values in sorted(seen.items())}
        self.open = {
            name
            for name, values in self.values.items()
            if len(values) >= self.OPEN_VALUES and len(values) >= self.OPEN_RATIO * len(seen[name])
        }
        self.words = sorted({word for name in self.open for value in self.values[name] for word in value.split()})

    def another(self, name: str, rng: random.Random) -> str:
        """A value for the slot `name`."""
        if name in self.open and rng.random() < self.INVENTED_SHARE:
            return " ".join(rng.choice(self.words) for _ in range(rng.randint(1, 3)))
        return rng.choice(self.values[name])
