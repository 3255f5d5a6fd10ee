r"""Bootstrap errors for taggers: of one, and of the difference of two on the same jets and over the same seeds.

Two taggers tested on the same jets share the luck of that sample, so their difference is known far better than either
number. The *paired* bootstrap keeps this: each resample draws one set of jets for both. With several trainings a
resample draws jets **and** seeds, independently of each other: the *crossed* bootstrap (Owen, Ann. Appl. Stat. 1
(2007) 386), whose spread holds both the finite test sample and the luck of the initialisation. It errs on the safe
side.

Jets are drawn within their class: the samples are made with fixed numbers of quarks and gluons. A resample is only a
set of integer weights, so the scores are sorted once and each metric costs a cumulative sum.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bithep_lib.evaluate.tagging import MIN_BACKGROUND, check_sample, rejection

#: Metrics the bootstrap knows.
METRICS = ("accuracy", "auc", "rejection_50", "rejection_30")
#: With fewer trainings than this a spread over seeds is not an error; the trainings are shown as points.
MIN_SEEDS = 5

_Weights = NDArray[np.int32]


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap error.

    Attributes
    ----------
    value: the metric (or difference of metrics) on the sample itself, averaged over the seeds.
    error: standard deviation of the resamples.
    interval: central interval of the resamples, at ``level``.
    per_seed: the value for each training.
    includes_seeds: whether error and interval hold the spread of the trainings (at least five of them) as well as
        that of the test jets.
    """

    value: float
    error: float
    interval: tuple[float, float]
    per_seed: tuple[float, ...]
    includes_seeds: bool
    level: float

    def __str__(self) -> str:
        source = "jets and seeds" if self.includes_seeds else "jets"
        return (
            f"{self.value:+.4f} ± {self.error:.4f} ({source}; {len(self.per_seed)} seed{'s'[: len(self.per_seed) > 1]})"
        )


class _Ranked:
    """One tagger's scores, sorted once; every metric is then a function of integer weights for the jets."""

    def __init__(self, labels: NDArray[np.int8], scores: NDArray[np.float64]) -> None:
        signal, background = -scores[labels == 1], -scores[labels == 0]  # negative: best first
        self.signal_order, self.background_order = np.argsort(signal), np.argsort(background)
        self.scores = -signal, -background
        signal, background = signal[self.signal_order], background[self.background_order]
        # How many of the other jets stand strictly above, and above or level with, each one.
        self.above_background = [np.searchsorted(signal, background, side) for side in ("left", "right")]
        self.above_signal = [np.searchsorted(background, signal, side) for side in ("left", "right")]
        self.own_group = [np.searchsorted(signal, signal, side) for side in ("left", "right")]

    def metric(self, name: str, signal: _Weights, background: _Weights, threshold: float) -> NDArray[np.float64]:
        """The metric ``name`` for weights of shape (R, signal jets) and (R, background jets): shape (R,)."""
        if name == "accuracy":
            right = signal @ (self.scores[0] > threshold) + background @ (self.scores[1] <= threshold)
            return right / (signal.shape[1] + background.shape[1])
        if name == "auc":
            return self._auc(signal, background)
        return 1 / self._background_efficiency(signal, background, int(name.removeprefix("rejection_")) / 100)

    def _auc(self, signal: _Weights, background: _Weights) -> NDArray[np.float64]:
        beaten_by = _cumulative(signal[:, self.signal_order])
        low, high = (np.take(beaten_by, k, axis=1) for k in self.above_background)
        won = np.einsum("rj,rj->r", background[:, self.background_order], low + high, dtype=np.float64)
        return won / (2.0 * signal.shape[1] * background.shape[1])

    def _background_efficiency(self, signal: _Weights, background: _Weights, efficiency: float) -> NDArray[np.float64]:
        """Linear interpolation of the ROC curve, as in :meth:`Roc.background_at`, for each row of weights."""
        s, b = _cumulative(signal[:, self.signal_order]), _cumulative(background[:, self.background_order])
        rows = np.arange(len(s))
        target = round(efficiency * signal.shape[1], 6)  # rounding noise must not push it past a whole jet
        jet = np.argmax(s[:, 1:] >= target, axis=1)  # the signal jet at whose score the efficiency is reached
        s0, s1 = (s[rows, k[jet]] for k in self.own_group)
        b0, b1 = (b[rows, k[jet]] for k in self.above_signal)
        return (b0 + (b1 - b0) * (target - s0) / (s1 - s0)) / background.shape[1]


