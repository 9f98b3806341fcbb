"""Checkpoints that transformers itself saves, with random weights and every head, against the bundles made of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import (
    BertTokenizer,
    SqueezeBertConfig,
    SqueezeBertForQuestionAnswering,
    SqueezeBertForSequenceClassification,
    SqueezeBertForTokenClassification,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from import_transformers import (  # noqa: E402
    SEGMENTS,
    UNCALIBRATED_ANSWERS,
    Refused,
    convert,
    read_checkpoint,
    read_tokenizer,
)
from model import set_quantised  # noqa: E402
from qa_bundle import is_clear_answer  # noqa: E402
from text_answers import answer, best_span  # noqa: E402
from text_input import windows  # noqa: E402
from vocabulary import SPECIAL  # noqa: E402

PROGRAM = os.environ.get("INTENTD_PROGRAM")

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = [*SPECIAL, *LETTERS, *(f"##{c}" for c in LETTERS), "light", "turn", "on", "the", "kitchen"]
HEADS = {
    SqueezeBertForSequenceClassification: {"id2label": {0: "light_on", 1: "light_off", 2: "timer"}},
    SqueezeBertForTokenClassification: {"id2label": {0: "O", 1: "B-room", 2: "I-room"}},
    SqueezeBertForQuestionAnswering: {},
}
TOKENS = 24
PASSAGES = [
    "the light in the kitchen is on",
    "Turn it on: the Lamp of the hall, built in 1911 by Ada Keller, stands on the table.",
    "The light of the hall burns at night. " * 4,
]
QUESTIONS = ["what is on", "Who built the Lamp?", "when does the light burn in the kitchen of the inn, and how long"]


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of each row."""
    return torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=-1)


def saved(folder: Path, kind: type, **changes) -> torch.nn.Module:
    """A seeded model of the published layout, but for depth and width, saved as its users save it."""
    settings = {
        "vocab_size": len(PIECES),
        "hidden_size": 128,
        "embedding_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 512,
        **HEADS[kind],
        **changes,
    }
    torch.manual_seed(5)
    model = kind(SqueezeBertConfig(**settings)).eval()
    # As initialised every bias is 0 and the layers hardly differ from the identity, which would hide mistakes; and no
    # word answers a question better than its neighbour.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "embeddings" not in name:
                parameter.mul_(30 if name == "qa_outputs.weight" else 3)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return model


@pytest.mark.parametrize("kind", HEADS)
def test_import_agrees_with_transformers(tmp_path, kind):
    model = saved(tmp_path, kind)
    ours = read_checkpoint(tmp_path)
    ids = torch.randint(0, len(PIECES), (8, TOKENS))
    segments = torch.randint(0, 2, (8, TOKENS)) if kind is SqueezeBertForQuestionAnswering else torch.zeros_like(ids)
    with torch.no_grad():
        theirs = model(ids, token_type_ids=segments, output_hidden_states=True)
        hidden = [ours.model.encoder(ids, None, segments if segments.any() else None)[-1]]
        set_quantised(ours.model, True)
        hidden.append(ours.model.encoder(ids, None, segments if segments.any() else None)[-1])
        set_quantised(ours.model, False)
        if kind is SqueezeBertForQuestionAnswering:
            head = ours.model.answers
            logits = head(head.prepare(hidden[0]))
            wanted = torch.stack([theirs.start_logits, theirs.end_logits], -1)
        else:
            intent, tags = ours.model.read(hidden[0], None)
            logits, wanted = (intent, theirs.logits) if kind is SqueezeBertForSequenceClassification else (tags, theirs.logits)
    assert cosine(hidden[0], theirs.hidden_states[-1]).min() >= 0.9999
    assert torch.allclose(logits, wanted, atol=1e-4)
    assert cosine(hidden[1], theirs.hidden_states[-1]).mean() >= 0.99


