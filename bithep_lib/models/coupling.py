r"""Coupling blocks: the invertible layers of a normalising flow (arXiv:1605.08803, arXiv:1906.04032).

A block leaves one half of its input as it is and bends the other half with splines, whose shapes a network reads off
the first half and a condition. So it can be undone, whatever the network is, and its Jacobian is triangular.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from bithep_lib.models import splines

Tails = Literal["elementwise", "sample"]


@dataclass(frozen=True)
class FlowSettings:
    """The published hyper-parameters of the flow for one data set (its released card).

    Attributes:
        n_blocks: coupling blocks.
        spline: kind of the splines.
        bound: half the interval B of the splines, in units of the (log) input.
        bins: bins of a spline.
        hidden: width of the conditioner networks.
        n_linear: linear layers of a conditioner network.
        batch_norm: batch normalisation and SiLU after its hidden layers, instead of LeakyReLU(0.01).
        noise: w, upper end of the uniform noise on voxel fractions and energy ratios.
    """

    n_blocks: int
    spline: Literal["rational_quadratic", "cubic"]
    bound: float
    bins: int = 10
    hidden: int = 256
    n_linear: int = 4
    batch_norm: bool = True
    noise: float = 5e-6


class ActNorm(nn.Module):
    """Scale and shift of each entry, both learned (arXiv:1807.03039): y = x exp(s) + b."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.shift = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mapped (B, D) and the log-determinant, one number for all rows."""
        return x * self.log_scale.exp() + self.shift, self.log_scale.sum()

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The way back, and its log-determinant."""
        return (y - self.shift) * (-self.log_scale).exp(), -self.log_scale.sum()

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set scale and shift so that each entry of `x` (B, D) gets mean 0 and standard deviation 1."""
        scale = 1 / x.std(0).clamp_min(1e-6)
        self.log_scale.copy_(scale.log())
        self.shift.copy_(-x.mean(0) * scale)


class Conditioner(nn.Module):
    """The network of a coupling block: from the untouched half and the condition to the splines' parameters.

    The last layer starts at zero, so that every block starts with the same, almost linear, splines.

    Args:
        fan_in: entries of the untouched half.
        fan_out: parameters of all splines.
        settings: widths and depth.
        separate_condition: give the condition a linear layer of its own beside the first one. The function and the
            number of parameters are the same in full precision. In bits it matters: activations are rounded to a
            fraction of the largest of a row, and the condition (up to 3.6) then does not share its 8 bits with logits
            of empty voxels (about -18).
    """

    def __init__(self, fan_in: int, fan_out: int, settings: FlowSettings, *, separate_condition: bool) -> None:
        super().__init__()
        self.condition = nn.Linear(1, settings.hidden, bias=False) if separate_condition else None
        self.first = nn.Linear(fan_in + (not separate_condition), settings.hidden)
        self.hidden = nn.ModuleList(nn.Linear(settings.hidden, settings.hidden) for _ in range(settings.n_linear - 2))
        self.last = nn.Linear(settings.hidden, fan_out)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.activations = nn.ModuleList(
            nn.Sequential(nn.BatchNorm1d(settings.hidden), nn.SiLU()) if settings.batch_norm else nn.LeakyReLU(0.01)
            for _ in range(settings.n_linear - 1)
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, fan_out) from half a shower (B, fan_in) and the condition (B, 1)."""
        if self.condition is None:
            h = self.first(torch.cat([x, condition], dim=1))
        else:
            h = self.first(x) + self.condition(condition)
        for activation, linear in zip(self.activations, [*self.hidden, self.last], strict=True):
            h = linear(activation(h))
        return h


class CouplingBlock(nn.Module):
    """x1, x2 = halves of x; x2 <- spline(x2; network(x1, condition)); then a fixed permutation of all entries.

    Args:
        permutation: (D,) which entry comes to each place. The first half has the odd entry where D is odd.
        settings: of the network and the spline.
        actnorm: scale and shift the entries first.
        tails: ``"elementwise"``: an entry outside of the spline's interval stays as it is; ``"sample"``: with one such
            entry the whole row does.
        separate_condition: see `Conditioner`.
    """

    def __init__(
        self, permutation: Tensor, settings: FlowSettings, *, actnorm: bool, tails: Tails, separate_condition: bool
    ) -> None:
        super().__init__()
        features = len(permutation)
        self.split = (features + 1) // 2, features // 2
        self.spline: splines.Spline = getattr(splines, settings.spline)
        self.bound, self.tails = settings.bound, tails
        self.actnorm = ActNorm(features) if actnorm else None
        per_entry = 3 * settings.bins - 1 if settings.spline == "rational_quadratic" else 2 * settings.bins + 2
        self.network = Conditioner(
            self.split[0], per_entry * self.split[1], settings, separate_condition=separate_condition
        )
        self.register_buffer("permutation", permutation)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Towards the normal numbers: mapped (B, D) and the log-determinants (B,)."""
        log_det = x.new_zeros(len(x))
        if self.actnorm is not None:
            x, log_det = self.actnorm(x)
        fixed, bent = x.split(self.split, dim=1)
        bent, log_slope = self._bend(fixed, bent, condition, inverse=False)
        return torch.cat([fixed, bent], dim=1).index_select(1, self.permutation), log_det + log_slope

    def inverse(self, z: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Towards the showers: mapped (B, D) and the log-determinants (B,)."""
        fixed, bent = z.index_select(1, self.permutation.argsort()).split(self.split, dim=1)
        bent, log_det = self._bend(fixed, bent, condition, inverse=True)
        x = torch.cat([fixed, bent], dim=1)
        if self.actnorm is not None:
            x, log_scale = self.actnorm.inverse(x)
            log_det = log_det + log_scale
        return x, log_det

    def _bend(self, fixed: Tensor, bent: Tensor, condition: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        theta = self.network(fixed, condition).view(len(bent), -1, bent.shape[1])
        mapped, log_slope = self.spline(bent, theta, bound=self.bound, inverse=inverse)
        if self.tails == "sample":
            inside = (bent.abs() <= self.bound).all(1, keepdim=True)
            mapped, log_slope = torch.where(inside, mapped, bent), torch.where(inside, log_slope, 0.0)
        return mapped, log_slope.sum(1)
