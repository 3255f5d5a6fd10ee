"""Showers from a trained generator into a file of the CaloChallenge: streamed, resumable, all of them or none.

>>> flow = bithep_lib.load("caloinn/BlockCentral")                               # doctest: +SKIP
>>> energies = calochallenge.geometry("ds1-photons").draw_energies(100_000, seed=1)
>>> generate(flow, energies, "showers.hdf5", seed=1)
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from bithep_lib.data.calochallenge import Geometry, Reader, Showers, Writer
from bithep_lib.data.calochallenge.ratios import check_incident

__all__ = ["generate"]


class Generator(Protocol):
    """A model that makes showers: `CaloINN`, `CaloDREAM`."""

    geometry: Geometry

    def sample(self, incident: Tensor, *, seed: int, **options: Any) -> Tensor: ...

    def state_dict(self) -> dict[str, Tensor]: ...


def generate(
    model: Generator,
    incident: np.ndarray | Tensor,
    path: str | Path,
    *,
    seed: int,
    batch_size: int = 1000,
    progress: bool = True,
    **options: Any,
) -> Path:
    """Write one shower for each incident energy, in their order.

    Finished batches lie beside the file, in ``<name>.parts``, until it is complete: the same call after a crash or
    Ctrl-C goes on from there. Parts of another model, seed, or list of energies are not used but thrown away.

    Args:
        model: a trained generator; its device is used.
        incident: (N,) incident energies in MeV.
        path: of the HDF5 file in the challenge's format; an existing file is replaced at the very end.
        seed: of the noise; each batch has its own, so that a resumed file is equal to one made in one go.
        batch_size: showers at a time.
        progress: show a progress bar.
        **options: arguments of the model's ``sample``, for instance solver steps.

    Returns:
        The path.

    Raises:
        ValueError: no energies, an energy outside of the data set's range, or a batch size below 1.
        RuntimeError: the model gave a shower with a negative, infinite or undefined voxel.
        OSError: the disk is full, or the folder cannot be written to.
    """
    energies = torch.as_tensor(incident, dtype=torch.float64).reshape(-1)
    if not len(energies):
        raise ValueError("incident: no energies to make showers of")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    check_incident(energies, model.geometry)

    path = Path(path).expanduser()
    parts = path.with_name(path.name + ".parts")
    batches = energies.split(batch_size)
    names = [
        parts / f"{_identity(model, energies, seed, batch_size, options)}-{k:05}.hdf5" for k in range(len(batches))
    ]
    for stale in set(parts.glob("*.hdf5")) - set(names):
        stale.unlink()
    bar = tqdm(total=len(energies), unit="shower", desc=path.name, disable=not progress)
    with bar:
        for number, (name, batch) in enumerate(zip(names, batches, strict=True)):
            if not name.exists():
                _write(name, model, batch, _seed(seed, number), options)
            bar.update(len(batch))
    with Writer(path, model.geometry.name) as file:
        for showers in _read(names):
            file.append(showers.incident, showers.voxels)
    shutil.rmtree(parts)
    return path


def _write(name: Path, model: Generator, incident: Tensor, seed: int, options: dict[str, Any]) -> None:
    voxels = model.sample(incident.float(), seed=seed, **options).float().cpu()
    if len(voxels) != len(incident) or not (voxels.isfinite() & (voxels >= 0)).all():
        raise RuntimeError(
            f"{type(model).__name__}.sample gave voxels that are negative or not finite, or too few showers"
        )
    with Writer(name, model.geometry.name) as file:
        file.append(incident.numpy(), voxels.numpy())


def _read(names: list[Path]) -> Iterator[Showers]:
    for name in names:
        with Reader(name) as file:
            yield from file


def _seed(seed: int, batch: int) -> int:
    return int(np.random.SeedSequence([seed, batch]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _identity(model: Generator, energies: Tensor, seed: int, batch_size: int, options: dict[str, Any]) -> str:
    """Names everything that decides what the showers are."""
    choices = f"{type(model).__name__} {seed} {batch_size} {sorted(options.items())}"
    digest = hashlib.blake2b(choices.encode(), digest_size=6)
    for tensor in (energies, *model.state_dict().values()):
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
