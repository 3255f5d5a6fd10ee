"""One loader for the bundled sample, our simulation and your own files."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from bithep_lib.data.errors import DataError
from bithep_lib.data.rows import asked_for
from bithep_lib.data.wz.checks import check_arrays, check_jets, check_unique
from bithep_lib.data.wz.jets import WZJets, concatenate
from bithep_lib.data.wz.layout import LABELS, PARTICLES, STEPS, TRUTH, WEIGHTS

__all__ = ["SAMPLE", "encode", "event_counts", "load", "read", "stored_meta"]

SAMPLE = Path(__file__).parents[1] / "samples" / "wz"
"""Ten thousand jets: ``python -m bithep_lib.simulate.wz -n 10000 --seed 2504`` (Pythia 8.317, FastJet 3.5.2)."""

PT_BITS = 11  # of the 23 of a float32's fraction


def load(
    source: str | Path = "sample",
    n: int | None = None,
    *,
    seed: int = 1,
    workers: int = 2,
) -> WZJets:
    """Load and check W jets.

    Args:
        source: ``"sample"`` (bundled, 10 000 jets), ``"simulate"`` (Pythia and FastJet, kept in ``$BITHEP_CACHE``), or
            the path of an HDF5 file of this layout or of a folder of them.
        n: keep the first n jets; None is all there are, and not possible for ``"simulate"``.
        seed: of the simulation. The bundled sample has seed 2504 and shares no jet with any other seed.
        workers: processes of the simulation.

    Raises:
        DataError: a file is broken or not what it should be (a ValueError; names file, dataset and row).
        FileNotFoundError: no such file, or a folder without HDF5 files.
        ValueError: ``n`` is not positive, or more than there are.
        ModuleNotFoundError: ``"simulate"`` without the ``simulate`` extra.
    """
    if n is not None and n < 1:
        raise ValueError(f"n must be a positive number of jets or None for all, got {n}")
    parts, have = [], 0
    for path in _paths(source, n, seed, workers):
        part = read(path)
        part = part if n is None else part[: n - have]
        parts.append(part)
        have += len(part)
        if have == n:
            break
    asked_for(n, have, source, "jets")
    jets = concatenate(parts, source=str(source))
    check_unique(jets, {part.source: len(part) for part in parts})
    return jets


def read(path: str | Path) -> WZJets:
    """Read and check one HDF5 file (see :mod:`bithep_lib.data.wz.layout`).

    Raises:
        DataError: see :mod:`bithep_lib.data.wz.checks`.
        FileNotFoundError: no such file.
    """
    file = str(path)
    arrays = _arrays(Path(path))
    check_arrays(arrays, file)
    columns = {key: arrays[key].astype(_dtype(key), copy=False) for key in (*PARTICLES, *LABELS, *WEIGHTS)}
    truth = {key: arrays[key] for key in TRUTH if key in arrays}
    jets = WZJets(**columns, truth=truth, source=file)
    check_jets(jets, file)
    return jets


def encode(columns: Mapping[str, np.ndarray], meta: Mapping) -> bytes:
    """The bytes of an HDF5 file with ``columns`` (rounded as :data:`~bithep_lib.data.wz.layout.STEPS` says) and the
    JSON of ``meta`` as attribute ``meta``."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs["meta"] = json.dumps(meta, sort_keys=True)
        for key, meaning in (PARTICLES | LABELS | WEIGHTS | TRUTH).items():
            if key in columns:
                data = file.create_dataset(
                    key, data=_rounded(key, columns[key]), compression="gzip", compression_opts=9, shuffle=True
                )
                data.attrs["meaning"] = meaning
    return content.getvalue()


def stored_meta(path: Path) -> dict | None:
    """What :func:`encode` was given as ``meta``; None if the file cannot be read or has none."""
    try:
        with h5py.File(path) as file:
            return json.loads(file.attrs["meta"])
    except (OSError, KeyError, ValueError, RuntimeError):
        return None


def event_counts(folder: str | Path = SAMPLE) -> pd.Series:
    """How many events a simulation took, and the cross-section: the counters of all files of a folder, added up.

    Returns:
        ``tried`` (hard processes), ``vetoed_early``, ``simulated`` (in full), ``in_acceptance`` (all cuts but the one
        on the soft-drop mass), ``accepted``; ``sigma_tried`` in fb, Pythia's leading-order cross-section of the tried
        processes (both charges, with branching fractions); ``sigma_accepted`` in fb, that of the selected jets, with
        the statistical error ``sigma_error`` of the number of selected jets. Times a luminosity in 1/fb: the expected
        number of events.

    Raises:
        DataError: a file was not made by ``bithep_lib.simulate.wz``.
        FileNotFoundError: no files in ``folder``.
    """
    rows = []
    for path in _h5_files(Path(folder)):
        meta = stored_meta(path)
        if meta is None or "counters" not in meta:
            raise DataError(f"{path}: no counters: not a file of bithep_lib.simulate.wz")
        rows.append(meta["counters"])
    table = pd.DataFrame(rows)
    total = table[["tried", "vetoed_early", "simulated", "in_acceptance", "accepted"]].sum()
    tried = float(np.average(table["sigma_fb"], weights=table["tried"]))
    efficiency = total["accepted"] / total["tried"]
    error = np.sqrt((1 - efficiency) / total["accepted"])
    sigma = {"sigma_tried": tried, "sigma_accepted": tried * efficiency, "sigma_error": tried * efficiency * error}
    return pd.concat([total.astype(object), pd.Series(sigma, dtype=object)])


def _rounded(key: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values).astype(_dtype(key))
    if key in STEPS:
        return np.round(values / np.float32(STEPS[key])) * np.float32(STEPS[key])
    if key == "pt":
        drop = 23 - PT_BITS
        return (((values.view(np.uint32) + (1 << (drop - 1))) >> drop) << drop).view(np.float32)
    return values


def _dtype(key: str) -> type:
    if key in WEIGHTS:
        return np.float64
    return np.int16 if key in ("pid", "n_particles", "w_charge") else np.float32


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    needed = (*PARTICLES, *LABELS, *WEIGHTS)
    try:
        with h5py.File(path) as file:
            missing = [key for key in needed if not isinstance(file.get(key), h5py.Dataset)]
            if missing:
                raise DataError(f"{path}: a file of W Z jets has datasets {list(needed)}; here {missing} are missing")
            return {key: file[key][()] for key in (*needed, *(key for key in TRUTH if key in file))}
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable HDF5 file, damaged or incomplete ({error})") from error


def _paths(source: str | Path, n: int | None, seed: int, workers: int) -> list[Path]:
    if source == "sample":
        return _h5_files(SAMPLE)
    if source == "simulate":
        if n is None:
            raise ValueError("n must be given for source='simulate': how many jets?")
        from bithep_lib.simulate import wz  # to the right of `data`: reached only when asked for

        return wz.generate(n, seed, workers=workers)
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"source must be 'sample', 'simulate' or an existing path, got {str(source)!r}")
    return _h5_files(path) if path.is_dir() else [path]


def _h5_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.h5"))
    if not files:
        raise FileNotFoundError(f"no HDF5 files (*.h5) in {folder}")
    return files
