"""Angles and four-momenta of jets, with azimuth always taken modulo 2 pi."""

import numpy as np

from bithep_lib.data.quark_gluon.particles import mass

__all__ = ["jet_momentum", "relative", "wrap_phi"]


def wrap_phi(phi: np.ndarray) -> np.ndarray:
    """The same angle in [-pi, pi); the dtype of a floating-point input is kept.

    Differences of azimuths must pass through here: particles at 0.05 and 6.25 are 0.083 apart, not 6.2.
    """
    phi = np.asarray(phi)
    wrapped = np.remainder(phi + np.pi, 2 * np.pi) - np.pi
    # Rounding can give exactly +pi for an angle just below -pi: the same direction, but outside the half-open interval.
    return np.where(wrapped >= np.pi, -np.pi, wrapped).astype(np.result_type(phi.dtype, np.float32), copy=False)


def jet_momentum(constituents: np.ndarray) -> dict[str, np.ndarray]:
    """Four-momentum sums (E scheme) of jets, with the particles' true masses.

    Args:
        constituents: (N, M, 4) of (pt [GeV], y, phi, pid), zero padded.

    Returns:
        float64 arrays (N,): ``pt`` and ``m`` in GeV, rapidity ``y``, azimuth ``phi`` in [-pi, pi).
    """
    pt, y, phi = (constituents[..., i].astype(np.float64) for i in range(3))
    transverse_mass = np.hypot(pt, np.where(pt > 0, mass(constituents[..., 3]), 0.0))
    px, py = (pt * np.cos(phi)).sum(-1), (pt * np.sin(phi)).sum(-1)
    # With light-cone momenta E +- pz = mT exp(+-y) the jet's rapidity and mass need no difference of large numbers.
    plus, minus = (transverse_mass * np.exp(y)).sum(-1), (transverse_mass * np.exp(-y)).sum(-1)
    jet_pt = np.hypot(px, py)
    m2 = np.maximum(plus * minus - jet_pt**2, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        jet_y = 0.5 * np.log(plus / minus)
    return {"pt": jet_pt, "y": jet_y, "phi": wrap_phi(np.arctan2(py, px)), "m": np.sqrt(m2)}


def relative(constituents: np.ndarray) -> dict[str, np.ndarray]:
    """Constituents seen from their jet's axis (the E-scheme sum).

    Args:
        constituents: (N, M, 4) of (pt [GeV], y, phi, pid), zero padded.

    Returns:
        float64 arrays (N, M), zero for padding: ``z`` = pt / sum of pt, ``dy``, ``dphi`` in [-pi, pi),
        ``dr`` = sqrt(dy^2 + dphi^2); and the bool ``mask`` of real particles.
    """
    axis = jet_momentum(constituents)
    pt = constituents[..., 0].astype(np.float64)
    mask = pt > 0
    dy = np.where(mask, constituents[..., 1] - axis["y"][:, None], 0.0)
    dphi = np.where(mask, wrap_phi(constituents[..., 2].astype(np.float64) - axis["phi"][:, None]), 0.0)
    return {"z": pt / pt.sum(-1, keepdims=True), "dy": dy, "dphi": dphi, "dr": np.hypot(dy, dphi), "mask": mask}
