"""Questions made from passages: 718 written ones are too few to learn from where in a passage an answer stands.

A phrase of a sentence is the answer, the sentence without it the question (cloze questions, Lewis et al. 2019): a
question word takes the phrase's place and comes first, some other words are lost. Phrases are the runs of words between
stop words and punctuation (as in RAKE, Rose et al. 2010), preferably names and numbers, as in written questions.
"""

import random
import re

from text_data import Question

STOP_WORDS = frozenset(
    """a about after against all also although among an and any are as at be because been before being between both but
    by can could did do does during each even for from had has have he her his how however i if in including into is it
    its itself like many may more most much no not of often on one only or other over she since so some such than that
    the their them then there these they this those through to under until up upon used usually was we well were what
    when where which while who whose will with within without would you""".split()
)
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“])")
WORD = re.compile(r"\w+(?:[-'’.,]\w+)*")
LONGEST_ANSWER = 5
LOST_SHARE = 0.25
CROPPED_SHARE = 0.6


def phrases(sentence: str) -> list[tuple[int, int]]:
    """Runs of words that are no stop words and have only white space between them."""
    found: list[tuple[int, int]] = []
    for match in WORD.finditer(sentence):
        if match.group().lower() in STOP_WORDS:
            continue
        if found and sentence[found[-1][1] : match.start()] == " ":
            found[-1] = (found[-1][0], match.end())
        else:
            found.append(match.span())
    return [(a, b) for a, b in found if len(sentence[a:b].split()) <= LONGEST_ANSWER]


def question_word(answer: str, rng: random.Random) -> str:
    """What asks for such an answer."""
    if re.fullmatch(r"1\d\d\d|20\d\d", answer):
        return rng.choice(["when", "in what year", "what year"])
    if answer[0].isdigit():
        return rng.choice(["how many", "how much", "what", "when"])
    if answer[0].isupper():
        return rng.choice(["who", "what", "which", "where"])
    return rng.choice(["what", "what", "which", "how"])


def cloze(passage: str, rng: random.Random) -> Question | None:
    """One made-up question, or none where no phrase was found."""
    start = 0
    sentences = []
    for part in SENTENCE.split(passage):
        start = passage.index(part, start)
        sentences.append((start, part))
        start += len(part)
    at, sentence = rng.choice(sentences)
    # A capital at the start of a sentence says nothing.
    candidates = [(a, b) for a, b in phrases(sentence) if a > 0]
    if not candidates:
        return None
    weights = [4 if sentence[a].isdigit() or sentence[a].isupper() else 1 for a, _ in candidates]
    a, b = rng.choices(candidates, weights)[0]
    before, after = WORD.findall(sentence[:a]), WORD.findall(sentence[b:])
    if rng.random() < CROPPED_SHARE:
        before, after = before[-rng.randint(2, 7) :], after[: rng.randint(2, 7)]
    kept = [word for word in before + after if rng.random() >= LOST_SHARE]
    if len(kept) < 3:
        return None
    text = " ".join([question_word(sentence[a:b], rng), *kept]) + "?"
    return Question(text, passage, sentence[a:b], at + a)


def clozes(passages: list[str], count: int, rng: random.Random) -> list[Question]:
    """At most `count` made-up questions about these passages."""
    made = (cloze(rng.choice(passages), rng) for _ in range(count))
    return [question for question in made if question is not None]
