"""The text tasks: what is read, what is made up, and every stage to a bundle on made-up data."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

TRAINING = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TRAINING))

import build as building  # noqa: E402
import recipe  # noqa: E402
import text_evaluate  # noqa: E402
import text_lines  # noqa: E402
import text_stages  # noqa: E402
import text_train  # noqa: E402
from bundle import write_bundle  # noqa: E402
from evaluate import Calibration  # noqa: E402
from intent_bundle import IntentContents  # noqa: E402
from labels import Labels  # noqa: E402
from made_up import LETTERS, WORDS, write  # noqa: E402
from model import Encoder, Shape, Understander, set_quantised  # noqa: E402
from qa_bundle import is_clear_answer  # noqa: E402
from reading import read_bundle  # noqa: E402
from text_answers import LONGEST_ANSWER, Answer, AnswerCalibration, answer, best_span, overlap, sentences_of  # noqa: E402
from text_bundle import read_text_bundle, steady_entities  # noqa: E402
from text_cloze import clozes, phrases  # noqa: E402
from text_data import Question, TextData, unanswerable  # noqa: E402
from text_evaluate import TextLogits, run_texts  # noqa: E402
from text_input import MAX_TOKENS, OVERLAP, QUESTION_PIECES, Window, encode_texts, letter_case, windows  # noqa: E402
from text_lines import place  # noqa: E402
from vocabulary import SPECIAL, build_tokenizer, encode  # noqa: E402

PROGRAM = os.environ.get("INTENTD_PROGRAM")

PIECES = [*SPECIAL, *LETTERS, *(f"##{c}" for c in LETTERS), *(w for w in WORDS if len(w) > 1)]
PASSAGE = "Ada Keller went to Bergen in 1911. The hall of the town was built by two sisters. In winter it is dark."

SIZES = """
[sizes.small]
layers = 2
hidden = 32
heads = 4
feed_forward = 64
groups = 4
max_tokens = 128
vocabulary = 70
distil_tokens = 0
joint_epochs = 0

