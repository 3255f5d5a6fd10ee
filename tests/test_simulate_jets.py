"""Simulation in shards, and quark and gluon jets from Pythia and FastJet."""

import json
import re
import signal
import subprocess
import sys
import time
from importlib import metadata, util
from pathlib import Path

import numpy as np
import pytest

from bithep_lib.data import quark_gluon as qg
from bithep_lib.simulate import jets, shards

needs_generator = pytest.mark.skipif(
    not (util.find_spec("pythia8mc") and util.find_spec("fastjet")), reason="needs bithep_lib[simulate]"
)
SHARD = 20
N, SEED = 2 * SHARD, 3


# Shards, without a generator ------------------------------------------------------------------------------------------


def write_numbers(shard: shards.Shard) -> None:
    shard.path.parent.mkdir(exist_ok=True)
    shard.path.write_text(json.dumps(shard.config) + f"\n{shards.seed_for(shard.seed, shard.index)}")


def read_config(path: Path) -> dict | None:
    return json.loads(path.read_text().splitlines()[0]) if path.read_text() else None


def write_one_then_stop(shard: shards.Shard) -> None:
    if shard.index > 0:
        raise KeyboardInterrupt
    write_numbers(shard)


def stop(shard: shards.Shard) -> None:
    raise KeyboardInterrupt


CONFIG = {"process": {"radius": 0.4, "window": (1, 2)}, "size": 10}


def test_seeds_are_unrelated_and_in_range() -> None:
    seeds = {shards.seed_for(seed, label, index) for seed in range(20) for label in (0, 1) for index in range(50)}
    assert len(seeds) == 2000
    assert 1 <= min(seeds) < 1e7
    assert 8.9e8 < max(seeds) <= 900_000_000
    assert shards.seed_for(1, 0, 7) == shards.seed_for(1, 0, 7)


def test_config_hash_sees_every_value() -> None:
    base = {"a": 1, "b": [1.5, 2]}
    assert shards.config_hash(base) == shards.config_hash({"b": [1.5, 2], "a": 1})
    assert len({shards.config_hash(c) for c in (base, base | {"a": 2}, base | {"b": [1.5, 3]}, base | {"c": 0})}) == 4


@pytest.mark.parametrize("workers", [1, 2])
def test_produce_makes_what_is_missing(tmp_path: Path, workers: int) -> None:
    todo = shards.plan(tmp_path / "out", "part", ".txt", n=25, size=10, seed=5, config=CONFIG)
    assert [shard.path.name for shard in todo] == ["part-00000.txt", "part-00001.txt", "part-00002.txt"]
    write_numbers(todo[1])
    todo[1].path.write_text(json.dumps(CONFIG) + "\nkept")
    paths = shards.produce(todo, write_numbers, read_config, workers=workers)
    assert paths == [shard.path for shard in todo]
    assert [path.read_text().splitlines()[1] == "kept" for path in paths] == [False, True, False]
    paths[2].write_text("")  # unreadable: made again
    assert read_config(shards.produce(todo, write_numbers, read_config)[2])["size"] == 10
    with pytest.raises(ValueError, match="workers must be a positive number of processes, got 0"):
        shards.produce(todo, write_numbers, read_config, workers=0)


def test_a_differing_setting_is_named(tmp_path: Path) -> None:
    shards.produce(shards.plan(tmp_path, "part", ".txt", 10, 10, 5, CONFIG), write_numbers, read_config)
    other = {"process": CONFIG["process"] | {"radius": 0.8}, "size": 10, "tune": 3}
    message = "made with another configuration (process.radius 0.4, now 0.8; tune absent, now 3): choose another"
    with pytest.raises(ValueError, match=re.escape(message)):
        shards.produce(shards.plan(tmp_path, "part", ".txt", 10, 10, 5, other), write_numbers, read_config)


@pytest.mark.parametrize("make", [write_one_then_stop, stop])
def test_an_interruption_says_what_is_kept(make: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        shards.produce(shards.plan(tmp_path, "part", ".txt", 30, 10, 5, CONFIG), make, read_config)
    said = capsys.readouterr().err
    if make is stop:
        assert "interrupted; 0 of 3 shards complete\n" in said
        assert str(tmp_path) not in said
    else:
        assert f"interrupted; 1 of 3 shards complete, kept in {tmp_path}: the same call resumes" in said


def test_an_impossible_folder_is_refused_first(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for folder in (file, file / "below"):
        with pytest.raises(OSError, match=f"cannot write to the output folder {re.escape(str(folder))}: "):
            shards.produce(shards.plan(folder, "part", ".txt", 30, 10, 5, CONFIG), stop, read_config)
    assert file.read_text() == "mine"


def test_a_missing_generator_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def absent(package: str) -> str:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(shards.metadata, "version", absent)
    with pytest.raises(ModuleNotFoundError, match=r"'pythia8mc'.*pip install 'bithep_lib\[simulate\]'"):
        jets.generate(2, seed=1)
    with pytest.raises(ModuleNotFoundError, match="pythia8mc"):
        qg.load("simulate", n=2)
    assert jets.main(["-n", "2"]) == 2
    assert capsys.readouterr().err.startswith("error: this simulation needs the package 'pythia8mc'")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_jets": 0}, "n_jets must be a positive even number"),
        ({"n_jets": 3}, "n_jets must be a positive even number .* got 3"),
        ({"seed": -1}, "seed must be a non-negative integer, got -1"),
        ({"part": (2, 2)}, r"part must be \(i, n\) with 0 <= i < n, got \(2, 2\)"),
    ],
)
def test_impossible_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jets.generate(**({"n_jets": 2, "seed": 1} | arguments))


