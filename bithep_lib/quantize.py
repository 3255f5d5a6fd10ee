"""Turn a network's linear layers into BitLinear layers, and count honestly what that quantised.

A model is written once, with `torch.nn.Linear`; which of its layers become bits is decided from outside:

    >>> model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1))
    >>> report = quantize_(model, lambda name, linear: linear.in_features == 64)
    >>> f"{report.fraction:.3f}"
    '0.056'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bithep_lib import native
from bithep_lib.bitlinear import BitLinear, QuantSpec

Select = Callable[[str, nn.Linear], bool]
"""Chooses layers: called with a layer's dotted name in the model and the layer."""


class Bytes(NamedTuple):
    """Size of all parameters, in bytes. Everything that is not a weight of a BitLinear layer counts as float32."""

    float32: int
    two_bit: int
    """Ternary and binary codes in 2-bit fields, as in memory, and one float32 scale a layer."""
    packed: int
    """Ternary codes five a byte (3^5 = 243), binary codes eight a byte, as on disk, and one float32 scale a layer."""


@dataclass(frozen=True)
class LayerCount:
    """One linear layer of the model."""

    name: str
    in_features: int
    out_features: int
    bias: bool
    spec: QuantSpec | None
    """None for a layer left at full precision."""
    used: int | None = None
    """Parameters that backward reaches (None: not measured)."""
    macs: int | None = None
    """Multiply-adds in one forward pass (None: not measured)."""

    @property
    def weights(self) -> int:
        return self.in_features * self.out_features

    @property
    def parameters(self) -> int:
        return self.weights + self.out_features * self.bias

    @property
    def low_bit(self) -> bool:
        """True where the weights themselves are quantised (not only the activations)."""
        return self.spec is not None and self.spec.weights is not None


@dataclass(frozen=True)
class QuantReport:
    """What is quantised in a model, by each of the counting rules in use.

    ``fraction`` and ``fraction_weights`` need only the model. ``fraction_used`` and ``fraction_macs`` need an example
    input; without one they are None.
    """

    layers: tuple[LayerCount, ...]
    parameters: int
    """All trainable parameters of the model (those of a frozen linear layer count too)."""
    matrix_weights: int
    """Those of them with two or more axes: weights, without biases and normalisations."""
    left_alone: tuple[tuple[str, str, int], ...] = ()
    """Weights outside `nn.Linear`, which cannot be selected: (name, kind of module, number of weights)."""
    used: int | None = None
    """Parameters that backward reaches."""
    macs: int | None = None
    """Multiply-adds of all matrix products and convolutions in one forward pass."""

    @property
    def quantized(self) -> tuple[LayerCount, ...]:
        """The layers whose weights are low-bit."""
        return tuple(layer for layer in self.layers if layer.low_bit)

    @property
    def fraction(self) -> float:
        """(Weights + biases of BitLinear layers) / all parameters: the rule of Tables 3 and 4 and of the 63 %."""
        return _ratio(sum(layer.parameters for layer in self.quantized), self.parameters)

    @property
    def fraction_weights(self) -> float:
        """Quantised weights / all weights, without biases and normalisations: the rule of Table 2."""
        return _ratio(sum(layer.weights for layer in self.quantized), self.matrix_weights)

    @property
    def fraction_used(self) -> float | None:
        """`fraction`, counting on both sides only parameters that backward reaches."""
        return None if self.used is None else _ratio(sum(layer.used for layer in self.quantized), self.used)

    @property
    def fraction_macs(self) -> float | None:
        """The part of one forward pass's multiply-adds that BitLinear layers do."""
        return None if self.macs is None else _ratio(sum(layer.macs for layer in self.quantized), self.macs)

    @property
    def bytes(self) -> Bytes:
        """Size of the parameters in float32, with 2-bit fields, and with five ternary codes a byte."""
        rest = 4 * self.parameters
        two_bit = packed = 0
        for layer in self.quantized:
            rest -= 4 * layer.weights
            two_bit += 4 + _bytes(layer.weights, {"ternary": 4, "binary": 4, "int8": 1}[layer.spec.weights])
            packed += 4 + _bytes(layer.weights, {"ternary": 5, "binary": 8, "int8": 1}[layer.spec.weights])
        return Bytes(4 * self.parameters, rest + two_bit, rest + packed)

    def __repr__(self) -> str:
        def percent(fraction: float | None) -> str:
            return "not measured: pass example=" if fraction is None else f"{100 * fraction:.2f} %"

        width = max([len(layer.name) for layer in self.layers], default=0)
        rows = [
            f"  {layer.name:<{width}}  {layer.in_features:>5} -> {layer.out_features:<5} {_describe(layer.spec)}"
            for layer in self.layers
        ]
        size = self.bytes
        rows += [
            f"quantised: {len(self.quantized)} of {len(self.layers)} linear layers",
            f"  of all parameters      {percent(self.fraction)}",
            f"  of weights             {percent(self.fraction_weights)}",
            f"  of used parameters     {percent(self.fraction_used)}",
            f"  of multiply-adds       {percent(self.fraction_macs)}",
            f"bytes: {size.float32:,} in float32, {size.two_bit:,} with 2-bit fields, {size.packed:,} packed",
        ]
        if self.left_alone:
            rows.append("left alone, not an nn.Linear:")
            rows += [f"  {name} ({kind}, {count:,} weights)" for name, kind, count in self.left_alone]
        return "\n".join(rows)


