r"""CaloDREAM, flow matching for calorimeter showers (arXiv:2405.09629), as in section 5.2 of arXiv:2504.03387.

Two networks: the first draws how much energy goes to each of the 45 layers, the second how each layer's energy is
spread over its voxels. Both learn velocities that carry normal noise to showers.

Example:

    >>> with torch.device("meta"):
    ...     model, report = CaloDREAM.build("quantized/no_embedding")
    >>> f"{100 * report.fraction:.2f} % of {report.parameters} parameters are ternary"
    '63.99 % of 28427393 parameters are ternary'
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bithep_lib.bitlinear import QuantSpec
from bithep_lib.data.calochallenge import geometry, ratios
from bithep_lib.models.calodream_energy import EnergyNetwork
from bithep_lib.models.calodream_shape import ShapeNetwork
from bithep_lib.models.flow_matching import solve
from bithep_lib.quantize import QuantReport, Select, quantize_

DELTA = 1e-6
"""Keeps logits of 0 and 1 finite: they are -13.8 and 13.8."""
RESPONSE_SCALE = 0.35
"""Times the first ratio, so that responses up to 2.86 lie in [0, 1]."""
SMALLEST_FRACTION = 1e-7
"""Fractions of a layer's energy up to this are no energy."""

_ATTENTION, _MLP = r"qkv|projection", r"fc1|fc2"
_EMBEDDINGS = r"shape\.(x_embedding|time_embedding\..*|condition_embedding\..*)"

ENERGY_SETUPS: Mapping[str, str | None] = {"regular": None, "quantized": r"energy\.velocity\.hidden\..*"}
SHAPE_SETUPS: Mapping[str, str | None] = {
    "regular": None,
    "no_embedding": rf"shape\.blocks\.\d+\.({_ATTENTION}|{_MLP})",
    "full": rf"shape\.blocks\.\d+\.({_ATTENTION}|{_MLP})|{_EMBEDDINGS}",
    "full_released": rf"shape\.blocks\.\d+\.({_ATTENTION}|{_MLP})|{_EMBEDDINGS}|shape\.last",
    "qkv": r"shape\.blocks\.\d+\.qkv",
    "mlp": rf"shape\.blocks\.\d+\.({_MLP})",
    "adaln": r"shape\.(blocks\.\d+\.)?modulation",
}
"""Names of the layers that become bits. The paper's are regular, no_embedding and full. Its count of full, 66.22 %,
leaves the last layer regular; the released switch quantises that, too (66.31 %), and is called full_released here. The
others are for the study of single parts; no setup of the paper touches the modulations, a third of the network."""


def _select(energy: str, shape: str) -> Select | None:
    patterns = [pattern for pattern in (ENERGY_SETUPS[energy], SHAPE_SETUPS[shape]) if pattern]
    if not patterns:
        return None
    wanted = re.compile("|".join(patterns))
    return lambda name, linear: wanted.fullmatch(name) is not None


