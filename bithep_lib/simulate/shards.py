"""Simulation in shards: independent, seeded, resumable, written whole or not at all.

A *shard* is one file with its own random seed, so any number of processes (or cluster tasks) can fill a folder in any
order and the content is the same. Each file carries the configuration that determines it; a second call
skips what is already there and refuses to mix two configurations in one folder.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from tqdm.auto import tqdm

__all__ = ["Shard", "config_hash", "missing_extra", "plan", "produce", "seed_for", "versions"]


@dataclass(frozen=True)
class Shard:
    """One file to simulate: ``size`` examples, seeded by ``(seed, index)``; ``config`` is all that determines them."""

    path: Path
    index: int
    size: int
    seed: int
    config: Mapping


def seed_for(*key: int, upper: int = 900_000_000) -> int:
    """A seed in 1 .. ``upper`` (default: Pythia's range) from any tuple of non-negative integers.

    ``numpy.random.SeedSequence`` mixes the key, so neighbouring shards get unrelated seeds.
    """
    return 1 + int(np.random.SeedSequence(key).generate_state(1)[0]) % upper


def config_hash(config: Mapping) -> str:
    """Sixteen hexadecimal digits that identify a JSON-able configuration."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def missing_extra(package: str, extra: str) -> ModuleNotFoundError:
    """The error for an optional package that is not installed; it says how to install it."""
    return ModuleNotFoundError(
        f"this simulation needs the package {package!r}: install it with  pip install 'bithep_lib[{extra}]'"
    )


def versions(*packages: str, extra: str) -> dict[str, str]:
    """The installed version of each package.

    Raises:
        ModuleNotFoundError: a package is not installed (the message names the optional extra that brings it).
    """
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            raise missing_extra(package, extra) from None
    return found


def plan(folder: Path, stem: str, suffix: str, n: int, size: int, seed: int, config: Mapping) -> list[Shard]:
    """The shards of ``size`` examples that hold at least ``n`` examples, in order."""
    count = -(-n // size)
    return [Shard(folder / f"{stem}-{i:05d}{suffix}", i, size, seed, config) for i in range(count)]


def produce(
    shards: Sequence[Shard],
    make: Callable[[Shard], None],
    stored_config: Callable[[Path], Mapping | None],
    *,
    workers: int = 1,
    description: str = "simulating",
    unit: str = "example",
) -> list[Path]:
    """Make the shards that are not there yet, ``workers`` at a time, and return the paths of all of them.

    Args:
        make: writes one shard (module-level function: it runs in another process when ``workers`` > 1).
        stored_config: the configuration in a file, or None if the file cannot be read (it is then made again).

    Raises:
        OSError: the folder cannot be made or written to; found out before anything is simulated.
        ValueError: a file of another configuration is in the way, or ``workers`` is not positive.
    """
    if workers < 1:
        raise ValueError(f"workers must be a positive number of processes, got {workers}")
    todo = []
    for shard in shards:
        found = stored_config(shard.path) if shard.path.exists() else None
        if found is None:
            todo.append(shard)
        elif config_hash(found) != config_hash(shard.config):
            raise ValueError(
                f"{shard.path} was made with another configuration ({_differences(found, shard.config)}): "
                "choose another output folder, or move the old files away"
            )
    if todo:
        _check_writable(todo[0].path.parent)
    total = sum(shard.size for shard in shards)
    done = total - sum(shard.size for shard in todo)
    with tqdm(total=total, initial=done, unit=unit, desc=description, disable=not todo) as bar:
        try:
            for size in Parallel(n_jobs=min(workers, max(1, len(todo))), return_as="generator_unordered")(
                delayed(_made)(make, shard) for shard in todo
            ):
                bar.update(size)
        except KeyboardInterrupt:
            complete = sum(shard.path.exists() and stored_config(shard.path) is not None for shard in shards)
            kept = f", kept in {shards[0].path.parent}: the same call resumes" if complete else ""
            bar.write(f"interrupted; {complete} of {len(shards)} shards complete{kept}", file=sys.stderr)
            raise
    return [shard.path for shard in shards]


def _made(make: Callable[[Shard], None], shard: Shard) -> int:
    make(shard)
    return shard.size


def _differences(found: Mapping, now: Mapping) -> str:
    """The settings that differ, as ``process.radius 0.4, now 0.8``."""
    old, new = (_flat(json.loads(json.dumps(config))) for config in (found, now))  # stored tuples are lists
    keys = [key for key in (old | new) if old.get(key, "absent") != new.get(key, "absent")]
    return "; ".join(f"{key} {old.get(key, 'absent')}, now {new.get(key, 'absent')}" for key in keys)


def _flat(config: Mapping, prefix: str = "") -> dict[str, object]:
    flat = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _check_writable(folder: Path) -> None:
    """Make the folder and a file in it that leaves no trace: minutes of simulation must not end in a refusal."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(error.errno, f"cannot write to the output folder {folder}: {error.strerror}") from error
