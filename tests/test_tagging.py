"""Tagging metrics against closed forms, against scikit-learn, and against repeated experiments."""

import time

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import brier_score_loss, roc_auc_score

from bithep_lib.evaluate import calibration, resampling, tagging


def gaussian_scores(mu: float, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n signal jets with scores N(mu, 1) and n background jets with N(0, 1)."""
    rng = np.random.default_rng(seed)
    return np.repeat([1, 0], n), np.concatenate([rng.normal(mu, 1, n), rng.normal(0, 1, n)])


def gaussian_quantiles(mu: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The same two Gaussians without chance: the scores are their quantiles."""
    q = norm.ppf((np.arange(n) + 0.5) / n)
    return np.repeat([1, 0], n), np.concatenate([mu + q, q])


# (mu, AUC = Phi(mu/sqrt 2), accuracy at mu/2 = Phi(mu/2), rejections = 1/Phi(z - mu))
GAUSSIAN = [(2.0, 0.921350, 0.841345, 43.956, 172.57), (1.9, 0.910445, 0.828944, 34.823, 130.43)]


@pytest.mark.parametrize(("mu", "auc", "accuracy", "rej50", "rej30"), GAUSSIAN)
def test_gaussian_scores_have_known_metrics(mu, auc, accuracy, rej50, rej30):
    y, s = gaussian_quantiles(mu, 200_000)
    assert tagging.auc(y, s) == pytest.approx(auc, abs=2e-5)
    assert tagging.accuracy(y, s, threshold=mu / 2) == pytest.approx(accuracy, abs=2e-5)
    assert tagging.rejection(y, s, 0.5).value == pytest.approx(rej50, rel=1e-3)
    assert tagging.rejection(y, s, 0.3).value == pytest.approx(rej30, rel=3e-3)


def test_random_gaussian_scores_agree_within_their_own_error():
    y, s = gaussian_scores(2.0, 50_000)
    row = tagging.summary(y, s, threshold=1.0)
    for key, true in {"auc": 0.921350, "accuracy": 0.841345, "rejection_50": 43.956, "rejection_30": 172.57}.items():
        assert abs(row[key] - true) < 4 * row[f"{key}_error"], key
        assert row[f"{key}_error"] < 0.1 * true, key


def test_four_jets():
    assert tagging.auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert tagging.auc([0, 1], [0.3, 0.3]) == 0.5
    assert tagging.auc([0, 0, 1], [0.3, 0.5, 0.3]) == 0.25


def test_metrics_depend_on_the_order_only():
    y, s = gaussian_scores(1.5, 3000)
    squashed = calibration.probability(s)
    assert tagging.auc(y, squashed) == tagging.auc(y, s)
    assert tagging.rejection(y, squashed).value == tagging.rejection(y, s).value


def test_roc_interpolates_linearly_through_ties():
    # Two cuts only: 60 % / 20 % above the tie, everything with it. Half way up the last segment lies (0.8, 0.6).
    y = np.repeat([1, 0], 10)
    s = np.concatenate([np.repeat([0.9, 0.1], [6, 4]), np.repeat([0.9, 0.1], [2, 8])])
    curve = tagging.roc(y, s)
    assert curve.background_at(0.8) == pytest.approx(0.6)
    assert curve.background_at(0.3) == pytest.approx(0.1)
    assert curve.background_at(1.0) == 1.0
    # On a vertical step the tightest cut counts: the quark at 0.5 is found before the gluons below it.
    assert tagging.roc([1, 0, 0, 1], [0.9, 0.8, 0.7, 0.6]).background_at(0.5) == 0.0
    with pytest.raises(ValueError, match="signal_efficiency"):
        curve.background_at(0.0)


def test_binomial_error_of_the_rejection():
    """100 000 gluons: rejections of 39 and 95 are known to 0.8 and 2.9."""
    for passing, error in ((2564, 0.76), (1053, 2.91)):
        y = np.repeat([1, 0], 100_000)
        s = np.concatenate([np.repeat([1.0, 0.0], 50_000), np.repeat([2.0, -1.0], [passing, 100_000 - passing])])
        r = tagging.rejection(y, s, 0.5)
        assert r.background_passing == passing
        assert r.error == pytest.approx(error, abs=0.01)


def test_rejection_is_not_quoted_with_few_background_jets():
    y, s = gaussian_scores(2.0, 1000)  # about 23 background jets pass at 50 %
    r = tagging.rejection(y, s, 0.5)
    assert np.isnan(r.value)
    assert "not quoted" in str(r)
    assert np.isfinite(tagging.rejection(y, s, 0.5, min_background=10).value)
    with pytest.raises(ValueError, match="50 background jets"):
        resampling.bootstrap(y, s, metric="rejection_50")


@pytest.mark.parametrize(
    "function", [tagging.auc, tagging.accuracy, tagging.roc, tagging.rejection, resampling.bootstrap]
)
@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1, 2], [0.1, 0.2, 0.3], r"labels must be 0 .* found \[2\]"),
        ([0, 1], [0.1, np.nan], "scores must be finite, 1 are not; the first is number 1"),
        ([0, 1], [np.inf, 0.1], "scores must be finite"),
        ([1, 1], [0.1, 0.2], r"no jet of class \[0\]"),
        ([], [], r"no jet of class \[0, 1\]"),
        ([0, 1, 1], [0.1, 0.2], "shapes"),
    ],
)
def test_bad_samples_are_refused(function, labels, scores, message):
    with pytest.raises(ValueError, match=message):
        function(labels, scores)


