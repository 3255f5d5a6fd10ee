"""The claims of section 4 of the paper, written down before the runs that test them.

What can be seen at a scale follows from the moment axis, whose sin^2 of the error has a mean of 0.017 and a standard
deviation of about 0.07, and from the number of test jets; the spread over trainings was not known beforehand.
"""

from __future__ import annotations

import math

from bithep_lib import paper
from bithep_lib.study.scales import SCALES
from bithep_lib.study.verdicts import AtMost, Claim, Exact

_Z = 1.96
_SPREAD = 0.05
"""Standard deviation of the difference of two networks' sin^2 of the error, jet by jet: most of it is shared."""
_ANGLE = 0.13
"""Root mean square error of the moment axis in rad, of which distances between residuals are a part."""
_FREE = 0.0014
"""What "nearly free" is taken to mean: a tenth of what the best estimate (0.0033) has before the moment axis (0.0171).
The dilution then falls by 0.003."""
_BANDS = "true angle within 0.25 rad of +-pi/2, and off by more than 0.5 rad (modulo pi)"


def _visible(jet_by_jet: float) -> dict[str, float]:
    """Half the 95 % interval of a mean over the test jets at each scale."""
    return {
        scale: _Z * jet_by_jet / math.sqrt(settings.n_test)
        for scale, settings in SCALES["smeft"].items()
        if scale != "smoke"
    }


def _fraction(bits: str, percent: str) -> tuple[Claim, Claim]:
    """The quantised percentage that the text gives, as counted in weights and as counted in multiply-adds."""
    key = f"SMEFTNet-{bits} quantised (%)"
    value = paper.TEXT[key].value
    return tuple(
        Claim(
            id=f"section4-{bits.lower()}-{kind.replace(' ', '-')}",
            chapter="smeft",
            family="Section 4",
            statement=f"{percent} of SMEFTNet-{bits} is in bits{reading}",
            source=paper.TEXT[key].source,
            contrast=f"percentage of the released network's {kind} in BitLinear layers, counted",
            rule=Exact(value, 5.0),
        )
        for kind, reading in (("weights", ""), ("multiply-adds", ", read as arithmetic"))
    )


def _order(name: str, statement: str, contrast: str, *, source: str, family: str, jet_by_jet: float) -> Claim:
    return Claim(
        id=name,
        chapter="smeft",
        family=family,
        statement=statement,
        source=source,
        contrast=f"{contrast}, mean over seeds",
        rule=AtMost(0.0),
        effect=_visible(jet_by_jet),
    )


_DISTANCE = "Wasserstein distance on the circle (period pi) of the residuals to the reference SMEFTNet's"

CLAIMS: tuple[Claim, ...] = (
    *_fraction("Bit70", "about 70 %"),
    *_fraction("Bit30", "about 30 %"),
    *(
        _order(
            f"table2-{one}-{other}",
            f"{'another SMEFTNet' if one == 'retrained' else f'SMEFTNet-{one.capitalize()}'} is closer to the "
            f"reference than SMEFTNet-{other.capitalize()}",
            f"{_DISTANCE}: {one} - {other}",
            source="Table 2, column Wasserstein",
            family="Table 2",
            jet_by_jet=_ANGLE,
        )
        for one, other in (("retrained", "bit30"), ("bit30", "bit70"), ("bit70", "bit"))
    ),
    Claim(
        id="table2-separation",
        chapter="smeft",
        family="Table 2",
        statement="the separation power of SMEFTNet-Bit against SMEFTNet is 1.4860",
        source=paper.TABLE_2["SMEFTNet-Bit", "separation power"].source,
        contrast="the printed number, or the largest that the definition allows (two histograms without a common bin) "
        "if that is smaller, computed",
        rule=Exact(paper.TABLE_2["SMEFTNet-Bit", "separation power"].value, 0.00005),
    ),
    _order(
        "figure3-cause",
        "the bands of predictions at true angles of +-pi/2 come from its ambiguity, two goals at once",
        f"share of test jets in the bands ({_BANDS}), released construction: its head of one angle - a head of two "
        "numbers, same goal and loss",
        source="Figure 3 and its text",
        family="Figure 3",
        jet_by_jet=0.1,
    ),
    _order(
        "figure3-width",
        "the bands of SMEFTNet-Bit are the wider ones",
        "share of test jets in the bands, released construction: SMEFTNet - SMEFTNet-Bit",
        source="Figure 3 and its text",
        family="Figure 3",
        jet_by_jet=0.1,
    ),
    _order(
        "figure4-tails",
        "residuals near +-pi/2 become more frequent when more of the network is in bits",
        "share of test jets off by more than pi/4 (modulo pi): SMEFTNet - SMEFTNet-Bit",
        source="Figure 4 and its text",
        family="Figure 4",
        jet_by_jet=0.1,
    ),
    Claim(
        id="conclusion-free",
        chapter="smeft",
        family="Conclusions",
        statement="bits in the message passing (30 % of the weights) cost nearly nothing",
        source="section 4, conclusions",
        contrast="<sin^2 of the error> of SMEFTNet-Bit30 - SMEFTNet, same seeds, same test jets",
        rule=AtMost(_FREE),
        effect=_visible(_SPREAD),
    ),
    _order(
        "conclusion-fraction",
        "the larger the part in bits, the worse",
        "<sin^2 of the error> of SMEFTNet-Bit30 - SMEFTNet-Bit, same seeds, same test jets",
        source="section 4, conclusions",
        family="Conclusions",
        jet_by_jet=_SPREAD,
    ),
    _order(
        "conclusion-mlp",
        "bits in the read-out (70 % of the weights) cost more than bits in the message passing",
        "<sin^2 of the error> of SMEFTNet-Bit30 - SMEFTNet-Bit70, same seeds, same test jets",
        source="section 4, conclusions",
        family="Conclusions",
        jet_by_jet=_SPREAD,
    ),
)
