"""The frame of the W Z pair, and angles in it.

Four-momenta are (E, px, py, pz) in GeV in arrays (..., 4).

In the frame of arXiv:2401.10323 the pair is at rest, the hadronically decaying boson (or the jet) flies along +z, and
the beam lies in the half plane x > 0. An azimuth of 0 therefore means "in the plane of beam and boson". The proton beam
along -z would do as well: it turns azimuths by pi, which cos 2 phi and sin 2 phi do not see.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Frame", "angles", "boost", "cos_theta", "decay_angle", "eta_phi", "pair_frame", "planes_angle", "wrap"]

BEAM = np.array([1.0, 0.0, 0.0, 1.0])


class Frame(NamedTuple):
    """Rest frame of a pair: go there with velocity ``beta`` (..., 3) and express vectors in ``axes`` (..., 3, 3)."""

    beta: np.ndarray
    axes: np.ndarray


def pair_frame(boson: np.ndarray, other: np.ndarray) -> Frame:
    """The rest frame of ``boson + other``, with ``boson`` along +z and the beam in the half plane x > 0."""
    total = boson + other
    beta = total[..., 1:] / total[..., :1]
    z = _unit(boost(boson, beta)[..., 1:])
    beam = boost(np.broadcast_to(BEAM, total.shape), beta)[..., 1:]
    x = _unit(beam - (beam * z).sum(-1, keepdims=True) * z)
    return Frame(beta, np.stack([x, np.cross(z, x), z], axis=-2))


def angles(p: np.ndarray, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Polar angle theta in [0, pi] and azimuth phi in (-pi, pi] of momenta ``p`` in ``frame``.

    ``p`` is (N, 4) or (N, M, 4) for M particles in each of N frames.
    """
    many = p.ndim > frame.beta.ndim
    beta, axes = (frame.beta[:, None], frame.axes[:, None]) if many else frame
    x, y, z = np.moveaxis((axes @ boost(p, beta)[..., 1:, None])[..., 0], -1, 0)
    return np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)


def decay_angle(quark: np.ndarray, boson: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Angle (N,) between the plane of beam and boson and the plane of its decay: azimuth of ``quark`` around ``boson``.

    Args:
        quark: one of the two decay products; the other one gives the angle plus pi.
    """
    return angles(quark, pair_frame(boson, other))[1]


def planes_angle(first: np.ndarray, second: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The same angle as the authors of arXiv:2401.10323 compute it, from the normals of the two planes.

    In the rest frame of the pair, n_scatter = beam x boson and n_decay = first x second, normalised; the angle is
    acos(n_scatter . n_decay) with the sign of (n_scatter x n_decay) . boson. Equal to :func:`decay_angle`, but less
    accurate near 0 and pi.
    """
    total = first + second + other
    beta = total[..., 1:] / total[..., :1]
    a, b = (boost(p, beta)[..., 1:] for p in (first, second))
    beam = boost(np.broadcast_to(BEAM, total.shape), beta)[..., 1:]
    scatter, decay = _unit(np.cross(beam, a + b)), _unit(np.cross(a, b))
    sign = np.sign((np.cross(scatter, decay) * (a + b)).sum(-1))
    return sign * np.arccos(np.clip((scatter * decay).sum(-1), -1, 1))


def cos_theta(quark: np.ndarray, boson: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosine (N,) of the polar angle of ``quark`` in the rest frame of ``boson``, the axis opposite to ``other``."""
    beta = boson[..., 1:] / boson[..., :1]
    a, axis = _unit(boost(quark, beta)[..., 1:]), -_unit(boost(other, beta)[..., 1:])
    return (a * axis).sum(-1)


def boost(p: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """``p`` (..., 4) as seen by an observer with velocity ``beta`` (..., 3)."""
    beta2 = (beta**2).sum(-1)
    gamma = 1 / np.sqrt(1 - beta2)
    along = (p[..., 1:] * beta).sum(-1)
    # (gamma - 1) / beta^2, which is 0/0 for an observer at rest.
    factor = gamma**2 / (1 + gamma) * along - gamma * p[..., 0]
    return np.concatenate([(gamma * (p[..., 0] - along))[..., None], p[..., 1:] + factor[..., None] * beta], axis=-1)


def eta_phi(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pseudorapidity and azimuth in (-pi, pi] of momenta (..., 4) that are not along the beam."""
    return np.arcsinh(p[..., 3] / np.hypot(p[..., 1], p[..., 2])), np.arctan2(p[..., 2], p[..., 1])


def wrap(angle: np.ndarray, period: float = 2 * np.pi) -> np.ndarray:
    """The same angle in [-period / 2, period / 2)."""
    return (angle + period / 2) % period - period / 2


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)
