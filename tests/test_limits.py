"""Expected limits: cases whose answer is known in closed form."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from bithep_lib.evaluate import limits

AMPLITUDE = 3.0  # TeV^2
Z = stats.norm.ppf(0.975)


def cosine_templates(amplitude: float = AMPLITUDE, n_angles: int = 16) -> limits.Templates:
    """One bin of momentum with the density 1 + C A cos 2phi, integrated over the bins of the angle."""
    edges = np.linspace(-np.pi / 2, np.pi / 2, n_angles + 1)
    linear = amplitude * np.diff(np.sin(2 * edges)) / 2 / np.pi
    return limits.Templates(np.full((1, n_angles), 1 / n_angles), linear[None], np.zeros((1, n_angles)))


def analysis(events: float, **options) -> limits.Analysis:
    return limits.Analysis(luminosity=events, cross_section=1.0, **options)


def sample(n: int, spread: float = 0.0, noise: float = 0.0, seed: int = 1):
    """Angles with an error, and weights of a pure cos 2phi modulation with noise from what is not seen."""
    rng = np.random.default_rng(seed)
    phi, delta = rng.uniform(-np.pi / 2, np.pi / 2, n), rng.normal(0, spread, n)
    r1 = AMPLITUDE * np.cos(2 * phi) + rng.normal(0, noise, n)
    return phi + delta, np.full(n, 550.0), r1, np.zeros(n), delta


def test_many_events_give_the_gaussian_limit():
    shares, n = cosine_templates(), 1e6
    information = n * (shares.linear**2 / shares.sm).sum()
    assert information == pytest.approx(n * AMPLITUDE**2 / 2, rel=0.02)  # what the bins leave of it
    found = limits.expected_limit(shares, analysis(n))
    assert found.high == pytest.approx(Z / math.sqrt(information), rel=2e-3)
    assert found.low == pytest.approx(-found.high, rel=1e-3)


def test_ten_times_the_luminosity_gives_a_limit_sqrt_ten_smaller():
    small, large = (limits.expected_limit(cosine_templates(), analysis(n)).half_width for n in (1e5, 1e6))
    assert small / large == pytest.approx(math.sqrt(10), rel=1e-2)


def test_an_error_of_the_angle_costs_the_dilution():
    """A linear limit from the shape grows by 1 / D, the asymmetry falls by D."""
    sharp, blurred = sample(400_000), sample(400_000, spread=0.4)
    dilution = 1 - 2 * np.mean(np.sin(blurred[-1]) ** 2)
    assert dilution == pytest.approx(math.exp(-2 * 0.4**2), rel=0.01)
    widths = [
        limits.expected_limit(limits.templates(*events[:4]), analysis(1e4, quadratic=False)).half_width
        for events in (sharp, blurred)
    ]
    assert widths[0] / widths[1] == pytest.approx(dilution, rel=0.01)
    before, after = (limits.interference_asymmetry(events[0], events[2]) for events in (sharp, blurred))
    assert before.value == pytest.approx(2 / np.pi * AMPLITUDE, abs=5 * before.error)
    assert after.value / before.value == pytest.approx(dilution, abs=5 * after.error / before.value)


def test_the_shape_knows_nothing_of_the_rate():
    shares = limits.Templates(np.full((2, 4), 1 / 8), np.full((2, 4), 0.5 / 8), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="do not bound C"):
        limits.expected_limit(shares, analysis(1e4))
    found = limits.expected_limit(shares, analysis(1e4, rate_error=0.03))
    assert found.half_width == pytest.approx(Z * math.hypot(0.01, 0.03) / 0.5, rel=0.02)


def test_the_quadratic_term_alone_has_its_known_limit():
    """2 N (b C^2 - ln(1 + b C^2)) = 3.84 for a counting experiment whose rate is known."""
    n, b = 400.0, 7.0
    shares = limits.Templates(np.ones((1, 1)), np.zeros((1, 1)), np.full((1, 1), b))
    excess = brentq(lambda x: 2 * n * (x - math.log1p(x)) - Z**2, 1e-6, 10)
    found = limits.expected_limit(shares, analysis(n, rate_error=1e-6))
    assert (-found.low, found.high) == pytest.approx([math.sqrt(excess / b)] * 2, rel=1e-3)
    with pytest.raises(ValueError, match="do not bound C"):
        limits.expected_limit(shares, analysis(n, rate_error=1e-6, quadratic=False))


@pytest.mark.parametrize("background", [1.0, 8.0])
def test_a_flat_background_dilutes_the_modulation(background):
    clean, covered = (
        limits.expected_limit(cosine_templates(), analysis(1e5, background=ratio, background_error=1e-3)).half_width
        for ratio in (0.0, background)
    )
    assert covered / clean == pytest.approx(math.sqrt(1 + background), rel=0.01)


def test_the_bootstrap_knows_error_and_bias_of_a_small_sample():
    exact = limits.expected_limit(limits.templates(*sample(500_000)[:4]), analysis(1e4)).half_width
    samples = [sample(2000, 0, 14.0, seed)[:4] for seed in range(24)]
    found = [limits.bootstrap_limit(*events, analysis(1e4), n_resamples=12) for events in samples]
    plain = [limits.expected_limit(limits.templates(*events), analysis(1e4)) for events in samples]
    widths, raw = (np.array([limit.half_width for limit in rows]) for rows in (found, plain))
    assert np.mean([limit.error for limit in found]) == pytest.approx(widths.std(ddof=1), rel=0.5)
    assert abs(widths.mean() - exact) < abs(raw.mean() - exact)
    assert raw.mean() < exact  # noise looks like sensitivity
    assert found[0] == limits.bootstrap_limit(*samples[0], analysis(1e4), n_resamples=12)


def test_the_angle_counts_modulo_pi():
    angle, *rest, _ = sample(1000)
    one, two = (limits.templates(phi, *rest) for phi in (angle, angle + np.pi))
    assert np.array_equal(one.sm, two.sm)
    assert one.sm.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"angle": np.zeros(3)}, "one value an event is needed, got the shapes"),
        ({"r1": np.array([np.nan, 0.0])}, "r1 holds 1 values that are not finite"),
        ({"jet_pt": np.full(2, 100.0)}, "no event has a jet_pt between 500 and inf GeV"),
    ],
)
def test_impossible_samples_are_refused(change, message):
    good = {"angle": np.zeros(2), "jet_pt": np.full(2, 600.0), "r1": np.zeros(2), "r2": np.zeros(2)}
    with pytest.raises(ValueError, match=message):
        limits.templates(**good | change)