[bundles.text-en]
task = "text"
size = "small"
vocabulary = 66
epochs = 5
limit = 200_000
title = "made-up texts"
start = "home-en"
tuned_teacher = true
"""


@pytest.mark.parametrize(
    ("word", "kind"),
    [("lamp", 0), ("日本", 0), ("17", 0), ("Lamp", 1), ("I", 1), ("Ä", 1), ("BBC", 2), ("A1B", 2), ("4K", 1), ("iPad", 3), ("McKay", 3)],
)
def test_the_case_of_a_word(word, kind):
    assert letter_case(word) == kind


def test_every_piece_has_the_case_of_its_word():
    (read,) = encode_texts(build_tokenizer(PIECES), ["Zoe is ON."])
    assert read.types == [0, 1, 1, 1, 0, 2, 0, 0]


def test_windows_overlap_and_cover_the_passage():
    reader = build_tokenizer(PIECES)
    passage = " ".join(random.Random(0).choice(["light", "Kitchen", "x"]) for _ in range(300))
    made = windows(reader, "what is it " * 40, passage)
    assert len(made) > 2 and all(len(w.ids) <= MAX_TOKENS for w in made)
    assert all(w.first == QUESTION_PIECES + 2 for w in made)
    spans = [encoding for encoding in reader.encode(passage).offsets[1:-1]]
    assert made[0].spans == spans[: len(made[0].spans)] and made[-1].spans[-1] == spans[-1]
    for before, after in zip(made, made[1:], strict=False):
        assert before.spans[-OVERLAP:] == after.spans[:OVERLAP]
    for w in made:
        assert len(w.types) == len(w.ids) and set(w.types[w.first :]) <= {4, 5} and max(w.types[: w.first]) < 4
    assert windows(reader, "what", "") == []


def test_a_passage_that_just_fits_is_one_window():
    reader = build_tokenizer(PIECES)
    room = MAX_TOKENS - 1 - 3
    assert [len(w.ids) for w in windows(reader, "what", " ".join(["x"] * room))] == [MAX_TOKENS]
    assert len(windows(reader, "what", " ".join(["x"] * (room + 1)))) == 2


def test_an_answer_is_placed_where_all_of_it_stands():
    reader = build_tokenizer(PIECES)
    start = PASSAGE.index("two sisters")
    (window,) = windows(reader, "who", PASSAGE)
    first, last = place(window, Question("who", PASSAGE, "two sisters", start))
    spans = window.spans
    assert (spans[first - window.first][0], spans[last - window.first][1]) == (start, start + len("two sisters"))
    assert place(window, Question("who", PASSAGE, "x", len(PASSAGE) + 5)) is None


def test_the_best_span_is_legal():
    window = Window([0] * 46, [], 5, list(range(40)), [(i, i + 1) for i in range(40)], [])
    logits = np.zeros((46, 2), np.float32)
    logits[35, 0], logits[8, 1], logits[6, 0] = 5, 5, 4
    score, first, last, runner_up = best_span(window, logits)
    assert (score, first, last) == (9, 1, 3) and runner_up == 5
    logits[8, 1], logits[6 + LONGEST_ANSWER, 1] = 0, 5
    assert best_span(window, logits)[0] == 5, "one word too long"
    logits[5 + LONGEST_ANSWER, 1] = 6
    assert best_span(window, logits)[:3] == (10, 1, LONGEST_ANSWER)


def test_a_span_stands_in_one_sentence_and_counts_with_its_likeness():
    window = Window([0] * 46, [], 5, list(range(40)), [(i, i + 1) for i in range(40)], [])
    logits = np.zeros((46, 2), np.float32)
    logits[8, 0], logits[17, 1] = 5, 6
    assert best_span(window, logits)[:3] == (11, 3, 12)
    assert best_span(window, logits, [(0, 1.0), (10, 3.0), (25, 0.0)])[:3] == (9, 10, 12)
    assert best_span(window, logits, [(0, 1.0), (10, -3.0), (25, 0.0)])[:3] == (6, 3, 3)


def test_a_sentence_ends_where_a_capital_follows():
    def parts(passage):
        assert all(passage[start:].startswith(text) for start, text in sentences_of(passage))
        return [text for _, text in sentences_of(passage)]

    # The daemon splits the same texts alike.
    assert parts("It is on. The lamp, too!  Why? “No.” said e.g. he.") == [
        "It is on.",
        "The lamp, too!",
        "Why?",
        "“No.” said e.g. he.",
    ]
    assert parts("3.5 litres. \n\t A pump.No space. é") == ["3.5 litres.", "A pump.No space. é"]
    assert parts(" . A") == [" .", "A"]
    assert parts("") == [""]


def test_an_answer_that_hovers_tests_nothing():
    best, fitted = Answer(0, 3, 9, margin=4.0, runner_up=1.0, windows=[]), AnswerCalibration(1.0, 0.0)
    assert is_clear_answer(best, [replace(best, margin=4.1)], fitted)
    for nudged in (replace(best, margin=3.0), replace(best, start=4)):
        assert not is_clear_answer(best, [best, nudged], fitted)
    assert not is_clear_answer(replace(best, margin=0.1), [], fitted)
    assert not is_clear_answer(replace(best, runner_up=0.1), [], fitted)


def test_entities_that_hover_between_two_readings_test_nothing():
    (line,) = encode_texts(build_tokenizer(PIECES), ["turn on"])
    # A word that begins a name, and one that stands 1.0 nearer to none than to the rest of it.
    scores = np.array([[9.0, 0, 0], [0, 9, 0], [1, 0, 0], [9, 0, 0]])
    a = TextLogits(line, np.zeros(2), scores, np.zeros(1))
    for drawn, steady in ((0.0, True), (0.9, False), (1.1, False), (2.0, True)):
        transitions = np.zeros((3, 3))
        transitions[1, 2] = drawn
        labels = Labels([], ["O", "B-x", "I-x"], transitions)
        assert (steady_entities(labels, 0.0, a, [a]) is not None) == steady, drawn
    other = replace(a, tags=scores[::-1])
    assert steady_entities(Labels([], ["O", "B-x", "I-x"]), 0.0, a, [a, other]) is None


def test_overlap_is_that_of_squad():
    assert overlap("The two sisters.", "two sisters") == 1
    assert overlap("two brothers", "two sisters") == 0.5
    assert overlap("", "two") == 0


def test_made_up_questions_keep_their_answers():
    made = clozes([PASSAGE], 60, random.Random(1))
    assert len(made) > 20
    assert all(PASSAGE[q.start : q.start + len(q.answer)] == q.answer and q.text.endswith("?") for q in made)
    assert {"1911", "Bergen"} <= {q.answer for q in made}
    assert [PASSAGE[a:b] for a, b in phrases("Ada Keller went to Bergen")] == ["Ada Keller went", "Bergen"]


def test_no_question_gets_its_own_passage():
    questions = [Question(str(i), f"passage {i % 3}", "x") for i in range(20)]
    for q, other in zip(questions, unanswerable(questions, 1), strict=True):
        assert other.passage != q.passage and other.answer == ""


def test_a_committed_encoder_in_f32_stands_near_its_file():
    """A bundle's integers times their scales are where the student starts."""
    folder = TRAINING.parent / "models/home-en"
    read = read_bundle(folder)
    session = onnxruntime.InferenceSession(str(folder / "encoder.onnx"), providers=["CPUExecutionProvider"])
    read.model.eval()
    for line in encode(read.tokenizer, ["turn on the light in the hall", "an honest and moving film about two sisters"]):
        (expected,) = session.run(None, {"input_ids": np.array([line.ids])})
        for quantised, least in ((False, 0.99), (True, 0.9999)):
            set_quantised(read.model, quantised)
            with torch.no_grad():
                got = read.model.encoder(torch.tensor([line.ids]))[-1].transpose(1, 2).numpy()
            assert (got * expected).sum() / np.linalg.norm(got) / np.linalg.norm(expected) > least