def test_permuted_labels_separate_nothing():
    y, s = gaussian_scores(2.0, 10_000)
    control = resampling.bootstrap(np.random.default_rng(1).permutation(y), s)
    assert abs(control.value - 0.5) < 4 * control.error
    assert control.error < 0.01


def test_same_tagger_twice_differs_by_exactly_zero():
    y, s = gaussian_scores(2.0, 5000)
    for metric in ("accuracy", "auc", "rejection_50"):
        d = resampling.paired_difference(y, s, s.copy(), metric=metric, n_resamples=50)
        assert (d.value, d.error, d.interval) == (0.0, 0.0, (0.0, 0.0))


def test_weighted_metrics_equal_scikit_learn_with_sample_weights():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 400)
    s = np.round(rng.normal(y, 1), 1)  # many ties
    n = int(y.sum()), int((1 - y).sum())
    weights = rng.multinomial(n[0], np.full(n[0], 1 / n[0]), 20), rng.multinomial(n[1], np.full(n[1], 1 / n[1]), 20)
    ranked = resampling._Ranked(y, s)
    found = {m: ranked.metric(m, *weights, threshold=0.5) for m in resampling.METRICS}
    for r in range(20):
        w = np.empty(400, int)
        w[y == 1], w[y == 0] = weights[0][r], weights[1][r]
        repeated = np.repeat(y, w), np.repeat(s, w)
        assert found["auc"][r] == pytest.approx(roc_auc_score(y, s, sample_weight=w), abs=1e-12)
        assert found["accuracy"][r] == pytest.approx(tagging.accuracy(*repeated), abs=1e-12)
        for e in (0.5, 0.3):
            expected = 1 / tagging.roc(*repeated).background_at(e)
            assert found[f"rejection_{100 * e:.0f}"][r] == pytest.approx(expected, rel=1e-9)


def test_bootstrap_error_of_the_auc_matches_delong():
    y, s = gaussian_scores(1.6, 3000)
    b = resampling.bootstrap(y, s)
    assert b.value == pytest.approx(tagging.auc(y, s), abs=1e-12)
    assert b.error == pytest.approx(tagging.auc_error(y, s), rel=0.1)
    assert b.interval[0] < b.value < b.interval[1]


