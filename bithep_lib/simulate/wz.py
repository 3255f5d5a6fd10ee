"""Boosted W Z pairs from Pythia 8 and FastJet: W(-> q qbar') as one jet, Z(-> l l), with SMEFT weights.

``pp -> W Z`` at 13 TeV and leading order, W to quarks and Z to electrons or muons with full spin correlations, at
particle level. Kept is the jet of the W (anti-kT, R = 0.8) under the selection of the authors of SMEFTNet
(arXiv:2401.10323): pt > 500 GeV, both quarks within 0.6 of the jet, soft-drop mass between 70 and 110 GeV. Each event
carries its exact weights for the operators O_W and O_W~ (:mod:`bithep_lib.simulate.diboson_amplitudes`).

    python -m bithep_lib.simulate.wz -n 50000 --seed 1 --workers 2

About 60 jets per second and core. Shards hold 2 500 jets. Each records the cross-section and what became of the events
(:func:`bithep_lib.data.wz.event_counts`).
"""

import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from bithep_lib.data.cache import cache_dir
from bithep_lib.data.wz.files import encode, stored_meta
from bithep_lib.data.wz.layout import LAYOUT
from bithep_lib.files import write_atomic
from bithep_lib.simulate import command
from bithep_lib.simulate.shards import Shard, config_hash, plan, produce, seed_for, versions

__all__ = ["WZProcess", "generate", "main", "shard_size"]

SHARD_SIZE = 2500


@dataclass(frozen=True)
class WZProcess:
    """Physics and selection of the sample. Energies, momenta and masses in GeV."""

    beam_energy: float = 13_000.0
    """Energy in the pp centre of mass."""
    pthat_min: float = 350.0
    """Least transverse momentum of W and Z in the hard process; jets above 500 GeV come from 440 GeV on."""
    early_scale: float = 10.0
    """Evolution scale at which the W must have ``early_w_pt_min``."""
    early_w_pt_min: float = 480.0
    radius: float = 0.8
    clustering_pt_min: float = 200.0
    match_distance: float = 0.6
    """The jet is the hardest within this distance of the W."""
    pt_min: float = 500.0
    quark_distance_max: float = 0.6
    """Both quarks must be within this distance of the jet."""
    lepton_fraction_max: float = 0.8
    """Electrons, and muons, must carry less than this share of the jet's transverse momentum."""
    softdrop_z: float = 0.1
    softdrop_beta: float = 0.0
    mass_window: tuple[float, float] = (70.0, 110.0)
    """Soft-drop mass of the jet."""

    def settings(self, seed: int) -> list[str]:
        """Pythia's settings; everything not named here keeps its default (Monash tune, hadronisation, MPI on)."""
        return [
            "Print:quiet = on",
            f"Beams:eCM = {self.beam_energy}",
            "Random:setSeed = on",
            f"Random:seed = {seed}",
            "WeakDoubleBoson:ffbar2ZW = on",  # only the Z, no photon
            "23:onMode = off",
            "23:onIfAny = 11 13",
            "24:onMode = off",
            "24:onIfAny = 1 2 3 4 5",
            f"PhaseSpace:pTHatMin = {self.pthat_min}",
        ]


def generate(
    n_jets: int,
    seed: int,
    output: str | Path | None = None,
    workers: int = 2,
    *,
    part: tuple[int, int] = (0, 1),
) -> list[Path]:
    """Simulate ``n_jets`` W jets and return the files that hold them, in order.

    A killed or interrupted call loses at most the shards in work; the same call again resumes. The jets depend only on
    ``seed``, the configuration, ``shard_size(n_jets)`` and the versions of Pythia and FastJet, not on ``workers`` or on
    interruptions. From 2 500 jets on, a call for more jets with the same seed extends the same folder; fewer jets are
    one file, which no call for another number extends.

    Args:
        n_jets: positive; rounded up to whole shards.
        seed: a non-negative integer.
        output: a folder. Default: ``$BITHEP_CACHE/wz/seed<seed>-<configuration>``.
        workers: processes on this machine.
        part: ``(i, n)``: only every n-th shard starting with the i-th, for task i of a cluster array of n tasks.

    Raises:
        ModuleNotFoundError: pythia8mc or fastjet is not installed.
        OSError: ``output`` cannot be written to (before anything is simulated), or the disk is full.
        ValueError: an impossible argument, or files of another configuration in ``output``.
    """
    _check(n_jets, seed, part)
    size = shard_size(n_jets)
    process = WZProcess()
    config = {
        "layout": LAYOUT,
        "process": asdict(process),
        "versions": versions("pythia8mc", "fastjet", extra="simulate"),
        "seed": seed,
        "shard_size": size,
    }
    default = cache_dir("wz", f"seed{seed}-{config_hash(config)[:8]}")
    folder = default if output is None else Path(output).expanduser()
    shards = plan(folder, "wz", ".h5", n_jets, size, seed, config)[part[0] :: part[1]]
    make = partial(_make_shard, process=process)
    return produce(shards, make, _stored_config, workers=workers, description="W Z events", unit="jet")


def shard_size(n_jets: int) -> int:
    """Jets in one file: 2 500, or all of them when fewer are wanted."""
    return min(SHARD_SIZE, n_jets)


def _check(n_jets: int, seed: int, part: tuple[int, int]) -> None:
    if n_jets < 1:
        raise ValueError(f"n_jets must be a positive number of jets, got {n_jets}")
    if seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed}")
    task, tasks = part
    if not 0 <= task < tasks:
        raise ValueError(f"part must be (i, n) with 0 <= i < n, got {part}")


def _make_shard(shard: Shard, process: WZProcess) -> None:
    from bithep_lib.simulate.pythia_wz import simulate  # the optional packages are imported where they are used

    seed = seed_for(shard.seed, shard.index)
    columns, counters = simulate(process, shard.size, seed)
    meta = {
        "config": shard.config,
        "config_hash": config_hash(shard.config),
        "index": shard.index,
        "pythia_seed": seed,
        "counters": counters,
    }
    write_atomic(shard.path, encode(columns, meta))


def _stored_config(path: Path) -> dict | None:
    meta = stored_meta(path)
    return None if meta is None else meta.get("config")


def main(arguments: list[str] | None = None) -> int:
    """Command line of :func:`generate`."""
    return command.run(generate, "bithep_lib.simulate.wz", "jets in all", arguments)


if __name__ == "__main__":
    sys.exit(main())