def sentences(rng: random.Random, count: int) -> list[dict]:
    """Good and bad rooms, some of them named."""
    made = {}
    for _ in range(count * 20):
        label, word = rng.choice([("positive", "light"), ("negative", "darken")])
        name = rng.choice(["Ada", "Bo", "Cid", "Dora", "Eli", "Fay", "Gus"])
        text = f"{rng.choice(WORDS)} {word} {rng.choice(WORDS)} {name} {rng.choice(WORDS)}"
        start = text.index(name)
        slots = [{"name": "person", "value": name, "start": start, "end": start + len(name)}]
        made[text] = {"text": text, "label": label, "intent": None, "slots": slots}
    return list(made.values())[:count]


def questions(rng: random.Random, count: int) -> list[dict]:
    made = []
    for number in range(count):
        year = str(1900 + number)
        context = f"{rng.choice(WORDS)} the {rng.choice(WORDS)} of Ada was in {year}. The light of the {rng.choice(WORDS)} is on now."
        answers = [{"text": year, "start": context.index(year)}]
        made.append({"context": context, "question": "what year was it in of Ada", "answers": answers})
    return made


@pytest.fixture(scope="module")
def text_data(data, tmp_path_factory) -> Path:
    """The made-up sets of the other tasks, and those of the text tasks."""
    rng, root = random.Random(5), tmp_path_factory.mktemp("text-data")
    for folder in ("hwu64", "snips", "clinc150", "slurp", "text"):
        (root / folder).symlink_to(data / folder)
    everything = sentences(rng, 260)
    for name, valid in (("sentiment", "valid"), ("wnut17", "dev")):
        write(root / name / "train.jsonl", everything[:220])
        write(root / name / f"{valid}.jsonl", everything[220:])
    asked = questions(rng, 40)
    write(root / "qa/train.jsonl", asked[:30])
    write(root / "qa/valid.jsonl", [{**q, "question": q["question"] + " then"} for q in asked[30:]])
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with a bundle to start from, with random weights."""
    torch.manual_seed(4)
    shape = Shape(len(PIECES), groups=4, layers=2, hidden=32, heads=4, feed_forward=64)
    labels = Labels.of(["light_on"], ["room"])
    model = Understander(Encoder(shape), len(labels.intents), len(labels.tags))
    # Clear answers, or nothing tests it.
    torch.nn.init.normal_(model.intent.weight)
    model.slots.bias.data[0] = 100.0
    folder = tmp_path_factory.mktemp("models")
    fitted = Calibration(1.0, recognized=0.0, not_recognized=0.0, slots_temperature=1.0)
    contents = IntentContents(
        name="home-en",
        size="small",
        model=model,
        tokenizer=build_tokenizer(PIECES),
        labels=labels,
        calibration=fitted,
        card="card",
    )
    write_bundle(folder / "home-en", contents, 10**6)
    return folder


def agrees(folder: Path, data: Path, here: dict) -> None:
    """The daemon's program, where there is one, opens the bundle and prints the same figures."""
    if PROGRAM is None:
        return
    subprocess.run([PROGRAM, "model", "verify", str(folder)], check=True, stdout=subprocess.DEVNULL)
    for task, file, figure, expected in (
        ("sentiment", "sentiment/valid", "accuracy", here["sentiment_accuracy"]),
        ("entities", "wnut17/dev", "f1", here["entities"]["f1"]),
        ("qa", "qa/valid", "f1", here["qa"]["f1"]),
    ):
        command = [PROGRAM, "eval", "--json", "--task", task, "--bundle", str(folder), "--data", str(data / f"{file}.jsonl")]
        answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        assert answer[figure] == pytest.approx(expected, abs=6e-5), (task, answer, here)


