"""A bundle back as a model, to go on training from it or to measure it here: what is in every bundle, and intents.

The weights come out as the integers times their scales; quantised again they give the same integers, because the
largest of each channel or row stays the largest.
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from tokenizers import Tokenizer

from evaluate import Calibration
from labels import Labels
from model import Encoder, Pointwise, Shape, Understander


class Constants:
    """The constants of one ONNX file by name, and the groups of its convolutions."""

    def __init__(self, path: Path):
        graph = onnx.load(path).graph
        self.constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
        self.groups = {
            node.name.removesuffix("/sums"): next(a.i for a in node.attribute if a.name == "group")
            for node in graph.node
            if node.op_type == "ConvInteger"
        }

    def layer(self, at: str) -> Pointwise:
        """A quantised convolution as a layer with f32 weights."""
        weight, scale = self.constants[f"{at}/weight"].float(), self.constants[f"{at}/channel_scale"]
        outputs, inputs = weight.shape[0], weight.shape[1]
        groups = self.groups[at]
        layer = Pointwise(inputs * groups, outputs, groups)
        layer.weight.data.copy_((weight[..., 0] * scale.view(-1, 1)).view(layer.weight.shape))
        layer.bias.data.copy_(self.constants[f"{at}/bias"].flatten())
        return layer

    def norm(self, at: str, into: torch.nn.LayerNorm) -> None:
        """Copies a layer norm."""
        into.weight.data.copy_(self.constants[f"{at}/weight"])
        into.bias.data.copy_(self.constants[f"{at}/bias"])


@dataclass
class Stored:
    """What every bundle holds."""

    folder: Path
    manifest: dict
    labels: dict
    calibration: dict
    tokenizer: Tokenizer
    encoder: Encoder

    def head(self, task: str) -> Constants:
        """The head of a task."""
        return Constants(self.folder / f"heads/{task}.onnx")


def read_stored(folder: Path) -> Stored:
    """Reads what is in every bundle that `write_bundle` wrote."""
    manifest = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    labels, calibration = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("labels", "calibration")
    )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    encoder = _read_encoder(Constants(folder / "encoder.onnx"), manifest["max_tokens"])
    return Stored(folder, manifest, labels, calibration, tokenizer, encoder)


@dataclass
class Bundle:
    """What a bundle of intents, with slots or without, holds as far as training needs it."""

    model: Understander
    tokenizer: Tokenizer
    labels: Labels
    calibration: Calibration

    @property
    def pieces(self) -> list[str]:
        """The wordpieces in the order of their ids."""
        vocabulary = self.tokenizer.get_vocab()
        return sorted(vocabulary, key=vocabulary.get)


def read_bundle(folder: Path) -> Bundle:
    """Reads a bundle of intents."""
    stored = read_stored(folder)
    labels = read_labels(stored.labels["intents"], stored.labels)
    has_slots = "slots" in stored.manifest["tasks"]
    model = Understander(stored.encoder, len(labels.intents), len(labels.tags) if has_slots else 0)
    intent_head = stored.head("intent")
    model.intent = intent_head.layer("intent/classifier")
    if "intent/pooler" in intent_head.groups:
        model.pooler = intent_head.layer("intent/pooler")
    if has_slots:
        model.slots = stored.head("slots").layer("slots/classifier")
    intent, slots = stored.calibration["intent"], stored.calibration["slots"]
    calibration = Calibration(
        intent["temperature"], intent["recognized"], intent["not_recognized"], slots["temperature"]
    )
    return Bundle(model, stored.tokenizer, labels, calibration)


def read_labels(intents: list[str], stored: dict) -> Labels:
    """The labels of a head that tags words, beside those of intents."""
    transitions = stored.get("transitions")
    return Labels(intents, stored["tags"], None if transitions is None else np.array(transitions))


def _read_encoder(graph: Constants, max_tokens: int) -> Encoder:
    """The encoder of a bundle."""
    words = graph.constants["encoder/embedding/words"].float() * graph.constants["encoder/embedding/scales"]
    layers = len({name.split("/")[1] for name in graph.groups})
    hidden = words.shape[1]
    heads = int(graph.constants["constant/split_heads"][1])
    wide = graph.constants["encoder/layer0/feed_forward/expand/weight"].shape[0]
    groups = graph.groups["encoder/layer0/attention/query"]
    encoder = Encoder(Shape(words.shape[0], groups, layers, hidden, heads, wide, max_tokens))
    encoder.embedding.words.data.copy_(words)
    encoder.embedding.positions.data.copy_(graph.constants["encoder/embedding/positions"])
    if "encoder/embedding/segments" in graph.constants:
        encoder.embedding.segments = torch.nn.Parameter(graph.constants["encoder/embedding/segments"])
    graph.norm("encoder/embedding/norm", encoder.embedding.norm)
    for index, layer in enumerate(encoder.layers):
        at = f"encoder/layer{index}"
        for name in ("query", "key", "value"):
            setattr(layer, name, graph.layer(f"{at}/attention/{name}"))
        layer.attention_output = graph.layer(f"{at}/attention/output")
        layer.expand = graph.layer(f"{at}/feed_forward/expand")
        layer.contract = graph.layer(f"{at}/feed_forward/contract")
        graph.norm(f"{at}/attention/norm", layer.attention_norm)
        graph.norm(f"{at}/feed_forward/norm", layer.output_norm)
    return encoder
