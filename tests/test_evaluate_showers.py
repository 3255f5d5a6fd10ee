"""High-level features worked out by hand, separation powers with known values, the published tables."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_calochallenge import make

from bithep_lib.data import calochallenge
from bithep_lib.data.calochallenge import Showers, geometry
from bithep_lib.evaluate.leaderboard import beside_published, leaderboard, published_separation
from bithep_lib.evaluate.separation import (
    GROUPS,
    compare,
    edges_of,
    from_columns,
    separation_power,
    separation_table,
    to_columns,
)
from bithep_lib.evaluate.showers import feature_names, feature_vector, features


def shower(dataset: str, incident: float, **voxels: float) -> Showers:
    """One shower; ``layer_angle_ring = energy``."""
    one = geometry(dataset)
    row = np.zeros((1, one.n_voxels), np.float32)
    for name, energy in voxels.items():
        row[0, one.index(*map(int, name.strip("v").split("_")))] = energy
    return Showers(np.array([incident]), row, dataset)


def test_two_voxels_of_ds2_by_hand() -> None:
    # Layer 10: 30 MeV at r = 2.325, alpha = pi / 16, and 10 MeV at r = 11.625, alpha = -15 pi / 16 = pi / 16 - pi.
    got = features(shower("ds2", 2000.0, v10_8_0=30, v10_0_2=10, v11_3_8=0.0151, v12_5_1=0.0152))
    assert got.energy[0, 10] == 40
    assert got.energy[0, 11] == 0  # below 0.5 keV / 0.033
    assert got.energy[0, 12] == pytest.approx(0.0152)
    assert got.total[0] == pytest.approx(40.0152)
    assert got.response[0] == pytest.approx(40.0152 / 2000)
    along = (30 * 2.325 - 10 * 11.625) / 40  # the two are opposite to each other
    assert along == pytest.approx(-1.1625)
    assert got.eta[0, 10] == pytest.approx(along * math.cos(math.pi / 16))
    assert got.phi[0, 10] == pytest.approx(along * math.sin(math.pi / 16))
    spread = math.sqrt((30 * 2.325**2 + 10 * 11.625**2) / 40 - along**2)
    assert got.eta_width[0, 10] == pytest.approx(spread * math.cos(math.pi / 16))
    assert got.phi_width[0, 10] == pytest.approx(spread * math.sin(math.pi / 16))
    assert got.r[0, 10] == pytest.approx(4.65)  # (3 * 2.325 + 11.625) / 4
    assert got.r_width[0, 10] == pytest.approx(9.3 * math.sqrt(3) / 4)  # sqrt(p (1 - p)) times the distance
    assert got.sparsity[0, 10] == pytest.approx(142 / 144)
    assert got.sparsity[0, 11] == 1
    assert got.sparsity[0, 12] == pytest.approx(143 / 144)
    empty = [getattr(got, name)[0, 0] for name in ("eta", "phi", "eta_width", "phi_width", "r", "r_width")]
    assert empty == [0] * 6


def test_ds1_by_hand() -> None:
    # Tile-1 of photons has no angles, EM-strips has: 6 MeV in its ring 8-10 mm.
    got = features(shower("ds1-photons", 256.0, v1_5_4=6, v12_0_3=2, v12_0_1=2, v0_0_0=0.99))
    assert got.energy[0].tolist() == [0, 6, 0, 0, 4]
    assert got.eta.shape == (1, 2)
    assert got.eta[0, 0] == pytest.approx(9 * math.cos(math.pi / 10))
    assert got.eta_width[0, 0] == pytest.approx(0, abs=1e-6)
    assert got.r[0, 4] == pytest.approx((700 + 150) / 2)
    assert got.r_width[0, 4] == pytest.approx((700 - 150) / 2)
    assert got.sparsity[0].tolist() == pytest.approx([1, 159 / 160, 1, 1, 3 / 5])
    everything = features(shower("ds1-photons", 256.0, v0_0_0=0.99), threshold=0)
    assert everything.energy[0, 0] == pytest.approx(0.99)


def test_classifier_vector() -> None:
    one = shower("ds1-photons", 1000.0, v1_5_4=6, v12_0_3=2, v12_0_1=2)
    names = feature_names("ds1-photons")
    value = dict(zip(names, feature_vector(one)[0].tolist(), strict=True))
    assert names[:7] == ["log10 E_inc", "log10 E_0", "log10 E_1", "log10 E_2", "log10 E_3", "log10 E_12", "eta_1"]
    assert names[-15:-9] == ["sparsity_0", "sparsity_1", "sparsity_2", "sparsity_3", "sparsity_12", "r_0"]
    assert value["log10 E_inc"] == 3
    assert value["log10 E_0"] == -8
    assert value["log10 E_1"] == pytest.approx(math.log10(6))
    assert value["log10 E_tot"] == pytest.approx(1)
    assert value["eta_1"] == pytest.approx(0.09 * math.cos(math.pi / 10))
    assert value["r_12"] == pytest.approx(4.25)
    assert value["r width_12"] == pytest.approx(2.75)


@pytest.mark.parametrize(("dataset", "size"), [("ds1-photons", 30), ("ds1-pions", 46), ("ds2", 362), ("ds3", 362)])
def test_size_of_the_vector(dataset: str, size: int) -> None:
    vector = feature_vector(make(dataset, 3))
    assert vector.shape == (3, size)
    assert vector.dtype == np.float32
    assert len(set(feature_names(dataset))) == size
    table = features(make(dataset, 3)).table()
    assert table.shape == (3, size + 1)  # and the response
    assert table["energy"].sum(axis=1).to_numpy() == pytest.approx(table["total"].to_numpy())


def test_features_do_not_depend_on_portions_or_units(monkeypatch: pytest.MonkeyPatch) -> None:
    showers = make("ds1-pions", 25)
    whole = feature_vector(showers, threshold=0)
    monkeypatch.setattr("bithep_lib.evaluate.showers.PORTION", 7)
    assert np.array_equal(feature_vector(showers, threshold=0), whole)
    # Ten times the energy: centres, widths and sparsity stay, logarithms grow by one.
    ten = feature_vector(Showers(10 * showers.incident, 10 * showers.voxels, "ds1-pions"), threshold=0)
    names = np.array(feature_names("ds1-pions"))
    lit = np.char.startswith(names, "log10") & (whole > -7).all(0)
    assert ten[:, lit] - whole[:, lit] == pytest.approx(1, abs=1e-6)
    same = ~np.char.startswith(names, "log10")
    assert ten[:, same] == pytest.approx(whole[:, same], abs=1e-6)
    with pytest.raises(ValueError, match="threshold must be an energy in MeV, not negative, got -1"):
        features(showers, threshold=-1)


def test_double_precision_sums() -> None:
    # Float32 sums would lose the smaller voxels, and widths are differences of large numbers.
    got = features(shower("ds2", 1e6, v0_8_8=1e5, v0_8_7=1e-2), threshold=0)
    assert got.energy[0, 0] == pytest.approx(1e5 + 0.01, rel=1e-12)
    assert got.r_width[0, 0] == pytest.approx(4.65 * math.sqrt(1e-7), rel=1e-4)


# Separation power -----------------------------------------------------------------------------------------------------


def test_comparisons_come_back_from_a_record() -> None:
    a, b = make("ds1-photons", 300), make("ds1-photons", 300, seed=2)
    found = compare(a, b, layers=[2, 12])
    again = from_columns(json.loads(json.dumps(to_columns(found))))
    assert [(c.group, c.layer, c.label, c.logarithmic) for c in again] == [
        (c.group, c.layer, c.label, c.logarithmic) for c in found
    ]
    for new, old in zip(again, found, strict=True):
        assert (new.edges == old.edges).all()
        assert (new.generated == old.generated).all()
        assert new.separation == old.separation
    with pytest.raises(KeyError, match="reference"):
        from_columns({"group": ["cell"], "layer": [-1], "low": [0.0], "high": [1.0], "generated": [1.0]})


def test_separation_power_by_hand() -> None:
    assert separation_power([1, 2, 3], [10, 20, 30]) == pytest.approx(0, abs=1e-15)
    assert separation_power([1, 0], [0, 5]) == 1
    # h = (1/2, 1/2), g = (1/4, 3/4): (1/16 / (3/4) + 1/16 / (5/4)) / 2 = 1/15.
    assert separation_power([2, 2], [1, 3]) == pytest.approx(1 / 15)
    assert separation_power([0, 0], [0, 0]) == 0
    assert separation_power([0, 0], [1, 0]) == 1
    with pytest.raises(ValueError, match=r"same bins are needed, got shapes \(2,\) and \(3,\)"):
        separation_power([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="finite entries that are not negative"):
        separation_power([1, -2], [1, 2])


counts = hnp.arrays(np.int64, 8, elements=st.integers(0, 1000))


@given(counts, counts)
def test_separation_power_properties(h: np.ndarray, g: np.ndarray) -> None:
    s = separation_power(h, g)
    assert -1e-15 <= s <= 1 + 1e-12
    assert s == pytest.approx(separation_power(g, h))
    assert s == pytest.approx(separation_power(3 * h, g))
    # Merging bins cannot take two samples further apart.
    assert separation_power(h.reshape(4, 2).sum(1), g.reshape(4, 2).sum(1)) <= s + 1e-12 or not (h.any() and g.any())


def test_by_chance_is_what_equal_samples_give() -> None:
    generator = np.random.default_rng(5)
    a, b = (generator.multinomial(n, np.full(50, 0.02), size=400) for n in (3000, 1000))
    mean = np.mean([separation_power(x, y) for x, y in zip(a, b, strict=True)])
    assert mean == pytest.approx(49 / 4 * (1 / 3000 + 1 / 1000), rel=0.05)
    # And what the challenge quotes for Geant4 against Geant4: 121 000 showers, 100 bins.
    published = published_separation("ds1-photons").loc["GEANT4", "E total"]
    assert 99 / 4 * 2 / 121_000 == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize(("dataset", "size"), [("ds1-photons", 30), ("ds2", 362)])
def test_compare_equal_samples(dataset: str, size: int) -> None:
    one = geometry(dataset)
    sample = make(dataset, 400)
    found = compare(sample, sample)
    per_energy = len([c for c in found if c.group not in GROUPS])
    assert per_energy == len(one.energies)
    # Energy, sparsity, r and its width in each layer, eta and phi and their widths where there are angles, two more.
    assert len(found) - per_energy == 2 + 4 * one.n_layers + 4 * len(one.angular) == size
    assert all(c.separation == 0 for c in found)
    assert all(len(c.edges) == len(c.reference) + 1 for c in found)
    table = separation_table(found)
    assert table.index.tolist() == list(GROUPS)
    assert (table["separation"] == 0).all()
    assert (table["by chance"] > 0).all()


def test_compare_sees_what_was_changed() -> None:
    a, b = make("ds1-photons", 1500, seed=1), make("ds1-photons", 1500, seed=2)
    chance = separation_table(compare(a, b))
    assert (chance["separation"] < 1.5 * chance["by chance"] + 0.002).drop("cell").all()
    brighter = Showers(a.incident, 1.1 * a.voxels, a.dataset)
    table = separation_table(compare(brighter, b))
    assert table.loc["E total", "separation"] == pytest.approx(1)  # 0.9 everywhere became 0.99
    assert table.loc["EC eta", "separation"] < 0.2
    voxels = a.voxels.copy()
    voxels[:, a.geometry.slice(2)] = np.roll(voxels[:, a.geometry.slice(2)], 3, axis=1)
    table = separation_table(compare(Showers(a.incident, voxels, a.dataset), b))
    assert table.loc["EC r", "layer"] == 2
    assert table.loc["EC r", "largest"] > 10 * chance.loc["EC r", "largest"]


def test_layers_and_groups_can_be_chosen() -> None:
    sample = make("ds1-pions", 200)
    found = compare(sample, sample, groups=("EC eta", "E layer"), layers=(12, 3))
    assert [(c.group, c.layer) for c in found] == [("EC eta", 12), ("E layer", 3), ("E layer", 12)]
    with pytest.raises(ValueError, match="unknown group 'EC'; the groups: E layer, E total"):
        compare(sample, sample, groups=["EC"])
    with pytest.raises(ValueError, match="ds1-pions has no layer 4"):
        compare(sample, sample, layers=[4])
    with pytest.raises(ValueError, match="no showers to compare: 0 generated, 200 of the reference"):
        compare(sample[:0], sample)
    with pytest.raises(ValueError, match="showers of one data set are needed, got ds2 and ds1-pions"):
        compare(make("ds2", 2), sample)


def test_what_a_histogram_does_not_show() -> None:
    reference, generated = make("ds1-photons", 300), make("ds1-photons", 300)
    hot = Showers(generated.incident, np.where(np.arange(300)[:, None] < 30, 2, 1) * generated.voxels, "ds1-photons")
    (response,) = [c for c in compare(hot, reference, groups=["E total"]) if c.group == "E total"]
    assert response.outside == pytest.approx((0, 0.1))
    silent = compare(reference, Showers(reference.incident, 0 * reference.voxels, "ds1-photons"))
    assert {c.separation for c in silent if c.group in ("cell", "E layer", "E total")} == {1.0}


@pytest.mark.parametrize(
    ("group", "dataset", "layer", "first", "last", "size"),
    [
        ("E total", "ds2", None, 0.5, 1.5, 101),
        ("E layer", "ds1-photons", 3, 1, 5000, 40),
        ("cell", "ds2", None, 0.5e-3 / 0.033, 5000, 50),
        ("EC eta", "ds2", 7, -30, 30, 101),
        ("EC phi", "ds1-pions", 2, -100, 100, 101),
        ("EC phi", "ds1-pions", 13, -500, 500, 101),
        ("EC eta std", "ds3", 7, 0, 30, 101),
        ("EC eta std", "ds1-pions", 12, 0, 400, 101),
        ("EC phi std", "ds1-photons", 1, 0, 100, 101),
        ("EC r", "ds2", 0, 0, 42, 101),
        ("EC r", "ds1-photons", 0, 0, 500, 101),
        ("EC r", "ds1-pions", 14, 0, 1500, 101),
        ("EC r std", "ds2", 0, 0, 20, 101),
        ("EC r std", "ds1-photons", 12, 0, 1500, 101),
        ("sparsity", "ds2", 0, 0, 1, 21),
    ],
)
def test_the_challenges_bins(group, dataset, layer, first, last, size) -> None:
    edges = edges_of(group, geometry(dataset), layer, 5000.0)
    assert (len(edges), edges[0], edges[-1]) == (size, pytest.approx(first), pytest.approx(last))


# Published tables -----------------------------------------------------------------------------------------------------


def test_leaderboard() -> None:
    photons = leaderboard("ds1-photons")
    assert photons.index[0] == "GEANT4"
    assert photons.loc["CaloINN", ["auc_low", "auc_low_error", "auc_high"]].tolist() == [0.626, 0.004, 0.638]
    assert photons.loc["CaloINN", "parameters_generation"] == 18_821_350
    assert leaderboard("ds1-pions").loc["GEANT4", "auc_low"] == 0.609  # the floor of the pions is not one half
    ds2 = leaderboard("ds2")
    assert ds2.loc["CaloDREAM", ["auc_cnn", "fpd_1e3", "gpu_ms_100"]].tolist() == [0.681, 24.65, 74.3]
    assert np.isnan(ds2.loc["CaloDREAM", "gpu_ms_10000"])
    assert ds2["auc_low"].iloc[1:].is_monotonic_increasing
    with pytest.raises(ValueError, match="dataset must be one of"):
        leaderboard("ds4")


def test_beside_published() -> None:
    sample = make("ds2", 60)
    table = beside_published(separation_table(compare(sample, sample)), "ds2", ["GEANT4", "CaloDREAM"])
    assert table.columns.tolist() == ["separation", "by chance", "GEANT4 (published)", "CaloDREAM (published)"]
    assert table.loc["cell", "CaloDREAM (published)"] == pytest.approx(2.073)
    assert not table.isna().any().any()
    with pytest.raises(
        ValueError, match="no separation powers of 'CaloDream' are published for ds2; .*did you mean 'Cal"
    ):
        beside_published(separation_table(compare(sample, sample)), "ds2", ["CaloDream"])


def test_the_sample_agrees_with_itself() -> None:
    """Two halves of a sample differ by chance only (Geant4 where it is bundled)."""
    if not list(calochallenge.SAMPLE.glob("ds1-photons-*")):
        pytest.skip("no bundled showers yet")
    halves = calochallenge.split(calochallenge.load("sample", "ds1-photons", n=4000), (2000, 2000), seed=1)
    table = separation_table(compare(*halves)).drop("cell")
    assert (table["separation"] < 1.3 * table["by chance"]).all()
