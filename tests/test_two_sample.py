"""The classifier two-sample test on problems whose answer is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from bithep_lib.evaluate import two_sample
from bithep_lib.evaluate.two_sample import (
    CLASSIFIER,
    ClassifierResult,
    classifier,
    split_sizes,
    two_sample_test,
    uncertainty,
)

QUICK = replace(CLASSIFIER["smoke"], name="quick", epochs=6, batch_size=250, learning_rate=1e-2, repetitions=2)


def gaussians(n: int, shift: float, seed: int, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Two samples that differ by a shift of the first coordinate; the best possible AUC is Phi(shift / sqrt 2)."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n, d))
    b[:, 0] += shift
    return a, b


def run(a, b, settings=QUICK, **options) -> ClassifierResult:
    return two_sample_test(a, b, settings=settings, progress=False, **options)


# --- the rules of the challenge ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "parameters"),
    [
        (369, 9_152_513),
        (534, 9_490_433),
        (6481, 21_669_889),
        (40501, 91_342_849),
        (30, 8_458_241),
        (46, 8_491_009),
        (362, 9_138_177),
    ],
)
def test_the_challenges_networks_have_their_published_sizes(inputs, parameters):
    with torch.device("meta"):
        network = classifier(inputs, CLASSIFIER["challenge"])
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_the_settings_of_the_challenge():
    settings = CLASSIFIER["challenge"]
    assert (settings.epochs, settings.batch_size, settings.learning_rate) == (50, 1000, 2e-4)
    assert (settings.repetitions, settings.standardise) == (10, False)
    assert [name for name, each in CLASSIFIER.items() if each.name != name] == []


def test_official_files_are_split_by_their_published_counts():
    assert split_sizes(121_000) == (80_000, 20_000, 21_000)
    assert split_sizes(120_800) == (80_000, 20_000, 20_800)
    assert split_sizes(100_000) == (60_000, 20_000, 20_000)
    assert sum(split_sizes(777)) == 777


def test_the_most_accurate_epoch_is_kept_and_perfect_accuracy_ends_the_training():
    a, b = gaussians(300, 20.0, 1)
    result = run(a, b, replace(QUICK, epochs=40, repetitions=1))
    assert result.auc[0] == 1
    assert result.best_epoch[0] < 40
    assert 0.95 < result.jsd[0] < 1  # the calibrated output is limited to [1e-6, 1 - 1e-6]


def test_calibration_and_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(2)
    label = np.tile([0, 1], 500)
    select, judged = np.clip(rng.normal(0.5 + 0.1 * (label - 0.5), 0.2, (2, 1000)), 0, 1)
    found = two_sample._judged(label, select, label, judged)
    assert found["auc_raw"] == roc_auc_score(label, judged)
    assert abs(found["auc"] - found["auc_raw"]) < 0.02
    # A prediction that is right on average and says little has little divergence.
    assert 0 < found["jsd"] < 0.1
    assert two_sample._judged(label, np.full(1000, 0.3), label, np.full(1000, 0.3))["jsd"] == pytest.approx(0)


# --- known answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.5, 1.5])
def test_two_gaussians_are_told_apart_as_well_as_can_be(shift):
    a, b = gaussians(2500, shift, 3)
    result = run(a, b)
    best = norm.cdf(shift / math.sqrt(2))
    assert result.mean < best + 3 * result.sample
    assert result.mean > best - 0.025 - 3 * result.sample


def test_equal_samples_give_one_half_within_the_error_of_the_sample():
    pulls = []
    for seed in range(8):
        a, b = gaussians(400, 0.0, 100 + seed)
        result = run(a, b, replace(QUICK, epochs=3, repetitions=1), seed=seed)
        pulls.append((result.mean - 0.5) / result.sample)
    assert np.abs(pulls).max() < 3
    assert abs(np.mean(pulls)) < 3 / math.sqrt(len(pulls))


def test_a_difference_in_the_correlations_alone_is_found():
    rng = np.random.default_rng(4)
    a = rng.normal(size=(2000, 2))
    b = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 2000)
    assert run(a, b, replace(QUICK, epochs=12, repetitions=1)).mean > 0.65


def test_pairs_fall_into_the_same_part():
    """With equal rows each pair has one score, if both halves are judged together."""
    a, _ = gaussians(300, 0.0, 5)
    once = replace(QUICK, epochs=1, repetitions=3)
    assert run(a, a.copy(), once, paired=True).auc_raw == pytest.approx(0.5, abs=1e-12)
    assert np.abs(run(a, a.copy(), once, paired=False).auc_raw - 0.5).min() > 1e-3


def test_float64_agrees_with_float32():
    a, b = gaussians(1000, 0.7, 6)
    single = run(a, b)
    double = run(a, b, replace(QUICK, precision="float64"))
    assert np.abs(single.auc_raw - double.auc_raw).max() < 2e-3


def test_the_result_depends_on_the_seed_alone():
    a, b = gaussians(200, 0.5, 7)
    torch.manual_seed(1)
    first = run(a, b, seed=3)
    torch.manual_seed(2)
    assert np.array_equal(first.auc, run(a, b, seed=3).auc)
    assert not np.array_equal(first.auc, run(a, b, seed=4).auc)


def test_a_stopped_test_goes_on(tmp_path, monkeypatch):
    a, b = gaussians(200, 0.5, 8)
    calls = []
    original = two_sample.fit

    def stops(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(two_sample, "fit", stops)
    with pytest.raises(KeyboardInterrupt):
        run(a, b, checkpoint=tmp_path)
    again = run(a, b, checkpoint=tmp_path)
    monkeypatch.setattr(two_sample, "fit", original)
    assert np.array_equal(again.auc, run(a, b).auc)


# --- what is refused, and what is shown -------------------------------------------------------------------------------


def test_impossible_arrays_are_refused():
    a, b = gaussians(100, 0.0, 9)
    with pytest.raises(ValueError, match="same shape"):
        run(a, b[:-1])
    with pytest.raises(ValueError, match="at least 50"):
        run(a[:40], b[:40])
    b[7, 1] = np.nan
    with pytest.raises(ValueError, match="reference: row 7"):
        run(a, b)


def made_up(auc: list[float]) -> ClassifierResult:
    values = np.array(auc)
    return ClassifierResult(
        QUICK, "high", 100, values, values, values, values, np.full(len(auc), 0.01), np.ones(len(auc), int)
    )


def test_mean_and_spread_are_the_challenges():
    result = made_up([0.60, 0.62, 0.64])
    assert result.mean == pytest.approx(0.62)
    assert result.std == pytest.approx(np.std([0.60, 0.62, 0.64], ddof=0))
    assert result.table().loc[["1", "2", "3"], "auc"].tolist() == [0.60, 0.62, 0.64]
    assert result.table().loc["std", "auc"] == pytest.approx(result.std)
    assert result.excess(made_up([0.5]))[0] == pytest.approx(0.12)


def test_uncertainties_are_kept_apart():
    rng = np.random.default_rng(10)
    trainings, repetitions = 0.03, 0.02
    results = [made_up(list(0.6 + trainings * rng.normal() + repetitions * rng.normal(size=10))) for _ in range(400)]
    found = uncertainty(results)
    assert found.mean == pytest.approx(0.6, abs=0.006)
    assert found.repetitions == pytest.approx(repetitions, rel=0.1)
    assert found.trainings == pytest.approx(trainings, rel=0.15)
    assert found.sample == pytest.approx(0.01 * math.sqrt((1 + 9 * 0.2) / 10))
    assert uncertainty(results[:1]).trainings is None
    with pytest.raises(ValueError, match="at least one"):
        uncertainty([])
