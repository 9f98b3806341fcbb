"""The task of `home-assistant-en`: home control in the intents and slots of Home Assistant.

Lines come from the sentence templates of the package `home-assistant-intents`, from templates of our own that say the
same in other words (`home_assistant_data/spoken`), and from people's requests in other sets whose labels have an
equal here. Names, areas and floors are of our own lists (`home_assistant_data/values.toml`).

Held out are whole blocks of templates: no line that one of them can say is trained on, whoever says it. Their lines come with
names that training lines have too, and apart from those with names, areas and other values that none has. The free paraphrases (`paraphrases.jsonl`) only measure,
and no training line has the frame of one.

A slot is what stands in the words. What a template fills in regardless of them is labelled where a word says it (the
`domain` of "lights", "fans", "anyone"); else it follows from the intent. The span of a name or floor takes the noun that
follows it in ("bedside lamp", "first floor"), articles stay outside.

    python training/home_assistant.py --data ../shared/data held-out.jsonl      # the held-out lines, to measure on
"""

import argparse
import json
import random
import re
import tomllib
from pathlib import Path

import home_assistant_intents
import yaml
from hassil.intents import Intents

from compare_hassil import KINDS, KINDS_OF, readings
from data import Example, Slot, normalise, read_examples
from other_sets import clinc_lines, hwu64_lines, outside_lines, snips_lines, snips_titles
from sampling import Block, blocks_of, join, sample
from speech import as_spoken
from tasks import Task, held_out_lines, make_task

FOLDER = Path(__file__).with_name("home_assistant_data")
PARAPHRASES = Path(__file__).with_name("paraphrases.jsonl")

HELD_OUT_BLOCKS = 0.15
HELD_OUT_VALUES = 1 / 7
LINES_OF_TEMPLATES = 220
LINES_OF_OWN = 260
"""Lines of an intent from each source; more for the intents that many blocks belong to."""
MOST_TIMES = 2.5
VALID_LINES_OF_BLOCK = 16
COMPOSED_AREAS = 0.3
SIGNATURES_OF_BLOCK = 1500

LISTS_OF_WILDCARDS = {
    "timer_name": "timer",
    "shopping_list_item": "item",
    "message": "message",
    "area": "area",
    "floor": "floor",
}
ANY_KIND = ("light", "switch", "fan", "media_player", "climate", "cover", "sensor")
COMMANDS_FROM = ("HassTurnOn", "HassTurnOff", "HassLightSet", "HassMediaPause", "HassSetVolume", "HassVacuumStart",
                 "HassSetPosition", "HassClimateSetTemperature", "HassMediaNext")
ZONES = "home;at home;work;at work;school;at school;away;the office;the gym;university;in the house;the store;mum's".split(";")
DOMAIN_WORDS = {
    "light": r"lights?|lighting|lamps?|illuminate",
    "fan": r"fans?",
    "switch": r"switch(?:es)?",
    "lock": r"locks?|garage doors?|doors?|windows?|gates?|shutters?",
    "person": r"anyone|anybody|someone|somebody|everyone|everybody|who|people|persons",
}
EMPTY_WORDS = frozenset("the my our this that a an in on at of to is are across around".split())
POLITE_WORDS = EMPTY_WORDS | frozenset("please can could would will you for me hey now just i want i'd like".split())


class Names:
    """Our lists, in the part for training or the part for the held-out lines."""

    def __init__(self, titles: list[str], held_out: bool):
        lists = tomllib.loads((FOLDER / "values.toml").read_text(encoding="utf-8"))["lists"]
        parts = {name: [value.strip() for value in text.split(",")] for name, text in lists.items()}
        parts["search_query"] = titles
        self.lists = {name: _part(values, name, held_out) for name, values in parts.items()}
        self.commands: list[str] = []

    def value(self, name: str, block: Block, rng: random.Random) -> str | None:
        """The words for a list of a template."""
        if name == "name":
            return self.named(rng.choice(block.kinds or ANY_KIND), rng)
        if name == "todo_list_item":
            return rng.choice(self.lists[rng.choice(("item", "task"))])
        if name == "timer_command":
            return rng.choice(self.commands)
        if name == "zone":
            return rng.choice(ZONES)
        if name == "search_query":
            return rng.choice(self.lists["search_query"])
        if name == "area" and rng.random() < COMPOSED_AREAS:
            return f"{rng.choice(self.lists['area_of'])} {rng.choice(self.lists['room'])}"
        source = LISTS_OF_WILDCARDS.get(name)
        return rng.choice(self.lists[source]) if source else None

    def named(self, kind: str, rng: random.Random) -> str:
        """A name for something of this domain."""
        kind = KINDS_OF.get(kind, kind)
        if kind == "light":
            return f"{rng.choice(self.lists['light_of'])} {rng.choice(self.lists['light'])}"
        return rng.choice(self.lists[kind])

    def kinds(self, name: str) -> list[str]:
        """The domains that a name may be of; what is in no list is a light."""
        found = [kind for kind in KINDS if name in self.lists.get(KINDS_OF.get(kind, kind), ())]
        return found or ["light"]


