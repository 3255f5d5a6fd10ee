"""Batches of jets with different numbers of particles, without arithmetic on padding.

The particles of all jets stand in one list of T rows, jet after jet. Layers that act on single particles work on the
list; what mixes the particles of one jet (attention, distances) is laid out as (B, N, ...) with N the largest jet, and
goes back to the list. Attention between particles, whose tables grow with N^2, is done for groups of jets of like size.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

MASKED = -30000.0
"""Added to the attention logits of padded keys: exp() of it is zero, and half precision can hold it."""


class Ragged:
    """Where the particles of each jet of a batch are in the list.

    Args:
        counts: (B,) particles of each jet, at least one; sorted, if groups are to be of like size.

    Attributes:
        width: N, the largest count.
        jet: (T,) the jet of each particle.
        slot: (T,) its place among the particles of its jet.
    """

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts
        self.width = int(counts.max())
        self._first = counts.cumsum(0) - counts  # row of each jet's first particle
        self.jet = torch.repeat_interleave(counts)
        self.slot = torch.arange(len(self.jet), device=counts.device) - self._first[self.jet]
        self._place = self.jet * self.width + self.slot

    def __len__(self) -> int:
        """B, the number of jets."""
        return len(self.counts)

    def pad(self, x: Tensor) -> Tensor:
        """The list (T, C) as (B, N, C), filled with zeros."""
        dense = x.new_zeros(len(self) * self.width, x.shape[1])
        return dense.index_copy(0, self._place, x).view(len(self), self.width, -1)

    def unpad(self, dense: Tensor) -> Tensor:
        """(B, N, C) to the list (T, C)."""
        return dense.flatten(0, 1)[self._place]

    def mean(self, x: Tensor) -> Tensor:
        """The mean over the particles of each jet: (T, C) to (B, C)."""
        return self.pad(x).sum(1) / self.counts.unsqueeze(1)

    @cached_property
    def groups(self) -> list[tuple[slice, Ragged]]:
        """The batch in (up to) four groups of successive jets: their rows in the list, and their own layout."""
        groups, start = [], 0
        for counts in self.counts.chunk(4):
            group = Ragged(counts)
            groups.append((slice(start, start + len(group.jet)), group))
            start += len(group.jet)
        return groups

    @torch.no_grad()
    def neighbours(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest particles of each particle in its own jet, itself included.

        Args:
            x: (T, D) coordinates; the distance is Euclidean.
            k: how many.

        Returns:
            Rows (T, k'), with k' = min(k, N), and which of them are real (T, k'): a particle of a jet with fewer than
            k' particles has no more neighbours, and stands itself in their place.
        """
        dense = self.pad(x)
        if x.shape[1] == 2:  # directly: close pairs in the plane would cancel in |a|^2 + |b|^2 - 2ab
            distance = (dense.unsqueeze(2) - dense.unsqueeze(1)).square().sum(-1)
        else:
            norm = dense.square().sum(-1)
            distance = norm.unsqueeze(2) + norm.unsqueeze(1) - 2 * dense @ dense.mT
        slots = torch.arange(self.width, device=x.device)
        distance = distance.masked_fill((slots >= self.counts.unsqueeze(1)).unsqueeze(1), torch.inf)
        distance, slot = self.unpad(distance).topk(min(k, self.width), largest=False)
        own = torch.arange(len(x), device=x.device).unsqueeze(1)
        real = distance.isfinite()
        return torch.where(real, self._first[self.jet].unsqueeze(1) + slot, own), real

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Each unordered pair of different particles of one jet, once: the rows (P,) of one and (P,) of the other."""
        i, j = torch.triu_indices(self.width, self.width, 1, device=self.counts.device)
        jet, pair = (j < self.counts.unsqueeze(1)).nonzero(as_tuple=True)  # i < j: where j is real, so is i
        first = self._first[jet]
        return first + i[pair], first + j[pair]

    def table(self, pairs: Tensor, itself: Tensor) -> Tensor:
        """Symmetric numbers of pairs as attention biases.

        Args:
            pairs: (P, H), a row for each of `pairs`.
            itself: (1, H), for the pair of a particle with itself.

        Returns:
            (H, B, N, N), with `MASKED` wherever one of the two is padding.
        """
        a, b = self.pairs
        diagonal = self._place * self.width + self.slot
        places = [self._place[a] * self.width + self.slot[b], self._place[b] * self.width + self.slot[a], diagonal]
        rows = torch.cat([pairs, pairs, itself.expand(len(diagonal), -1)])
        dense = rows.new_full((pairs.shape[1], len(self) * self.width**2), MASKED)
        dense = dense.index_copy(1, torch.cat(places), rows.t())
        return dense.view(-1, len(self), self.width, self.width)


def gather_rows(x: Tensor, rows: Tensor) -> Tensor:
    """x[rows] for (T, C) and row numbers of any shape; backward sums by row without a call for each."""
    return F.embedding(rows, x)
