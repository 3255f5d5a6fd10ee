r"""What P-DAT sees of a jet, computed from its constituents while training: arXiv:2307.04723, arXiv:2504.03387 sec. 3.

Three views of a jet: numbers of particles and their neighbours for the EdgeConv layers, six numbers a pair of particles
as the bias of particle attention, and an 11 x 11 matrix of jet-level numbers as the bias of channel attention. Stored,
they take 600 kB a jet (1.2 TB for the two million jets of the public set); the constituents take 1.6 kB, and the rest
is a few element-wise operations.

Constituents are ``(..., N, 4)`` tensors with columns pt (GeV), y, phi (radians), PDG id; rows with pt = 0 are padding.
They are taken as massless, so that rapidity is pseudorapidity and E = pt cosh y. Azimuths count from the jet axis, so
that no feature depends on how the detector is turned around the beam.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

PAIR_FEATURES = ("dR", "log m2", "log kT", "z", "log |dpT|", "same PID")
"""The columns of `pair_features`."""

FLOOR = 1e-8
"""Added inside logarithms: two particles of one direction have dR = m^2 = k_T = 0."""

SPECIES = ("electron", "muon", "charged hadron", "neutral hadron", "photon", "charge")
"""The columns of `species`."""

_CLASSES = ((11,), (13,), (211, 321, 2212), (130, 2112), (22,))

_RELEASED_CODES = {22: 0.0, 211: 0.1, -211: 0.2, 321: 0.3, -321: 0.4, 130: 0.5, 2112: 0.6, -2112: 0.7, 2212: 0.8}
_RELEASED_CODES |= {-2212: 0.9, 11: 1.0, -11: 1.1, 13: 1.2, -13: 1.3}
_HADRON_CODES = 10
"""How many of the released codes are species of the jet-level features: the leptons are left out."""


class Momentum(NamedTuple):
    """Massless four-momenta and the transverse momentum, each of one shape, in GeV."""

    e: Tensor
    px: Tensor
    py: Tensor
    pz: Tensor
    pt: Tensor

    def sum(self, dim: int = -1) -> Momentum:
        """The summed four-momentum along an axis; its pt is that of the vector sum."""
        e, px, py, pz = (component.sum(dim) for component in self[:4])
        return Momentum(e, px, py, pz, torch.hypot(px, py))


def wrap_phi(dphi: Tensor) -> Tensor:
    """An azimuthal difference in radians, brought into [-pi, pi)."""
    return torch.remainder(dphi + math.pi, 2 * math.pi) - math.pi


def released_phi(phi: Tensor) -> Tensor:
    """The azimuth of the published preparation: pi, not 2 pi, is taken off above pi, which turns the particle around.

    The sum of a jet's momenta stays right only where all its particles are in one half plane.
    """
    return torch.where(phi > math.pi, phi - math.pi, phi)


def momentum(pt: Tensor, y: Tensor, phi: Tensor) -> Momentum:
    """Massless four-momenta from transverse momentum (GeV), rapidity and azimuth (radians)."""
    return Momentum(pt * torch.cosh(y), pt * torch.cos(phi), pt * torch.sin(phi), pt * torch.sinh(y), pt)


def jet_axis(p: Momentum, *, released: bool = False) -> tuple[Tensor, Tensor]:
    """Pseudorapidity and azimuth of the summed momentum of jets, shape (...,) from particles of shape (..., N).

    ``released=True`` takes the azimuth as arccos(px / pt), as published: always in the upper half plane.
    """
    jet = p.sum()
    eta = torch.asinh(jet.pz / jet.pt)
    return eta, torch.arccos((jet.px / jet.pt).clamp(-1, 1)) if released else torch.atan2(jet.py, jet.px)


def species(pid: Tensor) -> Tensor:
    """PDG ids of shape (...) as (..., 6): one-hot class and charge, see `SPECIES`.

    Padding, and any id that does not occur in jets at particle level, gives zeros.
    """
    size, sign = pid.abs().unsqueeze(-1), torch.sign(pid)
    classes = [(size == size.new_tensor(ids)).any(-1).to(pid.dtype) for ids in _CLASSES]
    electron, muon, charged = classes[:3]
    return torch.stack([*classes, sign * (charged - electron - muon)], dim=-1)


def released_species(pid: Tensor) -> Tensor:
    """PDG ids as the one ordinal number of the published preparation; a photon and a padded slot both have 0.

    Ids without a code pass through as they are.
    """
    codes = pid.clone()
    for pdg_id, code in _RELEASED_CODES.items():
        codes[pid == pdg_id] = code
    return codes


def particle_features(p: Momentum) -> Tensor:
    """[log E, log pt, pt / pt_jet, E / E_jet] of each particle: (..., N) to (..., N, 4); E and pt in GeV."""
    jet = p.sum()
    logs = torch.log(p.e + FLOOR), torch.log(p.pt + FLOOR)
    return torch.stack([*logs, p.pt / jet.pt.unsqueeze(-1), p.e / jet.e.unsqueeze(-1)], dim=-1)


def pair_features(
    a: tuple[Tensor, Tensor, Tensor, Tensor],
    b: tuple[Tensor, Tensor, Tensor, Tensor],
    *,
    floor: float = FLOOR,
    wrap: bool = True,
) -> Tensor:
    r"""The six features of pairs of particles, symmetric in a and b.

    .. math::

        \Delta R, \quad \log m^2, \quad \log k_T, \quad z, \quad \log |p_{T,a} - p_{T,b}|, \quad [\mathrm{PID}_a =
        \mathrm{PID}_b]

    with :math:`m^2 = 2 p_{T,a} p_{T,b} (\cosh \Delta y - \cos \Delta\phi)` (massless),
    :math:`k_T = \min(p_{T,a}, p_{T,b}) \Delta R` and :math:`z = \min(p_{T,a}, p_{T,b}) / (p_{T,a} + p_{T,b})`, in GeV.

    Args:
        a: pt, y, phi and pid of the first particles, tensors of one shape (or of shapes that broadcast).
        b: those of the second.
        floor: added inside the logarithms.
        wrap: bring the azimuthal difference into [-pi, pi); the published preparation does not.

    Returns:
        (..., 6), in the order of `PAIR_FEATURES`.
    """
    (pt_a, y_a, phi_a, pid_a), (pt_b, y_b, phi_b, pid_b) = a, b
    dy, dphi = y_a - y_b, phi_a - phi_b
    if wrap:
        dphi = wrap_phi(dphi)
    dr = torch.hypot(dy, dphi)
    # cosh(dy) - cos(dphi) by half angles: the difference of two numbers near one has no digits left at small angles
    m2 = 4 * pt_a * pt_b * (torch.sinh(dy / 2) ** 2 + torch.sin(dphi / 2) ** 2)
    softer = torch.minimum(pt_a, pt_b)
    z = softer / (pt_a + pt_b).clamp_min(FLOOR)
    logs = (torch.log(x + floor) for x in (m2, dr * softer, (pt_a - pt_b).abs()))
    log_m2, log_kt, log_dpt = logs
    return torch.stack([dr, log_m2, log_kt, z, log_dpt, (pid_a == pid_b).to(dr.dtype)], dim=-1)


def jet_features(p: Momentum, y: Tensor, phi: Tensor, pid: Tensor, *, released: bool = False) -> Tensor:
    """The jet-level 11 x 11 matrix: the jet's momentum fractions and moments, bordered by those of its species.

    Twenty numbers of a jet are arranged in a symmetric matrix with unit diagonal. The first ten are E, px, py, pz, pt,
    1, 1 and the pt-weighted means A, B, R of dy, dphi, dR from the axis; their ratios (px/E, ..., A/R, B/R) stand at
    fixed places. The other ten, in the last row and column, are the same of the leading species among the ten hadron
    and photon ids: the largest E, abs(px), abs(py), abs(pz), pt (as logarithms of GeV), pt/pt_jet, E/E_jet, and A, B, R
    of the species with the largest pt.

    Args:
        p: momenta of the particles, components of shape (B, N), zero for padding.
        y: rapidities, (B, N).
        phi: azimuths, (B, N).
        pid: PDG ids, (B, N).
        released: as published: the azimuth of `jet_axis` by arccos, differences not wrapped, momenta in the frame of
            the detector. By default px is along the jet's transverse direction and py across it, so that nothing
            depends on the azimuth of the jet.

    Returns:
        (B, 11, 11).
    """
    eta_jet, phi_jet = jet_axis(p, released=released)
    dy, dphi = y - eta_jet.unsqueeze(-1), phi - phi_jet.unsqueeze(-1)
    if not released:
        dphi = wrap_phi(dphi)
        p = p._replace(px=p.pt * torch.cos(dphi), py=p.pt * torch.sin(dphi))
    jet = p.sum()

    ids = torch.tensor(list(_RELEASED_CODES)[:_HADRON_CODES], dtype=pid.dtype, device=pid.device)
    is_species = (pid.unsqueeze(1) == ids[:, None]).to(p.e.dtype)  # (B, 10, N)
    per_species = Momentum(*(torch.einsum("bsn,bn->bs", is_species, c) for c in p))
    per_species = per_species._replace(pt=torch.hypot(per_species.px, per_species.py))
    moments = torch.stack([dy, dphi, torch.hypot(dy, dphi)], dim=-1) * p.pt.unsqueeze(-1)  # (B, N, 3)
    a, b, r = (moments.sum(1) / jet.pt.unsqueeze(-1)).unbind(-1)
    lead_pt, lead = per_species.pt.max(dim=1)
    of_lead = is_species[torch.arange(len(lead), device=lead.device), lead]  # (B, N)
    lead_moments = torch.einsum("bn,bnk->bk", of_lead, moments) / lead_pt.clamp_min(FLOOR).unsqueeze(-1)

    largest = torch.stack([c.abs().amax(1) for c in per_species], dim=-1)  # E, |px|, |py|, |pz|, pt
    border = torch.cat(
        [
            torch.log(largest + _BORDER_FLOOR),
            (largest[:, 4] / jet.pt).unsqueeze(-1),
            (largest[:, 0] / jet.e).unsqueeze(-1),
            lead_moments,
        ],
        dim=-1,
    )

    r = r.clamp_min(FLOOR)
    entries = {
        (0, 1): jet.px / jet.e,
        (0, 2): jet.py / jet.e,
        (0, 3): jet.pz / jet.e,
        (0, 4): jet.pt / jet.e,
        (0, 6): torch.ones_like(jet.e),
        (1, 4): jet.px / jet.pt,
        (2, 4): jet.py / jet.pt,
        (4, 5): torch.ones_like(jet.e),
        (7, 9): a / r,
        (8, 9): b / r,
    }
    matrix = torch.eye(11, dtype=border.dtype, device=border.device).repeat(len(border), 1, 1)
    for (row, column), value in entries.items():
        matrix[:, row, column] = matrix[:, column, row] = value
    matrix[:, 10, :10] = matrix[:, :10, 10] = border
    return matrix


_BORDER_FLOOR = 1e-3
"""GeV, inside the logarithms of the border: a single particle has no momentum across its own axis."""
