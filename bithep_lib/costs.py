"""What a network costs: operations, bytes, modelled energy and measured time, beside the same network in float32.

    >>> cost(model, example=torch.randn(1, 16))
    ...                                      # a table: one row a layer, then totals and the limit by Amdahl's law

Layers left in floating point are counted like the others. They bound what bits can gain: if the BitLinear layers were
free, the network would still cost the rest (Amdahl's law).
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bithep_lib import native
from bithep_lib.bitlinear import BitLinear, weight_codes
from bithep_lib.codes import to_bytes
from bithep_lib.energy import Memory, energy, operations
from bithep_lib.packed import PackedBitLinear, PackedSequential, pack
from bithep_lib.spec import QuantSpec
from bithep_lib.timing import interleaved, ratios

__all__ = ["Cost", "cost", "multiply_adds"]

KINDS = ("int32_add", "int8_mul", "fp32_add", "fp32_mul", "fp32_div")


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass.

    Attributes:
        layers: one row a linear layer, and one for the products outside of linear layers: ``arithmetic``, ``tokens``,
            ``in``, ``out``, ``macs``, the operations by type (``int32_add``, ...), ``weight_bytes``, the modelled
            picojoules ``product``, ``quantise``, ``weights``, ``activations``, ``energy``, and for the same layer in
            float32 ``float_energy``. Element-wise functions, normalisations and softmax are not counted.
        bytes: sizes of all parameters and buffers: ``float32``, ``memory`` (packed, measured on its tensors), ``disk``.
        times: seconds of a call in each round, as `bithep_lib.timing.interleaved` gives them: of the network in
            ``float32``, ``packed``, and in float32 with its quantised layers doing nothing (``bits_free``). None if not
            measured.
        weights_from: the memory assumed for the weights, in the energy model.
        threads: used for the times.
        backend: of the packed network.
    """

    layers: pd.DataFrame
    bytes: dict[str, int]
    times: pd.DataFrame | None
    weights_from: Memory
    threads: int
    backend: str

    @property
    def speedup(self) -> pd.DataFrame | None:
        """Measured speed over that of float32: median and quartiles; ``bits_free`` is Amdahl's limit for the time."""
        return None if self.times is None else ratios(self.times, "float32", inverse=True)

    @property
    def gain(self) -> dict[str, float]:
        """How much less than in float32: modelled ``energy``, bytes in ``memory`` and on ``disk``."""
        return {
            "energy": self.layers["float_energy"].sum() / self.layers["energy"].sum(),
            "memory": self.bytes["float32"] / self.bytes["memory"],
            "disk": self.bytes["float32"] / self.bytes["disk"],
        }

    @property
    def amdahl(self) -> dict[str, float]:
        """The gain if the quantised layers cost nothing: in multiply-adds, in modelled energy, and measured in time."""
        left = self.layers[~self.layers["bits"]]
        limits = {
            quantity: self.layers[column].sum() / left[column].sum() if left[column].sum() else float("inf")
            for quantity, column in (("macs", "macs"), ("energy", "float_energy"))
        }
        if self.times is not None:
            limits["time"] = self.speedup.loc["bits_free", "median"]
        return limits

    def table(self) -> pd.DataFrame:
        """The layers with the columns worth reading, and their sum."""
        summed = ["macs", "int32_add", "fp32_add", "fp32_mul", "weight_bytes", "energy", "float_energy"]
        total = {column: self.layers[column].sum() if column in summed else "" for column in self.layers}
        table = pd.concat([self.layers.astype(object), pd.DataFrame([total], index=["sum"])])
        table[["energy", "float_energy"]] = (table[["energy", "float_energy"]].astype(float) / 1000).round(2)
        table["weight_bytes"] = table["weight_bytes"].astype(int)
        columns = ["arithmetic", "tokens", "in", "out", *summed]
        return table[columns].rename(columns={"energy": "energy [nJ]", "float_energy": "in float32 [nJ]"})

    def summary(self) -> list[str]:
        """The totals in words."""
        size, gain, limits = self.bytes, self.gain, self.amdahl

        def if_free(limit: float) -> str:
            return "nothing is left in float" if limit == float("inf") else f"{limit:.1f} x if the bits were free"

        lines = [
            f"bytes: {size['float32']:,} in float32, {size['memory']:,} packed in memory "
            f"({gain['memory']:.1f} x less), {size['disk']:,} on disk ({gain['disk']:.1f} x less)",
            f"multiply-adds: {1 - 1 / limits['macs']:.1%} in quantised layers; {if_free(limits['macs'])}",
            f"modelled energy, weights from {self.weights_from}: {gain['energy']:.1f} x less; "
            f"{if_free(limits['energy'])}",
        ]
        if self.times is not None:
            packed = self.speedup.loc["packed"]
            lines.append(
                f"measured time, {self.backend}, threads: {self.threads}: {packed['median']:.2f} x faster "
                f"[{packed['low']:.2f}, {packed['high']:.2f}]; {if_free(limits['time'])}"
            )
        return lines

    def __repr__(self) -> str:
        return "\n".join([self.table().to_string(), *self.summary()])

    def _repr_html_(self) -> str:
        rows = "".join(f"<li>{line}</li>" for line in self.summary())
        return f"{self.table().to_html()}<ul>{rows}</ul>"


