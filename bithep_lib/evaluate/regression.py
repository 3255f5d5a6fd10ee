r"""How well an angle is regressed that is known up to pi, with the measures of arXiv:2504.03387, section 4.

The paper's two measures, Wasserstein distance and separation power, compare the residuals of one model with those of
another. Both are here as published and as they should be: the residual lives on a circle, where -pi and pi are one
point, and the separation power is an integral, so that bins have a width. A number without a reference model is
<sin^2 delta>, the loss itself.

Functions take angles in radians, as arrays of shape (N,). Errors come from
:func:`bithep_lib.evaluate.resampling.bootstrap_statistic`, which draws jets and, from five trainings on, seeds:

>>> from bithep_lib.evaluate.resampling import bootstrap_statistic
>>> bootstrap_statistic(np.mean, sin2_delta(pred, true))              # one model                    # doctest: +SKIP
>>> bootstrap_statistic(wasserstein, residuals(a, true), residuals(b, true), n_resamples=200)        # doctest: +SKIP
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wasserstein_distance

FIGURE_4_BINS = 70
"""Bins of the residual on [-pi, pi] in Figure 4."""
SEPARATION_BINS = 100
"""Bins of the residual on [-pi, pi] behind the separation power of Table 2."""


def sin2_delta(pred: ArrayLike, true: ArrayLike) -> NDArray[np.float64]:
    """sin^2(pred - true) of each jet, shape (N,): 0 is right, also with the quarks swapped, and 1/2 a random guess."""
    return np.sin(_difference(pred, true)) ** 2


def dilution(pred: ArrayLike, true: ArrayLike) -> float:
    r"""D = <cos 2 delta> = 1 - 2 <sin^2 delta>: the part that is left of a cos 2 phi modulation of the true angle."""
    return float(1 - 2 * sin2_delta(pred, true).mean())


def residuals(pred: ArrayLike, true: ArrayLike, *, period: float = 2 * np.pi) -> NDArray[np.float64]:
    """pred - true, brought into [-period / 2, period / 2): on the full circle as in the figures, or folded with pi."""
    return (_difference(pred, true) + period / 2) % period - period / 2


def wasserstein(a: ArrayLike, b: ArrayLike) -> float:
    """Wasserstein distance (first, in radians) of two samples on the line, as in Table 2.

    Residuals at -pi and pi are far apart for it, although they are one angle: of two equal samples with a peak at pi,
    one turned by 0.02, the distance is not 0.02 but about 0.2.
    """
    return float(wasserstein_distance(np.asarray(a, float), np.asarray(b, float)))


def circular_wasserstein(a: ArrayLike, b: ArrayLike, *, period: float = np.pi) -> float:
    """Wasserstein distance (first, in radians) of two samples on a circle of this circumference.

    On the line it is the area between the distribution functions; a circle has no first point to count from, and the
    best one makes their difference have the median zero (Rabin, Delon and Gousseau, J. Math. Imaging Vis. 41 (2011)
    147).
    """
    a, b = np.asarray(a, float) % period, np.asarray(b, float) % period
    if not a.size or not b.size:
        raise ValueError(f"circular_wasserstein needs two samples, got sizes {a.size} and {b.size}")
    points = np.concatenate([a, b])
    order = np.argsort(points, kind="stable")
    steps = np.concatenate([np.full(a.size, 1 / a.size), np.full(b.size, -1 / b.size)])[order]
    width = np.diff(points[order], append=points[order[0]] + period)
    difference = np.cumsum(steps)
    by_size = np.argsort(difference, kind="stable")
    median = difference[by_size[np.searchsorted(np.cumsum(width[by_size]), period / 2)]]
    return float(np.sum(width * np.abs(difference - median)))


def separation_power(
    a: ArrayLike,
    b: ArrayLike,
    bins: int = SEPARATION_BINS,
    *,
    limits: tuple[float, float] = (-np.pi, np.pi),
    with_width: bool = True,
) -> float:
    r"""Separation power of two samples, from the densities p and q of their histograms:

    .. math:: \frac{1}{2} \int \frac{(p - q)^2}{p + q}\, dx

    It is 0 for equal and 1 for disjoint histograms. Two samples of N from one distribution have about K / 2N, with K
    the number of filled bins. ``with_width=False`` leaves out the width of the bins in the integral, as Table 2 does:
    the number is larger by 1 / width, and no longer bounded by 1.
    """
    edges = np.linspace(*limits, bins + 1)
    p, q = (np.histogram(np.asarray(sample, float), edges, density=True)[0] for sample in (a, b))
    filled = p + q > 0
    total = 0.5 * np.sum((p - q)[filled] ** 2 / (p + q)[filled])
    return float(total * (edges[1] - edges[0] if with_width else 1))


def summary(pred: ArrayLike, true: ArrayLike) -> dict[str, float]:
    """One model in numbers.

    Returns:
        ``sin2`` <sin^2 delta>, ``dilution``, ``core`` (median |delta|, folded) and ``quantile_68`` in radians, ``tail``
        (the share of jets with |delta| above pi / 4, where the axis is nearer to the wrong one).
    """
    size = np.abs(residuals(pred, true, period=np.pi))
    return {
        "sin2": float(sin2_delta(pred, true).mean()),
        "dilution": dilution(pred, true),
        "core": float(np.median(size)),
        "quantile_68": float(np.quantile(size, 0.68)),
        "tail": float(np.mean(size > np.pi / 4)),
    }


def _difference(pred: ArrayLike, true: ArrayLike) -> NDArray[np.float64]:
    pred, true = np.asarray(pred, np.float64), np.asarray(true, np.float64)
    if pred.shape[-1:] != true.shape[-1:] or true.ndim != 1:
        raise ValueError(f"pred and true must belong to the same jets, got shapes {pred.shape} and {true.shape}")
    if not (np.isfinite(pred).all() and np.isfinite(true).all()):
        raise ValueError("angles must be finite")
    return pred - true
