r"""The BitLinear layer: equations 1-3 of arXiv:2504.03387, in integers.

A BitLinear layer is a linear layer whose weights are a sign (or a sign and a zero) and whose inputs are 8-bit integers:

.. math::

    t &= \mathrm{clip}(\mathrm{round}(\theta / \beta), -1, 1), \qquad \beta = \langle |\theta| \rangle      & (1) \\
    q &= \mathrm{clip}(\mathrm{round}(x\, Q_b / \gamma), -Q_b, Q_b), \qquad \gamma = \max |x|              & (2) \\
    y &= (t\, q)\, \beta \gamma / Q_b + b                                                                  & (3)

The product :math:`t\,q` is a sum of integers. It is computed as one, exactly, and the scales are applied at the end.
That makes the result independent of the batch, of the number of threads and of the hardware that does the sum, so that
a network gives the same bits in training and after packing. The published code multiplies dequantised floats instead,
which agrees to rounding but drifts with the order of summation.

Example:

    >>> layer = BitLinear(64, 32)                    # a drop-in nn.Linear: ternary weights, 8-bit inputs
    >>> y = layer(torch.randn(100, 64))
    >>> codes, beta = weight_codes(layer.weight, layer.spec)
    >>> sorted(set(codes.flatten().tolist()))
    [-1, 0, 1]
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bithep_lib import native
from bithep_lib.spec import QuantSpec

EPS = 1e-8
"""Lower bound of both scales, as in the published code: an all-zero row or matrix gets the codes 0 instead of 0/0."""


def weight_codes(weight: Tensor, spec: QuantSpec = QuantSpec()) -> tuple[Tensor, Tensor]:
    """Equation 1: a weight matrix as small integers and one scale.

    Args:
        weight: shape (out, in).
        spec: with ``weights`` not None.

    Returns:
        The codes t, int8, of the same shape, and the scale beta, a positive scalar: ``weight ~ beta * t``.
    """
    if spec.weights is None:
        raise ValueError("weight_codes: spec.weights is None, so the weights are not quantised")
    t, beta = _weight_codes(weight.detach(), spec)
    return t.to(torch.int8), beta


def activation_codes(x: Tensor, spec: QuantSpec = QuantSpec()) -> tuple[Tensor, Tensor]:
    """Equation 2: the input of a layer as integers and their scales.

    Args:
        x: shape (..., in).
        spec: with ``activation_bits`` not None.

    Returns:
        The codes q of the same shape (int8; int16 or int32 where Q_b needs it) and the scale s = Q_b / gamma, of shape
        (..., 1) per token or () per tensor: ``x ~ q / s``. A token with a NaN or an infinity has s = NaN, and its codes
        stand for nothing.
    """
    if spec.activation_bits is None:
        raise ValueError("activation_codes: spec.activation_bits is None, so the input is not quantised")
    q, s = _activation_codes(x.detach().to(compute_dtype(x)), spec)
    return q.nan_to_num(0.0).to(storage_dtype(spec.q_max)), s


def weight_scale(weight: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor | None]:
    """The scale beta of a weight matrix, and the mean <theta> that binary weights are compared with (else None)."""
    # Row sums first: torch splits a full reduction over its threads, so a plain mean() would depend on their number.
    mean = weight.sum(dim=1).sum() / weight.numel() if spec.weights == "binary" else None
    if spec.weights == "int8":
        beta = weight.abs().amax() / spec.t_max
    else:
        beta = weight.abs().sum(dim=1).sum() / weight.numel()
    beta = beta.clamp_min(EPS)
    return _nearest_power_of_two(beta) if spec.power_of_two else beta, mean


def _weight_codes(weight: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    """`weight_codes` with the codes as integer-valued floats, ready for a matrix product."""
    beta, mean = weight_scale(weight, spec)
    if spec.weights == "binary":
        return (weight >= mean).to(weight.dtype).mul_(2).sub_(1), beta  # sign, with sign(0) = +1: two states, not three
    return (weight / beta).round_().clamp_(-spec.t_max, spec.t_max), beta


def bias_on_grid(bias: Tensor | None, beta: Tensor | None, spec: QuantSpec) -> Tensor | None:
    """With static scales the bias is an integer like the sum it joins: it is rounded to a multiple of beta / s."""
    if bias is None or beta is None or not spec.power_of_two:
        return bias
    unit = beta / spec.fixed_scale
    return (bias / unit).round_().mul_(unit)


def _nearest_power_of_two(beta: Tensor) -> Tensor:
    """The power of two nearest on a logarithmic scale. beta = m 2^e with 1/2 <= m < 1, and beta / m is exactly 2^e."""
    mantissa, _ = torch.frexp(beta)
    return beta / mantissa * torch.where(mantissa < 0.5**0.5, 0.5, 1.0).to(beta.dtype)


def _activation_codes(x: Tensor, spec: QuantSpec) -> tuple[Tensor, Tensor]:
    """`activation_codes` with the codes as integer-valued floats, ready for a matrix product."""
    if spec.activation_scale != "tensor":
        gamma = x.abs().amax(dim=-1, keepdim=True)
    else:
        gamma = x.abs().amax() if x.numel() else x.new_zeros(())
    if spec.power_of_two:
        s = torch.full_like(gamma, spec.fixed_scale)
    else:
        # Two roundings, reciprocal then product: any other implementation has to do the same to agree to the bit.
        s = gamma.clamp_min(EPS).reciprocal_() * spec.q_max
    s = torch.where(gamma < float("inf"), s, float("nan"))  # one NaN or infinity makes its token NaN, never a code
    q = (x * s).round_()
    if spec.power_of_two:  # else the clip cannot act: |x| <= gamma, and two roundings move x s by less than half a code
        q.clamp_(-spec.q_max, spec.q_max)
    return q, s


def _integer_linear(
    q: Tensor, s: Tensor | None, t: Tensor, beta: Tensor | None, bias: Tensor | None, spec: QuantSpec
) -> Tensor:
    """Equation 3: the integer sum t q, then the scale beta / s = beta gamma / Q_b, then the bias."""
    # From 2^24 on float32 does not hold every integer.
    if spec.integers and spec.q_max * spec.t_max * t.shape[1] >= 2**24:
        accumulated = (q.double() @ t.double().t()).to(q.dtype)
    else:
        accumulated = q @ t.t()
    if beta is not None or s is not None:
        accumulated.mul_(beta if s is None else s.reciprocal() if beta is None else beta / s)
    bias = bias_on_grid(bias, beta, spec)
    return accumulated if bias is None else accumulated.add_(bias)


class Saved(NamedTuple):
    """The operands of a layer as codes and scales, for the backward pass, in the form of the backend that made them.

    The native backend packs the codes of the weights, four in a byte of uint8, and pads the rows of q.
    """

    q: Tensor | None
    s: Tensor | None
    t: Tensor | None
    beta: Tensor | None

    @property
    def native(self) -> bool:
        return self.t is not None and self.t.dtype == torch.uint8


def layer_forward(x: Tensor, weight: Tensor, bias: Tensor | None, spec: QuantSpec) -> tuple[Tensor, Saved]:
    """Equations 1-3 for rows x (tokens, in): the output in the dtype of the scales, and what backward needs."""
    kernel = kernel_for(x, weight, spec)
    if kernel is not None:
        return _native_forward(kernel, x, weight, bias, spec)
    t, beta = weight.to(compute_dtype(x)), None
    if spec.weights is not None:
        t, beta = _weight_codes(t, spec)
    y, q, s = quantised_forward(x, t, beta, bias, spec)
    q = q if s is None else q.to(storage_dtype(spec.q_max))
    return y, Saved(q, s, t if beta is None else t.to(torch.int8), beta)


def quantised_forward(
    x: Tensor, t: Tensor, beta: Tensor | None, bias: Tensor | None, spec: QuantSpec
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Equations 2 and 3 for rows x (tokens, in) and weight codes t (integer-valued floats): y, and q, s of the rows."""
    dtype = compute_dtype(x)
    q, s = x.to(dtype), None
    if spec.activation_bits is not None:
        q, s = _activation_codes(q, spec)
    return _integer_linear(q, s, t, beta, None if bias is None else bias.to(dtype), spec), q, s


