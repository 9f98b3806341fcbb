"""What people and speech recognition do to a sentence: politeness, fillers, words that get lost or misheard.

Slots keep their place: words in them are misheard at most, never lost.
"""

import random
import re

from data import Example
from sampling import join, split

POLITE, NOISY, UNSPELLED = 0.35, 0.12, 0.25
"""The shares of lines that get polite words, one fault of recognition, and that lose punctuation and apostrophes."""

BEFORE_REQUEST = (
    "please;can you;could you;would you;can you please;could you please;will you;hey;ok;okay;hey,;so;um;uh;well;right,;"
    "now;just;go ahead and;i want you to;i'd like you to;i need you to;you can;you may;let's;quickly;would you please;"
    "do me a favor and;be so kind and;if you can,;hi,;alright,;and now;then;first;also;computer,;house,;listen,;"
    "when you can,;could you maybe;can you quickly;you should;it would be nice if you could;maybe"
).split(";")
AFTER_REQUEST = (
    "please;for me;now;right now;for me please;thanks;thank you;would you;will you;if you can;if possible;right away;ok;"
    "then;again;already;when you can;quickly;real quick;if you don't mind;immediately;at once;a bit later;dear;buddy"
).split(";")
BEFORE_QUESTION = (
    "hey;so;um;tell me,;please tell me,;do you know,;can you tell me,;ok;i wonder,;say,;hey,;quick question,;well;"
    "could you tell me,;just wondering,;and;hi,;alright,;please"
).split(";")
AFTER_QUESTION = "please;right now;at the moment;currently;now;again;by the way;do you know;actually;then".split(";")
# What may stand before a sentence that is no request in form ("it's dark in here").
BEFORE_STATEMENT = "hey;so;um;uh;well;ok;okay;hey,;listen,;please;alright;house,".split(";")
STATEMENT = re.compile(r"(i|i'm|i've|i'd|we|we're|we've|it's|it|the|my|our|that's|this|there|there's|no|don't|\W*\d+)\b")
QUESTIONS = ("HassGet", "HassClimateGet", "HassTimerStatus")

# Misheard for each other.
HOMOPHONES = (
    "to too two;for four;off of;light lite;lights lites;right write;by buy;night knight;hall haul;our are;their there;"
    "dim dem;blinds blind;fan van;set sit;turn term;in and;the a;mute moot;stairs stares;close clothes;lock log;"
    "song sung;track truck;add at;it's its;what's whats;how's hows;where's wheres;whether weather;is as;put but;"
    "volume volumes;timer time;timer timers;pause paws;lamp lamb;door doors;window windows;one won;eight ate;"
    "open opened;play plane;vacuum vacuums;heat eat;on in;up app"
).split(";")
LOST = frozenset("the a an to of in on at my our is are please for and can you it with that this some".split())


def _misheard() -> dict[str, list[str]]:
    heard: dict[str, list[str]] = {}
    for group in HOMOPHONES:
        for word in group.split():
            heard.setdefault(word, []).extend(other for other in group.split() if other != word)
    return heard


MISHEARD = _misheard()


def as_spoken(example: Example, rng: random.Random) -> Example:
    """The line as it may arrive, or as it is."""
    if rng.random() < POLITE:
        example = polite(example, rng)
    if rng.random() < NOISY:
        example = rng.choice((lose_a_word, mishear_a_word))(example, rng)
    if rng.random() < UNSPELLED:
        example = unspell(example)
    return example


def polite(example: Example, rng: random.Random) -> Example:
    """Words before or after, or both."""
    question = example.intent.startswith(QUESTIONS)
    before, after = (BEFORE_QUESTION, AFTER_QUESTION) if question else (BEFORE_REQUEST, AFTER_REQUEST)
    if STATEMENT.match(example.text):
        before = BEFORE_STATEMENT
    segments = split(example)
    where = rng.random()
    if where < 0.65:
        segments.insert(0, (rng.choice(before) + " ", None))
    if where > 0.5:
        segments.append((" " + rng.choice(after), None))
    return join(segments, example.intent)


def lose_a_word(example: Example, rng: random.Random) -> Example:
    """One small word outside of slots is gone."""
    return _change_a_word(example, rng, lambda word, slot: slot is None and word in LOST, lambda _: "")


def mishear_a_word(example: Example, rng: random.Random) -> Example:
    """One word is another one that sounds alike."""
    return _change_a_word(example, rng, lambda word, _: word in MISHEARD, lambda word: rng.choice(MISHEARD[word]))


def _change_a_word(example: Example, rng: random.Random, may, change) -> Example:
    pieces = [(word, slot) for text, slot in split(example) for word in re.split(r"(\s+)", text) if word]
    places = [i for i, (word, slot) in enumerate(pieces) if may(word.lower(), slot)]
    if not places:
        return example
    place = rng.choice(places)
    pieces[place] = (change(pieces[place][0].lower()), pieces[place][1])
    return join(pieces, example.intent)


def unspell(example: Example) -> Example:
    """Without apostrophes, commas and hyphens, as some recognisers write."""
    plain = [(re.sub(r"(?<=\w)-(?=\w)", " ", re.sub(r"[',?!]", "", text)), slot) for text, slot in split(example)]
    return join(plain, example.intent)
