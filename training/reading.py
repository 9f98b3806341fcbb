"""A bundle back as a model, to go on training from it or to measure it here.

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
from vocabulary import build_tokenizer


@dataclass
class Bundle:
    """What a bundle holds, as far as training needs it."""

    model: Understander
    pieces: list[str]
    labels: Labels
    calibration: Calibration

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer over its pieces."""
        return build_tokenizer(self.pieces)


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


def read_bundle(folder: Path) -> Bundle:
    """Reads a bundle that `write_bundle` wrote."""
    manifest = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    labels_file = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    calibration = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    encoder = read_encoder(Constants(folder / "encoder.onnx"), manifest["max_tokens"])
    has_slots = "slots" in manifest["tasks"]
    transitions = labels_file.get("transitions")
    labels = Labels(
        labels_file["intents"], labels_file["tags"], None if transitions is None else np.array(transitions)
    )
    model = Understander(encoder, len(labels.intents), len(labels.tags) if has_slots else 0)
    intent_head = Constants(folder / "heads/intent.onnx")
    model.intent = intent_head.layer("intent/classifier")
    if "intent/pooler" in intent_head.groups:
        model.pooler = intent_head.layer("intent/pooler")
    if has_slots:
        model.slots = Constants(folder / "heads/slots.onnx").layer("slots/classifier")
    intent = calibration["intent"]
    return Bundle(
        model,
        sorted(vocabulary, key=vocabulary.get),
        labels,
        Calibration(
            intent["temperature"],
            intent["recognized"],
            intent["not_recognized"],
            calibration["slots"]["temperature"],
        ),
    )


def read_encoder(graph: Constants, max_tokens: int) -> Encoder:
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
