"""Networks for use: the codes of the weights, one scale a layer, and integer arithmetic. The latent weights are gone.

>>> fast = pack(model)                         # a copy of the network, ready to run
>>> torch.equal(fast(x), model.eval()(x))
True
>>> save_packed(fast, "tagger.safetensors")
>>> same = load_packed("tagger.safetensors", Tagger())      # a new, untrained network of the same shape
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from bithep_lib import native
from bithep_lib.bitlinear import (
    BitLinear,
    bias_on_grid,
    compute_dtype,
    kernel_serves,
    quantised_forward,
    weight_codes,
)
from bithep_lib.codes import pack_codes, unpack_codes
from bithep_lib.quantize import disable_fused_paths
from bithep_lib.spec import QuantSpec

__all__ = ["PackedBitLinear", "PackedSequential", "pack", "replace_layers"]

FLOAT = torch.float32  # looking it up in torch takes a noticeable part of a call


def pack(model: nn.Module) -> nn.Module:
    """A copy of a network for use: every BitLinear layer packed, everything else as it is, in evaluation mode.

    Its outputs equal those of ``model.eval()`` to the bit (where layers stayed in floating point, for equal batches).
    In an `nn.Sequential`, packed layers that follow each other, with or without ReLU, run in a single call of the
    kernel. BitLinear layers with full-precision weights have no codes, and stay.

    Raises:
        ValueError: the model has no BitLinear layer with integer weights.
    """
    layers = {
        module: PackedBitLinear.of(module)
        for module in model.modules()
        if isinstance(module, BitLinear) and module.spec.weights is not None
    }
    if not layers and not any(isinstance(module, PackedBitLinear) for module in model.modules()):
        raise ValueError(f"pack: {type(model).__name__} has no BitLinear layer with integer weights; see quantize_")
    return replace_layers(model, layers)


def replace_layers(model: nn.Module, layers: dict[nn.Linear, PackedBitLinear]) -> nn.Module:
    """A copy of ``model`` in evaluation mode, without gradients, in which packed layers stand for linear ones."""
    # A deep copy that has "already copied" the layers puts the packed ones wherever the model refers to them.
    packed = copy.deepcopy(model, {id(layer): replacement for layer, replacement in layers.items()})
    for module in packed.modules():
        if type(module) is nn.Sequential and any(isinstance(child, PackedBitLinear) for child in module):
            module.__class__ = PackedSequential
    disable_fused_paths(packed, PackedBitLinear)
    return packed.eval().requires_grad_(False)


class PackedBitLinear(nn.Module):
    """A BitLinear layer without latent weights: 2 bits a weight and one float. Not for training.

    float32 inputs on the CPU run on the native kernel where there is one; everything else runs on torch operations,
    with the same bits.

    Args:
        t: the codes of the weights, int8 (out, in), as `bithep_lib.bitlinear.weight_codes` gives them.
        beta: their scale, a scalar.
        bias: (out,) or None.
        spec: of the trained layer; ``spec.weights`` is not None.

    Attributes:
        codes: uint8, as `bithep_lib.codes.pack_codes` gives them; int8 as they are for ``spec.weights="int8"``.

    Shape:
        (..., in) to (..., out), in the dtype of the input, equal to the output of the trained layer.
    """

    codes: Tensor
    beta: Tensor
    bias: Tensor | None

    def __init__(self, t: Tensor, beta: Tensor, bias: Tensor | None, spec: QuantSpec) -> None:
        codes = t.clone() if spec.weights == "int8" else pack_codes(t)
        bias = None if bias is None else bias.detach().to(beta.dtype, copy=True)
        self._set(codes, beta.detach().clone(), bias, t.shape, spec)

    @classmethod
    def of_codes(
        cls, codes: Tensor, beta: Tensor, bias: Tensor | None, shape: tuple[int, int], spec: QuantSpec
    ) -> PackedBitLinear:
        """A layer around packed codes, without a copy; ``shape`` is (out, in)."""
        layer = cls.__new__(cls)
        layer._set(codes, beta, bias, shape, spec)
        return layer

    def _set(self, codes, beta, bias, shape, spec) -> None:
        super().__init__()
        self.out_features, self.in_features = shape
        self.spec = spec
        self.register_buffer("codes", codes)
        self.register_buffer("beta", beta)
        self.register_buffer("bias", bias)
        self.on_kernel = kernel_serves(spec, self.in_features) and beta.dtype == torch.float32
        self._call: Callable[[Tensor], Tensor] | None = None

    @classmethod
    def of(cls, layer: BitLinear) -> PackedBitLinear:
        """The packed form of a trained layer."""
        weight = layer.weight.detach()
        t, beta = weight_codes(weight.to(compute_dtype(weight)), layer.spec)
        bias = None if layer.bias is None else bias_on_grid(layer.bias.detach().to(beta.dtype), beta, layer.spec)
        return cls(t, beta, bias, layer.spec)

    def forward(self, input: Tensor) -> Tensor:
        if is_compiling() and self.on_kernel:
            return _packed_linear(input, self.codes, self.beta, self.bias, self.out_features, *self.spec.fields)
        if self.on_kernel and _runs_on_kernel(input):
            if self._call is None:
                self._call = native.kernel().prepare([self.layer()])
            return self._call(input)
        return _torch_forward(input, self.t, self.beta, self.bias, self.spec)

    @property
    def t(self) -> Tensor:
        """The codes of the weights, int8 (out, in)."""
        if self.spec.weights == "int8":
            return self.codes
        return unpack_codes(self.codes, self.out_features, self.in_features)

    def layer(self, relu: bool = False) -> native.PackedLayer:
        """The layer as the kernel takes it."""
        sizes = self.in_features, self.out_features
        return native.PackedLayer(
            self.codes, self.beta, self.bias, *sizes, self.spec.q_max, self.spec.fixed_scale, relu
        )

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, {self.spec}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedBitLinear:
        """Tensors move to another device, but the scale and the bias keep their precision, as in the trained layer."""
        exact = {"beta": self.beta, "bias": self.bias}
        super()._apply(fn, recurse)
        for name, tensor in exact.items():
            if tensor is not None and getattr(self, name).dtype != tensor.dtype:
                setattr(self, name, tensor.to(getattr(self, name).device))
        self._call = None  # it points to the old tensors
        return self

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args) -> None:
        # Copy into the tensors that the kernel points to, whatever load_state_dict(assign=) says.
        super()._load_from_state_dict(state_dict, prefix, {**local_metadata, "assign_to_params_buffers": False}, *args)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_call": None}


class PackedSequential(nn.Sequential):
    """An `nn.Sequential` whose runs of packed layers and ReLUs are one call each. Made by `pack`."""

    _run: Callable[[Tensor], Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:
        if self.training or is_compiling() or not _runs_on_kernel(input):
            return super().forward(input)
        if self._run is None:
            steps = self._group()
            self._run = steps[0] if len(steps) == 1 else _one_after_the_other(steps)
        return self._run(input)

    def runs(self) -> list[nn.Module | list[nn.Module]]:
        """The children in order; packed layers that one call can run, with the modules between them, as a list."""
        steps: list[nn.Module | list[nn.Module]] = []
        for child in self:
            run = steps[-1] if steps and isinstance(steps[-1], list) else None
            if isinstance(child, PackedBitLinear) and child.on_kernel:
                if run is None:
                    steps.append(run := [])
                run.append(child)
            elif run is not None and type(child) in (nn.ReLU, nn.Identity, nn.Dropout):
                run.append(child)
            else:
                steps.append(child)
        return steps

    def _group(self) -> list[Callable[[Tensor], Tensor]]:
        """The children, with each run as one function."""
        return [native.kernel().prepare(_layers(step)) if isinstance(step, list) else step for step in self.runs()]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedSequential:
        self._run = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None}


def _layers(run: list[nn.Module]) -> list[native.PackedLayer]:
    """A run as the kernel takes it: a ReLU belongs to the layer before it, and dropout does nothing in evaluation."""
    layers: list[native.PackedLayer] = []
    for child in run:
        if isinstance(child, PackedBitLinear):
            layers.append(child.layer())
        elif isinstance(child, nn.ReLU):
            layers[-1] = replace(layers[-1], relu=True)
    return layers


def _one_after_the_other(steps: list[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return run


def _runs_on_kernel(x: Tensor) -> bool:
    return (
        x.dtype is FLOAT
        and x.is_cpu
        and not (x.requires_grad and torch.is_grad_enabled())
        and native.kernel() is not None
    )


def _torch_forward(x: Tensor, t: Tensor, beta: Tensor, bias: Tensor | None, spec: QuantSpec) -> Tensor:
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("a packed layer has no gradient: differentiate the trained network, or use torch.no_grad()")
    if x.shape[-1] != t.shape[1]:
        raise ValueError(f"the layer takes {t.shape[1]} features, but the input has {x.shape[-1]}")
    dtype = compute_dtype(x)
    y, _, _ = quantised_forward(x.reshape(-1, x.shape[-1]), t.to(dtype), beta.to(dtype), bias, spec)
    return y.to(x.dtype).view(*x.shape[:-1], t.shape[0])


@torch.library.custom_op("bithep::packed_linear", mutates_args=())
def _packed_linear(
    x: Tensor,
    codes: Tensor,
    beta: Tensor,
    bias: Tensor | None,
    out_features: int,
    weights: str,
    activation_bits: int,
    levels: int | None,
    activation_scale: str,
    activation_exponent: int | None,
) -> Tensor:
    """A packed layer as one operator that `torch.compile` does not look into (see `bithep_lib.compiled`)."""
    spec = QuantSpec(weights, activation_bits, levels, activation_scale, activation_exponent)
    return PackedBitLinear.of_codes(codes, beta, bias, (out_features, x.shape[-1]), spec)(x.contiguous())


@_packed_linear.register_fake
def _(x, codes, beta, bias, out_features, *spec):
    return x.new_empty((*x.shape[:-1], out_features))
