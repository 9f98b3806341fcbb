"""The arithmetic of the int8 engine, exactly, in PyTorch and with gradients.

Activations are 8 bits, symmetric, with one scale per token; weights are 7 bits (-64 to 64), symmetric, with one scale
per output channel, so that two adjacent products fit the 16-bit sums of AVX2's `vpmaddubsw`, and four those of NEON.
A row is divided by its scale; the engine multiplies by the reciprocal, which differs only within 1e-7 of a half.
Integers are carried in f32: a sum of up to 1,536 products of 127 x 64 stays below 2^24 and is therefore exact in any
order. Gradients pass the rounding unchanged (straight-through estimator, Bengio et al. 2013).
"""

import torch
from torch import Tensor

ACTIVATION_LIMIT = 127
WEIGHT_LIMIT = 64
SMALLEST_SCALE = 1e-8


class _Round(torch.autograd.Function):
    """Rounds half to even, as ONNX's QuantizeLinear does; the gradient is that of the identity."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Integers in -127..127 and one scale per row (the last axis), so that integers x scale is about x."""
    scale = (x.detach().abs().amax(-1, keepdim=True) * (1 / ACTIVATION_LIMIT)).clamp_min(SMALLEST_SCALE)
    return _Round.apply(x / scale), scale


def quantise_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Integers in -64..64 and one scale per output channel (all axes but the last are output channels)."""
    scale = (weight.detach().abs().amax(-1, keepdim=True) * (1 / WEIGHT_LIMIT)).clamp_min(SMALLEST_SCALE)
    return _Round.apply(weight / scale), scale.squeeze(-1)
