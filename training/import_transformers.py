"""A SqueezeBERT that `transformers` saved, as an int8 bundle:

    python training/import_transformers.py CHECKPOINT --bundle models/mine [--valid lines.jsonl]

CHECKPOINT is a folder of `save_pretrained`: config.json, model.safetensors or pytorch_model.bin, and tokenizer.json or
vocab.txt. The head decides the task: sequence classification becomes `intent`, token classification (labels O, B-x and
I-x) `slots`, question answering `qa`. Needs `transformers` for nothing: the files are read as they are.

--valid calibrates confidence and thresholds of intents on labelled lines. Without it, and for answers, confidence is not
calibrated: the temperatures are 1, the thresholds of intents those of UNCALIBRATED, and words answer a question as soon as
they score above "no answer".
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from bundle import Untested, write_bundle
from data import OUT_OF_SCOPE, read_examples
from evaluate import Calibration, calibrate, run
from intent_bundle import IntentContents
from labels import OUTSIDE, Labels
from model import Encoder, Pointwise, Shape, Understander
from qa_bundle import AnswerContents
from text_answers import AnswerCalibration
from text_input import LEAST_TOKENS, TokenTypes
from text_model import AnswerModel
from vocabulary import build_tokenizer, encode

SEGMENTS = TokenTypes(cases=False, passage_offset=1)
"""Of every checkpoint that reads pairs: the question has type 0, the passage 1."""
UNCALIBRATED = Calibration(1.0, recognized=0.8, not_recognized=0.4, slots_temperature=1.0)
UNCALIBRATED_ANSWERS = AnswerCalibration(temperature=1.0, threshold=0.0)
SIZE_LIMIT = 256_000_000
CARD = """\
# {name}

Made from a transformers SqueezeBERT checkpoint ({head}): {layers} layers, {hidden} channels, {pieces:,} wordpieces.
Activations 8 bits per token, weights 7 bits per output channel. {calibration}
"""


class Refused(Exception):
    """A checkpoint that cannot become a bundle, and why."""


@dataclass
class Checkpoint:
    """A checkpoint in our form."""

    model: Understander | AnswerModel
    head: str
    labels: list[str]


def read_checkpoint(folder: Path) -> Checkpoint:
    """Reads configuration and weights; refuses what the engine's arithmetic does not have."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "squeezebert":
        raise Refused(f"config.json: model_type is {config.get('model_type')!r}, not 'squeezebert'")
    if config["hidden_act"] != "gelu":
        raise Refused(f"config.json: hidden_act is {config['hidden_act']!r}; only 'gelu' is supported")
    if config["embedding_size"] != config["hidden_size"]:
        raise Refused("config.json: embedding_size must equal hidden_size")
    weights = _Weights(_read_weights(folder))
    encoder = _encoder(config, weights)
    labels = [config["id2label"][str(i)] for i in range(len(config["id2label"]))] if "id2label" in config else []
    architecture = (config.get("architectures") or ["none"])[0]
    if architecture == "SqueezeBertForQuestionAnswering":
        head, model = "question answering", AnswerModel(encoder, weights.dense("qa_outputs"))
        encoder.embedding.segments = nn.Parameter(weights.segments())
        _check_reads_pairs(encoder)
    elif architecture == "SqueezeBertForSequenceClassification":
        head, model = "sequence classification", Understander(encoder, 1, 0)
        model.pooler, model.intent = weights.dense("transformer.pooler.dense"), weights.dense("classifier")
        labels = labels or [f"LABEL_{i}" for i in range(model.intent.bias.shape[0])]
    elif architecture == "SqueezeBertForTokenClassification":
        head, model = "token classification", Understander(encoder, 1, 1)
        model.slots = weights.dense("classifier")
        labels = _tags(labels or [f"LABEL_{i}" for i in range(model.slots.bias.shape[0])])
    else:
        raise Refused(
            f"config.json: the architecture {architecture!r} has no head that a bundle can hold; save a SqueezeBert for "
            "SequenceClassification, TokenClassification or QuestionAnswering"
        )
    return Checkpoint(model.eval(), head, labels)


def _check_reads_pairs(encoder: Encoder) -> None:
    types, longest = len(encoder.embedding.segments), encoder.shape.max_tokens
    if types <= SEGMENTS.passage_offset:
        raise Refused(f"config.json: type_vocab_size is {types}; a question and its passage need two")
    if longest < LEAST_TOKENS:
        raise Refused(
            f"config.json: max_position_embeddings is {longest}; a question and a part of its passage need {LEAST_TOKENS}"
        )


