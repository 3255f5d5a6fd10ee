r"""Does a generator repeat its training showers? Nearest neighbours, with held-out showers as the measure.

A classifier cannot see copies: a generator that returns its training showers one by one is judged perfect. But its
showers are closer to the training showers than nature's are. Each shower becomes the vector
:math:`\sqrt{E_v / E_\mathrm{inc}}`, so that the distance of two is Hellinger's, which weighs a voxel by its share of
the energy but lets no single one decide; and two distances count:

* :math:`d_1`, from a shower to its nearest training shower. `closer` is the probability that a generated shower's is
  smaller than a held-out one's: 1/2 if the generator is as far from its training showers as nature is. Above that it
  copies, or its showers are all too average (those of the middle are near to everything).
* :math:`d_1 / d_k` with the k-th neighbour tells these apart: a copy is near to *one* training shower and no nearer
  than others to the rest. `copies` is the share of generated showers below the smallest hundredth of the held-out
  ones: 0.01 if it makes none.

Incident energies have to be distributed alike in the three sets (those of the judge's sets are).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from bithep_lib.data.calochallenge import Showers
from bithep_lib.evaluate.tagging import auc_error

__all__ = ["Memorisation", "memorisation", "nearest"]

NEIGHBOUR = 5
"""Which neighbour d_1 is compared with."""
QUANTILE = 0.01


@dataclass(frozen=True)
class Memorisation:
    """What the neighbours say.

    Attributes:
        generated: distances of generated showers to their nearest training shower, (N,).
        held_out: the same of held-out showers, (M,).
        closer: probability that a generated shower is nearer to the training set than a held-out one; 1/2 is none.
        error: its standard error, from the two finite samples.
        copies: share of generated showers with a smaller d_1 / d_5 than the lowest hundredth of held-out ones.
        copies_error: its standard error, with that of the hundredth itself.
    """

    generated: NDArray[np.float64]
    held_out: NDArray[np.float64]
    closer: float
    error: float
    copies: float
    copies_error: float

    def __str__(self) -> str:
        return (
            f"nearer to training than held-out showers: {self.closer:.3f} ± {self.error:.3f} (0.5 if not); "
            f"copies: {100 * self.copies:.1f} ± {100 * self.copies_error:.1f} % ({100 * QUANTILE:g} % if none)"
        )


def memorisation(generated: Showers, training: Showers, held_out: Showers) -> Memorisation:
    """Compare the distances of generated and of held-out showers to the training showers.

    Args:
        generated: N showers of a generator.
        training: what it was trained on, at least five.
        held_out: M simulated showers that it has not seen.

    Raises:
        ValueError: different data sets, or too few showers.
    """
    if len({sample.dataset for sample in (generated, training, held_out)}) != 1:
        names = ", ".join(sample.dataset for sample in (generated, training, held_out))
        raise ValueError(f"generated, training and held_out must be of one data set, got {names}")
    for name, sample, least in (
        ("generated", generated, 2),
        ("training", training, NEIGHBOUR),
        ("held_out", held_out, 2),
    ):
        if len(sample) < least:
            raise ValueError(f"{name} needs at least {least} showers, got {len(sample)}")
    made, real = (nearest(sample, training, NEIGHBOUR) for sample in (generated, held_out))
    label = np.repeat([1, 0], [len(made), len(real)])
    score = -np.concatenate([made[:, 0], real[:, 0]])
    ratio, measure = (_ratio(distances) for distances in (made, real))
    copies = float(np.mean(ratio < np.quantile(measure, QUANTILE)))
    return Memorisation(
        generated=made[:, 0],
        held_out=real[:, 0],
        closer=float(roc_auc_score(label, score)),
        error=auc_error(label, score),
        copies=copies,
        copies_error=float(np.sqrt(copies * (1 - copies) / len(made) + QUANTILE * (1 - QUANTILE) / len(real))),
    )


def nearest(showers: Showers, training: Showers, k: int = 1) -> NDArray[np.float64]:
    """Distances of each shower to its `k` nearest training showers, nearest first: (N, k).

    The distance is Hellinger's times the square root of 2, between energies as fractions of the incident one.
    """
    points, known = (_roots(sample) for sample in (showers, training))
    squares = np.einsum("nv,nv->n", known, known)
    found = []
    for start in range(0, len(points), 500):
        part = points[start : start + 500]
        # |x - y|^2 = |x|^2 + |y|^2 - 2 x.y puts all the work into one matrix product.
        distance = squares - 2 * part @ known.T
        index = np.argpartition(distance, k - 1, axis=1)[:, :k] if k < len(known) else np.argsort(distance, axis=1)
        # Once more for the few that count, without the cancellation that would give copies a distance.
        exact = np.linalg.norm(part[:, None].astype(np.float64) - known[index], axis=2)
        found.append(np.sort(exact, axis=1))
    return np.concatenate(found)


def _roots(showers: Showers) -> NDArray[np.float32]:
    return np.sqrt(showers.voxels / showers.incident[:, None]).astype(np.float32)


def _ratio(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """d_1 / d_k; 1 where even the k-th is a copy, as empty showers are of each other."""
    first, last = distances[:, 0], distances[:, -1]
    return np.divide(first, last, out=np.ones_like(first), where=last > 0)
