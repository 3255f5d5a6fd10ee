"""The judge of showers: what it sees, what it refuses, what it catches; memorisation."""

from dataclasses import replace

import numpy as np
import pytest

from bithep_lib.data.calochallenge import Showers, concatenate, geometry, split
from bithep_lib.evaluate.classifier_test import (
    CLASSIFIER,
    INPUTS,
    Judge,
    against_size,
    classifier_inputs,
    classifier_test,
    require_disjoint,
    shared_showers,
    table,
)
from bithep_lib.evaluate.memorisation import memorisation, nearest
from bithep_lib.evaluate.sabotage import SABOTAGE, sabotage

QUICK = replace(CLASSIFIER["smoke"], name="quick", epochs=10, batch_size=250, learning_rate=1e-2, repetitions=2)


def showers(n: int, seed: int, dataset: str = "ds1-photons") -> Showers:
    """Made-up showers in a true geometry: layers share the energy at random, voxels fall off with the radius."""
    one, rng = geometry(dataset), np.random.default_rng(seed)
    incident = one.draw_energies(n, seed) if one.energies else 10 ** rng.uniform(3, 5, n)
    shares = rng.gamma(2.0, size=(n, one.n_layers)).cumsum(1)  # cumulated, so that neighbouring layers are correlated
    shares *= 0.9 * rng.normal(1, 0.05, (n, 1)) / shares.sum(1, keepdims=True)
    profile = np.exp(-one.r / 40) * one.area
    inside = rng.gamma(0.5 + profile / profile.mean(), size=(n, one.n_voxels))
    sums = np.add.reduceat(inside, one.offsets[:-1], axis=1)
    voxels = inside * (shares * incident[:, None] / sums)[:, one.layer]
    return Showers(incident, voxels.astype(np.float32), dataset, "made up")


@pytest.fixture(scope="module")
def parts() -> dict[str, Showers]:
    return split(showers(5200, 1), {"train": 1000, "valid": 200, "reference": 2000, "floor": 2000}, seed=1)


@pytest.fixture(scope="module")
def judge(parts) -> Judge:
    return Judge(**parts, settings=QUICK, progress=False)


# --- inputs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "low", "high"), [("ds1-photons", 369, 30), ("ds1-pions", 534, 46), ("ds2", 6481, 362)]
)
def test_the_inputs_have_the_published_sizes(dataset, low, high):
    some = showers(3, 2, dataset)
    assert [classifier_inputs(some, inputs).shape for inputs in INPUTS] == [(3, low), (3, high)]


def test_low_level_inputs_are_fractions_above_the_threshold():
    some = showers(50, 3)
    values = classifier_inputs(some, "low")
    assert values[:, 0] == pytest.approx(np.log10(some.incident), rel=1e-6)
    kept = some.voxels >= some.geometry.threshold
    assert 0 < kept.mean() < 1
    assert np.array_equal(values[:, 1:] > 0, kept)
    assert values[:, 1:][kept] == pytest.approx((some.voxels / some.incident[:, None])[kept], rel=1e-5)
    with pytest.raises(ValueError, match="'low', 'high'"):
        classifier_inputs(some, "middle")


# --- four sets --------------------------------------------------------------------------------------------------------


def test_sets_that_share_a_single_shower_are_refused(parts):
    mixed = concatenate([parts["floor"], parts["train"][:1]], "mixed")
    with pytest.raises(ValueError, match="train and floor share 1 showers"):
        Judge(**(parts | {"floor": mixed}), settings=QUICK)
    with pytest.raises(ValueError, match="share 2000"):
        require_disjoint(a=parts["reference"], b=parts["reference"])
    with pytest.raises(ValueError, match="generated and reference share 500"):
        classifier_test(parts["reference"][:500], parts["reference"][:500], settings=QUICK)
    assert shared_showers(parts["train"], parts["valid"]) == 0


def test_empty_showers_are_no_copies_of_each_other():
    empty = Showers(np.full(5, 256.0), np.zeros((5, 533), np.float32), "ds1-pions")
    assert shared_showers(empty, replace(empty, incident=np.full(5, 512.0))) == 0


def test_other_energies_than_the_references_are_refused(judge, parts):
    with pytest.raises(ValueError, match="one generated shower is needed for each of the 2000"):
        judge(parts["train"])
    with pytest.raises(ValueError, match=r"reference has .* MeV there"):
        judge(parts["floor"])
    with pytest.raises(ValueError, match="at least the 2000"):
        replace(judge, floor=parts["floor"][:100])
    with pytest.raises(ValueError, match="one data set"):
        classifier_test(parts["train"], showers(10, 1, "ds1-pions"))


