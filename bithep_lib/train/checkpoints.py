"""Checkpoints that are whole, hold no code and know which training they belong to."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins import CheckpointIO
from torch.utils.data import Dataset

from bithep_lib.files import write_atomic
from bithep_lib.train.data import fingerprint


class AtomicCheckpoint(CheckpointIO):
    """Writes a checkpoint in one step, and reads tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomic(path, buffer.getvalue())

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return torch.load(path, map_location="cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def load(path: Path, identity: dict[str, str], epochs: int) -> dict[str, Any]:
    """The checkpoint, when it belongs to this training."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        found, planned, done = (stored["bithep"][name] for name in ("identity", "epochs", "done"))
    except Exception as error:  # torch raises half a dozen types for a damaged or foreign file
        raise ValueError(f"{path} is damaged or not a checkpoint of fit: delete it to start anew ({error})") from error
    differences = [
        f"{name} is {found.get(name)} there and {value} here"
        for name, value in identity.items()
        if found.get(name) != value
    ]
    if planned != epochs and stored["lr_schedulers"]:
        differences.append(f"epochs, and with them the learning rates, were planned as {planned}, not {epochs}")
    elif done > epochs:
        differences.append(f"it has {done} epochs already, and {epochs} are asked for")
    if differences:
        raise ValueError(f"the checkpoint {path} belongs to another training: {'; '.join(differences)}")
    return stored


def identify(task: pl.LightningModule, train: Dataset, valid: Dataset, **settings: Any) -> dict[str, str]:
    """What has to be the same for a checkpoint to be continued."""
    shapes = [f"{name} {tuple(value.shape)} {value.dtype}" for name, value in task.state_dict().items()]
    return {
        "model": _digest(repr(task) + "\n".join(shapes)),
        "hyper-parameters": repr(dict(task.hparams)),
        "train": fingerprint(train),
        "valid": fingerprint(valid),
    } | {name: str(value) for name, value in settings.items()}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
