"""The bundled Geant4 showers: what is in the files, and whether they are showers."""

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import gamma

from bithep_lib.data import calochallenge
from bithep_lib.data.calochallenge import SAMPLE, Showers
from bithep_lib.evaluate import shower_physics
from bithep_lib.simulate import gflash, showers

BUNDLED = ("ds1-photons", "ds1-pions", "ds2")
X0_PER_LAYER = 0.8  # of the 45 layers of ds2
CRITICAL_ENERGY = 8.2  # MeV, of the tungsten-silicon stack
GROUPS = [(1e3, 4e3), (4e3, 2e4), (2e4, 1e5)]


@pytest.fixture(scope="module", params=BUNDLED)
def sample(request: pytest.FixtureRequest) -> Showers:
    return calochallenge.load("sample", request.param)


@pytest.fixture(scope="module")
def electrons() -> Showers:
    return calochallenge.load("sample", "ds2")


def group(electrons: Showers, low: float, high: float) -> Showers:
    return electrons[(electrons.incident >= low) & (electrons.incident < high)]


def profile(electrons: Showers) -> np.ndarray:
    """Mean share of the energy in each layer, (N, 45)."""
    layers = electrons.voxels.reshape(len(electrons), 45, -1).sum(2, dtype=np.float64)
    return layers / layers.sum(1, keepdims=True)


def maximum(electrons: Showers) -> float:
    """Depth of the maximum of the mean profile in X0, from a fit of a gamma distribution."""
    depth = (np.arange(45) + 0.5) * X0_PER_LAYER

    def density(t: np.ndarray, alpha: float, beta: float) -> np.ndarray:
        return X0_PER_LAYER * gamma.pdf(t, alpha, scale=1 / beta)

    (alpha, beta), _ = curve_fit(density, depth, profile(electrons).mean(0), p0=(4, 0.5), bounds=((1.1, 0.1), (30, 5)))
    return (alpha - 1) / beta


def test_files_say_what_they_are(sample: Showers) -> None:
    files = sorted(SAMPLE.glob(f"{sample.dataset}-*.hdf5"))
    assert files
    for path in files:
        with calochallenge.Reader(path) as file:
            assert file.dtypes[1] == np.float16
            assert file.metadata["label"] == showers.LABELS[sample.dataset]
            config = file.metadata["config"]
            assert config["seed"] == (2 if "tail" in path.name else 1)
            assert config["versions"]["geant4-pybind"] == "0.1.3"
            assert config["cut_mm"] == showers.CUT
    assert sum(path.stat().st_size for path in SAMPLE.glob("*.hdf5")) <= 25e6


def test_incident_energies(sample: Showers) -> None:
    if sample.dataset == "ds2":
        logarithm = np.log10(sample.incident) - 3
        assert logarithm.min() >= 0
        assert logarithm.max() <= 2
        assert np.abs(logarithm.mean() / 2 - 0.5) < 5 / np.sqrt(12 * len(logarithm))
    else:
        energies, counts = np.unique(sample.incident, return_counts=True)
        assert energies.tolist() == list(showers.ENERGIES[sample.dataset])
        assert np.ptp(counts) <= 1


def test_voxels_are_possible(sample: Showers) -> None:
    assert np.isfinite(sample.voxels).all()
    assert (sample.voxels >= 0).all()
    assert sample.voxels[sample.voxels > 0].min() >= showers.read_out_threshold(sample.dataset) * (1 - 2**-11)
    assert (sample.voxels.sum(1) > 0).mean() > 0.97
    assert len(np.unique(sample.voxels[sample.voxels.any(1)], axis=0)) == sample.voxels.any(1).sum()


@pytest.mark.parametrize(("low", "high"), GROUPS)
def test_electrons_reach_the_maximum_where_theory_says(electrons: Showers, low: float, high: float) -> None:
    part = group(electrons, low, high)
    expected = np.log(part.incident / CRITICAL_ENERGY).mean() - 0.5
    assert maximum(part) == pytest.approx(expected, abs=0.8)


