r"""SMEFTNet (arXiv:2401.10323, section 4 of arXiv:2504.03387): the angle of a decay plane from the particles of a jet.

The boson in the jet decays to two quarks; their plane has the azimuth phi around the jet. Which quark is which cannot
be seen, so phi is known up to pi, and the loss is the mean of sin^2(f - phi).

The network holds three promises for any value of its weights, full-precision or ternary: the output turns with the jet,
is the same for any order of the particles, and neither soft nor collinear particles change it. To that end the output
is a vector of spin 2, (cos 2f, sin 2f), as the axis of a line needs: a combination, with invariant coefficients, of
sums over particles that turn by twice the angle. The first of these is the moment axis,

.. math:: S = \sum_i z_i\, \theta_i\, (\cos 2\phi_i, \sin 2\phi_i),

with which the untrained network agrees. Training adds what a moment cannot see.

Bits keep the promises because all that a quantised layer sees is invariant, and because each token has its own scale: a
particle of 1e-9 of the energy leaves every code of the others as it is, to the bit. (One scale for a whole tensor would
not.) Turning a jet or reordering its particles moves the inputs of a layer by rounding errors, and once in a while one
code by one; in float32 that is some 1e-3 rad at most, in float64 it practically never happens.

The released code runs a perceptron for each pair of neighbours: 2.2 million multiply-adds for a jet of 40 particles
with 21 neighbours each (two layers [20, 20]), 99.9 % of them messages. Here the linear parts are done for particles
(see `MessageLayer`): 163 thousand, of which 40 thousand are products with weights, 95 % of those in the message
passing; the rest is the geometry of pairs, which has no weights.

Example:

    >>> model, report = SMEFTNet.build("message_passing")  # SMEFTNet-Bit30
    >>> f"{100 * report.fraction_weights:.1f} % of the weights are ternary"
    '30.4 % of the weights are ternary'
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bithep_lib.bitlinear import QuantSpec
from bithep_lib.models import smeftnet_released as released
from bithep_lib.models.message_passing import MessageLayer, RunningNorm, neighbourhoods, spin2_sums, turn
from bithep_lib.quantize import QuantReport, Select, quantize_

_BIT_CLASS: dict[str, Collection[str]] = {
    "none": (),
    "mlp": ("mlp",),
    "message_passing": ("message_passing",),
    "all": released.BLOCKS,
}


class SMEFTNet(nn.Module):
    """Regression of an axis (an angle modulo pi) from the particles of a jet.

    Args:
        layers: (channels of the messages, features afterwards) of each message-passing layer; by default two layers,
            with 30 % of the weights, as in the paper (as published (10, 10), with 28.6 %).
        mlp: hidden widths of the read-out.
        radius: particles closer than this are neighbours, in radians (units of ``xy``).
        as_published: the released construction, see `bithep_lib.models.smeftnet_released`. It sees the azimuth itself,
            returns an angle, and keeps none of the promises.
        bit_class: as published, blocks of the class that the quantised ones have (`build` sets it by strategy).

    Raises:
        ValueError: a size that is not positive.
    """

    strategies: ClassVar[dict[str, Select | None]] = {
        "none": None,
        "all": lambda name, _: True,
        "mlp": lambda name, _: name.startswith("mlp."),
        "message_passing": lambda name, _: name.startswith("message_passing."),
    }
    """What becomes bits: nothing (SMEFTNet), every linear layer (SMEFTNet-Bit), the read-out (-Bit70), the message
    passing (-Bit30)."""

    def __init__(
        self,
        layers: Sequence[tuple[int, int]] | None = None,
        mlp: Sequence[int] = (32, 32),
        radius: float = 0.4,
        as_published: bool = False,
        bit_class: Collection[str] = (),
    ) -> None:
        super().__init__()
        if layers is None:
            layers = ((10, 10),) * 2 if as_published else ((12, 10),) * 2
        sizes = [*(size for layer in layers for size in layer), *mlp, radius]
        if not layers or not mlp or min(sizes) <= 0:
            raise ValueError(f"SMEFTNet: layers={layers}, mlp={mlp}, radius={radius} must hold positive sizes")
        if isinstance(bit_class, str) or not set(bit_class) <= set(released.BLOCKS):
            raise ValueError(
                f"SMEFTNet: bit_class={bit_class!r}, allowed are collections of {', '.join(released.BLOCKS)}"
            )
        if bit_class and not as_published:
            raise ValueError("SMEFTNet: bit_class is of the released construction only, with as_published=True")
        self.radius = radius
        self.as_published = as_published
        widths = [int(as_published), *(fan_out for _, fan_out in layers)]
        n = widths[-1]
        if as_published:
            self.message_passing = nn.ModuleList(
                released.ReleasedMessageLayer(fan_in, hidden, fan_out, bit_class="message_passing" in bit_class)
                for fan_in, (hidden, fan_out) in zip(widths[:-1], layers, strict=True)
            )
            self.mlp = released.read_out(n, mlp, bit_class="mlp" in bit_class)
            self.scalars = nn.BatchNorm1d(1)
            return
        self.message_passing = nn.ModuleList(
            MessageLayer(fan_in + 2, hidden, fan_out)
            for fan_in, (hidden, fan_out) in zip(widths[:-1], layers, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(fan_out) for _, fan_out in layers)
        self.standardise = RunningNorm(3 * n + 3)
        self.mlp = _perceptron([3 * n + 3, *mlp, 2])
        self.mixing = nn.Parameter(torch.zeros(n))
        self.correction = nn.Parameter(torch.zeros(2))

    @classmethod
    def build(
        cls,
        strategy: str = "none",
        *,
        spec: QuantSpec = QuantSpec(),
        example: tuple[Tensor, Tensor, Tensor, Tensor] | None = None,
        **sizes: Any,
    ) -> tuple[SMEFTNet, QuantReport]:
        """A model and what is quantised in it.

        Args:
            strategy: a key of `strategies`.
            spec: how the chosen layers are quantised.
            example: (pt, xy, mask, jet_pt) of a few jets, for the counts that need a forward pass.
            **sizes: arguments of the model.
        """
        if strategy not in cls.strategies:
            raise ValueError(f"SMEFTNet.build: strategy={strategy!r}, allowed are {', '.join(cls.strategies)}")
        if sizes.get("as_published"):  # the released quantised blocks are of a class of their own
            sizes = {"bit_class": _BIT_CLASS[strategy]} | sizes
        model = cls(**sizes)
        return model, quantize_(model, cls.strategies[strategy], spec, example=example)

    def forward(self, pt: Tensor, xy: Tensor, mask: Tensor, jet_pt: Tensor) -> Tensor:
        """The axis of the decay as a vector of spin 2.

        Args:
            pt: (B, N) transverse momenta of the particles, in any unit.
            xy: (B, N, 2) their positions around the jet axis, theta (cos phi, sin phi).
            mask: (B, N), False for padding.
            jet_pt: (B,) transverse momentum of the jets in GeV.

        Returns:
            (B, 2), a positive multiple of (cos 2f, sin 2f); see `angle`. As published the angle itself, (B,).

        Raises:
            ValueError: shapes that do not belong together, or a jet without particles.
        """
        self._check(pt, xy, mask, jet_pt)
        z = torch.where(mask, pt, 0.0)
        z = z / z.sum(1, keepdim=True)
        if self.as_published:
            h, a = released.pooled(self.message_passing, z, xy, mask, self.radius)
            return self.mlp(torch.cat([self.scalars(jet_pt.unsqueeze(-1)), h, a], dim=-1)).squeeze(-1)
        a = torch.where(mask.unsqueeze(-1), xy, 0.0) / self.radius
        rho = a.norm(dim=-1, keepdim=True)  # which no layer changes
        h = a.new_empty(*z.shape, 0)
        for layer, norm in zip(self.message_passing, self.norms, strict=True):
            weight, energy = neighbourhoods(a, z)
            h, angle = layer(torch.cat([h, rho, energy.unsqueeze(-1)], dim=-1), a, weight)
            h, a = norm(h), turn(a, angle)
        return self._read_out(a, z, h, jet_pt)

    def _read_out(self, a: Tensor, z: Tensor, h: Tensor, jet_pt: Tensor) -> Tensor:
        """The moment axis, and two corrections to it: by sums with other weights, and by the read-out network."""
        moment, others, width = spin2_sums(a, z, h)
        axis = moment * (moment.square().sum(1, keepdim=True) + 1e-4).rsqrt()
        frame = torch.stack([axis, torch.stack([-axis[:, 1], axis[:, 0]], dim=1)], dim=2)  # along and across the axis
        pooled = (z.unsqueeze(1) @ h).squeeze(1)
        numbers = torch.stack([(moment * axis).sum(1), width.log(), jet_pt.log()], dim=1)
        seen = self.standardise(torch.cat([pooled, (others @ frame).flatten(1), numbers], dim=1))
        correction = (self.correction * self.mlp(seen)).unsqueeze(1)
        return moment + (self.mixing.unsqueeze(-1) * others).sum(1) + (frame * correction).sum(-1)

    @staticmethod
    def angle(output: Tensor) -> Tensor:
        """The angle f of outputs (B, 2), or of angles (B,), modulo pi in (-pi/2, pi/2]."""
        if output.ndim == 1:
            return math.pi / 2 - torch.remainder(math.pi / 2 - output, math.pi)
        return 0.5 * torch.atan2(output[:, 1], output[:, 0])

    @staticmethod
    def _check(pt: Tensor, xy: Tensor, mask: Tensor, jet_pt: Tensor) -> None:
        if pt.ndim != 2 or xy.shape != (*pt.shape, 2) or mask.shape != pt.shape or jet_pt.shape != pt.shape[:1]:
            raise ValueError(
                "SMEFTNet: pt must be (jets, particles), xy (jets, particles, 2), mask (jets, particles), "
                f"jet_pt (jets,), got {tuple(pt.shape)}, {tuple(xy.shape)}, {tuple(mask.shape)}, {tuple(jet_pt.shape)}"
            )
        if mask.dtype != torch.bool:
            raise ValueError(f"SMEFTNet: mask must be bool, got {mask.dtype}")
        if not bool(((pt > 0) & mask).any(1).all()):
            empty = (~((pt > 0) & mask).any(1)).nonzero().flatten()[:5].tolist()
            raise ValueError(f"SMEFTNet: no particle with pt > 0 in the jets {empty} of the batch; leave them out")


def _perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear, LayerNorm, ReLU for each step, the last one linear only."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out), nn.LayerNorm(fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-2])
