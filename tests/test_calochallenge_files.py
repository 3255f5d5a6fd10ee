"""Showers in the challenge's files: what is read and written, what is refused and why, and what is downloaded."""

import errno
import hashlib
import http.server
import os
import resource
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_calochallenge import make

from bithep_lib.data import calochallenge
from bithep_lib.data.calochallenge import DataError, Reader, Showers, Writer, public, write


def raw(path: Path, incident: np.ndarray, voxels: np.ndarray, **others: np.ndarray) -> Path:
    """A file as other programs write it, with any content."""
    with h5py.File(path, "w") as file:
        file.create_dataset("incident_energies", data=incident, compression="gzip")
        file.create_dataset("showers", data=voxels, compression="gzip")
        for name, array in others.items():
            file[name] = array
    return path


@pytest.fixture(scope="module")
def showers() -> Showers:
    return make("ds1-photons", 300)


@pytest.mark.parametrize("dataset", calochallenge.DATASETS)
def test_round_trip_to_the_bit(dataset: str, tmp_path: Path) -> None:
    made = make(dataset, 7)
    path = write(tmp_path / "made.hdf5", made)
    assert calochallenge.read([path]).fingerprint == made.fingerprint
    with h5py.File(path) as file:
        assert set(file) == {"incident_energies", "showers"}
        assert file["incident_energies"].shape == (7, 1)
        assert file["showers"].shape == (7, made.geometry.n_voxels)
        assert file["showers"].compression == "gzip"


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_published_layout_round_trips_to_the_bit(dtype: type, showers: Showers, tmp_path: Path) -> None:
    # As published: float64, chunked across rows and columns, gzip. The bundled samples are float16, up to 65 GeV.
    showers = showers[showers.incident <= 65_536]
    incident, voxels = showers.incident[:, None], (showers.voxels / 7).astype(dtype)
    n = len(showers)
    with Reader(raw(tmp_path / "dataset_1_photons_1.hdf5", incident, voxels)) as file:
        assert (len(file), file.dataset, file.metadata) == (n, "ds1-photons", {})
        with Writer(tmp_path / "copy.hdf5", file.dataset) as copy:
            for start in range(0, n, 64):
                copy.append(*file.arrays(start, start + 64))
    with h5py.File(tmp_path / "copy.hdf5") as file:
        for key, original in (("incident_energies", incident), ("showers", voxels)):
            assert file[key].dtype == original.dtype
            assert file[key][:].tobytes() == original.tobytes()


def test_streaming(showers: Showers, tmp_path: Path) -> None:
    seen = []

    def portions() -> Iterator[Showers]:
        for start in range(0, 300, 45):
            seen.append(start)
            yield showers[start : start + 45]

    path = write(tmp_path / "new" / "streamed.hdf5", portions(), n=300, metadata={"generator": "test", "seed": 1})
    assert seen == list(range(0, 300, 45))
    with Reader(path) as file:
        assert len(file) == 300
        assert file.metadata == {"generator": "test", "seed": 1}
        assert [len(part) for part in file.portions(128)] == [128, 128, 44]
        assert [len(part) for part in file.portions(128, n=130)] == [128, 2]
        assert np.concatenate([part.voxels for part in file]).tobytes() == showers.voxels.tobytes()
        assert file.read(10, 12).fingerprint == showers[10:12].fingerprint


def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    with Writer(tmp_path / "large.hdf5", "ds2") as file:
        for _ in range(4):
            file.append(np.full(1000, 1e4), np.full((1000, 6480), 1.0, np.float32))
    with Reader(tmp_path / "large.hdf5") as file:
        sizes = [len(part) for part in file]
        assert sum(sizes) == 4000
        assert max(sizes) * 6480 * 8 <= 64 << 20


