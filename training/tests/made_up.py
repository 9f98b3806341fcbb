"""Made-up labelled lines, and the words they are made of."""

import json
import random
from pathlib import Path

ROOMS = ["kitchen", "bedroom", "hall", "attic", "office"]
ACTIONS = {"light_on": ["turn on", "switch on", "light up"], "light_off": ["turn off", "switch off", "darken"]}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = [*"turn switch on off light up darken the please in my now what is of a to".split(), *ROOMS]


def lines(rng: random.Random, count: int) -> list[dict]:
    made = []
    for _ in range(count):
        intent = rng.choice(list(ACTIONS))
        action, room = rng.choice(ACTIONS[intent]), rng.choice(ROOMS)
        text = f"{rng.choice(['', 'please ', 'now '])}{action} the {room} light{rng.choice(['', ' now', ' please'])}"
        start = text.index(room)
        slots = [{"name": "room", "value": room, "start": start, "end": start + len(room)}]
        made.append({"text": text, "intent": intent, "slots": slots})
    return made


def write(path: Path, records: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
