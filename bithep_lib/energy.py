"""What the operations of a layer cost in energy, by a published table: a model, not a measurement.

The energies are those of M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014,
doi:10.1109/ISSCC.2014.6757323: 45 nm, 0.9 V. Integer and floating-point operations of 32 bits and the 8 kB cache are
confirmed in an independent table (PMC8934428, table 3); the 8-bit operations, the larger memories and the DRAM are the
values commonly quoted from the talk. Assumptions:

* arithmetic and memory only: no control, no clock, no leakage, no idle units, and every operand is fetched once a call;
* a weight of zero costs nothing, as in a circuit that leaves it out (a processor spends the time all the same);
* a division costs seven multiplications; rounding and comparing cost an addition;
* the weights come from ``weights_from``, inputs and outputs, in float32, from the 32 kB cache.

Ratios between layers of one technology mean something; picojoules of another technology do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["Memory", "Operations", "PJ", "PJ_PER_BYTE", "Energy", "energy", "operations"]

PJ = {"fp32_add": 0.9, "fp32_mul": 3.7, "fp32_div": 7 * 3.7, "int32_add": 0.1, "int8_mul": 0.2}
"""Picojoules an operation."""

Memory = Literal["sram_8kb", "sram_32kb", "sram_1mb", "dram"]
PJ_PER_BYTE: dict[Memory, float] = {"sram_8kb": 10 / 8, "sram_32kb": 20 / 8, "sram_1mb": 100 / 8, "dram": 1300 / 8}
"""Picojoules a byte: 10, 20, 100 and 1300 for 64 bits."""


@dataclass(frozen=True)
class Operations:
    """Operations of one layer in one forward pass; ``quantise`` are those of equation 2 and of equation 3's scaling."""

    product: dict[str, int]
    quantise: dict[str, int]
    weight_bytes: float
    activation_bytes: int

    def count(self, kind: str) -> int:
        """How many of one kind, e.g. ``"int32_add"``."""
        return self.product.get(kind, 0) + self.quantise.get(kind, 0)


@dataclass(frozen=True)
class Energy:
    """Picojoules of one layer in one forward pass, by purpose."""

    product: float
    quantise: float
    weights: float
    activations: float

    @property
    def total(self) -> float:
        return self.product + self.quantise + self.weights + self.activations


def operations(
    tokens: int,
    in_features: int,
    out_features: int,
    *,
    weights: str | None = None,
    nonzero: int | None = None,
    integer_inputs: bool = False,
    bias: bool = True,
    dynamic_scale: bool = True,
) -> Operations:
    """Count the operations of a linear layer for ``tokens`` input vectors.

    Args:
        tokens: vectors that enter.
        in_features: K.
        out_features: N.
        weights: ``"ternary"``, ``"binary"``, ``"int8"`` or None (float32).
        nonzero: codes that are not zero (ternary; None: all).
        integer_inputs: the inputs are quantised, as in equation 2.
        bias: a bias is added.
        dynamic_scale: the scale of the inputs is computed for each token (False: a constant).
    """
    macs, inputs, outputs = tokens * in_features * out_features, tokens * in_features, tokens * out_features
    signed_sums = weights in ("ternary", "binary")
    additions = tokens * nonzero if weights == "ternary" and nonzero is not None else macs
    add, mul = ("int32_add", "int8_mul") if integer_inputs and weights is not None else ("fp32_add", "fp32_mul")
    product = {add: additions} if signed_sums else {add: macs, mul: macs}
    quantise: dict[str, int] = {}
    if integer_inputs:  # maximum and rounding (additions), scaling (a multiplication), two divisions a token
        quantise["fp32_add"] = (2 if dynamic_scale else 1) * inputs
        quantise["fp32_mul"] = inputs
        quantise["fp32_div"] = 2 * tokens if dynamic_scale else 0
    if integer_inputs or weights is not None:  # the scale of equation 3
        quantise["fp32_mul"] = quantise.get("fp32_mul", 0) + outputs
    if bias:
        product["fp32_add"] = product.get("fp32_add", 0) + outputs
    bits = {"ternary": 2, "binary": 2, "int8": 8, None: 32}[weights]
    return Operations(product, quantise, in_features * out_features * bits / 8, 4 * (inputs + outputs))


def energy(count: Operations, weights_from: Memory = "sram_1mb") -> Energy:
    """The modelled energy of a layer.

    Args:
        count: from `operations`.
        weights_from: where the weights lie: one of ``sram_8kb``, ``sram_32kb``, ``sram_1mb``, ``dram``.

    Raises:
        ValueError: another memory.
    """
    if weights_from not in get_args(Memory):
        raise ValueError(f"energy: weights_from={weights_from!r}; choose one of {', '.join(get_args(Memory))}")
    product, quantise = (sum(PJ[kind] * n for kind, n in part.items()) for part in (count.product, count.quantise))
    weights = count.weight_bytes * PJ_PER_BYTE[weights_from]
    return Energy(product, quantise, weights, count.activation_bytes * PJ_PER_BYTE["sram_32kb"])
