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

CLINC_OUT_OF_SCOPE = frozenset(
    """account_blocked accept_reservations application_status apr balance bill_balance bill_due car_rental card_declined
    carry_on credit_limit credit_limit_change credit_score damaged_card direct_deposit expiration_date flight_status
    freeze_account gas_type improve_credit_score income insurance insurance_change interest_rate international_fees
    international_visa jump_start last_maintenance lost_luggage min_payment mpg new_card oil_change_how oil_change_when
    order_checks pay_bill payday pin_change plug_type pto_balance pto_request pto_request_status pto_used redeem_rewards
    replacement_card_duration report_fraud report_lost_card rewards_balance rollover_401k routing schedule_maintenance
    spending_history taxes tire_change tire_pressure transactions transfer translate travel_notification vaccines
    w2""".split()
)
"""Intents of CLINC150 that no intent of HWU64 comes near (banking, cards, employment, cars, visas): chosen by label."""


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


@dataclass
class TaskData:
    """What the task heads are trained and measured on."""

    train: list[Example]
    valid: list[Example]
    valid_out_of_scope: list[Example]
    held_out: set[str]
    """The normalised lines that nothing trained on may equal, augmented lines included."""
    intents: list[str]
    slot_names: list[str]


def load_task(root: Path, seed: int) -> TaskData:
    """HWU64, the SLURP lines whose labels HWU64 knows, and out-of-scope lines of CLINC150."""
    hwu64 = read_examples(root / "hwu64/train.jsonl")
    intents = sorted({e.intent for e in hwu64})
    slot_names = sorted({s.name for e in hwu64 for s in e.slots})

    slurp = [
        e
        for e in read_examples(root / "slurp/devel.jsonl")
        if e.intent in intents and all(s.name in slot_names for s in e.slots)
    ]
    clinc = [e for e in read_examples(root / "clinc150/train.jsonl") if e.intent in CLINC_OUT_OF_SCOPE]
    random.Random(seed).shuffle(clinc)
    out_of_scope = read_examples(root / "clinc150/oos_train.jsonl") + clinc[:1500]
    out_of_scope = [Example(e.text, OUT_OF_SCOPE) for e in out_of_scope]

    valid = read_examples(root / "hwu64/valid.jsonl")
    valid_out_of_scope = [Example(e.text, OUT_OF_SCOPE) for e in read_examples(root / "clinc150/oos_val.jsonl")]
    held_out = {normalise(e.text) for e in valid + valid_out_of_scope}
    train = [e for e in hwu64 + slurp + out_of_scope if normalise(e.text) not in held_out]
    return TaskData(train, valid, valid_out_of_scope, held_out, intents, slot_names)


def load_utterances(root: Path) -> list[str]:
    """The text of every labelled train utterance: what the encoder will see in use."""
    names = ["hwu64/train", "slurp/devel", "clinc150/train", "clinc150/oos_train", "snips/train"]
    return [e.text for name in names for e in read_examples(root / f"{name}.jsonl")]


def load_text(root: Path) -> list[str]:
    """Plain English for distillation and for counting wordpieces."""
    return read_lines(root / "text/cc-by.txt") + read_lines(root / "text/sgd-user-turns.cc-by-sa.txt")


def swap_slot_values(example: Example, values: dict[str, list[str]], rng: random.Random) -> Example:
    """Replaces each slot's value by another one of the same name, so that the model learns the frame, not the value."""
    text, slots = example.text, []
    shift = 0
    for slot in sorted(example.slots, key=lambda s: s.start):
        value = rng.choice(values[slot.name])
        start, end = slot.start + shift, slot.end + shift
        text = text[:start] + value + text[end:]
        slots.append(Slot(slot.name, start, start + len(value)))
        shift += len(value) - (end - start)
    return Example(text, example.intent, tuple(slots))


def slot_values(examples: list[Example]) -> dict[str, list[str]]:
    """Every distinct value seen for each slot name, in a fixed order."""
    values: dict[str, set[str]] = {}
    for example in examples:
        for slot in example.slots:
            values.setdefault(slot.name, set()).add(example.text[slot.start : slot.end])
    return {name: sorted(seen) for name, seen in sorted(values.items())}
