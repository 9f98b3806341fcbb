"""The student's start: each grouped layer is the best approximation of the teacher's dense layer.

A teacher layer computes y = W x + b. A group sees only the block of channels B of x, so the least squares fit of its
rows is W C[:, B] (C[B, B] + ridge)^-1, where C is the covariance of x: one pass of the teacher over some text gives C
for every layer, and no outputs need to be stored. Which attention heads and feed-forward units share a group is free:
they are assigned where the block explains most of their output.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from batches import batches
from model import Encoder, Pointwise, Shape

RIDGE = 1e-3


def load_teacher(model_folder: Path) -> Encoder:
    """A BERT checkpoint, all-MiniLM-L6-v2, as an encoder with one group."""
    config = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    stored = load_file(model_folder / "model.safetensors")
    stored = {name.removeprefix("bert."): tensor.float() for name, tensor in stored.items()}
    words = stored["embeddings.word_embeddings.weight"]
    shape = Shape(
        vocabulary=words.shape[0],
        groups=1,
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=config["num_attention_heads"],
        feed_forward=config["intermediate_size"],
    )
    teacher = Encoder(shape)
    state = {
        "embedding.words": words,
        "embedding.positions": stored["embeddings.position_embeddings.weight"][: teacher.shape.max_tokens]
        + stored["embeddings.token_type_embeddings.weight"][0],
        "embedding.norm.weight": stored["embeddings.LayerNorm.weight"],
        "embedding.norm.bias": stored["embeddings.LayerNorm.bias"],
    }
    names = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "expand": "intermediate.dense",
        "contract": "output.dense",
        "output_norm": "output.LayerNorm",
    }
    for index in range(teacher.shape.layers):
        for ours, theirs in names.items():
            weight = stored[f"encoder.layer.{index}.{theirs}.weight"]
            state[f"layers.{index}.{ours}.weight"] = weight if weight.dim() == 1 else weight[None]
            state[f"layers.{index}.{ours}.bias"] = stored[f"encoder.layer.{index}.{theirs}.bias"]
    teacher.load_state_dict(state)
    return teacher.eval().requires_grad_(False)


class Moments:
    """Mean and covariance of one layer's input."""

    def __init__(self, channels: int):
        self.count = 0
        self.total = torch.zeros(channels, dtype=torch.float64)
        self.products = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        self.count += rows.shape[0]
        self.total += rows.sum(0).double()
        self.products += (rows.T @ rows).double()

    def mean(self) -> Tensor:
        return self.total / self.count

    def covariance(self) -> Tensor:
        mean = self.mean()
        return self.products / self.count - mean[:, None] * mean[None, :]


def input_moments(teacher: Encoder, encoded: list) -> list[dict[str, Moments]]:
    """Runs the teacher over `encoded` and gathers the moments of the inputs of its grouped layers."""
    shape = teacher.shape
    moments = [
        {"query": Moments(shape.hidden), "expand": Moments(shape.hidden), "contract": Moments(shape.feed_forward)}
        for _ in teacher.layers
    ]
    present = None

    def record(target: Moments):
        return lambda _module, inputs: target.add(inputs[0][0][present])

    hooks = [
        getattr(layer, name).register_forward_pre_hook(record(target))
        for layer, of_layer in zip(teacher.layers, moments, strict=True)
        for name, target in of_layer.items()
    ]
    with torch.no_grad():
        for batch in batches(encoded, tokens=4096, seed=0):
            present = batch.present
            teacher(batch.ids, batch.present)
    for hook in hooks:
        hook.remove()
    return moments


def explained(weight: Tensor, covariance: Tensor, groups: int) -> Tensor:
    """The variance of each output of a dense layer that each block of its inputs explains: [outputs, groups]."""
    columns = []
    for block in torch.arange(covariance.shape[0]).view(groups, -1):
        shared = weight @ covariance[:, block]
        inside = _regularised(covariance[block][:, block])
        columns.append((shared * torch.linalg.solve(inside, shared.T).T).sum(1))
    return torch.stack(columns, 1)