def cost(
    model: nn.Module,
    example: Tensor | tuple[Any, ...],
    *,
    weights_from: Memory = "sram_1mb",
    rounds: int = 15,
) -> Cost:
    """Count, model and measure one forward pass of a network, beside the same network in float32.

    Args:
        model: with BitLinear layers, or packed. It is not changed.
        example: an input, or a tuple of inputs; its first axis is the batch that is counted and timed.
        weights_from: memory that the weights come from in the energy model (see `bithep_lib.energy`).
        rounds: interleaved rounds of timing; 0 measures no time.

    Raises:
        ValueError: no quantised layer, or an unknown memory.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    packed = pack(model)
    layers, other = _count(packed, inputs)
    rows = [_row(name, layer, tokens, weights_from) for name, layer, tokens in layers]
    if other:
        rows.append(_row_of_products(other))
    replaced = _replaced(model)
    times = None
    if rounds:
        floats = (x.dtype for x in inputs if isinstance(x, Tensor) and x.is_floating_point())
        dtype = next(floats, torch.float32)  # a network in another precision is compared in that precision
        in_float = _swap(model, {layer: _float_layer(layer, dtype) for layer in replaced})
        free = _swap(packed, _free_layers(packed))
        with torch.inference_mode():
            networks = {"float32": in_float, "packed": packed, "bits_free": free}
            calls = {name: (lambda network=network: network(*inputs)) for name, network in networks.items()}
            times = interleaved(calls, rounds=rounds)
    table = pd.DataFrame(rows).set_index("layer")
    return Cost(table, _sizes(packed), times, weights_from, torch.get_num_threads(), native.backend())


def multiply_adds(model: nn.Module, example: Tensor | tuple[Any, ...]) -> int:
    """Multiply-adds of one forward pass of any network, in floating point, bits or packed.

    Counted are linear layers, convolutions and products between activations; see `Cost.layers`. On the device ``meta``
    it takes no memory.
    """
    layers, other = _count(model, example if isinstance(example, tuple) else (example,))
    return other + sum(tokens * layer.in_features * layer.out_features for _, layer, tokens in layers)


def _count(packed: nn.Module, inputs: tuple[Any, ...]) -> tuple[list[tuple[str, nn.Module, int]], int]:
    """Linear layers with the number of vectors that entered each, and multiply-adds of all other matrix products."""
    linears = {
        module: name for name, module in packed.named_modules() if isinstance(module, nn.Linear | PackedBitLinear)
    }
    tokens: Counter[nn.Module] = Counter()

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        tokens[module] += output.numel() // module.out_features

    handles = [module.register_forward_hook(count) for module in linears]
    counter, fast_path = FlopCounterMode(display=False), torch.backends.mha.get_fastpath_enabled()
    try:
        # Attention by its definition and layers by torch, one by one: the counter sees no kernels.
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), native.use_backend("torch"), counter:
            packed(*inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for handle in handles:
            handle.remove()
    in_linears = sum(tokens[module] * module.in_features * module.out_features for module in linears)
    called = [(name or type(module).__name__, module, tokens[module]) for module, name in linears.items()]
    return [entry for entry in called if entry[2]], counter.get_total_flops() // 2 - in_linears


def _row(name: str, layer: nn.Module, tokens: int, weights_from: Memory) -> dict[str, Any]:
    spec = getattr(layer, "spec", QuantSpec(None, None))
    weights, nonzero = spec.weights, None
    if isinstance(layer, PackedBitLinear):
        nonzero = int(layer.t.count_nonzero())
    shape, bias = (tokens, layer.in_features, layer.out_features), layer.bias is not None
    done = operations(
        *shape,
        weights=weights,
        nonzero=nonzero,
        integer_inputs=spec.activation_bits is not None,
        bias=bias,
        dynamic_scale=not spec.power_of_two,
    )
    used, in_float = energy(done, weights_from), energy(operations(*shape, bias=bias), weights_from)
    inputs = "float" if spec.activation_bits is None else f"{spec.activation_bits} bit"
    return {
        "layer": name,
        "bits": isinstance(layer, PackedBitLinear),
        "arithmetic": "float" if spec == QuantSpec(None, None) else f"{weights or 'float'} x {inputs}",
        "tokens": tokens,
        "in": layer.in_features,
        "out": layer.out_features,
        "macs": tokens * layer.in_features * layer.out_features,
        **{kind: done.count(kind) for kind in KINDS},
        "weight_bytes": done.weight_bytes,
        **vars(used),
        "energy": used.total,
        "float_energy": in_float.total,
    }


def _row_of_products(macs: int) -> dict[str, Any]:
    """Products between activations, as in attention, and convolutions; their operands are not counted as bytes."""
    done = energy(operations(1, 1, macs, bias=False), "sram_8kb")
    return {
        "layer": "other products",
        "bits": False,
        "arithmetic": "float",
        "tokens": 0,
        "in": 0,
        "out": 0,
        "macs": macs,
        **{kind: macs if kind in ("fp32_add", "fp32_mul") else 0 for kind in KINDS},
        "weight_bytes": 0.0,
        "product": done.product,
        "quantise": 0.0,
        "weights": 0.0,
        "activations": 0.0,
        "energy": done.product,
        "float_energy": done.product,
    }


def _sizes(packed: nn.Module) -> dict[str, int]:
    layers = {module for module in packed.modules() if isinstance(module, PackedBitLinear)}
    tensors = {id(t): t for t in (*packed.parameters(), *packed.buffers())}
    codes = sum(layer.codes.nbytes for layer in layers)
    rest = sum(t.nbytes for t in tensors.values()) - codes
    scales = sum(layer.beta.nbytes for layer in layers)
    return {
        "float32": rest - scales + sum(4 * layer.in_features * layer.out_features for layer in layers),
        "memory": rest + codes,
        "disk": rest + sum(to_bytes(layer.t, layer.spec.weights).nbytes for layer in layers),
    }


def _replaced(model: nn.Module) -> list[nn.Module]:
    return [
        module
        for module in model.modules()
        if isinstance(module, PackedBitLinear) or (isinstance(module, BitLinear) and module.spec.weights is not None)
    ]


def _free_layers(packed: nn.Module) -> dict[nn.Module, nn.Module]:
    """Replacements that take no time, for packed layers and for the runs of them that are one call."""
    free: dict[nn.Module, nn.Module] = {
        module: _Free(module.in_features, module.out_features)
        for module in packed.modules()
        if isinstance(module, PackedBitLinear)
    }
    for module in packed.modules():
        if isinstance(module, PackedSequential):
            free[module] = _FreeSequential(*(free.get(child, child) for child in module))
            free[module].steps = [_free_run(run) if isinstance(run, list) else run for run in module.runs()]
    return free


def _free_run(run: list[nn.Module]) -> nn.Module:
    layers = [child for child in run if isinstance(child, PackedBitLinear)]
    return _Free(layers[0].in_features, layers[-1].out_features)


def _swap(model: nn.Module, replacements: dict[nn.Module, nn.Module]) -> nn.Module:
    return copy.deepcopy(model, {id(layer): new for layer, new in replacements.items()}).eval().requires_grad_(False)


def _float_layer(layer: BitLinear | PackedBitLinear, dtype: torch.dtype) -> nn.Linear:
    """An `nn.Linear` with the quantised weights, as floats."""
    if isinstance(layer, PackedBitLinear):
        t, beta = layer.t, layer.beta
    else:
        t, beta = weight_codes(layer.weight, layer.spec)
    linear = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, t.device, dtype)
    with torch.no_grad():
        linear.weight.copy_(t * beta)
        if layer.bias is not None:
            linear.bias.copy_(layer.bias)
    return linear


class _Free(nn.Module):
    """A layer that takes no time: an output of the right shape, whatever the input."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self._outputs: dict[torch.Size, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape[:-1]
        if shape not in self._outputs:
            self._outputs[shape] = x.new_zeros(*shape, self.out_features)
        return self._outputs[shape]


class _FreeSequential(nn.Sequential):
    """Calls ``steps`` alone; the children are there for models that look at their layers' sizes."""

    steps: list[nn.Module]

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x
