r"""What a tagger would reach with more jets: learning curves, continued beyond the last point by three forms.

Nobody knows the form of a learning curve. The three here have a free asymptote :math:`A`, one number :math:`s` that
shapes the approach to it, and fit most measured curves about equally well (Viering and Loog, arXiv:2103.10948):

.. math:: m(n) = A - B\, g_s(n), \qquad
   g_s(n) = n^{-s}, \quad \frac{1}{\ln(1 + n/s)}, \quad e^{-(n/s)^{1/4}} .

What they disagree about is what the data do not say, so the band is the envelope of the three. Where none of them
describes the points within their errors, the errors are too small (they lack the luck of the training jets, for one),
and are scaled up as the Particle Data Group does it. The band is a guess with an error, never a measurement: `backtest`
shows how good such guesses were where the answer is known.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Shape = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]

#: Name of a form to g_s(n) and the range of s, with n in units of the geometric mean of the sizes.
FORMS: dict[str, tuple[_Shape, tuple[float, float]]] = {
    "power law": (lambda n, s: n**-s, (0.02, 2.0)),
    "inverse logarithm": (lambda n, s: 1 / np.log1p(n / s), (1e-5, 10.0)),
    "stretched exponential": (lambda n, s: np.exp(-((n / s) ** 0.25)), (1e-5, 100.0)),
}
_GRID = 800
MIN_SIZES = 4
"""Three numbers are fitted, and one point at least has to be able to contradict them."""


@dataclass(frozen=True)
class Extrapolation:
    """A learning curve continued.

    Attributes
    ----------
    n_train: (K,) numbers of training jets at which everything is evaluated.
    curves: the best fit of each form, (K,).
    low, high: (K,) envelope over the forms of the central intervals at ``level``.
    asymptote: the best fit's value at infinitely many jets, for each form.
    chi2: of the best fit of each form, with the errors as given, for (sizes - 3) degrees of freedom.
    scale: factor by which the errors were enlarged, at least 1: the root of the smallest chi squared per degree of
        freedom.
    level: of the intervals.
    """

    n_train: NDArray[np.float64]
    curves: dict[str, NDArray[np.float64]]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    asymptote: dict[str, float]
    chi2: dict[str, float]
    scale: float
    level: float


@dataclass(frozen=True)
class Backtest:
    """The largest size, predicted from all smaller ones.

    Attributes
    ----------
    n_train: the largest number of training jets.
    low, high: the predicted band.
    value, error: what was measured there.
    """

    n_train: float
    low: float
    high: float
    value: float
    error: float

    @property
    def inside(self) -> bool:
        """Whether the band, widened by the measurement's own error, holds the measured value."""
        return self.low - self.error <= self.value <= self.high + self.error


