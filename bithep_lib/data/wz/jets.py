"""A set of W jets in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np

from bithep_lib.data.rows import counts_of

__all__ = ["WZJets", "concatenate", "split"]


@dataclass(frozen=True, eq=False, repr=False)
class WZJets:
    """N jets of hadronically decayed W bosons, each recoiling against a Z, with at most 40 particles.

    Attributes:
        pt: float32 (N, 40), GeV, laboratory; descending, zero padded.
        theta, phi: float32 (N, 40), polar angle and azimuth (rad, (-pi, pi]) in the rest frame of jet and Z: jet along
            +z, beam at phi = 0.
        deta, dphi: float32 (N, 40), pseudorapidity and azimuth (rad) relative to the jet, laboratory.
        pid: int16 (N, 40), PDG ids.
        jet_pt, jet_mass_softdrop: float32 (N,), GeV.
        phi_decay: float32 (N,), true azimuth of the up-type quark around the W, rad in (-pi, pi]; modulo pi the angle
            between the decay plane and the plane of beam and W.
        cos_theta: float32 (N,), true polar angle of the up-type quark in the W's rest frame.
        r1, r2, r1t, r2t: float64 (N,): w = 1 + C r1 + C^2 r2 is the event's weight at C_W / Lambda^2 = C (TeV^-2);
            with ``t`` for the CP-odd C_W~.
        truth: further arrays (N,) of :data:`~bithep_lib.data.wz.layout.TRUTH`; may be empty.
        source: where the jets come from, for people.
    """

    pt: np.ndarray
    theta: np.ndarray
    phi: np.ndarray
    deta: np.ndarray
    dphi: np.ndarray
    pid: np.ndarray
    jet_pt: np.ndarray
    jet_mass_softdrop: np.ndarray
    phi_decay: np.ndarray
    cos_theta: np.ndarray
    r1: np.ndarray
    r2: np.ndarray
    r1t: np.ndarray
    r2t: np.ndarray
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    source: str = ""

    def __len__(self) -> int:
        return len(self.jet_pt)

    def __getitem__(self, index: int | slice | Sequence[int] | np.ndarray) -> "WZJets":
        """A subset, by slice, index array or boolean mask; a single integer gives a set of one jet."""
        if isinstance(index, int | np.integer):
            index = [index]
        truth = {key: column[index] for key, column in self.truth.items()}
        return WZJets(**{key: column[index] for key, column in self.columns.items()}, truth=truth, source=self.source)

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """All arrays but those of ``truth``."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("truth", "source")}

    @property
    def mask(self) -> np.ndarray:
        """bool (N, 40): which particles are real."""
        return self.pt > 0

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the jets in their order: all arrays but those of ``truth``."""
        digest = hashlib.sha256()
        for column in self.columns.values():
            digest.update(np.ascontiguousarray(column).astype(column.dtype.newbyteorder("<"), copy=False).data)
        return digest.hexdigest()

    def __repr__(self) -> str:
        return f"WZJets({len(self)}; {self.source}; {self.fingerprint[:12]})"


def concatenate(parts: Sequence[WZJets], source: str) -> WZJets:
    """One set from several; truth columns that all of them have are kept."""
    shared = [key for key in parts[0].truth if all(key in part.truth for part in parts)]
    columns = {key: np.concatenate([part.columns[key] for part in parts]) for key in parts[0].columns}
    truth = {key: np.concatenate([part.truth[key] for part in parts]) for key in shared}
    return WZJets(**columns, truth=truth, source=source)


def split(jets: WZJets, sizes: Sequence[int], seed: int) -> tuple[WZJets, ...]:
    """Disjoint random subsets of the given sizes, for example training, validation and test.

    The result depends on ``seed`` and the order of ``jets`` only.

    Raises:
        ValueError: no sizes, a size that is no integer (fractions are not understood) or negative, or fewer jets than
            asked for.
    """
    counts = counts_of(sizes, len(jets), "jets")
    order = np.random.default_rng(seed).permutation(len(jets))[: sum(counts)]
    return tuple(jets[rows] for rows in np.split(order, np.cumsum(counts)[:-1]))
