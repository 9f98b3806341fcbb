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
    """Word rows plus position rows (BERT's first token type is already added to the positions), then layer norm."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.quantised = False
        self.words = nn.Parameter(torch.randn(shape.vocabulary, shape.hidden) * 0.02)
        self.positions = nn.Parameter(torch.randn(shape.max_tokens, shape.hidden) * 0.02)
        self.norm = nn.LayerNorm(shape.hidden, LAYER_NORM_EPSILON)

    def forward(self, ids: Tensor) -> Tensor:
        rows = F.embedding(ids, self.words)
        if self.quantised:
            integers, scale = quantise_rows(rows)
            rows = integers * scale
        return self.norm(rows + self.positions[: ids.shape[1]])


class Layer(nn.Module):
    """One encoder block: self-attention and a feed-forward pair, each followed by residual sum and layer norm."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.heads = shape.heads
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
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        context = context.transpose(1, 2).reshape(x.shape)
        x = self.attention_norm(x + self.attention_output(self.attention_output.prepare(context)))
        wide = F.gelu(self.expand(self.expand.prepare(x)))
        return self.output_norm(x + self.contract(self.contract.prepare(wide)))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class Encoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embedding = Embedding(shape)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))

    def forward(self, ids: Tensor, present: Tensor | None = None) -> list[Tensor]:
        """The output of the embedding and of every layer. `present` is true where `ids` is not padding."""
        mask = None
        if present is not None and not bool(present.all()):
            mask = torch.zeros(present.shape, device=ids.device).masked_fill(~present, -math.inf)[:, None, None, :]
        states = [self.embedding(ids)]
        for layer in self.layers:
            states.append(layer(states[-1], mask))
        return states


class Understander(nn.Module):
    """The encoder with its two heads: intent from the mean over all tokens, one tag per token for slots."""

    def __init__(self, encoder: Encoder, intents: int, tags: int):
        super().__init__()
        self.encoder = encoder
        self.intent = Pointwise(encoder.shape.hidden, intents, 1)
        self.slots = Pointwise(encoder.shape.hidden, tags, 1)

    def forward(self, ids: Tensor, present: Tensor | None = None, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """Intent logits [batch, intents] and tag logits [batch, tokens, tags]."""
        hidden = self.encoder(ids, present)[-1]
        if present is None:
            mean = hidden.mean(1)
        else:
            weight = present.to(hidden.dtype)[..., None]
            mean = (hidden * weight).sum(1) / weight.sum(1)
        mean, hidden = F.dropout(mean, dropout), F.dropout(hidden, dropout)
        return self.intent(self.intent.prepare(mean)), self.slots(self.slots.prepare(hidden))


def set_quantised(model: nn.Module, quantised: bool) -> None:
    """Switches every product with weights, and the embedding table, between f32 and the int8 arithmetic."""
    for module in model.modules():
        if isinstance(module, Pointwise | Embedding):
            module.quantised = quantised
