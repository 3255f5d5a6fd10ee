"""Is this file what it says it is? Every complaint names the file, the array, the row and what to do.

Beyond broken files (shapes, NaN, unknown particles) the checks look for mistakes that would otherwise only show as a
bad result: GeV and MeV, radians and degrees, exchanged columns, rows of one array shuffled against another, labels
permuted or inverted, the same file twice.
"""

from collections.abc import Mapping

import numpy as np

from bithep_lib.data.errors import DataError
from bithep_lib.data.quark_gluon.jets import Jets
from bithep_lib.data.quark_gluon.kinematics import jet_momentum, relative
from bithep_lib.data.quark_gluon.layout import COLUMNS, GLUON, QUARK, TRUTH
from bithep_lib.data.quark_gluon.particles import PDG_IDS, particle_class
from bithep_lib.data.rows import refuse_repeated

__all__ = ["DataError", "check_arrays", "check_classes", "check_jets", "check_labels", "check_unique"]

PT_WINDOW = (500.0, 550.0)
PT_TOLERANCE = 0.5  # GeV: rounding of the stored particles
RAPIDITY_MAX = 1.7
# Jets of any selection at any hadron collider: outside, the units or the columns are wrong.
POSSIBLE_PT = (5.0, 50_000.0)
POSSIBLE_RAPIDITY = 5.5
FARTHEST = 1.5  # anti-kT particles of R = 0.4 reach a bit beyond R, never this far; those of large-R jets neither
MULTIPLICITY_GAP = 19.8  # gluon - quark, published (see closure.py)
ENOUGH = 200  # jets of each class for a statement about means: the gap is then 13 standard errors


def check_arrays(arrays: Mapping[str, np.ndarray], file: str, ordered: bool = False) -> None:
    """Shapes, finiteness, labels, padding and particle ids of the arrays of one file.

    Args:
        ordered: also insist on descending pt (files of our own simulation promise it).

    Raises:
        DataError: naming file, array and row.
    """
    x, y = arrays["X"], arrays["y"]
    if x.ndim != 3 or x.shape[-1] != len(COLUMNS) or 0 in x.shape or not np.issubdtype(x.dtype, np.number):
        raise DataError(f"{file}: X must be numbers (N, M, 4) with columns {COLUMNS}, got {x.dtype} {x.shape}")
    for key in ("y", *(key for key in TRUTH if key in arrays)):
        column = arrays[key]
        kinds = (np.number, np.bool_) if key == "y" else (np.number,)
        if column.shape != x.shape[:1] or not any(np.issubdtype(column.dtype, kind) for kind in kinds):
            raise DataError(
                f"{file}: {key} must be numbers of shape ({len(x)},) as X has {len(x)} jets, "
                f"got {column.dtype} {column.shape}"
            )
        _none(~np.isfinite(column), file, key, column, "is not finite")
    _none(~np.isfinite(x), file, "X", x, "is not finite")
    _none(~np.isin(y, (GLUON, QUARK)), file, "y", y, "is no label: 1 is quark, 0 is gluon")
    pt, pid = x[..., 0], x[..., 3]
    _none(pt < 0, file, "X", x, "is negative: columns are (pt, y, phi, pid) in this order", column=0)
    _none(~(pt > 0).any(-1), file, "X", x, "has no particle: an empty jet", column=None)
    _none((pt == 0) & (x != 0).any(-1), file, "X", x, "is zero, but the particle is not padding", column=0)
    unknown = (pt > 0) & ((particle_class(pid) < 0) | (pid != np.rint(pid)) | ~np.isin(pid, PDG_IDS))
    _none(unknown, file, "X", x, f"is not the PDG id of a particle at this level: {PDG_IDS}", column=3)
    if ordered:
        _none(pt[:, 1:] > pt[:, :-1], file, "X", x[:, 1:], "is above its predecessor: not in descending pt", column=0)


def check_jets(jets: Jets, file: str, standard: bool) -> None:
    """Units, exchanged columns and truth: each jet must be possible, or even of EnergyFlow's selection.

    Args:
        standard: these are jets with 500 < pt < 550 GeV and abs(y) < 1.7.

    Raises:
        DataError: naming file and row.
    """
    x = jets.constituents
    largest = float(np.abs(x[..., 2]).max())
    if largest > 4 * np.pi:
        raise DataError(
            f"{file}: X column phi reaches {largest:.4g}, but must be in radians: degrees, or columns exchanged?"
        )
    axis, far = jet_momentum(x), relative(x)["dr"].max(-1)
    if (row := _first(far > FARTHEST)) is not None:
        raise DataError(
            f"{file}: X row {row} has a particle {far[row]:.3g} from the jet axis, too far for a jet of R = 0.4: "
            "columns exchanged, phi in degrees, or particles of several jets mixed?"
        )
    if (row := _first(np.abs(axis["y"]) > POSSIBLE_RAPIDITY)) is not None:
        raise DataError(
            f"{file}: X row {row} is a jet at rapidity {axis['y'][row]:.3g}: are the columns y and phi exchanged?"
        )
    low, high = PT_WINDOW if standard else POSSIBLE_PT
    if (row := _first((axis["pt"] < low - PT_TOLERANCE) | (axis["pt"] > high + PT_TOLERANCE))) is not None:
        pt = axis["pt"][row]
        unit = "MeV" if pt > POSSIBLE_PT[1] else "TeV" if pt < POSSIBLE_PT[0] else None
        hint = f": is this in {unit}? Momenta must be in GeV" if unit else ""
        raise DataError(f"{file}: X row {row} is a jet of pt {pt:.5g} GeV, outside {low:g}-{high:g}{hint}")
    if standard and (row := _first(np.abs(axis["y"]) > RAPIDITY_MAX + 0.01)) is not None:
        raise DataError(f"{file}: X row {row} is a jet at rapidity {axis['y'][row]:.3g}, beyond {RAPIDITY_MAX}")
    _check_truth(jets, axis, file)


