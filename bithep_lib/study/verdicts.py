r"""Claims: what the paper says, how it will be decided, and what came out.

A claim is written down *before* the run that tests it: the contrast that is measured, the rule that decides and the
smallest effect that can be seen at each scale. A rule turns a measurement into two p-values, for the paper's statement
and for its absence ("none"):

============================  ============  =========================================================
the measurement is            verdict
============================  =======================================================================
compatible with the paper's statement, not with none     confirmed
not compatible with the paper's statement                contradicted
compatible with both                                     insensitive
not there                                                not attempted
============================  =======================================================================

"Not compatible" is p < 0.05 after Holm's correction over all claims on the same table (Scand. J. Stat. 6 (1979) 65):
with a dozen contrasts one of them would otherwise fall out by luck.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.05


@dataclass(frozen=True)
class Measurement:
    """A measured contrast.

    Attributes:
        value: the contrast.
        error: its standard error (0: exact, such as a count).
        dof: degrees of freedom of that error, for instance n_seeds - 1; None for a Gaussian error (bootstrap).
    """

    value: float
    error: float = 0.0
    dof: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and math.isfinite(self.error) and self.error >= 0):
            raise ValueError(f"a measurement needs a finite value and an error >= 0, not {self.value} ± {self.error}")
        if self.dof is not None and self.dof < 1:
            raise ValueError(f"dof={self.dof}: an error from one training is no error; leave dof out or train more")

    def above(self, reference: float) -> float:
        """P-value against "the truth is at most `reference`": small when the measurement is far above it."""
        if self.error == 0:
            return float(self.value <= reference)
        score = (self.value - reference) / self.error
        return float(stats.norm.sf(score) if self.dof is None else stats.t.sf(score, self.dof))

    def below(self, reference: float) -> float:
        """P-value against "the truth is at least `reference`"."""
        return Measurement(-self.value, self.error, self.dof).above(-reference)

    def equal(self, reference: float) -> float:
        """Two-sided p-value against "the truth is `reference`"."""
        if self.error == 0:
            return float(self.value == reference)
        return min(1.0, 2 * min(self.above(reference), self.below(reference)))


class Rule(Protocol):
    """Decides a claim."""

    def p_values(self, measured: Measurement) -> tuple[float, float]:
        """P-values of the paper's statement and of its absence."""


@dataclass(frozen=True)
class Difference:
    """The contrast has the published value, and is not zero. The published value's own error counts too."""

    published: float
    error: float = 0.0

    def __str__(self) -> str:
        known = f"{self.published:+g}" + (f" ± {self.error:g}" if self.error else "")
        return f"the interval holds {known} and not 0"

    def p_values(self, measured: Measurement) -> tuple[float, float]:
        joint = Measurement(measured.value, math.hypot(measured.error, self.error), measured.dof)
        return joint.equal(self.published), measured.equal(0.0)


@dataclass(frozen=True)
class AtMost:
    """The contrast is at most a bound that was fixed beforehand."""

    bound: float

    def __str__(self) -> str:
        return f"the interval lies below {self.bound:g}"

    def p_values(self, measured: Measurement) -> tuple[float, float]:
        return measured.above(self.bound), measured.below(self.bound)


@dataclass(frozen=True)
class Exact:
    """A count: the contrast is the published value within its rounding."""

    published: float
    rounding: float

    def __str__(self) -> str:
        return f"equal to {self.published:g} within its rounding of ± {self.rounding:g}"

    def p_values(self, measured: Measurement) -> tuple[float, float]:
        agrees = abs(measured.value - self.published) <= self.rounding
        return float(agrees), float(not agrees)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of the paper.

    Attributes:
        id: a short name, ``"table1-auc"``.
        statement: what the paper says, in our words.
        source: where: table, row, column.
        chapter: the chapter that tests it.
        family: the table or text within which Holm's correction is made.
        contrast: what is measured.
        rule: what decides.
        effect: scale to the smallest contrast that would be seen there (half the 95 % interval), known beforehand.
    """

    id: str
    statement: str
    source: str
    chapter: str
    family: str
    contrast: str
    rule: Difference | AtMost | Exact
    effect: Mapping[str, float] = field(default_factory=dict)


def verdict(p_paper: float, p_none: float, level: float = LEVEL) -> str:
    """``"confirmed"``, ``"contradicted"`` or ``"insensitive"``, from the (corrected) p-values of a rule."""
    if p_paper < level:
        return "contradicted"
    return "confirmed" if p_none < level else "insensitive"


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p-values that may each be compared with the level of the whole family.

    >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, steps)
    return corrected.tolist()


def judge(claims: Iterable[Claim], measured: Mapping[str, Measurement]) -> dict[str, str]:
    """The verdict on each claim, by id, with Holm's correction within each family.

    Raises:
        ValueError: a measurement whose id is no claim's.
    """
    claims = list(claims)
    if unknown := set(measured) - {claim.id for claim in claims}:
        raise ValueError(f"there is no claim {', '.join(sorted(unknown))}; there are {', '.join(c.id for c in claims)}")
    verdicts = {claim.id: "not attempted" for claim in claims}
    for family in dict.fromkeys(claim.family for claim in claims):
        tested = [claim for claim in claims if claim.family == family and claim.id in measured]
        pairs = [claim.rule.p_values(measured[claim.id]) for claim in tested]
        # A count has no luck in it, so it takes no share of the correction.
        lucky = [number for number, claim in enumerate(tested) if not isinstance(claim.rule, Exact)]
        for side in (0, 1):
            for number, p in zip(lucky, holm([pairs[number][side] for number in lucky]), strict=True):
                pairs[number] = (p, pairs[number][1]) if side == 0 else (pairs[number][0], p)
        verdicts |= {claim.id: verdict(*pair) for claim, pair in zip(tested, pairs, strict=True)}
    return verdicts


def table(claims: Iterable[Claim], measured: Mapping[str, tuple[str, Measurement]]) -> pd.DataFrame:
    """All claims as a table: statement, source, contrast, rule, smallest visible effect, measurement, verdict.

    Args:
        claims: the claims.
        measured: claim id to (scale, measurement), as from `study.measurements`.
    """
    claims = list(claims)
    verdicts = judge(claims, {name: value for name, (_, value) in measured.items()})
    rows = []
    for claim in claims:
        scale, value = measured.get(claim.id, ("", None))
        rows.append(
            {
                "claim": claim.id,
                "the paper says": claim.statement,
                "where": claim.source,
                "contrast": claim.contrast,
                "decided by": str(claim.rule),
                "visible": ", ".join(f"{name} {effect:.2g}" for name, effect in claim.effect.items()) or "exact",
                "measured": "" if value is None else _show(value, claim.rule),
                "scale": scale,
                "verdict": verdicts[claim.id],
            }
        )
    return pd.DataFrame(rows).set_index("claim")


def _show(measured: Measurement, rule: Rule) -> str:
    if measured.error == 0:
        return f"{measured.value:.4g}"
    digits = max(0, 1 - math.floor(math.log10(measured.error)))  # two figures of the error
    sign = "+" if isinstance(rule, Difference) else ""
    return f"{measured.value:{sign}.{digits}f} ± {measured.error:.{digits}f}"
