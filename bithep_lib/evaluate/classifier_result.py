"""What the classifier test found, and its three uncertainties: of the repetitions, of the sample, of the trainings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bithep_lib.evaluate.classifier_settings import ClassifierSettings, split_sizes

__all__ = ["ClassifierResult", "Uncertainty", "uncertainty"]


@dataclass(frozen=True)
class ClassifierResult:
    """What the test found, repetition by repetition; all arrays have shape (R,).

    Attributes:
        settings: how it was run.
        inputs: what the classifier saw, for instance ``"high"``.
        n: rows of each class (trained, selected and judged on together).
        auc: AUC of the calibrated output, the challenge's number.
        auc_raw: AUC of the network's output; calibration ties rows together, which matters when few are calibrated on.
        jsd: Jensen-Shannon divergence in units of ln 2, from the calibrated output; can be slightly negative.
        accuracy: on the judging part, before calibration.
        sampling_error: of each `auc_raw`, from the finite judging part (DeLong, DeLong and Clarke-Pearson 1988).
        best_epoch: the epoch whose weights were kept, counted from 1.
    """

    settings: ClassifierSettings
    inputs: str
    n: int
    auc: NDArray[np.float64]
    auc_raw: NDArray[np.float64]
    jsd: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    sampling_error: NDArray[np.float64]
    best_epoch: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Mean AUC over the repetitions."""
        return float(self.auc.mean())

    @property
    def std(self) -> float:
        """Standard deviation over the repetitions (ddof 0): the challenge's error, and the classifier's luck only."""
        return float(self.auc.std(ddof=0))

    @property
    def sample(self) -> float:
        """Error of the mean from the finite number of showers judged: what to compare two results with.

        Each repetition judges another part of the same showers. Two of them share a fraction f of it on average, so
        that averaging R repetitions reduces the error of one by sqrt((1 + (R - 1) f) / R), and never to nothing.
        """
        repetitions, shared = len(self.sampling_error), split_sizes(self.n)[2] / self.n
        return float(self.sampling_error.mean() * math.sqrt((1 + (repetitions - 1) * shared) / repetitions))

    def excess(self, floor: ClassifierResult) -> tuple[float, float]:
        """How far this lies above the floor: difference of the means, and its error from both finite samples."""
        return self.mean - floor.mean, math.hypot(self.sample, floor.sample)

    def table(self) -> pd.DataFrame:
        """One row a repetition, then mean and standard deviation."""
        columns = ("auc", "auc_raw", "jsd", "accuracy", "sampling_error", "best_epoch")
        frame = pd.DataFrame({name: getattr(self, name) for name in columns})
        frame.index = [str(number) for number in range(1, len(frame) + 1)]
        return pd.concat([frame, frame.agg(["mean", lambda values: values.std(ddof=0)]).set_axis(["mean", "std"])])

    def metrics(self) -> dict[str, float]:
        """Flat numbers for `study.record`."""
        return {
            "auc": self.mean,
            "auc_std": self.std,
            "auc_sample": self.sample,
            "auc_raw": float(self.auc_raw.mean()),
            "jsd": float(self.jsd.mean()),
        }

    def curve(self) -> dict[str, NDArray[Any]]:
        """The repetitions as columns for `study.record`."""
        return {"repetition": np.arange(1, len(self.auc) + 1)} | {
            name: getattr(self, name) for name in ("auc", "auc_raw", "jsd", "accuracy", "best_epoch")
        }

    def __str__(self) -> str:
        return f"AUC {self.mean:.3f} ± {self.std:.3f} (repetitions) ± {self.sample:.3f} (showers), {self.inputs}-level"


@dataclass(frozen=True)
class Uncertainty:
    """An AUC of a generator that was trained several times, its three uncertainties kept apart.

    Attributes:
        mean: over trainings and repetitions.
        repetitions: standard deviation over the classifier's repetitions (ddof 0), the error the challenge quotes.
        sample: error from the finite number of showers judged.
        trainings: standard deviation over trainings of the generator, without what the repetitions contribute; None
            for a single training, about which one test says nothing.
        n_trainings: how many.
    """

    mean: float
    repetitions: float
    sample: float
    trainings: float | None
    n_trainings: int

    def __str__(self) -> str:
        trained = "one training" if self.trainings is None else f"{self.trainings:.3f} ({self.n_trainings} trainings)"
        return f"{self.mean:.3f} ± {self.repetitions:.3f} (repetitions) ± {self.sample:.3f} (showers) ± {trained}"


def uncertainty(results: Sequence[ClassifierResult]) -> Uncertainty:
    """Mean and uncertainties of the same generator trained ``len(results)`` times.

    The spread of the trainings' means holds 1/R of the variance over repetitions; it is taken off (one-way analysis of
    variance) and the rest never falls below 0.
    """
    if not results:
        raise ValueError("uncertainty needs at least one result")
    means = np.array([result.mean for result in results])
    within = float(np.mean([result.auc.var(ddof=0) for result in results]))
    trainings = None
    if len(results) > 1:
        # var(ddof=1) / R, written with the ddof=0 variance of R repetitions.
        noise = np.mean([result.auc.var(ddof=0) / max(1, len(result.auc) - 1) for result in results])
        trainings = math.sqrt(max(0.0, float(means.var(ddof=1) - noise)))
    sample = float(np.mean([result.sample for result in results]))
    return Uncertainty(float(means.mean()), math.sqrt(within), sample, trainings, len(results))
