"""Showers from Geant4: the front without it, then the real thing where the wheel is installed."""

import errno
import json
import re
import threading
import time
from dataclasses import asdict
from importlib import metadata, util
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from bithep_lib.data import calochallenge
from bithep_lib.simulate import bundled_showers, shards, showers
from bithep_lib.simulate.geant4.stacks import STACKS, Plate, Section, stack

needs_geant4 = pytest.mark.skipif(
    not (util.find_spec("geant4_pybind") and util.find_spec("xcom")), reason="needs bithep_lib[geant4]"
)
GEV = (1000.0, 1000.0001)


# The front, without a generator ---------------------------------------------------------------------------------------


def flat(job: dict, name: str = "") -> np.ndarray:
    """In place of Geant4: all voxels alike, together the incident energy."""
    n_voxels = calochallenge.geometry(job["dataset"]).n_voxels
    energy = np.array(job["energies"], np.float32)
    # One voxel is different, or the files would hold the same shower twice.
    voxels = np.repeat(energy[:, None] / n_voxels, n_voxels, axis=1)
    voxels[:, 0] += np.random.default_rng(job["seed"]).uniform(0, 1, len(energy))
    return voxels


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showers, "versions", lambda *packages, extra: dict.fromkeys(packages, "0"))
    monkeypatch.setattr(showers.tables, "table_version", lambda: "0")
    monkeypatch.setattr(showers, "run_worker", flat)


def test_discrete_energies_come_equally_often(fake: None, tmp_path: Path) -> None:
    paths = showers.generate("ds1-pions", 300, seed=4, output=tmp_path, workers=1)
    assert [path.name for path in paths] == ["ds1-pions-00000.hdf5", "ds1-pions-00001.hdf5"]
    for path in paths:
        with calochallenge.Reader(path) as file:
            energies, counts = np.unique(file.read().incident, return_counts=True)
            assert energies.tolist() == list(showers.ENERGIES["ds1-pions"])
            assert set(counts) == {31}
            assert file.metadata["config"]["seed"] == 4
            assert file.metadata["config"]["read_out"]["window_ns"] == 150
            assert set(file.metadata["config"]["read_out"]["birks"]) == {"G4_lAr", "G4_POLYSTYRENE"}
            assert "not ATLAS" in file.metadata["label"]
    loaded = calochallenge.load(tmp_path, "ds1-pions", n=300)
    assert loaded.incident[:9].tolist() != sorted(loaded.incident[:9])
    more = showers.generate("ds1-pions", 600, seed=4, output=tmp_path, workers=1)
    assert more[:2] == paths


def test_energies_uniform_in_the_logarithm() -> None:
    energy = showers.draw_energies("ds2", 4000, (1e3, 1e5), seed=1)
    counts, _ = np.histogram(np.log10(energy), bins=10, range=(3, 5))
    assert counts.sum() == 4000
    assert (np.abs(counts - 400) < 5 * 20).all()
    np.testing.assert_array_equal(energy, showers.draw_energies("ds2", 4000, (1e3, 1e5), seed=1))


@pytest.mark.parametrize("dataset", calochallenge.DATASETS)
def test_files_take_about_equally_long(dataset: str) -> None:
    for energies in (showers.ENERGIES[dataset], (1e5, 1e6)):
        size = showers.shard_size(dataset, 10**6, energies)
        total = showers.draw_energies(dataset, size * 20, energies, seed=2).sum() / 20
        assert 2e6 < total < 8e6
        assert 1 <= showers.shard_size(dataset, 1, energies) <= len(energies)


@pytest.mark.parametrize("dataset", calochallenge.DATASETS)
def test_every_layer_has_its_plates(dataset: str) -> None:
    ids = [layer for section in STACKS[dataset] for layer in section.layers]
    assert ids == [layer.id for layer in calochallenge.geometry(dataset).layers]
    assert stack(json.loads(json.dumps([asdict(section) for section in STACKS[dataset]]))) == STACKS[dataset]
    if thickness := calochallenge.geometry(dataset).layer_thickness:
        assert sum(section.length for section in STACKS[dataset]) == pytest.approx(thickness * len(ids))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "ds4"}, "dataset must be one of ds1-photons, "),
        ({"n": 0}, "n must be a positive number of showers, got 0"),
        ({"seed": -1}, "seed must be a non-negative integer, got -1"),
        ({"part": (2, 2)}, r"part must be \(i, n\) with 0 <= i < n, got \(2, 2\)"),
        (
            {"energies": (1.0, 1e3)},
            r"energies of ds2 must be the lowest and the highest value in MeV.* got \[1.0, 1000",
        ),
        ({"energies": (1e4, 1e3)}, "must be the lowest and the highest value in MeV, increasing"),
        ({"energies": (1e3,)}, "energies of ds2 must be the lowest and the highest value"),
        ({"dataset": "ds1-pions", "energies": ()}, "energies of ds1-pions must be one or more values in MeV"),
    ],
)
def test_impossible_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        showers.generate(**({"dataset": "ds2", "n": 2} | arguments))