@pytest.mark.parametrize("n", [299, 301])
def test_the_number_is_exact_or_nothing_is_written(n: int, showers: Showers, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{n} showers expected, got 300; nothing written"):
        write(tmp_path / "file.hdf5", showers, n=n)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_lost(showers: Showers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "file.hdf5", showers[:10])
    before = path.read_bytes()

    def interrupted() -> Iterator[Showers]:
        yield showers[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, interrupted())
    broken = Showers(showers.incident, np.where(showers.voxels > 1e4, np.nan, showers.voxels), "ds1-photons")
    with pytest.raises(DataError, match="is not finite"):
        write(path, broken)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="could not write .*file.hdf5: the disk is full"):
            write(path, showers)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["file.hdf5"]
    write(path, showers)
    assert len(calochallenge.read([path])) == 300


def test_disk_full_while_writing(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = make("ds2", 200)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limit[1]))  # what a full disk does: writing fails half-way
        with pytest.raises(OSError, match="could not write .*a.hdf5: .*; nothing of it is kept"):
            write(tmp_path / "a.hdf5", (large for _ in range(3)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses(showers: Showers, tmp_path: Path) -> None:
    path = tmp_path / "file.hdf5"
    with pytest.raises(
        ValueError, match=r"ds2 needs energies \(n, 1\) and voxels \(n, 6480\), got \(300,\) and \(300, 3"
    ):
        with Writer(path, "ds2") as file:
            file.append(showers.incident, showers.voxels)
    with pytest.raises(ValueError, match="no showers were written"), Writer(path, "ds2"):
        pass
    with pytest.raises(ValueError, match="no showers to write"):
        write(path, [])
    with pytest.raises(ValueError, match="one file holds one data set, got ds1-photons and ds2"):
        write(path, [showers, make("ds2", 2)])
    with pytest.raises(ValueError, match="dataset must be one of"):
        Writer(path, "ds4")
    with pytest.raises(DataError, match="showers must be floating-point numbers in MeV, got int64"):
        write(path, [Showers(showers.incident, showers.voxels.astype(int), "ds1-photons")])
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match="cannot write .*taken/file.hdf5"):
        write(tmp_path / "taken" / "file.hdf5", showers)
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


# Broken and mistaken files --------------------------------------------------------------------------------------------


def test_not_a_shower_file(showers: Showers, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        Reader(tmp_path / "none.hdf5")
    (tmp_path / "text.hdf5").write_text("incident_energies")
    with pytest.raises(DataError, match="text.hdf5: not a readable HDF5 file"):
        Reader(tmp_path / "text.hdf5")
    path = write(tmp_path / "cut.hdf5", showers)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match="cut.hdf5: not a readable HDF5 file, damaged or incomplete"):
        Reader(path)
    path = raw(tmp_path / "keys.hdf5", showers.incident, showers.voxels)
    with h5py.File(path, "a") as file:
        file.move("incident_energies", "energies")
    with pytest.raises(
        DataError, match=r"has arrays 'incident_energies' and 'showers', this one has \['energies', 'sho"
    ):
        Reader(path)


def test_damaged_in_the_middle(showers: Showers, tmp_path: Path) -> None:
    path = write(tmp_path / "damaged.hdf5", showers)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged.hdf5"):
        calochallenge.read([path])


def test_wrong_shapes(showers: Showers, tmp_path: Path) -> None:
    e, v = showers.incident[:, None], showers.voxels
    for name, incident, voxels, message in [
        ("exchanged", v, e, r"must be \(N, 1\) and showers \(N, voxels\), got \(300, 368\) and \(300, 1\)"),
        ("rows", e[:-1], v, r"got \(299, 1\) and \(300, 368\)"),
        ("image", e, v.reshape(300, 46, 8), r"got \(300, 1\) and \(300, 46, 8\)"),
        ("odd", e, v[:, 1:], r"has 367 voxels, which fits none of the four data sets; expected ds1-photons 368, ds1-p"),
        ("text", e.astype("S8"), v, r"incident_energies must be numbers, got \|S8"),
    ]:
        with pytest.raises(DataError, match=message):
            Reader(raw(tmp_path / f"{name}.hdf5", incident, voxels))
    with pytest.raises(DataError, match="has 368 voxels, which are those of ds1-photons; expected ds1-pions 533"):
        calochallenge.load(raw(tmp_path / "photons.hdf5", e, v), "ds1-pions")


def changed(array: np.ndarray, index: tuple[int, ...], value: float) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


def test_impossible_showers(showers: Showers, tmp_path: Path) -> None:
    e, v = showers.incident, showers.voxels
    row = int(np.argmax(e))
    near = 1e4 * (e / e.min()) ** 0.3  # so close that no response is absurd
    for incident, voxels, message in [
        (changed(e, (7,), np.nan), v, "incident_energies row 7 = nan is not finite"),
        (changed(e, (7,), 0), v, "incident_energies row 7 = 0 is not positive: an energy in MeV is needed"),
        (changed(e, (7,), -256), v, "incident_energies row 7 = -256 is not positive"),
        (e / 1e4, v / 1e4, r"is below 50 MeV: is this in GeV\?"),
        (e * 1e6, v * 1e6, r"is above 1e\+08 MeV: is this in keV\?"),
        (e, changed(v, (9, 200), np.nan), r"showers row 9, voxel 200 \(layer 2\) = nan is not finite"),
        (e, changed(v, (9, 367), np.inf), r"showers row 9, voxel 367 \(layer 12\) = inf is not finite"),
        (e, changed(v, (11, 3), -0.5), r"showers row 11, voxel 3 \(layer 0\) = -0.5 MeV is negative"),
        (e, changed(v, (row, 0), 100 * e[row]), rf"row {row} has .* times the incident .*in GeV \(both must be in"),
        (e, v / 1e3, r"voxels hold 0.0009 of the incident energy \(median\): is one of the two arrays in GeV"),
        (e, v[::-1], r"times the incident 256 MeV: .*or in another order than the other\?"),
        (
            near,
            np.float32(0.9) * v[::-1] * (near[::-1] / e[::-1])[:, None],
            r"hardly related \(rank correlation -?0.\d\d\): was one of the two arrays shuffled or sorted",
        ),
    ]:
        with pytest.raises(DataError, match=message) as error:
            calochallenge.load(raw(tmp_path / "impossible.hdf5", incident, voxels))
        assert str(tmp_path / "impossible.hdf5") in str(error.value)


def test_showers_without_energy_are_possible(showers: Showers, tmp_path: Path) -> None:
    voxels = showers.voxels.copy()
    voxels[::10] = 0
    assert len(calochallenge.load(raw(tmp_path / "empty.hdf5", showers.incident, voxels))) == 300


def test_rows_are_those_of_the_file(showers: Showers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bithep_lib.data.calochallenge.files.PORTION", 100 * 8 * 368)
    path = raw(tmp_path / "late.hdf5", showers.incident, changed(showers.voxels, (250, 1), np.nan))
    with pytest.raises(DataError, match="showers row 250, voxel 1"):
        calochallenge.load(path)
    assert len(calochallenge.load(path, n=200)) == 200  # what is not read is not judged


def test_the_same_file_twice(showers: Showers, tmp_path: Path) -> None:
    write(tmp_path / "a-1.hdf5", showers[:200])
    write(tmp_path / "a-2.hdf5", showers[200:])
    both = calochallenge.load(tmp_path)
    assert both.fingerprint == showers.fingerprint
    write(tmp_path / "b.h5", showers[190:250])
    with pytest.raises(DataError, match=r"the same shower is in \S+a-1.hdf5 row 190 and \S+b.h5 row 0, and 60 of 360"):
        calochallenge.load(tmp_path)


def test_single_hits_may_repeat(showers: Showers, tmp_path: Path) -> None:
    voxels = showers.voxels.copy()
    voxels[:20] = 0
    voxels[:20, 5] = 100.0  # low-energy pions often light one voxel
    incident = showers.incident.copy()
    incident[:20] = 256
    assert len(calochallenge.load(raw(tmp_path / "hits.hdf5", incident, voxels))) == 300


# Sources --------------------------------------------------------------------------------------------------------------


def test_load_reads_folders_in_the_order_of_their_numbers(showers: Showers, tmp_path: Path) -> None:
    for i, name in enumerate(("part-1.hdf5", "part-2.hdf5", "part-10.hdf5")):
        write(tmp_path / name, showers[100 * i : 100 * i + 100])
    (tmp_path / "readme.txt").write_text("not data")
    loaded = calochallenge.load(tmp_path, n=250)
    assert loaded.fingerprint == showers[:250].fingerprint
    assert loaded.source == str(tmp_path)


def test_load_refuses(showers: Showers, tmp_path: Path) -> None:
    write(tmp_path / "a.hdf5", showers)
    with pytest.raises(ValueError, match="n = 301 showers asked for, but .* has 300 of ds1-photons: lower n"):
        calochallenge.load(tmp_path, n=301)
    with pytest.raises(ValueError, match="n must be a positive number of showers or None for all, got 0"):
        calochallenge.load(tmp_path, n=0)
    with pytest.raises(ValueError, match="n must be given for source='simulate': how many showers"):
        calochallenge.load("simulate")
    with pytest.raises(ValueError, match="n must be given for source='gflash'"):
        calochallenge.load("gflash", "ds2")
    with pytest.raises(ValueError, match=r"dataset must be one of .*got 'ds5'"):
        calochallenge.load("simulate", "ds5", n=3)
    with pytest.raises(ValueError, match=r"part='train' is not possible for source='sample': 'train' and .*with split"):
        calochallenge.load("sample", part="train")
    with pytest.raises(FileNotFoundError, match="there is no bundled tail of ds1-photons"):
        calochallenge.load("sample", part="tail")
    with pytest.raises(FileNotFoundError, match="source must be 'sample', .*or an existing path, got 'sampel'"):
        calochallenge.load("sampel")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no HDF5 files \(.hdf5 or .h5\) in"):
        calochallenge.load(tmp_path / "empty")
    with pytest.raises(
        FileNotFoundError, match="there is no bundled sample of ds3: take source='gflash' or 'simulate'"
    ):
        calochallenge.load("sample", "ds3")


# Public files ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def zenodo(showers: Showers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server with two small files under the names and the folder of the record of ds1."""
    folder = tmp_path / "server" / "8099322" / "files"
    sums = {}
    for name, part in (("dataset_1_photons_1.hdf5", showers[:180]), ("dataset_1_photons_2.hdf5", showers[180:])):
        path = write(folder / name, part)
        sums[name] = hashlib.md5(path.read_bytes()).hexdigest()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "server"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("BITHEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(public, "BASE_URL", f"http://127.0.0.1:{server.server_port}/{{record}}/files/")
    monkeypatch.setitem(public.FILES, "ds1-photons", sums)
    monkeypatch.setitem(public.SHOWERS, "ds1-photons", 180)
    monkeypatch.setattr(public, "RETRIES", 0)
    yield folder
    server.shutdown()
    server.server_close()


def test_public_files_are_fetched_once(zenodo: Path, showers: Showers) -> None:
    assert calochallenge.load("public", n=150).fingerprint == showers[:150].fingerprint
    cache = Path(os.environ["BITHEP_CACHE"]) / "calochallenge" / "public"
    assert sorted(path.name for path in cache.iterdir()) == ["dataset_1_photons_1.hdf5"]  # no more than needed
    assert calochallenge.load("public", part="reference").fingerprint == showers[180:].fingerprint
    shutil.rmtree(zenodo)
    assert calochallenge.load("public").fingerprint == showers.fingerprint  # from the cache
    assert calochallenge.load("public", part="train").source == "public"
    with pytest.raises(ValueError, match="part must be 'train' or 'reference', or None for both, got 'test'"):
        calochallenge.load("public", part="test")


def test_wrong_public_file_is_refused(zenodo: Path, showers: Showers) -> None:
    write(zenodo / "dataset_1_photons_1.hdf5", showers[:179])
    with pytest.raises(ValueError, match="hash"):
        calochallenge.load("public", part="train")


def test_public_table() -> None:
    names = [name for files in public.FILES.values() for name in files]
    sums = [md5 for files in public.FILES.values() for md5 in files.values()]
    assert len(set(names)) == len(set(sums)) == 10
    assert all(len(md5) == 32 and int(md5, 16) for md5 in sums)
    assert set(public.FILES) == set(public.RECORDS) == set(public.SHOWERS) == set(calochallenge.DATASETS)
