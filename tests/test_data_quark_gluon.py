"""Quark and gluon jets: the bundled sample, splits, angles, observables and network inputs."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bithep_lib.data import quark_gluon as qg

ANGLES = st.floats(-50, 50, allow_nan=False)


@pytest.fixture(scope="module")
def sample() -> qg.Jets:
    return qg.load("sample")


# The bundled sample ---------------------------------------------------------------------------------------------------


def test_sample_agrees_with_the_published_numbers(sample: qg.Jets) -> None:
    table = qg.closure(sample)
    assert list(table.index) == list(qg.PUBLISHED)
    assert (table["difference"].abs() < 4).all(), table
    # A wrong sample would be many errors away: one of only quark jets, say, or with inverted labels.
    inverted = qg.closure(replace(sample, label=(1 - sample.label).astype(np.int8)))
    assert (inverted["difference"].abs() > 10).all(), inverted


def test_sample_is_the_stated_selection(sample: qg.Jets) -> None:
    assert len(sample) == 10_000
    assert sample.constituents.dtype == np.float32
    np.testing.assert_array_equal(sample.label, np.tile([1, 0], 5000))
    pid = sample.constituents[..., 3][sample.constituents[..., 0] > 0]
    assert set(np.unique(pid).astype(int)) <= set(qg.PDG_IDS)
    assert len(qg.PDG_IDS) == 14
    axis = qg.jet_momentum(sample.constituents)
    assert (axis["pt"] > 499.99).all()
    assert (axis["pt"] < 550.01).all()
    assert (np.abs(axis["y"]) < 1.7001).all()
    np.testing.assert_allclose(axis["m"], sample.truth["jet_m"], atol=1e-3)
    assert np.abs(qg.wrap_phi(axis["phi"] - sample.truth["jet_phi"])).max() < 1e-5
    assert set(sample.truth) == set(qg.TRUTH)


def test_sample_does_not_change_unnoticed(sample: qg.Jets) -> None:
    assert sample.fingerprint == "e3086e225eee97660de05b09dccca148b593392decb9c13061c7055cc86964ba"


def test_fingerprint_is_of_the_content(sample: qg.Jets) -> None:
    few = sample[:50]
    wide = replace(few, constituents=np.pad(few.constituents, ((0, 0), (0, 9), (0, 0))), source="elsewhere")
    assert wide.fingerprint == few.fingerprint
    label, constituents = few.label.copy(), few.constituents.copy()
    label[3] = 1 - label[3]
    constituents[7, 0, 1] += 1e-3
    prints = [
        few.fingerprint,
        *(replace(few, **change).fingerprint for change in ({"label": label}, {"constituents": constituents})),
    ]
    assert len({*prints, few[::-1].fingerprint}) == 4


def test_n_takes_a_balanced_beginning(sample: qg.Jets) -> None:
    few = qg.load("sample", n=3001)
    assert len(few) == 3001
    assert few.label.sum() == 1501
    np.testing.assert_array_equal(few.constituents, sample.constituents[:3001])
    with pytest.raises(
        ValueError, match=r"n = 20000 .* has 10000: lower n .*n_train \+ n_valid \+ n_test.*scale=smoke"
    ):
        qg.load("sample", n=20_000)
    with pytest.raises(ValueError, match="n must be a positive number"):
        qg.load("sample", n=0)


def test_indexing(sample: qg.Jets) -> None:
    assert len(sample[4]) == 1
    assert sample[4].truth["jet_pt"][0] == sample.truth["jet_pt"][4]
    np.testing.assert_array_equal(sample[np.array([5, 3])].label, sample.label[[5, 3]])
    assert len(sample[sample.label == 1]) == 5000
    assert repr(sample).startswith("Jets(10000: 5000 quark, 5000 gluon; at most 139 particles; sample;")


@settings(max_examples=30)
@given(seed=st.integers(0, 99), sizes=st.lists(st.integers(0, 300), min_size=1, max_size=3))
def test_split_is_disjoint_balanced_and_repeatable(sample: qg.Jets, seed: int, sizes: list[int]) -> None:
    jets = sample[:900]
    parts = qg.split(jets, sizes, seed)
    assert [len(part) for part in parts] == sizes
    keys = np.concatenate([part.truth["jet_m"] + part.truth["jet_phi"] for part in parts])
    assert len(np.unique(keys)) == sum(sizes)
    for part, again in zip(parts, qg.split(jets, sizes, seed), strict=True):
        assert abs(part.label.sum() - len(part) / 2) <= 1
        np.testing.assert_array_equal(part.constituents, again.constituents)


def test_split_refuses_and_depends_on_the_seed(sample: qg.Jets) -> None:
    with pytest.raises(ValueError, match="at most 100 jets"):
        qg.split(sample[:100], (90, 11), seed=1)
    with pytest.raises(ValueError, match="non-negative"):
        qg.split(sample[:100], (90, -1), seed=1)
    for sizes in ((0.6, 0.2, 0.2), (50.0,), (), 50):
        message = (
            f"sizes must be one or more numbers of jets, .* integers .* at most 100 jets, got {re.escape(repr(sizes))}"
        )
        with pytest.raises(ValueError, match=message):
            qg.split(sample[:100], sizes, seed=1)
    first, second = (qg.split(sample[:100], (100,), seed=seed)[0] for seed in (1, 2))
    assert first.fingerprint != second.fingerprint


# Angles and momenta ---------------------------------------------------------------------------------------------------


@given(ANGLES)
def test_wrap_phi_is_the_same_direction_in_the_half_open_interval(phi: float) -> None:
    wrapped = float(qg.wrap_phi(np.array(phi)))
    assert -np.pi <= wrapped < np.pi
    assert np.isclose(np.cos(wrapped - phi), 1.0, atol=1e-9)


@given(ANGLES, ANGLES)
def test_wrapped_difference_is_the_shorter_way(first: float, second: float) -> None:
    there, back = (float(qg.wrap_phi(np.array(d))) for d in (first - second, second - first))
    assert abs(abs(there) - abs(back)) < 1e-9
    assert np.isclose(np.cos(there), np.cos(first - second), atol=1e-9)


def test_wrap_phi_at_the_seam() -> None:
    np.testing.assert_allclose(qg.wrap_phi(np.array([np.pi, -np.pi, 3 * np.pi])), -np.pi)
    assert abs(float(qg.wrap_phi(np.array(0.05 - 6.25)))) == pytest.approx(0.083185, abs=1e-6)
    single = qg.wrap_phi(np.nextafter(np.float32(-np.pi), np.float32(-4), dtype=np.float32))
    assert single.dtype == np.float32
    assert -np.pi <= single < np.pi


def test_two_photons_by_hand() -> None:
    # m^2 = 2 pa pb (cosh dy - cos dphi) = 10000 (1.0453385 - 0.9210610)
    pair = np.array([[[100, 0.0, 0.0, 22], [50, 0.3, 0.4, 22], [0, 0, 0, 0]]], np.float32)
    jet = qg.jet_momentum(pair)
    assert jet["m"][0] ** 2 == pytest.approx(1242.775, rel=1e-5)
    assert jet["pt"][0] == pytest.approx(np.hypot(100 + 50 * np.cos(0.4), 50 * np.sin(0.4)))
    assert jet["phi"][0] == pytest.approx(np.arctan2(50 * np.sin(0.4), 100 + 50 * np.cos(0.4)))
    single = qg.jet_momentum(np.array([[[10, 0.7, 1.0, 2212]]], np.float32))
    assert single["m"][0] == pytest.approx(0.93827, abs=1e-5)
    assert single["y"][0] == pytest.approx(0.7, abs=1e-6)


@settings(max_examples=20)
@given(turn=ANGLES, extra=st.integers(0, 3))
def test_observables_do_not_depend_on_azimuth_padding_or_order(sample: qg.Jets, turn: float, extra: int) -> None:
    few = sample[:20]
    x = np.pad(few.constituents, ((0, 0), (0, extra), (0, 0)))
    x[..., 2] = np.where(x[..., 0] > 0, x[..., 2] + turn, 0)
    x = x[:, ::-1]
    turned = qg.observables(replace(few, constituents=x))
    np.testing.assert_allclose(turned, qg.observables(few), rtol=1e-4, atol=1e-4)


def test_observables_by_hand() -> None:
    jet = np.zeros((1, 5, 4), np.float32)
    jet[0, :3] = [[60, 0.1, 0.0, 211], [30, -0.2, 0.0, 22], [0.5, 0.0, 0.0, -11]]
    table = qg.observables(qg.Jets(jet, np.zeros(1, np.int8)))
    assert list(table) == list(qg.OBSERVABLES)
    row = table.iloc[0]
    z = np.array([60, 30, 0.5]) / 90.5
    y = float(qg.jet_momentum(jet)["y"][0])
    theta = np.abs(np.array([0.1, -0.2, 0.0]) - y) / 0.4
    expected = {"multiplicity": 3, "charged_multiplicity": 2, "girth": z @ theta, "ptd": np.sqrt(z @ z), "z_max": z[0]}
    expected |= {"lha": z @ np.sqrt(theta), "thrust": z @ theta**2, "photons": 1, "hard_particles": 2}
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-5), name


def test_particle_classes() -> None:
    names = {i: qg.CLASSES[int(qg.particle_class(np.array(i)))] for i in qg.PDG_IDS}
    assert {abs(i) for i, name in names.items() if name == "charged hadron"} == {211, 321, 2212}
    assert {abs(i) for i, name in names.items() if name == "neutral hadron"} == {130, 2112}
    assert names[11] == names[-11] == "electron"
    assert names[13] == "muon"
    assert names[22] == "photon"
    assert qg.particle_class(np.array([0, 310, 5000, 1e30])).tolist() == [-1] * 4
    ids = np.array([11, -11, 13, 211, -211, 2212, -2212, 2112, 22, 130, 0])
    assert qg.charge(ids).tolist() == [-1, 1, -1, 1, -1, 1, -1, 0, 0, 0, 0]


def test_features(sample: qg.Jets) -> None:
    few = sample[:200]
    x, mask = qg.features(few, 30)
    assert x.shape == (200, 30, len(qg.FEATURES))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(mask.sum(1), np.minimum(few.multiplicity, 30))
    assert (x[~mask] == 0).all()
    np.testing.assert_array_equal(x[..., 4:9].sum(-1), mask)
    pid = few.constituents[:, :30, 3]
    np.testing.assert_array_equal(x[..., 9], qg.charge(pid))
    np.testing.assert_array_equal(x[..., 8], pid == 22)
    z = few.constituents[..., 0] / few.constituents[..., 0].sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(5 * (x[..., 0][mask] - 1)), z[:, :30][mask], rtol=1e-4)
    np.testing.assert_allclose(np.hypot(x[..., 1], x[..., 2]), x[..., 3], atol=1e-5)
    assert 0.1 < x[mask].std(0)[:4].min() < x[mask].std(0)[:4].max() < 1
    wide, mask = qg.features(few, 200)
    assert wide.shape[1] == 200
    np.testing.assert_array_equal(mask.sum(1), few.multiplicity)
    np.testing.assert_array_equal(wide[:, :30], x)
    with pytest.raises(ValueError, match="max_constituents must be positive, got 0"):
        qg.features(few, 0)
