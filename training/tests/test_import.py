"""Checkpoints that transformers itself saves, with random weights and every head, against the bundles made of them."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import (
    SqueezeBertConfig,
    SqueezeBertForQuestionAnswering,
    SqueezeBertForSequenceClassification,
    SqueezeBertForTokenClassification,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from import_transformers import Refused, convert, read_checkpoint  # noqa: E402
from model import set_quantised  # noqa: E402
from vocabulary import SPECIAL  # noqa: E402

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = [*SPECIAL, *LETTERS, *(f"##{c}" for c in LETTERS), "light", "turn", "on", "the", "kitchen"]
HEADS = {
    SqueezeBertForSequenceClassification: {"id2label": {0: "light_on", 1: "light_off", 2: "timer"}},
    SqueezeBertForTokenClassification: {"id2label": {0: "O", 1: "B-room", 2: "I-room"}},
    SqueezeBertForQuestionAnswering: {},
}
TOKENS = 24


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
    # As initialised every bias is 0 and the layers hardly differ from the identity, which would hide mistakes.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "embeddings" not in name:
                parameter.mul_(3)
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
            logits = ours.answers(ours.answers.prepare(hidden[0]))
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
