"""The energy network of CaloDREAM: how much energy each layer of the calorimeter gets, layer after layer."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bithep_lib.models.flow_matching import interpolate, solve

EncoderOutput = tuple[Tensor, list[Tensor]]


class FourierTime(nn.Module):
    """Time as sines and cosines of 32 random frequencies, which are drawn once and not learned, and a linear layer."""

    def __init__(self, width: int, *, scale: float = 30.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", scale * torch.randn(width // 2))
        self.linear = nn.Linear(width, width)

    def forward(self, time: Tensor) -> Tensor:
        """(..., width) from times (...,) in [0, 1]."""
        phase = 2 * math.pi * time.unsqueeze(-1) * self.frequencies
        return self.linear(torch.cat([phase.sin(), phase.cos()], dim=-1))


class VelocityNetwork(nn.Module):
    """A perceptron for the velocity of one number, given its time and its context.

    Args:
        context: width of the context vector.
        time: width of the time embedding.
        width: of the hidden layers.
        n_hidden: linear layers between hidden layers.
    """

    def __init__(self, context: int, time: int, width: int, n_hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(1 + time + context, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(n_hidden))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(n_hidden))
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """(..., 1) from x (..., 1), an embedded time (..., time) and the context (..., context)."""
        return self._rest(self.first(torch.cat([x, time, context], dim=-1)))

    def given(self, context: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The network for one context (B, context), as a function of x (B, 1) and one embedded time (time,) for all.

        The first layer's product with the context is done once. (In bits it cannot be: its inputs share a scale.)
        """
        if type(self.first) is not nn.Linear:
            return lambda x, time: self(x, time.expand(len(x), -1), context)
        width = len(self.first.weight[0]) - context.shape[-1]
        of_x, of_time, of_context = self.first.weight.split([1, width - 1, context.shape[-1]], dim=1)
        fixed = F.linear(context, of_context, self.first.bias)
        return lambda x, time: self._rest(fixed + x * of_x[:, 0] + F.linear(time, of_time))

    def _rest(self, h: Tensor) -> Tensor:
        h = F.silu(h)
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            h = F.silu(norm(linear(h)))
        return self.last(h)


