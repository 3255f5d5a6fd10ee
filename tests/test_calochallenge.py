"""Geometries, cuts, splits and symmetries of the CaloChallenge's showers, against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bithep_lib.data import calochallenge
from bithep_lib.data.calochallenge import Showers, geometry
from bithep_lib.evaluate.showers import features


def make(dataset: str, n: int, seed: int = 0) -> Showers:
    """Showers with a core and a tail: a tenth of the voxels lit, 0.9 of the incident energy visible."""
    generator = np.random.default_rng(seed)
    one = geometry(dataset)
    incident = one.draw_energies(n, seed)
    voxels = generator.exponential(np.exp(-one.r / 10) + 1e-3, (n, one.n_voxels)) * (
        generator.random((n, one.n_voxels)) < 0.1
    )
    voxels *= (0.9 * incident / voxels.sum(1))[:, None]
    return Showers(incident, voxels.astype(np.float32), dataset, "made")


def test_offsets_and_sizes() -> None:
    assert geometry("ds1-photons").offsets.tolist() == [0, 8, 168, 358, 363, 368]
    assert geometry("ds1-pions").offsets.tolist() == [0, 8, 108, 208, 213, 363, 523, 533]
    assert geometry("ds2").offsets.tolist() == list(range(0, 6481, 144))
    assert geometry("ds3").offsets.tolist() == list(range(0, 40501, 900))
    assert [layer.id for layer in geometry("ds1-pions").layers] == [0, 1, 2, 3, 12, 13, 14]
    assert [layer.id for layer in geometry("ds3").layers] == list(range(45))
    assert geometry("ds1-photons").angular.tolist() == [1, 2]
    assert geometry("ds1-pions").angular.tolist() == [1, 2, 4, 5]


def test_named_voxels_of_ds2() -> None:
    one = geometry("ds2")
    # Layer 10, the angular bin just above alpha = 0 (bin 8 of 16), third ring: 1440 + 8 * 9 + 2.
    assert one.index(layer=10, angle=8, ring=2) == 1514
    assert one.r[1514] == pytest.approx((9.3 + 13.95) / 2)
    assert one.alpha[1514] == pytest.approx(np.pi / 16)
    assert one.eta[1514] == pytest.approx(11.625 * np.cos(np.pi / 16))
    assert one.phi[1514] == pytest.approx(11.625 * np.sin(np.pi / 16))
    assert one.layer[1514] == 10
    assert one.threshold == pytest.approx(0.0151515, abs=1e-7)
    assert one.layers[0].r_edges == pytest.approx([4.65 * k for k in range(10)])
    assert geometry("ds3").layers[7].r_edges == pytest.approx([2.325 * k for k in range(19)])


def test_named_voxels_of_ds1() -> None:
    photons, pions = geometry("ds1-photons"), geometry("ds1-pions")
    # EM-middle, angular bin 3 of 10 (alpha = -0.3 pi), ring 50-60 mm: 168 + 3 * 19 + 9.
    assert photons.index(layer=2, angle=3, ring=9) == 234
    assert photons.r[234] == 55
    assert photons.alpha[234] == pytest.approx(-0.3 * np.pi)
    assert pions.index(layer=13, angle=0, ring=15) == 378
    assert pions.r[378] == 1500
    assert pions.eta[378] == pytest.approx(1500 * np.cos(-0.9 * np.pi))
    assert photons.alpha[:8].tolist() == [0] * 8  # one bin around the whole circle


@pytest.mark.parametrize("dataset", calochallenge.DATASETS)
def test_every_voxel_has_one_place(dataset: str) -> None:
    one = geometry(dataset)
    for i, layer in enumerate(one.layers):
        # Voxels tile the disc: no gaps, no overlaps.
        assert one.area[one.slice(i)].sum() == pytest.approx(np.pi * layer.r_edges[-1] ** 2)
        assert len(np.unique(one.r[one.slice(i)])) == layer.n_r
        grid = one.alpha[one.slice(i)].reshape(one.shape(i))
        assert np.ptp(grid, axis=1).max() == 0  # the radius is the fast index
        places = np.stack((one.r, one.alpha), axis=1)[one.slice(i)]
        assert len(np.unique(places, axis=0)) == layer.n_voxels
    assert np.hypot(one.eta, one.phi) == pytest.approx(one.r)
    assert calochallenge.dataset_of_size(one.n_voxels) == dataset
    with pytest.raises(ValueError, match="read-only"):
        one.r[0] = 1


def test_unknown_names_and_voxels() -> None:
    with pytest.raises(
        ValueError, match=r"dataset must be one of ds1-photons, .*got 'ds1-photon'; did you mean 'ds1-ph"
    ):
        geometry("ds1-photon")
    with pytest.raises(ValueError, match="ds1-photons has no layer 4; its layers: 0, 1, 2, 3, 12"):
        geometry("ds1-photons").index(layer=4, angle=0, ring=0)
    with pytest.raises(ValueError, match=r"ring must be 0 .. 8 in layer 3 of ds2, got 9"):
        geometry("ds2").index(layer=3, angle=0, ring=9)
    assert calochallenge.dataset_of_size(504) is None


def test_incident_energies() -> None:
    energies, counts = np.unique(geometry("ds1-pions").draw_energies(120_800, 1), return_counts=True)
    assert energies.tolist() == [2.0**k for k in range(8, 23)]
    assert counts.tolist() == [10_000] * 10 + [9_800, 5_000, 3_000, 2_000, 1_000]
    drawn = geometry("ds1-photons").draw_energies(1000, 1)
    assert len(drawn) == 1000
    assert abs((drawn == 256).sum() - 1000 * 10_000 / 121_000) < 1
    log = np.log10(geometry("ds2").draw_energies(20_000, 1))
    assert 3 <= log.min() < log.max() <= 6
    assert np.histogram(log, bins=3)[0] == pytest.approx([20_000 / 3] * 3, rel=0.05)
    with pytest.raises(ValueError, match="n must be a positive number of showers, got 0"):
        geometry("ds2").draw_energies(0, 1)


def test_showers_are_indexable() -> None:
    showers = make("ds1-photons", 10)
    assert len(showers[2:5]) == 3
    assert len(showers[-1]) == 1
    assert showers[-1].incident[0] == showers.incident[9]
    assert np.array_equal(showers[showers.incident > 1000].voxels, showers.voxels[showers.incident > 1000])
    assert showers.fingerprint == make("ds1-photons", 10).fingerprint != showers[::-1].fingerprint
    assert "10 of ds1-photons" in repr(showers)
    assert "0 of ds1-photons" in repr(showers[:0])
    with pytest.raises(
        ValueError, match=r"ds1-pions need incident \(N,\) and voxels \(N, 533\), got \(10,\) and \(10, 3"
    ):
        Showers(showers.incident, showers.voxels, "ds1-pions")


def test_split_is_disjoint_and_stable() -> None:
    showers = make("ds1-photons", 50)
    parts = calochallenge.split(showers, {"train": 20, "valid": 5, "reference": 12, "floor": 13}, seed=3)
    assert [len(part) for part in parts.values()] == [20, 5, 12, 13]
    together = np.concatenate([part.voxels for part in parts.values()])
    assert len(np.unique(together, axis=0)) == 50
    train, valid = calochallenge.split(showers, (20, 4), seed=3)
    assert train.fingerprint == parts["train"].fingerprint
    assert np.array_equal(valid.voxels, parts["valid"].voxels[:4])
    assert calochallenge.split(showers, (20,), seed=4)[0].fingerprint != train.fingerprint


@pytest.mark.parametrize("sizes", [{}, {"train": 51}, (30, 21), (-1, 3), (0.5, 0.5), {"train": 0.8}])
def test_split_refuses(sizes) -> None:
    with pytest.raises(ValueError, match="sizes must be one or more numbers of showers, .* at most 50 showers, got"):
        calochallenge.split(make("ds1-photons", 50), sizes, seed=1)


def test_concatenate() -> None:
    showers = make("ds1-photons", 10)
    assert calochallenge.concatenate([showers[:4], showers[4:]], "both").fingerprint == showers.fingerprint
    with pytest.raises(ValueError, match="showers of one data set are needed, got ds1-photons, ds2"):
        calochallenge.concatenate([showers, make("ds2", 2)], "both")


def test_cuts() -> None:
    voxels = np.zeros((4, 368), np.float32)
    voxels[0, :3] = 0.5, 1.0, 300.0  # below, at and above the threshold of 1 MeV
    voxels[1, 7] = 2000.0
    voxels[3, 0] = 90.0
    showers = Showers(np.array([300.0, 300.0, 300.0, 100.0]), voxels, "ds1-photons")
    assert calochallenge.zero_below(showers).voxels[0, :4].tolist() == [0, 1, 300, 0]
    assert calochallenge.zero_below(showers, 1.5).voxels[0, :4].tolist() == [0, 0, 300, 0]
    assert showers.voxels[0, 0] == 0.5  # the original is untouched
    assert len(calochallenge.select(showers)) == 4
    assert len(calochallenge.select(showers, response=(1e-9, np.inf))) == 3
    assert len(calochallenge.select(showers, response=(0, 3.5))) == 3
    assert len(calochallenge.select(showers, incident=(100, 300))) == 1
    assert len(calochallenge.select(showers, largest_voxel=2000)) == 3
    with pytest.raises(ValueError, match="threshold must be an energy in MeV, not negative, got -1"):
        calochallenge.zero_below(showers, -1)
    with pytest.raises(ValueError, match=r"response must be \(low, high\) with low < high, got \(2, 1\)"):
        calochallenge.select(showers, response=(2, 1))


@pytest.mark.parametrize(("dataset", "order"), [("ds2", 32), ("ds3", 100)])
def test_symmetry_group(dataset: str, order: int) -> None:
    table = calochallenge.images(dataset)
    assert table.shape == (order, geometry(dataset).n_voxels)
    assert len(np.unique(table, axis=0)) == order
    assert np.array_equal(table[0], np.arange(table.shape[1]))
    one = geometry(dataset)
    assert np.array_equal(one.r[table], np.broadcast_to(one.r, table.shape))
    assert np.array_equal(one.layer[table], np.broadcast_to(one.layer, table.shape))
    # Closed under composition: any two of them make a third.
    known = {row.tobytes() for row in table}
    assert {table[i][table[j]].tobytes() for i in (1, 5, order // 2, order - 1) for j in range(order)} <= known


@given(st.integers(-40, 40))
def test_rotation_turns_the_centre(sectors: int) -> None:
    showers = make("ds2", 3)
    before, after = features(showers), features(calochallenge.rotate(showers, sectors))
    angle = 2 * np.pi * sectors / 16
    assert after.eta == pytest.approx(before.eta * np.cos(angle) - before.phi * np.sin(angle), abs=1e-9)
    assert after.phi == pytest.approx(before.eta * np.sin(angle) + before.phi * np.cos(angle), abs=1e-9)
    for name in ("energy", "sparsity", "r", "r_width"):
        assert getattr(after, name) == pytest.approx(getattr(before, name))


def test_mirror_and_single_rotations() -> None:
    showers = make("ds2", 5)
    before, after = features(showers), features(calochallenge.mirror(showers))
    assert after.eta == pytest.approx(before.eta, abs=1e-9)
    assert after.phi == pytest.approx(-before.phi, abs=1e-9)
    assert calochallenge.mirror(calochallenge.mirror(showers)).fingerprint == showers.fingerprint
    each = calochallenge.rotate(showers, np.arange(5))
    assert np.array_equal(each[3].voxels, calochallenge.rotate(showers[3], 3).voxels)
    assert np.array_equal(each.voxels[0], showers.voxels[0])


def test_augment() -> None:
    showers = make("ds2", 4)
    more = calochallenge.augment(showers, 32, seed=1)
    assert len(more) == 128
    assert len(np.unique(more.voxels, axis=0)) == 128  # each image once
    assert sorted(more.incident.tolist()) == sorted(np.repeat(showers.incident, 32).tolist())
    some = calochallenge.augment(showers, 2, seed=1)
    for i in range(4):  # the images of a shower are its own, with its energy
        own = {row.tobytes() for row in showers.voxels[i][calochallenge.images("ds2")]}
        of_this = some.voxels[some.incident == showers.incident[i]]
        assert len({row.tobytes() for row in of_this} & own) == 2
    assert some.fingerprint == calochallenge.augment(showers, 2, seed=1).fingerprint
    with pytest.raises(ValueError, match=r"copies must be 1 .. 32, as many as there are images, got 33"):
        calochallenge.augment(showers, 33, seed=1)
    with pytest.raises(ValueError, match="only ds2 and ds3 have equal angular bins .*, got ds1-pions"):
        calochallenge.rotate(make("ds1-pions", 2), 1)
