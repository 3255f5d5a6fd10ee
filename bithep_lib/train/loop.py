"""What happens within and between the epochs of a training, and around it."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler
from tqdm import tqdm

_ORDER, _VALIDATION, _TRAINING = 0, 1, 2  # streams of random numbers; each process trains with its own

Batches = Callable[[Tensor, int], Sequence[Tensor]]
"""Cuts an epoch's order, shape (N,), into batches of indices, as many in every epoch."""


class EpochBatches(Sampler):
    """Batches of indices. The order of epoch e is drawn from (seed, e); without a seed it is that of the data."""

    def __init__(self, n: int, batch_size: int, seed: int | None, batches: Batches | None, epoch: int) -> None:
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.batches = batches or (lambda order, size: order.split(size))
        self.epoch = epoch  # the first one: Lightning begins to iterate before it tells the epoch

    def set_epoch(self, epoch: int) -> None:  # Lightning calls this before every other epoch
        self.epoch = epoch

    def _all(self) -> list[Tensor]:
        if self.seed is None:
            return list(torch.arange(self.n).split(self.batch_size))
        generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch, _ORDER))
        return list(self.batches(torch.randperm(self.n, generator=generator), self.batch_size))

    def __iter__(self) -> Iterator[Tensor]:
        parts, (rank, world) = self._all(), _rank()
        parts += parts[: -len(parts) % world]  # every process takes as many steps
        return iter(parts[rank::world])

    def __len__(self) -> int:
        return math.ceil(len(self._all()) / _rank()[1])


class Bookkeeping(pl.Callback):
    """Seeds each epoch, keeps history and best weights, writes the checkpoint, watches loss and clock."""

    def __init__(
        self, path: Path | None, identity: dict, seed: int, epochs: int, max_minutes: float | None, progress: bool
    ) -> None:
        self.path, self.identity, self.seed, self.epochs = path, identity, seed, epochs
        self.deadline = math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.progress, self.bar = progress, None
        self.history: list[dict[str, float]] = []
        self.best_epoch: int | None = None
        self.best_state: dict[str, Tensor] | None = None
        self.partial = False
        self.seconds, self.started = 0.0, time.monotonic()

    # State that travels in the checkpoint.
    def state_dict(self) -> dict[str, Any]:
        return {
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_state": self.best_state,
            "seconds": self.seconds + time.monotonic() - self.started,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history, self.best_epoch = list(state["history"]), state["best_epoch"]
        self.best_state, self.seconds = state["best_state"], state.get("seconds", 0.0)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict) -> None:
        checkpoint["bithep"] = {"identity": self.identity, "epochs": self.epochs, "done": len(self.history)}

    # Randomness.
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed(_mix(self.seed, trainer.current_epoch, _TRAINING + trainer.global_rank))
        if self.bar is None:
            steps = trainer.num_training_batches
            hidden = not (self.progress and trainer.is_global_zero)
            self.bar = tqdm(
                total=self.epochs * steps, initial=trainer.current_epoch * steps, unit="step", leave=False,
                mininterval=0.5, file=sys.stderr, disable=hidden,
            )  # fmt: skip
        self.bar.set_description(f"epoch {trainer.current_epoch + 1}/{self.epochs}", refresh=False)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed(_mix(self.seed, 0, _VALIDATION))  # the same noise in every epoch, so that epochs compare

    # Steps.
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the training loss became {loss} in epoch {trainer.current_epoch + 1}, step {batch_idx + 1}: "
                f"try a smaller learning rate{self.kept()}"
            )
        self.bar.update()
        over = time.monotonic() > self.deadline
        if self.deadline < math.inf and trainer.strategy.reduce_boolean_decision(over, all=False):
            trainer.should_stop = True
            self.partial = batch_idx + 1 < trainer.num_training_batches

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        row = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if "valid_loss" not in row:
            raise ValueError(f"{type(pl_module).__name__} logs no valid_loss, so that no epoch can be chosen")
        if not math.isfinite(row["valid_loss"]):
            raise FloatingPointError(
                f"the validation loss became {row['valid_loss']} in epoch {trainer.current_epoch + 1}{self.kept()}"
            )
        if self.best_epoch is None or row["valid_loss"] < self.history[self.best_epoch - 1]["valid_loss"]:
            self.best_epoch = len(self.history) + 1
            self.best_state = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
        self.history.append(row)
        self.bar.set_postfix(valid_loss=f"{row['valid_loss']:.4f}", refresh=False)
        if self.path is not None and not self.partial:
            trainer.save_checkpoint(self.path)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")

    def kept(self) -> str:
        if self.path is None or not self.history:
            return "; nothing was stored"
        return f"; epochs 1 to {len(self.history)} are in {self.path}"


def _mix(seed: int, epoch: int, stream: int) -> int:
    """A seed for one purpose in one epoch; neighbouring inputs give unrelated seeds."""
    return int(np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64)[0] >> 1)


def _rank() -> tuple[int, int]:
    """This process's number, and how many train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


@contextlib.contextmanager
def forked_random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's notes on hardware, tips and worker processes; its warnings of substance pass."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in (".*does not have many workers.*", ".*GPU available but not used.*", ".*isinstance.treespec.*"):
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            logger.setLevel(level)


@contextlib.contextmanager
def clean_interrupt(book: Bookkeeping) -> Iterator[None]:
    """Lightning answers Ctrl-C by ending the program and ignoring the next ones; a notebook wants neither."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt(f"training interrupted{book.kept()}") from None
        raise
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
