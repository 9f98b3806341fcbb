"""ONNX files written node by node: what the engine recognises is exactly what stands here.

Opset 17, batch 1, no attention mask, no `value_info` (tract fails to analyse some of what tools leave there). Hidden
states are channels first, [1, channels, tokens]. Every product with weights has one form, called a quantised
convolution below:

    Abs -> ReduceMax(channels) -> Mul(1/127) -> Max(1e-8)                                 the row scale
    Div -> QuantizeLinear(1, 128) -> ConvInteger -> Cast -> Mul(row scale) -> Mul(channel scale) -> Add(bias)

u8 with zero point 128 carries the same integers as s8, and its rounding is half to even.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from model import Encoder, Layer, Pointwise
from quantise import ACTIVATION_LIMIT, SMALLEST_SCALE, quantise_rows, quantise_weight

OPSET = 17
TOKENS = "tokens"


class Graph:
    """Collects nodes and constants. A node and its output carry the same name."""

    def __init__(self, name: str):
        self.name = name
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        """Adds an initializer, once per name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(value, order="C"), name)
        return name

    def scalar(self, name: str, value: float) -> str:
        """Adds an f32 scalar shared by all nodes that use `name`."""
        return self.constant(f"constant/{name}", np.array(value, np.float32))

    def add(self, operator: str, name: str, *inputs: str, **attributes) -> str:
        """Adds a node and returns the name of its output."""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def save(self, path: Path, inputs: list[onnx.ValueInfoProto], output: onnx.ValueInfoProto) -> None:
        """Checks the model and writes it."""
        self.nodes[-1].output[0] = output.name
        graph = helper.make_graph(self.nodes, self.name, inputs, [output], list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="intentd")
        model.ir_version = 8
        onnx.checker.check_model(model, full_check=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, path)


def export_encoder(encoder: Encoder, path: Path) -> None:
    """Writes `input_ids` [1, tokens] -> `hidden` [1, hidden, tokens]; with segments also from `segment_ids`."""
    graph = Graph("encoder")
    hidden = _embedding(graph, encoder)
    for index, layer in enumerate(encoder.layers):
        hidden = _layer(graph, f"encoder/layer{index}", layer, hidden)
    names = ["input_ids"] if encoder.embedding.segments is None else ["input_ids", "segment_ids"]
    graph.save(
        path,
        [helper.make_tensor_value_info(name, TensorProto.INT64, [1, TOKENS]) for name in names],
        helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [1, encoder.shape.hidden, TOKENS]),
    )


def export_intent_head(head: Pointwise, path: Path, pooler: Pointwise | None = None, name: str = "intent") -> None:
    """Writes `hidden` -> `logits` [1, outputs, 1], from the mean over all tokens or from the pooled first token."""
    graph = Graph(name)
    if pooler is None:
        pooled = graph.add("ReduceMean", f"{name}/mean", "hidden", axes=[2], keepdims=1)
    else:
        first = graph.constant("constant/first_token", np.array([0], np.int64))
        pooled = graph.add("Gather", f"{name}/first_token", "hidden", first, axis=2)
        pooled = _convolution(graph, f"{name}/pooler", pooler, *_quantise(graph, f"{name}/pooler/input", pooled))
        pooled = graph.add("Tanh", f"{name}/pooled", pooled)
    _convolution(graph, f"{name}/classifier", head, *_quantise(graph, f"{name}/classifier/input", pooled))
    _save_head(graph, path, head, 1)


def export_token_head(name: str, head: Pointwise, path: Path) -> None:
    """Writes `hidden` -> `logits` [1, outputs, tokens]: tags of slots, or start and end of an answer."""
    graph = Graph(name)
    _convolution(graph, f"{name}/classifier", head, *_quantise(graph, f"{name}/classifier/input", "hidden"))
    _save_head(graph, path, head, TOKENS)


def _save_head(graph: Graph, path: Path, head: Pointwise, tokens: int | str) -> None:
    hidden = head.weight.shape[-1]
    graph.save(
        path,
        [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [1, hidden, TOKENS])],
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, head.bias.shape[0], tokens]),
    )


def _embedding(graph: Graph, encoder: Encoder) -> str:
    embedding, at = encoder.embedding, "encoder/embedding"
    rows, scales = quantise_rows(embedding.words.detach())
    table = graph.constant(f"{at}/words", rows.to(torch.int8).numpy())
    scale = graph.constant(f"{at}/scales", scales.numpy())
    words = graph.add("Gather", f"{at}/word_rows", table, "input_ids", axis=0)
    words = graph.add("Cast", f"{at}/word_values", words, to=TensorProto.FLOAT)
    scale = graph.add("Gather", f"{at}/word_scales", scale, "input_ids", axis=0)
    words = graph.add("Mul", f"{at}/scaled_words", words, scale)

    shape = graph.add("Shape", f"{at}/input_shape", "input_ids")
    length = graph.add("Gather", f"{at}/length", shape, graph.constant("constant/one", np.array(1, np.int64)), axis=0)
    step = graph.constant("constant/one", np.array(1, np.int64))
    start = graph.constant("constant/zero", np.array(0, np.int64))
    position_ids = graph.add("Range", f"{at}/position_ids", start, length, step)
    table = graph.constant(f"{at}/positions", embedding.positions.detach().numpy())
    positions = graph.add("Gather", f"{at}/position_rows", table, position_ids, axis=0)

    total = graph.add("Add", f"{at}/sum", words, positions)
    if embedding.segments is not None:
        table = graph.constant(f"{at}/segments", embedding.segments.detach().numpy())
        segments = graph.add("Gather", f"{at}/segment_rows", table, "segment_ids", axis=0)
        total = graph.add("Add", f"{at}/segmented_sum", total, segments)
    total = _norm(graph, f"{at}/norm", embedding.norm, total)
    return graph.add("Transpose", f"{at}/output", total, perm=[0, 2, 1])


