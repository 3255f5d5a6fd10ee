"""The Fréchet distance of normal samples, where it is known, and its extrapolation in the sample size."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from test_calochallenge import make

from bithep_lib.data.calochallenge import Showers
from bithep_lib.evaluate.frechet import extrapolate, fpd, frechet_distance


def normal(n: int, seed: int, shift: float = 0, width: float = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, width, (n, 5))


def test_matches_the_formula_with_a_matrix_root() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(300, 4)) @ generator.normal(size=(4, 4)), generator.normal(1, 2, (200, 4))
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(x, y) == pytest.approx(expected)
    assert frechet_distance(y, x) == pytest.approx(expected)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    turn = np.linalg.qr(generator.normal(size=(4, 4)))[0]
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(expected)


def test_degenerate_features_are_fine() -> None:
    x = normal(200, 1)
    constant = np.concatenate((x, np.ones((200, 2))), axis=1)
    assert frechet_distance(constant, constant + 1) == pytest.approx(7)


def test_extrapolation_removes_what_the_sample_size_adds() -> None:
    # Independent normal features: 5 (shift^2 + (1 - width)^2).
    far = extrapolate(normal(4000, 2, 0.3, 1.2), normal(4000, 3))
    assert far.value == pytest.approx(5 * (0.09 + 0.04), abs=0.06)
    same = [extrapolate(normal(3000, 10 + i), normal(3000, 30 + i), seed=i) for i in range(6)]
    values = np.array([one.value for one in same])
    plain = np.array([one.distances[-1] for one in same])
    assert (plain > 0).all()
    assert abs(values.mean()) < 0.35 * plain.mean()
    assert (np.diff(same[0].distances[[0, 4, 9]]) < 0).all()
    assert same[0].sizes[[0, -1]].tolist() == [750, 3000]
    assert "x 1000" in str(same[0])


def test_refusals() -> None:
    with pytest.raises(ValueError, match="5 features need at least 400 showers in each sample, got 399"):
        extrapolate(normal(399, 1), normal(800, 2))
    with pytest.raises(ValueError, match=r"got shapes \(800, 5\) and \(800, 4\)"):
        extrapolate(normal(800, 1), normal(800, 2)[:, 1:])
    with pytest.raises(ValueError, match="showers of one data set are needed, got ds2 and ds1-photons"):
        fpd(make("ds2", 2), make("ds1-photons", 2))


def test_paired_samples() -> None:
    # Half of the spread is common to each pair of rows, as the incident energy is to two showers.
    common = [normal(1000, 50 + i) for i in range(6)]
    pairs = [(c + normal(1000, 60 + i), c + normal(1000, 80 + i)) for i, c in enumerate(common)]
    plain = np.mean([frechet_distance(x, y) for x, y in pairs])
    paired = np.mean([extrapolate(x, y, paired=True).value for x, y in pairs])
    unpaired = np.mean([extrapolate(x, y).value for x, y in pairs])
    assert abs(paired) < 0.25 * plain
    assert unpaired < paired - 0.3 * plain


def test_fpd_of_showers() -> None:
    a, b = (make("ds1-photons", 2400, seed=seed) for seed in (1, 2))
    a, b = (showers[np.argsort(showers.incident, kind="stable")] for showers in (a, b))
    same = fpd(a, b)
    brighter = fpd(Showers(a.incident, 2 * a.voxels, a.dataset), b)
    assert abs(same.value) < 0.0015
    assert brighter.value > 0.005
    assert fpd(a, b).value == same.value  # seeded
