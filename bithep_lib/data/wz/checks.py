"""Is this file what it says it is? Every complaint names the file, the dataset, the row and what may be wrong.

Beyond broken files (shapes, NaN) the checks look for mistakes that would otherwise only show as a bad result: GeV and
MeV, radians and degrees, truth shuffled against the jets, the same file twice.
"""

from collections.abc import Mapping

import numpy as np

from bithep_lib.data.errors import DataError
from bithep_lib.data.rows import refuse_repeated
from bithep_lib.data.wz.jets import WZJets
from bithep_lib.data.wz.layout import LABELS, PARTICLES, STEPS, TRUTH, WEIGHTS, WIDTH
from bithep_lib.data.wz.observables import moment_axis

__all__ = ["DataError", "check_arrays", "check_jets", "check_unique"]

POSSIBLE_PT = (20.0, 20_000.0)  # GeV: a jet of W at any hadron collider; outside, the unit is wrong
SHARE = (0.5, 1.5)  # scalar sum of the leading particles over the jet's pt
FARTHEST = 1.0  # mean distance of the particles from the jet, weighted with pt; 0.1 to 0.2 for a boosted W
ANGLES = {
    "theta": (0.0, np.pi), "phi": (-np.pi, np.pi), "dphi": (-np.pi, np.pi), "phi_decay": (-np.pi, np.pi),
    "cos_theta": (-1.0, 1.0),
}  # fmt: skip
ENOUGH = 100  # jets for a statement about their mean; random angles then give 0.50 +- 0.04
LARGEST_SIN2 = 0.3  # mean sin^2 between the moment axis and the truth: 0.017 if they belong together


def check_arrays(arrays: Mapping[str, np.ndarray], file: str) -> None:
    """Shapes, kinds, finiteness, ranges, padding and order.

    Raises:
        DataError: naming file, dataset and row.
    """
    pt = arrays["pt"]
    if pt.ndim != 2 or pt.shape[1] != WIDTH or len(pt) == 0:
        raise DataError(f"{file}: pt must have shape (N, {WIDTH}) with N > 0, got {pt.shape}")
    for key in (*PARTICLES, *LABELS, *WEIGHTS, *(key for key in TRUTH if key in arrays)):
        values = arrays[key]
        shape = pt.shape if key in PARTICLES else pt.shape[:1]
        if values.shape != shape or not np.issubdtype(values.dtype, np.number):
            raise DataError(
                f"{file}: {key} must be numbers of shape {shape} as pt has {len(pt)} jets, "
                f"got {values.dtype} {values.shape}"
            )
        _none(~np.isfinite(values), file, key, values, "is not finite")
    for key, (low, high) in ANGLES.items():
        slack = STEPS.get(key, 1e-6)
        outside = (arrays[key] < low - slack) | (arrays[key] > high + slack)
        _none(outside, file, key, arrays[key], f"is outside {low:.4g} .. {high:.4g}: degrees, or exchanged columns?")
    _none(pt < 0, file, "pt", pt, "is negative")
    _none(~(pt > 0).any(1), file, "pt", pt[:, 0], "is the first particle: an empty jet")
    _none(pt[:, 1:] > pt[:, :-1], file, "pt", pt[:, 1:], "is above its predecessor: not in descending pt")
    for key in PARTICLES:
        _none((pt == 0) & (arrays[key] != 0), file, key, arrays[key], "is not zero, but the particle is padding")


def check_jets(jets: WZJets, file: str) -> None:
    """Units, and whether particles, truth and weights speak of the same jets.

    Raises:
        DataError: naming file and row.
    """
    low, high = POSSIBLE_PT
    possible = (jets.jet_pt > low) & (jets.jet_pt < high)
    _none(~possible, file, "jet_pt", jets.jet_pt, f"is outside {low:g} .. {high:g} GeV: is it in another unit?")
    share = jets.pt.sum(1, dtype=np.float64) / jets.jet_pt
    wrong = (share < SHARE[0]) | (share > SHARE[1])
    _none(
        wrong, file, "jet_pt", jets.jet_pt,
        "GeV, but its particles have another sum of pt: units, or not in the same order as the jets?",
    )  # fmt: skip
    far = (np.hypot(jets.deta, jets.dphi) * jets.pt).sum(1) / jets.pt.sum(1)
    _none(far > FARTHEST, file, "deta and dphi", far, "is the mean distance from the jet: relative to another axis?")
    # A probability is not negative: 1 + C r1 + C^2 r2 >= 0 for every C.
    for one, two in (("r1", "r2"), ("r1t", "r2t")):
        first, second = getattr(jets, one), getattr(jets, two)
        negative = first**2 > 4 * second * (1 + 1e-9) + 1e-12
        _none(negative, file, one, first, f"has a square above 4 {two}: the weight would be negative for some C")
    if len(jets) >= ENOUGH:
        sin2 = float(np.mean(np.sin(moment_axis(jets) - jets.phi_decay) ** 2))
        if sin2 > LARGEST_SIN2:
            raise DataError(
                f"{file}: phi_decay has nothing to do with the jets (mean sin^2 of its difference to the moment axis "
                f"is {sin2:.2f}, unrelated angles give 0.50): shuffled rows, or theta and phi of another frame?"
            )


def check_unique(jets: WZJets, rows_of: Mapping[str, int]) -> None:
    """No jet may come twice: the same file under two names would put training jets into the test set.

    Args:
        rows_of: number of jets of each file, in the order of ``jets``.

    Raises:
        DataError: naming both places.
    """
    keys = np.stack([jets.r1, jets.r2, jets.jet_pt, jets.pt[:, 0]], axis=1, dtype=np.float64)
    refuse_repeated(keys, rows_of, "jet")


def _none(bad: np.ndarray, file: str, key: str, values: np.ndarray, what: str) -> None:
    """Raise for the first True of ``bad``, (N,) or (N, M)."""
    if not bad.any():
        return
    place = tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))
    particle = f", particle {place[1]}" if len(place) > 1 else ""
    raise DataError(f"{file}: {key} row {place[0]}{particle} = {values[place]:.6g} {what}")
