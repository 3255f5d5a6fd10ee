"""The CaloChallenge's judge: how well can a classifier tell generated showers from simulated ones?

Everything starts with four sets of showers that share none: the generator trains on the first and is selected on the
second; its showers are compared with the third, the *reference*; and the fourth, the *floor*, is compared with the
reference as well, to show what the judge says about two equal samples. `Judge` holds them and refuses anything else.

    >>> from bithep_lib.data.calochallenge import load, split             # doctest: +SKIP
    >>> parts = split(load("sample"), {"train": 5000, "valid": 1000, "reference": 2000, "floor": 2000}, seed=1)
    >>> judge = Judge(**parts)
    >>> generated = generate(judge.energies)    # one shower for each of these energies, in this order
    >>> print(judge(generated), judge.control(), sep="\\n")

The test itself, network, split, selection and calibration, is in `evaluate.two_sample`; the definitions here are those
of the public evaluation script (arXiv:2410.21611, section 4): voxels below the read-out threshold are set to zero in
both samples first, then

* ``"low"``: [log10 E_inc/MeV, E_voxel / E_inc], n_voxels + 1 numbers;
* ``"high"``: the high-level features of `evaluate.showers`, 30, 46 or 362 numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bithep_lib.data.calochallenge import Showers
from bithep_lib.data.calochallenge.checks import HIT_VOXELS
from bithep_lib.data.calochallenge.cuts import zero_below
from bithep_lib.evaluate import showers as high_level
from bithep_lib.evaluate.two_sample import (
    CLASSIFIER,
    ClassifierResult,
    ClassifierSettings,
    Uncertainty,
    classifier,
    split_sizes,
    two_sample_test,
    uncertainty,
)

__all__ = [
    "CLASSIFIER",
    "INPUTS",
    "ClassifierResult",
    "ClassifierSettings",
    "Judge",
    "Uncertainty",
    "against_size",
    "classifier",
    "classifier_inputs",
    "classifier_test",
    "require_disjoint",
    "shared_showers",
    "split_sizes",
    "table",
    "uncertainty",
]

Inputs = Literal["low", "high"]
INPUTS: tuple[Inputs, ...] = ("low", "high")


def classifier_inputs(showers: Showers, inputs: Inputs = "high") -> NDArray[np.float32]:
    """What the classifier sees of each shower.

    Returns:
        ``"low"`` (N, n_voxels + 1), ``"high"`` (N, 30) for photons, (N, 46) for pions, (N, 362) for ds2 and ds3.

    Raises:
        ValueError: unknown inputs.
    """
    if inputs not in INPUTS:
        raise ValueError(f"inputs must be one of {', '.join(map(repr, INPUTS))}, got {inputs!r}")
    if inputs == "high":
        return high_level.feature_vector(showers)
    energy = showers.incident[:, None]
    above = zero_below(showers).voxels
    return np.concatenate([np.log10(energy), above / energy], axis=1).astype(np.float32)


def classifier_test(
    generated: Showers, reference: Showers, *, inputs: Inputs = "high", paired: bool = False, **options: Any
) -> ClassifierResult:
    """Train classifiers to tell generated showers from reference showers; judge them on showers they have not seen.

    Args:
        generated: N showers, label 0.
        reference: N showers of the same data set, label 1.
        inputs: ``"low"`` or ``"high"``.
        paired: shower i of both has the same incident energy; both then fall into the same part of the split.
        **options: `settings`, `seed`, `device`, `checkpoint` and `progress` of `two_sample.two_sample_test`.

    Raises:
        ValueError: different data sets or lengths, too few showers, showers that are in both samples.
    """
    _same_kind(generated, reference)
    require_disjoint(generated=generated, reference=reference)
    a, b = (classifier_inputs(sample, inputs) for sample in (generated, reference))
    return two_sample_test(a, b, paired=paired, inputs=inputs, **options)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Four disjoint sets of showers and the settings of the classifier: call it with generated showers.

    Attributes:
        train: what a generator learns from.
        valid: what its epoch and its settings are chosen on.
        reference: what generated showers are compared with.
        floor: simulated showers that stand in for generated ones in `control`, at least as many as `reference`.
        settings: one of `CLASSIFIER`, or your own.
        seed: of the test.
        device: where the classifiers run.
        progress: show progress bars.

    Raises:
        ValueError: sets that share showers or are of different data sets, or a floor smaller than the reference.
    """

    train: Showers
    valid: Showers
    reference: Showers
    floor: Showers
    settings: ClassifierSettings = CLASSIFIER["book"]
    seed: int = 1
    device: str = "auto"
    progress: bool = True

    def __post_init__(self) -> None:
        sets = {name: getattr(self, name) for name in ("train", "valid", "reference", "floor")}
        require_disjoint(**sets)
        if len(self.floor) < len(self.reference):
            raise ValueError(
                f"floor must have at least the {len(self.reference)} showers of reference, it has {len(self.floor)}"
            )

    @property
    def energies(self) -> NDArray[np.float64]:
        """Incident energies in MeV, shape (N,): a generator makes one shower for each, in this order."""
        return self.reference.incident

    def __call__(self, generated: Showers, inputs: Inputs = "high") -> ClassifierResult:
        """Judge generated showers.

        Raises:
            ValueError: they are not made for `energies`, shower by shower, or are partly the reference itself.
        """
        self.check_energies(generated)
        return classifier_test(generated, self.reference, inputs=inputs, paired=True, **self._options())

    def control(self, inputs: Inputs = "high") -> ClassifierResult:
        """The floor: what the judge says about two samples of the same simulation."""
        return classifier_test(self.floor[: len(self.reference)], self.reference, inputs=inputs, **self._options())

    def check_energies(self, generated: Showers) -> None:
        """Refuse showers of other energies than the reference's: the judge would see the energies, not the showers."""
        if len(generated) != len(self.reference):
            raise ValueError(
                f"one generated shower is needed for each of the {len(self.reference)} of the reference, "
                f"got {len(generated)}; generate them for judge.energies"
            )
        wrong = ~np.isclose(generated.incident, self.energies, rtol=1e-5, atol=0)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"generated shower {row} has an incident energy of {generated.incident[row]:g} MeV, the reference has "
                f"{self.energies[row]:g} MeV there ({int(wrong.sum())} differ): generate them for judge.energies"
            )

    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("settings", "seed", "device", "progress")}