def quantize_(
    model: nn.Module,
    select: Select | None,
    spec: QuantSpec = QuantSpec(),
    *,
    example: Tensor | tuple[Any, ...] | None = None,
) -> QuantReport:
    """Turn the selected `nn.Linear` layers of ``model`` into `BitLinear` layers, in place.

    The layers keep their identity, parameters, hooks and names: an optimiser made before still works, a layer shared by
    several modules is converted once, and the state dict does not change. The in-projection and the out-projection of
    `nn.MultiheadAttention`, convolutions and embeddings are no `nn.Linear`: the report names them as left alone.

    Args:
        model: any module, or a single `nn.Linear`.
        select: called as ``select(name, linear)`` for each `nn.Linear`; None quantises nothing.
        spec: what to quantise, by default ternary weights and 8-bit inputs.
        example: an input (or a tuple of inputs) for one forward and backward pass in evaluation mode: the report then
            also counts multiply-adds and the parameters that backward reaches.

    Returns:
        The report. It counts layers of the model that were BitLinear before, too.

    Raises:
        ValueError: ``select`` matches no layer; the message lists the layers there are.
    """
    names = dict(_named(model, nn.Linear))
    candidates = {name: module for name, module in names.items() if type(module) is nn.Linear}
    if select is not None:
        chosen = [module for name, module in candidates.items() if select(name, module)]
        if not chosen:
            there = ", ".join(candidates) or "none"
            done = [name for name, module in names.items() if isinstance(module, BitLinear)]
            already = f"; already BitLinear: {', '.join(done)}" if done else ""
            raise ValueError(
                f"quantize_: select matches no nn.Linear of {type(model).__name__}; there are: {there}{already}"
            )
        for linear in chosen:
            linear.__class__ = BitLinear
            linear.spec = spec
        disable_fused_paths(model, BitLinear)
    return count(model, example)


