"""Sentences with labelled slots from hassil's sentence templates, drawn at random instead of written out: one template
stands for up to millions.

hassil parses; its own sampler gives text without saying where a slot's words stand, which is what this adds.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from hassil.expression import Alternative, Expression, Group, ListReference, Permutation, RuleReference, Sentence
from hassil.expression import TextChunk
from hassil.intents import IntentData, Intents, RangeSlotList, TextSlotList
from hassil.numbers import get_rbnf_engine

from data import Example, Slot

SPOKEN_NUMBERS = 0.5
"""The share of numbers in words: speech recognition writes both."""

Segments = list[tuple[str, str | None]]
"""A sentence in pieces, each with the name of its slot, if any."""


@dataclass(frozen=True)
class Block:
    """The templates of one entry of an intent: what is held out, or not, as a whole."""

    intent: str
    data: IntentData
    rules: dict[str, Sentence]
    lists: dict
    kinds: tuple[str, ...]
    """What {name} may be: domains of Home Assistant."""
    domain: str | None
    """The domain that the block fills in, whatever the words."""


def blocks_of(intents: Intents) -> list[Block]:
    """Every block in order; those of an intent that have the same templates are one."""
    found: dict[tuple, Block] = {}
    for name, intent in intents.intents.items():
        for data in intent.data:
            rules = {**intents.expansion_rules, **data.expansion_rules}
            kinds = (data.requires_context or {}).get("domain") or ()
            kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
            domain = data.slots.get("domain")
            key = (name, tuple(data.sentence_texts), domain)
            if key in found:
                kinds = tuple(dict.fromkeys(found[key].kinds + kinds))
            found[key] = Block(name, data, rules, intents.slot_lists, kinds, domain)
    return list(found.values())


Values = Callable[[str, Block, random.Random], str | None]
"""The words for a list that the templates leave open (names, areas, wildcards); none where the templates have them."""


def sample(block: Block, values: Values, rng: random.Random) -> Segments:
    """One sentence of the block."""
    segments: Segments = []
    _walk(rng.choice(block.data.sentences).expression, block, values, rng, segments, None)
    return segments


def _walk(
    node: Expression, block: Block, values: Values, rng: random.Random, into: Segments, slot: str | None
) -> None:
    if isinstance(node, TextChunk):
        into.append((node.original_text, slot))
    elif isinstance(node, Alternative):
        _walk(rng.choice(node.items), block, values, rng, into, slot)
    elif isinstance(node, Permutation):
        for item in rng.sample(node.items, len(node.items)):
            into.append((" ", slot))
            _walk(item, block, values, rng, into, slot)
        into.append((" ", slot))
    elif isinstance(node, Group):
        for item in node.items:
            _walk(item, block, values, rng, into, slot)
    elif isinstance(node, RuleReference):
        _walk(block.rules[node.rule_name].expression, block, values, rng, into, slot)
    elif isinstance(node, ListReference):
        words = values(node.list_name, block, rng)
        if words is not None:
            into.append((words, node.slot_name))
            return
        slot_list = block.lists[node.list_name]
        if isinstance(slot_list, TextSlotList):
            _walk(rng.choice(slot_list.values).text_in, block, values, rng, into, node.slot_name)
        elif isinstance(slot_list, RangeSlotList):
            into.append((number(slot_list, rng), node.slot_name))
        else:
            raise ValueError(f"no values for the list {node.list_name!r}")
    else:
        raise TypeError(f"unknown expression {node!r}")


def number(numbers: RangeSlotList, rng: random.Random) -> str:
    """A number of the range, in digits or words; round ones and small ones more often, as people say them."""
    chosen = rng.randrange(numbers.start, numbers.stop + 1, numbers.step)
    if numbers.step == 1 and rng.random() < 0.4:
        chosen = max(numbers.start, min(numbers.stop, chosen // 5 * 5))
    elif numbers.step == 1 and rng.random() < 0.3:
        chosen = rng.randint(numbers.start, min(numbers.stop, 12))
    if rng.random() >= SPOKEN_NUMBERS:
        half = numbers.fraction_type is not None and rng.random() < 0.15
        return f"{chosen}.5" if half else str(chosen)
    words = get_rbnf_engine("en").format_number(chosen).text
    return words.replace("-", " ") if rng.random() < 0.7 else words


def join(segments: Segments, intent: str) -> Example:
    """The pieces as one line with single spaces; a slot never begins or ends with one."""
    text, slots = "", []
    for words, name in segments:
        body = re.sub(r"\s+", " ", words)
        if not text or text.endswith(" "):
            body = body.lstrip()
        core = body.strip()
        if name is not None and core:
            start = len(text) + len(body) - len(body.lstrip())
            slots.append((name, start, start + len(core)))
        text += body
    merged: list[Slot] = []
    for name, start, end in slots:
        last = merged[-1] if merged else None
        # A value of several pieces, as in "garage door[s]".
        if last is not None and last.name == name and text[last.end : start].strip() == "":
            merged[-1] = Slot(name, last.start, end)
        else:
            merged.append(Slot(name, start, end))
    return Example(text.rstrip(), intent, tuple(merged))


def split(example: Example) -> Segments:
    """The line in pieces again."""
    segments: Segments = []
    at = 0
    for slot in sorted(example.slots, key=lambda s: s.start):
        segments += [(example.text[at : slot.start], None), (example.text[slot.start : slot.end], slot.name)]
        at = slot.end
    return [*segments, (example.text[at:], None)]
