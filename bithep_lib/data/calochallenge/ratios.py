r"""A shower as fractions: what the generators of the calorimeter chapters work with.

The energies :math:`E_0 \dots E_{N-1}` of the layers become N ratios,

.. math:: u_0 = \frac{\sum_l E_l}{E_\mathrm{inc}}, \qquad u_{l+1} = \frac{E_l}{\sum_{m \ge l} E_m},

so that any :math:`u_{l > 0}` in [0, 1] is a possible shower and energy is conserved by construction; the voxels of a
layer become fractions of its energy (arXiv:2312.09290, section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bithep_lib.data.calochallenge.geometry import Geometry

EPSILON = 1e-10
"""Keeps fractions of an empty layer finite: they become 0."""


def layer_energies(voxels: Tensor, geometry: Geometry) -> Tensor:
    """Energies of the layers (B, N) from voxels (B, n_voxels), in the same unit."""
    return torch.stack([layer.sum(1) for layer in _by_layer(voxels, geometry)], dim=1)


def energy_ratios(energies: Tensor, incident: Tensor) -> Tensor:
    """Ratios u (B, N) of layer energies (B, N) and incident energies (B,), in one unit."""
    remaining = energies.flip(1).cumsum(1).flip(1)
    first = remaining[:, :1] / incident[:, None]
    return torch.cat([first, (energies / (remaining + EPSILON))[:, :-1]], dim=1)


def energies_from_ratios(ratios: Tensor, incident: Tensor) -> Tensor:
    """Layer energies (B, N), none negative, from ratios (B, N): the inverse of `energy_ratios`.

    Ratios outside of what a shower can have (a generator's) are moved to its edge: the first to 0 or above, the others
    into [0, 1].
    """
    total = incident[:, None] * ratios[:, :1].clamp_min(0)
    parts = ratios[:, 1:].clamp(0, 1)
    left = torch.cat([torch.ones_like(total), (1 - parts).cumprod(1)], dim=1)
    taken = torch.cat([parts, torch.ones_like(total)], dim=1)
    return total * left * taken


def voxel_fractions(voxels: Tensor, energies: Tensor, geometry: Geometry) -> Tensor:
    """Voxels (B, n_voxels) as fractions of their layer's energy; those of an empty layer are 0."""
    return voxels / (per_voxel(energies, geometry) + EPSILON)


def voxels_from_fractions(fractions: Tensor, energies: Tensor, geometry: Geometry) -> Tensor:
    """Voxels (B, n_voxels) from non-negative fractions, which are made to sum to 1 in each layer that has any."""
    sums = layer_energies(fractions, geometry)
    return fractions * per_voxel(energies / (sums + EPSILON), geometry)


def check_incident(incident: Tensor, geometry: Geometry) -> None:
    """Refuse incident energies (B,) in MeV that the data set does not have.

    Raises:
        ValueError: with the first such energy and the range.
    """
    low, high = geometry.energy_range
    if incident.ndim != 1:
        raise ValueError(f"incident energies must be (B,), got {tuple(incident.shape)}")
    wrong = ~((incident >= low * (1 - 1e-6)) & (incident <= high * (1 + 1e-6)))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"incident energy {row} is {float(incident[row]):g} MeV; {geometry.name} has {low:g} to {high:g} MeV"
        )


def _by_layer(voxels: Tensor, geometry: Geometry) -> tuple[Tensor, ...]:
    if voxels.ndim != 2 or voxels.shape[1] != geometry.n_voxels:
        raise ValueError(f"{geometry.name} showers must be (B, {geometry.n_voxels}), got {tuple(voxels.shape)}")
    return voxels.split([layer.n_voxels for layer in geometry.layers], dim=1)


def per_voxel(values: Tensor, geometry: Geometry) -> Tensor:
    """Values of the layers (B, N) for each of their voxels (B, n_voxels)."""
    return values[:, torch.from_numpy(geometry.layer.copy()).to(values.device)]
