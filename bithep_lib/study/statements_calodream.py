"""The claims of section 5.2 of the paper, written down before the runs that test them.

What an AUC can show at a scale follows from the showers that the judge judges: a fifth of the reference, in several
repetitions. The spread over trainings was not known beforehand. Where showers are so far from Geant4 that the AUC is
near 1 for all networks, it can show nothing; beside it stands a finer measure of a generator that learns velocities,
the mean squared error of the velocity on showers it has not seen.
"""

from __future__ import annotations

import math

from bithep_lib import paper
from bithep_lib.study.scales import SCALES
from bithep_lib.study.verdicts import AtMost, Claim, Exact, Rule

_Z = 1.96
_AUC = 0.3
"""Standard deviation of what a single shower contributes to an AUC, at an AUC around 0.8."""
_VELOCITY_SPREAD = 0.05
"""Standard deviation, from shower to shower, of the relative difference of two networks' velocity errors, when noise
and times are the same."""
FREE_AUC = 0.005
"""What "nearly free" is taken to mean for an AUC; the paper's two energy networks differ by 0.001."""
FREE_VELOCITY = 0.01
"""What it is taken to mean for the velocity: an error larger by a hundredth."""


_FAMILIES = {"table4": "Table 4", "section5": "Section 5.2", "hypothesis": "Hypothesis of chapter 5"}


def _visible(judged: bool) -> dict[str, float]:
    """Half the 95 % interval of the difference of two AUCs, or two velocity errors, from the showers at each scale."""
    return {
        scale: _Z * (_AUC * math.sqrt(2 / 0.2) if judged else _VELOCITY_SPREAD) / math.sqrt(settings.n_reference)
        for scale, settings in SCALES["calodream"].items()
        if scale != "smoke"
    }


def _fraction(id: str, what: str, number: paper.Number) -> Claim:
    digits = number.digits
    return Claim(
        id=f"table4-fraction-{id}",
        chapter="calodream",
        family="Table 4, counts",
        statement=f"{number.value:.{digits}f} % of {what} are in bits",
        source=number.source,
        contrast="percentage of the published network's parameters in BitLinear layers, counted",
        rule=Exact(number.value, 0.5 * 10**-digits),
    )


def _claim(id: str, statement: str, contrast: str, rule: Rule, *, source: str, judged: bool = True) -> Claim:
    return Claim(
        id=id,
        chapter="calodream",
        family=_FAMILIES[id.partition("-")[0]],
        statement=statement,
        source=source,
        contrast=f"{contrast}, mean over seeds",
        rule=rule,
        effect=_visible(judged),
    )


_COLUMNS = "Table 4, columns AUC"
_TEXT = "section 5.2, text, and conclusions"
_VELOCITY = "mean squared error of the shape network's velocity on held-out showers"

CLAIMS: tuple[Claim, ...] = (
    _fraction("energy", "the energy network", paper.TEXT["energy network quantised (%)"]),
    _fraction(
        "no-embedding", "the shape network without embeddings", paper.TEXT["shape network quantised, no embedding (%)"]
    ),
    _fraction("full", "the shape network, full", paper.TEXT["shape network quantised, full (%)"]),
    *(
        _fraction(
            row.replace(", ", "-").replace(" ", "-"), f"both networks ({row})", paper.TABLE_4[row, "quantised (%)"]
        )
        for row in paper.TABLE_4.rows[1:]
    ),
    *(
        _claim(
            f"table4-embeddings-{inputs}",
            "a shape network whose embeddings are in bits, too, is the worse one",
            f"AUC of the {inputs}-level test: no embedding - full (energy network regular)",
            AtMost(0.0),
            source=_COLUMNS,
        )
        for inputs in ("low", "high")
    ),
    *(
        _claim(
            f"table4-blocks-{inputs}",
            "a shape network without bits is the better one",
            f"AUC of the {inputs}-level test: regular - no embedding (energy network regular)",
            AtMost(0.0),
            source=_COLUMNS,
        )
        for inputs in ("low", "high")
    ),
    *(
        _claim(
            f"table4-energy-{inputs}",
            "bits in the energy network cost next to nothing",
            f"AUC of the {inputs}-level test: energy network quantised - regular (shape network regular)",
            AtMost(FREE_AUC),
            source=_COLUMNS,
        )
        for inputs in ("low", "high")
    ),
    _claim(
        "section5-embeddings-velocity",
        "the embeddings must not be quantised",
        f"ln of the {_VELOCITY}: no embedding - full",
        AtMost(0.0),
        source=_TEXT,
        judged=False,
    ),
    _claim(
        "section5-energy-velocity",
        "bits in the energy network cost next to nothing",
        "ln of the mean squared error of the energy network's velocity on held-out showers: quantised - regular",
        AtMost(FREE_VELOCITY),
        source=_TEXT,
        judged=False,
    ),
    _claim(
        "section5-share",
        "embeddings cost more than all blocks, which hold twenty-five times as many parameters",
        f"ln of the {_VELOCITY}: (no embedding - regular) - (full - no embedding)",
        AtMost(0.0),
        source=_TEXT,
        judged=False,
    ),
    _claim(
        "section5-width",
        "larger networks are easier to quantise",
        f"ln of the {_VELOCITY}, no embedding - regular, GFLASH showers each seen once: width 96 - width 24",
        AtMost(0.0),
        source=_TEXT,
        judged=False,
    ),
    _claim(
        "hypothesis-activations",
        "it is the 8-bit inputs of the embeddings, not their ternary weights",
        f"ln of the {_VELOCITY}: embeddings of ternary weights and float inputs - full",
        AtMost(0.0),
        source="not in the paper: the hypothesis of chapter 5",
        judged=False,
    ),
    _claim(
        "hypothesis-scale",
        "it is the scale that the incident energy shares with 45 ratios",
        f"ln of the {_VELOCITY}: full with a separate incident energy - full",
        AtMost(0.0),
        source="not in the paper: the hypothesis of chapter 5",
        judged=False,
    ),
)