def _part(values: list[str], name: str, held_out: bool) -> list[str]:
    shuffled = sorted(set(values))
    random.Random(name).shuffle(shuffled)
    count = max(2, round(len(shuffled) * HELD_OUT_VALUES))
    # These nouns are few and everyday: what comes before them is held out instead.
    if name in ("light", "room"):
        return shuffled
    return shuffled[:count] if held_out else shuffled[count:]


def templates() -> tuple[list[Block], list[Block]]:
    """The blocks of Home Assistant and our own."""
    official = home_assistant_intents.get_intents("en")
    own = {"language": "en", "lists": dict(official["lists"]), "expansion_rules": {}, "intents": {}}
    for path in sorted((FOLDER / "spoken").glob("*.yaml")):
        for key, content in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            own[key].update(content)
    for name, blocks in own["intents"].items():
        for block in blocks:
            block["requires_context"] = {"domain": block.pop("names", [])}
            block["slots"] = {"domain": domain} if (domain := block.pop("domain", None)) else {}
        own["intents"][name] = {"data": blocks}
    return blocks_of(Intents.from_dict(official)), blocks_of(Intents.from_dict(own))


def choose_held_out(blocks: list[Block], rng: random.Random) -> list[Block]:
    """Some blocks of every intent that has more than one."""
    by_intent: dict[str, list[Block]] = {}
    for block in blocks:
        by_intent.setdefault(block.intent, []).append(block)
    chosen = []
    for of_intent in by_intent.values():
        if len(of_intent) > 1:
            chosen += rng.sample(of_intent, max(1, round(len(of_intent) * HELD_OUT_BLOCKS)))
    return chosen


def labelled(block: Block, names: Names, rng: random.Random) -> Example | None:
    """A line of the block with its slots; none where hardly a word but names is left."""
    example = join(sample(block, names.value, rng), block.intent)
    outside = _outside(example)
    if example.slots and not [w for w in re.findall(r"[\w']+", outside.lower()) if w not in EMPTY_WORDS]:
        return None
    slots = list(example.slots)
    for place, slot in enumerate(slots):
        noun = {"floor": r" floor\b", "name": r" (?:light|lights|lighting|lamp|lamps)\b"}.get(slot.name)
        if noun and (slot.name == "floor" or block.domain is None) and (m := re.match(noun, example.text[slot.end :])):
            slots[place] = Slot(slot.name, slot.start, slot.end + m.end())
        elif example.text.startswith("°", slot.end):
            # The tokenizer does not part it from the number.
            slots[place] = Slot(slot.name, slot.start, slot.end + 1)
    if words := DOMAIN_WORDS.get(block.domain):
        for match in re.finditer(rf"\b(?:{words})\b", outside):
            if not any(s.start < match.end() and match.start() < s.end for s in slots):
                slots.append(Slot("domain", *match.span()))
                break
    # "turn the volume up by 10": the direction is part of the step.
    if block.intent == "HassSetVolumeRelative" and not any(
        s.name == "volume_step" and not re.match(r"\d", example.text[s.start :]) for s in slots
    ):
        if match := re.search(r"\b(?:up|down|increase|decrease)\b", outside):
            slots.append(Slot("volume_step", *match.span()))
    return Example(example.text, example.intent, tuple(sorted(slots, key=lambda s: s.start)))


def _outside(example: Example) -> str:
    """The text with its slots blanked."""
    text = example.text
    for slot in example.slots:
        text = text[: slot.start] + " " * (slot.end - slot.start) + text[slot.end :]
    return text


