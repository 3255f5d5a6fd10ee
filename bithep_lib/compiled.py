"""BitLinear under `torch.compile`: one operator that the compiler does not look into.

The compiler's own code for the layer would fuse its roundings and differ from the eager layer by a few units in the
last place. As an opaque operator the layer keeps its bits, and its kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bithep_lib.bitlinear import Saved, compute_dtype, layer_backward, layer_forward, storage_dtype, weight_codes
from bithep_lib.spec import QuantSpec

__all__ = ["bit_linear"]


def bit_linear(x: Tensor, weight: Tensor, bias: Tensor | None, spec: QuantSpec) -> Tensor:
    """The layer for x (..., in), as an opaque operator with a gradient. In ``spec`` both operands must be integers."""
    rows = x.reshape(-1, x.shape[-1])
    y, _, _ = _bit_linear(rows, weight, bias, *spec.fields)
    return y.view(*x.shape[:-1], weight.shape[0])


# The shapes of the results must not depend on the backend, because torch stores compiled graphs across processes.
# So the codes q are returned without padding, and those of the weights are computed again in the backward pass.


@torch.library.custom_op("bithep::bit_linear", mutates_args=())
def _bit_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    weights: str,
    activation_bits: int,
    levels: int | None,
    activation_scale: str,
    activation_exponent: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    spec = QuantSpec(weights, activation_bits, levels, activation_scale, activation_exponent)
    y, saved = layer_forward(x, weight, bias, spec)
    return y.to(x.dtype), saved.q[:, : x.shape[1]].contiguous(), saved.s


@_bit_linear.register_fake
def _(x, weight, bias, weights, activation_bits, levels, activation_scale, activation_exponent):
    spec = QuantSpec(weights, activation_bits, levels, activation_scale, activation_exponent)
    scales = () if activation_scale == "tensor" else (x.shape[0], 1)
    return (
        x.new_empty(x.shape[0], weight.shape[0]),
        x.new_empty(x.shape, dtype=storage_dtype(spec.q_max)),
        x.new_empty(scales, dtype=compute_dtype(x)),
    )


@torch.library.custom_op("bithep::bit_linear_backward", mutates_args=())
def _bit_linear_backward(
    g: Tensor,
    q: Tensor,
    s: Tensor,
    weight: Tensor,
    weights: str,
    activation_bits: int,
    levels: int | None,
    activation_scale: str,
    activation_exponent: int | None,
) -> tuple[Tensor, Tensor, Tensor]:
    spec = QuantSpec(weights, activation_bits, levels, activation_scale, activation_exponent)
    t, beta = weight_codes(weight.to(s.dtype), spec)
    return layer_backward(g.to(s.dtype).contiguous(), Saved(q, s, t, beta), weight.shape, (True, True, True))


@_bit_linear_backward.register_fake
def _(g, q, s, weight, weights, activation_bits, levels, activation_scale, activation_exponent):
    return s.new_empty(q.shape), s.new_empty(weight.shape), s.new_empty(weight.shape[0])


def _setup_context(ctx, inputs, output):
    x, weight, bias, *ctx.spec = inputs
    _, q, s = output
    ctx.save_for_backward(q, s, weight)
    ctx.dtypes = x.dtype, weight.dtype, None if bias is None else bias.dtype


def _backward(ctx, g, *_):
    dx, dweight, dbias = _bit_linear_backward(g, *ctx.saved_tensors, *ctx.spec)
    x_dtype, weight_dtype, bias_dtype = ctx.dtypes
    dbias = None if bias_dtype is None else dbias.to(bias_dtype)
    return dx.to(x_dtype), dweight.to(weight_dtype), dbias, *[None] * len(ctx.spec)


_bit_linear.register_autograd(_backward, setup_context=_setup_context)