def layer_backward(
    g: Tensor, saved: Saved, weight_shape: tuple[int, int], needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The straight-through gradients of the rows, the weight and the bias, as far as they are needed."""
    q, s, t, beta = saved
    dx = dweight = dbias = None
    if needs[0]:
        if saved.native:
            dequantised = native.loaded_kernel().dequantise_weights(t, beta, *weight_shape)
        else:
            dequantised = t if beta is None else t.to(g.dtype).mul_(beta)
        dx = g @ dequantised
    if needs[1]:
        if saved.native:
            dequantised = native.loaded_kernel().dequantise_rows(q, s, weight_shape[1])
        else:
            dequantised = q if s is None else q.to(g.dtype).div_(s)
        dweight = g.t() @ dequantised
    if needs[2]:
        dbias = g.sum(dim=0)
    return dx, dweight, dbias


def kernel_for(x: Tensor, weight: Tensor, spec: QuantSpec) -> native.Kernel | None:
    """The native kernel where it computes this layer: float32 on the CPU, and a spec that it serves."""
    on_cpu = x.device.type == weight.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    return native.kernel() if on_cpu and kernel_serves(spec, weight.shape[1]) and x.numel() > 0 else None


def kernel_serves(spec: QuantSpec, in_features: int) -> bool:
    """True for one or two bits a weight, at most 8 a code of the input, a scale for each token, and sums below 2^24."""
    return (
        spec.t_max == 1
        and spec.q_max is not None
        and spec.q_max < 2**7
        and spec.activation_scale != "tensor"
        and spec.q_max * in_features < 2**24
    )


def _native_forward(
    kernel: native.Kernel, x: Tensor, weight: Tensor, bias: Tensor | None, spec: QuantSpec
) -> tuple[Tensor, Saved]:
    """`layer_forward` on the kernel: the same integers and the same roundings, so the same bits."""
    weight = weight.contiguous()
    beta, mean = weight_scale(weight, spec)
    codes = kernel.quantise_weights(weight, beta, mean)
    bias = None if bias is None else bias_on_grid(bias.float(), beta, spec).contiguous()
    n, k = weight.shape
    y, q, s = kernel.forward(native.PackedLayer(codes, beta, bias, k, n, spec.q_max, spec.fixed_scale), x.contiguous())
    return y, Saved(q, s, codes, beta)


class _StraightThrough(torch.autograd.Function):
    """Equations 1-3 forward; backward, the gradients of the linear layer with the quantised operands (arXiv:1308.3432).

    Rounding is taken as the identity, and the scales as constants:

        dL/dx = g (beta t),    dL/dtheta = g^T (q / s),    dL/db = sum g

    Only integer codes and scales are kept for the backward pass: a quarter of the memory of the float input.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, spec: QuantSpec) -> Tensor:
        y, saved = layer_forward(x.reshape(-1, x.shape[-1]), weight, bias, spec)
        x_needs_grad, weight_needs_grad = ctx.needs_input_grad[:2]
        ctx.save_for_backward(
            saved.q if weight_needs_grad else None,
            saved.s if weight_needs_grad else None,
            saved.t if x_needs_grad or saved.native else None,
            saved.beta if x_needs_grad else None,
        )
        ctx.dtypes = x.dtype, weight.dtype, None if bias is None else bias.dtype
        ctx.shapes = x.shape, weight.shape
        return y.to(x.dtype).view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, ...]:
        x_shape, weight_shape = ctx.shapes
        with _no_autocast(g):
            g = g.reshape(-1, g.shape[-1]).to(compute_dtype(g))
            grads = layer_backward(g, Saved(*ctx.saved_tensors), weight_shape, ctx.needs_input_grad[:3])
        dx, dweight, dbias = (
            grad if grad is None else grad.to(dtype) for grad, dtype in zip(grads, ctx.dtypes, strict=True)
        )
        return dx if dx is None else dx.view(x_shape), dweight, dbias, None