@pytest.mark.parametrize("kind", HEADS)
def test_the_bundle_computes_what_the_checkpoint_does(tmp_path, kind):
    model = saved(tmp_path / "checkpoint", kind)
    convert(tmp_path / "checkpoint", tmp_path / "bundle", None)
    ids = torch.randint(0, len(PIECES), (1, TOKENS))
    inputs = {"input_ids": ids.numpy()}
    task = {"SequenceClassification": "intent", "TokenClassification": "slots", "QuestionAnswering": "qa"}[kind.__name__[14:]]
    if task == "qa":
        inputs["segment_ids"] = np.concatenate([np.zeros((1, 10)), np.ones((1, TOKENS - 10))], 1).astype(np.int64)
    with torch.no_grad():
        segments = torch.from_numpy(inputs.get("segment_ids", np.zeros((1, TOKENS), np.int64)))
        theirs = model(ids, token_type_ids=segments, output_hidden_states=True)
    encoder = onnxruntime.InferenceSession(tmp_path / "bundle/encoder.onnx")
    (hidden,) = encoder.run(None, inputs)
    assert cosine(torch.from_numpy(hidden[0].T), theirs.hidden_states[-1][0]).mean() >= 0.99
    head = onnxruntime.InferenceSession(tmp_path / f"bundle/heads/{task}.onnx")
    (logits,) = head.run(None, {"hidden": hidden})
    wanted = (
        torch.stack([theirs.start_logits[0], theirs.end_logits[0]]).numpy()
        if task == "qa"
        else theirs.logits.reshape(-1, logits.shape[1]).T.numpy()
    )
    assert np.abs(logits[0] - wanted).max() <= 0.15 * np.abs(wanted).max()
    assert f'tasks = ["{task}"]' in (tmp_path / "bundle/manifest.toml").read_text()


@pytest.mark.parametrize(("cased", "longest"), [(False, 512), (True, 512), (False, 90)])
def test_answers_to_questions_are_those_of_the_checkpoint(tmp_path, cased, longest):
    checkpoint, bundle = tmp_path / "checkpoint", tmp_path / "bundle"
    saved(checkpoint, SqueezeBertForQuestionAnswering, max_position_embeddings=longest)
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": not cased}))
    convert(checkpoint, bundle, None)
    assert "not calibrated" in (bundle / "CARD.md").read_text()
    assert json.loads((bundle / "labels.json").read_text())["token_types"] == {"cases": False, "passage_offset": 1}
    assert json.loads((bundle / "calibration.json").read_text()) == {"qa": {"temperature": 1.0, "threshold": 0.0, "sentence_weight": 0.0}}
    vectors = [json.loads(line) for line in (bundle / "selftest.jsonl").read_text().splitlines()]
    # What a pair of texts that fits is to transformers.
    theirs, compared = BertTokenizer(str(checkpoint / "vocab.txt"), do_lower_case=not cased), 0
    for vector in vectors:
        read = [(window["input_ids"], window["segment_ids"]) for window in vector["windows"]]
        assert all(len(ids) == len(types) <= longest for ids, types in read)
        pairs = [theirs(vector["question"], passage) for passage in vector["passages"]]
        if all(len(pair["input_ids"]) <= longest for pair in pairs):
            assert read == [(pair["input_ids"], pair["token_type_ids"]) for pair in pairs]
            compared += 1
    assert compared > 0 or longest < 512
    check_vectors(checkpoint, bundle, vectors)
    agrees(checkpoint, bundle, tmp_path)


def check_vectors(checkpoint: Path, bundle: Path, vectors: list[dict]) -> None:
    """ONNX Runtime gives the same answers within the daemon's tolerance."""
    encoder, head = (onnxruntime.InferenceSession(bundle / name) for name in ("encoder.onnx", "heads/qa.onnx"))
    reader, shape = read_tokenizer(checkpoint)[0], read_checkpoint(checkpoint).model.encoder.shape
    for vector in vectors:
        found = []
        for number, passage in enumerate(vector["passages"]):
            for window in windows(reader, vector["question"], passage, SEGMENTS, shape.max_tokens):
                inputs = {"input_ids": np.array([window.ids]), "segment_ids": np.array([window.types])}
                logits = head.run(None, {"hidden": encoder.run(None, inputs)[0]})[0][0].T
                score, first, last, _ = best_span(window, logits)
                start, end = window.word_spans[window.words[first]][0], window.word_spans[window.words[last]][1]
                found.append((score, score - logits[0].sum(), number, start, end))
        _, margin, *span = max(found)
        assert UNCALIBRATED_ANSWERS.probability(margin) == pytest.approx(vector["score"], abs=0.03)
        assert span == [vector["passage"], vector["start"], vector["end"]]


