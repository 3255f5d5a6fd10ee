"""The sensitivity atlas: all four models, one block at a time in bits, at each width of weights and activations.

    python -m bithep_lib.experiments.atlas pdat smeftnet caloinn energy shape --seeds 1 2 3 -p scale=laptop

The name of a model stands for its network in full precision and all its blocks in all bits. The networks are small, so
that the whole grid can be run; what it shows is where bits hurt, not how good a network is.

The cost of bits is the share of what training gained that they take away,

    (L_bits - L_float) / (L_nothing - L_float),

with the loss L of the model on events that were not trained on, and L_nothing that of the untrained network (for
SMEFTNet, which agrees with the moment axis from the start, 1/2, an angle by lot): 0 is no cost, 1 is nothing learned.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor, nn

from bithep_lib import study
from bithep_lib.bitlinear import QuantSpec
from bithep_lib.experiments import driver
from bithep_lib.experiments.atlas_models import MODELS, Parts
from bithep_lib.quantize import QuantReport, count, quantize_
from bithep_lib.train import FitResult, fit

__all__ = ["ACTIVATIONS", "VARIANTS", "WEIGHTS", "Campaign", "Variant", "alone", "costs", "main"]

WEIGHTS = (None, "int8", "ternary", "binary")
ACTIVATIONS = (None, 8, 4)


@dataclass(frozen=True)
class Variant:
    """A network of the atlas.

    Attributes:
        model: key of `MODELS`.
        block: which of its blocks is in bits; None: nothing.
        weights: of that block, see `QuantSpec`.
        activation_bits: of that block.
    """

    model: str
    block: str | None = None
    weights: str | None = None
    activation_bits: int | None = None


def _variants() -> Iterator[tuple[str, Variant]]:
    for name, model in MODELS.items():
        yield f"{name}/none", Variant(name)
        for block in model.blocks:
            for weights in WEIGHTS:
                for bits in ACTIVATIONS:
                    if (weights, bits) != (None, None):
                        spec = f"{weights or 'float'}-{f'{bits}bit' if bits else 'float'}"
                        yield f"{name}/{block} {spec}", Variant(name, block, weights, bits)


VARIANTS: Mapping[str, Variant] = dict(_variants())


@dataclass(frozen=True, kw_only=True)
class Outcome(driver.Outcome):
    """Losses on the test events: after the training, and of the network in full precision before it."""

    loss: NDArray[np.float64]
    untrained: NDArray[np.float64]


class Campaign(driver.Campaign):
    """Trainings of one `study.Run`: each model on its own bundled sample, in the split of the setting ``seed``.

    Args:
        run: of the chapter ``atlas``.
    """

    chapter, variants, outcome = "atlas", VARIANTS, Outcome

    def __init__(self, run: study.Run) -> None:
        super().__init__(run, "")  # each model has data of its own
        self._data: dict[str, tuple[Parts, str]] = {}

    def path(self, name: str, seed: int, folder: str, ending: str) -> Path:
        self.fingerprint = self.data(VARIANTS[name].model)[1]
        return super().path(name, seed, folder, ending)

    def data(self, model: str) -> tuple[Parts, str]:
        """The parts of a model's sample, and its fingerprint."""
        if model not in self._data:
            sizes = {part: getattr(self.run, f"n_{part}") for part in ("train", "valid", "test")}
            self._data[model] = MODELS[model].data(sizes, self.run.seed)
        return self._data[model]

    def build(self, variant: Variant, seed: int) -> tuple[nn.Module, QuantReport]:
        """The network with weights drawn from ``seed``, the same in all variants, and what is quantised in it."""
        chosen = MODELS[variant.model]
        model = chosen.build(seed, self.data(variant.model)[0]["train"])
        if variant.block is not None:
            spec = QuantSpec(weights=variant.weights, activation_bits=variant.activation_bits)
            quantize_(model, chosen.blocks[variant.block], spec)
        return model, count(model)

    def fit(self, name: str, seed: int) -> tuple[nn.Module, Any, FitResult]:
        variant = VARIANTS[name]
        chosen, (parts, _) = MODELS[variant.model], self.data(variant.model)
        untrained = chosen.loss(self.build(Variant(variant.model), seed)[0], parts["test"])
        model, _ = self.build(variant, seed)
        result = fit(
            chosen.task(model),
            parts["train"],
            parts["valid"],
            epochs=self.run.epochs,
            batch_size=self.run.batch_size,
            seed=seed,
            checkpoint=self.path(name, seed, "checkpoints", "ckpt"),
            device=self.run.device,
            max_minutes=self.run.minutes_left(),
            progress=sys.stderr.isatty(),
        )
        return model, (variant, parts["test"], untrained), result

    def judge(self, model: nn.Module, data: tuple[Variant, tuple[Tensor, ...], float]) -> dict[str, NDArray]:
        variant, test, untrained = data
        return {"loss": np.array(MODELS[variant.model].loss(model.cpu(), test)), "untrained": np.array(untrained)}

    def record(self, name: str, seed: int, outcome: Outcome) -> Path:
        variant = VARIANTS[name]
        _, report = self.build(variant, seed)
        return study.record(
            self.run,
            variant=name,
            seed=seed,
            data=self.data(variant.model)[1],
            backend=driver.backend(report),
            metrics={
                "loss": float(outcome.loss),
                "untrained_loss": float(outcome.untrained),
                "best_epoch": outcome.best_epoch,
                "parameters": report.parameters,
                "fraction": report.fraction,
            },
            wall_seconds=outcome.seconds,
            **self.parameters(name),
        )

    def parameters(self, name: str) -> dict[str, Any]:
        return super().parameters(name) | {"schedule": "as the model's task has it"}

    def compare(self, first: str, second: str, seeds: Sequence[int]) -> Path:
        """The cost of the second variant over the first, seed by seed; the error is that of the mean."""
        pairs = [(self.finished(first, seed), self.finished(second, seed)) for seed in seeds]
        model = VARIANTS[first].model
        costs = [_share(model, float(a.untrained), float(a.loss), float(b.loss)) for a, b in pairs]
        error = {"error": float(np.std(costs, ddof=1) / np.sqrt(len(costs)))} if len(costs) > 1 else {}
        return study.record(
            self.run,
            variant=f"{second} - {first}",
            seed=min(seeds),
            data=self.data(VARIANTS[first].model)[1],
            metrics={"cost": {"value": float(np.mean(costs))} | error if error else costs[0]},
            curves={"seeds": {"seed": list(seeds), "cost": costs}},
            wall_seconds=0.0,
            n_trainings=len(seeds),
        )

    def arguments(self, name: str) -> dict[str, Any]:
        raise ValueError("the networks of the atlas are not stored: they are small and quickly trained")


