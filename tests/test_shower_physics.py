"""Depth, width, response and resolution of showers that were made to a known recipe."""

import numpy as np
import pytest
from scipy.special import gammainc, logit

from bithep_lib.data.calochallenge import Showers, geometry
from bithep_lib.evaluate.shower_physics import (
    CRITICAL_ENERGY,
    MOLIERE_RADIUS,
    HadronicResponse,
    Resolution,
    containment,
    depth_profile,
    fit_hadronic_response,
    fit_resolution,
    layer_shares,
    published_moments,
    ratio_moments,
    response,
    ring_moments,
)

STOCHASTIC, CONSTANT = 0.16, 0.02


def recipe(n: int = 3000, seed: int = 1) -> Showers:
    """ds2 showers: gamma profiles that peak where theory says, 1 / r^2 tails, a known response and resolution."""
    one, rng = geometry("ds2"), np.random.default_rng(seed)
    incident = 10 ** rng.uniform(3, 5, n)
    b = 0.5
    a = 1 + b * (np.log(incident / CRITICAL_ENERGY) - 0.5)
    along = np.diff(gammainc(a[:, None], b * 0.8 * np.arange(46)), axis=1)
    edges = np.array(one.layers[0].r_edges)
    across = np.diff(edges**2 / (edges**2 + 6.0**2))
    across = np.tile(across / across.sum() / 16, 16)
    spread = np.hypot(STOCHASTIC / np.sqrt(incident / 1e3), CONSTANT)
    seen = 0.95 * incident * (1 + spread * rng.standard_normal(n))
    voxels = seen[:, None, None] * along[:, :, None] * across
    return Showers(incident, voxels.reshape(n, -1).astype(np.float32), "ds2", "a recipe")


@pytest.fixture(scope="module")
def showers() -> Showers:
    return recipe()


def test_response_and_resolution_are_those_of_the_recipe(showers):
    table = response(showers)
    assert ((table["mean"] - 0.95).abs() < 4 * table["mean_error"] + 0.001).all()
    found = fit_resolution(table)
    assert abs(found.stochastic - STOCHASTIC) < 4 * found.stochastic_error + 0.005  # energies vary within a bin
    assert abs(found.constant - CONSTANT) < 4 * found.constant_error
    assert found([1.0, 100.0]) == pytest.approx(np.hypot([STOCHASTIC, STOCHASTIC / 10], CONSTANT), rel=0.1)
    with pytest.raises(ValueError, match="three energies"):
        fit_resolution(table[:2])


def pions(h_over_e: float, n: int = 400, seed: int = 2) -> Showers:
    """ds1 pions with a known h/e above 4 GeV, none below, and three quarters of the energy in the middle layer."""
    rng = np.random.default_rng(seed)
    incident = np.repeat(2.0 ** np.arange(10, 17), n)
    seen = np.where(incident > 4e3, HadronicResponse(h_over_e, 0)(incident / 1e3), 0.5)
    seen = seen * incident * (1 + 0.1 * rng.standard_normal(len(incident)))
    voxels = np.zeros((len(incident), 533), np.float32)
    middle, tile = geometry("ds1-pions").offsets[[2, 4]]
    voxels[:, middle + 3], voxels[:, tile] = 0.75 * seen, 0.25 * seen
    return Showers(incident, voxels, "ds1-pions")


def test_h_over_e_is_that_of_the_recipe():
    made = pions(0.7)
    found = fit_hadronic_response(response(made))
    assert abs(found.h_over_e - 0.7) < 4 * found.h_over_e_error < 0.05
    assert str(HadronicResponse(0.5, 0.05)) == "e/h = 2.00 ± 0.20"
    assert (np.diff(found([4, 16, 64])) > 0).all()
    with pytest.raises(ValueError, match="h/e needs energies of 4 GeV or more"):
        fit_hadronic_response(response(made[made.incident < 3e3]))


def test_layer_shares_add_up_to_the_response():
    made = pions(0.7)
    shares = layer_shares(made)
    assert list(shares) == [layer.name for layer in made.geometry.layers]
    assert shares.sum(axis=1).to_numpy() == pytest.approx(response(made)["mean"].to_numpy(), rel=1e-5)
    assert (shares["EM-middle"] / shares.sum(axis=1)).to_numpy() == pytest.approx(0.75)


def test_a_resolution_is_a_sentence():
    assert str(Resolution(0.1, 0.01, 0.02, 0.001)) == "(10.0 ± 1.0) % / sqrt(E/GeV) (+) (2.0 ± 0.1) %"


def test_showers_peak_where_theory_says(showers):
    table = depth_profile(showers)
    assert len(table) == 10
    assert table["n"].sum() == len(showers)
    assert table["t_max"].to_numpy() == pytest.approx(table["theory"].to_numpy(), abs=0.05)
    with pytest.raises(ValueError, match="no common depth"):
        depth_profile(Showers(np.ones(1) * 256, np.ones((1, 368), np.float32), "ds1-photons"))


def test_containment_counts_rings(showers):
    edges = np.array([4.65, 18.6, 41.85])
    expected = edges**2 / (edges**2 + 36) / (41.85**2 / (41.85**2 + 36))
    assert containment(showers, edges) == pytest.approx(expected, abs=1e-3)


def test_moments_are_the_logits_of_the_published_ones(showers):
    ratios, rings = ratio_moments(showers), ring_moments(showers)
    layers = showers.voxels.reshape(len(showers), 45, -1).sum(2, dtype=np.float64)
    third = layers[:, 2] / layers[:, 2:].sum(1)
    assert ratios.loc[("ratio", 3), "mean"] == pytest.approx(logit(third).mean(), rel=1e-2)
    assert ratios.loc[("ratio", 0), "mean"] == pytest.approx(0.95, abs=0.01)
    assert (np.diff(rings["mean"]) < 0).all()
    published = published_moments("ds2")
    assert ratios.index.isin(published.index).all()
    assert rings.index.isin(published.index).all()
    assert published.loc[("ratio", 0), "mean"] == 0.784


def test_energies_above_100_gev_count_one_third():
    incident = np.repeat([1e4, 2e5], [9, 2])
    mixed = Showers(incident, np.ones((11, 6480), np.float32), "ds2")
    expected = 6480 * (2 / 3 / 1e4 + 1 / 3 / 2e5)
    assert ratio_moments(mixed).loc[("ratio", 0), "mean"] == pytest.approx(expected)


def test_gflashs_medium_is_the_one_of_the_theory():
    from bithep_lib.simulate.effective_medium import medium
    from bithep_lib.simulate.geant4.stacks import STACKS

    tungsten = medium(STACKS["ds2"][0])
    assert tungsten.critical_energy == pytest.approx(CRITICAL_ENERGY, rel=0.01)
    assert tungsten.moliere == pytest.approx(MOLIERE_RADIUS, rel=0.01)
    assert 3.4 / tungsten.x0 == pytest.approx(geometry("ds2").layer_depth, rel=0.01)
