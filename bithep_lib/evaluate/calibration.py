r"""Is a jet with score 0.8 a quark in 80 % of the cases? Calibration curves, their summary numbers, and recalibration.

Figure 2 of arXiv:2504.03387 shows calibration curves in 20 bins, as mean and standard deviation over five trainings. A
recalibration must be fitted on jets that are not in the plot: fitted on the test labels it puts any tagger on the
diagonal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from bithep_lib.evaluate.tagging import check_sample


@dataclass(frozen=True)
class CalibrationCurve:
    """Fraction of signal against mean prediction, in equal-width bins of the predicted probability.

    All arrays have shape (bins,), ``edges`` (bins + 1,); a bin without jets holds NaN. For one training ``error`` is
    the binomial error of the fraction, for a band over trainings the standard deviation (ddof = 1).
    """

    edges: NDArray[np.float64]
    prediction: NDArray[np.float64]
    fraction: NDArray[np.float64]
    error: NDArray[np.float64]
    count: NDArray[np.float64]


def calibration_curve(labels: ArrayLike, probabilities: ArrayLike, *, n_bins: int = 20) -> CalibrationCurve:
    """Calibration of one training; ``probabilities`` is P(signal) in [0, 1], shape (N,)."""
    y, p = _check_probabilities(labels, probabilities)
    edges = np.linspace(0, 1, n_bins + 1)
    index = np.minimum((p * n_bins).astype(int), n_bins - 1)  # the last bin includes 1
    count = np.bincount(index, minlength=n_bins).astype(float)
    with np.errstate(invalid="ignore"):
        prediction = np.bincount(index, weights=p, minlength=n_bins) / count
        fraction = np.bincount(index, weights=y, minlength=n_bins) / count
        error = np.sqrt(fraction * (1 - fraction) / count)
    return CalibrationCurve(edges, prediction, fraction, error, count)


def calibration_band(labels: ArrayLike, probabilities: ArrayLike, *, n_bins: int = 20) -> CalibrationCurve:
    """Mean and spread over trainings on the same jets, ``probabilities`` of shape (S, N) with S >= 2.

    Trainings are matched by the *number of the bin*: a bin that is empty in one of them is averaged over the others and
    needs at least two for a spread.
    """
    runs = [calibration_curve(labels, p, n_bins=n_bins) for p in np.atleast_2d(np.asarray(probabilities))]
    if len(runs) < 2:
        raise ValueError(f"probabilities must hold at least two trainings, shape (S, N), got {np.shape(probabilities)}")
    prediction, fraction = (np.array([getattr(r, name) for r in runs]) for name in ("prediction", "fraction"))
    filled = np.sum(~np.isnan(fraction), axis=0)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.divide(np.nansum(values, axis=0), filled, out=np.full(n_bins, np.nan), where=filled > 0)

    variance = np.nansum((fraction - mean(fraction)) ** 2, axis=0)
    spread = np.sqrt(np.divide(variance, filled - 1, out=np.full(n_bins, np.nan), where=filled > 1))
    return CalibrationCurve(
        runs[0].edges, mean(prediction), mean(fraction), spread, mean(np.array([r.count for r in runs]))
    )


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, *, n_bins: int = 20) -> float:
    """Mean distance of the calibration curve from the diagonal, weighted with the jets in each bin (ECE)."""
    curve = calibration_curve(labels, probabilities, n_bins=n_bins)
    return float(np.nansum(curve.count * np.abs(curve.fraction - curve.prediction)) / curve.count.sum())


def brier_score(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared distance of the probability from the label: calibration and sharpness in one proper score."""
    y, p = _check_probabilities(labels, probabilities)
    return float(np.mean((p - y) ** 2))


def probability(logits: ArrayLike) -> NDArray[np.float64]:
    """P(signal) from logits, in float64 so that confident jets keep their order."""
    return expit(np.asarray(logits, dtype=np.float64))


def recalibration(
    labels: ArrayLike, logits: ArrayLike, method: Literal["temperature", "isotonic"] = "temperature"
) -> Callable[[ArrayLike], NDArray[np.float64]]:
    """Fit, **on validation jets**, a map from a tagger's logits to calibrated probabilities.

    ``temperature`` divides the logits by the one number that minimises the cross entropy (Guo et al.,
    arXiv:1706.04599) and keeps the order of the jets. ``isotonic`` fits any rising step function: more flexible, but
    it ties jets together, so use it for calibration only, never before an AUC or a rejection.
    """
    y, z = check_sample(labels, logits)
    if method == "temperature":

        def cross_entropy(log_temperature: float) -> float:
            scaled = z * np.exp(-log_temperature)
            return float(np.mean(np.logaddexp(0, scaled) - y * scaled))

        log_temperature = float(minimize_scalar(cross_entropy, bounds=(-5, 5), method="bounded").x)
        return lambda new: probability(np.asarray(new, dtype=np.float64) * np.exp(-log_temperature))
    if method == "isotonic":
        return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(z, y).predict
    raise ValueError(f"method must be 'temperature' or 'isotonic', got {method!r}")


def _check_probabilities(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    y, p = check_sample(labels, probabilities)
    if p.min() < 0 or p.max() > 1:
        raise ValueError(
            f"probabilities must lie in [0, 1], got [{p.min():g}, {p.max():g}]; turn logits into them first"
        )
    return y, p
