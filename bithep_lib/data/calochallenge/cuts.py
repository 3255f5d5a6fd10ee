"""The voxel cut of the challenge's evaluation, and selections of whole showers."""

import numpy as np

from bithep_lib.data.calochallenge.showers import Showers

__all__ = ["select", "zero_below"]


def zero_below(showers: Showers, threshold: float | None = None) -> Showers:
    """Set voxels below the read-out threshold to zero; the evaluation does so to both samples before anything else.

    Args:
        threshold: MeV; None takes the challenge's, 1 MeV for ds1 and 0.5 keV / 0.033 for ds2 and ds3.

    Raises:
        ValueError: ``threshold`` is negative.
    """
    threshold = showers.geometry.threshold if threshold is None else threshold
    if not threshold >= 0:
        raise ValueError(f"threshold must be an energy in MeV, not negative, got {threshold}")
    voxels = np.where(showers.voxels < threshold, np.float32(0), showers.voxels)
    return Showers(showers.incident, voxels, showers.dataset, showers.source)


def select(
    showers: Showers,
    *,
    incident: tuple[float, float] = (0.0, np.inf),
    response: tuple[float, float] = (0.0, np.inf),
    largest_voxel: float = np.inf,
) -> Showers:
    """The showers that pass all cuts, in their order.

    CaloINN trains on ``response=(0, 3.5), largest_voxel=600e3`` of ds1 and ``response=(0, 7)`` of ds2, but is judged
    on all showers.

    Args:
        incident: lower (included) and upper (excluded) incident energy in MeV; (256, 257) is the first point of ds1.
        response: the same for visible / incident energy; a lower limit above zero removes empty showers.
        largest_voxel: MeV; showers with this much or more in one voxel are removed.

    Raises:
        ValueError: the lower limit is not below the upper one.
    """
    for name, (low, high) in (("incident", incident), ("response", response)):
        if not low < high:
            raise ValueError(f"{name} must be (low, high) with low < high, got ({low}, {high})")
    seen = showers.voxels.sum(1, dtype=np.float64) / showers.incident
    passing = (showers.incident >= incident[0]) & (showers.incident < incident[1])
    passing &= (seen >= response[0]) & (seen < response[1]) & (showers.voxels.max(1, initial=0) < largest_voxel)
    return showers[passing]