class _Weights:
    """The tensors of a checkpoint by name."""

    def __init__(self, tensors: dict[str, Tensor]):
        self.tensors = {name: tensor.float() for name, tensor in tensors.items()}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise Refused(f"the checkpoint has no tensor {name}")
        return self.tensors[name]

    def dense(self, name: str) -> Pointwise:
        """A dense layer, or a convolution in as many groups as its shape says."""
        weight, bias = self[f"{name}.weight"], self[f"{name}.bias"]
        return _pointwise(weight, bias, 1)

    def convolution(self, name: str, groups: int) -> Pointwise:
        """A 1x1 convolution in groups."""
        return _pointwise(self[f"{name}.weight"].squeeze(-1), self[f"{name}.bias"], groups)

    def norm(self, name: str, epsilon: float) -> nn.LayerNorm:
        """A layer norm over the channels."""
        norm = nn.LayerNorm(len(self[f"{name}.weight"]), epsilon)
        norm.weight.data.copy_(self[f"{name}.weight"])
        norm.bias.data.copy_(self[f"{name}.bias"])
        return norm

    def segments(self) -> Tensor:
        """What each token type adds to the first."""
        rows = self["transformer.embeddings.token_type_embeddings.weight"]
        return rows - rows[0]


def _pointwise(weight: Tensor, bias: Tensor, groups: int) -> Pointwise:
    outputs, per_group = weight.shape
    layer = Pointwise(per_group * groups, outputs, groups)
    layer.weight.data.copy_(weight.reshape(layer.weight.shape))
    layer.bias.data.copy_(bias)
    return layer


def _encoder(config: dict, weights: _Weights) -> Encoder:
    at = "transformer.embeddings"
    words = weights[f"{at}.word_embeddings.weight"]
    shape = Shape(
        vocabulary=words.shape[0],
        groups=config["q_groups"],
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        feed_forward=config["intermediate_size"],
        max_tokens=config["max_position_embeddings"],
    )
    epsilon = config["layer_norm_eps"]
    encoder = Encoder(shape)
    encoder.embedding.words.data.copy_(words)
    positions = weights[f"{at}.position_embeddings.weight"] + weights[f"{at}.token_type_embeddings.weight"][0]
    encoder.embedding.positions.data.copy_(positions)
    encoder.embedding.norm = weights.norm(f"{at}.LayerNorm", epsilon)
    for index, layer in enumerate(encoder.layers):
        at = f"transformer.encoder.layers.{index}"
        layer.query = weights.convolution(f"{at}.attention.query", config["q_groups"])
        layer.key = weights.convolution(f"{at}.attention.key", config["k_groups"])
        layer.value = weights.convolution(f"{at}.attention.value", config["v_groups"])
        layer.attention_output = weights.convolution(f"{at}.post_attention.conv1d", config["post_attention_groups"])
        layer.attention_norm = weights.norm(f"{at}.post_attention.layernorm", epsilon)
        layer.expand = weights.convolution(f"{at}.intermediate.conv1d", config["intermediate_groups"])
        layer.contract = weights.convolution(f"{at}.output.conv1d", config["output_groups"])
        layer.output_norm = weights.norm(f"{at}.output.layernorm", epsilon)
    return encoder


def _read_weights(folder: Path) -> dict[str, Tensor]:
    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    if (folder / "pytorch_model.bin").is_file():
        return torch.load(folder / "pytorch_model.bin", map_location="cpu")
    raise Refused(f"{folder} has neither model.safetensors nor pytorch_model.bin")


def _tags(labels: list[str]) -> list[str]:
    wrong = [label for label in labels if label != OUTSIDE and label[:2] not in ("B-", "I-")]
    if wrong:
        raise Refused(f"config.json: the label {wrong[0]!r} is neither O nor B-x nor I-x")
    return labels


