"""One function that trains every network of the book: `fit`, on Lightning.

What it promises beyond Lightning's defaults:

* The order of epoch e and all randomness in it (dropout) come from (seed, e) alone, so that a training killed at any
  moment goes on from the last finished epoch and ends with the very weights of an undisturbed one.
* The network that comes back is that of the epoch with the smallest validation loss.
* PyTorch's global random state is as it was before.
* A checkpoint is replaced in one step, read without unpickling code, and refused when it belongs to another training.

Example:
    >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(1))
    >>> label = (x.sum(1) > 0).float()
    >>> task = ClassificationTask(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0)), learning_rate=0.1)
    >>> train, valid = (x[:150], label[:150]), (x[150:], label[150:])
    >>> len(fit(task, train, valid, epochs=3, batch_size=50, seed=1, progress=False).history)
    3
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.plugins import CheckpointIO
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from bithep_lib.files import write_atomic
from bithep_lib.training_data import Data, as_dataset, check_disjoint, check_labels, fingerprint

_ORDER, _VALIDATION, _TRAINING = 0, 1, 2  # streams of random numbers; each process trains with its own

Batches = Callable[[Tensor, int], Sequence[Tensor]]
"""Cuts an epoch's order, shape (N,), into batches of indices, as many in every epoch."""


@dataclass(frozen=True)
class FitResult:
    """What a training did. The task's model has the weights of `best_epoch`.

    Attributes:
        history: one row an epoch (1, 2, ...): train_loss, valid_loss and whatever else the task logs.
        best_epoch: the epoch with the smallest valid_loss; None when there was no time for a single step.
        stopped_early: ``max_minutes`` were over before the last epoch was done.
        resumed_from: epochs that a checkpoint already had; 0 for a new training.
        seconds: wall time of this call.
    """

    history: pd.DataFrame
    best_epoch: int | None
    stopped_early: bool
    resumed_from: int
    seconds: float