@pytest.mark.parametrize(("low", "high"), GROUPS)
def test_response_and_width_of_electrons(electrons: Showers, low: float, high: float) -> None:
    part = group(electrons, low, high)
    response = part.voxels.sum(1, dtype=np.float64) / part.incident
    assert response.mean() == pytest.approx(0.945, abs=0.015 + 3 * response.std() / np.sqrt(len(part)))
    stochastic = (response / response.mean() - 1) * np.sqrt(part.incident / 1e3)
    assert 0.09 < stochastic.std() < 0.17
    # Within 4.65, 9.3 and 18.6 mm of the axis, of what is within 41.85 mm.
    rings = part.voxels.reshape(-1, 9).sum(0, dtype=np.float64).cumsum()
    np.testing.assert_allclose(rings[[0, 1, 3]] / rings[-1], [0.70, 0.855, 0.951], atol=0.02)


def test_electrons_are_round_on_average(electrons: Showers) -> None:
    wedges = (electrons.voxels / electrons.incident[:, None]).reshape(-1, 45, 16, 9).sum((1, 3))
    difference = wedges.mean(0) / wedges.mean() - 1
    assert (np.abs(difference) < 5 * wedges.std(0) / wedges.mean() / np.sqrt(len(wedges))).all()


def test_photons() -> None:
    sample = calochallenge.load("sample", "ds1-photons")
    response = sample.voxels.sum(1, dtype=np.float64) / sample.incident
    high = sample.incident > 8000
    assert response[high].mean() == pytest.approx(1, abs=0.03)
    resolution = [response[sample.incident == energy].std() for energy in (1024, 8192, 65536)]
    assert (np.diff(resolution) < 0).all()
    g = sample.geometry
    strips, middle, back = (sample.voxels[sample.incident == 8192][:, g.slice(i)].sum() for i in (1, 2, 3))
    assert 0.18 < strips / (strips + middle + back) < 0.38


def test_the_tail_of_the_electrons(electrons: Showers) -> None:
    tail = calochallenge.load("sample", "ds2", part="tail")
    assert len(tail) >= 180
    assert (tail.incident >= 1e5).all()
    assert (tail.incident <= 1e6).all()
    logarithm = np.log10(tail.incident) - 5
    assert np.abs(logarithm.mean() - 0.5) < 5 / np.sqrt(12 * len(tail))
    assert maximum(tail) == pytest.approx(np.log(tail.incident / CRITICAL_ENERGY).mean() - 0.5, abs=0.8)
    response, below = (part.voxels.sum(1, dtype=np.float64) / part.incident for part in (tail, electrons))
    assert response.mean() == pytest.approx(below.mean(), abs=0.01)
    assert response.std() < 0.02 < below.std()


def test_pions() -> None:
    sample = calochallenge.load("sample", "ds1-pions")
    assert len(sample) >= 10_000
    table = shower_physics.response(sample)
    # On the scale of electrons a calorimeter that does not compensate sees less than all, and more of faster pions.
    showering = table[table["energy"] > 4]
    assert showering["mean"].between(0.7, 0.9).all()
    first, last = showering.iloc[0], showering.iloc[-1]
    assert last["mean"] - first["mean"] > 4 * np.hypot(first["mean_error"], last["mean_error"])
    assert 1.3 < 1 / shower_physics.fit_hadronic_response(table).h_over_e < 1.8
    assert (showering["resolution"].diff().iloc[1:] < 0).all()
    assert showering["resolution"].iloc[-1] > 0.05
    high = sample.incident > 8000
    tiles = sample.voxels[:, sample.geometry.offsets[4] :]
    assert 0.3 < tiles[high].sum() / sample.voxels[high].sum() < 0.8


@pytest.mark.parametrize(("low", "high"), GROUPS)
def test_the_parametrisation_agrees_on_average(electrons: Showers, low: float, high: float) -> None:
    part = group(electrons, low, high)
    incident = np.resize(part.incident, 600)
    made = Showers(incident, gflash.shower("ds2", incident, seed=9), "ds2")
    assert maximum(made) == pytest.approx(maximum(part), abs=0.6)
    response, expected = (x.voxels.sum(1, dtype=np.float64) / x.incident for x in (made, part))
    assert response.mean() == pytest.approx(expected.mean(), abs=0.015 + 3 * expected.std() / np.sqrt(len(part)))
    assert 0.6 < response.std() / expected.std() < 1.6
    rings, wanted = (x.voxels.reshape(-1, 9).sum(0, dtype=np.float64) for x in (made, part))
    assert np.abs(rings / rings.sum() - wanted / wanted.sum()).max() < 0.05