def read_tokenizer(folder: Path) -> tuple[Tokenizer, int]:
    """The tokenizer over the checkpoint's wordpieces, and their number."""
    if (folder / "tokenizer.json").is_file():
        stored = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        if stored["model"].get("type") != "WordPiece":
            raise Refused(f"tokenizer.json: the model is {stored['model'].get('type')!r}, not 'WordPiece'")
        vocabulary = stored["model"]["vocab"]
        pieces = sorted(vocabulary, key=vocabulary.get)
        lower = bool((stored.get("normalizer") or {}).get("lowercase", True))
    elif (folder / "vocab.txt").is_file():
        pieces = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        settings = folder / "tokenizer_config.json"
        lower = json.loads(settings.read_text(encoding="utf-8")).get("do_lower_case", True) if settings.is_file() else True
    else:
        raise Refused(f"{folder} has neither tokenizer.json nor vocab.txt")
    return build_tokenizer(pieces, lowercase=lower), len(pieces)


def main() -> None:
    parser = argparse.ArgumentParser(description="Turns a transformers SqueezeBERT into a bundle.")
    parser.add_argument("checkpoint", type=Path, help="a folder that save_pretrained wrote")
    parser.add_argument("--bundle", type=Path, required=True, help="folder to write; its name becomes the bundle's")
    parser.add_argument("--valid", type=Path, help="labelled JSON lines to calibrate on")
    arguments = parser.parse_args()
    try:
        size = convert(arguments.checkpoint, arguments.bundle, arguments.valid)
    except (Refused, FileNotFoundError) as error:
        parser.exit(65, f"import_transformers: {error}\n")
    print(f"{arguments.bundle}: {size:,} bytes")


def convert(folder: Path, target: Path, valid: Path | None) -> int:
    """Writes the bundle; returns its size in bytes."""
    checkpoint = read_checkpoint(folder)
    tokenizer, pieces = read_tokenizer(folder)
    rows = checkpoint.model.encoder.shape.vocabulary
    if pieces > rows:
        raise Refused(f"the tokenizer has {pieces} wordpieces, the embedding only {rows} rows")
    if isinstance(checkpoint.model, AnswerModel):
        contents = _answer_contents(target.name, checkpoint, tokenizer)
    else:
        contents = _intent_contents(target.name, checkpoint, tokenizer, valid)
    try:
        return write_bundle(target, contents, SIZE_LIMIT)
    except Untested as error:
        raise Refused(f"{folder}: {error}") from error


def _answer_contents(name: str, checkpoint: Checkpoint, tokenizer: Tokenizer) -> AnswerContents:
    how = "The probability of an answer is not calibrated: temperature 1, threshold 0."
    return AnswerContents(
        **_common(name, checkpoint, tokenizer, how), calibration=UNCALIBRATED_ANSWERS, token_types=SEGMENTS
    )


def _intent_contents(name: str, checkpoint: Checkpoint, tokenizer: Tokenizer, valid: Path | None) -> IntentContents:
    has_intents = checkpoint.head == "sequence classification"
    intents, tags = (checkpoint.labels, [OUTSIDE]) if has_intents else ([], checkpoint.labels)
    if OUT_OF_SCOPE in intents[:-1]:
        raise Refused(f"config.json: the label {OUT_OF_SCOPE!r} must be the last, it stands for out of scope")
    labels = Labels(intents, tags)
    calibration, how = UNCALIBRATED, "Confidence is not calibrated: give labelled lines with --valid."
    if valid is not None and has_intents:
        examples = [e for e in read_examples(valid) if e.intent in intents[: labels.in_scope]]
        logits = run(checkpoint.model, encode(tokenizer, [e.text for e in examples]), quantised=True)
        calibration = calibrate(labels, examples, logits)
        how = f"Confidence is calibrated on {len(examples)} lines of {valid.name}."
    common = _common(name, checkpoint, tokenizer, how)
    return IntentContents(**common, calibration=calibration, labels=labels, has_intents=has_intents)


def _common(name: str, checkpoint: Checkpoint, tokenizer: Tokenizer, how: str) -> dict:
    """What bundles of every head have; `how` says what their confidence is worth."""
    shape = checkpoint.model.encoder.shape
    card = CARD.format(
        name=name,
        head=checkpoint.head,
        layers=shape.layers,
        hidden=shape.hidden,
        pieces=tokenizer.get_vocab_size(),
        calibration=how,
    )
    return {
        "name": name,
        "size": _size_class(shape),
        "model": checkpoint.model,
        "tokenizer": tokenizer,
        "card": card,
        "licence": "as the checkpoint's",
    }


def _size_class(shape: Shape) -> str:
    return "tiny" if shape.hidden < 256 else "small" if shape.hidden < 512 else "base"


if __name__ == "__main__":
    main()
