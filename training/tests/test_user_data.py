"""Formats that users bring, and how their lines are divided."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from adapt import frame_of, split  # noqa: E402
from data import Example, Slot  # noqa: E402
from user_data import MOST_EXPANSIONS, BadData, expand, read_rasa, read_sentences, read_user_data  # noqa: E402


def said(example: Example) -> tuple[str, list[tuple[str, str]]]:
    return example.text, [(s.name, example.text[s.start : s.end]) for s in example.slots]


def test_choices_and_options_are_written_out():
    sentences = expand("turn (on | off) [the] (kitchen | bed room){room} light")
    assert len(sentences) == 8
    assert [said(Example(text, "x", slots)) for text, slots in sentences][0] == (
        "turn on the kitchen light",
        [("room", "kitchen")],
    )
    assert {text for text, _ in sentences} >= {"turn off bed room light", "turn on the bed room light"}


def test_many_choices_are_sampled_the_same_each_time():
    template = "(a|b|c|d) " * 5
    assert len(expand(template)) == MOST_EXPANSIONS and expand(template) == expand(template)


def test_sentences_stand_under_their_intent():
    examples = read_sentences("# lights\n[LightOn]\nlight on\n\n[Timer]\nset a timer for (five minutes){time}\n", "x")
    assert [(e.intent, *said(e)) for e in examples] == [
        ("LightOn", "light on", []),
        ("Timer", "set a timer for five minutes", [("time", "five minutes")]),
    ]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("light on", "line 1: a sentence before"),
        ("[A]\nturn (on", "line 2: '\\('"),
        ("[A]\nturn on)", "line 2: '\\)'"),
        ("[A]\n{x} light", "follows no"),
    ],
)
def test_mistakes_in_sentences_are_named(content, named):
    with pytest.raises(BadData, match=named):
        read_sentences(content, "x")


def test_rasa_slots_have_two_forms():
    content = """
version: "3.1"
nlu:
- intent: light_on
  examples: |
    - turn on the [kitchen](room) light
    - light in the [living room]{"entity": "room", "value": "lounge"} please
- synonym: lounge
  examples: |
    - sitting room
"""
    assert [said(e) for e in read_rasa(content, "x")] == [
        ("turn on the kitchen light", [("room", "kitchen")]),
        ("light in the living room please", [("room", "living room")]),
    ]
    with pytest.raises(BadData, match="Rasa"):
        read_rasa("rules: []", "x")


def test_bad_json_lines_are_named(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "on", "intent": "a"}\n{"text": "off"}\n')
    with pytest.raises(BadData, match="line 2"):
        read_user_data(path)
    path.write_text('{"text": "on", "intent": "a", "slots": [{"name": "x", "start": 0, "end": 9}]}\n')
    with pytest.raises(BadData, match="outside the text"):
        read_user_data(path)


def test_lines_of_one_frame_are_never_divided():
    rooms = ["kitchen", "hall", "attic"]
    examples = []
    for verb in ("light", "brighten", "illuminate", "lamp on in", "show me", "glow in"):
        for room in rooms:
            text = f"{verb} the {room}"
            examples.append(Example(text, "on", (Slot("room", len(text) - len(room), len(text)),)))
    train, valid = split(examples, seed=1)
    assert len(train) == 15 and len(valid) == 3
    assert not {frame_of(e) for e in train} & {frame_of(e) for e in valid}
