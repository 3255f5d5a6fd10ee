r"""The two attentions of P-DAT (arXiv:2307.04723): between particles, and between channels.

Both are *offset* attentions: what goes on is the difference between the attended features and the input's. Both add to
their logits a bias made from physics: between particles the six features of the pair, between channels the matrix of
jet-level numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bithep_lib.models.ragged import Ragged


class RowBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of the last axis, with statistics over all the others."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).view_as(x)


def perceptron(widths: tuple[int, ...], norm: type[nn.Module], *, bias: bool, dropout: float = 0.0) -> nn.Sequential:
    """Linear, norm, GELU (and dropout) for each step of ``widths``: a 1 x 1 convolution network on the last axis."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(fan_in, fan_out, bias=bias), norm(fan_out), nn.GELU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


class FeedForward(nn.Module):
    """x + dropout(fc2(norm(dropout(gelu(fc1(norm(x))))))), the second half of both attention blocks."""

    def __init__(self, embed: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(embed), nn.LayerNorm(embed)
        self.fc1, self.fc2 = nn.Linear(embed, embed), nn.Linear(embed, embed)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm2(self.dropout(F.gelu(self.fc1(self.norm1(x)))))
        return x + self.dropout(self.fc2(h))


class ParticleAttention(nn.Module):
    r"""Attention between the particles of a jet, with a bias for each pair:

    .. math:: \mathrm{softmax}\left(q k^T / \sqrt{d} + b(\mathrm{pair})\right) v

    Args:
        embed: channels of a particle.
        heads: attention heads, a divisor of ``embed``.
        pair_features: numbers that describe a pair.
        dropout: probability.
        as_published: the bias network ends, as published, in batch normalisation and GELU.
    """

    def __init__(self, embed: int, heads: int, pair_features: int, dropout: float, as_published: bool = False) -> None:
        super().__init__()
        self.heads = heads
        if as_published:
            self.pair_bias = perceptron((pair_features, 32, 16, heads), RowBatchNorm, bias=True, dropout=dropout)
        else:
            # The last layer is linear: a LayerNorm over the heads would give each pair a bias of the same size. And no
            # dropout: as many random numbers as everywhere else together, to blur a function of six numbers.
            hidden = perceptron((pair_features, 32, 16), nn.LayerNorm, bias=True)
            self.pair_bias = nn.Sequential(*hidden, nn.Linear(16, heads))
        self.norm1, self.norm2 = nn.LayerNorm(embed), nn.LayerNorm(embed)
        self.query, self.key, self.value = (nn.Linear(embed, embed) for _ in range(3))
        self.project = nn.Linear(embed, embed)
        self.feed_forward = FeedForward(embed, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: list[Tensor], jets: Ragged) -> tuple[Tensor, list[Tensor]]:
        """Particles and attention weights.

        Args:
            x: (T, embed).
            bias: for each of `jets.groups`, (heads, B, N, N).
            jets: the layout.

        Returns:
            The new particles (T, embed), and the weights of each group, as its bias.
        """
        h = self.norm1(x)
        q, k, v = self.query(h), self.key(h), self.value(h)
        attended, weights = [], []
        for (rows, group), b in zip(jets.groups, bias, strict=True):
            a, w = self._attend(q[rows], k[rows], v[rows], b, group)
            attended.append(a)
            weights.append(w)
        h = self.project(torch.cat(attended) - h)
        x = x + self.norm2(self.dropout(F.gelu(h)))
        return self.feed_forward(x), weights

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, jets: Ragged) -> tuple[Tensor, Tensor]:
        q, k, v = (  # (T, embed) to (heads B, N, d)
            jets.pad(x).unflatten(-1, (self.heads, -1)).permute(2, 0, 1, 3).flatten(0, 1) for x in (q, k, v)
        )
        weights = torch.baddbmm(bias.flatten(0, 1), q, k.mT, alpha=q.shape[-1] ** -0.5).softmax(-1)
        attended = (weights @ v).unflatten(0, (self.heads, -1)).permute(1, 2, 0, 3).flatten(2)  # (B, N, embed)
        return jets.unpad(attended), weights.view_as(bias)


class ChannelAttention(nn.Module):
    r"""Attention between the channels of a jet, each a vector over its particles, with a bias from jet-level numbers:

    .. math:: \mathrm{softmax}\left(q^T k / \sqrt{C} + b(\mathrm{jet})\right) v^T

    Args:
        embed: channels C of a particle.
        dropout: probability.
        as_published: as in the published code (B, N, C) is *reshaped*, not transposed, to (B, C, N), which mixes
            particles with channels and makes the output depend on their order; and five modules are built that are
            never called, one of them, C to C^2, with half the parameters of the network.
    """

    def __init__(self, embed: int, dropout: float, as_published: bool = False) -> None:
        super().__init__()
        self.as_published = as_published
        self.embed = embed
        convolutions = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(3))
        self.jet_bias = nn.Sequential(*(m for c in convolutions for m in (c, nn.GELU(), nn.Dropout(dropout))))
        self.norm1, self.norm2 = nn.LayerNorm(embed), nn.LayerNorm(embed)
        self.query, self.key, self.value = (nn.Linear(embed, embed) for _ in range(3))
        self.feed_forward = FeedForward(embed, dropout)
        self.dropout = nn.Dropout(dropout)
        if as_published:
            self.never_called = nn.ModuleDict(
                {"project": nn.Linear(embed, embed**2), "norm": nn.BatchNorm1d(embed)}
                | {f"norm{i}": nn.BatchNorm2d(1) for i in (1, 2, 3)}
            )

    def bias(self, jet_features: Tensor) -> Tensor:
        """(B, 11, 11) jet-level numbers, enlarged bilinearly, to (B, embed, embed)."""
        image = F.interpolate(jet_features.unsqueeze(1), size=(self.embed, self.embed), mode="bilinear")
        return self.jet_bias(image).squeeze(1)

    def forward(self, x: Tensor, bias: Tensor, jets: Ragged) -> tuple[Tensor, Tensor]:
        """Args: particles (T, embed); bias (B, embed, embed). Returns the new particles and the attention weights."""
        h = self.norm1(x)
        q, k, v = (jets.pad(layer(h)) for layer in (self.query, self.key, self.value))
        if self.as_published:
            q, k, v = (t.view(len(jets), self.embed, jets.width) for t in (q, k, v))
        else:
            q, k, v = q.mT, k.mT, v.mT
        weights = torch.baddbmm(bias, q, k.mT, alpha=self.embed**-0.5).softmax(-1)
        attended = jets.unpad((weights @ v).mT)
        x = x + self.norm2(self.dropout(attended - h))
        return self.feed_forward(x), weights
