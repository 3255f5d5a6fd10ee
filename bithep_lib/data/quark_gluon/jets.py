"""A set of labelled jets in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bithep_lib.data.quark_gluon.layout import GLUON, QUARK
from bithep_lib.data.rows import counts_of

__all__ = ["Jets", "concatenate", "split"]


@dataclass(frozen=True, eq=False, repr=False)
class Jets:
    """N jets with at most M particles each.

    Attributes:
        constituents: float32 (N, M, 4) of (pt [GeV], y, phi, pid), zero padded: pt descending, phi within pi of the
            jet's.
        label: int8 (N,), 1 for a quark jet and 0 for a gluon jet.
        truth: arrays (N,) of :data:`~bithep_lib.data.quark_gluon.layout.TRUTH`; empty for the public files.
        source: where they come from, for people.
    """

    constituents: np.ndarray
    label: np.ndarray
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    source: str = ""

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> "Jets":
        """A subset, by slice, index array or boolean mask; a single integer gives a set of one jet."""
        if isinstance(index, int | np.integer):
            index = [index]
        truth = {key: column[index] for key, column in self.truth.items()}
        return Jets(self.constituents[index], self.label[index], truth, self.source)

    @property
    def multiplicity(self) -> np.ndarray:
        """Particles in each jet, (N,)."""
        return (self.constituents[..., 0] > 0).sum(-1)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the jets in their order (particles and labels): the same whatever the file format or padding."""
        digest = hashlib.sha256()
        for start in range(0, len(self), 10_000):
            part = self.constituents[start : start + 10_000]
            mask = part[..., 0] > 0
            digest.update(mask.sum(-1).astype("<i4").tobytes())
            digest.update(part[mask].astype("<f4").tobytes())
        digest.update(self.label.astype("<i1").tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        quarks = int((self.label == QUARK).sum())
        counts = f"{len(self)}: {quarks} quark, {len(self) - quarks} gluon"
        return f"Jets({counts}; at most {self.constituents.shape[1]} particles; {self.source}; {self.fingerprint[:12]})"


def concatenate(parts: Sequence[Jets], source: str) -> Jets:
    """One set from several, padded to the widest; truth columns that all of them have are kept."""
    width = max(part.constituents.shape[1] for part in parts)
    constituents = np.zeros((sum(map(len, parts)), width, 4), np.float32)
    start = 0
    for part in parts:
        constituents[start : start + len(part), : part.constituents.shape[1]] = part.constituents
        start += len(part)
    shared = [key for key in parts[0].truth if all(key in part.truth for part in parts)]
    truth = {key: np.concatenate([part.truth[key] for part in parts]) for key in shared}
    return Jets(constituents, np.concatenate([part.label for part in parts]), truth, source)


def split(jets: Jets, sizes: Sequence[int], seed: int) -> tuple[Jets, ...]:
    """Disjoint random subsets of the given sizes, for example training, validation and test.

    Each keeps the quark fraction of the whole (to one jet) and is in random order. The result depends on ``seed`` and
    the order of ``jets`` only.

    Raises:
        ValueError: no sizes, a size that is no integer (fractions are not understood) or negative, or fewer jets than
            asked for.
    """
    counts = counts_of(sizes, len(jets), "jets")
    generator = np.random.default_rng(seed)
    quarks, gluons = (generator.permutation(np.flatnonzero(jets.label == label)) for label in (QUARK, GLUON))
    edges = np.cumsum([0, *counts])
    quark_edges = edges * len(quarks) // max(len(jets), 1)
    gluon_edges = edges - quark_edges
    parts = []
    for i in range(len(counts)):
        chosen = np.concatenate(
            (quarks[quark_edges[i] : quark_edges[i + 1]], gluons[gluon_edges[i] : gluon_edges[i + 1]])
        )
        parts.append(jets[generator.permutation(chosen)])
    return tuple(parts)
