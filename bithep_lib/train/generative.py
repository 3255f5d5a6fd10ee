"""Tasks that learn to make showers: by likelihood (a flow) and by velocities (flow matching)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from bithep_lib.models.calodream import CaloDREAM
from bithep_lib.models.caloinn import CaloINN


class _ShowerTask(pl.LightningModule):
    """AdamW on a one-cycle schedule, stepped after every batch, as in both papers' training of their first network.

    Args:
        learning_rate: the largest of the cycle: it rises from a 25th of it for 30 % of the steps, then falls.
        weight_decay: of AdamW, on all parameters.
        constant: no schedule.
    """

    def __init__(self, *, learning_rate: float, weight_decay: float, constant: bool) -> None:
        super().__init__()
        self.save_hyperparameters({"learning_rate": learning_rate, "weight_decay": weight_decay, "constant": constant})

    trained: nn.Module
    """Whose parameters are learned."""

    def _loss(self, batch: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        loss = self._loss(batch, None)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]), sync_dist=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        # The same noise in every epoch: epochs are compared by their weights alone.
        loss = self._loss(batch, torch.Generator().manual_seed(batch_idx))
        self.log("valid_loss", loss, batch_size=len(batch[0]), sync_dist=True)

    def configure_optimizers(self) -> Any:
        settings = self.hparams
        optimizer = torch.optim.AdamW(
            self.trained.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
        )
        if settings["constant"]:
            return optimizer
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings["learning_rate"], total_steps=int(self.trainer.estimated_stepping_batches)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


class FlowTask(_ShowerTask):
    """Maximum likelihood: the loss is the mean of -log p in nats a shower.

    Batches are (voxels (B, n_voxels) in MeV, incident energies (B,) in MeV), and get new noise each time they are
    drawn. Call ``flow.initialise`` before the training.

    Args:
        flow: the model.
        learning_rate, weight_decay, constant: of the optimiser; published are 1e-4, 0.01 and a cycle.
    """

    def __init__(
        self, flow: CaloINN, *, learning_rate: float = 1e-4, weight_decay: float = 0.01, constant: bool = False
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, constant=constant)
        self.model = self.trained = flow

    def _loss(self, batch: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        voxels, incident = batch
        noise = torch.rand(len(voxels), self.model.features, generator=generator).to(voxels)
        return -self.model.log_prob(*self.model.encode(voxels, incident, noise=noise)).mean()


class MatchingTask(_ShowerTask):
    """Flow matching of one of CaloDREAM's networks: the loss is the mean squared error of the velocity.

    Batches are as those of `FlowTask`. Call ``model.initialise`` before the training; both networks must be trained
    with the same means and widths.

    Args:
        model: both networks.
        part: ``"energy"`` or ``"shape"``: which one is trained.
        learning_rate, weight_decay, constant: of the optimiser; published for the energy network are 2e-3, 0 and a
            cycle, for the shape network 1e-3, 1e-5 and a cosine.
        clip: a gradient of a larger norm than this is scaled down to it; published for the shape network is 100.
    """

    def __init__(
        self,
        model: CaloDREAM,
        part: str,
        *,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        constant: bool = False,
        clip: float = 100.0,
    ) -> None:
        if part not in ("energy", "shape"):
            raise ValueError(f"part={part!r}, allowed are energy, shape")
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, constant=constant)
        self.save_hyperparameters({"clip": clip})
        self.model, self.part, self.trained = model, part, model.get_submodule(part)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=self.hparams["clip"], gradient_clip_algorithm="norm")

    def _loss(self, batch: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
        u, fractions, condition = self.model.encode(*batch)
        if self.part == "energy":
            return self.model.energy.loss(u, condition, generator=generator)
        return self.model.shape.loss(fractions, torch.cat([condition, u], dim=1), generator=generator)