class CaloDREAM(nn.Module):
    """The two networks, and the way from showers to what they work on and back.

    Args:
        dataset: a data set whose layers are all alike, ds2 or ds3.
        energy: arguments of `EnergyNetwork`, where not the published ones.
        shape: arguments of `ShapeNetwork`, where not the published ones.
        seed: of the initial weights.

    Raises:
        ValueError: a data set without a regular grid, or impossible sizes.
    """

    strategies: ClassVar[dict[str, Select | None]] = {
        f"{energy}/{shape}": _select(energy, shape) for energy in ENERGY_SETUPS for shape in SHAPE_SETUPS
    }
    """Setups as "energy network/shape network", see `ENERGY_SETUPS` and `SHAPE_SETUPS`."""

    def __init__(
        self,
        dataset: str = "ds2",
        *,
        energy: Mapping[str, Any] | None = None,
        shape: Mapping[str, Any] | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__()
        self.geometry = geometry(dataset)
        if not self.geometry.uniform:
            raise ValueError(f"CaloDREAM: dataset={dataset!r} has layers of different shapes, allowed are ds2, ds3")
        n_layers = self.geometry.n_layers
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.energy = EnergyNetwork(n_layers, **energy or {})
            self.shape = ShapeNetwork((n_layers, *self.geometry.shape(0)), **shape or {})
        for name, size in (("ratio", n_layers), ("voxel", self.geometry.n_voxels)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

    @classmethod
    def build(
        cls,
        setup: str = "regular/regular",
        *,
        spec: QuantSpec = QuantSpec(),  # noqa: B008
        **options: Any,
    ) -> tuple[CaloDREAM, QuantReport]:
        """One of the setups of Table 4 and what is quantised in it.

        Args:
            setup: a key of `strategies`, for instance ``"quantized/no_embedding"``.
            spec: how the chosen layers are quantised.
            **options: arguments of the class.
        """
        if setup not in cls.strategies:
            raise ValueError(
                f"CaloDREAM.build: setup={setup!r}, allowed are {', '.join(ENERGY_SETUPS)} for the energy network, "
                f"a slash, and {', '.join(SHAPE_SETUPS)} for the shape network"
            )
        model = cls(**options)
        return model, quantize_(model, cls.strategies[setup], spec)

    @torch.no_grad()
    def initialise(self, voxels: Tensor, incident: Tensor, *, batch_size: int = 1000) -> None:
        """Set mean and width of every number from the training showers, voxels (B, n_voxels) and energies (B,) in MeV.

        Raises:
            ValueError: fewer than two showers.
        """
        if len(voxels) < 2:
            raise ValueError(f"initialise needs at least 2 showers for a standard deviation, got {len(voxels)}")
        for name, column in (("ratio", 0), ("voxel", 1)):
            total = square = 0.0
            for part, energies in zip(voxels.split(batch_size), incident.split(batch_size), strict=True):
                values = self._logits(part, energies)[column].double()
                total, square = total + values.sum(0), square + values.square().sum(0)
            mean = total / len(voxels)
            std = (square / len(voxels) - mean.square()).clamp_min(0).sqrt()
            getattr(self, f"{name}_mean").copy_(mean)
            # A voxel that is empty in every training shower says nothing, but must not be divided by zero.
            getattr(self, f"{name}_std").copy_(torch.where(std > 1e-6, std, 1.0))

    def encode(self, voxels: Tensor, incident: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the networks work on.

        Args:
            voxels: (B, n_voxels) in MeV.
            incident: (B,) in MeV.

        Returns:
            Ratios (B, N) and voxels (B, n_voxels), both as standardised logits, and the condition (B, 1), the
            logarithm of the incident energy scaled to [0, 1].
        """
        u, fractions = self._logits(voxels, incident)
        return (
            (u - self.ratio_mean) / self.ratio_std,
            (fractions - self.voxel_mean) / self.voxel_std,
            self.condition(incident),
        )

    def condition(self, incident: Tensor) -> Tensor:
        """(B, 1) in [0, 1] from incident energies (B,) in MeV."""
        low, high = (math.log(energy) for energy in self.geometry.energy_range)
        return ((incident.log() - low) / (high - low)).unsqueeze(1)

    def decode(self, u: Tensor, fractions: Tensor, incident: Tensor) -> Tensor:
        """Voxels (B, n_voxels) in MeV, finite, none negative and none below the data set's threshold.

        Args:
            u: (B, N) standardised logits of the ratios.
            fractions: (B, n_voxels) standardised logits of the voxels.
            incident: (B,) in MeV.
        """
        u = _inverse_logit(u * self.ratio_std + self.ratio_mean)
        u = torch.cat([u[:, :1] / RESPONSE_SCALE, u[:, 1:]], dim=1)
        energies = ratios.energies_from_ratios(u, incident)
        fractions = _inverse_logit(fractions * self.voxel_std + self.voxel_mean).clamp_min(0)
        fractions = ratios.voxels_from_fractions(fractions, torch.ones_like(energies), self.geometry)
        fractions = torch.where(fractions > SMALLEST_FRACTION, fractions, 0.0)
        voxels = fractions * ratios.per_voxel(energies, self.geometry)
        return torch.where(voxels >= self.geometry.threshold, voxels, 0.0)

    @torch.inference_mode()
    def sample(
        self,
        incident: Tensor,
        *,
        seed: int,
        energy_steps: int = 50,
        shape_steps: int = 20,
        method: str = "rk4",
        batch_size: int = 256,
    ) -> Tensor:
        """Showers (B, n_voxels) in MeV, one for each incident energy (B,) in MeV.

        Args:
            incident: (B,) in MeV.
            seed: of the noise.
            energy_steps: of the solver, for each energy ratio.
            shape_steps: of the solver, for the voxels.
            method: of both, see `flow_matching.METHODS`.
            batch_size: showers at a time.

        Raises:
            ValueError: an energy outside of the data set's range, or an unknown method.
        """
        ratios.check_incident(incident, self.geometry)
        generator = torch.Generator().manual_seed(seed)
        training = self.training
        self.eval()
        try:
            showers = []
            for energies in incident.to(self.ratio_mean).split(batch_size):
                noise = [
                    torch.randn(len(energies), size, generator=generator).to(self.ratio_mean)
                    for size in (self.geometry.n_layers, self.geometry.n_voxels)
                ]
                condition = self.condition(energies)
                u = self.energy.sample(condition, noise[0], steps=energy_steps, method=method)
                steering = torch.cat([condition, u], dim=1)

                def velocity(x: Tensor, time: float, steering: Tensor = steering) -> Tensor:
                    return self.shape(x, x.new_full((len(x),), time), steering)

                fractions = solve(velocity, noise[1], steps=shape_steps, method=method)
                showers.append(self.decode(u, fractions, energies))
        finally:
            self.train(training)
        return torch.cat(showers) if showers else self.voxel_mean.new_empty(0, self.geometry.n_voxels)

    def _logits(self, voxels: Tensor, incident: Tensor) -> tuple[Tensor, Tensor]:
        energies = ratios.layer_energies(voxels, self.geometry)
        u = ratios.energy_ratios(energies, incident)
        u = torch.cat([u[:, :1] * RESPONSE_SCALE, u[:, 1:]], dim=1)
        return _logit(u), _logit(ratios.voxel_fractions(voxels, energies, self.geometry))


def _logit(x: Tensor) -> Tensor:
    return torch.logit(x.clamp(0, 1) * (1 - 2 * DELTA) + DELTA)


def _inverse_logit(z: Tensor) -> Tensor:
    return (z.nan_to_num(nan=-math.inf).sigmoid() - DELTA) / (1 - 2 * DELTA)