def signature(example: Example) -> str:
    """The frame of a line: its words without the small ones, slots by name. Lines of one frame differ in values only."""
    text = example.text.lower()
    for slot in sorted(example.slots, key=lambda s: -s.start):
        text = f"{text[: slot.start]} <{slot.name}> {text[slot.end :]}"
    return " ".join(w for w in re.findall(r"<\w+>|[\w']+", text) if w not in POLITE_WORDS)


def lines_of(blocks: list[Block], count: int, names: Names, rng: random.Random, barred: set[str]) -> list[Example]:
    """About `count` different lines of the blocks, each block's share the same; less where they cannot say so many."""
    seen: dict[str, Example] = {}
    for block in blocks:
        wanted, tries = -(-count // len(blocks)), 0
        while wanted and tries < count * 3:
            tries += 1
            example = labelled(block, names, rng)
            if example is None or normalise(example.text) in seen or signature(example) in barred:
                continue
            seen[normalise(example.text)] = example
            wanted -= 1
    return list(seen.values())


def unambiguous(lines: list[Example], names: Names) -> list[Example]:
    """Without the lines that the templates can also read as another intent ("all kitchen fans off", told or asked)."""
    found = readings(lines, names.kinds)
    return [line for line, read in zip(lines, found, strict=True) if all(intent == line.intent for intent, _ in read)]


def home_assistant(root: Path, seed: int) -> Task:
    """All of it as a task; `root` is the folder of the other data sets."""
    rng = random.Random(seed)
    official, own = templates()
    held_out = choose_held_out(official, rng)
    titles = snips_titles(root)
    names, new_names = Names(titles, False), Names(titles, True)
    paraphrases = read_examples(PARAPHRASES)
    simple = [b for b in official if b.intent in COMMANDS_FROM and b not in held_out]
    for part in (names, new_names):
        part.commands = [e.text for e in lines_of(simple, 400, part, rng, set())]
    barred = {signature(e) for e in paraphrases}
    for block in held_out:
        barred |= {signature(e) for _ in range(SIGNATURES_OF_BLOCK) if (e := labelled(block, new_names, rng))}
    valid, new_valid = (
        unambiguous([e for block in held_out for e in lines_of([block], VALID_LINES_OF_BLOCK, part, rng, set())], part)
        for part in (names, new_names)
    )
    barred |= {signature(e) for e in valid + new_valid}

    train: list[Example] = []
    for intent in sorted({b.intent for b in official}):
        of_templates = [b for b in official if b.intent == intent and b not in held_out]
        of_own = [b for b in own if b.intent == intent]
        times = min(MOST_TIMES, 0.6 + len(of_templates) / 15)
        train += lines_of(of_templates, round(LINES_OF_TEMPLATES * times), names, rng, barred)
        train += lines_of(of_own, round(LINES_OF_OWN * times), names, rng, barred)
    train = [as_spoken(e, rng) for e in train]
    train += [e for e in (*clinc_lines(root), *hwu64_lines(root), *snips_lines(root, rng))]
    train = [e for e in train if signature(e) not in barred]
    unseen = held_out_lines(root) | {normalise(e.text) for e in paraphrases + new_valid}
    outside, valid_outside = outside_lines(root, rng)
    task = make_task("home-assistant", train, outside, valid, valid_outside, unseen)
    task.swaps_values = False
    task.also = {"new_names": new_valid, "paraphrases": paraphrases, "requests": list(hwu64_lines(root, "valid"))}
    return task


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the held-out lines of the task.")
    parser.add_argument("file", type=Path, help="JSON lines to write")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--seed", type=int, default=20, help="the build's own by default")
    parser.add_argument("--new-names", action="store_true", help="those with names that no training line has")
    arguments = parser.parse_args()
    records = []
    task = home_assistant(arguments.data, arguments.seed)
    for e in task.also["new_names"] if arguments.new_names else task.valid:
        slots = [{"name": s.name, "value": e.text[s.start : s.end], "start": s.start, "end": s.end} for s in e.slots]
        records.append(json.dumps({"text": e.text, "intent": e.intent, "slots": slots}, ensure_ascii=False) + "\n")
    arguments.file.write_text("".join(records), encoding="utf-8")


if __name__ == "__main__":
    main()
