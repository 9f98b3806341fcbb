"""What the card of `home-assistant-en` says that no other bundle's does: its origin, its slots, its measure and its peer."""

from compare_hassil import compare
from tasks import Task

ORIGIN = """\
## Data
| data | used for | licence |
| --- | --- | --- |
| `models/home-en` and all that stands in its card | encoder and wordpieces to start from | Apache-2.0 |
| home-assistant-intents 2026.10.27 (Open Home Foundation, contributors of OHF-Voice/intents), English sentence templates, sampled | intents and slots | Apache-2.0 (package), CC BY 4.0 (its source) |
| templates, names and values of our own (`training/home_assistant_data`) | intents and slots | Apache-2.0 or MIT |
| HWU64 (Liu, Eshghi, Swietojanski, Rieser 2019), train of fold 1: lights, sockets, cleaning, volume, weather | labels; other intents out of scope | CC BY 4.0 |
| CLINC150 (Larson et al. 2019), train and `oos_train`: time, date, greetings, cancel, next song | labels; far intents out of scope | CC BY 3.0 |
| SNIPS (Coucke et al. 2018), train: one piece of music, weather of one city; titles | labels, values | CC0 1.0 |

Trained on {train:,} lines. Of Home Assistant's template blocks about 15 % of every intent that has more than one are held
out, whole: no line with the frame of one of them is trained on, whichever source it came from. Left out of the measure are
lines that the templates themselves can read as two intents. The weights are published under Apache-2.0; the attributions
above belong to them.

## Recipe
The encoder of `home-en` and new heads, trained on the labels alone; politeness, fillers, lost and misheard words, missing
punctuation; the last epoch in the int8 arithmetic.
"""

WEAK_SLOTS = """\
- Several commands in one sentence, and relative brightness ("dimmer"), which Home Assistant's own sentences lack too.
- Telling a name from an area and a kind where only the home's list can ("porch light"): see the slots above.
"""

MORE = """\
## Free paraphrases
100 sentences in `training/paraphrases.jsonl`, written from the names of intents and slots alone before any template was read.
Nothing was trained or tuned on them, nor on any line of the same frame; but the one who wrote them wrote our templates later,
so read them with the next row: requests that people typed for HWU64 (validation lines of lights, sockets, cleaning, volume and
weather; only their words for rooms, devices, colours and places are labelled there, with much noise, so look at the intent).

| | lines | intent, f32 | intent, int8 | intent and slots, f32 | intent and slots, int8 |
| --- | --- | --- | --- | --- | --- |
| held-out blocks, names of the lists that train (aim 98 %) | {valid} |
| held-out blocks, names that no training line has | {new_names} |
| free paraphrases (aim 90 %) | {paraphrases} |
| people's requests, HWU64 | {requests} |

The peer is what a home has today: hassil with the same templates, strict, given exactly the names, areas and floors of the
lines and every doubt. Of the {lines} paraphrases it matches {matched}, {with_intent} with the intent and {right} with intent and
slots; of the held-out lines all, since they are its own sentences.

## Slots
Names of intents and slots are Home Assistant's. A slot is a span of words, without its article. What they mean:

- `name`, `area`, `floor`: with the home's own list in `model.names` the daemon resolves them and finds more of them. Without it
  compare yourself: the noun behind belongs to the span ("bedside lamp", "first floor"); try without it too. In "porch light"
  the model chooses between a name, and an area with a domain.
- `domain` holds the words that say it: light(s), lamp(s) are `light`; fan(s) `fan`; switch(es) `switch`; door(s), lock(s) with
  `state` locked or unlocked `lock`; who, anyone, everybody `person`. Where no word says it, the intent does: HassLightSet is
  `light`, HassSetPosition and any `device_class` is `cover`.
- `device_class` is the kind of cover: blinds, curtains, shutters, garage door.
- `state`: as said ("shut" is Home Assistant's `closed`).
- `brightness`, `percentage`, `position`, `volume_level`, `temperature`, `hours`, `minutes`, `seconds` and `start_...`: the number
  alone; half an hour is `minutes` = "half". The daemon resolves numbers, in words too.
- `volume_step`: the direction ("up", "louder"), the number, or both as two slots.
- Intents with neither name nor area are meant for the area of the device that heard them.

"""


def _row(figures: dict, name: str) -> str:
    f32, int8 = figures[f"{name}_f32"], figures[f"{name}_int8"]
    shares = (f32["intent_accuracy"], int8["intent_accuracy"], f32["frame_accuracy"], int8["frame_accuracy"])
    return f"{int8['examples']} | " + " | ".join(f"{share:.1%}" for share in shares)


def render(figures: dict, task: Task) -> str:
    """The sections with their figures."""
    counts = compare(task.also["paraphrases"])
    return MORE.format(
        **{name: _row(figures, name) for name in ("valid", "new_names", "paraphrases", "requests")},
        lines=counts.lines,
        matched=counts.matched,
        with_intent=counts.with_intent,
        right=counts.right,
    )
