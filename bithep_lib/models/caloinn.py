r"""CaloINN, a normalising flow for calorimeter showers (arXiv:2312.09290), as in section 5.1 of arXiv:2504.03387.

A chain of coupling blocks maps a shower to standard-normal numbers and back. Each block leaves one half of its input as
it is and bends the other with splines, whose shapes a small network reads off the first half and the incident energy.
Actnorms scale between the blocks, and permutations change what is a half.

The default is the flow as the papers describe it, with splines that act on each entry by itself. The released code lets
a whole shower pass a block unchanged as soon as one of its entries is outside of the spline's interval:
``as_published=True``.

Example:

    >>> with torch.device("meta"):                      # counts need no memory, even for 271 million parameters
    ...     flow, report = CaloINN.build("BlockCentral", dataset="ds2")
    >>> f"{100 * report.fraction:.4f} % of {report.parameters} parameters are ternary"
    '71.3942 % of 270960220 parameters are ternary'
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from bithep_lib.bitlinear import QuantSpec
from bithep_lib.data.calochallenge import geometry, ratios
from bithep_lib.models.coupling import CouplingBlock, FlowSettings, Tails
from bithep_lib.quantize import QuantReport, Select, quantize_

Permutations = Literal["random", "exchange"]

LOG_OFFSET = 1e-8
"""Added to fractions before the logarithm."""


SETTINGS: Mapping[str, FlowSettings] = MappingProxyType(
    {
        "ds1-photons": FlowSettings(n_blocks=12, spline="rational_quadratic", bound=18.0),
        "ds1-pions": FlowSettings(n_blocks=12, spline="rational_quadratic", bound=18.0),
        "ds2": FlowSettings(n_blocks=14, spline="cubic", bound=15.0, n_linear=3, batch_norm=False, noise=1e-6),
    }
)
"""The published flow of each data set."""


class CaloINN(nn.Module):
    r"""A flow for the showers of one data set.

    It works on x = log(y + 1e-8), where y (B, D) holds the voxels of a shower as fractions of their layer's energy and
    the N energy ratios of `bithep_lib.data.calochallenge.ratios`, D = voxels + N. The condition (B, 1) is log10 of the
    incident energy in GeV.

    Args:
        dataset: key of `SETTINGS`.
        permutations: ``"random"``: after each block a permutation drawn once; ``"exchange"``: the first two and the
            last two blocks swap the halves instead, so that they bend each entry once (for odd D all entries but one),
            and only the blocks between them have an actnorm.
        standardise: shift and scale the input by its mean and standard deviation over the showers given to
            `initialise`. Without it the empty voxels of ds2 lie outside of the first blocks' splines.
        separate_condition: see `Conditioner`.
        as_published: the released flow, in which a whole shower passes a block unchanged when one of its entries is
            outside of the spline's interval (for ds2 that is every shower, in the first block).
        seed: of the permutations and the initial weights.
        **settings: replace single fields of the data set's `FlowSettings`, e.g. ``n_blocks=6, hidden=64``.

    Raises:
        ValueError: an unknown data set, permutation or setting, or too few blocks.
    """

    strategies: ClassVar[dict[str, Select | None]] = {
        "Default": None,
        "ExchangePermutation": None,
        "NNCentral": lambda name, linear: ".hidden." in name,
        "BlockCentral": lambda name, linear: name.startswith("inner."),
        "All": lambda name, linear: True,
    }
    """The setups of Table 3: nothing in bits (twice), the hidden-to-hidden layers of each conditioner, all layers of
    all blocks but the first two and the last two, everything. `build` adds the permutations that belong to each."""

    def __init__(
        self,
        dataset: str = "ds1-photons",
        *,
        permutations: Permutations = "random",
        standardise: bool = False,
        separate_condition: bool = False,
        as_published: bool = False,
        seed: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__()
        for name, value, allowed in (
            ("dataset", dataset, tuple(SETTINGS)),
            ("permutations", permutations, get_args(Permutations)),
        ):
            if value not in allowed:
                raise ValueError(f"CaloINN: {name}={value!r}, allowed are {', '.join(allowed)}")
        known = {field.name for field in fields(FlowSettings)}
        if unknown := settings.keys() - known:
            raise ValueError(f"CaloINN: unknown {', '.join(sorted(unknown))}; settings are {', '.join(sorted(known))}")
        self.geometry = geometry(dataset)
        self.settings = replace(SETTINGS[dataset], **settings)
        if self.settings.n_blocks < 5:
            raise ValueError(
                f"CaloINN: n_blocks={self.settings.n_blocks}, but two first, two last and one between are 5"
            )
        self.features = self.geometry.n_voxels + self.geometry.n_layers

        last = self.settings.n_blocks - 1
        exchange = permutations == "exchange"
        swap = torch.arange(self.features).roll(self.features // 2)
        generator = torch.Generator().manual_seed(seed)
        tails: Tails = "sample" if as_published else "elementwise"

        def block(index: int) -> CouplingBlock:
            outer = index < 2 or index > last - 2
            shuffled = torch.randperm(self.features, generator=generator, device="cpu").to(swap.device)
            return CouplingBlock(
                swap if exchange and outer else shuffled,
                self.settings,
                actnorm=not outer if exchange else index > 0,
                tails=tails,
                separate_condition=separate_condition,
            )

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first = nn.ModuleList(block(index) for index in (0, 1))
            self.inner = nn.ModuleList(block(index) for index in range(2, last - 1))
            self.last = nn.ModuleList(block(index) for index in (last - 1, last))
        self.standardise = standardise
        self.register_buffer("mean", torch.zeros(self.features))
        self.register_buffer("std", torch.ones(self.features))

    @property
    def blocks(self) -> list[CouplingBlock]:
        """All coupling blocks, from the showers to the normal numbers."""
        return [*self.first, *self.inner, *self.last]

    @classmethod
    def build(
        cls,
        setup: str = "Default",
        *,
        dataset: str = "ds1-photons",
        spec: QuantSpec = QuantSpec(),  # noqa: B008
        example: tuple[Tensor, Tensor] | None = None,
        **options: Any,
    ) -> tuple[CaloINN, QuantReport]:
        """One of the setups of Table 3, permutations and bits together, and what is quantised in it.

        Args:
            setup: a key of `strategies`; ``"ExchangePermutation"`` and ``"BlockCentral"`` swap halves in their outer
                blocks.
            dataset: key of `SETTINGS`.
            spec: how the chosen layers are quantised.
            example: (x, condition) of a few showers, for the counts that need a forward pass.
            **options: further arguments of the class.
        """
        if setup not in cls.strategies:
            raise ValueError(f"CaloINN.build: setup={setup!r}, allowed are {', '.join(cls.strategies)}")
        options.setdefault("permutations", "exchange" if setup in ("ExchangePermutation", "BlockCentral") else "random")
        flow = cls(dataset, **options)
        return flow, quantize_(flow, cls.strategies[setup], spec, example=example)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Normal numbers (B, D) and log-determinants (B,) of showers x (B, D) with conditions (B, 1)."""
        z = (x - self.mean) / self.std
        log_det = -self.std.log().sum().expand(len(x))
        for block in self.blocks:
            z, step = block(z, condition)
            log_det = log_det + step
        return z, log_det

    def inverse(self, z: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Showers x (B, D) and log-determinants (B,) of normal numbers z (B, D) with conditions (B, 1)."""
        log_det = self.std.log().sum().expand(len(z))
        for block in reversed(self.blocks):
            z, step = block.inverse(z, condition)
            log_det = log_det + step
        return z * self.std + self.mean, log_det

    def log_prob(self, x: Tensor, condition: Tensor) -> Tensor:
        r"""Logarithm of the density of x given the condition (B,), in nats.

        As in the papers it is the density of x = log(y + 1e-8). That of y is larger by :math:`-\sum_i x_i`, which no
        parameter changes.
        """
        z, log_det = self(x, condition)
        return log_det - 0.5 * z.square().sum(1) - 0.5 * self.features * math.log(2 * math.pi)

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor) -> None:
        """Set mean and width of the input (with `standardise`) and the actnorms, from a few hundred training showers.

        Raises:
            ValueError: fewer than two showers.
        """
        if len(x) < 2:
            raise ValueError(f"initialise needs at least 2 showers for a standard deviation, got {len(x)}")
        if self.standardise:
            self.mean.copy_(x.mean(0))
            self.std.copy_(x.std(0).clamp_min(1e-6))
        training = self.training
        self.eval()
        z = (x - self.mean) / self.std
        for block in self.blocks:
            if block.actnorm is not None:
                block.actnorm.initialise(z)
            z, _ = block(z, condition)
        self.train(training)

    def encode(self, voxels: Tensor, incident: Tensor, *, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the flow works on: x (B, D) and the condition (B, 1).

        Args:
            voxels: (B, n_voxels) in MeV.
            incident: (B,) incident energies in MeV.
            noise: (B, D) uniform in [0, 1), new each time a shower is seen: times the setting ``noise`` it fills the
                gap between empty voxels and the smallest energies. None: nothing is added.
        """
        energies = ratios.layer_energies(voxels, self.geometry)
        y = torch.cat(
            [ratios.voxel_fractions(voxels, energies, self.geometry), ratios.energy_ratios(energies, incident)], dim=1
        )
        if noise is not None:
            y = y + self.settings.noise * noise
        return (y + LOG_OFFSET).log(), (incident[:, None] / 1000).log10()

    def decode(self, x: Tensor, incident: Tensor) -> Tensor:
        """Voxels (B, n_voxels) in MeV, finite and none negative, from x (B, D) and incident energies (B,) in MeV."""
        # A fraction above e^3 means nothing, and an infinite one would spread to its whole layer.
        y = x.nan_to_num(nan=-math.inf).clamp_max(3.0).exp() - LOG_OFFSET - self.settings.noise
        y = torch.where(y < self.settings.noise, 0.0, y)
        fractions, u = y.split([self.geometry.n_voxels, self.geometry.n_layers], dim=1)
        energies = ratios.energies_from_ratios(u, incident)
        return ratios.voxels_from_fractions(fractions, energies, self.geometry)

    @torch.inference_mode()
    def sample(self, incident: Tensor, *, seed: int, batch_size: int = 1000) -> Tensor:
        """Showers (B, n_voxels) in MeV, one for each incident energy (B,) in MeV.

        Raises:
            ValueError: an energy outside of the data set's range.
        """
        ratios.check_incident(incident, self.geometry)
        generator = torch.Generator().manual_seed(seed)
        training = self.training
        self.eval()
        try:
            showers = []
            for energies in incident.to(self.mean).split(batch_size):
                z = torch.randn(len(energies), self.features, generator=generator).to(self.mean)
                x, _ = self.inverse(z, (energies[:, None] / 1000).log10())
                showers.append(self.decode(x, energies))
        finally:
            self.train(training)
        return torch.cat(showers) if showers else self.mean.new_empty(0, self.geometry.n_voxels)
