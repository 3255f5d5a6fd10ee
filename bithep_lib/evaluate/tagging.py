r"""How well a tagger separates signal from background: accuracy, AUC, ROC curve and background rejection.

Convention of the whole package: label 1 is the signal (quark jets in chapter 2), label 0 the background (gluon jets),
and a larger score means more signal-like. A score may be a probability or a logit; everything here but the accuracy
depends on the order of the scores only. Logits are the better choice: a float32 probability saturates at 1 and loses
the order of just those jets that decide the rejection at high purity.

Errors from the finite test sample are binomial here; :mod:`bithep_lib.evaluate.resampling` has the bootstrap, for the
AUC and for differences of two taggers on the same jets.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score, roc_curve

#: A rejection carried by fewer background jets than this (relative error above 14 %) is not quoted.
MIN_BACKGROUND = 50


def check_sample(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Labels as int8 of shape (N,) and scores as float64 of shape (N,), or an error that says what is wrong.

    Raises
    ------
    ValueError
        If the lengths differ, a label is neither 0 nor 1, a class is missing, or a score is NaN or infinite.
    """
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or s.shape != y.shape:
        raise ValueError(
            f"labels and scores must be one-dimensional and equally long, got shapes {y.shape} and {s.shape}"
        )
    if unknown := sorted(set(np.unique(y).tolist()) - {0, 1}):
        raise ValueError(f"labels must be 0 (background) or 1 (signal), found {unknown[:5]}")
    if (missing := {0, 1} - set(np.unique(y).tolist())) or y.size == 0:
        raise ValueError(f"labels must hold both classes, there is no jet of class {sorted(missing)}")
    if bad := np.flatnonzero(~np.isfinite(s)).tolist():
        raise ValueError(f"scores must be finite, {len(bad)} are not; the first is number {bad[0]}: {s[bad[0]]}")
    return y.astype(np.int8), s


def accuracy(labels: ArrayLike, scores: ArrayLike, *, threshold: float = 0.5) -> float:
    """Fraction of jets on the right side of ``threshold`` (signal means score > threshold; use 0 for logits)."""
    y, s = check_sample(labels, scores)
    return float(np.mean((s > threshold) == y))


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Probability that a signal jet scores above a background jet; equal scores count one half (Mann and Whitney)."""
    return float(roc_auc_score(*check_sample(labels, scores)))


@dataclass(frozen=True)
class Roc:
    """Receiver operating characteristic: efficiencies of the cuts score >= ``thresholds``, each of shape (cuts + 1,).

    The first point is (0, 0) at threshold infinity, the last (1, 1). Between two neighbouring cuts the curve is a
    straight line, which is what a random choice among jets of equal score would give.
    """

    signal_efficiency: NDArray[np.float64]
    background_efficiency: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    def background_at(self, signal_efficiency: float) -> float:
        """Background efficiency at a signal efficiency in (0, 1], interpolated linearly between cuts.

        Where several cuts have exactly this signal efficiency the tightest one counts.
        """
        if not 0 < signal_efficiency <= 1:
            raise ValueError(f"signal_efficiency must be in (0, 1], got {signal_efficiency}")
        # Not numpy.interp: it leaves open which end of a vertical step it takes.
        i = int(np.searchsorted(self.signal_efficiency, signal_efficiency, side="left"))
        (x0, x1), (y0, y1) = self.signal_efficiency[i - 1 : i + 1], self.background_efficiency[i - 1 : i + 1]
        t = (signal_efficiency - x0) / (x1 - x0)
        return float((1 - t) * y0 + t * y1)


def roc(labels: ArrayLike, scores: ArrayLike) -> Roc:
    """The full ROC curve, one point for each different score."""
    background, signal, thresholds = roc_curve(*check_sample(labels, scores), drop_intermediate=False)
    return Roc(signal, background, thresholds)


@dataclass(frozen=True)
class Rejection:
    """Background rejection :math:`1/\\epsilon_b` at a signal efficiency, with its binomial error.

    ``value`` and ``error`` are NaN when fewer than the required number of background jets pass the cut.
    """

    signal_efficiency: float
    value: float
    error: float
    background_passing: float

    def __str__(self) -> str:
        at = f"at {100 * self.signal_efficiency:g} % signal efficiency"
        if np.isnan(self.value):
            return f"not quoted {at} ({self.background_passing:.0f} background jets pass)"
        return f"{self.value:.1f} ± {self.error:.1f} {at}"


def rejection(
    labels: ArrayLike, scores: ArrayLike, signal_efficiency: float = 0.5, *, min_background: int = MIN_BACKGROUND
) -> Rejection:
    r"""Rejection :math:`R = 1/\epsilon_b` at ``signal_efficiency``, on the linearly interpolated ROC curve.

    With k of the background jets passing, the binomial error is :math:`\sigma_R = R\sqrt{(1-\epsilon_b)/k}`. With
    k < ``min_background`` the rejection is not quoted (NaN).
    """
    y, s = check_sample(labels, scores)
    efficiency = roc(y, s).background_at(signal_efficiency)
    passing = efficiency * int(np.sum(y == 0))
    if passing < min_background or passing == 0:
        return Rejection(signal_efficiency, float("nan"), float("nan"), passing)
    return Rejection(
        signal_efficiency, 1 / efficiency, float(np.sqrt((1 - efficiency) / passing)) / efficiency, passing
    )


def summary(labels: ArrayLike, scores: ArrayLike, *, threshold: float = 0.5) -> dict[str, float]:
    """The row of a Table 1: accuracy, AUC and rejections with the errors from the finite test sample.

    Keys: ``accuracy``, ``auc``, ``rejection_50``, ``rejection_30``, each with a partner ``..._error`` (binomial; for
    the AUC the placement-value estimate of DeLong, DeLong and Clarke-Pearson 1988).
    """
    y, s = check_sample(labels, scores)
    a = accuracy(y, s, threshold=threshold)
    row = {
        "accuracy": a,
        "accuracy_error": float(np.sqrt(a * (1 - a) / y.size)),
        "auc": auc(y, s),
        "auc_error": auc_error(y, s),
    }
    for efficiency in (0.5, 0.3):
        r = rejection(y, s, efficiency)
        key = f"rejection_{100 * efficiency:.0f}"
        row |= {key: r.value, f"{key}_error": r.error}
    return row


def auc_error(labels: ArrayLike, scores: ArrayLike) -> float:
    """Standard error of the AUC, from the spread of the jets' own shares of won comparisons (DeLong et al. 1988)."""
    y, s = check_sample(labels, scores)
    signal, background = np.sort(s[y == 1]), np.sort(s[y == 0])

    def placements(of: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
        return (np.searchsorted(among, of, "left") + np.searchsorted(among, of, "right")) / (2 * among.size)

    parts = [
        np.var(placements(a, b), ddof=1) / a.size for a, b in ((signal, background), (background, signal)) if a.size > 1
    ]
    return float(np.sqrt(sum(parts)))
