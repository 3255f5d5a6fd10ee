"""A set of calorimeter showers in memory, and its division into disjoint parts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bithep_lib.data.calochallenge.geometry import Geometry, geometry
from bithep_lib.data.rows import counts_of

__all__ = ["Showers", "concatenate", "split"]


@dataclass(frozen=True, eq=False, repr=False)
class Showers:
    """N showers of one data set.

    Attributes:
        incident: energy of the incoming particle in MeV, float64 (N,).
        voxels: energy of each voxel in MeV, float32 (N, n_voxels), in the order of :mod:`.geometry`.
        dataset: "ds1-photons", "ds1-pions", "ds2" or "ds3".
        source: where they come from, for people.
    """

    incident: np.ndarray
    voxels: np.ndarray
    dataset: str
    source: str = ""

    def __post_init__(self) -> None:
        expected = (len(self.incident), self.geometry.n_voxels)
        if np.ndim(self.incident) != 1 or np.shape(self.voxels) != expected:
            raise ValueError(
                f"showers of {self.dataset} need incident (N,) and voxels (N, {expected[1]}), "
                f"got {np.shape(self.incident)} and {np.shape(self.voxels)}"
            )

    def __len__(self) -> int:
        return len(self.incident)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> "Showers":
        """A subset, by slice, index array or boolean mask; a single integer gives a set of one shower."""
        if isinstance(index, int | np.integer):
            index = [index]
        return Showers(self.incident[index], self.voxels[index], self.dataset, self.source)

    @property
    def geometry(self) -> Geometry:
        """Where the voxels are."""
        return geometry(self.dataset)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of data set, energies and voxels in their order: the same whatever the file format."""
        digest = hashlib.sha256(self.dataset.encode())
        digest.update(np.ascontiguousarray(self.incident, "<f8"))
        for start in range(0, len(self), 1000):
            digest.update(np.ascontiguousarray(self.voxels[start : start + 1000], "<f4"))
        return digest.hexdigest()

    def __repr__(self) -> str:
        energies = f"{self.incident.min() / 1e3:.4g} to {self.incident.max() / 1e3:.4g} GeV; " if len(self) else ""
        return f"Showers({len(self)} of {self.dataset}; {energies}{self.source}; {self.fingerprint[:12]})"


def concatenate(parts: Sequence[Showers], source: str) -> Showers:
    """One set from several of the same data set.

    Raises:
        ValueError: no parts, or parts of different data sets.
    """
    if len(datasets := {part.dataset for part in parts}) != 1:
        raise ValueError(f"showers of one data set are needed, got {', '.join(sorted(datasets)) or 'none'}")
    incident, voxels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("incident", "voxels"))
    return Showers(incident, voxels, parts[0].dataset, source)


def split(
    showers: Showers, sizes: Mapping[str, int] | Sequence[int], seed: int
) -> dict[str, Showers] | tuple[Showers, ...]:
    """Disjoint random subsets, by name or in order.

    A generator and its judge need four: ``{"train": ..., "valid": ..., "reference": ..., "floor": ...}``. The model
    learns from the first and is selected on the second; the judge compares its showers with the third, and the third
    with the fourth, which shows what the judge says about two equal samples.

    The result depends on ``seed`` and the order of ``showers`` only, and a part does not change when later ones are
    added or resized.

    Args:
        sizes: numbers of showers, as a mapping from names or as a sequence.

    Returns:
        a dict with the names of ``sizes``, or a tuple.

    Raises:
        ValueError: no sizes, a size that is no integer (fractions are not understood) or negative, or fewer showers
            than asked for.
    """
    numbers = list(sizes.values()) if isinstance(sizes, Mapping) else list(sizes)
    counts = counts_of(numbers, len(showers), "showers")
    order = np.random.default_rng(seed).permutation(len(showers))
    edges = np.cumsum([0, *counts])
    parts = [showers[order[start:stop]] for start, stop in zip(edges, edges[1:], strict=False)]
    return dict(zip(sizes, parts, strict=True)) if isinstance(sizes, Mapping) else tuple(parts)
