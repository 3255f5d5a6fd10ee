"""Inputs of a network, and the moment axis: the decay plane without any network."""

import numpy as np

from bithep_lib.data.wz.jets import WZJets

__all__ = ["axis", "features", "moment_axis"]


def features(jets: WZJets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a rotation-equivariant network sees of a jet.

    Returns:
        pt float32 (N, 40) in GeV; xy float32 (N, 40, 2) = theta (cos phi, sin phi), which a rotation about the jet
        turns as a vector; mask bool (N, 40). Padding is zero.
    """
    xy = np.stack([jets.theta * np.cos(jets.phi), jets.theta * np.sin(jets.phi)], axis=-1)
    return jets.pt, xy, jets.mask


def moment_axis(jets: WZJets, power: float = 1.0) -> np.ndarray:
    """Estimate (N,) of phi_decay modulo pi, in (-pi/2, pi/2], from the particles in the frame of jet and Z.

    phi = 1/2 arg sum_i pt_i theta_i^power exp(2 i phi_i), the direction in which the jet is longest. It is safe against
    soft and collinear splittings for power > 0 and turns with the jet. With ``power=2`` it is the principal axis of the
    second moments.
    """
    _, xy, _ = features(jets)
    return axis(jets.pt, xy, power)


def axis(pt: np.ndarray, xy: np.ndarray, power: float = 1.0) -> np.ndarray:
    """The moment axis (N,) of weights ``pt`` (N, P) at points ``xy`` (N, P, 2)."""
    x, y = np.moveaxis(xy.astype(np.float64), -1, 0)
    r2 = x**2 + y**2
    # r^power exp(2 i phi) = r^(power - 2) (x + i y)^2; points at the centre have no direction.
    weight = pt * np.where(r2 > 0, r2, 1.0) ** (power / 2 - 1)
    return 0.5 * np.arctan2((weight * 2 * x * y).sum(-1), (weight * (x**2 - y**2)).sum(-1))
