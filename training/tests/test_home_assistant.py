"""Sampling from hassil's templates: spans, what is held out, and what speech does to a line."""

import random
import sys
from pathlib import Path

import pytest
from hassil.intents import Intents

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data import Example, Slot, normalise, read_examples  # noqa: E402
from home_assistant import (  # noqa: E402
    PARAPHRASES,
    Names,
    choose_held_out,
    labelled,
    lines_of,
    signature,
    templates,
    unambiguous,
)
from sampling import blocks_of, join, sample, split  # noqa: E402
from speech import lose_a_word, mishear_a_word, polite, unspell  # noqa: E402

TITLES = [f"title {number}" for number in range(40)]


def said(example: Example) -> list[tuple[str, str]]:
    return [(s.name, example.text[s.start : s.end]) for s in example.slots]


@pytest.fixture(scope="module")
def official():
    return templates()[0]


@pytest.fixture(scope="module")
def names():
    made = Names(TITLES, False)
    made.commands = ["turn off the lights"]
    return made


def test_a_sampled_sentence_says_where_its_slots_stand():
    intents = Intents.from_dict(
        {
            "language": "en",
            "intents": {"Dim": {"data": [{"sentences": ["(dim;[<the>] {area}) to {level:brightness}[ ]%"]}]}},
            "lists": {"level": {"range": {"from": 1, "to": 100}}},
            "expansion_rules": {"the": "(the|my)"},
        }
    )
    rng = random.Random(1)
    lines = [join(sample(blocks_of(intents)[0], lambda n, *_: {"area": "back  yard"}.get(n), rng), "Dim") for _ in range(60)]
    assert len({line.text for line in lines}) > 20
    for line in lines:
        assert "  " not in line.text and line.text == line.text.strip()
        slots = dict(said(line))
        assert slots.keys() == {"area", "brightness"} and slots["area"] == "back yard"
        assert line.text.startswith(("dim ", "the back", "my back", "back")) and line.text.endswith("%")


def test_words_that_a_template_fills_in_are_labelled_where_they_are_said(official, names):
    rng = random.Random(2)
    lights = [b for b in official if b.intent == "HassTurnOff" and b.domain == "light"]
    lines = lines_of(lights, 200, names, rng, set())
    assert len(lines) > 150
    assert all([name for name, _ in said(line)].count("domain") == 1 for line in lines)
    assert {words for line in lines for name, words in said(line) if name == "domain"} <= {
        "light", "lights", "lighting", "lamp", "lamps",
    }
    floors = [words for line in lines for name, words in said(line) if name == "floor"]
    assert any(words.endswith(" floor") for words in floors)


def test_nothing_that_a_held_out_block_can_say_is_trained_on(official, names):
    rng = random.Random(3)
    held_out = choose_held_out(official, rng)
    of_intent = {b.intent for b in official if sum(o.intent == b.intent for o in official) > 1}
    assert {b.intent for b in held_out} == of_intent
    block = next(b for b in held_out if b.intent == "HassTurnOn")
    barred = {signature(e) for _ in range(400) if (e := labelled(block, Names(TITLES, True), rng))}
    train = lines_of([b for b in official if b not in held_out], 2000, names, rng, barred)
    assert len(train) > 1000
    assert not {signature(line) for line in train} & barred


def test_held_out_values_are_new():
    train, valid = Names(TITLES, False), Names(TITLES, True)
    for name, values in valid.lists.items():
        assert len(values) >= 2, name
        if name not in ("light", "room"):
            assert not set(values) & set(train.lists[name]), name


def test_lines_of_two_meanings_are_found(names):
    asked = Example("are all kitchen fans off", "HassGetState", (Slot("area", 8, 15),))
    asked_or_told = Example("all kitchen fans off", "HassGetState", (Slot("area", 4, 11),))
    assert unambiguous([asked, asked_or_told], names) == [asked]


def test_speech_keeps_every_slot():
    text = "turn off the lights in the kid's play room, now"
    line = Example(text, "HassTurnOff", (Slot("domain", 13, 19), Slot("area", 27, 42)))
    rng = random.Random(4)
    assert join(split(line), line.intent) == line
    seen = set()
    for change in (polite, lose_a_word, mishear_a_word):
        for _ in range(40):
            changed = change(line, rng)
            seen.add(changed.text)
            assert [name for name, _ in said(changed)] == ["domain", "area"]
            assert changed.text == changed.text.strip() and "  " not in changed.text
    assert len(seen) > 20
    assert said(unspell(line)) == [("domain", "lights"), ("area", "kids play room")]


def test_the_paraphrases_are_well_formed_and_cover_every_intent(official):
    paraphrases = read_examples(PARAPHRASES)
    assert len({normalise(e.text) for e in paraphrases}) == 100
    assert {e.intent for e in paraphrases} == {b.intent for b in official}
    for line in paraphrases:
        for slot in line.slots:
            assert line.text[slot.start : slot.end].strip() == line.text[slot.start : slot.end] != ""
