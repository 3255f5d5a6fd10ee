r"""Message passing that respects the symmetries of a jet: the layers of SMEFTNet (arXiv:2401.10323).

A particle i is its share z_i of the transverse momentum, a vector a_i from the jet axis and invariant features h_i. A
layer sends messages from the neighbours j of a particle,

.. math:: h_i' = \sum_j w_{ij}\, \phi(h_i, h_j, a_i, a_j), \qquad
          w_{ij} = \frac{z_j\, c(|a_i - a_j|)}{\sum_k z_k\, c(|a_i - a_k|)},

and turns a_i by an invariant angle. Three properties follow, and hold whatever the weights of the network are:

* *Infrared and collinear safety.* The weight has the energy of the sender, so that a particle of no energy sends
  nothing, and two collinear halves send together what the whole one does. The cut-off c falls to zero smoothly at the
  radius: a particle that crosses it does not make the output jump.
* *Equivariance.* phi sees a_i and a_j through numbers that a common rotation leaves alone.
* *Permutation invariance*, because everything is a sum over particles.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

AXIS = 0.02
"""Below this part of the radius a particle has no direction: a / sqrt(a^2 + (AXIS R)^2) is smooth on the axis."""

POINT = 1e-6
"""Below this part of the radius a length is zero."""

JETS = 16
"""How many jets' pairs are done at a time on a CPU: a megabyte of messages stays in its cache."""


def neighbourhoods(a: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Who sends how much to whom: the cut-off is c(d) = (1 - d^2)^2 for d < 1.

    Args:
        a: (B, N, 2) vectors from the jet axis, in units of the radius.
        z: (B, N) shares of the transverse momentum, 0 for padding.

    Returns:
        The weights w (B, N, N) of sender j (last axis) for receiver i, which sum to 1 unless all senders are padding;
        the share (B, N) of the transverse momentum in the neighbourhood of i.
    """
    square = a.square().sum(-1)
    inside = torch.baddbmm((1 - square).unsqueeze(2) - square.unsqueeze(1), a, a.mT, alpha=2)  # 1 - |a_i - a_j|^2
    weight = inside.clamp_min(0).square() * z.unsqueeze(1)
    energy = weight.sum(-1)
    return weight / energy.clamp_min(torch.finfo(z.dtype).tiny).unsqueeze(-1), energy


def direction(a: Tensor) -> Tensor:
    """a (..., 2), in units of the radius, as a vector of length one, shorter only very near the axis."""
    return a * (a.square().sum(-1, keepdim=True) + AXIS**2).rsqrt()


def turn(a: Tensor, angle: Tensor) -> Tensor:
    """The vectors a (..., 2) rotated by angles (...), in radians."""
    x, y = a.unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1)


def spin2_sums(a: Tensor, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Sums over particles that turn by twice the angle when the jet turns by an angle.

    .. math:: S = \frac{1}{T} \sum_i z_i |a_i|\, (\cos 2\phi_i, \sin 2\phi_i), \qquad
              S_k = \frac{1}{T} \sum_i z_i |a_i|\, (h_{ik} - \bar h_k)\, (\cos 2\phi_i, \sin 2\phi_i)

    Args:
        a, z: as in `neighbourhoods`.
        h: (B, N, n) invariant features, of which \bar h is the mean with weights z.

    Returns:
        S (B, 2); S_k (B, n, 2); the width T = sum z |a| of each jet (B,).
    """
    length = a.norm(dim=-1)
    width = (z * length).sum(1).clamp_min(POINT)
    x, y = a.unbind(-1)
    weight = z / (length.clamp_min(POINT) * width.unsqueeze(1))
    spin2 = torch.stack([x * x - y * y, 2 * x * y], dim=-1) * weight.unsqueeze(-1)
    centred = h - z.unsqueeze(1) @ h
    return spin2.sum(1), centred.mT @ spin2, width


class RunningNorm(nn.Module):
    """Each input minus its mean, over its width, where both are running averages over the training batches.

    Unlike batch normalisation it uses the running numbers while training, too: jets of a batch do not see each other,
    training and evaluation compute the same function, and a batch may be a single jet. It gives every input its share
    of the eight bits of a quantised layer, whose one scale a token would else be that of the largest input.

    Args:
        features: how many inputs.
        memory: batches that the averages reach back to.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, features: int, memory: int = 100) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """(B, features) to (B, features)."""
        if self.training:
            with torch.no_grad():
                self.batches += 1
                share = 1 / self.batches.clamp_max(self.memory)
                self.mean += (x.mean(0) - self.mean) * share
                self.variance += ((x - self.mean).square().mean(0) - self.variance) * share
        return (x - self.mean) * (self.variance + 1e-6).rsqrt()


class MessageLayer(nn.Module):
    r"""New features of each particle and an angle to turn it by, from messages of its neighbours:

    .. math:: \phi_{ij} = \mathrm{ReLU}\big(r_i + s_j + u_i\, \hat a_i \cdot (a_j - a_i) +
              v_i\, \hat a_i \times (a_j - a_i)\big)

    with vectors r, u, v linear in the features of the receiver and s in those of the sender. The last linear layer of
    the messages commutes with their weighted mean. So all matrix products with weights are done for N particles, and
    the N^2 pairs only cost a few operations a channel.

    Args:
        fan_in: features of a particle.
        hidden: channels of a message.
        fan_out: features of a particle afterwards.
    """

    def __init__(self, fan_in: int, hidden: int, fan_out: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.receiver = nn.Linear(fan_in, 3 * hidden)
        self.sender = nn.Linear(fan_in, hidden, bias=False)
        self.norm = nn.LayerNorm(hidden)
        self.output = nn.Linear(hidden, fan_out + 1)
        self.twist = nn.Parameter(torch.zeros(1))  # grows from zero (arXiv:2003.04887): at first nothing is turned

    def forward(self, h: Tensor, a: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Args: h (B, N, fan_in); a and weight as in `neighbourhoods`. Returns: (B, N, fan_out), angles (B, N)."""
        r, u, v = self.receiver(h).unflatten(-1, (3, self.hidden)).unsqueeze(-1).unbind(2)  # (B, N, hidden, 1)
        x, y = direction(a)[..., None, None, :].unbind(-1)  # (B, N, 1, 1)
        along, across = u * x - v * y, u * y + v * x  # u a^ + v (a^ turned by 90 degrees), a vector for each channel
        own_x, own_y = a[..., None, None, :].unbind(-1)
        plane = torch.cat([along, across, r - along * own_x - across * own_y], dim=-1)  # (B, N, hidden, 3)
        places = torch.cat([a.mT, torch.ones_like(a[:, None, :, 0])], dim=1)  # (B, 3, N)
        sent = self.sender(h).mT.contiguous()  # (B, hidden, N)
        jets = JETS if a.device.type == "cpu" else len(a)
        parts = zip(*(t.split(jets) for t in (plane, places, sent, weight)), strict=True)
        mean = torch.cat([_mean_message(*part) for part in parts])
        out = self.output(self.norm(mean))
        return out[..., :-1], self.twist * out[..., -1]


def _mean_message(plane: Tensor, places: Tensor, sent: Tensor, weight: Tensor) -> Tensor:
    """Messages plane . places + sent (B, N receivers, hidden, N senders), cut at zero, averaged over the senders."""
    message = (plane.flatten(1, 2) @ places).unflatten(1, plane.shape[1:3]) + sent.unsqueeze(1)
    return (message.relu() * weight.unsqueeze(2)).sum(-1)