def agrees(checkpoint: Path, bundle: Path, scratch: Path) -> None:
    """The daemon's program, where there is one, opens the bundle and gives the answers that Python finds."""
    if PROGRAM is None:
        return
    subprocess.run([PROGRAM, "model", "verify", str(bundle)], check=True, stdout=subprocess.DEVNULL)
    asked = [(question, passage) for question in QUESTIONS for passage in PASSAGES]
    data, told = scratch / "questions.jsonl", scratch / "answers.jsonl"
    data.write_text("".join(json.dumps({"question": q, "passage": p, "answers": []}) + "\n" for q, p in asked))
    command = [PROGRAM, "eval", "--task", "qa", "--bundle", str(bundle), "--data", str(data), "--predictions", str(told)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    model, (reader, _) = read_checkpoint(checkpoint).model, read_tokenizer(checkpoint)
    set_quantised(model, True)
    compared = 0
    for (question, passage), line in zip(asked, told.read_text().splitlines(), strict=True):
        one, best = json.loads(line), answer(model, reader, question, [passage], SEGMENTS)
        score = UNCALIBRATED_ANSWERS.probability(best.margin)
        if is_clear_answer(best, [], UNCALIBRATED_ANSWERS):
            assert one["answer"] == (passage[best.start : best.end] if score >= 0.5 else ""), (one, best)
            assert one["score"] == pytest.approx(score, abs=0.03), (one, best)
            compared += 1
    assert compared >= 3


def test_a_model_that_prefers_no_words_is_refused(tmp_path):
    model = saved(tmp_path / "checkpoint", SqueezeBertForQuestionAnswering)
    with torch.no_grad():
        model.qa_outputs.weight.zero_()
    model.save_pretrained(tmp_path / "checkpoint")
    with pytest.raises(Refused, match="no question"):
        convert(tmp_path / "checkpoint", tmp_path / "bundle", None)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(("key", "value"), [("type_vocab_size", 1), ("max_position_embeddings", 83)])
def test_a_model_that_cannot_read_a_question_beside_a_passage_is_refused(tmp_path, key, value):
    saved(tmp_path, SqueezeBertForQuestionAnswering, **{key: value})
    with pytest.raises(Refused, match=key):
        read_checkpoint(tmp_path)


def test_other_groups_are_taken_from_the_configuration(tmp_path):
    model = saved(tmp_path, SqueezeBertForSequenceClassification, q_groups=2, post_attention_groups=4, output_groups=1)
    ids = torch.randint(0, len(PIECES), (2, 9))
    with torch.no_grad():
        hidden = read_checkpoint(tmp_path).model.encoder(ids)[-1]
        wanted = model(ids, output_hidden_states=True).hidden_states[-1]
    assert cosine(hidden, wanted).min() >= 0.9999


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [("model_type", "bert", "model_type"), ("hidden_act", "relu", "hidden_act"), ("embedding_size", 64, "embedding_size")],
)
def test_what_the_engine_lacks_is_named(tmp_path, key, value, named):
    saved(tmp_path, SqueezeBertForSequenceClassification)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(Refused, match=named):
        read_checkpoint(tmp_path)


def test_labels_that_are_no_tags_are_named(tmp_path):
    saved(tmp_path, SqueezeBertForTokenClassification, id2label={0: "O", 1: "room"})
    with pytest.raises(Refused, match="room"):
        read_checkpoint(tmp_path)
