"""Hard processes q qbar' -> W(-> f fbar') Z(-> l lbar) at a chosen energy and angle, without any generator.

Decays are isotropic: weight the events with the squared amplitude to get those of nature.
"""

from typing import NamedTuple

import numpy as np

from bithep_lib.data.wz.kinematics import boost, cos_theta, decay_angle
from bithep_lib.simulate.diboson_amplitudes import HardProcess, amplitudes, dot, weights

__all__ = ["Patterns", "directions", "patterns", "phase_space", "two_body"]

M_W, M_Z, WIDTH = 80.37, 91.19, 2.1  # GeV; bosons are drawn from a Gaussian, their exact shape is of no importance here


class Patterns(NamedTuple):
    """Means of r1 cos 2 phi and r1t sin 2 phi (TeV^2) and of r2 and r2t (TeV^4)."""

    cw: float
    cwt: float
    cw_squared: float
    cwt_squared: float


def phase_space(energy: float, n: int, seed: int, cos_scattering: float | None = None) -> HardProcess:
    """``n`` processes with massless fermions in the partonic centre of mass.

    Args:
        energy: of each incoming quark, GeV; above 100.
        cos_scattering: of the W with respect to the incoming quark; None draws directions uniformly.

    Raises:
        ValueError: ``energy`` is too small for a W and a Z.
    """
    if energy < 100:
        raise ValueError(f"energy must be at least 100 GeV for a W and a Z, got {energy}")
    generator = np.random.default_rng(seed)
    m_w, m_z = (np.clip(generator.normal(m, WIDTH, n), m - 10, m + 10) for m in (M_W, M_Z))
    s = 4 * energy**2
    momentum = np.sqrt((s - (m_w + m_z) ** 2) * (s - (m_w - m_z) ** 2)) / (2 * np.sqrt(s))
    direction = directions(generator, n)
    if cos_scattering is not None:
        transverse = direction[:, :2] / np.linalg.norm(direction[:, :2], axis=1, keepdims=True)
        sine = np.sqrt(1 - cos_scattering**2)
        direction = np.column_stack([sine * transverse, np.full(n, cos_scattering)])
    quark, antiquark = (np.tile([energy, 0, 0, sign * energy], (n, 1)) for sign in (1.0, -1.0))
    w = np.column_stack([np.sqrt(momentum**2 + m_w**2), momentum[:, None] * direction])
    z = quark + antiquark - w
    pairs = [*two_body(w, directions(generator, n)), *two_body(z, directions(generator, n))]
    return HardProcess(quark, antiquark, *pairs, up=generator.random(n) < 0.5)


def two_body(parent: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decay into two massless particles, the first one along ``direction`` (N, 3) in the rest frame of ``parent``."""
    half_mass = np.sqrt(dot(parent, parent))[:, None] / 2
    daughter = boost(np.concatenate([half_mass, half_mass * direction], axis=1), -parent[:, 1:] / parent[:, :1])
    return daughter, parent - daughter


def directions(generator: np.random.Generator, n: int) -> np.ndarray:
    """Isotropic unit vectors (n, 3)."""
    v = generator.normal(size=(n, 3))
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def patterns(
    pt: float, cos_scattering: np.ndarray, n: int = 2000, seed: int = 1, cos_decay_max: float = 0.8
) -> Patterns:
    """What the exact amplitudes expect of W bosons with transverse momentum ``pt`` in the rest frame of W and Z.

    Args:
        pt: GeV.
        cos_scattering: (K,), cosines of the angle between W and beam over which is averaged.
        n: random decays at each of them.
        cos_decay_max: only decays with a polar angle of abs(cos theta) below; the default is where soft drop sees both
            quarks.
    """
    found = []
    for cosine in cos_scattering:
        energy = np.hypot(pt / np.sqrt(1 - cosine**2), (M_W + M_Z) / 2)
        process = phase_space(energy, n, seed, cosine)
        w, z = process.fermion + process.antifermion, process.lepton + process.antilepton
        rate = (np.abs(amplitudes(process).sm) ** 2).sum(0)
        rate = rate * (np.abs(cos_theta(process.fermion, w, z)) < cos_decay_max)
        r, phi = weights(process), decay_angle(process.fermion, w, z)
        columns = (r.r1 * np.cos(2 * phi), r.r1t * np.sin(2 * phi), r.r2, r.r2t)
        found.append([np.average(column, weights=rate) for column in columns])
    return Patterns(*np.mean(found, axis=0))