def extrapolate(
    n_train: ArrayLike,
    values: ArrayLike,
    errors: ArrayLike,
    at: ArrayLike,
    *,
    upper: float = 1.0,
    level: float = 0.68,
    n_resamples: int = 300,
    seed: int = 0,
) -> Extrapolation:
    """Fit the three forms and evaluate them, with a band, at other numbers of jets.

    Parameters
    ----------
    n_train: (P,) different numbers of training jets, at least ``MIN_SIZES`` of them.
    values: (P,) a metric that grows with them, such as the AUC.
    errors: (P,) its independent standard errors: the luck of the trainings. (That of a common test sample moves all
        points together, and is no part of the band.)
    at: numbers of jets to evaluate at.
    upper: the largest possible value, which no asymptote exceeds.
    level: of the intervals.
    n_resamples: how often the points are drawn anew from Gaussians of their errors.
    seed: of these draws.

    Raises
    ------
    ValueError
        Fewer than ``MIN_SIZES`` different sizes, lengths that differ, an error that is not positive, or a value above
        ``upper``.
    """
    n, y, e = (np.asarray(column, dtype=np.float64) for column in (n_train, values, errors))
    _check(n, y, e, upper)
    where = np.atleast_1d(np.asarray(at, dtype=np.float64))
    unit = np.exp(np.log(n).mean())
    grids = {name: np.geomspace(*limits, _GRID)[:, None] for name, (_, limits) in FORMS.items()}

    def fits(samples: NDArray[np.float64]) -> dict[str, tuple[NDArray[np.float64], ...]]:
        return {name: _fit(shape(n / unit, grids[name]), samples, e**-2, upper) for name, (shape, _) in FORMS.items()}

    best = fits(y[None])
    chi2 = {name: float(found[2][0]) for name, found in best.items()}
    scale = max(1.0, float(np.sqrt(min(chi2.values()) / (len(n) - 3))))
    draws = np.random.default_rng(seed).normal(y, scale * e, size=(n_resamples, len(n)))
    resampled = fits(np.minimum(draws, upper))
    curves, low, high = {}, [], []
    for name, (shape, _) in FORMS.items():
        (curves[name],), lines = (
            a[:, None] - b[:, None] * shape(where / unit, grids[name])[chosen]
            for a, b, _, chosen in (best[name], resampled[name])
        )
        edges = np.quantile(lines, [(1 - level) / 2, (1 + level) / 2], axis=0)
        low.append(np.minimum(edges[0], curves[name]))
        high.append(np.maximum(edges[1], curves[name]))
    return Extrapolation(
        n_train=where,
        curves=curves,
        low=np.min(low, axis=0),
        high=np.max(high, axis=0),
        asymptote={name: float(found[0][0]) for name, found in best.items()},
        chi2=chi2,
        scale=scale,
        level=level,
    )


def backtest(n_train: ArrayLike, values: ArrayLike, errors: ArrayLike, **options: float) -> Backtest:
    """Predict the largest size from the others, as `extrapolate` would have done before it was run.

    Parameters as there; ``MIN_SIZES`` sizes have to be left.
    """
    n, y, e = (np.asarray(column, dtype=np.float64) for column in (n_train, values, errors))
    last = int(np.argmax(n))
    rest = np.arange(len(n)) != last
    band = extrapolate(n[rest], y[rest], e[rest], n[last], **options)
    return Backtest(float(n[last]), float(band.low[0]), float(band.high[0]), float(y[last]), float(e[last]))


def _fit(
    g: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64], upper: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Least squares of A - B g for all samples and all s at once: A and B are linear, s is searched.

    Args:
        g: (S, P) shapes; y: (R, P) samples; w: (P,) weights.

    Returns:
        A, B and chi squared (R,), with A <= upper and B >= 0, and the index of s.
    """
    total, g1, g2 = w.sum(), g @ w, g**2 @ w  # (), (S,), (S,)
    y1, yg = y @ w, y @ (g * w).T  # (R,), (R, S)
    b = (g1 * y1[:, None] - total * yg) / (total * g2 - g1**2)
    a = (y1[:, None] + b * g1) / total
    over = a > upper
    b = np.where(over, (upper * g1 - yg) / g2, b)
    a = np.where(over, upper, a)
    b, a = np.maximum(b, 0), np.where(b < 0, (y1 / total)[:, None], a)
    # Not from the sums above: their difference would lose all digits.
    chi2 = ((a[..., None] - b[..., None] * g - y[:, None, :]) ** 2 * w).sum(-1)
    best = chi2.argmin(axis=1)
    rows = np.arange(len(y))
    return a[rows, best], b[rows, best], chi2[rows, best], best


def _check(n: NDArray[np.float64], y: NDArray[np.float64], e: NDArray[np.float64], upper: float) -> None:
    if n.ndim != 1 or not n.shape == y.shape == e.shape:
        raise ValueError(
            f"n_train, values and errors must be equally long columns, got the shapes {n.shape}, {y.shape}, {e.shape}"
        )
    if len(np.unique(n)) < max(MIN_SIZES, len(n)) or n.min() <= 0:
        raise ValueError(f"n_train must be {MIN_SIZES} or more different positive numbers of jets, got {n.tolist()}")
    if not (np.isfinite(e).all() and (e > 0).all()):
        raise ValueError(f"errors must be positive, got {e.tolist()}")
    if not (np.isfinite(y).all() and (y <= upper).all()):
        raise ValueError(f"values must be finite and at most upper={upper:g}, got {y.tolist()}")
