"""What chapter 5 runs: every combination, control and test by the name that stands in its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bithep_lib.bitlinear import QuantSpec
from bithep_lib.models.calodream import ENERGY_SETUPS, SHAPE_SETUPS, CaloDREAM
from bithep_lib.quantize import QuantReport, count, quantize_

PUBLISHED = "regular", "no_embedding", "full"
"""The setups of the shape network in Table 4."""
EMBEDDINGS = "x_embedding", "time_embedding", "condition_embedding"


@dataclass(frozen=True)
class Part:
    """One of the two networks, and how it becomes bits.

    Attributes:
        setup: which layers: a key of `ENERGY_SETUPS` or `SHAPE_SETUPS`.
        spec: into which bits.
        embeddings: into which bits the embeddings of the shape network, where not the same.
        sizes: arguments of the network beyond those of the scale.
        frozen: the layers in bits keep their random initial weights, and only the rest is trained.
        after: trained in full precision; the layers become bits afterwards, without further training.
    """

    setup: str = "regular"
    spec: QuantSpec = QuantSpec()
    embeddings: QuantSpec | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)
    frozen: bool = False
    after: bool = False

    @property
    def trained(self) -> Part:
        """What is trained: for ``after`` the network in full precision."""
        return replace(self, setup="regular", after=False) if self.after else self


@dataclass(frozen=True)
class Variant:
    """A generator: an energy network and a shape network that were trained one by one."""

    energy: Part = Part()
    shape: Part = Part()


def build(
    variant: Variant, seed: int, *, energy: Mapping[str, Any], shape: Mapping[str, Any]
) -> tuple[CaloDREAM, QuantReport]:
    """Both networks with weights drawn from ``seed`` alone, the same in all setups, and what is quantised in them.

    Args:
        variant: what becomes bits.
        seed: of the initial weights.
        energy: sizes of the energy network at this scale.
        shape: sizes of the shape network at this scale.
    """
    sizes = {"energy": dict(energy) | dict(variant.energy.sizes), "shape": dict(shape) | dict(variant.shape.sizes)}
    model = CaloDREAM(**sizes, seed=seed)
    return model, quantise(model, variant)


def quantise(model: CaloDREAM, variant: Variant) -> QuantReport:
    """Turn the layers that `variant` names into bits, in place."""
    for name in ("energy", "shape"):
        part: Part = getattr(variant, name)
        chosen = CaloDREAM.strategies[f"{part.setup}/regular" if name == "energy" else f"regular/{part.setup}"]
        if chosen is None:
            continue
        report = quantize_(model, chosen, part.spec)
        mine = [layer.name for layer in report.layers if layer.spec is not None and layer.name.startswith(f"{name}.")]
        for layer in mine:
            linear = model.get_submodule(layer)
            if part.embeddings is not None and layer.split(".")[1] in EMBEDDINGS:
                linear.spec = part.embeddings
            linear.requires_grad_(not part.frozen)
    return count(model)


def _grid(setup: str) -> dict[str, Variant]:
    """Weights {float, int8, ternary, binary} x activations {float, 8 bit}, but for the two that have a name already."""
    found = {}
    for weights in (None, "int8", "ternary", "binary"):
        for bits in (None, 8):
            if (weights, bits) not in ((None, None), ("ternary", 8)):
                name = f"calodream/regular/{setup} {weights or 'float'}-{f'{bits}bit' if bits else 'float'}"
                found[name] = Variant(shape=Part(setup, QuantSpec(weights=weights, activation_bits=bits)))
    return found


TERNARY_ONLY = QuantSpec(activation_bits=None)
"""Ternary weights, inputs in full precision."""

EQUAL_BYTES = 60
"""Width of a shape network in float32 with as many bytes as one of width 96 without embeddings in bits."""

GFLASH = "gflash"
"""How variants begin that are for ``data="gflash"``: there are as many showers as one likes, and none is seen twice."""
WIDTHS = 24, 48, 96
"""Of the shape network, in the test bed."""

SHORTER = 1
"""Passes over the training showers in the variants that show what the length of the training decides
(``-p epochs=1``)."""

VARIANTS: dict[str, Variant] = (
    {
        f"calodream/{energy}/{shape}": Variant(Part(energy), Part(shape))
        for shape in SHAPE_SETUPS
        for energy in ENERGY_SETUPS
    }
    | _grid("no_embedding")
    | _grid("full")
    | {
        # Why embeddings must not be quantised: inputs that share a scale, of the condition or of the time.
        "calodream/regular/full float embeddings": Variant(shape=Part("full", embeddings=TERNARY_ONLY)),
        "calodream/regular/full separate condition": Variant(shape=Part("full", sizes={"separate_energy": True})),
        "calodream/regular/full time x1000": Variant(shape=Part("full", sizes={"time_scale": 1000.0})),
        "calodream/regular/regular equal bytes": Variant(shape=Part(sizes={"width": EQUAL_BYTES})),
    }
    | {
        f"calodream/regular/{setup} {what}": Variant(shape=Part(setup, **{option: True}))
        for setup in ("no_embedding", "full")
        for what, option in (("after training", "after"), ("frozen", "frozen"))
    }
    | {f"calodream/regular/{setup} epochs={SHORTER}": Variant(shape=Part(setup)) for setup in PUBLISHED}
    | {
        f"{GFLASH}/regular/{setup} width {width}": Variant(shape=Part(setup, sizes={"width": width}))
        for width in WIDTHS
        for setup in PUBLISHED
    }
)
"""The six of Table 4, single parts, the grid of weights and activations, the cures, the controls, and the test bed."""