# --- controls ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", INPUTS)
def test_the_floor_is_one_half_and_sabotage_is_caught(judge, inputs):
    floor = judge.control(inputs)
    assert abs(floor.mean - 0.5) < 3 * floor.sample
    caught = classifier_test(
        sabotage(judge.floor, "drop", 0.1, seed=1), judge.reference, inputs=inputs, settings=QUICK, progress=False
    )
    excess, error = caught.excess(floor)
    assert excess > 4 * error


def test_a_generator_is_judged_on_the_references_energies(judge):
    # The same shapes, for the energies of the reference: only the exchanged layers are wrong.
    spoilt = sabotage(judge.reference, "smear", 0.5, seed=2)
    assert judge(spoilt, "high").mean > 0.8


def test_power_grows_with_the_showers(judge):
    wrong = sabotage(judge.floor, "drop", 0.05, seed=3)
    found = against_size(wrong, judge.reference, [200, 2000], settings=QUICK, progress=False)
    assert found["n"].tolist() == [200, 2000]
    few, many = ((found["auc"] - 0.5) / found["auc_sample"]).tolist()
    assert many > max(few, 4)
    with pytest.raises(ValueError, match="at most the 2000"):
        against_size(wrong, judge.reference, [5000])


def test_the_table_shows_settings_and_errors(judge):
    shown = table({"floor": judge.control()})
    assert shown.loc["floor", "classifier"] == "quick"
    assert shown.loc["floor", "showers"] == 2000


# --- sabotage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SABOTAGE)
def test_each_sabotage_spoils_what_it_says(kind):
    some = showers(2000, 4)
    wrong = sabotage(some, kind, 0.2, seed=5)
    assert kind in wrong.source
    assert np.array_equal(wrong.incident, some.incident)
    assert np.array_equal(sabotage(some, kind, 0.2, seed=5).voxels, wrong.voxels)
    assert (wrong.voxels >= 0).all()
    ratio = wrong.voxels.sum(dtype=np.float64) / some.voxels.sum(dtype=np.float64)
    assert ratio == pytest.approx({"scale": 1.2, "drop": 0.8}.get(kind, 1.0), abs=0.01)


def test_an_exchange_leaves_every_layer_as_it_was():
    some = showers(500, 6)
    wrong = sabotage(some, "exchange", 1.0, seed=7)
    changed = (some.voxels != wrong.voxels).any(0)
    assert np.array_equal(changed, some.geometry.layer >= 2)
    assert np.array_equal(np.sort(some.voxels, axis=0), np.sort(wrong.voxels, axis=0))


def test_impossible_sabotage_is_refused():
    with pytest.raises(ValueError, match="scale, smear, drop, exchange"):
        sabotage(showers(5, 1), "scales", 0.1, seed=1)
    with pytest.raises(ValueError, match="strength=2"):
        sabotage(showers(5, 1), "drop", 2, seed=1)


# --- memorisation -----------------------------------------------------------------------------------------------------


def test_neighbours_are_those_of_scipy(parts):
    from scipy.spatial import cKDTree

    roots = [np.sqrt(s.voxels / s.incident[:, None], dtype=np.float64) for s in (parts["valid"], parts["train"])]
    expected = cKDTree(roots[1]).query(roots[0], k=3)[0]
    assert nearest(parts["valid"], parts["train"], 3) == pytest.approx(expected, rel=1e-3)
    assert nearest(parts["train"][:5], parts["train"], 1) == pytest.approx(0, abs=1e-12)


def test_new_showers_are_no_copies(parts):
    found = memorisation(parts["reference"], parts["train"], parts["floor"])
    assert abs(found.closer - 0.5) < 3 * found.error
    assert abs(found.copies - 0.01) < 3 * found.copies_error


def test_some_copies_are_found_though_they_are_smeared(parts):
    copied = sabotage(parts["train"][:100], "smear", 0.05, seed=8)
    mixed = concatenate([parts["reference"][:1900], copied], "a generator that repeats one shower in twenty")
    found = memorisation(mixed, parts["train"], parts["floor"])
    assert found.copies == pytest.approx(0.06, abs=0.015)
    assert found.copies - 0.01 > 4 * found.copies_error
    assert "copies" in str(found)


def test_memorisation_needs_showers_of_one_kind(parts):
    with pytest.raises(ValueError, match="one data set"):
        memorisation(showers(10, 1, "ds1-pions"), parts["train"], parts["floor"])
    with pytest.raises(ValueError, match="training needs at least 5"):
        memorisation(parts["reference"], parts["train"][:4], parts["floor"])