class EnergyNetwork(nn.Module):
    r"""Autoregressive flow matching for the energy ratios :math:`u_0 \dots u_{N-1}` (arXiv:2405.09629, section 3.1).

    A transformer reads the incident energy (encoder) and the ratios before the j-th (decoder, causal), and its j-th
    output is the context in which a small network learns the velocity of the j-th ratio.

    Args:
        n_ratios: N.
        width: of the tokens, the contexts and the time embedding.
        heads: of the attention.
        depth: layers of the encoder, and of the decoder.
        feedforward: hidden width inside of the transformer's layers.
        velocity_width: hidden width of the velocity network. (The paper says 256; the published count needs 512.)
        velocity_hidden: its linear layers between hidden layers.

    Raises:
        ValueError: tokens too narrow for a ratio and its one-hot position.
    """

    def __init__(
        self,
        n_ratios: int = 45,
        *,
        width: int = 64,
        heads: int = 4,
        depth: int = 4,
        feedforward: int = 512,
        velocity_width: int = 512,
        velocity_hidden: int = 6,
    ) -> None:
        super().__init__()
        if width < n_ratios + 2:
            raise ValueError(
                f"width={width} must be at least {n_ratios + 2}: a ratio and the one-hot position of {n_ratios} ratios"
            )
        self.n_ratios, self.width, self.heads = n_ratios, width, heads
        self.transformer = nn.Transformer(width, heads, depth, depth, feedforward, dropout=0.0, batch_first=True)
        self.time = FourierTime(width)
        self.velocity = VelocityNetwork(width, width, velocity_width, velocity_hidden)

    def forward(self, x: Tensor, time: Tensor, ratios: Tensor, condition: Tensor) -> Tensor:
        """Velocities of all ratios, each given the true ones before it.

        Args:
            x: (B, N) points between noise and data.
            time: (B, N) times in [0, 1], one for each ratio.
            ratios: (B, N) the data.
            condition: (B, 1) the incident energy, scaled to [0, 1].

        Returns:
            (B, N)
        """
        before = F.pad(ratios[:, :-1], (1, 0))
        mask = nn.Transformer.generate_square_subsequent_mask(self.n_ratios, device=x.device, dtype=x.dtype)
        context = self.transformer(self._source(condition), self._tokens(before), tgt_mask=mask, tgt_is_causal=True)
        return self.velocity(x.unsqueeze(-1), self.time(time), context).squeeze(-1)

    def loss(self, ratios: Tensor, condition: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Mean squared error of the velocity, with noise and times of their own for each ratio (B, N)."""
        noise = torch.randn(ratios.shape, generator=generator).to(ratios)
        time = torch.rand(ratios.shape, generator=generator).to(ratios)
        x, velocity = interpolate(ratios, noise, time)
        return F.mse_loss(self(x, time, ratios, condition), velocity)

    @torch.no_grad()
    def sample(self, condition: Tensor, noise: Tensor, *, steps: int = 50, method: str = "rk4") -> Tensor:
        """Ratios (B, N) for conditions (B, 1), one after the other, from noise (B, N).

        Keys and values of earlier tokens are kept, the one source token is read once, and the velocity's embedded
        times are those of all showers.
        """
        memory = self._memories(condition)
        caches: list[list[Tensor]] = [[] for _ in memory]
        times: dict[float, Tensor] = {}
        ratios: list[Tensor] = []
        before = torch.zeros_like(condition)
        for position in range(self.n_ratios):
            token = self._tokens(before, first=position).squeeze(1)
            velocity = self.velocity.given(self._decode(token, memory, caches))

            def at(x: Tensor, t: float, velocity: Callable[[Tensor, Tensor], Tensor] = velocity) -> Tensor:
                if t not in times:
                    times[t] = self.time(torch.tensor(t, dtype=noise.dtype, device=noise.device))
                return velocity(x, times[t])

            before = solve(at, noise[:, position : position + 1], steps=steps, method=method)
            ratios.append(before)
        return torch.cat(ratios, dim=1)

    def _source(self, condition: Tensor) -> Tensor:
        """(B, 1, width): the incident energy, a one and zeros."""
        one = torch.ones_like(condition)
        return F.pad(torch.cat([condition, one], dim=1), (0, self.width - 2)).unsqueeze(1)

    def _tokens(self, before: Tensor, first: int = 0) -> Tensor:
        """(B, n, width) for positions first, first + 1, ...: the ratio before each, and its position one-hot."""
        n = before.shape[1]
        positions = torch.eye(self.n_ratios + 1, dtype=before.dtype, device=before.device)[first : first + n]
        tokens = torch.cat([before.unsqueeze(-1), positions.expand(len(before), -1, -1)], dim=-1)
        return F.pad(tokens, (0, self.width - tokens.shape[-1]))

    def _memories(self, condition: Tensor) -> list[Tensor]:
        """What each decoder layer reads from the source (B, width): attention to a single token is its value."""
        memory = self.transformer.encoder(self._source(condition)).squeeze(1)
        outputs = []
        for layer in self.transformer.decoder.layers:
            attention = layer.multihead_attn
            value = F.linear(
                memory, attention.in_proj_weight[2 * self.width :], attention.in_proj_bias[2 * self.width :]
            )
            outputs.append(attention.out_proj(value))
        return outputs

    def _decode(self, x: Tensor, memory: list[Tensor], caches: list[list[Tensor]]) -> Tensor:
        """The decoder's output (B, width) for one more token (B, width); its keys and values join the caches."""
        for layer, read, cache in zip(self.transformer.decoder.layers, memory, caches, strict=True):
            projected = F.linear(x, layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias)
            query, *new = projected.view(len(x), 3, self.heads, 1, -1).unbind(1)
            cache[:] = [torch.cat([old, one], dim=2) for old, one in zip(cache, new, strict=True)] if cache else new
            attended = F.scaled_dot_product_attention(query, *cache).reshape(len(x), -1)
            x = layer.norm1(x + layer.self_attn.out_proj(attended))
            x = layer.norm2(x + read)
            x = layer.norm3(x + layer.linear2(layer.activation(layer.linear1(x))))
        return self.transformer.decoder.norm(x)
