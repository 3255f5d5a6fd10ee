"""`fit` and `predict`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bithep_lib.train.checkpoints import AtomicCheckpoint, identify, load
from bithep_lib.train.data import Data, as_dataset, check_disjoint
from bithep_lib.train.loop import Batches, Bookkeeping, EpochBatches, clean_interrupt, forked_random_state, quiet


@dataclass(frozen=True)
class FitResult:
    """What a training did.

    Attributes:
        history: one row an epoch (1, 2, ...): train_loss, valid_loss and whatever else the task logs.
        best_epoch: the epoch with the smallest valid_loss; None when there was no time for a single step.
        kept_epoch: the epoch whose weights the task has: that one or the last.
        stopped_early: ``max_minutes`` were over before the last epoch was done.
        resumed_from: epochs that a checkpoint already had; 0 for a new training.
        seconds: wall time of this call and of the epochs that a checkpoint already had.
    """

    history: pd.DataFrame
    best_epoch: int | None
    kept_epoch: int | None
    stopped_early: bool
    resumed_from: int
    seconds: float


def fit(
    task: pl.LightningModule,
    train: Data,
    valid: Data,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "auto",
    devices: int = 1,
    nodes: int = 1,
    precision: str = "32-true",
    max_minutes: float | None = None,
    batches: Batches | None = None,
    keep: Literal["best", "last"] = "best",
    progress: bool = True,
) -> FitResult:
    """Train `task` and leave it with the weights of its best epoch, or of its last.

    Args:
        task: a LightningModule that logs ``valid_loss`` in its validation step.
        train: a tuple of tensors of equal length, inputs first and label last, or a Dataset that can be indexed with a
            tensor of indices.
        valid: the same; chooses the best epoch.
        epochs: passes over `train`.
        batch_size: rows per step; the last batch of an epoch may be smaller.
        seed: of the order and of the randomness of every epoch.
        checkpoint: a file that is rewritten after every epoch and from which the same call goes on. None: nothing is
            stored.
        device: ``"auto"`` (a GPU when there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        devices: how many of them; with more than one, distributed data parallel, `batch_size` on each. Each process
            then runs the whole program, which needs ``if __name__ == "__main__":``.
        nodes: machines with so many devices each; the program is started on each of them, by ``srun`` or ``torchrun``.
        precision: as Lightning's Trainer takes it, ``"32-true"``, ``"bf16-mixed"``, ...
        max_minutes: stop cleanly after this time. The unfinished epoch is validated and may be the best, but a
            checkpoint holds finished epochs only.
        batches: cuts an epoch's order into batches, for instance of jets of similar length; by default consecutive.
        keep: the epoch whose weights `task` has in the end: the best by valid_loss, or the last one.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: data, sizes or a checkpoint that cannot be right: rows of different lengths, not finite, shared by
            train and valid, labels that are not 0 and 1 or all alike; a checkpoint damaged or of another training.
        FloatingPointError: the loss is no longer finite.
        OSError: the checkpoint cannot be written; the previous one is unchanged.
        KeyboardInterrupt: after Ctrl-C; the checkpoint holds the finished epochs.
    """
    started = time.monotonic()
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("devices", devices), ("nodes", nodes)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r} must be an integer >= 1")
    if keep not in ("best", "last"):
        raise ValueError(f"keep={keep!r}, allowed are best, last")
    train, valid = as_dataset(train, "train"), as_dataset(valid, "valid")
    check_disjoint(train, valid)
    if hasattr(task, "check_data"):
        task.check_data(train, "train")
        task.check_data(valid, "valid")

    identity = identify(task, train, valid, batch_size=batch_size, seed=seed, precision=precision)
    path = None if checkpoint is None else Path(checkpoint).expanduser()
    stored = load(path, identity, epochs) if path is not None and path.exists() else None
    book = Bookkeeping(path, identity, seed, epochs, max_minutes, progress)
    if stored is not None:
        book.load_state_dict(stored["callbacks"][book.state_key])
    done, spent = len(book.history), book.seconds

    loaders = [
        # A loader draws a number for its workers from the global stream unless it has its own.
        DataLoader(
            data,
            sampler=EpochBatches(len(data), batch_size, order, batches, done),
            batch_size=None,
            generator=torch.Generator(),
        )
        for data, order in ((train, seed), (valid, None))
    ]
    if done < epochs and (max_minutes is None or max_minutes > 0):
        with quiet(), forked_random_state():
            trainer = pl.Trainer(
                **_accelerator(device, devices),
                num_nodes=nodes,
                max_epochs=epochs,
                precision=precision,
                callbacks=[book],
                plugins=[AtomicCheckpoint()],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
            )
            with clean_interrupt(book):
                trainer.fit(task, *loaders, ckpt_path=path if stored is not None else None)
    task.trainer = None  # it holds the data
    if keep == "best" and book.best_state is not None:
        task.load_state_dict(book.best_state)
    elif stored is not None and len(book.history) == done:  # no epoch was trained in this call
        task.load_state_dict(stored["state_dict"])
    history = pd.DataFrame(book.history)
    history.index = pd.RangeIndex(1, len(history) + 1, name="epoch")
    return FitResult(
        history=history,
        best_epoch=book.best_epoch,
        kept_epoch=book.best_epoch if keep == "best" else len(history) or None,
        stopped_early=book.partial or len(history) < epochs,
        resumed_from=done,
        seconds=spent + time.monotonic() - started,
    )


def predict(
    model: nn.Module, inputs: Sequence[Tensor], *, batch_size: int = 1024, device: str | torch.device = "cpu"
) -> Tensor:
    """``model(*inputs)`` in evaluation mode, batch by batch, without gradients: float32 on the CPU.

    The model ends on `device`, in the mode (training or evaluation) it was in.
    """
    lengths = {len(tensor) for tensor in inputs}
    if len(lengths) != 1:
        raise ValueError(f"the inputs have different lengths: {', '.join(str(len(tensor)) for tensor in inputs)}")
    training = model.training
    model.to(device).eval()
    try:
        with torch.inference_mode():
            outputs = [
                model(*(tensor[start : start + batch_size].to(device) for tensor in inputs)).float().cpu()
                for start in range(0, lengths.pop(), batch_size)
            ]
    finally:
        model.train(training)
    return torch.cat(outputs) if outputs else torch.empty(0)


def _accelerator(device: str | torch.device, devices: int) -> dict[str, Any]:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    place = torch.device(device)
    if place.index is not None and devices > 1:
        raise ValueError(f"device={device!r} names one device, and devices={devices} asks for more")
    return {"accelerator": place.type, "devices": devices if place.index is None else [place.index]}
