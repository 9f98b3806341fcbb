"""SqueezeBERT (Iandola et al. 2020, section 3): a BERT encoder whose position-wise layers are grouped 1x1 convolutions.

Query, key, value and both feed-forward layers have four groups, the attention output is dense. With one group
everywhere the same code is a plain BERT encoder, which is how the teacher is loaded. Layer norm follows the residual
sum; GELU is the exact (erf) form. Tensors are [batch, tokens, channels]: a 1x1 convolution is then a matrix product per
group.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quantise import quantise_rows, quantise_weight

LAYER_NORM_EPSILON = 1e-12


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder. The defaults are those of all-MiniLM-L6-v2."""

    vocabulary: int
    groups: int
    layers: int = 6
    hidden: int = 384
    heads: int = 12
    feed_forward: int = 1536
    max_tokens: int = 128


class Pointwise(nn.Module):
    """A 1x1 convolution in `groups` groups. Quantised or not is a switch of the whole model: see `set_quantised`."""

    def __init__(self, inputs: int, outputs: int, groups: int):
        super().__init__()
        self.groups = groups
        self.quantised = False
        self.weight = nn.Parameter(torch.randn(groups, outputs // groups, inputs // groups) * 0.02)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def prepare(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Quantises an input once for all layers that read it."""
        return quantise_rows(x) if self.quantised else (x, None)

    def forward(self, prepared: tuple[Tensor, Tensor | None]) -> Tensor:
        x, row_scale = prepared
        weight, channel_scale, bias = self.weight, None, self.bias
        if row_scale is not None:
            # The bias is added after the scales.
            weight, channel_scale = quantise_weight(self.weight)
            bias = torch.zeros_like(self.bias)
        if self.groups == 1:
            y = F.linear(x, weight[0], bias)
        else:
            per_group = x.reshape(-1, self.groups, weight.shape[2]).transpose(0, 1)
            y = torch.baddbmm(bias.view(self.groups, 1, -1), per_group, weight.transpose(1, 2))
            y = y.transpose(0, 1).reshape(*x.shape[:-1], -1)
        if row_scale is None:
            return y
        return y * row_scale * channel_scale.reshape(-1) + self.bias


class Embedding(nn.Module):
    """Word rows plus position rows, then layer norm.

    BERT's first token type is already added to the positions. `segments` holds what each token type adds to that; only
    models that read pairs of texts have it.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        self.quantised = False
        self.words = nn.Parameter(torch.randn(shape.vocabulary, shape.hidden) * 0.02)
        self.positions = nn.Parameter(torch.randn(shape.max_tokens, shape.hidden) * 0.02)
        self.segments: nn.Parameter | None = None
        self.norm = nn.LayerNorm(shape.hidden, LAYER_NORM_EPSILON)

    def forward(self, ids: Tensor, segment_ids: Tensor | None = None) -> Tensor:
        rows = F.embedding(ids, self.words)
        if self.quantised:
            integers, scale = quantise_rows(rows)
            rows = integers * scale
        rows = rows + self.positions[: ids.shape[1]]
        if segment_ids is not None:
            rows = rows + F.embedding(segment_ids, self.segments)
        return self.norm(rows)


class Layer(nn.Module):
    """One encoder block: self-attention and a feed-forward pair, each followed by residual sum and layer norm."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.heads = shape.heads
        self.dropout = 0.0
        self.query = Pointwise(shape.hidden, shape.hidden, shape.groups)
        self.key = Pointwise(shape.hidden, shape.hidden, shape.groups)
        self.value = Pointwise(shape.hidden, shape.hidden, shape.groups)
        self.attention_output = Pointwise(shape.hidden, shape.hidden, 1)
        self.attention_norm = nn.LayerNorm(shape.hidden, LAYER_NORM_EPSILON)
        self.expand = Pointwise(shape.hidden, shape.feed_forward, shape.groups)
        self.contract = Pointwise(shape.feed_forward, shape.hidden, shape.groups)
        self.output_norm = nn.LayerNorm(shape.hidden, LAYER_NORM_EPSILON)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        prepared = self.query.prepare(x)
        query, key, value = (self._split(p(prepared)) for p in (self.query, self.key, self.value))
        # Written out: PyTorch's fused attention is more than twice as slow on sequences as short as utterances.
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        context = (scores if mask is None else scores + mask).softmax(-1) @ value
        context = context.transpose(1, 2).reshape(x.shape)
        x = self.attention_norm(x + self._drop(self.attention_output(self.attention_output.prepare(context))))
        wide = F.gelu(self.expand(self.expand.prepare(x)))
        return self.output_norm(x + self._drop(self.contract(self.contract.prepare(wide))))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.dropout and self.training else x

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class Encoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embedding = Embedding(shape)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))

    def keep_words(self, rows: Tensor) -> None:
        """Drops all word rows but `rows`, which get their places in this order as ids."""
        self.embedding.words = nn.Parameter(self.embedding.words.detach()[rows].clone())

    def forward(
        self, ids: Tensor, present: Tensor | None = None, segment_ids: Tensor | None = None
    ) -> list[Tensor]:
        """The output of the embedding and of every layer. `present` is true where `ids` is not padding."""
        mask = None
        if present is not None and not bool(present.all()):
            mask = torch.zeros(present.shape, device=ids.device).masked_fill(~present, -math.inf)[:, None, None, :]
        states = [self.embedding(ids, segment_ids)]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return states


class Understander(nn.Module):
    """An encoder with the heads of one task: intent from the mean over all tokens, one tag per token for slots.

    Several tasks may share one encoder. Without tags there is no slot head. With a pooler, as in BERT, the intent comes
    from tanh(pooler(first token)) instead of the mean.
    """

    def __init__(self, encoder: Encoder, intents: int, tags: int):
        super().__init__()
        self.encoder = encoder
        self.pooler: Pointwise | None = None
        self.intent = Pointwise(encoder.shape.hidden, intents, 1)
        self.slots = Pointwise(encoder.shape.hidden, tags, 1) if tags else None

    def forward(self, ids: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Intent logits [batch, intents] and tag logits [batch, tokens, tags]."""
        return self.read(self.encoder(ids, present)[-1], present)

    def read(self, hidden: Tensor, present: Tensor | None, dropout: float = 0.0) -> tuple[Tensor, Tensor | None]:
        """The heads alone, on the encoder's last hidden states."""
        if self.pooler is not None:
            pooled = torch.tanh(self.pooler(self.pooler.prepare(hidden[:, 0])))
        elif present is None:
            pooled = hidden.mean(1)
        else:
            weight = present.to(hidden.dtype)[..., None]
            pooled = (hidden * weight).sum(1) / weight.sum(1)
        if dropout:
            pooled, hidden = F.dropout(pooled, dropout), F.dropout(hidden, dropout)
        tags = self.slots(self.slots.prepare(hidden)) if self.slots is not None else None
        return self.intent(self.intent.prepare(pooled)), tags


def set_quantised(model: nn.Module, quantised: bool) -> None:
    """Switches every product with weights, and the embedding table, between f32 and the int8 arithmetic."""
    for module in model.modules():
        if isinstance(module, Pointwise | Embedding):
            module.quantised = quantised


def set_dropout(encoder: Encoder, dropout: float) -> None:
    """The share of each block's output that is dropped in training."""
    for layer in encoder.layers:
        layer.dropout = dropout
