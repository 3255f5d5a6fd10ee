"""The GFLASH parametrisation: energy sums, profiles, its effective media."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bithep_lib.data import calochallenge
from bithep_lib.simulate import gflash
from bithep_lib.simulate.effective_medium import calorimeter, medium
from bithep_lib.simulate.geant4.stacks import STACKS
from bithep_lib.simulate.gflash import TUNED


def test_effective_medium_of_tungsten_and_silicon() -> None:
    # Worked by hand from the formulas of section 3 with 1.4 mm W and 0.3 mm Si.
    found = medium(STACKS["ds2"][0])
    assert found.z == pytest.approx(72.5, abs=0.05)
    assert found.x0 == pytest.approx(4.22, abs=0.01)
    assert found.critical_energy == pytest.approx(8.2, abs=0.05)
    assert found.moliere == pytest.approx(10.9, abs=0.05)
    assert found.sampling_frequency == pytest.approx(2.48, abs=0.01)
    assert found.e_hat == pytest.approx(0.704, abs=0.001)


def test_depths_of_the_layers() -> None:
    ds2 = calorimeter("ds2")
    np.testing.assert_allclose(ds2.end - ds2.begin, 3.4 / 4.22, rtol=0.01)
    np.testing.assert_allclose(ds2.begin[1:], ds2.end[:-1])
    ds1 = calorimeter("ds1-photons")
    # Aluminium of the cryostat, 1.3 radiation lengths, before the presampler; argon between it and the strips.
    assert ds1.begin[0] == pytest.approx(116 / 89.0, rel=0.01)
    assert ds1.begin[1] - ds1.end[0] == pytest.approx(20 / 140.0, rel=0.01)
    assert ds1.share.tolist() == [20, 1, 1, 1, 1]


@pytest.mark.parametrize("dataset", list(TUNED))
def test_energy_sums(dataset: str) -> None:
    showers = gflash.generate(dataset, 400, seed=2, energies=(1e4, 1.01e4))
    assert showers.voxels.dtype == np.float32
    assert "parametrisation" in showers.source
    response = showers.voxels.sum(1) / showers.incident
    assert 0.85 < response.mean() < 1.1
    assert 0.02 < response.std() < 0.08
    voxels = showers.voxels
    assert (voxels >= 0).all()
    assert (voxels[voxels > 0] > 0.015).all()


def test_the_same_seed_gives_the_same_showers() -> None:
    one, other = gflash.generate("ds2", 50, seed=3), gflash.generate("ds2", 50, seed=3)
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != gflash.generate("ds2", 50, seed=4).fingerprint
    assert calochallenge.load("gflash", "ds2", 50, seed=3).fingerprint == one.fingerprint


def test_deeper_and_sharper_with_energy() -> None:
    showers = gflash.shower("ds2", np.repeat([1e3, 1e4, 1e5], 300), seed=1).reshape(3, 300, 45, -1).sum(3)
    depth = (showers * np.arange(45)).sum(2) / showers.sum(2)
    # The centre of gravity moves by ln 10 radiation lengths a decade, 0.8 to a layer.
    np.testing.assert_allclose(np.diff(depth.mean(1)), np.log(10) / 0.8, rtol=0.2)
    response = showers.sum(2) / np.array([[1e3], [1e4], [1e5]])
    resolution = response.std(1) / response.mean(1)
    assert (np.diff(resolution) < 0).all()


def test_showers_are_round_on_average() -> None:
    showers = gflash.shower("ds2", np.full(1500, 3e4), seed=5).reshape(1500, 45, 16, 9)
    wedges = showers.sum((1, 3))
    difference = wedges.mean(0) / wedges.mean() - 1
    error = wedges.std(0) / wedges.mean() / np.sqrt(len(wedges))
    assert (np.abs(difference) < 5 * error).all()


def test_the_broad_component_is_the_halo() -> None:
    narrow, wide = (
        gflash.shower("ds2", np.full(300, 1e4), 1, replace(TUNED["ds2"], halo=halo)).reshape(-1, 9).sum(0)
        for halo in (0.0, 0.3)
    )
    assert wide[4:].sum() / wide.sum() > narrow[4:].sum() / narrow.sum()


@given(st.lists(st.floats(100.0, 1e6), min_size=1, max_size=5), st.sampled_from(list(TUNED)))
def test_every_energy_makes_a_shower(energies: list[float], dataset: str) -> None:
    voxels = gflash.shower(dataset, np.array(energies))
    assert voxels.shape == (len(energies), calochallenge.geometry(dataset).n_voxels)
    assert np.isfinite(voxels).all()
    response = voxels.sum(1) / np.array(energies)
    assert (response < 2.5).all()


def test_impossible_arguments() -> None:
    with pytest.raises(ValueError, match="electromagnetic showers: ds1-photons, ds2, ds3; for ds1-pions"):
        gflash.generate("ds1-pions", 3)
    with pytest.raises(ValueError, match="dataset must be one of"):
        gflash.generate("ds5", 3)
    with pytest.raises(ValueError, match="n must be a positive number"):
        gflash.generate("ds2", 0)
    with pytest.raises(ValueError, match="incident must be positive energies in MeV"):
        gflash.shower("ds2", np.array([-1.0]))