def two_correlated_taggers(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.repeat([1, 0], n)
    common = rng.normal(1.6 * y, 1)
    return y, common + rng.normal(0, 0.2, 2 * n), common + rng.normal(0, 0.3, 2 * n)


@pytest.mark.parametrize("metric", ["auc", "accuracy", "rejection_50"])
def test_paired_error_is_the_spread_of_repeated_experiments(metric):
    samples = [two_correlated_taggers(2500, seed) for seed in range(150)]
    truth = np.std(
        [resampling.paired_difference(*x, metric=metric, threshold=1.0, n_resamples=2).value for x in samples]
    )
    errors = [
        resampling.paired_difference(*x, metric=metric, threshold=1.0, n_resamples=200).error for x in samples[:10]
    ]
    # 150 repetitions know the spread to 6 %; the bootstrap of a quantile is rougher than that of a mean.
    assert np.mean(errors) == pytest.approx(truth, rel=0.35 if metric == "rejection_50" else 0.2)


def test_pairing_beats_two_separate_errors():
    y, a, b = two_correlated_taggers(2500, 0)
    separate = np.hypot(resampling.bootstrap(y, a).error, resampling.bootstrap(y, b).error)
    assert resampling.paired_difference(y, a, b).error < 0.4 * separate


def test_crossed_bootstrap_holds_the_spread_of_the_seeds():
    """Seeds that move the AUC far more than the sample does: the error is std / sqrt(S), and needs five seeds."""
    y, base = gaussian_scores(0.0, 4000, seed=5)
    shifts = np.linspace(0.5, 1.5, 8)
    a = np.array([base + shift * y for shift in shifts])
    d = resampling.paired_difference(y, a, np.tile(base, (8, 1)))
    assert d.includes_seeds
    assert d.error == pytest.approx(np.std(d.per_seed, ddof=1) / np.sqrt(8), rel=0.15)
    few = resampling.paired_difference(y, a[:4], np.tile(base, (4, 1)))
    assert not few.includes_seeds
    assert few.error < 0.3 * d.error


def test_seeds_and_jets_must_match():
    y, s = gaussian_scores(1.0, 100)
    with pytest.raises(ValueError, match="same jets and seeds"):
        resampling.paired_difference(y, np.tile(s, (3, 1)), np.tile(s, (2, 1)))
    with pytest.raises(ValueError, match="metric must be one of accuracy, auc"):
        resampling.bootstrap(y, s, metric="AUC")
    with pytest.raises(ValueError, match="n_resamples"):
        resampling.bootstrap(y, s, n_resamples=1)


def test_bootstrap_is_reproducible_and_fast():
    y, a, b = two_correlated_taggers(12_500, 0)
    start = time.process_time()
    first = resampling.paired_difference(y, a, b)
    assert time.process_time() - start < 8
    assert first == resampling.paired_difference(y, a, b)
    assert first.interval != resampling.paired_difference(y, a, b, seed=1).interval


def calibrated(n: int, seed: int = 0, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the probabilities themselves; the logits returned are ``temperature`` times too large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n)
    return (rng.random(n) < calibration.probability(logits)).astype(int), temperature * logits


def test_calibrated_probabilities_lie_on_the_diagonal():
    y, z = calibrated(200_000)
    curve = calibration.calibration_curve(y, calibration.probability(z))
    assert curve.edges == pytest.approx(np.linspace(0, 1, 21))
    assert curve.count.sum() == 200_000
    assert np.max(np.abs(curve.fraction - curve.prediction) / curve.error) < 4
    assert calibration.expected_calibration_error(y, calibration.probability(z)) < 0.006


def test_calibration_by_hand():
    y, p = [0, 1, 1, 1], [0.02, 0.04, 0.50, 1.0]
    curve = calibration.calibration_curve(y, p)
    assert curve.fraction[[0, 10, 19]] == pytest.approx([0.5, 1.0, 1.0])
    assert curve.prediction[[0, 10, 19]] == pytest.approx([0.03, 0.5, 1.0])
    assert np.isnan(curve.fraction).sum() == 17
    assert calibration.expected_calibration_error(y, p) == pytest.approx((2 * 0.47 + 0.5) / 4)
    assert calibration.brier_score(y, p) == pytest.approx(brier_score_loss(y, p))
    with pytest.raises(ValueError, match=r"probabilities must lie in \[0, 1\]"):
        calibration.calibration_curve([0, 1], [-3.0, 2.0])


def test_calibration_band_matches_bins_by_number():
    y = np.array([0, 1, 0, 1])
    runs = [[0.01, 0.99, 0.52, 0.53], [0.01, 0.99, 0.03, 0.53]]  # the second has one jet fewer in bin 10
    band = calibration.calibration_band(y, runs)
    assert band.fraction[[0, 10, 19]] == pytest.approx([0.0, 0.75, 1.0])
    assert band.error[10] == pytest.approx(np.std([0.5, 1.0], ddof=1))
    # Bin 0 empty in one run: position-wise matching would compare its bin 10 with the other's bin 0.
    shifted = calibration.calibration_band(y, [[0.51, 0.99, 0.52, 0.53], [0.01, 0.99, 0.52, 0.53]])
    assert shifted.fraction[[0, 19]] == pytest.approx([0.0, 1.0])
    assert np.isnan(shifted.error[0])
    assert np.isfinite(shifted.error[10])
    with pytest.raises(ValueError, match="at least two trainings"):
        calibration.calibration_band(y, runs[0])


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_recalibration_on_validation_repairs_the_test(method):
    valid, test = calibrated(20_000, 1, temperature=3.0), calibrated(20_000, 2, temperature=3.0)
    raw = calibration.probability(test[1])
    repaired = calibration.recalibration(*valid, method)(test[1])
    before, after = (calibration.expected_calibration_error(test[0], p) for p in (raw, repaired))
    assert before > 0.08
    assert after < 0.02
    assert calibration.brier_score(test[0], repaired) < calibration.brier_score(test[0], raw)
    if method == "temperature":
        assert tagging.auc(test[0], repaired) == tagging.auc(test[0], raw)
    with pytest.raises(ValueError, match="method must be"):
        calibration.recalibration(*valid, "platt")


def test_isotonic_on_the_test_labels_always_looks_perfect():
    """Why a recalibration must not see the test labels: noise scores reach a tenth of the honest ECE."""
    rng = np.random.default_rng(0)
    y, z = rng.integers(0, 2, 4000), rng.normal(0, 3, 4000)
    circular = calibration.recalibration(y, z, "isotonic")(z)
    honest = calibration.probability(z)
    assert calibration.expected_calibration_error(y, circular) < 1e-3
    assert calibration.expected_calibration_error(y, honest) > 0.3
