"""Seconds, not minutes: tiny random models and hand-written vocabularies, no data sets."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bundle import write_bundle  # noqa: E402
from data import Example, Slot, SlotValues, normalise, swap_slot_values  # noqa: E402
from distil import Words  # noqa: E402
from evaluate import (  # noqa: E402
    Calibration,
    Logits,
    calibration_error,
    choose_thresholds,
    fit_temperature,
    measure,
    probabilities,
    rejection,
    run,
)
from export import export_encoder, export_intent_head, export_token_head  # noqa: E402
from finetune import augmented  # noqa: E402
from initialise import Moments, assign, fit, start_smaller  # noqa: E402
from intent_bundle import IntentContents, are_clear_tags, is_clear_intent  # noqa: E402
from labels import NO_TAG, Labels, decode_slots, tag_pieces, tag_transitions  # noqa: E402
from model import Encoder, Pointwise, Shape, Understander, set_quantised  # noqa: E402
from quantise import quantise_rows, quantise_weight  # noqa: E402
from reading import read_bundle  # noqa: E402
from vocabulary import SPECIAL, build_tokenizer, encode, prune  # noqa: E402

LETTERS = [*"abcdefghijklmnopqrstuvwxyz0123456789.,"]
PIECES = [
    *SPECIAL,
    "[MASK]",
    *LETTERS,
    *(f"##{c}" for c in LETTERS),
    "light",
    "##s",
    "turn",
    "on",
    "the",
    "at",
    "seven",
]
PIECES = list(dict.fromkeys(PIECES))
LABELS = Labels.of(["light_on", "alarm"], ["device", "time"])


def one_hot(tags: list[str]) -> np.ndarray:
    return np.array([[8.0 if name == tag else 0.0 for name in LABELS.tags] for tag in tags], dtype=np.float32)


def test_tags_stand_on_first_pieces_and_split_at_punctuation():
    text = "Turn on lights, at seven."
    (encoded,) = encode(build_tokenizer(PIECES), [text])
    slots = (Slot("device", 8, 14), Slot("time", 19, 24))
    tags = tag_pieces(LABELS, encoded, slots)
    named = [LABELS.tags[t] for t in tags if t != NO_TAG]
    assert [text[a:b] for a, b in encoded.spans] == ["Turn", "on", "lights", ",", "at", "seven", "."]
    assert named == ["O", "O", "B-device", "O", "O", "B-time", "O"]
    assert tags[encoded.first_piece[2] + 1] == NO_TAG
    assert decode_slots(LABELS, encoded, one_hot([LABELS.tags[max(t, 0)] for t in tags])) == list(slots)


def test_adjacent_slots_of_one_name_stay_apart():
    (encoded,) = encode(build_tokenizer(PIECES), ["light light"])
    tags = tag_pieces(LABELS, encoded, (Slot("device", 0, 5), Slot("device", 6, 11)))
    assert [LABELS.tags[t] for t in tags[1:-1]] == ["B-device", "B-device"]


def test_viterbi_never_starts_or_continues_illegally():
    (encoded,) = encode(build_tokenizer(PIECES), ["turn on the light"])
    logits = np.random.default_rng(0).normal(size=(len(encoded.ids), len(LABELS.tags))) * 4
    logits[1, LABELS.tags.index("I-time")] = 20
    for slot in decode_slots(LABELS, encoded, logits):
        assert slot.start < slot.end
    illegal = one_hot(["O", "O", "I-time", "I-device", "O", "O"])
    assert len(decode_slots(LABELS, encoded, illegal)) <= 2


def test_transitions_count_what_follows_what():
    text = "turn on light at seven"
    (encoded,) = encode(build_tokenizer(PIECES), [text])
    slots = (Slot("device", 8, 13), Slot("time", 17, 22))
    scores = tag_transitions(LABELS, [encoded] * 50, [slots] * 50)
    o, device, time = (LABELS.tags.index(tag) for tag in ("O", "B-device", "B-time"))
    assert np.allclose(np.exp(scores).sum(1), 1)
    assert scores[device].argmax() == o and scores[time, device] < scores[o, device]


def test_transitions_decide_between_tags_that_score_alike():
    (encoded,) = encode(build_tokenizer(PIECES), ["turn on light"])
    logits = one_hot(["O", "O", "B-device", "B-device", "O"])
    logits[3, LABELS.tags.index("I-device")] = 7.5
    assert len(decode_slots(LABELS, encoded, logits)) == 2
    transitions = np.zeros((len(LABELS.tags), len(LABELS.tags)))
    transitions[LABELS.tags.index("B-device"), LABELS.tags.index("I-device")] = 1
    (slot,) = decode_slots(replace(LABELS, transitions=transitions), encoded, logits)
    assert (slot.start, slot.end) == (5, 13)


def test_offsets_count_code_points():
    text = "🙂 é light"
    (encoded,) = encode(build_tokenizer(PIECES), [text])
    assert [text[a:b] for a, b in encoded.spans] == ["🙂", "é", "light"]


def test_an_empty_utterance_has_no_words():
    (encoded,) = encode(build_tokenizer(PIECES), [""])
    assert encoded.first_piece == [] and len(encoded.ids) == 2
    assert decode_slots(LABELS, encoded, np.zeros((2, len(LABELS.tags)))) == []


def test_special_tokens_in_text_are_text():
    (encoded,) = encode(build_tokenizer(PIECES), ["[SEP]"])
    assert encoded.ids.count(PIECES.index("[SEP]")) == 1


def test_pruning_keeps_every_character_and_the_frequent():
    kept = prune(PIECES, ["lights on"] * 3, size=len(SPECIAL) + 2 * len(LETTERS) + 3)
    assert set(SPECIAL) <= set(kept) and {p for p in PIECES if len(p.removeprefix("##")) == 1} <= set(kept)
    assert "light" in kept and "on" in kept and "[MASK]" not in kept
    assert kept == [p for p in PIECES if p in set(kept)]


def test_rows_quantise_to_symmetric_integers_half_to_even():
    integers, scale = quantise_rows(torch.tensor([[127.0, 0.5, 1.5, -2.5, -127.0], [0.0] * 5]))
    assert integers[0].tolist() == [127, 0, 2, -2, -127] and scale[0].item() == pytest.approx(1)
    assert integers[1].tolist() == [0] * 5 and scale[1].item() == pytest.approx(1e-8)


def test_weights_have_seven_bits_and_safe_pairs():
    integers, scale = quantise_weight(torch.randn(4, 8, 16))
    assert integers.abs().max() == 64 and scale.shape == (4, 8)
    assert (integers[..., ::2].abs() + integers[..., 1::2].abs()).max() <= 128
    assert (integers * scale[..., None]).shape == (4, 8, 16)


def test_quantised_layer_equals_integer_arithmetic():
    torch.manual_seed(1)
    layer = Pointwise(32, 16, groups=4)
    layer.quantised = True
    x = torch.randn(5, 32)
    got = layer(layer.prepare(x)).detach().numpy()
    rows, row_scale = (t.numpy() for t in quantise_rows(x))
    weight, channel_scale = (t.detach().numpy() for t in quantise_weight(layer.weight))
    for output in range(16):
        group, row = divmod(output, 4)
        sums = rows[:, group * 8 : group * 8 + 8].astype(np.int64) @ weight[group, row].astype(np.int64)
        expected = sums.astype(np.float32) * row_scale[:, 0] * channel_scale[group, row]
        assert np.array_equal(got[:, output], expected)


def test_rounding_passes_gradients():
    x = torch.randn(3, 8, requires_grad=True)
    integers, scale = quantise_rows(x)
    (integers * scale).sum().backward()
    assert torch.allclose(x.grad, torch.ones_like(x))


def small_model() -> Understander:
    torch.manual_seed(2)
    shape = Shape(vocabulary=50, groups=4, layers=2, hidden=32, heads=4, feed_forward=64, max_tokens=16)
    return Understander(Encoder(shape), intents=3, tags=5).eval()


def test_padding_changes_nothing():
    model = small_model()
    ids = torch.tensor([[2, 7, 9, 3], [2, 5, 3, 0]])
    present = torch.tensor([[True] * 4, [True, True, True, False]])
    with torch.no_grad():
        intent, tags = model(ids, present)
        alone_intent, alone_tags = model(ids[1:, :3])
    assert torch.allclose(intent[1], alone_intent[0], atol=1e-5)
    assert torch.allclose(tags[1, :3], alone_tags[0], atol=1e-5)


@pytest.mark.parametrize("length", [2, 3, 16])
def test_exported_files_agree_with_the_model(tmp_path, length):
    model = small_model()
    export_encoder(model.encoder, tmp_path / "encoder.onnx")
    export_intent_head(model.intent, tmp_path / "heads/intent.onnx")
    export_token_head("slots", model.slots, tmp_path / "heads/slots.onnx")
    set_quantised(model, True)
    ids = torch.randint(0, 50, (1, length))
    with torch.no_grad():
        hidden = model.encoder(ids)[-1]
        intent, tags = model(ids)

    def session(name):
        return onnxruntime.InferenceSession(str(tmp_path / name), providers=["CPUExecutionProvider"])

    (got,) = session("encoder.onnx").run(None, {"input_ids": ids.numpy()})
    exact = hidden.transpose(1, 2).numpy()
    assert got.shape == (1, 32, length)
    # A rounding that flips early moves later values by a step, so closeness of direction is what can be asked for.
    assert (got * exact).sum() / np.linalg.norm(got) / np.linalg.norm(exact) > 0.9999
    (logits,) = session("heads/intent.onnx").run(None, {"hidden": exact})
    assert np.allclose(logits[0, :, 0], intent[0].numpy(), atol=1e-2)
    (logits,) = session("heads/slots.onnx").run(None, {"hidden": exact})
    assert np.allclose(logits[0], tags[0].T.numpy(), atol=1e-2)


def test_word_means_average_pieces():
    (encoded,) = encode(build_tokenizer(PIECES), ["lights on"])
    states = torch.arange(len(encoded.ids), dtype=torch.float)[None, :, None].expand(1, -1, 2)
    assert Words([encoded]).means(states)[:, 0].tolist() == [0.0, 1.5, 3.0, 4.0]


def test_fit_is_exact_where_the_teacher_is_block_diagonal():
    torch.manual_seed(3)
    rows = torch.randn(400, 8)
    moments = Moments(8)
    moments.add(rows)
    dense = torch.zeros(4, 8, dtype=torch.float64)
    dense[:2, :4], dense[2:, 4:] = torch.randn(2, 4), torch.randn(2, 4)
    bias = torch.randn(4, dtype=torch.float64)
    layer = Pointwise(8, 4, groups=2)
    fit(layer, dense, bias, moments, torch.arange(8))
    expected = rows.double() @ dense.T + bias
    assert torch.allclose(layer(layer.prepare(rows)).double(), expected, atol=2e-2)


def test_assignment_fills_groups_evenly():
    score = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.0], [0.0, 0.8]])
    order = assign(score)
    assert set(order[:2].tolist()) == {0, 2} and set(order[2:].tolist()) == {1, 3}


def values_of(**values: list[str]) -> SlotValues:
    return SlotValues([Example(v, "x", (Slot(name, 0, len(v)),)) for name, seen in values.items() for v in seen])


def test_open_slots_get_invented_values_too():
    titles = [f"word{i} song{i}" for i in range(SlotValues.OPEN_VALUES)]
    values = values_of(title=titles, time=["noon", "dawn"] * 100)
    assert values.open == {"title"}
    drawn = {values.another("title", random.Random(i)) for i in range(200)}
    assert drawn - set(titles) and drawn & set(titles)
    assert {values.another("time", random.Random(i)) for i in range(50)} == {"noon", "dawn"}


def test_a_narrower_student_starts_in_the_teachers_directions():
    torch.manual_seed(0)
    teacher = Encoder(Shape(vocabulary=60, groups=1, layers=2, hidden=16, heads=2, feed_forward=32))
    teacher.embedding.words.data[:, 4:] *= 0.01
    student = Encoder(Shape(vocabulary=60, groups=2, layers=1, hidden=8, heads=2, feed_forward=16))
    start_smaller(student, teacher, torch.arange(60))
    wide, narrow = (torch.cdist(e.embedding.words, e.embedding.words) for e in (teacher, student))
    assert torch.allclose(wide, narrow, rtol=0.05, atol=1e-3)


def test_a_bundle_read_back_is_the_model_that_was_written(tmp_path):
    torch.manual_seed(0)
    shape = Shape(vocabulary=len(PIECES), groups=2, layers=2, hidden=16, heads=2, feed_forward=32, max_tokens=32)
    model = Understander(Encoder(shape), len(LABELS.intents), len(LABELS.tags))
    for head in (model.intent, model.slots):
        torch.nn.init.normal_(head.weight)
    tokenizer = build_tokenizer(PIECES, lowercase=False)
    calibration = Calibration(1.0, recognized=0.1, not_recognized=0.0, slots_temperature=1.0)
    transitions = np.random.default_rng(0).normal(size=(len(LABELS.tags), len(LABELS.tags))).round(2)
    labels = replace(LABELS, transitions=transitions)
    contents = IntentContents(
        name="x",
        size="tiny",
        model=model,
        tokenizer=tokenizer,
        labels=labels,
        calibration=calibration,
        card="card",
        self_test_lines=["turn on the light"],
    )
    write_bundle(tmp_path / "x", contents, 10**6)
    read = read_bundle(tmp_path / "x")
    assert (read.pieces, read.labels, read.calibration) == (PIECES, LABELS, calibration)
    assert np.array_equal(read.labels.transitions, transitions)
    assert read.tokenizer.to_str() == tokenizer.to_str()
    lines = encode(tokenizer, ["turn on the light", "at seven"])
    for ours, theirs in zip(run(model, lines, True), run(read.model, lines, True), strict=True):
        assert np.allclose(ours.intent, theirs.intent, atol=1e-4) and np.allclose(ours.tags, theirs.tags, atol=1e-4)
    with pytest.raises(ValueError, match="more than 1000"):
        write_bundle(tmp_path / "x", contents, 1000)


def test_a_committed_bundle_written_again_has_the_same_bytes(tmp_path):
    committed, written = Path(__file__).resolve().parents[2] / "models/home-en-tiny", tmp_path / "home-en-tiny"
    read = read_bundle(committed)
    contents = IntentContents(
        name=written.name,
        size="tiny",
        model=read.model,
        tokenizer=read.tokenizer,
        labels=read.labels,
        calibration=read.calibration,
        card="",
    )
    write_bundle(written, contents, 10**7)
    # Scales in f32 may come out a rounding apart: the encoder and what it answers are compared elsewhere.
    for file in ("labels.json", "calibration.json", "tokenizer.json"):
        assert (written / file).read_bytes() == (committed / file).read_bytes(), file


def test_out_of_scope_figures_agree_with_a_count():
    rng = np.random.default_rng(1)
    inside, outside = rng.uniform(0.3, 1, 200).round(2), rng.uniform(0, 0.8, 50).round(2)
    auroc, recall = rejection(inside, outside)
    pairs = [(i > o) + 0.5 * (i == o) for i in inside for o in outside]
    assert auroc == pytest.approx(np.mean(pairs))
    assert recall == np.mean(outside < np.sort(inside)[10])


def test_calibration_error_is_the_gap_of_each_bin():
    confidence, right = np.array([0.95, 0.95, 0.45]), np.array([True, False, True])
    assert calibration_error(confidence, right) == pytest.approx((0.9 + 0.55) / 3)


def test_swapping_moves_the_later_slots():
    example = Example("a at b", "alarm", (Slot("device", 0, 1), Slot("time", 5, 6)))
    swapped = swap_slot_values(example, values_of(device=["the lamp"], time=["noon"]), random.Random(0))
    assert swapped.text == "the lamp at noon"
    assert [swapped.text[s.start : s.end] for s in swapped.slots] == ["the lamp", "noon"]


def test_augmentation_never_makes_a_held_out_line():
    example = Example("a at b", "alarm", (Slot("time", 5, 6),))
    values = values_of(time=["noon", "dawn"])
    texts = {augmented(example, values, {"aatnoon"}, random.Random(i)).text for i in range(50)}
    assert texts == {"a at b", "a at dawn"}


def test_self_test_takes_clear_answers_only():
    (encoded,) = encode(build_tokenizer(PIECES), ["turn on light"])
    assert are_clear_tags(Logits(encoded, np.zeros(3), one_hot(["O"] * 5)))
    assert not are_clear_tags(Logits(encoded, np.zeros(3), np.zeros((5, len(LABELS.tags)))))
    assert are_clear_tags(Logits(encoded, np.zeros(3), np.zeros((5, 1))))
    calibration = Calibration(1.0, recognized=0.8, not_recognized=0.3, slots_temperature=1.0)
    for scores, clear in (
        ([0.9, 0.05, 0.05], True),
        ([0.81, 0.09, 0.1], False),
        ([0.45, 0.40, 0.15], False),
        ([0.45, 0.1, 0.45], False),
    ):
        assert is_clear_intent(np.array(scores), LABELS, calibration) == clear, scores


def test_figures_count_exact_spans():
    (encoded,) = encode(build_tokenizer(PIECES), ["turn on light"])
    tags = one_hot(["O", "O", "O", "B-device", "O"])
    right = Logits(encoded, np.array([2.0, 0.0, 9.0]), tags)
    quality = measure(LABELS, [Example("turn on light", "light_on", (Slot("device", 8, 13),))], [right])
    assert (quality.intent_accuracy, quality.slot_f1, quality.frame_accuracy) == (1, 1, 1)
    quality = measure(LABELS, [Example("turn on light", "alarm", (Slot("device", 5, 13),))], [right])
    assert (quality.intent_accuracy, quality.slot_f1) == (0, 0)


def test_calibration():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    targets = np.array([rng.choice(3, p=p) for p in probabilities(logits, 1.0)])
    assert fit_temperature(logits * 3, targets) == pytest.approx(3, rel=0.15)
    scores = np.array([[0.99, 0.0, 0.01]] * 97 + [[0.2, 0.1, 0.7]] * 3)
    recognized, not_recognized = choose_thresholds(scores, np.array([True] * 97 + [False] * 3), in_scope=2)
    assert 0 <= not_recognized <= recognized < 1
    # All right and sure: what 3 % do not reach is no reason to refuse, but one to ask.
    sure = np.array([[0.99, 0.0, 0.01]] * 95 + [[0.9, 0.05, 0.05]] * 5)
    assert choose_thresholds(sure, np.array([True] * 100), in_scope=2) == (0.9, 0.5)


def test_lines_are_compared_without_case_and_punctuation():
    assert normalise("Turn ON, the light!") == normalise("turn on the light")
