"""The claims of the paper that the book tests, written down before the runs that test them.

The published values come from `bithep_lib.paper`; the effects visible at each scale from that scale's sizes (below),
not from a look at the results. To add a claim, append it to `CLAIMS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from bithep_lib import paper
from bithep_lib.study import statements_calodream, statements_caloinn, statements_smeft
from bithep_lib.study.scales import SCALES
from bithep_lib.study.settings import QuarkGluon
from bithep_lib.study.verdicts import AtMost, Claim, Difference, Exact

# What the planned errors rest on. The spreads over trainings are those of the authors' own predictions on 200 k test
# jets; with fewer training jets they can only be larger. The correlations are what two taggers of this quality have.
_AUC, _SHARE_DIFFERENT, _CORRELATION = paper.TABLE_1["P-DAT", "AUC"].value, 0.08, 0.8
_Z = 1.96
MIN_BACKGROUND = 50
"""A rejection from fewer background jets than this is not quoted."""


def _seeds_error(column: str, *, relative: bool = False) -> float:
    """Spread over trainings of the difference P-DAT-Bit minus P-DAT, from the released predictions."""
    numbers = [paper.RELEASED_PREDICTIONS[row, column] for row in ("P-DAT", "P-DAT-Bit")]
    return math.hypot(*(number.error / (number.value if relative else 1.0) for number in numbers))


def _published(column: str, *, relative: bool = False) -> Difference:
    """P-DAT-Bit minus P-DAT in Table 1 (as a fraction of P-DAT if `relative`), with the error of its five trainings."""
    full, bits = paper.TABLE_1["P-DAT", column], paper.TABLE_1["P-DAT-Bit", column]
    trainings = math.sqrt(paper.TEXT["P-DAT trainings"].value)
    if relative:
        error = bits.value / full.value * math.hypot(full.error / full.value, bits.error / bits.value)
        return Difference(round(bits.value / full.value - 1, 4), round(error / trainings, 4))
    # Table 1 gives no spread of accuracy and AUC: the one of the released trainings stands for it.
    return Difference(round(bits.value - full.value, 4), round(_seeds_error(column) / trainings, 4))


def _visible(jets_error: Callable[[int], float | None], seeds_error: float) -> dict[str, float]:
    """Half the 95 % interval of a paired difference at each scale, from test jets and trainings."""
    effects = {}
    for scale in ("book", "laptop", "paper"):
        settings = SCALES["quark_gluon"][scale]
        assert isinstance(settings, QuarkGluon)
        if (error := jets_error(settings.n_test)) is not None:
            effects[scale] = _Z * math.hypot(error, seeds_error / math.sqrt(settings.n_seeds))
    return effects


def _auc_error(n_test: int) -> float:
    """Hanley and McNeil (Radiology 143 (1982) 29) for n_test / 2 jets of each class, paired."""
    n = n_test / 2
    q1, q2 = _AUC / (2 - _AUC), 2 * _AUC**2 / (1 + _AUC)
    variance = (_AUC * (1 - _AUC) + (n - 1) * (q1 - _AUC**2 + q2 - _AUC**2)) / n**2
    return math.sqrt(2 * (1 - _CORRELATION) * variance)


def _accuracy_error(n_test: int) -> float:
    return math.sqrt(_SHARE_DIFFERENT / n_test)


def _rejection_error(column: str) -> Callable[[int], float | None]:
    """Relative error from the background jets that pass (half of them shared by two taggers), None when too few."""

    def error(n_test: int) -> float | None:
        passing = n_test / 2 / paper.TABLE_1["P-DAT", column].value
        return math.sqrt(1 / passing) if passing >= MIN_BACKGROUND else None

    return error


def _calibration_floor(n_test: int) -> float:
    """The error that a perfectly calibrated tagger shows in 20 bins, from <p (1 - p)> = 0.12 at an AUC of 0.91."""
    return math.sqrt(2 / math.pi) * math.sqrt(0.12 * 20 / n_test) / _Z


def _table_1(id: str, name: str, column: str, contrast: str, *, relative: bool, error: Callable) -> Claim:
    rule = _published(column, relative=relative)
    size = f"{100 * rule.published:.0f} %" if relative else f"{rule.published:+g}"
    return Claim(
        id=id,
        chapter="quark_gluon",
        family="Table 1",
        statement=f"bits in the attention of P-DAT change its {name} by {size}",
        source=f"Table 1, rows P-DAT and P-DAT-Bit, column {column}",
        contrast=contrast,
        rule=rule,
        effect=_visible(error, _seeds_error(column, relative=relative)),
    )


def _range_of_taggers() -> float:
    others = [paper.TABLE_1[row, "AUC"].value for row in ("ParticleNet", "PCT", "LorentzNet", "ParT")]
    return round(max(others) - min(others), 4)


_PAIRED = "same seeds, same test jets"
_DIAGONAL = 0.02  # what "close to the diagonal" is taken to mean: a mean distance of two percent

CLAIMS: tuple[Claim, ...] = (
    _table_1(
        "table1-accuracy",
        "accuracy",
        "accuracy",
        f"accuracy of P-DAT-Bit - P-DAT, {_PAIRED}",
        relative=False,
        error=_accuracy_error,
    ),
    _table_1("table1-auc", "AUC", "AUC", f"AUC of P-DAT-Bit - P-DAT, {_PAIRED}", relative=False, error=_auc_error),
    _table_1(
        "table1-rej50",
        "gluon rejection at 50 % quark efficiency",
        "Rej50",
        f"Rej50 of P-DAT-Bit / P-DAT - 1, {_PAIRED}",
        relative=True,
        error=_rejection_error("Rej50"),
    ),
    _table_1(
        "table1-rej30",
        "gluon rejection at 30 % quark efficiency",
        "Rej30",
        f"Rej30 of P-DAT-Bit / P-DAT - 1, {_PAIRED}",
        relative=True,
        error=_rejection_error("Rej30"),
    ),
    Claim(
        id="section3-fraction",
        chapter="quark_gluon",
        family="Section 3",
        statement="about 63 % of P-DAT's parameters are in bits",
        source=paper.TEXT["P-DAT-Bit quantised (%)"].source,
        contrast="percentage of the released network's parameters in BitLinear layers, counted",
        rule=Exact(paper.TEXT["P-DAT-Bit quantised (%)"].value, 0.5),
    ),
    Claim(
        id="section3-fraction-used",
        chapter="quark_gluon",
        family="Section 3",
        statement="about 63 % of P-DAT's parameters are in bits, read as parameters that the network uses",
        source=paper.TEXT["P-DAT-Bit quantised (%)"].source,
        contrast="percentage of the parameters reached by a gradient that are in BitLinear layers, counted",
        rule=Exact(paper.TEXT["P-DAT-Bit quantised (%)"].value, 0.5),
    ),
    *(
        Claim(
            id=f"figure2-{key}",
            chapter="quark_gluon",
            family="Figure 2",
            statement=f"the calibration curve of {model} is close to the diagonal",
            source=f"Figure 2, {colour} curve, and its text",
            contrast=f"expected calibration error of {model} before any recalibration, 20 bins, mean over seeds",
            rule=AtMost(_DIAGONAL),
            effect=_visible(_calibration_floor, 0.0),
        )
        for key, model, colour in (("full", "P-DAT", "red"), ("bits", "P-DAT-Bit", "blue"))
    ),
    Claim(
        id="figure2-band",
        chapter="quark_gluon",
        family="Figure 2",
        statement="the band of P-DAT-Bit over its trainings is the wider one",
        source="Figure 2, text",
        contrast="ln(mean width of P-DAT's band / mean width of P-DAT-Bit's), spread over seeds in 20 bins",
        rule=AtMost(0.0),
        # A standard deviation from n trainings is known to 1 / sqrt(2 (n - 1)).
        effect={
            scale: _Z / math.sqrt(settings.n_seeds - 1)
            for scale, settings in SCALES["quark_gluon"].items()
            if scale != "smoke" and settings.n_seeds > 1
        },
    ),
    Claim(
        id="conclusion-classification",
        chapter="quark_gluon",
        family="Conclusions",
        statement="bits are competitive in classification",
        source="abstract and conclusions",
        contrast=f"AUC of P-DAT - P-DAT-Bit, {_PAIRED}, against the range of the four other taggers of Table 1",
        rule=AtMost(_range_of_taggers()),
        effect=_visible(_auc_error, _seeds_error("AUC")),
    ),
    *statements_smeft.CLAIMS,
    *statements_caloinn.CLAIMS,
    *statements_calodream.CLAIMS,
)


def claims(chapter: str | None = None) -> tuple[Claim, ...]:
    """The claims of a chapter, or all of them."""
    return tuple(claim for claim in CLAIMS if chapter in (None, claim.chapter))
