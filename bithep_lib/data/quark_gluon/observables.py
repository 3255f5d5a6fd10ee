"""What a jet looks like in ten numbers, and as the input of a network."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from bithep_lib.data.quark_gluon.jets import Jets
from bithep_lib.data.quark_gluon.kinematics import jet_momentum, relative
from bithep_lib.data.quark_gluon.particles import CLASSES, charge, particle_class

__all__ = ["FEATURES", "OBSERVABLES", "features", "observables"]

RADIUS = 0.4
CHUNK = 10_000  # jets at a time: float64 intermediates stay near 100 MB

OBSERVABLES: dict[str, str] = {
    "multiplicity": "number of particles",
    "charged_multiplicity": "number of charged particles",
    "mass": "invariant mass [GeV]",
    "girth": r"girth $\sum_i z_i\,\Delta R_i / R$",
    "ptd": r"$p_T^D = \sqrt{\sum_i z_i^2}$",
    "lha": r"Les Houches angularity $\sum_i z_i \sqrt{\Delta R_i / R}$",
    "thrust": r"thrust-like angularity $\sum_i z_i\,(\Delta R_i / R)^2$",
    "z_max": r"hardest particle $\max_i z_i$",
    "photons": "number of photons",
    "hard_particles": r"number of particles with $p_T > 1$ GeV",
}
"""Columns of :func:`observables` and their labels; z_i = pt_i / sum of pt, Delta R_i to the jet axis, R = 0.4."""

FEATURES = ("log_z", "dy", "dphi", "dr", *(name.replace(" ", "_") for name in CLASSES), "charge")
"""Columns of the last axis of :func:`features`."""


def observables(jets: Jets) -> pd.DataFrame:
    """Ten jet observables (:data:`OBSERVABLES`), one row a jet.

    The generalised angularities follow arXiv:1408.3122: sum over particles of z (Delta R / R)^beta with beta = 1/2
    (Les Houches), 1 (girth) and 2 (thrust-like).
    """
    return pd.concat([pd.DataFrame(_observables(part)) for part in _chunks(jets)], ignore_index=True)


def _observables(constituents: np.ndarray) -> dict[str, np.ndarray]:
    seen = relative(constituents)
    z, theta, mask, pid = seen["z"], seen["dr"] / RADIUS, seen["mask"], constituents[..., 3]
    return {
        "multiplicity": mask.sum(-1),
        "charged_multiplicity": (charge(pid) != 0).sum(-1),
        "mass": jet_momentum(constituents)["m"],
        "girth": (z * theta).sum(-1),
        "ptd": np.sqrt((z**2).sum(-1)),
        "lha": (z * np.sqrt(theta)).sum(-1),
        "thrust": (z * theta**2).sum(-1),
        "z_max": z.max(-1),
        "photons": (pid == 22).sum(-1),
        "hard_particles": (constituents[..., 0] > 1.0).sum(-1),
    }


def features(jets: Jets, max_constituents: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of a per-particle network: the leading ``max_constituents`` particles of each jet.

    Columns (:data:`FEATURES`), all of order one: 1 + log(pt / sum of pt) / 5, (dy, dphi, dR) / 0.4 from the jet axis,
    the five particle classes of arXiv:2504.03387 one-hot, and the charge. Axis and sum are those of the whole jet.

    Returns:
        x float32 (N, P, 10), zero where there is no particle, and mask bool (N, P).

    Raises:
        ValueError: ``max_constituents`` is not positive.
    """
    if max_constituents < 1:
        raise ValueError(f"max_constituents must be positive, got {max_constituents}")
    x = np.zeros((len(jets), max_constituents, len(FEATURES)), np.float32)
    mask = np.zeros(x.shape[:2], bool)
    start = 0
    for part in _chunks(jets):
        values, real = _features(part, max_constituents)
        rows, width = slice(start, start + len(part)), values.shape[1]
        x[rows, :width], mask[rows, :width] = values, real
        start += len(part)
    return x, mask


def _features(constituents: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    seen = {name: column[:, :most] for name, column in relative(constituents).items()}
    pid, mask = constituents[:, :most, 3], seen["mask"]
    log_z = 1.0 + np.log(np.where(mask, seen["z"], 1.0)) / 5.0
    one_hot = particle_class(pid)[..., None] == np.arange(len(CLASSES))
    columns = [log_z, seen["dy"] / RADIUS, seen["dphi"] / RADIUS, seen["dr"] / RADIUS, *np.moveaxis(one_hot, -1, 0)]
    return np.stack([*columns, charge(pid)], axis=-1) * mask[..., None], mask


def _chunks(jets: Jets) -> Iterator[np.ndarray]:
    for start in range(0, max(len(jets), 1), CHUNK):
        yield jets.constituents[start : start + CHUNK]
