"""P-DAT, the particle dual attention transformer of arXiv:2307.04723, as in section 3 of arXiv:2504.03387.

Two EdgeConv layers turn the constituents of a jet into features, two rounds of particle and channel attention mix them,
and a 1D convolution, an average over the particles and a small perceptron say how quark-like the jet is.

The default is the model as the papers describe it. The released code differs from that in ways that matter (a layer
that never sees a neighbour, particles mixed with channels, padding treated as particles, ...). ``as_published=True``
builds that instead, and ``faults`` puts single ones of its faults into the corrected model, to measure what each costs.

Example:

    >>> model, report = PDAT.build("attention")          # P-DAT-Bit: ternary weights in the four attention blocks
    >>> f"{100 * report.fraction:.1f} % of the parameters are ternary"
    '20.5 % of the parameters are ternary'
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bithep_lib.bitlinear import QuantSpec
from bithep_lib.data import jet_features as features
from bithep_lib.models.attention import ChannelAttention, ParticleAttention, RowBatchNorm, perceptron
from bithep_lib.models.ragged import Ragged, gather_rows
from bithep_lib.quantize import QuantReport, Select, quantize_

FAULTS = ("double_softmax", "no_mask", "wrong_phi")
"""Faults of the published code that change results, and can be put into the corrected model:

