"""Learning curves: forms that are found again, bands that cover, guesses that fail where they should."""

import numpy as np
import pytest

from bithep_lib.evaluate.extrapolation import FORMS, backtest, extrapolate

SIZES = np.array([1250, 2500, 5000, 10_000, 20_000, 50_000, 100_000])
PAPER = 1_600_000


def true_curve(name: str, s: float, a: float = 0.9, b: float = 0.02):
    """A - B g_s(n), and the same at the paper's size."""
    shape, _ = FORMS[name]
    unit = np.exp(np.log(SIZES).mean())
    return a - b * shape(SIZES / unit, s), a - b * float(shape(np.array(PAPER / unit), s))


@pytest.mark.parametrize(
    ("name", "s"), [("power law", 0.4), ("inverse logarithm", 0.1), ("stretched exponential", 1.0)]
)
def test_each_form_finds_itself(name, s):
    y, beyond = true_curve(name, s)
    found = extrapolate(SIZES, y, np.full(7, 1e-4), PAPER)
    assert found.chi2[name] < 0.2
    assert found.curves[name][0] == pytest.approx(beyond, abs=5e-4)
    assert found.asymptote[name] == pytest.approx(0.9, abs=2e-3)
    assert found.low[0] <= found.curves[name][0] <= found.high[0]


@pytest.mark.parametrize("name", FORMS)
def test_the_band_holds_the_truth_of_any_form_as_often_as_it_says(name):
    """68 % at least: the envelope of three forms, one of which is true, is wider than needed."""
    y, beyond = true_curve(name, {"power law": 0.4, "inverse logarithm": 0.1, "stretched exponential": 1.0}[name])
    rng = np.random.default_rng(3)
    inside = 0
    for draw in range(40):
        found = extrapolate(SIZES, rng.normal(y, 5e-4), np.full(7, 5e-4), PAPER, n_resamples=100, seed=draw)
        inside += found.low[0] <= beyond <= found.high[0]
    assert inside / 40 > 0.68


def test_the_band_opens_with_the_distance_and_with_the_errors():
    y, _ = true_curve("power law", 0.4)
    found = extrapolate(SIZES, y, np.full(7, 5e-4), (50_000, PAPER))
    near, far = found.high - found.low
    assert far > 3 * near
    wide = extrapolate(SIZES, y, np.full(7, 2e-3), PAPER)
    assert wide.high[0] - wide.low[0] > far


def test_errors_that_no_form_can_believe_are_scaled():
    """A zigzag of 2e-3 around a smooth curve: the same band whether 1e-4 or the truth was stated as its error."""
    y, _ = true_curve("power law", 0.4)
    y = y + 2e-3 * np.array([1, -1, 1, -1, 1, -1, 1])
    stated, honest = (extrapolate(SIZES, y, np.full(7, error), PAPER) for error in (1e-4, 2e-3))
    assert stated.scale > 15
    assert stated.scale * 1e-4 == pytest.approx(honest.scale * 2e-3, rel=0.3)
    assert stated.high - stated.low == pytest.approx(honest.high - honest.low, rel=0.3)
    assert extrapolate(SIZES, true_curve("power law", 0.4)[0], np.full(7, 1e-3), PAPER).scale == 1


def test_no_asymptote_lies_above_what_is_possible():
    """A curve that goes straight up in log n: the slow forms would go beyond 1."""
    found = extrapolate(SIZES, 0.8 + 0.02 * np.log10(SIZES / 1000), np.full(7, 1e-4), [PAPER, 1e12])
    assert max(found.asymptote.values()) <= 1
    assert found.high.max() <= 1
    flat = extrapolate(SIZES, np.linspace(0.86, 0.859, 7), np.full(7, 1e-3), PAPER)
    assert flat.curves["power law"][0] == pytest.approx(0.8595, abs=5e-4)  # falling: B = 0, a constant


def test_a_backtest_passes_a_smooth_curve_and_fails_a_jump():
    y, _ = true_curve("power law", 0.4)
    e = np.full(7, 3e-4)
    good = backtest(SIZES[::-1], y[::-1], e)
    assert good.n_train == 100_000
    assert good.inside
    assert (good.value, good.error) == (y[-1], e[-1])
    y[-1] += 0.01
    assert not backtest(SIZES, y, e).inside


def test_it_is_the_same_every_time():
    y, _ = true_curve("inverse logarithm", 0.1)
    a, b = (extrapolate(SIZES, y, np.full(7, 1e-3), [2e5, PAPER], seed=4) for _ in range(2))
    assert np.array_equal(a.low, b.low)
    assert np.array_equal(a.high, b.high)


@pytest.mark.parametrize(
    ("sizes", "values", "errors", "message"),
    [
        ([1, 2, 3], [0.5] * 3, [0.1] * 3, "4 or more different positive numbers of jets"),
        ([1, 2, 3, 3], [0.5] * 4, [0.1] * 4, "different"),
        ([0, 1, 2, 3], [0.5] * 4, [0.1] * 4, "positive"),
        ([1, 2, 3, 4], [0.5] * 3, [0.1] * 4, "equally long"),
        ([1, 2, 3, 4], [0.5] * 4, [0.1, 0.1, 0, 0.1], "errors must be positive"),
        ([1, 2, 3, 4], [0.5, 0.6, 0.7, 1.1], [0.1] * 4, "at most upper=1"),
        ([1, 2, 3, 4], [0.5, 0.6, 0.7, np.nan], [0.1] * 4, "finite"),
    ],
)
def test_curves_that_cannot_be_fitted_are_refused(sizes, values, errors, message):
    with pytest.raises(ValueError, match=message):
        extrapolate(sizes, values, errors, 10)