def test_missing_wheel_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def absent(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(shards.metadata, "version", absent)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'bithep_lib\[geant4\]'"):
        calochallenge.load("simulate", "ds2", n=2)
    assert showers.main(["produce", "ds2", "-n", "2"]) == 2
    assert re.match(r"error: this simulation needs the package '\S+': install it with", capsys.readouterr().err)


def test_full_disk(fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    showers.generate("ds2", 300, output=tmp_path, workers=1)
    kept = sorted(tmp_path.iterdir())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bithep_lib.data.calochallenge.files.os.replace", full)
    with pytest.raises(OSError, match=r"could not write .*ds2-00002.hdf5.*: the disk is full"):
        showers.generate("ds2", 500, output=tmp_path, workers=1)
    assert sorted(tmp_path.iterdir()) == kept


def test_configurations_do_not_mix(fake: None, tmp_path: Path) -> None:
    showers.generate("ds2", 3, output=tmp_path, workers=1)
    with pytest.raises(ValueError, match=r"made with another configuration \(seed 1, now 2\)"):
        showers.generate("ds2", 3, seed=2, output=tmp_path, workers=1)


def test_bundle(fake: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, output = tmp_path / "made", tmp_path / "ds2-00000.hdf5"
    made = calochallenge.read(showers.generate("ds2", 300, output=folder, workers=1))
    assert showers.main(["bundle", str(folder), str(output), "-n", "250"]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    loaded = calochallenge.load(output, "ds2")
    assert len(loaded) == 250
    np.testing.assert_array_equal(loaded.incident, made.incident[:250])
    np.testing.assert_allclose(loaded.voxels, made.voxels[:250], rtol=2**-11)
    with h5py.File(output) as file:
        assert file["showers"].dtype == np.float16
        assert file["showers"].compression == "gzip"
        kept = json.loads(file.attrs["metadata"])
    assert "Not the CaloChallenge" in kept["label"]
    assert kept["config"]["seed"] == 1
    assert "index" not in kept
    before = output.read_bytes()
    assert showers.main(["bundle", str(folder), str(output), "-n", "5000"]) == 2
    assert "has 372 showers in unbroken order, 5000 asked for" in capsys.readouterr().err
    assert showers.main(["bundle", str(tmp_path / "none"), str(output)]) == 2
    assert output.read_bytes() == before
    (folder / "ds2-00000.hdf5").rename(folder / "ds2-00007.hdf5")
    with pytest.raises(FileNotFoundError, match="no produced showers"):
        bundled_showers.bundle(folder, output)
    with pytest.raises(calochallenge.DataError, match="float16 ends at 65504 MeV"):
        bundled_showers._rounded(np.array([[7e4]], np.float32), output)


# Geant4 ---------------------------------------------------------------------------------------------------------------


def job(dataset: str, sections: tuple[Section, ...], energies: list[float], **changes: object) -> dict:
    return {
        "dataset": dataset,
        "stack": [asdict(section) for section in sections],
        "physics": showers.ELECTROMAGNETIC,
        "cut": showers.CUT,
        "particle": "e-",
        "energies": energies,
        "seed": 5,
        "rebuilt_tables": True,
        "read_out": None,
    } | changes


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showers, "SHARD_ENERGY", 5e3)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two files of five electrons of 1 GeV."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(showers, "SHARD_ENERGY", 5e3)
        return showers.generate("ds2", 10, 3, energies=GEV, output=tmp_path_factory.mktemp("ds2"), workers=1)


@needs_geant4
def test_five_electrons(simulated: list[Path]) -> None:
    first, second = (calochallenge.read([path]) for path in simulated)
    assert first.voxels.shape == (5, 6480)
    np.testing.assert_allclose(first.incident, 1000, rtol=1e-6)
    assert not np.array_equal(first.voxels, second.voxels)
    voxels = np.concatenate([first.voxels, second.voxels])
    response = voxels.sum(1) / 1000
    assert 0.8 < response.mean() < 1.05
    assert (response < 1.4).all()
    assert (voxels[voxels > 0] > first.geometry.threshold).all()
    layers = voxels.reshape(10, 45, -1).sum(2).mean(0)
    assert 2 <= layers.argmax() <= 8
    rings = voxels.reshape(-1, 45 * 16, 9).sum((0, 1))
    assert 0.6 < rings[0] / rings.sum() < 0.85


@needs_geant4
def test_a_killed_worker_loses_one_file_and_the_same_call_resumes(
    simulated: list[Path], small_files: None, tmp_path: Path
) -> None:
    first, second = (tmp_path / path.name for path in simulated)

    def kill() -> None:
        while not first.exists():
            time.sleep(0.01)
        while not second.exists():
            for child in psutil.Process().children():
                if "bithep_lib.simulate.geant4.worker" in child.cmdline():
                    child.kill()
                    return
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(RuntimeError, match=r"Geant4 stopped while making ds2-00001.hdf5 \(signal SIGKILL\)"):
        showers.generate("ds2", 10, 3, energies=GEV, output=tmp_path, workers=1)
    thread.join()
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    written = first.stat().st_mtime_ns
    assert showers.generate("ds2", 10, 3, energies=GEV, output=tmp_path, workers=1) == [first, second]
    assert first.stat().st_mtime_ns == written
    # Another folder, another process, another moment: the same showers.
    for one, other in zip(simulated, (first, second), strict=True):
        assert calochallenge.read([one]).fingerprint == calochallenge.read([other]).fingerprint


@needs_geant4
def test_an_abort_of_geant4_is_an_error_with_its_last_words() -> None:
    # Option 4 needs tables that are not rebuilt: Geant4 ends the process.
    with pytest.raises(RuntimeError, match=r"Geant4 stopped while making showers \((.|\n)*G4Exception"):
        showers.run_worker(job("ds2", STACKS["ds2"], [1e3], physics=["G4EmStandardPhysics_option4"]))


@needs_geant4
def test_energy_is_conserved_in_a_block_of_read_out_tungsten() -> None:
    block = (Section((Plate("G4_W", 1.7),), 90, tuple(range(45))),)
    voxels = showers.run_worker(job("ds2", block, [2e3] * 10))
    total = voxels.sum(1) / 2e3
    assert (total <= 1 + 1e-5).all()
    # 44 radiation lengths deep, and 4.5 Moliere radii wide.
    assert 0.95 < total.mean() < 0.995


@needs_geant4
@pytest.mark.slow
@pytest.mark.parametrize(("layer", "n"), [(2, 120), (13, 60)])
def test_sampling_fractions(layer: int, n: int) -> None:
    section = next(section for section in STACKS["ds1-pions"] if layer in section.layers)
    endless = (Section(section.plates, n, section.layers, section.sampling_fraction),)
    response = showers.run_worker(job("ds1-pions", endless, [2e3] * 20)).sum(1) / 2e3
    assert response.mean() == pytest.approx(1, abs=0.01 + 3 * response.std() / np.sqrt(20))


@needs_geant4
def test_fast_muons_are_seen_as_they_are() -> None:
    def muons(seen: dict | None) -> np.ndarray:
        changes = {"particle": "mu-", "physics": showers.HADRONIC, "read_out": seen}
        return showers.run_worker(job("ds1-pions", STACKS["ds1-pions"], [1e4] * 4, **changes)).astype(np.float64)

    # The same events, scored by one scorer and by two: voxel by voxel the same, but for slow ends and few MeV.
    plain, by_law = muons(None), muons(showers.READ_OUT)
    assert (by_law <= 1.04 * plain + 1e-3).all()
    assert (by_law >= 0.9 * plain - 1).all()
    assert by_law.sum() == pytest.approx(plain.sum(), rel=0.01)


@needs_geant4
def test_electrons_of_stopped_muons_come_too_late() -> None:
    def seen(window: float) -> float:
        changes = {"particle": "mu+", "physics": showers.HADRONIC, "read_out": showers.READ_OUT | {"window_ns": window}}
        argon = (Section((Plate("G4_lAr", 400.0),), 1, (0,)),)
        return showers.run_worker(job("ds1-pions", argon, [100.0] * 40, **changes)).sum() / 40

    # The muon's 100 MeV, and about 35 of the positron that appears after 2 microseconds.
    assert seen(150.0) == pytest.approx(101, abs=6)
    assert seen(1e9) == pytest.approx(135, abs=8)


@needs_geant4
@pytest.mark.slow
def test_pions_shower_late_and_visibly_less() -> None:
    changes = {"particle": "pi+", "physics": showers.HADRONIC}
    sections, energies = STACKS["ds1-pions"], [8192.0] * 20
    voxels = showers.run_worker(job("ds1-pions", sections, energies, **changes, read_out=showers.READ_OUT))
    response = voxels.sum(1) / 8192
    # Below one on the scale of electrons, as no part of the cascade that is lost to nuclei and neutrons is made up for.
    assert 0.65 < response.mean() < 0.9
    assert response.std() > 0.06
    tiles = voxels[:, calochallenge.geometry("ds1-pions").offsets[4] :].sum() / voxels.sum()
    assert tiles > 0.2
    unsaturated = showers.run_worker(job("ds1-pions", sections, energies, **changes)).sum(1) / 8192
    assert unsaturated.mean() - response.mean() > 0.1
