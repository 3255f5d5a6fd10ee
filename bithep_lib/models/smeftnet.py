r"""SMEFTNet (arXiv:2401.10323, section 4 of arXiv:2504.03387): the angle of a decay plane from the particles of a jet.

The boson in the jet decays to two quarks; their plane has the azimuth phi around the jet. Which quark is which cannot
be seen, so phi is known up to pi, and the loss is the mean of sin^2(f - phi).

The network holds three promises for any value of its weights, full-precision or ternary: the output turns with the jet,
is the same for any order of the particles, and neither soft nor collinear particles change it. To that end the output
is a vector of spin 2, (cos 2f, sin 2f), as the axis of a line needs: a combination, with invariant coefficients, of
sums over particles that turn by twice the angle. The first of these is the moment axis,

.. math:: S = \sum_i z_i\, \theta_i\, (\cos 2\phi_i, \sin 2\phi_i),

with which the untrained network agrees. Training adds what a moment cannot see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bithep_lib.bitlinear import QuantSpec
from bithep_lib.models.message_passing import MessageLayer, direction, neighbourhoods, turn
from bithep_lib.quantize import QuantReport, Select, quantize_

PT_SCALE = 600.0
"""GeV: the transverse momentum of a jet enters as log(pt / PT_SCALE)."""


class SMEFTNet(nn.Module):
    """Regression of an axis (an angle modulo pi) from the particles of a jet.

    Args:
        layers: (channels of the messages, features afterwards) of each message-passing layer.
        mlp: hidden widths of the read-out.
        radius: particles closer than this are neighbours, in radians (units of ``xy``).

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
        layers: Sequence[tuple[int, int]] = ((12, 10), (12, 10)),
        mlp: Sequence[int] = (32, 32),
        radius: float = 0.4,
    ) -> None:
        super().__init__()
        sizes = [*(size for layer in layers for size in layer), *mlp, radius]
        if not layers or not mlp or min(sizes) <= 0:
            raise ValueError(f"SMEFTNet: layers={layers}, mlp={mlp}, radius={radius} must hold positive sizes")
        self.radius = radius
        features = [0, *(fan_out for _, fan_out in layers)]
        self.message_passing = nn.ModuleList(
            MessageLayer(fan_in + 2, hidden, fan_out)
            for fan_in, (hidden, fan_out) in zip(features[:-1], layers, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(fan_out) for _, fan_out in layers)
        widths = [3 * features[-1] + 3, *mlp, 2]
        blocks: list[nn.Module] = []
        for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
            blocks += [nn.Linear(fan_in, fan_out), nn.LayerNorm(fan_out), nn.ReLU()]
        self.mlp = nn.Sequential(*blocks[:-2])
        self.mixing = nn.Parameter(torch.zeros(features[-1]))
        nn.init.zeros_(self.mlp[-1].weight)  # so that the untrained network is the moment axis
        nn.init.zeros_(self.mlp[-1].bias)
        for layer in self.message_passing:
            nn.init.zeros_(layer.output.weight[-1])
            nn.init.zeros_(layer.output.bias[-1])

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
            (B, 2), a positive multiple of (cos 2f, sin 2f); see `angle`.
        """
        z = torch.where(mask, pt, 0.0)
        z = z / z.sum(1, keepdim=True)
        a = torch.where(mask.unsqueeze(-1), xy, 0.0) / self.radius
        rho = a.norm(dim=-1, keepdim=True)  # no layer changes a length
        h = a.new_empty(*z.shape, 0)
        for layer, norm in zip(self.message_passing, self.norms, strict=True):
            weight, energy = neighbourhoods(a, z)
            h, angle = layer(torch.cat([h, rho, energy.unsqueeze(-1)], dim=-1), a, weight)
            h, a = norm(h), turn(a, angle)
        return self._read_out(z, a, rho, h, jet_pt)

    def _read_out(self, z: Tensor, a: Tensor, rho: Tensor, h: Tensor, jet_pt: Tensor) -> Tensor:
        moment = z.unsqueeze(-1) * rho
        total = moment.sum(1)
        x, y = direction(a).unbind(-1)
        spin2 = torch.stack([x * x - y * y, 2 * x * y], dim=1) * (moment.squeeze(-1) / total).unsqueeze(1)  # (B, 2, N)
        s0 = spin2.sum(-1, keepdim=True)  # (B, 2, 1)
        s = spin2 @ h  # (B, 2, n)
        axis = s0 * (s0.square().sum(1, keepdim=True) + 1e-4).rsqrt()
        turned = torch.stack([-axis[:, 1], axis[:, 0]], dim=1)
        along, across = (s * axis).sum(1), (s * turned).sum(1)
        invariants = [
            (z.unsqueeze(1) @ h).squeeze(1),
            along,
            across,
            (s0 * axis).sum(1),
            total.log(),
            (jet_pt / PT_SCALE).log().unsqueeze(-1),
        ]
        c, d = self.mlp(torch.cat(invariants, dim=-1)).unbind(-1)
        return (
            (s0 + (s * self.mixing).sum(-1, keepdim=True)).squeeze(-1)
            + axis.squeeze(-1) * c.unsqueeze(-1)
            + turned.squeeze(-1) * d.unsqueeze(-1)
        )

    @staticmethod
    def angle(out: Tensor) -> Tensor:
        """The angle f in (-pi/2, pi/2] of an output."""
        return 0.5 * torch.atan2(out[:, 1], out[:, 0])
