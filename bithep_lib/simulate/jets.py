"""Quark and gluon jets from Pythia 8 and FastJet, made the way EnergyFlow's public set was made.

``pp -> Z(-> nu nubar) + parton`` at 14 TeV: ``q g -> Z q`` with q = u, d, s gives quark jets, ``q qbar -> Z g`` gluon
jets; the leading anti-kT jet (R = 0.4) of all visible particles with 500 < pt < 550 GeV and abs(y) < 1.7 is kept, at
particle level (Komiske, Metodiev, Thaler, arXiv:1810.05165, doi:10.5281/zenodo.3164691; used by arXiv:2504.03387,
section 3).

    python -m bithep_lib.simulate.jets -n 50000 --seed 1 --workers 2

About 25 jets per second and core. Shards hold 2 500 jets, quark and gluon in turn, so any number of shards is balanced.
"""

import io
import json
import sys
import zipfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bithep_lib.data.cache import cache_dir
from bithep_lib.data.quark_gluon.layout import GLUON, QUARK
from bithep_lib.files import write_atomic
from bithep_lib.simulate import command
from bithep_lib.simulate.shards import Shard, config_hash, plan, produce, seed_for, versions

__all__ = ["JetProcess", "generate", "main", "shard_size"]

SHARD_SIZE = 2500
PROCESSES = {"quark": "WeakBosonAndParton:qg2gmZq", "gluon": "WeakBosonAndParton:qqbar2gmZg"}


@dataclass(frozen=True)
class JetProcess:
    """Physics and selection of the sample. Energies and momenta in GeV."""

    beam_energy: float = 14_000.0
    """Energy in the pp centre of mass."""
    radius: float = 0.4
    pt_min: float = 500.0
    pt_max: float = 550.0
    rapidity_max: float = 1.7
    pthat_min: float = 350.0
    """Hard-process window; 350-1000 keeps all gluon and 95 % of quark jets of the unrestricted sample."""
    pthat_max: float = 1000.0
    parton_rapidity_max: float = 2.1
    """First veto: outgoing parton outside, or charm or bottom."""
    early_scale: float = 10.0
    """Second veto: evolution scale at which the leading parton-level jet must lie in ``early_window``."""
    early_window: tuple[float, float] = (465.0, 605.0)
    early_rapidity_max: float = 1.85
    clustering_pt_min: float = 100.0

    def settings(self, kind: str, seed: int) -> list[str]:
        """Pythia's settings; everything not named here keeps its default (Monash tune, hadronisation, MPI on)."""
        return [
            "Print:quiet = on",
            f"Beams:eCM = {self.beam_energy}",
            "Random:setSeed = on",
            f"Random:seed = {seed}",
            f"{PROCESSES[kind]} = on",
            "WeakZ0:gmZmode = 2",  # only the Z, no photon
            "23:onMode = off",
            "23:onIfAny = 12 14 16",
            f"PhaseSpace:pTHatMin = {self.pthat_min}",
            f"PhaseSpace:pTHatMax = {self.pthat_max}",
        ]


def generate(
    n_jets: int,
    seed: int,
    output: str | Path | None = None,
    workers: int = 2,
    *,
    part: tuple[int, int] = (0, 1),
) -> list[Path]:
    """Simulate ``n_jets`` jets, half quark and half gluon, and return the files that hold them, in order.

    A killed or interrupted call loses at most the shards in work; the same call again resumes. The jets depend only on
    ``seed``, the configuration, ``shard_size(n_jets)`` and the versions of Pythia and FastJet, not on ``workers`` or on
    interruptions. From 2 500 jets on, a call for more jets with the same seed extends the same folder; fewer jets are
    one file, which no call for another number extends.

    Args:
        n_jets: even and positive; rounded up to whole shards.
        seed: a non-negative integer.
        output: a folder. Default: ``$BITHEP_CACHE/quark_gluon/seed<seed>-<configuration>``.
        workers: processes on this machine.
        part: ``(i, n)``: only every n-th shard starting with the i-th, for task i of a cluster array of n tasks.

    Raises:
        ModuleNotFoundError: pythia8mc or fastjet is not installed.
        OSError: ``output`` cannot be written to (before anything is simulated), or the disk is full.
        ValueError: an impossible argument, or files of another configuration in ``output``.
    """
    _check(n_jets, seed, part)
    size = shard_size(n_jets)
    process = JetProcess()
    config = {
        "process": asdict(process),
        "versions": versions("pythia8mc", "fastjet", extra="simulate"),
        "seed": seed,
        "shard_size": size,
    }
    default = cache_dir("quark_gluon", f"seed{seed}-{config_hash(config)[:8]}")
    folder = default if output is None else Path(output).expanduser()
    shards = plan(folder, "jets", ".npz", n_jets, size, seed, config)[part[0] :: part[1]]
    make = partial(_make_shard, process=process)
    return produce(shards, make, _stored_config, workers=workers, description="quark and gluon jets", unit="jet")


def shard_size(n_jets: int) -> int:
    """Jets in one file: 2 500, or all of them when fewer are wanted."""
    return min(SHARD_SIZE, n_jets)


def _check(n_jets: int, seed: int, part: tuple[int, int]) -> None:
    if n_jets < 2 or n_jets % 2:
        raise ValueError(f"n_jets must be a positive even number (half quark, half gluon), got {n_jets}")
    if seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed}")
    task, tasks = part
    if not 0 <= task < tasks:
        raise ValueError(f"part must be (i, n) with 0 <= i < n, got {part}")


def _make_shard(shard: Shard, process: JetProcess) -> None:
    from bithep_lib.simulate.pythia_jets import simulate  # the optional packages are imported where they are used

    classes, counters, seeds = [], {}, {}
    for label, kind in ((QUARK, "quark"), (GLUON, "gluon")):
        seeds[kind] = seed_for(shard.seed, label, shard.index)
        particles, truth, counters[kind] = simulate(process, kind, shard.size // 2, seeds[kind])
        classes.append({"X": particles, "y": np.full(len(particles), label, np.int8), **truth})
    arrays = {key: _alternated(classes[0][key], classes[1][key]) for key in classes[0]}
    arrays = {key: a.astype(np.float32) if a.dtype == np.float64 else a for key, a in arrays.items()}
    meta = {
        "config": shard.config,
        "config_hash": config_hash(shard.config),
        "index": shard.index,
        "seeds": seeds,
        "counters": counters,
    }
    content = io.BytesIO()
    np.savez_compressed(content, **arrays, meta=np.array(json.dumps(meta, sort_keys=True)))
    write_atomic(shard.path, content.getvalue())


def _alternated(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rows of two arrays in turn; the narrower one is padded with zeros along axis 1."""
    if first.ndim > 1 and first.shape[1] != second.shape[1]:
        width = max(first.shape[1], second.shape[1])
        first, second = (np.pad(a, ((0, 0), (0, width - a.shape[1]), (0, 0))) for a in (first, second))
    return np.stack((first, second), axis=1).reshape(2 * len(first), *first.shape[1:])


def _stored_config(path: Path) -> dict | None:
    try:
        with np.load(path) as file:
            return json.loads(str(file["meta"]))["config"]
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError):
        return None


def main(arguments: list[str] | None = None) -> int:
    """Command line of :func:`generate`."""
    return command.run(generate, "bithep_lib.simulate.jets", "jets in all, half quark and half gluon", arguments)


if __name__ == "__main__":
    sys.exit(main())