def count(model: nn.Module, example: Tensor | tuple[Any, ...] | None = None) -> QuantReport:
    """The `QuantReport` of a model as it stands; see `quantize_` for ``example``."""
    linears = [(name, m) for name, m in _named(model, nn.Linear) if type(m) in (nn.Linear, BitLinear)]
    used, macs, used_by, macs_by = (None, None, {}, {}) if example is None else _measure(model, linears, example)
    in_linears = {p for _, linear in linears for p in linear.parameters()}
    parameters = [p for p in model.parameters() if p.requires_grad or p in in_linears]
    left_alone = [
        (name, type(module).__name__, sum(p.numel() for p in weights))
        for name, module in _named(model, nn.Module)
        if (weights := [p for p in module.parameters(recurse=False) if p.ndim >= 2 and p not in in_linears])
    ]
    return QuantReport(
        layers=tuple(
            LayerCount(
                name=name,
                in_features=linear.in_features,
                out_features=linear.out_features,
                bias=linear.bias is not None,
                spec=getattr(linear, "spec", None),
                used=used_by.get(linear),
                macs=macs_by.get(linear),
            )
            for name, linear in linears
        ),
        parameters=sum(p.numel() for p in parameters),
        matrix_weights=sum(p.numel() for p in parameters if p.ndim >= 2),
        left_alone=tuple(left_alone),
        used=used,
        macs=macs,
    )


def _named(model: nn.Module, kind: type[nn.Module]) -> list[tuple[str, nn.Module]]:
    """Modules of a kind with their first names; the root is called after its class."""
    return [
        (name or type(model).__name__, module) for name, module in model.named_modules() if isinstance(module, kind)
    ]


def disable_fused_paths(model: nn.Module, kind: type[nn.Module]) -> None:
    """Make PyTorch's transformers call their linear layers, where some of those are of ``kind``.

    In evaluation mode they hand raw weights to a fused kernel, and padded batches to nested tensors that only it takes.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder | nn.TransformerEncoderLayer) and any(
            isinstance(part, kind) for part in module.modules()
        ):
            # The attributes by which they decide; 0 stands for "another activation".
            name = "use_nested_tensor" if isinstance(module, nn.TransformerEncoder) else "activation_relu_or_gelu"
            setattr(module, name, 0)


def _measure(
    model: nn.Module, linears: list[tuple[str, nn.Linear]], example: Tensor | tuple[Any, ...]
) -> tuple[int, int, dict[nn.Linear, int], dict[nn.Linear, int]]:
    """Parameters reached by backward and multiply-adds of one forward pass: in all, and by linear layer."""
    inputs = example if isinstance(example, tuple) else (example,)
    macs_by = dict.fromkeys((linear for _, linear in linears), 0)

    def add_macs(linear: nn.Linear, args: tuple[Tensor], output: Tensor) -> None:
        macs_by[linear] += output.numel() * linear.in_features

    was_training = {module: module.training for module in model.modules()}
    handles = [linear.register_forward_hook(add_macs) for _, linear in linears]
    model.eval()  # batch statistics and dropout masks stay as they are
    try:
        counter = FlopCounterMode(display=False)
        # Attention by its definition and BitLinear by torch: the counter does not see the products in their kernels.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), native.use_backend("torch"):
            with counter:
                outputs = model(*inputs)
            for handle in handles:  # backward runs a second time what is checkpointed, and has to run it the same way
                handle.remove()
            outputs = [y for y in (outputs if isinstance(outputs, tuple | list) else (outputs,)) if y.requires_grad]
            parameters = [p for p in model.parameters() if p.requires_grad]
            grads = torch.autograd.grad([y.sum() for y in outputs], parameters, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in was_training.items():
            module.training = training
    reached = {p for p, grad in zip(parameters, grads, strict=True) if grad is not None}
    used_by = {linear: sum(p.numel() for p in linear.parameters() if p in reached) for _, linear in linears}
    return sum(p.numel() for p in reached), counter.get_total_flops() // 2, used_by, macs_by


def _describe(spec: QuantSpec | None) -> str:
    if spec is None:
        return "float"
    activations = "float inputs" if spec.activation_bits is None else f"{spec.activation_bits}-bit inputs"
    scale = "" if spec.activation_bits is None else f", Q = {spec.q_max}, a scale per {spec.activation_scale}"
    return f"{spec.weights or 'float'}, {activations}{scale}"


def _bytes(weights: int, codes_a_byte: int) -> int:
    return -(-weights // codes_a_byte)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