def costs(folder: str | Path | None = None, scale: str | None = None) -> pd.DataFrame:
    """The cost of bits in each block, from stored records.

    Args:
        folder: records beside those of the package (see `study.records`).
        scale: only this one; None: the largest that has records, but not ``"smoke"``.

    Returns:
        One row a variant in bits: ``model``, ``block``, ``weights``, ``activation_bits``, ``cost`` (mean over seeds;
        not a number where training in full precision gained nothing), ``error`` (of the mean), ``fraction`` (of the
        network's parameters in weights of bits), ``seeds``, ``scale``.
    """
    frame = study.records("atlas", scale, folder=folder)
    frame = frame[frame["variant"].isin(VARIANTS)]
    scales = [name for name in study.SCALE_NAMES if (frame["scale"] == name).any() and name == (scale or name)]
    if not scales or (scale is None and scales[-1] == "smoke"):
        return pd.DataFrame(columns=_COLUMNS)
    frame = frame[frame["scale"] == scales[-1]].drop_duplicates(["variant", "seed"], keep="last")
    loss = frame.set_index(["variant", "seed"])[["loss", "untrained_loss"]]
    fraction = frame.groupby("variant")["fraction"].first()
    rows = []
    for name, variant in VARIANTS.items():
        full = f"{variant.model}/none"
        seeds = [seed for of, seed in loss.index if of == name and (full, seed) in loss.index]
        if variant.block is not None and seeds:
            shares = np.array(
                [
                    _share(variant.model, *loss.loc[(full, seed), ["untrained_loss", "loss"]], loss.loss[name, seed])
                    for seed in seeds
                ]
            )
            error = shares.std(ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else np.nan
            rows.append((*vars(variant).values(), shares.mean(), error, fraction[name], len(shares), scales[-1]))
    return pd.DataFrame(rows, columns=_COLUMNS)


def alone(costs: pd.DataFrame) -> pd.DataFrame:
    """What weights alone and inputs alone cost, and how large a block is.

    Args:
        costs: the table of that name.

    Returns:
        One row a block, by ``model`` and ``block``; ``share`` of the network's parameters, and a column for each kind.
    """
    kinds = {"8-bit inputs": (None, 8), "4-bit inputs": (None, 4), "8-bit weights": ("int8", None)}
    kinds |= {f"{weights} weights": (weights, None) for weights in ("ternary", "binary")}
    rows: dict[tuple[str, str], dict[str, float]] = {}
    for one in costs.to_dict("records"):
        row = rows.setdefault((one["model"], one["block"]), dict.fromkeys(("share", *kinds), np.nan))
        spec = tuple(None if pd.isna(one[name]) else one[name] for name in ("weights", "activation_bits"))
        row |= {kind: one["cost"] for kind, chosen in kinds.items() if spec == chosen}
        row["share"] = np.fmax(row["share"], one["fraction"])
    index = pd.MultiIndex.from_tuples(rows, names=["model", "block"]) if rows else None
    return pd.DataFrame(list(rows.values()), index=index, columns=["share", *kinds])


_COLUMNS = ["model", "block", "weights", "activation_bits", "cost", "error", "fraction", "seeds", "scale"]


def _share(model: str, untrained: float, full: float, bits: float) -> float:
    """The cost of bits from three losses; not a number where training in full precision gained nothing."""
    chance = MODELS[model].chance
    gained = (untrained if chance is None else chance) - full
    return float((bits - full) / gained) if gained > 0 else float("nan")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: see `bithep_lib.experiments.driver.main`; the name of a model stands for all its variants."""
    given = sys.argv[1:] if arguments is None else arguments
    expanded = [
        name
        for argument in given
        for name in ([v for v in VARIANTS if v.startswith(f"{argument}/")] if argument in MODELS else [argument])
    ]
    return driver.main(Campaign, __doc__, expanded)


if __name__ == "__main__":
    sys.exit(main())
