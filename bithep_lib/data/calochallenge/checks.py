"""Is this a shower? Every complaint names the file, the row, the value and what may be wrong.

Beyond broken numbers (NaN, negative energies) the checks look for mistakes that would otherwise only show as a bad
result: GeV taken for MeV, energies in another order than the showers, a file given twice.
"""

from collections.abc import Mapping

import numpy as np
from scipy.stats import spearmanr

from bithep_lib.data.calochallenge.geometry import Geometry
from bithep_lib.data.calochallenge.showers import Showers
from bithep_lib.data.errors import DataError
from bithep_lib.data.rows import place

__all__ = ["DataError", "check_order", "check_showers", "check_unique"]

# Incident energies that anybody would simulate, in MeV: outside, the unit is wrong.
POSSIBLE_ENERGY = (50.0, 1e8)
# Visible / incident energy. Pions of 256 MeV reach a few; a thousand is GeV in one array and MeV in the other.
LARGEST_RESPONSE, SMALLEST_RESPONSE = 50.0, 0.005
ENOUGH = 20  # showers for a statement about their median
ORDERED = (200, 10.0, 0.5)  # showers, ratio of energies and rank correlation for a statement about the order
MOST_REPEATED = 0.01  # of all showers; below, chance or the generator repeats them, above, the files overlap
HIT_VOXELS = 4  # a shower with fewer is no fingerprint of itself


def check_showers(incident: np.ndarray, voxels: np.ndarray, geometry: Geometry, file: str, first: int = 0) -> None:
    """Every number finite, energies positive, voxels not negative, and both in MeV.

    Args:
        incident: (N,).
        voxels: (N, n_voxels).
        file: for the message.
        first: row of the first shower in the file, for the message.

    Raises:
        DataError: naming file and row.
    """
    for key, values in (("incident_energies", incident), ("showers", voxels)):
        if values.dtype.kind != "f":
            raise DataError(f"{file}: {key} must be floating-point numbers in MeV, got {values.dtype}")
    _none(~np.isfinite(incident), file, first, incident, "is not finite")
    _none(incident <= 0, file, first, incident, "is not positive: an energy in MeV is needed")
    low, high = POSSIBLE_ENERGY
    _none(incident < low, file, first, incident, f"is below {low:g} MeV: is this in GeV?")
    _none(incident > high, file, first, incident, f"is above {high:g} MeV: is this in keV?")
    # One pass over the voxels decides; where they are wrong is looked up only then.
    total, least = voxels.sum(1, dtype=np.float64), voxels.min(1, initial=0)
    if not np.isfinite(total).all():
        _none(~np.isfinite(voxels), file, first, voxels, "is not finite", geometry)
    if (least < 0).any():
        _none(voxels < 0, file, first, voxels, "MeV is negative", geometry)
    response = total / incident
    hint = "is one of the two arrays in GeV (both must be in MeV), or in another order than the other?"
    if (response > LARGEST_RESPONSE).any():
        row = int(np.argmax(response > LARGEST_RESPONSE))
        raise DataError(
            f"{file}: row {first + row} has {total[row]:.4g} MeV in its voxels, {response[row]:.4g} times the incident "
            f"{incident[row]:.4g} MeV: {hint}"
        )
    seen = response[total > 0]
    if len(seen) >= ENOUGH and np.median(seen) < SMALLEST_RESPONSE:
        raise DataError(f"{file}: the voxels hold {np.median(seen):.2g} of the incident energy (median): {hint}")


def check_order(showers: Showers, file: str) -> None:
    """More energetic particles make larger showers: otherwise energies and showers are in different orders.

    Says nothing about fewer than 200 showers, or about energies within a factor of ten.

    Raises:
        DataError: the rank correlation of incident and visible energy is below 0.5.
    """
    least, ratio, correlation = ORDERED
    if len(showers) < least or showers.incident.max() < ratio * showers.incident.min():
        return
    found = float(spearmanr(showers.incident, showers.voxels.sum(1, dtype=np.float64)).statistic)
    if not found >= correlation:
        raise DataError(
            f"{file}: incident and visible energy are hardly related (rank correlation {found:.2f}): "
            "was one of the two arrays shuffled or sorted without the other?"
        )


def check_unique(showers: Showers, rows_of: Mapping[str, int]) -> None:
    """No file twice, and no two that overlap: training showers would come again in the judge's sample.

    Args:
        rows_of: number of showers of each file, in the order of ``showers``.

    Raises:
        DataError: more than one per cent of the showers are repetitions of earlier ones.
    """
    voxels = showers.voxels
    # A random projection tells rows apart far faster than sorting rows of thousands of voxels.
    key = np.stack((showers.incident, voxels @ np.random.default_rng(0).uniform(0.5, 1.5, voxels.shape[1])), axis=1)
    counted = np.flatnonzero(np.count_nonzero(voxels, axis=1) >= HIT_VOXELS)
    _, earliest, inverse = np.unique(key[counted], axis=0, return_index=True, return_inverse=True)
    original = counted[earliest[inverse.reshape(-1)]]
    repeated = original != counted
    if repeated.mean() > MOST_REPEATED if len(counted) else False:
        row = int(np.argmax(repeated))
        places = " and ".join(place(int(i), rows_of) for i in (original[row], counted[row]))
        raise DataError(
            f"the same shower is in {places}, and {int(repeated.sum())} of {len(showers)} are repetitions: "
            "the same file twice?"
        )


def _none(
    bad: np.ndarray, file: str, first: int, values: np.ndarray, what: str, geometry: Geometry | None = None
) -> None:
    """Raise for the first True of ``bad``: (N,) of the incident energies, or (N, n_voxels) with a geometry."""
    if not bad.any():
        return
    place = tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))
    if geometry is None:
        raise DataError(f"{file}: incident_energies row {first + place[0]} = {values[place]:g} {what}")
    layer = geometry.layers[geometry.layer[place[1]]]
    raise DataError(
        f"{file}: showers row {first + place[0]}, voxel {place[1]} (layer {layer.id}) = {values[place]:g} {what}"
    )