def _layer(graph: Graph, at: str, layer: Layer, x: str) -> str:
    inner = f"{at}/attention"
    hidden, heads = layer.attention_norm.weight.shape[0], layer.heads
    split = graph.constant("constant/split_heads", np.array([1, heads, hidden // heads, -1], np.int64))
    merge = graph.constant("constant/merge_heads", np.array([1, hidden, -1], np.int64))

    quantised = _quantise(graph, f"{inner}/input", x)
    query, key, value = (
        graph.add("Reshape", f"{inner}/{name}/heads", _convolution(graph, f"{inner}/{name}", part, *quantised), split)
        for name, part in (("query", layer.query), ("key", layer.key), ("value", layer.value))
    )
    query = graph.add("Transpose", f"{inner}/query/rows", query, perm=[0, 1, 3, 2])
    scores = graph.add("MatMul", f"{inner}/products", query, key)
    scores = graph.add("Mul", f"{inner}/scores", scores, graph.scalar("attention_scale", (hidden / heads) ** -0.5))
    weights = graph.add("Softmax", f"{inner}/weights", scores, axis=-1)
    value = graph.add("Transpose", f"{inner}/value/rows", value, perm=[0, 1, 3, 2])
    context = graph.add("MatMul", f"{inner}/context", weights, value)
    context = graph.add("Transpose", f"{inner}/context/channels", context, perm=[0, 1, 3, 2])
    context = graph.add("Reshape", f"{inner}/context/merged", context, merge)
    output = _convolution(
        graph, f"{inner}/output", layer.attention_output, *_quantise(graph, f"{inner}/output/input", context)
    )
    x = _add_and_norm(graph, inner, layer.attention_norm, x, output)

    inner = f"{at}/feed_forward"
    wide = _convolution(graph, f"{inner}/expand", layer.expand, *_quantise(graph, f"{inner}/expand/input", x))
    wide = _gelu(graph, f"{inner}/gelu", wide)
    output = _convolution(
        graph, f"{inner}/contract", layer.contract, *_quantise(graph, f"{inner}/contract/input", wide)
    )
    return _add_and_norm(graph, inner, layer.output_norm, x, output)


def _quantise(graph: Graph, at: str, x: str) -> tuple[str, str]:
    """The integers of `x` and its row scale."""
    scale = graph.add("Abs", f"{at}/abs", x)
    scale = graph.add("ReduceMax", f"{at}/max", scale, axes=[1], keepdims=1)
    scale = graph.add("Mul", f"{at}/unclamped_scale", scale, graph.scalar("activation_step", 1 / ACTIVATION_LIMIT))
    scale = graph.add("Max", f"{at}/scale", scale, graph.scalar("smallest_scale", SMALLEST_SCALE))
    x = graph.add("Div", f"{at}/scaled", x, scale)
    return graph.add("QuantizeLinear", f"{at}/integers", x, graph.scalar("unit", 1.0), _zero_point(graph)), scale


def _zero_point(graph: Graph) -> str:
    return graph.constant("constant/zero_point", np.array(128, np.uint8))


def _convolution(graph: Graph, at: str, part: Pointwise, integers: str, row_scale: str) -> str:
    weight, scale = quantise_weight(part.weight.detach())
    outputs = part.bias.shape[0]
    kernel = weight.to(torch.int8).reshape(outputs, -1, 1).numpy()
    sums = graph.add(
        "ConvInteger",
        f"{at}/sums",
        integers,
        graph.constant(f"{at}/weight", kernel),
        _zero_point(graph),
        group=part.groups,
        kernel_shape=[1],
    )
    y = graph.add("Cast", f"{at}/values", sums, to=TensorProto.FLOAT)
    y = graph.add("Mul", f"{at}/row_scaled", y, row_scale)
    channel_scale = graph.constant(f"{at}/channel_scale", scale.reshape(1, outputs, 1).numpy())
    y = graph.add("Mul", f"{at}/channel_scaled", y, channel_scale)
    return graph.add(
        "Add", f"{at}/output", y, graph.constant(f"{at}/bias", part.bias.detach().reshape(1, -1, 1).numpy())
    )


def _gelu(graph: Graph, at: str, x: str) -> str:
    y = graph.add("Div", f"{at}/scaled", x, graph.scalar("sqrt_two", 2**0.5))
    y = graph.add("Erf", f"{at}/erf", y)
    y = graph.add("Add", f"{at}/shifted", y, graph.scalar("unit", 1.0))
    y = graph.add("Mul", f"{at}/product", x, y)
    return graph.add("Mul", f"{at}/output", y, graph.scalar("half", 0.5))


def _norm(graph: Graph, at: str, norm: torch.nn.LayerNorm, x: str) -> str:
    weight = graph.constant(f"{at}/weight", norm.weight.detach().numpy())
    bias = graph.constant(f"{at}/bias", norm.bias.detach().numpy())
    return graph.add("LayerNormalization", f"{at}/output", x, weight, bias, axis=-1, epsilon=norm.eps)


def _add_and_norm(graph: Graph, at: str, norm: torch.nn.LayerNorm, x: str, y: str) -> str:
    """Layer norm works on the last axis, so channels go last and come back."""
    total = graph.add("Add", f"{at}/residual", x, y)
    total = graph.add("Transpose", f"{at}/norm/input", total, perm=[0, 2, 1])
    total = _norm(graph, f"{at}/norm", norm, total)
    return graph.add("Transpose", f"{at}/norm/channels", total, perm=[0, 2, 1])
