"""What chapter 4 runs: every setup, control and ablation of the flow by the name that stands in its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import torch

from bithep_lib.bitlinear import QuantSpec
from bithep_lib.models import CaloINN
from bithep_lib.quantize import QuantReport, Select, count, quantize_

SETUPS = tuple(CaloINN.strategies)
"""Those of Table 3."""


@dataclass(frozen=True)
class Variant:
    """One way to build and train the flow.

    Attributes:
        setup: permutations and layers in bits, as in Table 3.
        spec: into which bits.
        options: further arguments of `CaloINN`.
        layers: ``"setup"``: those of the setup; ``"random"``: of all linear layers so many, drawn with `draw`, that
            the quantised fraction is that of the setup, in whose flow only these are in bits then.
        draw: see `layers`.
        frozen: the layers in bits keep random weights (also the last ones, which would start at zero), and only the
            rest is trained.
        after: this variant is trained, and its layers become bits afterwards, without further training.
        equal_bytes: the width of the conditioners is the largest with which the flow, in full precision, has no more
            bytes than this setup has with 2-bit fields.
        width: times the width of the conditioners.
        repeat: this number is added to the seed of weights and order, so that the same setup is trained anew.
    """

    setup: str = "Default"
    spec: QuantSpec = QuantSpec()
    options: Mapping[str, Any] = field(default_factory=dict)
    layers: Literal["setup", "random"] = "setup"
    draw: int = 0
    frozen: bool = False
    after: str | None = None
    equal_bytes: str | None = None
    width: float = 1.0
    repeat: int = 0

    def sizes(self, dataset: str, **sizes: int) -> dict[str, Any]:
        """The arguments of `CaloINN` beyond data set and seed, from the sizes of the scale."""
        if self.equal_bytes is not None:
            sizes["hidden"] = equal_bytes_width(self.equal_bytes, dataset, **sizes)
        sizes["hidden"] = round(self.width * sizes["hidden"])
        exchange = self.setup in ("ExchangePermutation", "BlockCentral")
        return {"permutations": "exchange" if exchange else "random"} | sizes | dict(self.options)

    def select(self, dataset: str, **sizes: int) -> Select | None:
        """Which layers become bits."""
        if self.layers == "setup":
            return CaloINN.strategies[self.setup]
        chosen = random_layers(self.setup, self.draw, dataset, **sizes)
        return lambda name, linear: name in chosen

    def build(
        self, seed: int, dataset: str, example: tuple[torch.Tensor, torch.Tensor] | None = None, **sizes: int
    ) -> tuple[CaloINN, QuantReport]:
        """The flow with permutations and weights drawn from ``seed`` alone, and what is quantised in it.

        Args:
            seed: of the training.
            dataset: as for `CaloINN`.
            example: (x, condition) of a few showers, for the counts that need a forward pass.
            **sizes: ``n_blocks``, ``hidden``, ``bins`` of the scale.
        """
        flow = CaloINN(dataset, seed=seed + self.repeat, **self.sizes(dataset, **sizes))
        report = quantize_(flow, self.select(dataset, **sizes), self.spec, example=example)
        if self.frozen:
            with torch.random.fork_rng(devices=()):
                torch.manual_seed(seed)
                for layer in report.quantized:
                    linear = flow.get_submodule(layer.name)
                    linear.reset_parameters()
                    linear.requires_grad_(False)
        return flow, report


@cache
def equal_bytes_width(setup: str, dataset: str, **sizes: int) -> int:
    """The width of the conditioners at which the float flow has at most the bytes of the setup in bits."""
    with torch.device("meta"):
        most = CaloINN.build(setup, dataset=dataset, **sizes)[1].bytes.two_bit

        def fits(hidden: int) -> bool:
            return count(CaloINN(dataset, **sizes | {"hidden": hidden})).bytes.float32 <= most

        return max(_largest(fits, sizes["hidden"]), 1)


@cache
def random_layers(setup: str, draw: int, dataset: str, **sizes: int) -> frozenset[str]:
    """Linear layers drawn at random until their parameters make up the setup's fraction, or the next would exceed it.

    Layers that are too large are passed over, so that the fraction is met as closely as the remaining ones allow.
    """
    with torch.device("meta"):
        _, report = CaloINN.build(setup, dataset=dataset, **sizes)
    left = sum(layer.parameters for layer in report.quantized)
    chosen = set()
    for index in np.random.default_rng([draw, len(report.layers)]).permutation(len(report.layers)):
        layer = report.layers[index]
        if layer.parameters <= left:
            chosen.add(layer.name)
            left -= layer.parameters
    return frozenset(chosen)


def _largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that fits, where all below it do; 0 if none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _grid(setup: str) -> dict[str, Variant]:
    """Weights {float, int8, ternary, binary} x activations {float, 8 bit}, but for the two that have a name already."""
    found = {}
    for weights in (None, "int8", "ternary", "binary"):
        for bits in (None, 8):
            if (weights, bits) not in ((None, None), ("ternary", 8)):
                name = f"caloinn/{setup} {weights or 'float'}-{f'{bits}bit' if bits else 'float'}"
                found[name] = Variant(setup, QuantSpec(weights=weights, activation_bits=bits))
    return found


def _ablation(what: str, **options: Any) -> dict[str, Variant]:
    return {f"caloinn/{setup} {what}": Variant(setup, options=options) for setup in SETUPS}


VARIANTS: dict[str, Variant] = (
    {f"caloinn/{setup}": Variant(setup) for setup in SETUPS}
    | _grid("All")
    | {
        "caloinn/Default equal bytes": Variant(equal_bytes="All"),
        "caloinn/Default again": Variant(repeat=1000),
        "caloinn/All frozen": Variant("All", frozen=True),
        "caloinn/BlockCentral frozen": Variant("BlockCentral", frozen=True),
        "caloinn/All after training": Variant("All", after="caloinn/Default"),
        "caloinn/BlockCentral after training": Variant("BlockCentral", after="caloinn/ExchangePermutation"),
        "caloinn/NNCentral after training": Variant("NNCentral", after="caloinn/Default"),
    }
    | {
        f"caloinn/{setup} random layers {draw}": Variant(setup, layers="random", draw=draw)
        for setup in ("NNCentral", "BlockCentral")
        for draw in (1, 2, 3)
    }
    | {f"caloinn/{setup} {name}": replace(Variant(setup), width=width)
       for setup in ("Default", "All") for name, width in (("half width", 0.5), ("double width", 2.0))}
    | _ablation("tails by sample", as_published=True)
    | _ablation("standardised", standardise=True)
    | _ablation("separate condition", separate_condition=True)
)  # fmt: skip
