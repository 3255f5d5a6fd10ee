"""Train the taggers of chapter 2 and record what came out.

    python -m bithep_lib.experiments.quark_gluon pdat/none pdat/attention --seeds 1 2 3 4 5 -p scale=laptop

A killed run goes on from its last finished epoch, the logits of a finished training are kept, and its record is
written at once. All trainings see the same jets in the same split (drawn with the setting ``seed``), so that two
variants can be compared jet by jet:

    python -m bithep_lib.experiments.quark_gluon --compare pdat/none pdat/attention --seeds 1 2 3 4 5 -p scale=laptop

A learning curve is made with other values of ``-p n_train=N``: of simulated and of public jets every training set
contains the smaller ones, and the validation and test jets are the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bithep_lib import study
from bithep_lib.data import quark_gluon
from bithep_lib.evaluate import calibration, resampling, tagging
from bithep_lib.experiments import driver, supervised
from bithep_lib.experiments.variants import VARIANTS, Variant
from bithep_lib.models import PDAT
from bithep_lib.train import ClassificationTask, predict


@dataclass(frozen=True, kw_only=True)
class Outcome(driver.Outcome):
    """Logits and labels of validation and test jets, and the course of the training."""

    valid_logit: NDArray[np.float32]
    valid_label: NDArray[np.int8]
    test_logit: NDArray[np.float32]
    test_label: NDArray[np.int8]
    valid_auc: NDArray[np.float64]


class Campaign(supervised.Campaign):
    """Trainings of one `study.Run` on the same jets.

    Args:
        run: of the chapter ``quark_gluon``. Its ``seed`` draws the split; a training has its own seed.
    """

    chapter, variants, outcome = "quark_gluon", VARIANTS, Outcome
    task, answer = ClassificationTask, "label"

    def __init__(self, run: study.Run) -> None:
        n_train = run.n_train
        if run.data in ("simulate", "public"):  # there are plenty: the split is that of the scale's number of jets
            n_train = study.SCALES["quark_gluon"][run.scale].n_train
        sizes = n_train, run.n_valid, run.n_test
        jets = quark_gluon.load(run.data, n=sum(sizes) + max(0, run.n_train - n_train))
        super().__init__(run, jets.fingerprint)
        train, valid, test = quark_gluon.split(jets[: sum(sizes)], sizes, seed=run.seed)
        if run.n_train > n_train:
            train = quark_gluon.concatenate((train, jets[sum(sizes) :]), source=jets.source)
        self.jets = {"train": train[: run.n_train], "valid": valid, "test": test}

    def judge(self, model: nn.Module, data: dict[str, tuple[Tensor, ...]]) -> dict[str, NDArray]:
        """Logits and labels of the jets that were not trained on."""
        found = {}
        for part in ("valid", "test"):
            found[f"{part}_logit"] = predict(model, data[part], batch_size=256, device=self.run.device).numpy()
            found[f"{part}_label"] = self.jets[part].label
        return found

    def record(self, name: str, seed: int, outcome: Outcome) -> Path:
        """Metrics and curves of a training as a run record."""
        label, logit = outcome.test_label, outcome.test_logit
        raw = calibration.probability(logit)
        recalibrated = calibration.recalibration(outcome.valid_label, outcome.valid_logit)(logit)
        _, report = VARIANTS[name].build(seed)
        metrics = _with_errors(tagging.summary(label, logit, threshold=0.0)) | {
            "brier": calibration.brier_score(label, raw),
            "calibration_error": calibration.expected_calibration_error(label, raw),
            "calibration_error_recalibrated": calibration.expected_calibration_error(label, recalibrated),
            "valid_auc": outcome.valid_auc[outcome.best_epoch - 1],
        }
        efficiencies = np.round(np.arange(0.01, 1.0, 0.01), 2)
        curve = tagging.roc(label, logit)
        return study.record(
            self.run,
            variant=name,
            seed=seed,
            data=self.fingerprint,
            backend=driver.backend(report),
            metrics=metrics | supervised.network(outcome, report),
            curves={
                "history": outcome.history("valid_auc"),
                "roc": {
                    "signal": efficiencies,
                    "background": np.array([curve.background_at(efficiency) for efficiency in efficiencies]),
                },
                "calibration": _calibration(label, raw),
                "calibration_recalibrated": _calibration(label, recalibrated),
            },
            wall_seconds=outcome.seconds,
            **self.parameters(name),
        )

    def compare(self, first: str, second: str, seeds: Sequence[int]) -> Path:
        """The metrics of the second variant minus those of the first, same jets and seeds, as a record of its own.

        From five seeds on the error holds jets and seeds (crossed bootstrap), and P-DAT against P-DAT-Bit measures the
        chapter's claims.

        Raises:
            ValueError: one of the trainings has not been done.
        """
        outcomes = {name: [self.finished(name, seed) for seed in seeds] for name in (first, second)}
        label = outcomes[first][0].test_label
        logits = {name: np.stack([outcome.test_logit for outcome in outcomes[name]]) for name in outcomes}
        differences = {}
        for metric in resampling.METRICS:
            try:
                differences[metric] = resampling.paired_difference(
                    label, logits[second], logits[first], metric=metric, threshold=0.0
                )
            except ValueError:  # too few gluon jets pass for a rejection
                continue
        claims = {}
        if (first, second) == ("pdat/none", "pdat/attention") and len(seeds) >= resampling.MIN_SEEDS:
            claims = _claims(label, logits[first], logits[second], differences)
        return study.record(
            self.run,
            variant=f"{second} - {first}",
            seed=min(seeds),
            data=self.fingerprint,
            metrics={f"{metric}_difference": difference for metric, difference in differences.items()},
            curves={
                "seeds": {"seed": list(seeds)} | {name: list(found.per_seed) for name, found in differences.items()}
            },
            claims=claims,
            wall_seconds=0.0,
            n_trainings=len(seeds),
        )

    def arguments(self, name: str) -> dict[str, Any]:
        """The arguments with which a stored network is built again."""
        features = {"n_features": len(quark_gluon.FEATURES)} if VARIANTS[name].model == "pfn" else {}
        return {**VARIANTS[name].sizes, **features}

    def inputs_of(self, variant: Variant) -> dict[str, supervised.Inputs]:
        return {part: self._tensors(variant, jets) for part, jets in self.jets.items()}

    def _tensors(self, variant: Variant, jets: quark_gluon.Jets) -> tuple[Tensor, ...]:
        """The input of a model."""
        if variant.model == "pfn":
            return tuple(torch.from_numpy(x) for x in quark_gluon.features(jets, self.run.max_constituents))
        return (torch.from_numpy(jets.constituents),)


def count(run: study.Run) -> Path:
    """Count what P-DAT-Bit quantises, as released and as corrected here, and record it with the claims of section 3."""
    jets = quark_gluon.load("sample", n=2)
    metrics = {}
    for prefix, as_published in (("", False), ("published_", True)):
        example = torch.from_numpy(jets.constituents)
        _, report = PDAT.build("attention", as_published=as_published, example=example)
        for name in ("parameters", "fraction", "fraction_weights", "fraction_used", "fraction_macs"):
            metrics[prefix + name] = getattr(report, name)
    claims = {
        "section3-fraction": study.Measurement(100 * metrics["published_fraction"]),
        "section3-fraction-used": study.Measurement(100 * metrics["published_fraction_used"]),
    }
    return study.record(run, variant="pdat/attention counted", data=jets.fingerprint, metrics=metrics, claims=claims)


def _claims(
    label: NDArray[np.int8],
    full: NDArray[np.float32],
    bits: NDArray[np.float32],
    differences: dict[str, resampling.Estimate],
) -> dict[str, study.Measurement]:
    """Table 1, Figure 2 and the conclusions, from (S, N) logits of P-DAT and P-DAT-Bit."""
    claims = {}
    for metric, found in differences.items():
        base = 1.0
        if metric.startswith("rejection"):  # the claim is about the relative change
            efficiency = int(metric.removeprefix("rejection_")) / 100
            base = float(np.mean([tagging.rejection(label, row, efficiency).value for row in full]))
        claims["table1-" + metric.replace("rejection_", "rej")] = study.Measurement(
            found.value / base, found.error / base
        )
    for name, logits in (("full", full), ("bits", bits)):
        errors = [calibration.expected_calibration_error(label, calibration.probability(row)) for row in logits]
        claims[f"figure2-{name}"] = study.Measurement(
            float(np.mean(errors)), float(np.std(errors, ddof=1) / np.sqrt(len(errors))), dof=len(errors) - 1
        )
    claims["figure2-band"] = _relative_width(label, full, bits)
    claims["conclusion-classification"] = study.Measurement(-differences["auc"].value, differences["auc"].error)
    return claims


def _relative_width(label: NDArray[np.int8], full: NDArray[np.float32], bits: NDArray[np.float32]) -> study.Measurement:
    """ln(width of the first calibration band / that of the second), its error by leaving out one training at a time."""
    fractions = [
        np.array([calibration.calibration_curve(label, calibration.probability(row)).fraction for row in logits])
        for logits in (full, bits)
    ]
    filled = np.isfinite(fractions).all(axis=(0, 1))

    def log_ratio(seeds: NDArray[np.int64]) -> float:
        first, second = (np.mean(rows[seeds][:, filled].std(axis=0, ddof=1)) for rows in fractions)
        return float(np.log(first / second))

    seeds = np.arange(len(full))
    without = [log_ratio(np.delete(seeds, seed)) for seed in seeds]
    error = np.sqrt((len(seeds) - 1) * np.var(without))
    return study.Measurement(log_ratio(seeds), float(error), dof=len(seeds) - 1)


def _with_errors(row: dict[str, float]) -> dict[str, Any]:
    """A row of `tagging.summary` as a record holds it; what was not quoted is left out."""
    return {
        name: {"value": value, "error": row[f"{name}_error"]}
        for name, value in row.items()
        if not name.endswith("_error") and np.isfinite(value)
    }


def _calibration(label: NDArray[np.int8], probability: NDArray[np.float64]) -> dict[str, NDArray]:
    """The bins that hold jets, by their number."""
    curve = calibration.calibration_curve(label, probability)
    filled = curve.count > 0
    columns = {name: getattr(curve, name)[filled] for name in ("prediction", "fraction", "count")}
    return {"bin": np.flatnonzero(filled)} | columns


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: see `bithep_lib.experiments.driver.main`."""
    counting = (count, "record what P-DAT-Bit quantises; trains nothing")
    return driver.main(Campaign, __doc__, arguments, {"count": counting})


if __name__ == "__main__":
    sys.exit(main())
