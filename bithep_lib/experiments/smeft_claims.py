"""Table 2 of the paper and the claims of its section 4, from the finished trainings of chapter 3."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bithep_lib import paper, study
from bithep_lib.data import wz
from bithep_lib.evaluate import regression
from bithep_lib.experiments.variants import Variant
from bithep_lib.study.tables import MIN_SEEDS

if TYPE_CHECKING:
    from bithep_lib.experiments.smeft import Campaign, Outcome

ROWS = {
    "SMEFTNet": "smeftnet/none",
    "SMEFTNet-Bit": "smeftnet/all",
    "SMEFTNet-Bit70": "smeftnet/mlp",
    "SMEFTNet-Bit30": "smeftnet/message_passing",
}
"""Rows of Table 2, and our names."""
ONE_ANGLE = {name: f"{name} as published" for name in ("smeftnet/none", "smeftnet/all")}
"""The construction of the paper's code, whose head is one number, the angle."""
VECTOR = "smeftnet/none as published vector head"
"""The same with a head of two numbers."""
NEAR_EDGE, FAR_OFF = 0.25, 0.5
"""rad: what counts as in the bands of Figure 3 (see `study.statements_smeft`)."""


def folded(angle: NDArray, truth: NDArray) -> NDArray:
    """The error of the angle modulo pi, in [-pi/2, pi/2)."""
    return regression.residuals(angle, truth, period=np.pi)


def in_bands(angle: NDArray, truth: NDArray) -> NDArray[np.bool_]:
    """Jets in the bands of Figure 3: true angle near +-pi/2, and the prediction far off."""
    return (np.abs(folded(truth, np.full(len(truth), np.pi / 2))) < NEAR_EDGE) & (
        np.abs(folded(angle, truth)) > FAR_OFF
    )


def over_jets(values: NDArray) -> dict[str, float]:
    """Mean over the test jets with its error."""
    return {"value": float(values.mean()), "error": float(values.std(ddof=1) / math.sqrt(len(values)))}


def over_seeds_and_jets(each: NDArray) -> study.Measurement:
    """The mean of (S, N) values; from five seeds on its error holds seeds and jets, below that only jets."""
    n_seeds, n_jets = each.shape
    jets = each.mean(axis=0).std(ddof=1) / math.sqrt(n_jets)
    if n_seeds < MIN_SEEDS:
        return study.Measurement(float(each.mean()), float(jets))
    seeds = each.mean(axis=1).std(ddof=1) / math.sqrt(n_seeds)
    return study.Measurement(float(each.mean()), float(math.hypot(seeds, jets)), dof=n_seeds - 1)


def worse(first: Outcome, second: Outcome, angle: str = "angle") -> NDArray:
    """sin^2 of the error of the second training minus that of the first, for each test jet."""
    one, two = (getattr(outcome, angle) for outcome in (first, second))
    truth = first.truth[: len(one)]
    return regression.sin2_delta(two, truth) - regression.sin2_delta(one, truth)


def distances(reference: Outcome, other: Outcome) -> dict[str, float]:
    """The two columns of Table 2, each as the paper computes it and as it should be."""
    a, b = (regression.residuals(outcome.angle, outcome.truth) for outcome in (reference, other))
    return {
        "wasserstein": regression.wasserstein(a, b),
        "wasserstein_circle": regression.circular_wasserstein(a, b),
        "separation_published": regression.separation_power(a, b, with_width=False),
        "separation": regression.separation_power(a, b),
    }


def conclude(campaign: Campaign) -> Path:
    """Record Table 2, for our SMEFTNet and as far as it was trained for the released one, with the claims.

    The reference is the full-precision network of the first seed; every row has the other seeds, so that no training
    shares its initial weights with the reference.

    Raises:
        ValueError: one of the trainings of Table 2 has not been done.
    """
    first, *others = campaign.run.seeds
    table = {
        name: {
            seed: distances(campaign.finished(ROWS["SMEFTNet"], first), campaign.finished(name, seed))
            for seed in others
        }
        for name in ROWS.values()
    }
    released = {}
    if (reference := _finished(campaign, ONE_ANGLE["smeftnet/none"], first)) is not None:
        for name in (f"{row} as published" for row in ROWS.values()):
            done = {seed: _finished(campaign, name, seed) for seed in others}
            released[name] = {seed: distances(reference, found) for seed, found in done.items() if found is not None}
    metrics: dict[str, Any] = {}
    curves = {}
    for name, rows in (table | {name: rows for name, rows in released.items() if rows}).items():
        short = name.removeprefix("smeftnet/")
        columns = {key: [row[key] for row in rows.values()] for key in next(iter(rows.values()))}
        curves[short] = {"seed": list(rows)} | columns
        metrics |= {f"{short}_{key}": float(np.mean(found)) for key, found in columns.items()}
    return study.record(
        campaign.run,
        variant="table 2",
        seed=first,
        data=campaign.fingerprint,
        metrics=metrics,
        curves=curves,
        claims=_claims(campaign, table) if len(campaign.run.seeds) >= MIN_SEEDS else {},
        wall_seconds=0.0,
    )


