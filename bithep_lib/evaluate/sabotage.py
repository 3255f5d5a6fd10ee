"""Showers that are wrong on purpose: what a judge has to catch before its praise means anything.

Each takes simulated showers and spoils one thing. Half of them leave every average histogram nearly as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bithep_lib.data.calochallenge import Showers
from bithep_lib.suggest import did_you_mean

__all__ = ["SABOTAGE", "sabotage"]


def _scale(voxels: NDArray, showers: Showers, strength: float, rng: np.random.Generator) -> NDArray:
    return voxels * (1 + strength)


def _smear(voxels: NDArray, showers: Showers, strength: float, rng: np.random.Generator) -> NDArray:
    """Log-normal with mean 1, so that the mean energies stay."""
    return voxels * np.exp(strength * rng.standard_normal(voxels.shape, dtype=np.float32) - strength**2 / 2)


def _drop(voxels: NDArray, showers: Showers, strength: float, rng: np.random.Generator) -> NDArray:
    return voxels * (rng.random(voxels.shape, dtype=np.float32) >= strength)


def _exchange(voxels: NDArray, showers: Showers, strength: float, rng: np.random.Generator) -> NDArray:
    """Neighbours in energy exchange all layers behind the middle one; the front layers stay."""
    deep = showers.geometry.layer >= showers.geometry.n_layers // 2
    order = np.lexsort((rng.random(len(showers)), showers.incident))
    pairs = order[: len(order) // 2 * 2].reshape(-1, 2)
    pairs = pairs[rng.random(len(pairs)) < strength]
    spoilt = voxels.copy()
    first, second = np.ix_(pairs[:, 0], deep), np.ix_(pairs[:, 1], deep)
    spoilt[first], spoilt[second] = voxels[second], voxels[first]
    return spoilt


SABOTAGE: dict[str, tuple[str, Callable[..., NDArray]]] = {
    "scale": ("every voxel's energy times 1 + strength", _scale),
    "smear": ("every voxel's energy times a log-normal number of mean 1 and width strength", _smear),
    "drop": ("each voxel lost with the probability strength", _drop),
    "exchange": ("a share strength of neighbours in energy exchange the back half of their layers", _exchange),
}
"""Name to what it does and to the function that does it."""


def sabotage(showers: Showers, kind: str, strength: float, seed: int) -> Showers:
    """Spoil showers.

    Args:
        showers: simulated ones.
        kind: one of `SABOTAGE`: ``"scale"``, ``"smear"``, ``"drop"``, ``"exchange"``.
        strength: > 0, see `SABOTAGE`; at most 1 for ``"drop"`` and ``"exchange"``.
        seed: of the random numbers.

    Raises:
        ValueError: an unknown kind or an impossible strength.
    """
    if kind not in SABOTAGE:
        raise ValueError(f"kind must be one of {', '.join(SABOTAGE)}, got {kind!r}{did_you_mean(kind, SABOTAGE)}")
    if not 0 < strength <= (1 if kind in ("drop", "exchange") else np.inf):
        raise ValueError(f"strength={strength} of {kind!r} must be above 0 (and at most 1 where it is a probability)")
    _, spoil = SABOTAGE[kind]
    voxels = spoil(showers.voxels, showers, strength, np.random.default_rng(seed)).astype(np.float32, copy=False)
    return replace(showers, voxels=voxels, source=f"{showers.source}, sabotaged: {kind} {strength:g}")