* ``double_softmax``: the cross entropy gets probabilities for logits, so that the loss lies in [0.313, 1.313].
* ``no_mask``: slots without a particle, up to ``max_constituents``, are neighbours, attention keys and in the average.
* ``wrong_phi``: see `jet_features.released_phi`; no azimuthal difference is wrapped.
"""

# Mean and width over 2000 simulated jets, rounded. Fixed numbers, so that no jet's features depend on other jets.
_PARTICLE_SCALE = ((2.1, 1.8, 0.03, 0.03, 0.0, 0.0, 0.1), (1.6, 1.5, 0.05, 0.05, 0.1, 0.1, 0.1))
_PAIR_SCALE = ((0.2, -1.4, -1.6, 0.2, 1.6, 0.3), (0.14, 2.1, 1.25, 0.15, 1.65, 0.46))
_LOG_COUNT_SCALE = (3.7, 0.43)

EDGES, PAIRS = 128, 2048
"""How many particles (with their edges) and pairs are done at a time, see `in_chunks`."""


class EdgeConv(nn.Module):
    """Features of a particle from those of its neighbours: a network for each neighbour, averaged (arXiv:1801.07829).

    The first layer of a network on [x_i, x_j - x_i] is linear, so it is a sum of one of x_i and one of x_j: both are
    applied to the particles, before neighbours are paired, which takes k times less arithmetic.
    """

    def __init__(self, fan_in: int, widths: tuple[int, ...], recompute: bool = True) -> None:
        super().__init__()
        self.recompute = recompute
        self.centre = nn.Linear(fan_in, widths[0], bias=False)
        self.neighbour = nn.Linear(fan_in, widths[0], bias=False)
        self.first = nn.Sequential(nn.LayerNorm(widths[0]), nn.GELU())
        self.rest = perceptron(widths, nn.LayerNorm, bias=False)

    def forward(self, x: Tensor, rows: Tensor, real: Tensor) -> Tensor:
        """Args: particles (T, fan_in); their neighbours (T, k) and which of those are real. Returns (T, widths[-1])."""
        neighbour = self.neighbour(x)

        def of_chunk(centre: Tensor, rows: Tensor, real: Tensor) -> Tensor:
            edges = gather_rows(neighbour, rows) + centre.unsqueeze(1)
            return neighbour_mean(self.rest(self.first(edges)), real)

        return in_chunks(of_chunk, self.centre(x), rows, real, size=EDGES, recompute=self.recompute)


class PDAT(nn.Module):
    """Particle dual attention transformer, a quark/gluon tagger.

    Args:
        embed: channels of a particle (64 in the paper); everything else scales with it. A multiple of ``heads``.
        heads: heads of particle attention.
        neighbours: neighbours in the two EdgeConv layers, the particle itself included.
        max_constituents: only the particles of the largest pt are used.
        dropout: in the attention blocks (the classifier has 0.5).
        share_blocks: one particle and one channel attention, applied twice, as released; otherwise two of each.
        faults: some of `FAULTS`.
        as_published: the released architecture, with all its faults and its never-called layers: 497 678 parameters.
            Batch normalisation couples the jets of a training batch, and every slot up to ``max_constituents`` is
            computed.
        recompute: compute the features of edges and pairs once more in the backward pass instead of keeping them: the
            same numbers, a third of the memory, up to half as much time again (``benchmarks/bench_pdat.py``).

    Raises:
        ValueError: an argument is impossible; the message says which.
    """

    strategies: ClassVar[dict[str, Select | None]] = {
        "none": None,
        "attention": lambda name, _: _in_attention(name),
        "attention+features": lambda name, _: _in_attention(name) or name.startswith(("edge_conv", "convolution")),
        "all": lambda name, _: True,
    }
    """What becomes bits: nothing, the linear layers of the attention blocks (the paper's P-DAT-Bit), those and the
    EdgeConv and convolution layers, or every linear layer."""

    def __init__(
        self,
        embed: int = 64,
        heads: int = 8,
        neighbours: tuple[int, int] = (21, 20),
        max_constituents: int = 100,
        dropout: float = 0.1,
        share_blocks: bool = True,
        faults: Collection[str] = (),
        as_published: bool = False,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        if heads < 1 or embed < 1 or embed % heads:
            raise ValueError(f"PDAT: embed must be a positive multiple of heads, but embed={embed}, heads={heads}")
        if max_constituents < 1 or min(neighbours) < 1:
            raise ValueError(f"PDAT: max_constituents={max_constituents}, neighbours={neighbours} must be at least 1")
        if isinstance(faults, str) or not set(faults) <= set(FAULTS):
            raise ValueError(f"PDAT: faults={faults!r}, allowed are collections of {', '.join(FAULTS)}")
        self.neighbours = neighbours
        self.max_constituents = max_constituents
        self.as_published = as_published
        self.recompute = recompute
        self.faults = frozenset(FAULTS if as_published else faults)

        wide = 2 * embed
        if as_published:
            self.edge_conv1 = perceptron((8, wide, wide, wide), RowBatchNorm, bias=False)
            self.edge_conv2 = perceptron((wide, embed, embed, embed), RowBatchNorm, bias=False)
            self.never_called = nn.Sequential(nn.Linear(4 * embed, embed), nn.BatchNorm1d(embed))
        else:
            self.edge_conv1 = perceptron((7 + len(features.SPECIES), wide, wide, wide), nn.LayerNorm, bias=False)
            self.edge_conv2 = EdgeConv(wide, (embed, embed, embed), recompute)
        n_blocks = 1 if share_blocks else 2
        n_pair = len(features.PAIR_FEATURES)
        self.particle_attention = nn.ModuleList(
            ParticleAttention(embed, heads, n_pair, dropout, as_published) for _ in range(n_blocks)
        )
        self.channel_attention = nn.ModuleList(ChannelAttention(embed, dropout, as_published) for _ in range(n_blocks))
        self.convolution = nn.Linear(5 * embed, 4 * embed)
        self.classifier = nn.Sequential(
            nn.Linear(4 * embed + (not as_published), wide),  # one more: the logarithm of the multiplicity
            (nn.BatchNorm1d if as_published else nn.LayerNorm)(wide),
            nn.GELU(),
            nn.Dropout(0.5),
            nn.Linear(wide, 2),
        )

    @classmethod
    def build(
        cls,
        strategy: str = "none",
        *,
        spec: QuantSpec = QuantSpec(),
        example: Tensor | None = None,
        **sizes: Any,  # noqa: B008
    ) -> tuple[PDAT, QuantReport]:
        """A model and what is quantised in it.

        Args:
            strategy: a key of `strategies`; ``"attention"`` is the paper's P-DAT-Bit.
            spec: how the chosen layers are quantised.
            example: constituents (B, M, 4), for the counts that need a forward pass (used parameters, multiply-adds).
            **sizes: arguments of the model.
        """
        if strategy not in cls.strategies:
            raise ValueError(f"PDAT.build: strategy={strategy!r}, allowed are {', '.join(cls.strategies)}")
        model = cls(**sizes)
        return model, quantize_(model, cls.strategies[strategy], spec, example=example)

    def forward(self, constituents: Tensor) -> Tensor:
        """How quark-like jets are.

        Args:
            constituents: (B, M, 4) with columns pt (GeV), y, phi, PDG id; rows with pt = 0 are padding, in any order.

        Returns:
            (B,) logits of being a quark jet. With the fault ``double_softmax`` what the published loss takes for a
            logit: the difference of the two probabilities, in [-1, 1].

        Raises:
            ValueError: wrong shape, or a jet without constituents.
        """
        constituents = self._select(constituents)
        by_size = (constituents[..., 0] > 0).sum(1).argsort(stable=True)
        logits, _, _ = self._forward(constituents[by_size])
        return torch.empty_like(logits).index_copy(0, by_size, logits)

    @torch.no_grad()
    def attention_maps(self, jet: Tensor) -> tuple[Tensor, Tensor]:
        """The attention weights in the two rounds for one jet.

        Args:
            jet: constituents (M, 4).

        Returns:
            (2, heads, n, n) between its n particles in their order, and (2, embed, embed) between channels. Rows sum
            to 1.
        """
        _, particle, channel = self._forward(self._select(jet.unsqueeze(0)))
        return torch.stack([maps[0][:, 0] for maps in particle]), torch.cat(channel)

    def _forward(self, constituents: Tensor) -> tuple[Tensor, list[list[Tensor]], list[Tensor]]:
        """Logits (B,) of selected constituents, and the attention weights of particles and channels in each round."""
        jets, edges, rows_real, pairs, jet_matrix = self._features(constituents)
        x = in_chunks(
            lambda e, real: neighbour_mean(self.edge_conv1(e), real),
            edges, rows_real, size=EDGES, recompute=self.recompute,
        )  # fmt: skip
        x = self._second_edge_conv(x, jets)
        outputs, particle_maps, channel_maps = [x], [], []
        for step in range(2):
            particle = self.particle_attention[step % len(self.particle_attention)]
            channel = self.channel_attention[step % len(self.channel_attention)]
            if step < len(self.particle_attention) or self.as_published:  # the biases of a shared block are shared, too
                pair_bias, jet_bias = self._pair_bias(particle, pairs, jets), channel.bias(jet_matrix)
            x, particle_map = particle(x, pair_bias, jets)
            outputs.append(x)
            x, channel_map = channel(x, jet_bias, jets)
            outputs.append(x)
            particle_maps.append(particle_map)
            channel_maps.append(channel_map)
        x = jets.mean(self.convolution(torch.cat(outputs, dim=-1)))
        if not self.as_published:
            count = jets.counts.to(x.dtype).log().unsqueeze(1)
            x = torch.cat([x, _standardise(count, _LOG_COUNT_SCALE)], dim=-1)
        return self.score(self.classifier(x)), particle_maps, channel_maps

    def score(self, logits: Tensor) -> Tensor:
        """(B, 2) outputs for gluon and quark to the logit (B,) of quark against gluon that the loss takes."""
        if "double_softmax" in self.faults:
            logits = logits.softmax(-1)
        return logits[:, 1] - logits[:, 0]

    def _second_edge_conv(self, x: Tensor, jets: Ragged) -> Tensor:
        if not self.as_published:
            return self.edge_conv2(x, *jets.neighbours(x, self.neighbours[1]))
        # The published layer gathers along an axis that repeats the particle itself: k equal rows, no neighbour.
        return self.edge_conv2(x.unsqueeze(1).expand(-1, self.neighbours[1], -1)).mean(1)

    def _pair_bias(self, block: ParticleAttention, pairs: Tensor, jets: Ragged) -> list[Tensor]:
        """The bias of particle attention, (heads, B, N, N) for each group of jets."""
        if self.as_published:
            bias = block.pair_bias(pairs)
            return list(bias.permute(3, 0, 1, 2).split([len(group) for _, group in jets.groups], dim=1))
        bias = in_chunks(block.pair_bias, pairs, size=PAIRS, recompute=self.recompute)
        itself, *by_group = bias.split([1, *(len(group.pairs[0]) for _, group in jets.groups)])
        return [group.table(b, itself) for (_, group), b in zip(jets.groups, by_group, strict=True)]

    @torch.no_grad()
    def _features(self, constituents: Tensor) -> tuple[Ragged, Tensor, Tensor, Tensor, Tensor]:
        """Everything that the network is fed with.

        Returns:
            The layout; edges (T, k, F) and which are real (T, k); features of pairs (1 + P, 6), the first that of a
            particle with itself (as published: all (B, N, N, 6)); jet-level numbers (B, 11, 11).
        """
        wrong_phi, published = "wrong_phi" in self.faults, self.as_published
        pt, y, phi, pid = constituents.unbind(-1)
        if wrong_phi:
            phi = features.released_phi(phi)
        p = features.momentum(pt, y, phi)
        matrix = features.jet_features(p, y, phi, pid, released=wrong_phi)
        real = torch.ones_like(pt, dtype=torch.bool) if "no_mask" in self.faults else pt > 0
        jets = Ragged(real.sum(1))

        if not wrong_phi:  # angles from the jet axis: no pair of one jet's particles is then more than pi apart
            eta_jet, phi_jet = features.jet_axis(p)
            y, phi = y - eta_jet.unsqueeze(1), features.wrap_phi(phi - phi_jet.unsqueeze(1))
        particles = features.particle_features(p)[real]
        pt, y, phi, pid = columns = [column[real] for column in (pt, y, phi, pid)]
        kinds = features.released_species(pid).unsqueeze(-1) if published else features.species(pid)

        plane = torch.stack([y, phi], dim=-1)
        rows, real = jets.neighbours(plane, self.neighbours[0])
        step = gather_rows(plane, rows) - plane.unsqueeze(1)
        numbers = torch.cat([gather_rows(particles, rows), step, step.norm(dim=-1, keepdim=True)], dim=-1)
        if not published:
            numbers = _standardise(numbers, _PARTICLE_SCALE)
        edges = torch.cat([numbers, gather_rows(kinds, rows)], dim=-1)

        if published:  # all N^2 pairs in both orders, ones on the diagonal
            dense = [c.view(len(jets), -1) for c in columns]
            first, second = [c.unsqueeze(2) for c in dense], [c.unsqueeze(1) for c in dense]
            pairs = features.pair_features(first, second, floor=1e-12, wrap=False)
            pairs.diagonal(dim1=1, dim2=2).fill_(1.0)
            return jets, edges, real, pairs, matrix
        a, b = (
            torch.cat(rows)
            for rows in zip(*([rows.start + one for one in group.pairs] for rows, group in jets.groups), strict=True)
        )
        pairs = features.pair_features([c[a] for c in columns], [c[b] for c in columns], wrap=not wrong_phi)
        pairs = torch.cat([pairs.new_ones(1, pairs.shape[1]), _standardise(pairs, _PAIR_SCALE)])
        return jets, edges, real, pairs, matrix

    def _select(self, constituents: Tensor) -> Tensor:
        """Checked constituents, at most ``max_constituents`` columns of them (exactly as many without a mask)."""
        if constituents.ndim != 3 or constituents.shape[2] != 4 or not constituents.is_floating_point():
            raise ValueError(
                "PDAT: constituents must be floats of shape (jets, particles, 4) with columns pt, y, phi, pid, "
                f"not {constituents.dtype} of shape {tuple(constituents.shape)}"
            )
        filled = constituents[..., 0] > 0
        if not bool(filled.any(1).all()):
            empty = (~filled.any(1)).nonzero().flatten()[:5].tolist()
            raise ValueError(f"PDAT: no constituent with pt > 0 in the jets {empty} of the batch; leave empty jets out")
        if constituents.shape[1] > self.max_constituents:
            leading = constituents[..., 0].topk(self.max_constituents, dim=1).indices
            constituents = constituents.gather(1, leading.unsqueeze(-1).expand(-1, -1, 4))
        if "no_mask" in self.faults:
            constituents = F.pad(constituents, (0, 0, 0, self.max_constituents - constituents.shape[1]))
        return constituents


def neighbour_mean(edges: Tensor, real: Tensor) -> Tensor:
    """The mean over real neighbours: (T, k, C) with (T, k) to (T, C)."""
    if real.all():
        return edges.mean(1)
    weight = real.to(edges.dtype)
    weight = weight / weight.sum(1, keepdim=True)
    return (edges * weight.unsqueeze(-1)).sum(1)


def in_chunks(function: Callable[..., Tensor], *rows: Tensor, size: int, recompute: bool) -> Tensor:
    """``function(*rows)``, ``size`` rows at a time, so that a chunk fits the processor's cache.

    The features of all edges and pairs of a batch fill hundreds of megabytes. With ``recompute`` only the inputs are
    kept for the backward pass, which computes the rest once more. No random numbers may be drawn in it.
    """
    if rows[0].device.type != "cpu":
        size *= 64  # enough to keep a GPU busy
    chunks = zip(*(r.split(size) for r in rows), strict=True)
    if recompute:
        function = partial(checkpoint, function, use_reentrant=False, preserve_rng_state=False)
    return torch.cat([function(*chunk) for chunk in chunks])


def _standardise(x: Tensor, scale: tuple[Any, Any]) -> Tensor:
    mean, width = (torch.tensor(numbers, dtype=x.dtype, device=x.device) for numbers in scale)
    return (x - mean) / width


def _in_attention(name: str) -> bool:
    return name.startswith(("particle_attention", "channel_attention")) and ".pair_bias." not in name
