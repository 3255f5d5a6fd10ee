"""Table 4 of the paper and the claims of its section 5.2, from the finished trainings of chapter 5."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from bithep_lib import paper, study
from bithep_lib.evaluate.classifier_test import INPUTS
from bithep_lib.experiments.calodream_variants import GFLASH, WIDTHS
from bithep_lib.models.calodream import CaloDREAM
from bithep_lib.quantize import count as count_layers

if TYPE_CHECKING:
    from bithep_lib.experiments.calodream import Campaign, Outcome

ROWS = {
    f"energy {energy}, shape {shape.replace('_', ' ')}": f"calodream/{energy}/{shape}"
    for shape in ("regular", "no_embedding", "full")
    for energy in ("regular", "quantized")
}
"""Rows of Table 4, and our names."""
REGULAR, ENERGY, BLOCKS, FULL = (ROWS[row] for row in (*list(ROWS)[:3], "energy regular, shape full"))
CURES = {
    "hypothesis-activations": "calodream/regular/full float embeddings",
    "hypothesis-scale": "calodream/regular/full separate condition",
}


def conclude(campaign: Campaign) -> Path:
    """Record Table 4 and the claims, from the seeds of the run that have all six combinations.

    With ``data="gflash"`` the claim on the width of the network is recorded instead.

    Raises:
        ValueError: there is no such seed.
    """
    if campaign.run.data == "gflash":
        return _widths(campaign)
    done = {name: _finished(campaign, name) for name in (*ROWS.values(), *CURES.values())}
    seeds = sorted(set.intersection(*(set(done[name]) for name in ROWS.values())))
    if not seeds:
        raise ValueError(f"no seed of {', '.join(map(str, campaign.run.seeds))} has all six combinations of Table 4")
    metrics, curves = {}, {}
    for row, name in ROWS.items():
        judged = {
            inputs: [campaign.result(done[name][seed], inputs).mean for seed in seeds] for inputs in INPUTS
        }  # fmt: skip
        key = name.removeprefix("calodream/").replace("/", "_")
        metrics |= {f"{key}_auc_{inputs}": float(np.mean(values)) for inputs, values in judged.items()}
        curves[row] = {"seed": seeds} | {f"auc_{inputs}": values for inputs, values in judged.items()}
    return study.record(
        campaign.run,
        variant="table 4",
        seed=seeds[0],
        data=campaign.fingerprint,
        metrics=metrics,
        curves=curves,
        claims=_claims(campaign, done, seeds),
        wall_seconds=0.0,
        n_trainings=len(seeds),
    )


Done = dict[str, dict[int, "Outcome"]]


def _claims(campaign: Campaign, done: Done, seeds: Sequence[int]) -> dict[str, study.Measurement]:
    def auc(one: str, other: str, inputs: str) -> study.Measurement:
        rows = []
        for seed in seeds:
            a, b = (campaign.result(done[name][seed], inputs) for name in (one, other))
            rows.append((a.mean - b.mean, math.hypot(a.sample, b.sample)))
        return over_trainings(rows)

    def logs(one: str, other: str, part: str = "shape") -> NDArray:
        common = [seed for seed in seeds if seed in done[one] and seed in done[other]]
        return np.array([log_ratio(done[one][seed], done[other][seed], part) for seed in common]).reshape(-1, 2)

    found = {}
    for inputs in INPUTS:
        found |= {
            f"table4-embeddings-{inputs}": auc(BLOCKS, FULL, inputs),
            f"table4-blocks-{inputs}": auc(REGULAR, BLOCKS, inputs),
            f"table4-energy-{inputs}": auc(ENERGY, REGULAR, inputs),
        }
    blocks, embeddings = logs(BLOCKS, REGULAR), logs(FULL, BLOCKS)
    share = np.stack([blocks[:, 0] - embeddings[:, 0], np.hypot(blocks[:, 1], embeddings[:, 1])], axis=1)
    found |= {
        "section5-embeddings-velocity": over_trainings(embeddings * (-1, 1)),
        "section5-energy-velocity": over_trainings(logs(ENERGY, REGULAR, "energy")),
        "section5-share": over_trainings(share),
    }
    cures = {claim: logs(name, FULL) for claim, name in CURES.items()}
    return _decidable(found | {claim: over_trainings(rows) for claim, rows in cures.items() if len(rows)})


def _widths(campaign: Campaign) -> Path:
    """What bits cost at each width of the shape network, where no shower is seen twice."""
    done = {name: _finished(campaign, name) for name in campaign.variants if name.startswith(GFLASH)}
    rows = {}
    for width in WIDTHS:
        regular, *others = (f"{GFLASH}/regular/{setup} width {width}" for setup in ("regular", "no_embedding", "full"))
        for other in others:
            common = sorted(set(done[regular]) & set(done[other]))
            if common:
                rows[other] = np.array([log_ratio(done[other][seed], done[regular][seed]) for seed in common])
    if not rows:
        raise ValueError("no width of the test bed has been trained with and without bits")
    narrow, wide = (rows.get(f"{GFLASH}/regular/no_embedding width {width}") for width in (WIDTHS[0], WIDTHS[-1]))
    claims = {}
    if narrow is not None and wide is not None:
        n = min(len(narrow), len(wide))
        change = np.stack([wide[:n, 0] - narrow[:n, 0], np.hypot(wide[:n, 1], narrow[:n, 1])], axis=1)
        claims["section5-width"] = over_trainings(change)
    found = {name: over_trainings(values) for name, values in rows.items()}
    return study.record(
        campaign.run,
        variant="widths",
        data=campaign.fingerprint,
        metrics={
            name.removeprefix(f"{GFLASH}/regular/").replace(" ", "_"): {"value": value.value, "error": value.error}
            for name, value in found.items()
        },
        curves={name: {"log_ratio": values[:, 0], "error": values[:, 1]} for name, values in rows.items()},
        claims=_decidable(claims),
        wall_seconds=0.0,
    )


def _decidable(claims: dict[str, study.Measurement]) -> dict[str, study.Measurement]:
    """Without those from a single training, whose luck nobody knows."""
    return {name: value for name, value in claims.items() if value.dof is not None}


def log_ratio(one: Outcome, other: Outcome, part: str = "shape") -> tuple[float, float]:
    """ln of the ratio of two mean squared errors of the velocity, and its error from the blocks of showers."""
    a, b = (getattr(outcome, f"velocity_{part}") for outcome in (one, other))
    ratio = a.mean() / b.mean()
    return float(np.log(ratio)), float((a - ratio * b).std(ddof=1) / math.sqrt(len(a)) / a.mean())


def over_trainings(rows: Sequence[tuple[float, float]] | NDArray) -> study.Measurement:
    """The mean of values with errors from finite samples. Of several trainings their spread counts as well, as the
    standard deviation of so few values is worth (Student's t); of one it is not known, and not in the error."""
    values, errors = np.asarray(rows, dtype=np.float64).T
    n = len(values)
    sample = float(np.sqrt(np.sum(errors**2)) / n)
    if n == 1:
        return study.Measurement(float(values[0]), sample)
    spread = float(values.std(ddof=1) / math.sqrt(n))
    return study.Measurement(float(values.mean()), math.hypot(spread, sample), dof=n - 1)


def _finished(campaign: Campaign, name: str) -> dict[int, Outcome]:
    paths = {seed: campaign.path(name, seed, "outcomes", "npz") for seed in campaign.run.seeds}
    return {seed: campaign.finished(name, seed) for seed, path in paths.items() if path.exists()}


def count(run: study.Run) -> Path:
    """Record what the setups quantise in the published networks, with the claims that need no training."""
    metrics, claims = {}, {}
    for row, name in ROWS.items():
        setup = name.removeprefix("calodream/")
        with torch.device("meta"):
            model, report = CaloDREAM.build(setup)
        parts = {part: 100 * count_layers(model.get_submodule(part)).fraction for part in ("energy", "shape")}
        metrics |= {f"{setup}": 100 * report.fraction, **{f"{setup} {part}": value for part, value in parts.items()}}
        if (row, "quantised (%)") in paper.TABLE_4.numbers:
            key = row.replace(", ", "-").replace(" ", "-")
            claims[f"table4-fraction-{key}"] = study.Measurement(100 * report.fraction)
    claims |= {
        "table4-fraction-energy": study.Measurement(metrics["quantized/regular energy"]),
        "table4-fraction-no-embedding": study.Measurement(metrics["regular/no_embedding shape"]),
        "table4-fraction-full": study.Measurement(metrics["regular/full shape"]),
    }
    return study.record(run, variant="counted", data="counted", metrics=metrics, claims=claims, wall_seconds=0.0)