def assign(score: Tensor) -> Tensor:
    """Puts equally many rows into each group so that the sum of scores is greatest; returns the new order of rows."""
    rows, groups = score.shape
    seats = score.repeat_interleave(rows // groups, dim=1)
    row, seat = linear_sum_assignment(seats.numpy(), maximize=True)
    order = torch.empty(rows, dtype=torch.long)
    order[torch.from_numpy(seat)] = torch.from_numpy(row)
    return order


def _regularised(covariance: Tensor) -> Tensor:
    size = covariance.shape[0]
    return covariance + RIDGE * covariance.diagonal().mean() * torch.eye(size, dtype=covariance.dtype)


def fit(target: Pointwise, weight: Tensor, bias: Tensor, moments: Moments, inputs: Tensor) -> None:
    """Sets `target` to the ridge regression of weight x + bias; `inputs` is the order of the student's channels."""
    covariance, mean = moments.covariance()[inputs][:, inputs], moments.mean()[inputs]
    weight = weight[:, inputs]
    outputs, per_group = weight.shape[0], weight.shape[1] // target.groups
    new_weight, new_bias = [], []
    for group, rows in enumerate(torch.arange(outputs).view(target.groups, -1)):
        block = torch.arange(group * per_group, (group + 1) * per_group)
        shared = weight[rows] @ covariance[:, block]
        fitted = torch.linalg.solve(_regularised(covariance[block][:, block]), shared.T).T
        new_weight.append(fitted)
        new_bias.append(bias[rows] + weight[rows] @ mean - fitted @ mean[block])
    target.weight.data.copy_(torch.stack(new_weight))
    target.bias.data.copy_(torch.cat(new_bias))


def initialise(student: Encoder, teacher: Encoder, kept: Tensor, moments: list[dict[str, Moments]]) -> None:
    """Copies what both have (`kept` are the teacher's ids of the student's pieces) and fits the grouped layers."""
    shape = student.shape
    student.embedding.words.data.copy_(teacher.embedding.words[kept])
    student.embedding.positions.data.copy_(teacher.embedding.positions)
    student.embedding.norm.load_state_dict(teacher.embedding.norm.state_dict())
    residual = torch.arange(shape.hidden)
    for new, old, of_layer in zip(student.layers, teacher.layers, moments, strict=True):
        new.attention_norm.load_state_dict(old.attention_norm.state_dict())
        new.output_norm.load_state_dict(old.output_norm.state_dict())

        covariance = of_layer["query"].covariance()
        projections = [(getattr(old, n).weight[0].double(), getattr(old, n).bias.double()) for n in _PROJECTIONS]
        score = sum(_relative(explained(w, covariance, shape.groups), w, covariance) for w, _ in projections)
        head_order = assign(score.view(shape.heads, -1, shape.groups).sum(1))
        channels = residual.view(shape.heads, -1)[head_order].reshape(-1)
        for name, (weight, bias) in zip(_PROJECTIONS, projections, strict=True):
            fit(getattr(new, name), weight[channels], bias[channels], of_layer["query"], residual)
        new.attention_output.weight.data.copy_(old.attention_output.weight[:, :, channels])
        new.attention_output.bias.data.copy_(old.attention_output.bias)

        expand, contract = old.expand.weight[0].double(), old.contract.weight[0].double()
        covariance = of_layer["expand"].covariance()
        score = _relative(explained(expand, covariance, shape.groups), expand, covariance)
        energy = contract.view(shape.groups, -1, shape.feed_forward).square().sum(1).T
        units = assign(score + energy / energy.sum(1, keepdim=True))
        fit(new.expand, expand[units], old.expand.bias.double()[units], of_layer["expand"], residual)
        fit(new.contract, contract, old.contract.bias.double(), of_layer["contract"], units)


def principal(teacher: Encoder, channels: int) -> Tensor:
    """[hidden, channels]: the directions in which the teacher's word rows differ most."""
    rows = teacher.embedding.words.double()
    rows = rows - rows.mean(0)
    _, vectors = torch.linalg.eigh(rows.T @ rows)
    return vectors[:, -channels:].float()


def start_smaller(student: Encoder, teacher: Encoder, kept: Tensor) -> None:
    """A narrower student begins with the teacher's embeddings along their principal directions; its layers are new."""
    directions = principal(teacher, student.shape.hidden)
    student.embedding.words.data.copy_(teacher.embedding.words[kept] @ directions)
    student.embedding.positions.data.copy_(teacher.embedding.positions @ directions)


_PROJECTIONS = ("query", "key", "value")


def _relative(explained_variance: Tensor, weight: Tensor, covariance: Tensor) -> Tensor:
    """Explained variance as a fraction of each output's whole variance."""
    return explained_variance / ((weight @ covariance) * weight).sum(1, keepdim=True)
