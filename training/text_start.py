"""The start of the text student: the teacher's layers fitted in closed form, one after the other.

`initialise.py` fits each grouped layer to the teacher's dense one on the teacher's inputs; errors then add up from layer to
layer. Here a layer reads what the student's own layers below it make of some text, and is fitted to what the teacher's
makes of it: query, key, value and the units before GELU by ridge regression, the outputs of attention and feed-forward to
what is missing from the student's residual to the teacher's sum before the layer norm. So every layer also mends the
errors of those below, and a few minutes without a single gradient replace a long distillation.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from batches import batches
from initialise import RIDGE, assign
from model import Encoder, Layer, Pointwise
from vocabulary import Encoded

TOKENS_PER_BATCH = 2048
PROJECTIONS = ("query", "key", "value")


class Rows:
    """The hidden states of all tokens, and how to lay them out as batches."""

    def __init__(self, encoded: list[Encoded]):
        self.layout = [(b.ids, b.present) for b in batches(encoded, TOKENS_PER_BATCH, 0)]

    def embed(self, encoder: Encoder) -> Tensor:
        return torch.cat([encoder.embedding(ids)[present] for ids, present in self.layout])

    def attend(self, layer: Layer, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The context of every token, as `Layer` computes it."""
        contexts, at = [], 0
        for ids, present in self.layout:
            count = int(present.sum())
            parts = []
            for rows in (query, key, value):
                padded = rows.new_zeros(*ids.shape, rows.shape[1])
                padded[present] = rows[at : at + count]
                parts.append(padded.view(*ids.shape, layer.heads, -1).transpose(1, 2))
            mask = torch.zeros(ids.shape).masked_fill(~present, -math.inf)[:, None, None, :]
            q, k, v = parts
            context = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask).softmax(-1) @ v
            contexts.append(context.transpose(1, 2).reshape(*ids.shape, -1)[present])
            at += count
        return torch.cat(contexts)


class Regression:
    """Ridge regression of `y` on blocks of `x`."""

    def __init__(self, x: Tensor, y: Tensor):
        self.x_mean, self.y_mean = x.mean(0), y.mean(0)
        x, self.y = x - self.x_mean, y - self.y_mean
        self.of_x = (x.T @ x / len(x)).double()
        self.shared = (self.y.T @ x / len(x)).double()
        self.variance = self.y.square().mean(0).double()
        self.ridge = RIDGE * self.of_x.diagonal().mean()

    def weights(self, block: Tensor) -> Tensor:
        """[outputs, block]: the fit of every output to one block of inputs."""
        inside = self.of_x[block][:, block] + self.ridge * torch.eye(len(block), dtype=torch.double)
        return torch.linalg.solve(inside, self.shared[:, block].T).T

    def explained(self, groups: int) -> Tensor:
        """[outputs, groups]: the share of each output's variance that each block explains."""
        blocks = torch.arange(len(self.of_x)).view(groups, -1)
        parts = [(self.weights(block) * self.shared[:, block]).sum(1) for block in blocks]
        return torch.stack(parts, 1) / self.variance.clamp_min(1e-9)[:, None]

    def fit(self, target: Pointwise, outputs: Tensor) -> None:
        """Sets a grouped layer; `outputs` says which output each of its rows is."""
        blocks = torch.arange(len(self.of_x)).view(target.groups, -1)
        weights, biases = [], []
        for rows, block in zip(outputs.view(target.groups, -1), blocks, strict=True):
            weight = self.weights(block)[rows].float()
            weights.append(weight)
            biases.append(self.y_mean[rows] - weight @ self.x_mean[block])
        target.weight.data.copy_(torch.stack(weights))
        target.bias.data.copy_(torch.cat(biases))


def apply(part: Pointwise, x: Tensor) -> Tensor:
    return part(part.prepare(x))


@torch.no_grad()
def fit(student: Encoder, teacher: Encoder, kept: Tensor, encoded: list[Encoded]) -> None:
    """Fits `student` in place on lines that both read alike; `kept` are the teacher's ids of the student's pieces."""
    student.embedding.words.data.copy_(teacher.embedding.words[kept])
    student.embedding.positions.data.copy_(teacher.embedding.positions)
    student.embedding.norm.load_state_dict(teacher.embedding.norm.state_dict())
    rows = Rows(encoded)
    ours = theirs = rows.embed(student)
    for number, (new, old) in enumerate(zip(student.layers, teacher.layers, strict=True)):
        ours, theirs = fit_layer(new, old, ours, theirs, rows)
        near = F.cosine_similarity(ours, theirs).mean()
        print(f"start: layer {number + 1}, {len(ours):,} tokens, cosine to the teacher's {near:.3f}", flush=True)


def fit_layer(new: Layer, old: Layer, ours: Tensor, theirs: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """Fits one layer; returns the student's and the teacher's hidden states behind it."""
    groups = new.query.groups
    new.attention_norm.load_state_dict(old.attention_norm.state_dict())
    new.output_norm.load_state_dict(old.output_norm.state_dict())

    wanted = [apply(getattr(old, name), theirs) for name in PROJECTIONS]
    projections = [Regression(ours, y) for y in wanted]
    score = sum(projection.explained(groups) for projection in projections)
    heads = assign(score.view(new.heads, -1, groups).sum(1))
    channels = torch.arange(ours.shape[1]).view(new.heads, -1)[heads].reshape(-1)
    for name, projection in zip(PROJECTIONS, projections, strict=True):
        projection.fit(getattr(new, name), channels)
    context = rows.attend(new, *(apply(getattr(new, name), ours) for name in PROJECTIONS))
    theirs = theirs + apply(old.attention_output, rows.attend(old, *wanted))
    Regression(context, theirs - ours).fit(new.attention_output, torch.arange(ours.shape[1]))
    ours = new.attention_norm(ours + apply(new.attention_output, context))
    theirs = old.attention_norm(theirs)

    wide = apply(old.expand, theirs)
    expand = Regression(ours, wide)
    contract = old.contract.weight[0].double()
    energy = contract.view(groups, -1, contract.shape[1]).square().sum(1).T
    units = assign(expand.explained(groups) + energy / energy.sum(1, keepdim=True))
    expand.fit(new.expand, units)
    theirs = theirs + apply(old.contract, F.gelu(wide))
    wide = F.gelu(apply(new.expand, ours))
    Regression(wide, theirs - ours).fit(new.contract, torch.arange(ours.shape[1]))
    return new.output_norm(ours + apply(new.contract, wide)), old.output_norm(theirs)
