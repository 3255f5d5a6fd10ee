r"""The task of chapter 3: the angle of an axis, known modulo pi."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from bithep_lib.train.supervised import Schedule, SupervisedTask


def sin2_loss(output: Tensor, phi: Tensor) -> Tensor:
    r"""sin^2(f - phi) for each jet, the loss of arXiv:2504.03387, section 4.

    For a vector u of length one along (cos 2f, sin 2f) it is (1 - u.t) / 2 with t = (cos 2 phi, sin 2 phi): the same
    number, with neither an angle nor a cut in it.

    Args:
        output: (B, 2) vectors along (cos 2f, sin 2f), of any length; a vector of length zero has a loss of 1/2 and a
            finite gradient. Or (B,) angles f in radians.
        phi: (B,) true angles in radians.

    Raises:
        ValueError: another shape of the output.
    """
    if output.shape == phi.shape:
        return torch.sin(output - phi).square()
    if output.shape != (*phi.shape, 2):
        raise ValueError(f"outputs of shape {tuple(output.shape)} for angles of shape {tuple(phi.shape)}")
    unit = output * (output.square().sum(-1, keepdim=True) + 1e-12).rsqrt()
    truth = torch.stack([torch.cos(2 * phi), torch.sin(2 * phi)], dim=-1)
    return (1 - (unit * truth).sum(-1)) / 2


class AngleTask(SupervisedTask):
    """Regression of an angle modulo pi: mean of `sin2_loss`, AdamW.

    Args:
        model: called as ``model(*inputs)`` for a batch ``(*inputs, phi)``; returns (B, 2) or (B,), see `sin2_loss`.
        learning_rate: step size of AdamW.
        weight_decay: of AdamW, on all parameters.
        schedule: makes a learning-rate scheduler, stepped once an epoch, from the optimiser; None: constant.

    It logs train_loss and valid_loss, both <sin^2(f - phi)>: 1/2 is a random guess.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.0,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(model, learning_rate=learning_rate, weight_decay=weight_decay, schedule=schedule)

    def check_data(self, data: Dataset, name: str) -> None:
        """Refuse angles that are not one number a jet, or lie beyond two turns (degrees, say).

        Raises:
            ValueError: with what was found.
        """
        if not isinstance(data, TensorDataset):
            return
        phi = data.tensors[-1]
        if phi.ndim != 1 or not phi.is_floating_point():
            raise ValueError(
                f"{name}: the angles are {phi.dtype} of shape {tuple(phi.shape)}, not floats ({len(phi)},)"
            )
        if float(phi.abs().max()) > 2 * torch.pi + 1e-3:
            raise ValueError(f"{name}: angles must be radians in [-2 pi, 2 pi], there is {float(phi.abs().max()):g}")

    def _loss(self, batch: Sequence[Tensor]) -> Tensor:
        *inputs, phi = batch
        return sin2_loss(self(*inputs).float(), phi.float()).mean()

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[-1]), sync_dist=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        self.log("valid_loss", self._loss(batch), batch_size=len(batch[-1]), sync_dist=True)
