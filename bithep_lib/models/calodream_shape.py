"""The shape network of CaloDREAM: how the energy of each layer is spread over its voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bithep_lib.models.flow_matching import interpolate


class SinusoidalTime(nn.Module):
    """Time as 256 sines and cosines of frequencies from 1 down to 1e-4, and a perceptron.

    Args:
        width: of the output.
        scale: times the time. Published is 1, with which most of the 256 numbers hardly change on [0, 1].
        n_frequencies: pairs of sine and cosine.
    """

    def __init__(self, width: int, *, scale: float = 1.0, n_frequencies: int = 128) -> None:
        super().__init__()
        frequencies = torch.exp(-math.log(10_000) * torch.arange(n_frequencies) / n_frequencies)
        self.register_buffer("frequencies", scale * frequencies, persistent=False)
        self.first = nn.Linear(2 * n_frequencies, width)
        self.second = nn.Linear(width, width)

    def forward(self, time: Tensor) -> Tensor:
        """(B, width) from times (B,)."""
        phase = time.unsqueeze(-1) * self.frequencies
        return self.second(F.silu(self.first(torch.cat([phase.cos(), phase.sin()], dim=-1))))


class ConditionEmbedding(nn.Module):
    """A perceptron on the incident energy and the energy ratios.

    Args:
        n_conditions: inputs, the incident energy first.
        width: of the output.
        separate_energy: a matrix of its own for the incident energy. In float it is the same function; in bits the
            inputs of a layer share one scale, and this way the energy does not share the ratios'.
    """

    def __init__(self, n_conditions: int, width: int, *, separate_energy: bool = False) -> None:
        super().__init__()
        self.energy = nn.Linear(1, width, bias=False) if separate_energy else None
        self.first = nn.Linear(n_conditions - separate_energy, width)
        self.second = nn.Linear(width, width)

    def forward(self, condition: Tensor) -> Tensor:
        """(B, width) from (B, n_conditions)."""
        if self.energy is None:
            return self.second(F.silu(self.first(condition)))
        return self.second(F.silu(self.first(condition[:, 1:]) + self.energy(condition[:, :1])))


class Block(nn.Module):
    """Attention between tokens, a perceptron on each, both steered by the condition (adaLN-Zero, arXiv:2212.09748)."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, mlp_ratio * width)
        self.fc2 = nn.Linear(mlp_ratio * width, width)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Tokens (B, T, width) given the embedded time and condition (B, width)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(condition)).unsqueeze(1).chunk(6, dim=-1)
        tokens = tokens + gate1 * self._attention(self.norm(tokens) * (1 + scale1) + shift1)
        hidden = F.gelu(self.fc1(self.norm(tokens) * (1 + scale2) + shift2), approximate="tanh")
        return tokens + gate2 * self.fc2(hidden)

    def _attention(self, x: Tensor) -> Tensor:
        batch, n_tokens, width = x.shape
        query, key, value = self.qkv(x).view(batch, n_tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.projection(mixed.transpose(1, 2).reshape(batch, n_tokens, width))


class ShapeNetwork(nn.Module):
    """A vision transformer for the velocity of all voxels at once (arXiv:2405.09629, section 3.2).

    Args:
        grid: voxels in layer, angle and radius.
        patch: voxels of a token in each direction; must divide the grid.
        width: of the tokens; a multiple of 6 and of ``heads``.
        depth: blocks.
        heads: of the attention.
        mlp_ratio: hidden width of a block's perceptron over ``width``.
        time_scale: see `SinusoidalTime`.
        separate_energy: see `ConditionEmbedding`.

    Raises:
        ValueError: patches or heads that do not divide, or a width that is no multiple of 6.
    """

    def __init__(
        self,
        grid: Sequence[int] = (45, 16, 9),
        *,
        patch: Sequence[int] = (3, 16, 1),
        width: int = 480,
        depth: int = 6,
        heads: int = 6,
        mlp_ratio: int = 4,
        time_scale: float = 1.0,
        separate_energy: bool = False,
    ) -> None:
        super().__init__()
        if any(n % p for n, p in zip(grid, patch, strict=True)):
            raise ValueError(f"patch={tuple(patch)} does not divide the grid {tuple(grid)}")
        if width % 6 or width % heads:
            raise ValueError(f"width={width} must be a multiple of 6 (frequencies) and of heads={heads}")
        self.grid, self.patch = tuple(grid), tuple(patch)
        self.patches = tuple(n // p for n, p in zip(grid, patch, strict=True))
        voxels = math.prod(patch)
        self.x_embedding = nn.Linear(voxels, width)
        self.time_embedding = SinusoidalTime(width, scale=time_scale)
        self.condition_embedding = ConditionEmbedding(grid[0] + 1, width, separate_energy=separate_energy)
        self.frequencies = nn.Parameter(torch.randn(width // 2))
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, voxels)
        self._initialise()

    def _initialise(self) -> None:
        """Xavier weights and zero biases; modulations and the last layer zero, so that each block starts as nothing."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for linear in (self.time_embedding.first, self.time_embedding.second):
            nn.init.normal_(linear.weight, std=0.02)
        for linear in (*(block.modulation for block in self.blocks), self.modulation, self.last):
            nn.init.zeros_(linear.weight)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Velocities (B, n_voxels) of voxels x (B, n_voxels) at times (B,), given the conditions (B, layers + 1)."""
        steering = self.time_embedding(time) + self.condition_embedding(condition)
        tokens = self.x_embedding(self._cut(x)) + self._positions()
        for block in self.blocks:
            tokens = block(tokens, steering)
        shift, scale = self.modulation(F.silu(steering)).unsqueeze(1).chunk(2, dim=-1)
        return self._join(self.last(self.norm(tokens) * (1 + scale) + shift))

    def loss(self, data: Tensor, condition: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Mean squared error of the velocity for data (B, n_voxels), with one time for each shower."""
        noise = torch.randn(data.shape, generator=generator).to(data)
        time = torch.rand(len(data), generator=generator).to(data)
        x, velocity = interpolate(data, noise, time.unsqueeze(-1))
        return F.mse_loss(self(x, time, condition), velocity)

    def _cut(self, x: Tensor) -> Tensor:
        """Voxels (B, n_voxels) as tokens (B, T, voxels of a patch), layers first, then angles, then radii."""
        (a, b, c), (i, j, k) = self.patches, self.patch
        x = x.reshape(-1, a, i, b, j, c, k)
        return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(len(x), a * b * c, i * j * k)

    def _join(self, tokens: Tensor) -> Tensor:
        (a, b, c), (i, j, k) = self.patches, self.patch
        tokens = tokens.reshape(-1, a, b, c, i, j, k)
        return tokens.permute(0, 1, 4, 2, 5, 3, 6).reshape(len(tokens), -1)

    def _positions(self) -> Tensor:
        """(T, width): sines and cosines of each token's place, with learned frequencies."""
        places = [torch.arange(n, device=self.frequencies.device) / n for n in self.patches]
        layer, angle, radius = torch.meshgrid(*places, indexing="ij")
        thirds = self.frequencies.chunk(3)
        phases = [
            2 * math.pi * place.reshape(-1, 1) * frequencies
            for place, frequencies in zip((radius, angle, layer), thirds, strict=True)
        ]
        return torch.cat([f(phase) for phase in phases for f in (torch.sin, torch.cos)], dim=1)
