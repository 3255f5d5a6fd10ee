"""One loader for the bundled sample, our simulation, the public files and your own."""

import json
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from bithep_lib.data.quark_gluon import public
from bithep_lib.data.quark_gluon.checks import (
    DataError,
    check_arrays,
    check_classes,
    check_jets,
    check_labels,
    check_unique,
)
from bithep_lib.data.quark_gluon.jets import Jets, concatenate
from bithep_lib.data.quark_gluon.kinematics import jet_momentum, wrap_phi
from bithep_lib.data.quark_gluon.layout import GLUON, QUARK, TRUTH
from bithep_lib.data.rows import asked_for

__all__ = ["SAMPLE", "event_counts", "load", "read"]

SAMPLE = Path(__file__).parents[1] / "samples" / "quark_gluon"
"""Ten thousand jets: ``python -m bithep_lib.simulate.jets -n 10000 --seed 2504`` (Pythia 8.317, FastJet 3.5.2)."""


def load(
    source: str | Path = "sample",
    n: int | None = None,
    *,
    seed: int = 1,
    workers: int = 2,
) -> Jets:
    """Load and check quark and gluon jets.

    Args:
        source: ``"sample"`` (bundled, 10 000 jets), ``"simulate"`` (Pythia and FastJet, kept in ``$BITHEP_CACHE``),
            ``"public"`` (EnergyFlow's files from Zenodo), or the path of an npz file or of a folder of them, which may
            hold jets of any pt and radius.
        n: keep the first n jets (simulated ones alternate between quark and gluon, public ones are shuffled);
            None is all there are, and not possible for ``"simulate"``.
        seed: of the simulation. The bundled sample has seed 2504 and shares no jet with any other seed.
        workers: processes of the simulation.

    Raises:
        DataError: a file is broken or not what it should be (a ValueError; names file, array and row).
        FileNotFoundError: no such file, or a folder without npz files.
        ValueError: ``n`` is not positive, or more than there are.
        ModuleNotFoundError: ``"simulate"`` without the ``simulate`` extra.
    """
    if n is not None and n < 1:
        raise ValueError(f"n must be a positive number of jets or None for all, got {n}")
    standard = source in ("sample", "simulate", "public")
    parts, labels, have, rows_of = [], [], 0, {}
    for path in _paths(source, n, seed, workers):
        part = read(path, standard)
        check_labels(part, str(path), standard)
        labels.append(part.label)  # all of them: a single jet of a file with both classes is fine
        part = part if n is None else part[: n - have]
        parts.append(part)
        rows_of[str(path)] = len(part)
        have += len(part)
        if have == n:
            break
    asked_for(n, have, source, "jets")
    check_classes(np.concatenate(labels), str(source) if len(rows_of) > 1 else next(iter(rows_of)))
    jets = concatenate(parts, source=str(source))
    check_unique(jets, rows_of)
    return jets


def read(path: Path, standard: bool = False) -> Jets:
    """Read and check one npz file with ``X`` (N, M, 4) and ``y`` (N,) (see the module ``layout``).

    Particles are put in descending pt where they are not, and phi within pi of the jet's.

    Args:
        standard: insist on EnergyFlow's selection, 500 < pt < 550 GeV and abs(y) < 1.7.

    Raises:
        DataError: see :mod:`bithep_lib.data.quark_gluon.checks`.
    """
    file = str(path)
    arrays = _arrays(path)
    simulated = "meta" in arrays
    check_arrays(arrays, file, ordered=simulated)
    x = arrays["X"].astype(np.float32, copy=False)
    if not simulated:
        order = np.argsort(-x[..., 0], axis=1, kind="stable")
        x = np.take_along_axis(x, order[..., None], axis=1)
    truth = {key: arrays[key] for key in TRUTH if key in arrays}
    jets = Jets(x, arrays["y"].astype(np.int8), truth, file)
    check_jets(jets, file, standard)
    if not simulated:
        jet_phi = jet_momentum(x)["phi"][:, None]
        x[..., 2] = np.where(x[..., 0] > 0, jet_phi + wrap_phi(x[..., 2].astype(np.float64) - jet_phi), 0)
    return jets


def event_counts(folder: str | Path = SAMPLE) -> pd.DataFrame:
    """How many events a simulation took: the counters of all files of a folder, added up.

    Returns:
        rows ``quark``, ``gluon``; columns ``tried`` (hard processes), ``vetoed_process``, ``vetoed_early`` (dropped
        before the expensive part), ``simulated`` (in full), ``accepted`` (leading jet in the window), ``jets`` (kept).

    Raises:
        DataError: a file was not made by ``bithep_lib.simulate.jets``.
    """
    total = 0
    for path in _npz_files(Path(folder)):
        arrays = _arrays(path)
        if "meta" not in arrays:
            raise DataError(f"{path}: no array 'meta': not a file of bithep_lib.simulate.jets")
        table = pd.DataFrame.from_dict(json.loads(str(arrays["meta"]))["counters"], orient="index")
        table["jets"] = pd.Series({"quark": (arrays["y"] == QUARK).sum(), "gluon": (arrays["y"] == GLUON).sum()})
        total = table + total
    return total.loc[["quark", "gluon"], ["tried", "vetoed_process", "vetoed_early", "simulated", "accepted", "jets"]]


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as content:
            magic = content.read(6)
        if magic and not magic.startswith((b"PK", b"\x93NUMPY")):
            raise DataError(f"{path}: is not an npz file (numpy.savez writes one; it must hold 'X' and 'y')")
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise DataError(f"{path}: a single array, not an npz file with 'X' and 'y'")
        with file:
            if not {"X", "y"} <= set(file.files):
                raise DataError(
                    f"{path}: a jet file has arrays 'X' (N, M, 4) and 'y' (N,), this one has {sorted(file.files)}"
                )
            return {key: file[key] for key in file.files if key in ("X", "y", "meta", *TRUTH)}
    except (DataError, FileNotFoundError):
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable npz file, damaged or incomplete ({error})") from error


def _paths(source: str | Path, n: int | None, seed: int, workers: int) -> list[Path]:
    if source == "sample":
        return _npz_files(SAMPLE)
    if source == "public":
        return public.fetch(len(public.FILES) if n is None else -(-n // public.JETS_PER_FILE))
    if source == "simulate":
        if n is None:
            raise ValueError("n must be given for source='simulate': how many jets?")
        from bithep_lib.simulate import jets  # to the right of `data`: reached only when asked for

        return jets.generate(n + n % 2, seed, workers=workers)
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"source must be 'sample', 'simulate', 'public' or an existing path, got {str(source)!r}"
        )
    return _npz_files(path) if path.is_dir() else [path]


def _npz_files(folder: Path) -> list[Path]:
    """Files in the order of the numbers in their names (jets_2 before jets_10)."""
    files = sorted(
        folder.glob("*.npz"),
        key=lambda p: [(int(s), s) if s.isdigit() else (-1, s) for s in re.split(r"(\d+)", p.name)],
    )
    if not files:
        raise FileNotFoundError(f"no npz files in {folder}")
    return files
