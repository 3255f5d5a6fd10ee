r"""The released construction of SMEFTNet, for its counts and to show what its faults cost; see ``as_published``.

It differs from the network that the papers describe:

* the angles (theta, phi) are taken for Cartesian coordinates, with the distance of neighbours and all rotations in that
  plane, cut at phi = +-pi: turning the jet does not turn the output;
* messages are weighted by the energy of the *receiver*, so that a neighbourhood is a plain mean over its particles,
  which one soft particle more changes;
* the read-out sees the pooled vector in this fixed frame, and its one output is the angle itself, which has to jump
  from one end of its range to the other somewhere;
* batch normalisation couples the jets of a training batch;
* the class of the quantised blocks has LeakyReLU for ReLU, and in the message passing no normalisation: full precision
  and bits differ in more than precision.

One fault is mended: a particle on the axis has no direction instead of a NaN, which made all messages of its batch 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bithep_lib.models.message_passing import turn

BLOCKS = ("message_passing", "mlp")
"""The blocks that may be of the class of quantised blocks."""


def perceptron(widths: Sequence[int], *, norm: bool, bit_class: bool) -> nn.Sequential:
    """Linear layers with batch normalisation and ReLU (LeakyReLU in the class of quantised blocks) between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out)]
        layers += [nn.BatchNorm1d(fan_out)] if norm else []
        layers += [nn.LeakyReLU(0.01) if bit_class else nn.ReLU()]
    return nn.Sequential(*layers[: -1 - norm])


def read_out(features: int, hidden: Sequence[int], *, bit_class: bool) -> nn.Sequential:
    """From the transverse momentum of the jet, the pooled features and the pooled vector to the angle."""
    return perceptron([features + 3, *hidden, 1], norm=True, bit_class=bit_class)


class ReleasedMessageLayer(nn.Module):
    """Messages of all pairs of neighbours, from (h_i, h_j, h_j - h_i) and the angle between a_i and a_j.

    Args:
        fan_in: features of a particle.
        hidden: width of the message network.
        fan_out: features of a particle afterwards.
        bit_class: without batch normalisation, with LeakyReLU.
    """

    def __init__(self, fan_in: int, hidden: int, fan_out: int, *, bit_class: bool) -> None:
        super().__init__()
        self.network = perceptron([3 * fan_in + 2, hidden, fan_out + 1], norm=not bit_class, bit_class=bit_class)

    def forward(self, h: Tensor, a: Tensor, receiver: Tensor, sender: Tensor) -> tuple[Tensor, Tensor]:
        """Mean messages: features (T, fan_in) and vectors (T, 2), pairs (E,), to (T, fan_out) and angles (T,)."""
        unit = a / a.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        h_i, h_j, u, v = h[receiver], h[sender], unit[receiver], unit[sender]
        cos, sin = (u * v).sum(-1), v[:, 0] * u[:, 1] - v[:, 1] * u[:, 0]
        messages = self.network(torch.cat([h_i, h_j, h_j - h_i, cos.unsqueeze(-1), sin.unsqueeze(-1)], dim=-1))
        degree = torch.bincount(receiver, minlength=len(h)).unsqueeze(-1)  # at least 1: each particle hears itself
        mean = messages.new_zeros(len(h), messages.shape[1]).index_add(0, receiver, messages) / degree
        return mean[:, :-1], 2 * math.pi * mean[:, -1]


def neighbours(a: Tensor, jet: Tensor, slot: Tensor, shape: torch.Size, radius: float) -> tuple[Tensor, Tensor]:
    """All pairs of particles of one jet at most ``radius`` apart, themselves included.

    Args:
        a: (T, 2) vectors of all particles.
        jet, slot: (T,) the place of each in a dense array of ``shape`` (B, N).
        radius: in units of a.

    Returns:
        Rows of the receivers (E,) and of the senders (E,).
    """
    dense = a.new_full((*shape, 2), math.inf)
    dense[jet, slot] = a.detach()
    row = torch.zeros(shape, dtype=torch.long, device=a.device)
    row[jet, slot] = torch.arange(len(a), device=a.device)
    near = (dense.unsqueeze(2) - dense.unsqueeze(1)).square().sum(-1) <= radius**2  # inf - inf is NaN: not near
    b, i, j = near.nonzero(as_tuple=True)
    return row[b, i], row[b, j]


def pooled(
    layers: Sequence[ReleasedMessageLayer], z: Tensor, xy: Tensor, mask: Tensor, radius: float
) -> tuple[Tensor, Tensor]:
    """Features (B, n) and vectors (B, 2) after message passing, averaged with weights z (B, N)."""
    jet, slot = mask.nonzero(as_tuple=True)
    xy = xy[jet, slot]
    theta = xy.norm(dim=-1)
    a = torch.stack([theta, torch.atan2(xy[:, 1], xy[:, 0])], dim=-1)
    h = a.norm(dim=-1, keepdim=True)
    for layer in layers:
        h, angle = layer(h, a, *neighbours(a, jet, slot, mask.shape, radius))
        a = turn(a, angle)
    weighted = torch.cat([h, a], dim=-1) * z[jet, slot].unsqueeze(-1)
    sums = weighted.new_zeros(len(z), weighted.shape[1]).index_add(0, jet, weighted)
    return sums[:, :-2], sums[:, -2:]