def test_every_stage_leads_to_a_bundle(text_data, teacher, models, tmp_path, monkeypatch):
    tiny = tmp_path / "bundles.toml"
    tiny.write_text(SIZES)
    monkeypatch.setattr(recipe, "FILE", tiny)
    monkeypatch.setattr(text_train, "TOKENS_PER_BATCH", 160)
    monkeypatch.setattr(text_train, "SAVE_SECONDS", 3)
    monkeypatch.setattr(text_evaluate, "PROBE_STEPS", 5)
    monkeypatch.setattr(text_lines, "CLOZES", 20)
    monkeypatch.setattr(text_stages, "FITTED_LINES", 200)
    for name, epochs, rate in (("TEACHER_SCHEDULE", 4, 2e-3), ("STUDENT_SCHEDULE", 0, 4e-3)):
        schedule = building.replace(getattr(text_stages, name), epochs=epochs, rate=rate, head_rate=1e-2)
        monkeypatch.setattr(text_stages, name, schedule)
    made = building.Build(text_data, tmp_path / "work", teacher)
    folder = models / "text-en"
    figures = made.bundle(recipe.recipes()["text-en"], folder)
    assert figures["int8"]["sentiment_accuracy"] >= 0.9, figures
    assert figures["int8"]["entities"]["f1"] >= 0.8, figures
    assert "## Not good for" in (folder / "CARD.md").read_text()
    # A second build finds every stage's result and writes the same bytes; so does one that lost the last stage's result.
    before = (folder / "manifest.toml").read_bytes()
    (tmp_path / "work/text-en/student.pt").unlink()
    building.Build(text_data, tmp_path / "work", teacher).bundle(recipe.recipes()["text-en"], folder)
    assert (folder / "manifest.toml").read_bytes() == before

    agrees(folder, text_data, figures["int8"])
    read = read_text_bundle(folder)
    vectors = [json.loads(line) for line in (folder / "selftest.jsonl").read_text().splitlines()]
    texts = [v for v in vectors if "text" in v]
    for vector, a in zip(texts, run_texts(read.model, read.tokenizer, [v["text"] for v in texts], True), strict=True):
        assert vector["segment_ids"] == a.encoded.types and np.allclose(vector["embedding"], a.embedding, atol=1e-3)
    session = onnxruntime.InferenceSession(str(folder / "encoder.onnx"), providers=["CPUExecutionProvider"])
    question = TextData(text_data, 20).questions_valid[0]
    set_quantised(read.model, True)
    best = answer(read.model, read.tokenizer, question.text, [question.passage])
    (window,) = best.windows
    inputs = {"input_ids": np.array([window.ids]), "segment_ids": np.array([window.types])}
    (hidden,) = session.run(None, inputs)
    head = onnxruntime.InferenceSession(str(folder / "heads/qa.onnx"), providers=["CPUExecutionProvider"])
    (logits,) = head.run(None, {"hidden": hidden})
    score, first, last, _ = best_span(window, logits[0].T)
    assert abs(score - logits[0, :, 0].sum() - best.margin) < 0.1