def bootstrap(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    metric: str = "auc",
    threshold: float = 0.5,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A metric of one tagger with its bootstrap error.

    Parameters
    ----------
    labels: (N,), 1 signal and 0 background.
    scores: (N,), or (S, N) for S trainings tested on the same jets.
    metric: one of ``METRICS``; a rejection needs 50 background jets passing.
    threshold: cut of the accuracy (0 for logits).
    """
    return _estimate(labels, [scores], metric, threshold, n_resamples, level, seed)


def paired_difference(
    labels: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    *,
    metric: str = "auc",
    threshold: float = 0.5,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Metric of tagger a minus metric of tagger b, on the same jets (and, row by row, with the same training seeds).

    Parameters as in :func:`bootstrap`; ``scores_a`` and ``scores_b`` have the same shape, (N,) or (S, N). From five
    seeds on jets and seeds are resampled together (crossed bootstrap), below that only the jets.
    """
    if np.shape(scores_a) != np.shape(scores_b):
        raise ValueError(
            "scores_a and scores_b must belong to the same jets and seeds, "
            f"got shapes {np.shape(scores_a)} and {np.shape(scores_b)}"
        )
    return _estimate(labels, [scores_a, scores_b], metric, threshold, n_resamples, level, seed)


def bootstrap_statistic(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Any number computed from one or more numbers a jet, with its bootstrap error.

    Each resample draws one set of jets for all samples, so that differences and distances of models are paired; from
    five trainings on seeds are drawn, too (crossed bootstrap).

    Parameters
    ----------
    statistic: called with one array (N,) for each of ``samples``.
    samples: (N,), or (S, N) for S trainings tested on the same jets.
    """
    rows = [np.atleast_2d(np.asarray(sample, dtype=np.float64)) for sample in samples]
    shape = rows[0].shape
    if any(r.shape != shape for r in rows) or len(shape) != 2:
        raise ValueError(f"samples must belong to the same jets and seeds, got shapes {[r.shape for r in rows]}")
    _check_resampling(n_resamples, level)
    rng = np.random.default_rng(seed)
    per_seed = np.array([statistic(*of_seed) for of_seed in zip(*rows, strict=True)])
    over_jets = np.empty((shape[0], n_resamples))
    for resample in range(n_resamples):
        jets = rng.integers(0, shape[1], shape[1])
        over_jets[:, resample] = [statistic(*of_seed) for of_seed in zip(*(r[:, jets] for r in rows), strict=True)]
    return _crossed(per_seed, over_jets, rng, level)


def _check_resampling(n_resamples: int, level: float) -> None:
    if n_resamples < 2 or not 0 < level < 1:
        raise ValueError(f"n_resamples must be at least 2 and level in (0, 1), got {n_resamples} and {level}")


def _estimate(
    labels: ArrayLike,
    taggers: list[ArrayLike],
    metric: str,
    threshold: float,
    n_resamples: int,
    level: float,
    seed: int,
) -> Estimate:
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    _check_resampling(n_resamples, level)
    checked = [[check_sample(labels, s) for s in np.atleast_2d(np.asarray(scores))] for scores in taggers]
    y = checked[0][0][0]
    if metric.startswith("rejection"):
        _require_background(checked, int(metric.removeprefix("rejection_")) / 100)
    ranked = [[_Ranked(y, s) for _, s in rows] for rows in checked]
    n_signal, n_background = int(np.sum(y == 1)), int(np.sum(y == 0))

    def values(signal: _Weights, background: _Weights) -> NDArray[np.float64]:
        """(S, R): the metric, or the difference of the two taggers' metrics, for each seed and resample."""
        each = [[r.metric(metric, signal, background, threshold) for r in rows] for rows in ranked]
        return np.array(each[0]) if len(each) == 1 else np.subtract(*np.array(each))

    ones = np.ones((1, n_signal), np.int32), np.ones((1, n_background), np.int32)
    per_seed = values(*ones)[:, 0]
    rng = np.random.default_rng(seed)
    over_jets = np.concatenate([values(*w) for w in _weights(rng, n_signal, n_background, n_resamples)], axis=1)
    return _crossed(per_seed, over_jets, rng, level)


def _crossed(
    per_seed: NDArray[np.float64], over_jets: NDArray[np.float64], rng: np.random.Generator, level: float
) -> Estimate:
    """The estimate from values for each seed (S,) and for each seed and resample of the jets (S, R)."""
    n_seeds, n_resamples = over_jets.shape
    resamples = over_jets.mean(axis=0)
    if includes_seeds := n_seeds >= MIN_SEEDS:
        # Drawing S seeds with replacement shows (S-1)/S of their variance; the square root puts the rest back.
        drawn = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_resamples).T / n_seeds
        resamples = resamples + np.sqrt(n_seeds / (n_seeds - 1)) * ((drawn * over_jets).sum(axis=0) - resamples)
    low, high = np.quantile(resamples, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(
        value=float(per_seed.mean()),
        error=float(resamples.std(ddof=1)),
        interval=(float(low), float(high)),
        per_seed=tuple(per_seed.tolist()),
        includes_seeds=includes_seeds,
        level=level,
    )


def _require_background(checked: list[list[tuple]], efficiency: float) -> None:
    passing = min(rejection(y, s, efficiency).background_passing for rows in checked for y, s in rows)
    if passing < MIN_BACKGROUND:
        raise ValueError(
            f"a rejection at {100 * efficiency:g} % signal efficiency needs {MIN_BACKGROUND} background jets passing, "
            f"here {passing:.0f} pass: use more jets or a looser cut"
        )


def _weights(
    rng: np.random.Generator, n_signal: int, n_background: int, n_resamples: int
) -> Iterator[tuple[_Weights, _Weights]]:
    """How often each jet occurs in each resample, in blocks that stay in the processor's cache."""
    block = max(1, min(n_resamples, 2_000_000 // (n_signal + n_background)))
    for start in range(0, n_resamples, block):
        rows = min(block, n_resamples - start)
        yield _counts(rng, rows, n_signal), _counts(rng, rows, n_background)


def _counts(rng: np.random.Generator, rows: int, n: int) -> _Weights:
    drawn = rng.integers(0, n, size=(rows, n), dtype=np.int32) + n * np.arange(rows, dtype=np.int32)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.int32)


def _cumulative(weights: _Weights) -> _Weights:
    """Cumulative sums along the last axis with a leading zero: entry k is the weight of the first k jets."""
    out = np.zeros((weights.shape[0], weights.shape[1] + 1), np.int32)
    np.cumsum(weights, axis=1, out=out[:, 1:])
    return out