def _check_truth(jets: Jets, axis: Mapping[str, np.ndarray], file: str) -> None:
    """Truth columns and X must speak of the same jets (files merged or shuffled by hand lose this first)."""
    truth = jets.truth
    for key, value, tolerance in (("jet_pt", axis["pt"], 0.1), ("jet_m", axis["m"], 0.5)):
        if key in truth and (row := _first(np.abs(truth[key] - value) > tolerance)) is not None:
            raise DataError(
                f"{file}: {key} row {row} is {truth[key][row]:.6g} GeV, but its particles give {value[row]:.6g}: "
                "X and the truth columns are not in the same order"
            )
    if "parton_id" in truth:
        parton = np.abs(truth["parton_id"])
        wrong = np.where(jets.label == QUARK, (parton < 1) | (parton > 3), parton != 21)
        if (row := _first(wrong)) is not None:
            raise DataError(
                f"{file}: y row {row} is {jets.label[row]}, but parton_id is {truth['parton_id'][row]}: "
                "labels shuffled or inverted? (1 for u, d and s, 0 for the gluon, 21)"
            )


def _first(bad: np.ndarray) -> int | None:
    """Row of the first True, if any."""
    return int(np.argmax(bad)) if bad.any() else None


def check_classes(labels: np.ndarray, source: str) -> None:
    """There must be jets of both classes: nothing can be trained or judged on one.

    Args:
        labels: of all jets read. One file of several may hold quark jets only, with the gluon jets in another.

    Raises:
        DataError: naming the class that is missing.
    """
    for name, label in (("quark", QUARK), ("gluon", GLUON)):
        if label not in labels:
            raise DataError(f"{source}: has no {name} jets (y = {label}); both classes are needed")


def check_labels(jets: Jets, file: str, standard: bool) -> None:
    """Gluon jets have more particles than quark jets: permuted labels show as an absent difference.

    Needs 200 jets of each class, and says nothing below that.

    Args:
        standard: these are jets with 500 < pt < 550 GeV, where the mean multiplicities are 33.4 and 53.2: the
            difference must be at least half of the published one. Otherwise it must be three standard errors.

    Raises:
        DataError: the difference is missing, or has the wrong sign.
    """
    counts = [jets.multiplicity[jets.label == label] for label in (QUARK, GLUON)]
    if min(map(len, counts)) < ENOUGH:
        return
    quark, gluon = (float(n.mean()) for n in counts)
    needed = MULTIPLICITY_GAP / 2 if standard else 3 * float(np.sqrt(sum(n.var() / len(n) for n in counts)))
    if gluon - quark < needed:
        guess = "inverted (1 must be quark)" if quark - gluon > needed else "shuffled against the jets"
        raise DataError(
            f"{file}: jets with y = 1 (quark) have {quark:.1f} particles and those with y = 0 (gluon) {gluon:.1f}, but "
            f"gluon jets must have clearly more: the labels look {guess}"
        )


def check_unique(jets: Jets, rows_of: Mapping[str, int]) -> None:
    """No jet may come twice: the same file under two names would put training jets into the test set.

    Args:
        rows_of: number of jets of each file, in the order of ``jets``.
    """
    refuse_repeated(jets.constituents[:, :3].reshape(len(jets), -1), rows_of, "jet")


def _none(bad: np.ndarray, file: str, key: str, values: np.ndarray, what: str, column: int | None = -1) -> None:
    """Raise for the first True of ``bad``: (N,), (N, M) with ``column`` of the particle, or (N, M, 4)."""
    if not bad.any():
        return
    place = tuple(int(i) for i in np.unravel_index(np.argmax(bad), bad.shape))
    text = f"{file}: {key} row {place[0]}"
    if len(place) > 1:
        column = place[2] if len(place) == 3 else column
        text += f", particle {place[1]}, column {COLUMNS[column]} = {values[place[0], place[1], column]:g}"
    elif column is not None:
        text += f" = {values[place]:g}"
    raise DataError(f"{text} {what}")
