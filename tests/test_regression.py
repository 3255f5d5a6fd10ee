"""Measures of a regressed angle: oracles, the circle, bins with a width, errors by bootstrap; and their figures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bithep_lib import plots
from bithep_lib.evaluate import regression as r
from bithep_lib.evaluate.resampling import bootstrap_statistic

ANGLES = st.floats(-10, 10)
SAMPLES = arrays(np.float64, st.integers(1, 12), elements=ANGLES)


def test_sin2_delta():
    true = np.linspace(-3, 3, 50)
    for delta, expected in ((0, 0), (np.pi, 0), (np.pi / 2, 1), (0.4, np.sin(0.4) ** 2)):
        np.testing.assert_allclose(r.sin2_delta(true + delta, true), expected, atol=1e-12)
        assert r.dilution(true + delta, true) == pytest.approx(1 - 2 * expected)
    lot = np.random.default_rng(0).uniform(-np.pi, np.pi, (2, 100_000))
    assert r.sin2_delta(*lot).mean() == pytest.approx(0.5, abs=0.005)
    summary = r.summary(true + 0.4, true)
    assert summary["core"] == summary["quantile_68"] == pytest.approx(0.4)
    assert (summary["tail"], r.summary(true + 1, true)["tail"]) == (0, 1)


@given(ANGLES, ANGLES)
def test_residuals(pred, true):
    for period in (2 * np.pi, np.pi):
        (d,) = r.residuals([pred], [true], period=period)
        assert -period / 2 <= d <= period / 2
        assert abs((pred - true - d) / period - round((pred - true - d) / period)) < 1e-9


def peaks(n, centre, seed=0):
    """Residuals of width 0.1 at 0 and pi, all shifted, wrapped."""
    rng = np.random.default_rng(seed)
    return r.residuals(centre + rng.normal(0, 0.1, n) + np.pi * rng.integers(0, 2, n), np.zeros(n))


def test_a_small_turn_is_small_on_the_circle_only():
    """Section 5 of the facts behind the book: turned by 0.02, the distance is 0.02 on the circle, 0.228 on the line."""
    a, b = peaks(200_000, 0.0), peaks(200_000, 0.02)
    assert r.circular_wasserstein(a, b, period=2 * np.pi) == pytest.approx(0.02, abs=1e-3)
    assert r.circular_wasserstein(a, b) == pytest.approx(0.02, abs=1e-3)
    assert r.wasserstein(a, b) == pytest.approx(0.228, abs=0.02)


@given(SAMPLES, SAMPLES, ANGLES)
def test_circular_wasserstein(a, b, turn):
    found = r.circular_wasserstein(a, b)
    assert 0 <= found <= np.pi / 2 + 1e-9
    assert found == pytest.approx(r.circular_wasserstein(b, a), abs=1e-9)
    assert found == pytest.approx(r.circular_wasserstein(a + turn, b + turn), abs=1e-6)  # no point is the first
    assert found <= r.wasserstein(a % np.pi, b % np.pi) + 1e-9  # which is one way around
    assert r.circular_wasserstein(a, a + np.pi) == pytest.approx(0, abs=1e-9)


def test_circular_wasserstein_by_matching():
    """Of equally many points: the best assignment, by brute force."""
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = rng.uniform(0, 1, (2, 9))
        cost = np.abs(a[:, None] - b)
        cost = np.minimum(cost, 1 - cost)
        assert r.circular_wasserstein(a, b, period=1) == pytest.approx(cost[linear_sum_assignment(cost)].mean())


def test_separation_power():
    rng = np.random.default_rng(2)
    a, width = rng.uniform(-3, -1, 5000), 2 * np.pi / 100
    assert r.separation_power(a, a) == 0
    assert r.separation_power(a, -a) == pytest.approx(1)
    assert r.separation_power(a, -a, with_width=False) == pytest.approx(15.9155, abs=1e-4)
    b, c = rng.normal(0, 0.3, (2, 40_000))
    assert r.separation_power(b, c) == pytest.approx(r.separation_power(b, c, with_width=False) * width)
    filled = np.count_nonzero(np.histogram(b, 100, (-np.pi, np.pi))[0])
    assert r.separation_power(b, c) == pytest.approx(filled / 80_000, rel=0.6)  # the floor of equal distributions


def test_bootstrap():
    """The error of a mean is sigma / sqrt(N); of a paired difference only what differs; seeds count from five on."""
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, 2000)
    one = bootstrap_statistic(np.mean, x, n_resamples=400)
    assert one.value == x.mean()
    assert one.error == pytest.approx(1 / np.sqrt(2000), rel=0.15)
    paired = bootstrap_statistic(lambda a, b: np.mean(a - b), x, x - 0.1, n_resamples=50)
    assert (paired.value, paired.error) == pytest.approx((0.1, 0), abs=1e-12)
    seeds = x + np.linspace(-1, 1, 5)[:, None]
    crossed = bootstrap_statistic(np.mean, seeds, n_resamples=400)
    assert crossed.includes_seeds
    assert crossed.error == pytest.approx(np.sqrt(np.var(np.linspace(-1, 1, 5), ddof=1) / 5), rel=0.2)
    assert not bootstrap_statistic(np.mean, seeds[:4], n_resamples=10).includes_seeds
    with pytest.raises(ValueError, match="same jets"):
        bootstrap_statistic(r.wasserstein, x, x[:7])


def test_wrong_input():
    for pred, true in (([0.1, 0.2], [0.1]), ([np.nan], [0.1]), ([[0.1]], [[0.1]])):
        with pytest.raises(ValueError, match="shapes|finite"):
            r.sin2_delta(pred, true)
    with pytest.raises(ValueError, match="two samples"):
        r.circular_wasserstein([], [1.0])


def test_figures():
    rng = np.random.default_rng(4)
    true = rng.uniform(-np.pi, np.pi, 3000)
    models = {name: r.residuals(true + width * rng.normal(size=3000), 0 * true, period=np.pi)
              for name, width in (("float", 0.05), ("bits", 0.3))}  # fmt: skip
    figure = plots.regression.truth_against_prediction(true, models)
    counts = [ax.collections[0].get_array() for ax in figure.axes[:2]]
    assert [c.sum() for c in counts] == [3000, 3000]
    assert [ax.get_title() for ax in figure.axes[:2]] == list(models)
    figures = [
        figure,
        plots.regression.truth_against_prediction(true, models, scatter=True),
        plots.regression.residual_histograms(true, models),
        plots.regression.residual_core(true, {"seeds": np.stack([models["float"]] * 3), "bits": models["bits"]}),
    ]
    for figure in figures:
        figure.canvas.draw()
        assert any("[rad]" in ax.get_xlabel() for ax in figure.axes)
    steps = figures[2].axes[0].patches[0].get_data()
    assert steps.values.sum() == pytest.approx(1)
    assert len(steps.values) == r.FIGURE_4_BINS
    assert not plt.get_fignums()
    with pytest.raises(ValueError, match="float, bits"):
        plots.regression.residual_core(true, models, reference="int8")
