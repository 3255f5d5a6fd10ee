"""What is learned: a task is a model with its loss and its optimiser."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import expit
from scipy.stats import entropy
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from bithep_lib.train.data import check_labels
from bithep_lib.train.supervised import Schedule, SupervisedTask

LEARNED = 0.05
"""Part by which the validation loss has to fall below that of a constant for something to have been learned. Shuffled
labels of some hundred rows reach half of it by chance; a tagger with an AUC of 0.65 has it."""


class ClassificationTask(SupervisedTask):
    """Binary classification: cross-entropy on the logit, AdamW.

    Args:
        model: called as ``model(*inputs)`` for a batch ``(*inputs, label)``; returns logits of shape (B,) or (B, 1).
        learning_rate: step size of AdamW.
        weight_decay: of AdamW, on all parameters.
        schedule: makes a learning-rate scheduler, stepped once an epoch, from the optimiser; None: constant.

    It logs train_loss, valid_loss, valid_accuracy (logit above 0) and valid_auc. When after three epochs
    or more the loss is hardly below that of a constant, it warns: shuffled labels, or those of another file, look so.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(model, learning_rate=learning_rate, weight_decay=weight_decay, schedule=schedule)
        self._valid: list[tuple[Tensor, Tensor]] = []
        self._gains: list[float] = []

    def check_data(self, data: Dataset, name: str) -> None:
        """Refuse labels other than 0 and 1, or all alike (see `bithep_lib.train.data.check_labels`)."""
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
            # Against always predicting the share of signal.
            self._gains.append(
                1 - log_loss(label, expit(logit.astype(float))) / entropy([label.mean(), 1 - label.mean()])
            )

    def on_fit_end(self) -> None:
        if len(self._gains) >= 3 and max(self._gains) < LEARNED:
            warnings.warn(
                f"hardly anything was learned: in {len(self._gains)} epochs valid_loss was at best "
                f"{100 * max(self._gains):.1f} % better than always predicting the share of signal; are the labels "
                "those of these inputs, in train and in valid?",
                stacklevel=1,
            )
        self._gains.clear()
