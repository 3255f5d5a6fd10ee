"""An analytic toy of a two-prong jet, whose best answer is known in advance.

The generator of the SMEFTNet authors' tests (arXiv:2401.10323): particles are drawn from two round Gaussian prongs on
opposite sides of the jet axis; their transverse momenta follow the density at their place, so the cores are hard and
the halo is soft. For a known width sigma, distance R and N particles no estimator of the direction from their positions
alone can beat <sin^2 delta> = sigma^2 / (R^2 N) on average, the Cramer-Rao bound (0.0018 for the default values).
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["MicroJets", "micro_mc"]

TOTAL_PT = 100.0
SMEARING = 0.2  # of ln pt


@dataclass(frozen=True)
class MicroJets:
    """N toy jets.

    Attributes:
        pt: float32 (N, P), zero for padding, about 100 in all.
        xy: float32 (N, P, 2), positions around the jet axis.
        phi: float32 (N,), direction of the first prong, rad in (-pi, pi].
    """

    pt: np.ndarray
    xy: np.ndarray
    phi: np.ndarray

    def __len__(self) -> int:
        return len(self.phi)

    @property
    def mask(self) -> np.ndarray:
        """bool (N, P): which particles are real."""
        return self.pt > 0


def micro_mc(
    n: int,
    seed: int = 1,
    *,
    radius: float = 1.0,
    sigma: float = 0.3,
    particles: float = 50.0,
    weights: tuple[float, float] = (1.0, 1.0),
    width: int = 80,
) -> MicroJets:
    """``n`` toy jets with two prongs in a random direction.

    Args:
        seed: a non-negative integer.
        radius: distance R of each prong from the axis; 0 gives one prong, without direction.
        sigma: standard deviation of a prong in each coordinate.
        particles: their mean number; it is Poisson distributed, at least 1 and cut at ``width``.
        weights: share of the particles in the prong at ``phi`` and in the one at ``phi`` + pi.
        width: padded number of particles P.

    Raises:
        ValueError: an argument is negative, or ``sigma``, ``particles``, ``width`` or all ``weights`` are zero.
    """
    if n < 0 or radius < 0 or not (sigma > 0 and particles > 0 and width > 0):
        raise ValueError(
            "n and radius must not be negative, sigma, particles and width must be positive, got "
            f"n={n}, radius={radius}, sigma={sigma}, particles={particles}, width={width}"
        )
    share = np.asarray(weights, float)
    if share.shape != (2,) or share.min() < 0 or share.sum() == 0:
        raise ValueError(f"weights must be two shares, not negative and not both zero, got {weights}")
    share /= share.sum()
    generator = np.random.default_rng(seed)
    phi = np.pi - 2 * np.pi * generator.random(n)  # (-pi, pi]
    centre = radius * np.stack([np.cos(phi), np.sin(phi)], axis=-1)[:, None]
    real = np.arange(width) < np.maximum(generator.poisson(particles, n), 1)[:, None]
    side = np.where(generator.random((n, width)) < share[0], 1.0, -1.0)[..., None]
    xy = side * centre + sigma * generator.standard_normal((n, width, 2))

    def gaussian(mean: np.ndarray) -> np.ndarray:
        return np.exp(-((xy - mean) ** 2).sum(-1) / (2 * sigma**2))

    density = np.where(real, share[0] * gaussian(centre) + share[1] * gaussian(-centre), 0.0)
    pt = TOTAL_PT * density / density.sum(1, keepdims=True) * generator.lognormal(0.0, SMEARING, (n, width))
    return MicroJets(pt.astype(np.float32), (xy * real[..., None]).astype(np.float32), phi.astype(np.float32))
