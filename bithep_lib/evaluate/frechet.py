r"""Fréchet physics distance: two samples of showers compared through mean and covariance of their high-level features.

With means :math:`\mu` and covariances :math:`\Sigma` of two samples (arXiv:2211.10295),

.. math:: d^2 = |\mu_1 - \mu_2|^2 + \mathrm{tr}\bigl(\Sigma_1 + \Sigma_2
          - 2 (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2}\bigr).

Estimated from N showers it is too large by an amount that falls like 1/N, so it is computed for several N, and a
straight line in 1/N gives the value at infinite N. The challenge does so with the package jetnet, for N between 10 000
and 50 000, on features divided by their largest absolute value in the reference, and quotes :math:`10^3 d^2`.

Two things differ here, so that it works with samples of thousands too. Subsamples are drawn without replacement: with
replacement, the line ends at the distance between the two finite samples, whose own excess stays. And N runs from a
quarter of the sample to all of it. Where the showers of the two samples have the same energies one by one, so have the
subsamples. The kernel distance KPD of the challenge needs jetnet, and is left out.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh, eigvalsh

from bithep_lib.data.calochallenge.showers import Showers
from bithep_lib.evaluate.showers import feature_vector

__all__ = ["FrechetDistance", "extrapolate", "fpd", "frechet_distance"]

PER_FEATURE = 20  # showers in the smallest subsample for each feature: with fewer, 1/N is not the whole story
POINTS, REPEATS = 10, 20  # sizes, and subsamples of each, as in jetnet


@dataclass(frozen=True)
class FrechetDistance:
    """Squared Fréchet distance at infinite sample size.

    Attributes:
        value: the intercept; statistically it can be negative.
        error: its standard error from the scatter around the line. The subsamples overlap, so it is a lower limit: put
            the distance of two samples from the same source beside it.
        sizes: N of the points of the fit.
        distances: mean distance at each N.
    """

    value: float
    error: float
    sizes: np.ndarray
    distances: np.ndarray

    def __str__(self) -> str:
        return f"{1e3 * self.value:.2f} ± {1e3 * self.error:.2f} (x 1000)"


def fpd(generated: Showers, reference: Showers, *, seed: int = 1) -> FrechetDistance:
    """Fréchet distance of the high-level features of two samples, normalised as in the challenge.

    Features that are zero in all of the reference are not scaled.

    Raises:
        ValueError: different data sets, or too few showers: 80 for each feature, that is 2400 for ds1 photons, 3680
            for ds1 pions and 28 960 for ds2 and ds3.
    """
    if generated.dataset != reference.dataset:
        raise ValueError(f"showers of one data set are needed, got {generated.dataset} and {reference.dataset}")
    x, y = (feature_vector(showers).astype(np.float64) for showers in (generated, reference))
    scale = np.abs(y).max(axis=0, initial=0)
    scale[scale == 0] = 1
    paired = np.array_equal(generated.incident, reference.incident)
    return extrapolate(x / scale, y / scale, paired=paired, seed=seed)


def extrapolate(x: np.ndarray, y: np.ndarray, *, paired: bool = False, seed: int = 1) -> FrechetDistance:
    """:func:`frechet_distance` of two samples (n, d) and (m, d), extrapolated to infinite size.

    Args:
        paired: draw the same rows of both. Needed where they share something row by row: otherwise it would cancel in
            the complete samples and not in the subsamples, and the line would end too low.

    Raises:
        ValueError: different numbers of features, or fewer than 80 rows for each feature.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"two samples (n, d) and (m, d) are needed, got shapes {x.shape} and {y.shape}")
    most, needed = min(len(x), len(y)), 4 * PER_FEATURE * x.shape[1]
    if most < needed:
        raise ValueError(f"{x.shape[1]} features need at least {needed} showers in each sample, got {most}")
    generator = np.random.default_rng(seed)
    sizes = (1 / np.linspace(4 / most, 1 / most, POINTS)).round().astype(int)
    distances = np.zeros(POINTS)
    for i, size in enumerate(sizes):
        for _ in range(REPEATS):
            rows = generator.choice(len(x), size, replace=False)
            others = rows if paired else generator.choice(len(y), size, replace=False)
            distances[i] += frechet_distance(x[rows], y[others]) / REPEATS
    (_, value), covariance = np.polyfit(1 / sizes, distances, 1, cov=True)
    return FrechetDistance(float(value), float(np.sqrt(covariance[1, 1])), sizes, distances)


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Squared Fréchet distance of the normal distributions with the moments of two samples (n, d) and (m, d)."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    cov_x, cov_y = (np.atleast_2d(np.cov(sample, rowvar=False)) for sample in (x, y))
    values, vectors = eigh(cov_x)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    overlap = np.sqrt(np.maximum(eigvalsh(root @ cov_y @ root), 0)).sum()
    return float(np.sum((mean_x - mean_y) ** 2) + np.trace(cov_x) + np.trace(cov_y) - 2 * overlap)