def against_size(
    generated: Showers, reference: Showers, sizes: Sequence[int], *, inputs: Inputs = "high", **options: Any
) -> pd.DataFrame:
    """The AUC when only so many showers of each class are given to the classifier: its power grows with them.

    Args:
        generated: N showers.
        reference: N showers.
        sizes: numbers of showers of each class, at most N; the first ones are taken.
        inputs: ``"low"`` or ``"high"``.
        **options: as for `classifier_test`.

    Returns:
        One row a size: ``n`` and the columns of `ClassifierResult.metrics`.

    Raises:
        ValueError: a size above N, or too small to split.
    """
    if too_large := [size for size in sizes if size > len(reference)]:
        raise ValueError(f"sizes must be at most the {len(reference)} showers of the reference, got {too_large}")
    rows = []
    for size in sizes:
        result = classifier_test(generated[:size], reference[:size], inputs=inputs, **options)
        rows.append({"n": size} | result.metrics())
    return pd.DataFrame(rows)


def table(results: Mapping[str, ClassifierResult]) -> pd.DataFrame:
    """Results as text, one row each: AUC ± spread over the repetitions, error of the finite sample, JSD, settings."""
    return pd.DataFrame.from_dict(
        {
            name: {
                "inputs": result.inputs,
                "AUC": f"{result.mean:.3f} ± {result.std:.3f}",
                "error of the sample": f"{result.sample:.3f}",
                "JSD": f"{result.jsd.mean():.3f}",
                "showers": result.n,
                "classifier": result.settings.name,
            }
            for name, result in results.items()
        },
        orient="index",
    )


def require_disjoint(**sets: Showers) -> None:
    """Refuse sets of which any two share a shower.

    Raises:
        ValueError: naming the two sets and how many showers they share, or different data sets.
    """
    for (name_a, a), (name_b, b) in itertools.combinations(sets.items(), 2):
        _same_kind(a, b, name_a, name_b)
        if shared := shared_showers(a, b):
            raise ValueError(
                f"{name_a} and {name_b} share {shared} showers: training, validation, reference and floor must be "
                "disjoint (calochallenge.split makes such sets)"
            )


def shared_showers(a: Showers, b: Showers) -> int:
    """How many showers of `b` are also in `a`, voxel by voxel.

    Showers with fewer than four voxels hit are no fingerprint of themselves and do not count.
    """
    if a.fingerprint == b.fingerprint:
        return len(b)
    return int(np.isin(_keys(b), _keys(a)).sum())


def _keys(showers: Showers) -> NDArray[np.uint64]:
    """A 64-bit number for each shower that tells showers apart: its voxels' bits, multiplied and summed modulo 2^64."""
    factors = np.random.default_rng(0).integers(2**64, size=showers.geometry.n_voxels, dtype=np.uint64)
    keys = []
    portion = max(1, 2**22 // showers.geometry.n_voxels)  # the product holds a copy in 64 bits
    for start in range(0, len(showers), portion):
        voxels = np.ascontiguousarray(showers.voxels[start : start + portion], dtype=np.float32)
        hit = np.count_nonzero(voxels, axis=1) >= HIT_VOXELS
        keys.append(voxels[hit].view(np.uint32) @ factors)
    return np.concatenate(keys) if keys else np.empty(0, np.uint64)


def _same_kind(a: Showers, b: Showers, name_a: str = "generated", name_b: str = "reference") -> None:
    if a.dataset != b.dataset:
        raise ValueError(f"{name_a} and {name_b} must be of one data set, got {a.dataset} and {b.dataset}")
