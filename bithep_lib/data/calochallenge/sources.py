"""One loader for the bundled sample, both simulations, the public files and your own."""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bithep_lib.data.calochallenge import public
from bithep_lib.data.calochallenge.checks import check_order, check_unique
from bithep_lib.data.calochallenge.files import Reader
from bithep_lib.data.calochallenge.geometry import geometry
from bithep_lib.data.calochallenge.showers import Showers

__all__ = ["SAMPLE", "load", "read"]

SAMPLE = Path(__file__).parents[1] / "samples" / "calochallenge"
"""Folder of the bundled Geant4 showers, ``<dataset>-00000.hdf5`` and so on; ``ds2-tail-00000.hdf5`` is apart."""

ENDINGS = (".hdf5", ".h5")
TAIL = "tail"


def load(
    source: str | Path = "sample",
    dataset: str = "ds1-photons",
    n: int | None = None,
    *,
    part: str | None = None,
    seed: int = 1,
    workers: int = 2,
) -> Showers:
    """Load and check calorimeter showers.

    Args:
        source: ``"sample"`` (bundled Geant4 showers), ``"simulate"`` (Geant4, kept in ``$BITHEP_CACHE``), ``"gflash"``
            (a parametrisation of electromagnetic showers, in seconds), ``"public"`` (the challenge's files from
            Zenodo), or the path of an HDF5 file or of a folder of them.
        dataset: "ds1-photons", "ds1-pions", "ds2" or "ds3".
        n: keep the first n showers; None is all there are, and not possible for the two simulations.
        part: of the public files, "train" or "reference" (None: both, in this order); of the bundled ds2, "tail",
            180 showers of 100 GeV to 1 TeV (None: the sample of 1 to 100 GeV, without them).
        seed: of the simulations.
        workers: processes of the Geant4 simulation.

    Raises:
        DataError: a file is broken or not what it should be (a ValueError; names file and row).
        FileNotFoundError: no such file, a folder without HDF5 files, or no sample of this data set.
        ValueError: ``dataset``, ``n`` or ``part`` is not possible.
        ModuleNotFoundError: ``"simulate"`` without the ``geant4`` extra.
    """
    geometry(dataset)  # an unknown name is refused before anything is simulated or downloaded
    if n is not None and n < 1:
        raise ValueError(f"n must be a positive number of showers or None for all, got {n}")
    if n is None and source in ("simulate", "gflash"):
        raise ValueError(f"n must be given for source={str(source)!r}: how many showers?")
    if part is not None and source != "public" and (source, part) != ("sample", TAIL):
        raise ValueError(
            f"part={part!r} is not possible for source={str(source)!r}: 'train' and 'reference' are for "
            f"source='public', {TAIL!r} is for source='sample'; take parts of other sources with split"
        )
    if source == "gflash":
        from bithep_lib.simulate import gflash  # to the right of `data`: reached only when asked for

        return gflash.generate(dataset, n, seed)
    return read(_paths(source, dataset, n, part, seed, workers), dataset, n, source=str(source))


def read(
    paths: Sequence[Path], dataset: str | None = None, n: int | None = None, *, source: str | None = None
) -> Showers:
    """Read and check files of one data set, in memory as float32; :class:`.Reader` goes through larger ones.

    Args:
        dataset: what the files must hold; None takes what the first one holds.
        n: keep the first n showers.

    Raises:
        DataError: see :mod:`.checks`.
        ValueError: there are fewer than ``n`` showers.
    """
    with ExitStack() as stack:
        files = []
        for path in paths:
            files.append(stack.enter_context(Reader(path, dataset)))
            dataset = files[0].dataset
        have = sum(map(len, files))
        total = have if n is None else n
        if have < total:
            raise ValueError(
                f"n = {n} showers asked for, but {source or paths[0]} has {have} of {dataset}: lower n (in a chapter "
                "it is the sum of all parts: lower these, or choose a smaller scale, down to scale=smoke)"
            )
        incident = np.empty(total)
        voxels = np.empty((total, files[0].geometry.n_voxels), np.float32)
        rows_of, filled = {}, 0
        for file in files:
            begin = filled
            for portion in file.portions(n=total - filled):
                rows = slice(filled, filled + len(portion))
                incident[rows], voxels[rows] = portion.incident, portion.voxels
                filled = rows.stop
            rows_of[str(file.path)] = filled - begin
    showers = Showers(incident, voxels, files[0].dataset, source or ", ".join(map(str, paths)))
    check_order(showers, showers.source)
    check_unique(showers, rows_of)
    return showers


def _paths(source: str | Path, dataset: str, n: int | None, part: str | None, seed: int, workers: int) -> list[Path]:
    if source == "sample":
        stem = dataset if part is None else f"{dataset}-{part}"
        if not (files := _files(SAMPLE, f"{stem}-[0-9]*")):
            raise FileNotFoundError(
                f"there is no bundled {part or 'sample'} of {dataset}: take source='gflash' or 'simulate'"
            )
        return files
    if source == "public":
        return public.fetch(dataset, part, n)
    if source == "simulate":
        from bithep_lib.simulate import showers  # to the right of `data`: reached only when asked for

        return showers.generate(dataset, n, seed, workers=workers)
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"source must be 'sample', 'simulate', 'gflash', 'public' or an existing path, got {str(source)!r}"
        )
    if not path.is_dir():
        return [path]
    if not (files := _files(path, "*")):
        raise FileNotFoundError(f"no HDF5 files ({' or '.join(ENDINGS)}) in {path}")
    return files


def _files(folder: Path, pattern: str) -> list[Path]:
    """Files in the order of the numbers in their names (ds2-2 before ds2-10)."""
    found = [path for path in folder.glob(pattern) if path.suffix in ENDINGS and not path.name.startswith(".")]
    return sorted(found, key=lambda p: [(int(s), s) if s.isdigit() else (-1, s) for s in re.split(r"(\d+)", p.name)])
