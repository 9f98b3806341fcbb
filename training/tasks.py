"""The labelled tasks: which lines train a head, which measure it, and which must stay unseen.

A task has intents and maybe slots. Lines of other sets whose labels lie far from all of its own teach it what is out of
scope; they are chosen by label, never by looking at a validation line.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from data import OUT_OF_SCOPE, Example, normalise, read_examples, read_questions
from labels import Labels

CLINC_FAR_FROM_HOME = frozenset(
    """account_blocked accept_reservations application_status apr balance bill_balance bill_due car_rental card_declined
    carry_on credit_limit credit_limit_change credit_score damaged_card direct_deposit expiration_date flight_status
    freeze_account gas_type improve_credit_score income insurance insurance_change interest_rate international_fees
    international_visa jump_start last_maintenance lost_luggage min_payment mpg new_card oil_change_how oil_change_when
    order_checks pay_bill payday pin_change plug_type pto_balance pto_request pto_request_status pto_used redeem_rewards
    replacement_card_duration report_fraud report_lost_card rewards_balance rollover_401k routing schedule_maintenance
    spending_history taxes tire_change tire_pressure transactions transfer translate travel_notification vaccines
    w2""".split()
)
"""Intents of CLINC150 that no intent of HWU64 or SNIPS comes near (banking, cards, employment, cars, visas)."""

HWU64_FAR_FROM_CLINC = frozenset(
    """email_addcontact email_query email_querycontact email_sendemail news_query play_audiobook play_podcasts play_radio
    qa_factoid qa_stock recommendation_events recommendation_movies social_post social_query takeaway_query
    transport_ticket play_game music_likeness""".split()
)
"""Intents of HWU64 that no intent of CLINC150 comes near."""

SNIPS_FAR_FROM_CLINC = frozenset({"RateBook", "SearchScreeningEvent", "SearchCreativeWork"})


@dataclass
class Task:
    """What the heads of one bundle are trained and measured on."""

    name: str
    labels: Labels
    train: list[Example]
    valid: list[Example]
    valid_out_of_scope: list[Example]
    held_out: set[str]
    """The normalised lines that nothing trained on may equal, augmented lines included."""
    swaps_values: bool = True
    """Whether a line stays true when a slot gets another line's value."""
    also: dict[str, list[Example]] = field(default_factory=dict)
    """More lines to measure on, by name; nothing is tuned on them."""

    @property
    def slot_names(self) -> list[str]:
        """The slots in the order of their tags; none where the task has intents only."""
        return [tag[2:] for tag in self.labels.tags if tag.startswith("B-")]


def make_task(
    name: str,
    train: list[Example],
    out_of_scope: Iterable[Example],
    valid: list[Example],
    valid_out_of_scope: Iterable[Example] = (),
    held_out: set[str] = frozenset(),
) -> Task:
    """Collects a task: labels from `train`, held-out lines removed from all that is trained on."""
    intents = sorted({e.intent for e in train})
    slot_names = sorted({s.name for e in train for s in e.slots})
    valid_outside = [Example(e.text, OUT_OF_SCOPE) for e in valid_out_of_scope]
    unseen = held_out | {normalise(e.text) for e in valid + valid_outside}
    outside = [Example(e.text, OUT_OF_SCOPE) for e in out_of_scope]
    lines = [e for e in train + outside if normalise(e.text) not in unseen]
    return Task(name, Labels.of(intents, slot_names, bool(outside)), lines, valid, valid_outside, unseen)


def _some(examples: Iterable[Example], count: int, seed: int) -> list[Example]:
    chosen = list(examples)
    random.Random(seed).shuffle(chosen)
    return chosen[:count]


def _with_intent(path: Path, intents: frozenset[str]) -> list[Example]:
    return [e for e in read_examples(path) if e.intent in intents]


def home(root: Path, seed: int) -> Task:
    """HWU64 and the SLURP lines whose labels HWU64 knows."""
    train = read_examples(root / "hwu64/train.jsonl")
    intents = {e.intent for e in train}
    slot_names = {s.name for e in train for s in e.slots}
    train += [
        e
        for e in read_examples(root / "slurp/devel.jsonl")
        if e.intent in intents and all(s.name in slot_names for s in e.slots)
    ]
    outside = read_examples(root / "clinc150/oos_train.jsonl")
    outside += _some(_with_intent(root / "clinc150/train.jsonl", CLINC_FAR_FROM_HOME), 1500, seed)
    return make_task(
        "home",
        train,
        outside,
        read_examples(root / "hwu64/valid.jsonl"),
        read_examples(root / "clinc150/oos_val.jsonl"),
        held_out_lines(root),
    )


def snips(root: Path, seed: int) -> Task:
    """SNIPS, the split of Goo et al. 2018."""
    outside = read_examples(root / "clinc150/oos_train.jsonl")
    outside += _some(_with_intent(root / "clinc150/train.jsonl", CLINC_FAR_FROM_HOME), 1500, seed)
    return make_task(
        "snips",
        read_examples(root / "snips/train.jsonl"),
        outside,
        read_examples(root / "snips/valid.jsonl"),
        read_examples(root / "clinc150/oos_val.jsonl"),
        held_out_lines(root),
    )


def clinc150(root: Path, seed: int) -> Task:
    """CLINC150 without slots; its few out-of-scope lines count four times, beside far lines of the other sets."""
    outside = read_examples(root / "clinc150/oos_train.jsonl") * 4
    outside += _some(_with_intent(root / "hwu64/train.jsonl", HWU64_FAR_FROM_CLINC), 1500, seed)
    outside += _some(_with_intent(root / "snips/train.jsonl", SNIPS_FAR_FROM_CLINC), 500, seed)
    outside += [Example(question, OUT_OF_SCOPE) for question in read_questions(root / "qa/train.jsonl")]
    return make_task(
        "clinc150",
        [Example(e.text, e.intent) for e in read_examples(root / "clinc150/train.jsonl")],
        outside,
        read_examples(root / "clinc150/val.jsonl"),
        read_examples(root / "clinc150/oos_val.jsonl"),
        held_out_lines(root),
    )


TASKS: dict[str, Callable[[Path, int], Task]] = {"home": home, "snips": snips, "clinc150": clinc150}


def held_out_lines(root: Path) -> set[str]:
    """Every labelled validation line of every set: none may be trained on in any task."""
    names = ("hwu64/valid", "snips/valid", "clinc150/val", "clinc150/oos_val")
    return {normalise(e.text) for name in names for e in read_examples(root / f"{name}.jsonl")}
