"""Rotations and mirror images of ds2 and ds3: new showers at no cost, for training.

All layers have the same angular bins, so a shower turned about its axis by whole sectors, or mirrored, is again a
shower of voxels: 16 rotations times two make 32 images for ds2, 100 for ds3. In our simulation, whose plates are flat
and whose particles enter at right angles, the images are exactly as probable as the shower itself. The detector of the
public files is a cylinder of 800 mm inner radius, so there the symmetry under rotations is an approximation.

Images of one shower are not independent. Split first, augment the training part only.
"""

from functools import cache

import numpy as np

from bithep_lib.data.calochallenge.geometry import Geometry, geometry
from bithep_lib.data.calochallenge.showers import Showers

__all__ = ["augment", "images", "mirror", "rotate"]


def images(dataset: str) -> np.ndarray:
    """The symmetry group as permutations: int64 (2 n_alpha, n_voxels), for ``voxels[:, images(dataset)[k]]``.

    Row k < n_alpha turns a shower by k sectors towards larger alpha; row n_alpha + k mirrors it first (alpha to
    -alpha). Row 0 is the identity.

    Raises:
        ValueError: ds1, where layers have 10 sectors or none and the ATLAS calorimeter is not symmetric.
    """
    return _images(_symmetric(dataset).name)


@cache
def _images(dataset: str) -> np.ndarray:
    one = geometry(dataset)
    n_alpha, n_r = one.shape(0)
    index = np.arange(one.n_voxels).reshape(one.n_layers, n_alpha, n_r)
    turned = [np.roll(start, k, axis=1).ravel() for start in (index, index[:, ::-1]) for k in range(n_alpha)]
    return np.stack(turned)


def rotate(showers: Showers, sectors: int | np.ndarray) -> Showers:
    """Turn all showers, or each by its own number, by ``sectors`` angular bins (any integer)."""
    table = images(showers.dataset)
    turns = np.broadcast_to(np.asarray(sectors) % (len(table) // 2), len(showers))
    return _permuted(showers, table, turns)


def mirror(showers: Showers) -> Showers:
    """The image under alpha to -alpha, that is phi to -phi."""
    table = images(showers.dataset)
    return _permuted(showers, table, np.full(len(showers), len(table) // 2))


def augment(showers: Showers, copies: int, seed: int) -> Showers:
    """``copies`` different random images of each shower (perhaps itself among them), in random order.

    Args:
        copies: 1 .. 32 for ds2, 1 .. 100 for ds3.

    Raises:
        ValueError: ``copies`` is not in that range, or the data set has no such symmetry.
    """
    table = images(showers.dataset)
    if not 1 <= copies <= len(table):
        raise ValueError(f"copies must be 1 .. {len(table)}, as many as there are images, got {copies}")
    generator = np.random.default_rng(seed)
    which = generator.random((len(showers), len(table))).argsort(1)[:, :copies].ravel()
    order = generator.permutation(len(showers) * copies)
    return _permuted(showers[order // copies], table, which[order])


def _permuted(showers: Showers, table: np.ndarray, which: np.ndarray) -> Showers:
    voxels = np.empty_like(showers.voxels)
    for start in range(0, len(showers), 1000):  # the table of indices is twice as large as the voxels
        part = slice(start, start + 1000)
        voxels[part] = np.take_along_axis(showers.voxels[part], table[which[part]], axis=1)
    return Showers(showers.incident, voxels, showers.dataset, showers.source)


def _symmetric(dataset: str) -> Geometry:
    one = geometry(dataset)
    if not one.uniform:
        raise ValueError(
            f"only ds2 and ds3 have equal angular bins in all layers and a symmetric detector, got {dataset}"
        )
    return one
