"""Produced showers as one compact file of the challenge's layout, for the samples that come with the package.

Voxels are stored as float16: eleven bits, half a per mille of a voxel's energy, and a quarter of the size.
"""

from pathlib import Path

import numpy as np

from bithep_lib.data.calochallenge import DataError, Reader, Writer

__all__ = ["bundle"]

# Metadata that differs from file to file of one production.
_PER_FILE = ("index", "seeds")


def bundle(folder: str | Path, output: str | Path, n: int | None = None) -> Path:
    """Write the first ``n`` showers of a folder of produced files to one file, and return its path.

    Args:
        folder: files of one production; one that is missing ends what is used.
        n: None: all.

    Raises:
        DataError: a file is broken, the files are of different configurations, or a voxel does not fit into float16.
        FileNotFoundError: no produced files in ``folder``.
        OSError: ``output`` cannot be written.
        ValueError: there are fewer than ``n`` showers.
    """
    found = sorted(Path(folder).expanduser().glob("*-[0-9]*.hdf5"))
    files = [path for i, path in enumerate(found) if int(path.stem.rpartition("-")[2]) == i]
    if not files:
        raise FileNotFoundError(f"no produced showers (.hdf5) in {folder}")
    with Reader(files[0]) as first:
        dataset, metadata = first.dataset, {k: v for k, v in first.metadata.items() if k not in _PER_FILE}
    metadata["storage"] = "voxels rounded to float16"
    with Writer(output, dataset, metadata=metadata, compression=9) as written:
        for path in files:
            missing = None if n is None else n - written.count
            if missing == 0:
                break
            with Reader(path, dataset) as file:
                if file.metadata.get("config_hash") != metadata.get("config_hash"):
                    raise DataError(f"{path}: made with another configuration than {files[0].name}")
                for part in file.portions(n=missing):
                    written.append(part.incident, _rounded(part.voxels, path))
        if n is not None and written.count != n:
            raise ValueError(f"{folder} has {written.count} showers in unbroken order, {n} asked for")
    return written.path


def _rounded(voxels: np.ndarray, path: Path) -> np.ndarray:
    largest = np.finfo(np.float16).max
    if voxels.max(initial=0) > largest:
        raise DataError(f"{path}: a voxel has {voxels.max():g} MeV, float16 ends at {largest:g} MeV")
    return voxels.astype(np.float16)
