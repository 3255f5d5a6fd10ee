"""What the tasks that learn from examples with a known answer share: the optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

Schedule = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


class SupervisedTask(pl.LightningModule):
    """AdamW, with a learning rate that may change from epoch to epoch.

    Args:
        model: called as ``model(*inputs)`` for a batch ``(*inputs, answer)``.
        learning_rate: step size of AdamW.
        weight_decay: of AdamW, on all parameters.
        schedule: makes a learning-rate scheduler, stepped once an epoch, from the optimiser; None: constant.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        weight_decay: float,
        schedule: Schedule | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.schedule = schedule
        name = getattr(schedule, "__qualname__", repr(schedule))
        self.save_hyperparameters({"learning_rate": learning_rate, "weight_decay": weight_decay, "schedule": name})

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model(*inputs)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.hparams["learning_rate"], weight_decay=self.hparams["weight_decay"]
        )
        return optimizer if self.schedule is None else ([optimizer], [self.schedule(optimizer)])