def test_command_line_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert jets.main(["-n", "7"]) == 2
    assert capsys.readouterr().err == "error: n_jets must be a positive even number (half quark, half gluon), got 7\n"
    with pytest.raises(SystemExit, match="2"):
        jets.main(["--part", "three"])
    assert "--part must look like 3/20, got 'three'" in capsys.readouterr().err


# The generator --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Forty jets in two files, made in this process."""
    folder = tmp_path_factory.mktemp("jets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jets, "SHARD_SIZE", SHARD)
        return jets.generate(N, SEED, folder, workers=1)


@needs_generator
def test_generated_jets_pass_every_check_of_the_loader(generated: list[Path]) -> None:
    assert [path.name for path in generated] == ["jets-00000.npz", "jets-00001.npz"]
    loaded = qg.load(generated[0].parent)
    np.testing.assert_array_equal(loaded.label, np.tile([1, 0], SHARD))
    assert loaded.constituents.shape == (N, 139, 4)
    assert set(loaded.truth) == set(qg.TRUTH)
    axis = qg.jet_momentum(loaded.constituents)
    np.testing.assert_allclose(axis["pt"], loaded.truth["jet_pt"], rtol=1e-5)
    np.testing.assert_allclose(axis["m"], loaded.truth["jet_m"], atol=1e-3)
    phi, mask = loaded.constituents[..., 2], loaded.constituents[..., 0] > 0
    assert (0 <= loaded.truth["jet_phi"]).all()
    assert (loaded.truth["jet_phi"] < 2 * np.pi).all()
    assert np.abs(phi - loaded.truth["jet_phi"][:, None])[mask].max() < 1.5
    assert (loaded.truth["pthat"] > 350).all()
    assert np.median(loaded.truth["parton_dr"]) < 0.1


@needs_generator
def test_counters_add_up_and_the_vetoes_work(generated: list[Path]) -> None:
    with np.load(generated[0]) as file:
        meta = json.loads(str(file["meta"]))
    assert set(meta["counters"]) == {"quark", "gluon"}
    for count in meta["counters"].values():
        assert count["tried"] == count["vetoed_process"] + count["vetoed_early"] + count["simulated"]
        assert SHARD // 2 <= count["accepted"] <= count["simulated"]
        assert count["vetoed_early"] > count["simulated"]
    assert meta["config"]["versions"]["pythia8mc"] == metadata.version("pythia8mc")
    assert meta["config"]["process"]["early_window"] == [465.0, 605.0]


@needs_generator
def test_shards_differ(generated: list[Path]) -> None:
    first, second = (qg.read(path) for path in generated)
    assert first.fingerprint != second.fingerprint
    assert not np.isin(first.truth["jet_pt"], second.truth["jet_pt"]).any()


@needs_generator
@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT], ids=["kill", "Ctrl-C"])
def test_a_stopped_simulation_resumes_to_the_same_files(
    stop: signal.Signals, generated: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys; from bithep_lib.simulate import jets as j; j.SHARD_SIZE = 20; sys.exit(j.main(sys.argv[1:]))"
    options = ["-n", "2000", "--seed", str(SEED), "--workers", "1", "--output", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-c", code, *options], stderr=subprocess.PIPE, text=True)
    first = tmp_path / generated[0].name
    deadline = time.monotonic() + 120
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (130 if stop == signal.SIGINT else -signal.SIGKILL), errors
    assert (re.search(r"interrupted; [1-9]\d* of 100 shards complete, kept in", errors) is not None) == (
        stop == signal.SIGINT
    )
    assert first.read_bytes() == generated[0].read_bytes()

    written = first.stat().st_mtime_ns
    second = tmp_path / generated[1].name
    second.write_bytes(generated[1].read_bytes()[:1000])  # as a crash of the whole machine could leave it
    monkeypatch.setattr(jets, "SHARD_SIZE", SHARD)
    assert jets.generate(N, SEED, tmp_path, workers=2) == [first, second]
    assert first.stat().st_mtime_ns == written
    assert second.read_bytes() == generated[1].read_bytes()


@needs_generator
def test_another_seed_does_not_mix_in(generated: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jets, "SHARD_SIZE", SHARD)
    with pytest.raises(ValueError, match=r"made with another configuration \(seed 3, now 4\)"):
        jets.generate(N, SEED + 1, generated[0].parent)
    with pytest.raises(ValueError, match=r"made with another configuration \(shard_size 20, now 10\)"):
        jets.generate(10, SEED, generated[0].parent)
    assert jets.generate(N, SEED, generated[0].parent, part=(1, 2)) == generated[1:]


@needs_generator
def test_command_line_refuses_an_impossible_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def simulated(*_: object, **__: object) -> None:
        raise AssertionError("simulated before the folder was checked")

    monkeypatch.setattr(jets, "_make_shard", simulated)
    file = tmp_path / "file"
    file.write_text("mine")
    assert jets.main(["-n", "20", "--workers", "1", "--output", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert f"cannot write to the output folder {file}: " in said
    assert said.count("\n") == 1


@needs_generator
def test_loader_simulates_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITHEP_CACHE", str(tmp_path))
    first = qg.load("simulate", n=3, seed=8, workers=1)
    assert first.label.tolist() == [1, 0, 1]
    (folder,) = (tmp_path / "quark_gluon").iterdir()
    assert folder.name.startswith("seed8-")
    assert qg.load(folder).fingerprint == qg.load("simulate", n=4, seed=8).fingerprint
