"""The claims of section 5.1 on CaloINN, from the finished trainings of chapter 4 and from counts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bithep_lib import study
from bithep_lib.data.calochallenge import geometry
from bithep_lib.experiments.caloinn_variants import SETUPS
from bithep_lib.experiments.generators import over_seeds
from bithep_lib.models import CaloINN
from bithep_lib.models.caloinn import SETTINGS
from bithep_lib.models.coupling import CouplingBlock
from bithep_lib.quantize import count as count_parameters
from bithep_lib.study.statements_caloinn import printed_size
from bithep_lib.study.tables import MIN_SEEDS

if TYPE_CHECKING:
    from bithep_lib.experiments.caloinn import Campaign, Outcome

GPU_BYTES = 80e9
TRAINED = 16
"""Bytes a parameter: float32 weight, gradient and the two moments of AdamW."""
LEVELS = "low", "high"


def conclude(campaign: Campaign) -> Path:
    """Record what the claims are about: for ds1 the setups of Table 3, for ds2 the showers lost to NaN.

    The claims on Table 3 are those of photons; a record of pions has the same numbers without them.

    Raises:
        ValueError: a flow that is needed has not been trained with all seeds.
    """
    return _lost(campaign) if campaign.run.dataset == "ds2" else _setups(campaign)


def _lost(campaign: Campaign) -> Path:
    """How many showers of All are lost; a count, so that one training will do."""
    seeds = campaign.run.seeds
    made = len(seeds) * len(campaign.referee.reference)
    lost = sum(int(campaign.finished("caloinn/All", seed).not_finite) for seed in seeds)
    return study.record(
        campaign.run,
        variant="not finite",
        seed=min(seeds),
        data=campaign.fingerprint,
        metrics={"not_finite": lost, "generated": made},
        claims={"section5-nan": study.Measurement(100 * lost / made)},
        wall_seconds=0.0,
        n_trainings=len(seeds),
    )


def _setups(campaign: Campaign) -> Path:
    """The setups beside each other and, as far as they were trained, the widths."""
    seeds = campaign.run.seeds
    done = {setup: [campaign.finished(f"caloinn/{setup}", seed) for seed in seeds] for setup in SETUPS}
    fraction = {setup: campaign.report(f"caloinn/{setup}").fraction for setup in SETUPS}
    auc = {
        (setup, level): np.array([campaign.result(outcome, level).mean for outcome in outcomes])
        for setup, outcomes in done.items()
        for level in LEVELS
    }
    claims = {}
    for level in LEVELS:
        of = {setup: auc[setup, level] for setup in SETUPS}
        along = ("Default", "NNCentral", "BlockCentral", "All")
        slope = np.polyfit([fraction[setup] for setup in along], np.array([of[setup] for setup in along]), 1)[0]
        for name, each in (
            ("exchange", of["ExchangePermutation"] - of["Default"]),
            ("nncentral", of["NNCentral"] - of["Default"]),
            ("blockcentral", of["Default"] - of["BlockCentral"]),
            ("all", of["BlockCentral"] - of["All"]),
            ("trend", -slope),
        ):
            claims[f"table3-{name}-{level}"] = over_seeds([(value, 0.0) for value in each])
    if (width := _width(campaign)) is not None:
        claims["conclusion-size"] = width
    metrics = {f"{setup}_auc_{level}": float(values.mean()) for (setup, level), values in auc.items()}
    metrics |= {f"slope_auc_{level}": -claims[f"table3-trend-{level}"].value for level in LEVELS}
    return study.record(
        campaign.run,
        variant="table 3",
        seed=min(seeds),
        data=campaign.fingerprint,
        metrics=metrics,
        claims=claims if campaign.run.dataset == "ds1-photons" and len(seeds) >= MIN_SEEDS else {},
        wall_seconds=0.0,
        n_trainings=len(seeds),
    )


def _width(campaign: Campaign) -> study.Measurement | None:
    """What All costs with wide conditioners, minus what it costs with narrow ones; None before five of each."""

    def each(name: str) -> list[Outcome] | None:
        try:
            return [campaign.finished(name, seed) for seed in campaign.run.seeds]
        except ValueError:
            return None

    names = [f"caloinn/{setup} {width} width" for width in ("double", "half") for setup in ("All", "Default")]
    outcomes = [each(name) for name in names]
    if any(found is None for found in outcomes):
        return None
    wide_bits, wide, narrow_bits, narrow = (
        np.array([campaign.result(outcome, "low").mean for outcome in found]) for found in outcomes
    )
    return over_seeds([(value, 0.0) for value in wide_bits - wide - (narrow_bits - narrow)])


def count(run: study.Run) -> Path:
    """Record sizes and quantised fractions of the published flows, with the claims that need no training."""
    metrics, claims = {}, {}
    for dataset in SETTINGS:
        for setup in SETUPS:
            with torch.device("meta"):
                report = CaloINN.build(setup, dataset=dataset)[1]
            name = f"{dataset}_{setup}"
            metrics |= {
                f"{name}_parameters": report.parameters,
                f"{name}_fraction": report.fraction,
                f"{name}_bytes_float32": report.bytes.float32,
                f"{name}_bytes_two_bit": report.bytes.two_bit,
                f"{name}_bytes_packed": report.bytes.packed,
            }
            if report.fraction:
                claims[f"table3-fraction-{dataset}-{setup.lower()}"] = study.Measurement(100 * report.fraction)
    parameters, permutations = size_like_ds2("ds3")
    metrics |= {"ds3_parameters": parameters, "ds3_permutation_entries": permutations}
    needed = TRAINED * parameters
    metrics |= {"ds3_bytes_trained": needed, "ds3_bytes_permutations": 4 * permutations}
    claims["section5-ds3"] = study.Measurement(float(needed <= GPU_BYTES))
    claims["section5-ds3-released"] = study.Measurement(float(needed + 4 * permutations <= GPU_BYTES))
    for level in LEVELS:
        claims[f"conclusion-size-printed-{level}"] = printed_size(level)
    return study.record(run, variant="counted", data="none", metrics=metrics, claims=claims, wall_seconds=0.0)


def size_like_ds2(dataset: str) -> tuple[int, int]:
    """Parameters of a flow built like the published one for ds2, and entries of its released permutation matrices."""
    settings, grid = SETTINGS["ds2"], geometry(dataset)
    features = grid.n_voxels + grid.n_layers
    with torch.device("meta"):
        block = CouplingBlock(
            torch.arange(features), settings, actnorm=True, tails="elementwise", separate_condition=False
        )
    parameters = settings.n_blocks * count_parameters(block).parameters - 2 * features  # the first has no actnorm
    return parameters, 2 * settings.n_blocks * features**2
