"""People's requests of other sets in the labels of Home Assistant: those whose label has an equal there, all others are
left out or, where no intent of Home Assistant comes near, out of scope.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path

from data import Example, Slot, read_examples
from tasks import CLINC_FAR_FROM_HOME

CLINC_INTENTS = {
    "time": "HassGetCurrentTime",
    "date": "HassGetCurrentDate",
    "next_song": "HassMediaNext",
    "greeting": "HassRespond",
    "who_made_you": "HassRespond",
    "what_can_i_ask_you": "HassRespond",
    "cancel": "HassNevermind",
}
"""Intents of CLINC150 without slots."""
LINES_OF_CLINC_INTENT = 60
# What a line of these intents must not hold, since Home Assistant has no slot for it.
ELSEWHERE = {
    "time": r"\b(in|at|zone|timezone|central|eastern|pacific|mountain|for)\b|,",
    "date": r"\b(tomorrow|yesterday|next|last|days|week|in|from|ago)\b",
    "cancel": r"\b(pause|silence|quiet|stop|shut)\b",
    "next_song": r"\bplaylist\b",
}

HWU64_INTENTS = {
    "iot_hue_lighton": "HassTurnOn",
    "iot_hue_lightoff": "HassTurnOff",
    "iot_hue_lightchange": "HassLightSet",
    "iot_wemo_on": "HassTurnOn",
    "iot_wemo_off": "HassTurnOff",
    "iot_cleaning": "HassVacuumStart",
    "audio_volume_mute": "HassMediaPlayerMute",
    "audio_volume_up": "HassSetVolumeRelative",
    "audio_volume_down": "HassSetVolumeRelative",
    "weather_query": "HassGetWeather",
}
HWU64_SLOTS = {"house_place": "area", "color_type": "color", "device_type": "name", "place_name": "name"}
# Labelled as rooms there, but no room's name.
NO_PLACE = r"\b(here|the room|this room|house|home)\b"
LIGHT = r"\b(lights?|lighting|lamps?)\b"
STEP = r"\b(up|down|louder|quieter|softer|higher|lower|increase|decrease|raise)\b"

HWU64_FAR_FROM_HOME_ASSISTANT = frozenset(
    """email_addcontact email_query email_querycontact email_sendemail news_query qa_factoid qa_stock qa_definition
    qa_currency qa_maths recommendation_events recommendation_locations recommendation_movies social_post social_query
    takeaway_order takeaway_query transport_query transport_taxi transport_ticket transport_traffic play_game general_joke
    general_quirky calendar_query calendar_remove calendar_set alarm_query alarm_remove alarm_set cooking_recipe
    music_likeness music_query datetime_convert iot_coffee""".split()
)
"""No intent of Home Assistant does what these ask for."""
LINES_OUTSIDE = 1400


def clinc_lines(root: Path) -> Iterator[Example]:
    """Requests of CLINC150 that have no slots here."""
    count: dict[str, int] = {}
    for line in read_examples(root / "clinc150/train.jsonl"):
        intent = CLINC_INTENTS.get(line.intent)
        barred = ELSEWHERE.get(line.intent)
        if intent is None or (barred and re.search(barred, line.text)) or count.get(line.intent, 0) >= LINES_OF_CLINC_INTENT:
            continue
        count[line.intent] = count.get(line.intent, 0) + 1
        yield Example(line.text, intent)


def hwu64_lines(root: Path, split: str = "train") -> Iterator[Example]:
    """Requests of HWU64 about lights, sockets, cleaning, volume and weather."""
    for line in read_examples(root / f"hwu64/{split}.jsonl"):
        intent = HWU64_INTENTS.get(line.intent)
        if intent is None or len({s.name for s in line.slots}) < len(line.slots) or re.search(NO_PLACE, line.text):
            continue
        slots = [Slot(HWU64_SLOTS[s.name], s.start, s.end) for s in line.slots if s.name in HWU64_SLOTS]
        is_light = line.intent.startswith("iot_hue")
        if is_light:
            # Their devices are lights: for us a domain, if the word is there.
            slots = [s for s in slots if s.name != "name"]
            slots += _first(LIGHT, "domain", line.text, slots)
            if intent == "HassLightSet" and not any(s.name == "color" for s in slots):
                continue
        if line.intent.startswith("audio_volume") and intent != "HassMediaPlayerMute":
            slots += _first(STEP, "volume_step", line.text, slots)
            if not any(s.name == "volume_step" for s in slots):
                continue
        if line.intent == "iot_cleaning" and any(s.name == "area" for s in slots):
            intent = "HassVacuumCleanArea"
        yield Example(line.text, intent, tuple(sorted((_bare(line.text, s) for s in slots), key=lambda s: s.start)))


def _first(pattern: str, name: str, text: str, slots: list[Slot]) -> list[Slot]:
    match = re.search(pattern, text)
    if match is None or any(s.start < match.end() and match.start() < s.end for s in slots):
        return []
    return [Slot(name, *match.span())]


def _bare(text: str, slot: Slot) -> Slot:
    """Without an article."""
    article = re.match(r"(the|my|our|a|an) ", text[slot.start : slot.end])
    return Slot(slot.name, slot.start + (article.end() if article else 0), slot.end)


SNIPS_MEDIA = {"artist", "album", "track", "playlist"}
SNIPS_CLASSES = frozenset("song track album artist playlist".split())
LINES_OF_SNIPS = 350


def snips_lines(root: Path, rng: random.Random) -> Iterator[Example]:
    """Requests of SNIPS for one piece of music, and for the weather of one place."""
    lines = read_examples(root / "snips/train.jsonl")
    rng.shuffle(lines)
    count: dict[str, int] = {}
    for line in lines:
        names = [s.name for s in line.slots]
        if line.intent == "PlayMusic":
            intent, new = "HassMediaSearchAndPlay", {name: "search_query" for name in SNIPS_MEDIA}
            new["music_item"] = "media_class"
            classes = [line.text[s.start : s.end] for s in line.slots if s.name == "music_item"]
            fits = sum(n in SNIPS_MEDIA for n in names) == 1 and set(names) <= new.keys()
            fits = fits and len(classes) <= 1 and set(classes) <= SNIPS_CLASSES
        elif line.intent == "GetWeather":
            intent, new = "HassGetWeather", {"city": "name"}
            fits = names.count("city") == 1 and not {"state", "country", "geographic_poi"} & set(names)
        else:
            continue
        if not fits or count.get(intent, 0) >= LINES_OF_SNIPS:
            continue
        count[intent] = count.get(intent, 0) + 1
        yield Example(line.text, intent, tuple(Slot(new[s.name], s.start, s.end) for s in line.slots if s.name in new))


def snips_titles(root: Path) -> list[str]:
    """Names of music, films and books."""
    wanted = SNIPS_MEDIA | {"movie_name", "object_name"}
    return sorted(
        {
            e.text[s.start : s.end]
            for e in read_examples(root / "snips/train.jsonl")
            for s in e.slots
            if s.name in wanted and s.end - s.start < 30
        }
    )


def outside_lines(root: Path, rng: random.Random) -> tuple[list[Example], list[Example]]:
    """What is out of scope, to train and to measure on."""
    outside = read_examples(root / "clinc150/oos_train.jsonl") * 2
    for path, intents in (
        ("clinc150/train.jsonl", CLINC_FAR_FROM_HOME),
        ("hwu64/train.jsonl", HWU64_FAR_FROM_HOME_ASSISTANT),
    ):
        lines = [e for e in read_examples(root / path) if e.intent in intents]
        outside += rng.sample(lines, min(LINES_OUTSIDE, len(lines)))
    return outside, read_examples(root / "clinc150/oos_val.jsonl")