class BitLinear(nn.Linear):
    """A linear layer with ternary (or binary) weights and integer inputs: equations 1-3 of arXiv:2504.03387.

    The parameters are those of `torch.nn.Linear` under the same names: the full-precision latent weights that the
    optimiser moves. They are quantised anew in each forward pass, and nothing else is kept on the module.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        bias: add a full-precision bias (the paper quantises no bias).
        device: as in `torch.nn.Linear`.
        dtype: as in `torch.nn.Linear`. Scales are float32 for half-precision inputs; the output has the input's dtype.
        spec: what is quantised; by default ternary weights, 8-bit inputs, one scale per token.

    Shape:
        (..., in_features) to (..., out_features). A token that holds a NaN or an infinity gives a row of NaN.
    """

    spec: QuantSpec

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        spec: QuantSpec = QuantSpec(),
    ) -> None:
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)
        self.spec = spec

    def forward(self, input: Tensor) -> Tensor:
        if input.shape[-1] != self.in_features:
            raise ValueError(
                f"BitLinear({self.in_features}, {self.out_features}): the input has {input.shape[-1]} features"
            )
        with _no_autocast(input):
            if (
                torch.compiler.is_compiling()
                and self.spec.weights is not None
                and self.spec.activation_bits is not None
            ):
                return compiled.bit_linear(input, self.weight, self.bias, self.spec)
            return _StraightThrough.apply(input, self.weight, self.bias, self.spec)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.spec}"


def compute_dtype(x: Tensor) -> torch.dtype:
    """Scales and sums are float32, or float64 for float64 inputs: half precision would round the scales."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def storage_dtype(q_max: int) -> torch.dtype:
    """The smallest signed integer that holds -q_max ... q_max."""
    return torch.int8 if q_max < 2**7 else torch.int16 if q_max < 2**15 else torch.int32


def _no_autocast(x: Tensor):
    """Autocast would round the integer sums to half precision."""
    if x.device.type == "meta" or not torch.is_autocast_enabled(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


# Registers the operator that stands for the layer under torch.compile; it needs the functions above.
from bithep_lib import compiled  # noqa: E402
