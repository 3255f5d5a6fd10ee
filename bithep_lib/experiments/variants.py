"""What chapter 2 runs: every tagger, strategy, control and fault by the name that stands in its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from bithep_lib.bitlinear import QuantSpec
from bithep_lib.data import quark_gluon
from bithep_lib.models import PDAT, ParticleFlowNetwork, SMEFTNet
from bithep_lib.quantize import QuantReport, quantize_

REDUCED = {"embed": 32, "heads": 4, "neighbours": (10, 10), "max_constituents": 40}
"""A P-DAT that trains in minutes: for the dense scans, and live on a page."""

_BUILDERS = {
    "pdat": partial(PDAT.build, recompute=False),  # stored runs have the memory
    "pdat without attention": partial(PDAT.build, recompute=False),
    "pfn": partial(ParticleFlowNetwork.build, n_features=len(quark_gluon.FEATURES)),
    "smeftnet": SMEFTNet.build,
    "smeftnet with a vector head": SMEFTNet.build,
}


@dataclass(frozen=True)
class Variant:
    """One way to build and train a network.

    Attributes:
        model: ``"pdat"``, ``"pfn"``, ``"smeftnet"``; ``"pdat without attention"``, whose attention blocks hand on what
            they get; ``"smeftnet with a vector head"``, as published but for its two outputs, (cos 2f, sin 2f).
        strategy: which layers become bits.
        spec: into which bits.
        sizes: further arguments of the model.
        frozen: the layers in bits keep their random initial weights, and only the rest is trained.
        after: this variant is trained, and its layers become bits afterwards, without further training.
        shuffled: the labels of training and validation are permuted, so that there is nothing to learn.
    """

    model: str = "pdat"
    strategy: str = "none"
    spec: QuantSpec = QuantSpec()
    sizes: Mapping[str, Any] = field(default_factory=dict)
    frozen: bool = False
    after: str | None = None
    shuffled: bool = False

    def build(self, seed: int, example: Any = None) -> tuple[nn.Module, QuantReport]:
        """The network with weights drawn from ``seed`` alone, and what is quantised in it."""
        make = _BUILDERS[self.model]
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            model, report = make(self.strategy, spec=self.spec, example=example, **self.sizes)
        if self.model == "pdat without attention":
            bypass_attention(model)
        if self.model == "smeftnet with a vector head":
            with torch.random.fork_rng(devices=()):
                torch.manual_seed(seed)
                model.mlp[-1] = nn.Linear(model.mlp[-1].in_features, 2)
            report = quantize_(model, model.strategies[self.strategy], self.spec, example=example)
        if self.frozen:
            for layer in report.quantized:
                model.get_submodule(layer.name).requires_grad_(False)
        return model, report


def bypass_attention(model: PDAT) -> list[RemovableHandle]:
    """Let the attention blocks of a P-DAT hand on their input unchanged.

    They stay where they are, so that a network can be asked what its attention does for it; ``remove()`` of the handles
    brings them back.
    """
    blocks = (*model.particle_attention, *model.channel_attention)
    return [block.register_forward_hook(_unchanged) for block in blocks]


def _unchanged(block: nn.Module, inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return inputs[0], outputs[1]  # the particles as they came; the attention weights, which nobody uses


def grid(model: str, strategy: str) -> dict[str, Variant]:
    """Weights {float, int8, ternary, binary} x activations {float, 8 bit}, but for the two that have a name already."""
    found = {}
    for weights in (None, "int8", "ternary", "binary"):
        for bits in (None, 8):
            if (weights, bits) not in ((None, None), ("ternary", 8)):
                name = f"{model}/{strategy} {weights or 'float'}-{f'{bits}bit' if bits else 'float'}"
                found[name] = Variant(model, strategy, QuantSpec(weights=weights, activation_bits=bits))
    return found


def _faulty(*faults: str) -> Variant:
    return Variant("pdat", sizes={"faults": faults})


_PDAT: dict[str, Variant] = (
    {f"pdat/{strategy}": Variant("pdat", strategy) for strategy in PDAT.strategies}
    | grid("pdat", "attention")
    | {
        "pdat/attention frozen": Variant("pdat", "attention", frozen=True),
        "pdat/attention after training": Variant("pdat", "attention", after="pdat/none"),
        "pdat/none equal bytes": Variant("pdat", sizes={"embed": 56}),
        "pdat/none shuffled labels": Variant("pdat", shuffled=True),
        "pdat/none without attention": Variant("pdat without attention"),
        "pdat/none double softmax": _faulty("double_softmax"),
        "pdat/none no mask": _faulty("no_mask"),
        "pdat/none wrong phi": _faulty("wrong_phi"),
        "pdat/none as published": Variant("pdat", sizes={"as_published": True}),
        "pdat/attention as published": Variant("pdat", "attention", sizes={"as_published": True}),
    }
)


def _reduced(variant: Variant) -> Variant:
    after = variant.after and f"{variant.after} reduced"
    return replace(variant, sizes={**variant.sizes, **REDUCED}, after=after)


VARIANTS: dict[str, Variant] = (
    _PDAT
    | {f"{name} reduced": _reduced(variant) for name, variant in _PDAT.items()}
    | {"pdat/none equal bytes reduced": Variant("pdat", sizes=REDUCED | {"embed": 28})}
    | {f"pfn/{strategy}": Variant("pfn", strategy) for strategy in ParticleFlowNetwork.strategies}
    | grid("pfn", "all")
    | {
        "pfn/hidden frozen": Variant("pfn", "hidden", frozen=True),
        "pfn/all after training": Variant("pfn", "all", after="pfn/none"),
        "pfn/none equal bytes": Variant("pfn", sizes={"phi_sizes": (17, 17, 17), "f_sizes": (17, 17)}),
        "pfn/none shuffled labels": Variant("pfn", shuffled=True),
    }
)