def _claims(campaign: Campaign, table: dict[str, dict[int, dict[str, float]]]) -> dict[str, study.Measurement]:
    seeds = campaign.run.seeds
    done = {name: [campaign.finished(name, seed) for seed in seeds] for name in ROWS.values()}
    circle = {name: np.array([row["wasserstein_circle"] for row in rows.values()]) for name, rows in table.items()}
    full, bits, read_out, messages = ROWS.values()
    claims = {}
    for claim, one, other in (
        ("table2-retrained-bit30", full, messages),
        ("table2-bit30-bit70", messages, read_out),
        ("table2-bit70-bit", read_out, bits),
    ):
        each = circle[one] - circle[other]
        claims[claim] = study.Measurement(
            float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each))), dof=len(each) - 1
        )

    def difference(one: str, other: str) -> study.Measurement:
        return over_seeds_and_jets(np.array([worse(x, y) for x, y in zip(done[other], done[one], strict=True)]))

    claims |= {
        "conclusion-free": difference(messages, full),
        "conclusion-fraction": difference(messages, bits),
        "conclusion-mlp": difference(messages, read_out),
        "figure4-tails": over_seeds_and_jets(
            np.array([_tails(x) - _tails(y) for x, y in zip(done[full], done[bits], strict=True)])
        ),
    }
    return claims | _claims_of_the_bands(campaign)


def _claims_of_the_bands(campaign: Campaign) -> dict[str, study.Measurement]:
    """From the published construction, over the seeds that were trained."""
    full, bits, vector = (
        [_finished(campaign, name, seed) for seed in campaign.run.seeds] for name in (*ONE_ANGLE.values(), VECTOR)
    )

    def difference(ones: list[Outcome | None], others: list[Outcome | None]) -> study.Measurement | None:
        pairs = [(x, y) for x, y in zip(ones, others, strict=True) if x is not None and y is not None]
        if not pairs:
            return None
        return over_seeds_and_jets(np.array([_bands(x) - _bands(y) for x, y in pairs]))

    found = {"figure3-cause": difference(full, vector), "figure3-width": difference(full, bits)}
    return {name: value for name, value in found.items() if value is not None}


def _finished(campaign: Campaign, name: str, seed: int) -> Outcome | None:
    try:
        return campaign.finished(name, seed)
    except ValueError:
        return None


def _bands(outcome: Outcome) -> NDArray:
    return in_bands(outcome.angle, outcome.truth).astype(float)


def _tails(outcome: Outcome) -> NDArray:
    return (np.abs(folded(outcome.angle, outcome.truth)) > np.pi / 4).astype(float)


def count(run: study.Run) -> Path:
    """Record what Bit70 and Bit30 quantise, released and here, with the claims that need no training."""
    from bithep_lib.experiments.smeft import tensors

    jets = wz.load("sample", n=2)
    metrics, claims = {}, {}
    for bits, strategy in (("Bit70", "mlp"), ("Bit30", "message_passing")):
        for prefix, sizes in (("", {}), ("published_", {"as_published": True})):
            _, report = Variant("smeftnet", strategy, sizes=sizes).build(1, example=tensors(jets))
            for name in ("parameters", "fraction", "fraction_weights", "fraction_macs"):
                metrics[f"{prefix}{bits.lower()}_{name}"] = getattr(report, name)
        for name in ("weights", "macs"):
            value = 100 * metrics[f"published_{bits.lower()}_fraction_{name}"]
            claims[f"section4-{bits.lower()}-{name.replace('macs', 'multiply-adds')}"] = study.Measurement(value)
    largest = regression.separation_power(np.zeros(10), np.ones(10))
    printed = paper.TABLE_2["SMEFTNet-Bit", "separation power"].value
    claims["table2-separation"] = study.Measurement(min(largest, printed))
    return study.record(run, variant="counted", data=jets.fingerprint, metrics=metrics, claims=claims)
