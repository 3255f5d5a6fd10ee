"""The challenge's HDF5 files, read and written in portions, so that no large file is ever in memory as a whole.

A file holds two arrays: ``incident_energies`` (N, 1) and ``showers`` (N, n_voxels), both in MeV, compressed with gzip.
Files written here may also carry ``metadata``, a JSON text among the attributes of the file; other programs ignore it.
"""

import errno
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from bithep_lib.data.calochallenge.checks import DataError, check_showers
from bithep_lib.data.calochallenge.geometry import DATASETS, Geometry, dataset_of_size, geometry
from bithep_lib.data.calochallenge.showers import Showers

__all__ = ["Reader", "Writer", "write"]

ENERGIES, SHOWERS = "incident_energies", "showers"
PORTION = 64 << 20  # bytes of voxels, as float64: what a loop over a file holds in memory
CHUNK = 1 << 20  # bytes of voxels that HDF5 compresses together


class Reader:
    """An open file of showers: a context manager with a length.

    >>> with Reader("dataset_2_1.hdf5") as file:      # doctest: +SKIP
    ...     print(len(file), file.dataset)
    ...     total = sum(part.voxels.sum() for part in file)
    100000 ds2

    Attributes:
        path: of the file.
        dataset: "ds1-photons", "ds1-pions", "ds2" or "ds3", known by the number of voxels.
        metadata: what the writer said about the file; empty for the public files.
    """

    def __init__(self, path: str | Path, dataset: str | None = None) -> None:
        """Open a file and check its layout (not yet its numbers).

        Args:
            dataset: the data set it must be, None for any.

        Raises:
            FileNotFoundError: no such file.
            DataError: not HDF5, an array is missing or has the wrong shape, or the voxels are of another data set.
        """
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            raise FileNotFoundError(f"no such file: {self.path}")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            raise DataError(f"{self.path}: not a readable HDF5 file, damaged or incomplete ({error})") from error
        try:
            self.dataset = self._check_layout(dataset)
            self.metadata: dict[str, Any] = json.loads(self._file.attrs.get("metadata", "{}"))
        except BaseException:
            self._file.close()
            raise

    def _check_layout(self, wanted: str | None) -> str:
        for key in (ENERGIES, SHOWERS):
            if not isinstance(self._file.get(key), h5py.Dataset):
                raise DataError(
                    f"{self.path}: a file of the challenge has arrays '{ENERGIES}' and '{SHOWERS}', "
                    f"this one has {sorted(self._file)}"
                )
            if self._file[key].dtype.kind not in "fiu":
                raise DataError(f"{self.path}: {key} must be numbers, got {self._file[key].dtype}")
        energies, showers = self._file[ENERGIES].shape, self._file[SHOWERS].shape
        if len(showers) != 2 or energies not in ((showers[0], 1), (showers[0],)):
            raise DataError(
                f"{self.path}: {ENERGIES} must be (N, 1) and {SHOWERS} (N, voxels), got {energies} and {showers}"
            )
        found = dataset_of_size(showers[1])
        if found is None or wanted not in (None, found):
            fits = f"which are those of {found}" if found else "which fits none of the four data sets"
            known = ", ".join(f"{name} {geometry(name).n_voxels}" for name in ([wanted] if wanted else DATASETS))
            raise DataError(f"{self.path}: has {showers[1]} voxels, {fits}; expected {known}")
        return found

    @property
    def geometry(self) -> Geometry:
        """Where the voxels are."""
        return geometry(self.dataset)

    @property
    def dtypes(self) -> tuple[np.dtype, np.dtype]:
        """Number formats in the file, of energies and voxels (the public files have float64)."""
        return self._file[ENERGIES].dtype, self._file[SHOWERS].dtype

    def __len__(self) -> int:
        return self._file[SHOWERS].shape[0]

    def arrays(self, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Rows start .. stop - 1 exactly as they stand in the file: energies (n, 1) or (n,), voxels (n, n_voxels).

        Raises:
            DataError: the file is damaged there.
        """
        try:
            return self._file[ENERGIES][start:stop], self._file[SHOWERS][start:stop]
        except OSError as error:
            raise DataError(f"{self.path}: rows from {start} cannot be read, the file is damaged ({error})") from error

    def read(self, start: int = 0, stop: int | None = None) -> Showers:
        """Showers start .. stop - 1 as float32, checked one by one.

        Raises:
            DataError: the file is damaged, or a shower is impossible (see :mod:`.checks`).
        """
        incident, voxels = self.arrays(start, stop)
        incident = incident.reshape(-1).astype(np.float64)
        check_showers(incident, voxels, self.geometry, str(self.path), start)
        return Showers(incident, voxels.astype(np.float32, copy=False), self.dataset, str(self.path))

    def __iter__(self) -> Iterator[Showers]:
        return self.portions()

    def portions(self, size: int | None = None, n: int | None = None) -> Iterator[Showers]:
        """The first ``n`` showers (None: all) in portions of ``size`` (None: about 64 MiB)."""
        size = size or max(1, PORTION // (8 * self.geometry.n_voxels))
        end = len(self) if n is None else min(n, len(self))
        return (self.read(start, min(start + size, end)) for start in range(0, end, size))

    def close(self) -> None:
        """Close the file; leaving a ``with`` block does it."""
        self._file.close()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Writer:
    """A file of showers that grows portion by portion, and appears under its name only when it is complete.

    >>> with Writer("mine.hdf5", "ds2") as file:      # doctest: +SKIP
    ...     for incident, voxels in generate():
    ...         file.append(incident, voxels)

    Until the end of the ``with`` block everything goes to a hidden file beside it. If the block is left by an
    error or by Ctrl-C, that file is removed, and what was at ``path`` stays as it was.
    """

    def __init__(
        self, path: str | Path, dataset: str, *, metadata: Mapping[str, Any] | None = None, compression: int = 4
    ) -> None:
        """Open the file.

        Args:
            dataset: which the showers are of.
            metadata: JSON-able, kept in the file.
            compression: level of gzip, 0 to 9.

        Raises:
            ValueError: no such data set.
            OSError: the folder cannot be made or written to.
        """
        self.path = Path(path).expanduser()
        self.geometry = geometry(dataset)
        self.count = 0
        self._compression = compression
        text = json.dumps(dict(metadata or {}), sort_keys=True)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".part", dir=self.path.parent)
        except OSError as error:
            raise OSError(error.errno, f"cannot write {self.path}: {error.strerror}") from error
        os.close(handle)
        self._part = _Part(name, "r+")
        self._file = h5py.File(self._part, "w")
        if metadata:
            self._file.attrs["metadata"] = text

    def append(self, incident: np.ndarray, voxels: np.ndarray) -> None:
        """Add showers.

        The first call fixes the number formats of the file: those of its arrays.

        Args:
            incident: MeV, (n,) or (n, 1).
            voxels: MeV, (n, n_voxels), floating point.

        Raises:
            ValueError: wrong shape, or an impossible shower (see :mod:`.checks`).
            OSError: the disk is full.
        """
        incident, voxels = np.asarray(incident), np.asarray(voxels)
        n = len(voxels)
        if voxels.shape != (n, self.geometry.n_voxels) or incident.shape not in ((n,), (n, 1)):
            raise DataError(
                f"{self.path}: {self.geometry.name} needs energies (n, 1) and voxels (n, {self.geometry.n_voxels}), "
                f"got {incident.shape} and {voxels.shape}"
            )
        check_showers(incident.reshape(-1), voxels, self.geometry, str(self.path), self.count)
        if not self.count:
            self._create(incident.dtype, voxels.dtype)
        for key, rows in ((ENERGIES, incident.reshape(n, 1)), (SHOWERS, voxels)):
            self._file[key].resize(self.count + n, axis=0)
            self._file[key][self.count :] = rows
        self.count += n
        self._check_written()

    def _create(self, energies: np.dtype, showers: np.dtype) -> None:
        for key, columns, dtype in ((ENERGIES, 1, energies), (SHOWERS, self.geometry.n_voxels, showers)):
            rows = max(1, min(CHUNK // (columns * dtype.itemsize), 4096))
            self._file.create_dataset(
                key,
                shape=(0, columns),
                maxshape=(None, columns),
                dtype=dtype,
                chunks=(rows, columns),
                compression="gzip",
                compression_opts=self._compression,
                shuffle=True,  # bytes of equal weight side by side: a third smaller, read by every HDF5
            )

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._file.close()
            if kind is None:
                if not self.count:
                    raise DataError(f"{self.path}: no showers were written")
                self._check_written()
                self._publish()
        finally:
            self._part.close()
            Path(self._part.name).unlink(missing_ok=True)

    def _check_written(self) -> None:
        if self._part.failure is not None:
            raise _failed(self.path, self._part.failure)

    def _publish(self) -> None:
        mask = os.umask(0)
        os.umask(mask)
        try:
            os.fsync(self._part.fileno())
            os.chmod(self._part.name, 0o666 & ~mask)  # mkstemp's files are for their owner only
            os.replace(self._part.name, self.path)
        except OSError as error:
            raise _failed(self.path, error) from error


class _Part(io.FileIO):
    """The file under HDF5, which cannot live with a failed write (the interpreter crashes some time after it).

    Here a write that fails is remembered, and from then on all writes only pretend.
    """

    failure: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while self.failure is None and done < len(view):
            try:
                done += super().write(view[done:])
            except OSError as error:
                self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0


def write(
    path: str | Path,
    showers: Showers | Iterable[Showers],
    *,
    n: int | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write showers, or any iterable of sets of showers, to one file; an existing file is replaced at the very end.

    Args:
        n: the number of showers there must be; with fewer or more nothing is written.

    Raises:
        ValueError: no showers, not ``n`` of them, or of several data sets.
        OSError: the disk is full, or the folder cannot be written to.
    """
    parts = iter([showers] if isinstance(showers, Showers) else showers)
    first = next(parts, None)
    if first is None:
        raise ValueError(f"{path}: no showers to write")
    with Writer(path, first.dataset, metadata=metadata) as file:
        part: Showers | None = first
        while part is not None:
            if part.dataset != first.dataset:
                raise ValueError(f"{path}: one file holds one data set, got {first.dataset} and {part.dataset}")
            file.append(part.incident, part.voxels)
            part = next(parts, None)
        if n is not None and file.count != n:
            raise ValueError(f"{path}: {n} showers expected, got {file.count}; nothing written")
    return file.path


def _failed(path: Path, error: OSError) -> OSError:
    reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
    return OSError(error.errno, f"could not write {path}: {reason}; nothing of it is kept")