class ClassificationTask(pl.LightningModule):
    """Binary classification: cross-entropy on the logit, AdamW.

    Args:
        model: called as ``model(*inputs)`` for a batch ``(*inputs, label)``; returns logits of shape (B,) or (B, 1).
        learning_rate: step size of AdamW.
        weight_decay: of AdamW, on all parameters.
        schedule: makes a learning-rate scheduler, stepped once an epoch, from the optimiser; None: constant.

    It logs train_loss, valid_loss, valid_accuracy (logit above 0) and valid_auc.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        schedule: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.schedule = schedule
        name = getattr(schedule, "__qualname__", repr(schedule))
        self.save_hyperparameters({"learning_rate": learning_rate, "weight_decay": weight_decay, "schedule": name})
        self._valid: list[tuple[Tensor, Tensor]] = []

    def check_data(self, data: Dataset, name: str) -> None:
        """Refuse labels other than 0 and 1, or all alike (see `bithep_lib.training_data.check_labels`)."""
        check_labels(data, name)

    def forward(self, *inputs: Tensor) -> Tensor:
        logit = self.model(*inputs)
        return logit.squeeze(-1) if logit.ndim == 2 else logit

    def _loss(self, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        *inputs, label = batch
        logit, label = self(*inputs).float(), label.float()
        if logit.shape != label.shape:
            raise ValueError(f"the model gave logits of shape {tuple(logit.shape)} for labels of {tuple(label.shape)}")
        return F.binary_cross_entropy_with_logits(logit, label), logit, label

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        loss, _, label = self._loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(label), sync_dist=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        loss, logit, label = self._loss(batch)
        self.log("valid_loss", loss, batch_size=len(label), sync_dist=True)
        self._valid.append((logit, label))

    def on_validation_epoch_end(self) -> None:
        logit, label = (torch.cat(parts).cpu().numpy() for parts in zip(*self._valid, strict=True))
        self._valid.clear()
        if np.isfinite(logit).all() and 0 < label.mean() < 1:
            self.log("valid_accuracy", float(((logit > 0) == label).mean()), sync_dist=True)
            self.log("valid_auc", float(roc_auc_score(label, logit)), sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams["learning_rate"], weight_decay=self.hparams["weight_decay"]
        )
        return optimizer if self.schedule is None else ([optimizer], [self.schedule(optimizer)])


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
    precision: str = "32-true",
    max_minutes: float | None = None,
    batches: Batches | None = None,
    progress: bool = True,
) -> FitResult:
    """Train `task` and leave it with the weights of its best epoch.

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
        devices: how many of them; with more than one, distributed data parallel, `batch_size` on each.
        precision: as Lightning's Trainer takes it, ``"32-true"``, ``"bf16-mixed"``, ...
        max_minutes: stop cleanly after this time. The unfinished epoch is validated and may be the best, but a
            checkpoint holds finished epochs only.
        batches: cuts an epoch's order into batches, for instance of jets of similar length; by default consecutive.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: data, sizes or a checkpoint that cannot be right: rows of different lengths, not finite, shared by
            train and valid, labels that are not 0 and 1 or all alike; a checkpoint damaged or of another training.
        FloatingPointError: the loss is no longer finite.
        OSError: the checkpoint cannot be written; the previous one is unchanged.
        KeyboardInterrupt: after Ctrl-C; the checkpoint holds the finished epochs.
    """
    started = time.monotonic()
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("devices", devices)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r} must be an integer >= 1")
    train, valid = as_dataset(train, "train"), as_dataset(valid, "valid")
    check_disjoint(train, valid)
    if hasattr(task, "check_data"):
        task.check_data(train, "train")
        task.check_data(valid, "valid")

    identity = _identity(task, train, valid, batch_size=batch_size, seed=seed, precision=precision)
    path = None if checkpoint is None else Path(checkpoint).expanduser()
    stored = _load(path, identity, epochs) if path is not None and path.exists() else None
    book = _Bookkeeping(path, identity, seed, epochs, max_minutes, progress)
    if stored is not None:
        book.load_state_dict(stored["callbacks"][book.state_key])
    done = len(book.history)

    loaders = [
        # A loader draws a number for its workers from the global stream unless it has its own.
        DataLoader(
            data,
            sampler=_EpochBatches(len(data), batch_size, order, batches, done),
            batch_size=None,
            generator=torch.Generator(),
        )
        for data, order in ((train, seed), (valid, None))
    ]
    if done < epochs and (max_minutes is None or max_minutes > 0):
        with _quiet(), _forked_random_state():
            trainer = pl.Trainer(
                **_accelerator(device, devices),
                max_epochs=epochs,
                precision=precision,
                callbacks=[book],
                plugins=[_AtomicCheckpoint()],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                use_distributed_sampler=False,
            )
            with _clean_interrupt(book):
                trainer.fit(task, *loaders, ckpt_path=path if stored is not None else None)
    task.trainer = None  # it holds the data
    if book.best_state is not None:
        task.load_state_dict(book.best_state)
    history = pd.DataFrame(book.history)
    history.index = pd.RangeIndex(1, len(history) + 1, name="epoch")
    return FitResult(
        history=history,
        best_epoch=book.best_epoch,
        stopped_early=book.partial or len(history) < epochs,
        resumed_from=done,
        seconds=time.monotonic() - started,
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


class _EpochBatches(Sampler):
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


class _Bookkeeping(pl.Callback):
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

    # State that travels in the checkpoint.
    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "best_epoch": self.best_epoch, "best_state": self.best_state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history, self.best_epoch = list(state["history"]), state["best_epoch"]
        self.best_state = state["best_state"]

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


class _AtomicCheckpoint(CheckpointIO):
    """Writes a checkpoint in one step, and reads tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomic(path, buffer.getvalue())

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return torch.load(path, map_location="cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def _load(path: Path, identity: dict[str, str], epochs: int) -> dict[str, Any]:
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


def _identity(task: pl.LightningModule, train: Dataset, valid: Dataset, **settings: Any) -> dict[str, str]:
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


def _mix(seed: int, epoch: int, stream: int) -> int:
    """A seed for one purpose in one epoch; neighbouring inputs give unrelated seeds."""
    return int(np.random.SeedSequence([seed, epoch, stream]).generate_state(1, np.uint64)[0] >> 1)


def _rank() -> tuple[int, int]:
    """This process's number, and how many train together."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _accelerator(device: str | torch.device, devices: int) -> dict[str, Any]:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    place = torch.device(device)
    if place.index is not None and devices > 1:
        raise ValueError(f"device={device!r} names one device, and devices={devices} asks for more")
    return {"accelerator": place.type, "devices": devices if place.index is None else [place.index]}


@contextlib.contextmanager
def _forked_random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
def _clean_interrupt(book: _Bookkeeping) -> Iterator[None]:
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
