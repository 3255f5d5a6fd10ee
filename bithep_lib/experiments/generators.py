"""What the stored runs of both shower generators share: four sets of showers, one judge, records and differences.

A chapter derives from `GeneratorCampaign` and says how its networks are trained (`fit`), how they make showers
(`generate`, where a plain ``model.sample`` is not enough) and what of them is in bits (`report`). Each training makes
one shower for every shower of the reference, with the same incident energy, and is judged by the classifier test, the
separation powers and the Fréchet distance of high-level features, the neighbours among the training showers, and the
response.
"""

from __future__ import annotations

import math
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bithep_lib import study
from bithep_lib.data.calochallenge import Showers, load, split
from bithep_lib.evaluate.classifier_test import CLASSIFIER, INPUTS, ClassifierResult, Inputs, Judge
from bithep_lib.evaluate.frechet import PER_FEATURE, fpd
from bithep_lib.evaluate.memorisation import memorisation
from bithep_lib.evaluate.separation import compare, separation_table, to_columns
from bithep_lib.evaluate.showers import feature_names, features
from bithep_lib.experiments import driver
from bithep_lib.quantize import QuantReport
from bithep_lib.study.tables import MIN_SEEDS

JUDGED = "auc", "auc_raw", "jsd", "accuracy", "sampling_error", "best_epoch"
"""Rows of `Outcome.low` and `Outcome.high`."""
HISTOGRAMS = "E total", "cell", "E layer", "EC eta", "EC eta std", "EC r", "EC r std", "sparsity"
"""Groups whose histograms a record keeps, for the layer with most energy."""
KEPT = 200
"""Generated showers, the first ones, that an outcome keeps."""

Value = tuple[float, float]
"""A number and its error from the finite samples."""


@dataclass(frozen=True, kw_only=True)
class Outcome(driver.Outcome):
    """What a training leaves: the judge's numbers on all generated showers, and a few of these.

    Attributes:
        low: the classifier test on voxels, (6, R) for R repetitions, rows as in `JUDGED`.
        high: the same on high-level features.
        names: (M,) of the numbers.
        numbers: (M, 2) values and their errors from the finite samples, 0 where there is none.
        histogram_of: (B,) ``group|layer`` of each bin, see `separation.to_columns`.
        histograms: (B, 4) its edges, and the entries of the reference and of the generated showers.
        incident: (K,) MeV, incident energies of the first generated showers.
        voxels: (K, n_voxels) these showers, as fractions of the incident energy.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    names: NDArray[np.str_]
    numbers: NDArray[np.float64]
    histogram_of: NDArray[np.str_]
    histograms: NDArray[np.float64]
    incident: NDArray[np.float64]
    voxels: NDArray[np.float16]

    @property
    def measured(self) -> dict[str, Value]:
        """Name to (value, error)."""
        return {str(name): (float(v), float(e)) for name, (v, e) in zip(self.names, self.numbers, strict=True)}

    def showers(self, dataset: str) -> Showers:
        """The generated showers that were kept, to look at."""
        voxels = self.voxels.astype(np.float32) * self.incident[:, None].astype(np.float32)
        return Showers(self.incident, voxels, dataset, "generated")


class GeneratorCampaign(driver.Campaign):
    """Trainings of generators on the same showers, judged by the same judge.

    Args:
        run: of a chapter whose settings have ``data``, ``dataset``, ``n_train``, ``n_valid``, ``n_reference``,
            ``n_floor`` and ``classifier``. Its ``seed`` draws the split; a training has its own seed.

    Attributes:
        referee: the four sets of showers and the classifier.
    """

    outcome: type[Outcome] = Outcome

    def __init__(self, run: study.Run) -> None:
        showers = all_showers(run)
        super().__init__(run, showers.fingerprint)
        self.referee = Judge(
            **split(showers, sizes(run), seed=run.seed),
            settings=CLASSIFIER[run.classifier],
            seed=run.seed,
            device=str(run.device),
            progress=sys.stderr.isatty(),
        )

    @abstractmethod
    def report(self, name: str) -> QuantReport:
        """What of a variant is in bits."""

    def generate(self, model: nn.Module, incident: Tensor, seed: int) -> Tensor:
        """One shower (N, n_voxels) in MeV for each incident energy (N,) in MeV."""
        return model.to(self.run.device).sample(incident, seed=seed)

    def tensors(self, part: str) -> tuple[Tensor, Tensor]:
        """Voxels (N, n_voxels) and incident energies (N,) in MeV of ``"train"``, ``"valid"``, ``"reference"``."""
        showers: Showers = getattr(self.referee, part)
        return torch.from_numpy(showers.voxels), torch.from_numpy(showers.incident).float()

    def judge(self, model: nn.Module, data: Any) -> dict[str, NDArray]:
        """Generate for the energies of the reference and judge what comes out.

        Args:
            model: the trained network.
            data: the seed of noise and classifiers, which `fit` hands on: that of the training.
        """
        energies = self.referee.energies
        voxels = self.generate(model, torch.from_numpy(energies).float(), seed=int(data)).float().cpu().numpy()
        made = Showers(energies, voxels, self.run.dataset, "generated")
        referee = replace(self.referee, seed=int(data))
        return self.judged(made, {inputs: referee(made, inputs) for inputs in INPUTS})

    def judged(self, made: Showers, results: Mapping[Inputs, ClassifierResult]) -> dict[str, NDArray]:
        """All fields that `Outcome` has beyond the course of a training, from showers and classifier tests."""
        measured = self.measure(made)
        histograms = to_columns(compare(made, self.referee.reference, groups=HISTOGRAMS, layers=[self._hottest()]))
        keys = [f"{group}|{layer}" for group, layer in zip(histograms["group"], histograms["layer"], strict=True)]
        return {
            **{
                inputs: np.array([getattr(result, row) for row in JUDGED], dtype=np.float64)
                for inputs, result in results.items()
            },
            "names": np.array(list(measured)),
            "numbers": np.array(list(measured.values()), dtype=np.float64),
            "histogram_of": np.array(keys),
            "histograms": np.array([histograms[name] for name in ("low", "high", "reference", "generated")]).T,
            "incident": made.incident[:KEPT],
            "voxels": (made.voxels[:KEPT] / made.incident[:KEPT, None]).astype(np.float16),
        }

    def measure(self, made: Showers) -> dict[str, Value]:
        """What needs no classifier: separation powers, Fréchet distance, neighbours, response."""
        reference = self.referee.reference
        table = separation_table(compare(made, reference))
        found = {f"separation_{group.replace(' ', '_')}": (row["separation"], 0.0) for group, row in table.iterrows()}
        if len(made) >= 4 * PER_FEATURE * len(feature_names(made.dataset)):
            distance = fpd(made, reference, seed=self.run.seed)
            found["fpd"] = distance.value, distance.error
        near = memorisation(made, self.referee.train, reference)
        found |= {"closer": (near.closer, near.error), "copies": (near.copies, near.copies_error)}
        for suffix, sample in (("", made), ("_geant4", reference)):
            response = features(sample).response
            found[f"response_mean{suffix}"] = _mean(response)
            found[f"response_std{suffix}"] = float(response.std()), float(response.std() / math.sqrt(2 * len(sample)))
        return found

    def result(self, outcome: Outcome, inputs: Inputs) -> ClassifierResult:
        """The classifier test of a training."""
        rows = dict(zip(JUDGED, getattr(outcome, inputs), strict=True))
        rows["best_epoch"] = rows["best_epoch"].astype(np.int64)
        return ClassifierResult(settings=self.referee.settings, inputs=inputs, n=len(self.referee.reference), **rows)

    def metrics(self, outcome: Outcome) -> dict[str, Any]:
        """AUCs with the error of the finite sample, their spread over repetitions, and what was measured."""
        found: dict[str, Any] = {}
        for inputs in INPUTS:
            result = self.result(outcome, inputs)
            found[f"auc_{inputs}"] = {"value": result.mean, "error": result.sample}
            found[f"auc_{inputs}_std"] = result.std
            found[f"jsd_{inputs}"] = float(result.jsd.mean())
        return found | {
            name: {"value": value, "error": error} if error else value
            for name, (value, error) in outcome.measured.items()
        }

    def curves(self, outcome: Outcome) -> dict[str, Mapping[str, Sequence[Any]]]:
        """Histories, histograms of the high-level features, repetitions of the classifier."""
        group, layer = zip(*(key.split("|") for key in outcome.histogram_of.tolist()), strict=True)
        columns = dict(zip(("low", "high", "reference", "generated"), outcome.histograms.T, strict=True))
        found = {
            "history": outcome.history(),
            "features": {"group": group, "layer": [int(number) for number in layer]} | columns,
        }
        return found | {f"repetitions_{inputs}": self.result(outcome, inputs).curve() for inputs in INPUTS}

    def record(self, name: str, seed: int, outcome: Outcome) -> Path:
        report = self.report(name)
        about = {
            "parameters": report.parameters,
            "fraction": report.fraction,
            "fraction_weights": report.fraction_weights,
            "bytes_float32": report.bytes.float32,
            "bytes_two_bit": report.bytes.two_bit,
            "bytes_packed": report.bytes.packed,
        }
        if report.fraction_macs is not None:
            about |= {"macs": report.macs, "fraction_macs": report.fraction_macs}
        if len(outcome.valid_loss):
            about |= {"valid_loss": outcome.valid_loss[outcome.best_epoch - 1], "best_epoch": outcome.best_epoch}
        return study.record(
            self.run,
            variant=name,
            seed=seed,
            data=self.fingerprint,
            backend=driver.backend(report),
            metrics=self.metrics(outcome) | about,
            curves=self.curves(outcome),
            wall_seconds=outcome.seconds,
            judge=asdict(self.referee.settings),
            **self.parameters(name),
        )

    def floor(self) -> Path:
        """A record of simulation against simulation, judged like a generator."""
        referee = self.referee
        results = {inputs: referee.control(inputs) for inputs in INPUTS}
        made = referee.floor[: len(referee.reference)]
        nothing = np.zeros(0)
        outcome = Outcome(
            train_loss=nothing, valid_loss=nothing, best_epoch=0, seconds=0.0,
            **self.judged(made, results),
        )  # fmt: skip
        curves = {name: columns for name, columns in self.curves(outcome).items() if name != "history"}
        return study.record(
            self.run,
            variant="floor",
            data=self.fingerprint,
            metrics=self.metrics(outcome),
            curves=curves,
            judge=asdict(referee.settings),
        )

    def differences(self, first: Outcome, second: Outcome) -> dict[str, Value]:
        """What one training of the second variant has more than one of the first, with errors from the samples."""
        found = {}
        for inputs in INPUTS:
            one, two = (self.result(outcome, inputs) for outcome in (first, second))
            found[f"auc_{inputs}"] = two.mean - one.mean, math.hypot(one.sample, two.sample)
            found[f"jsd_{inputs}"] = float(two.jsd.mean() - one.jsd.mean()), 0.0
        one, two = first.measured, second.measured
        for name in one:
            if name.startswith("separation"):
                found[name] = two[name][0] - one[name][0], 0.0
        return found

    def compare(self, first: str, second: str, seeds: Sequence[int]) -> Path:
        """What the second variant has more than the first, same data and seeds.

        A seed decides initial weights, order, noise and classifiers, so that the spread over seeds holds the luck of
        all of these; it is the error from five seeds on. With fewer the error is that of the finite samples, where
        there is one. All trainings are judged by the same reference.

        Raises:
            ValueError: one of the trainings has not been done.
        """
        each = [self.differences(self.finished(first, seed), self.finished(second, seed)) for seed in seeds]
        metrics = {f"{name}_difference": over_seeds([row[name] for row in each]) for name in each[0]}
        return study.record(
            self.run,
            variant=f"{second} - {first}",
            seed=min(seeds),
            data=self.fingerprint,
            metrics={
                name: {"value": found.value, "error": found.error} if found.error else found.value
                for name, found in metrics.items()
            },
            curves={"seeds": {"seed": list(seeds)} | {name: [row[name][0] for row in each] for name in each[0]}},
            wall_seconds=0.0,
            judge=asdict(self.referee.settings),
            n_trainings=len(seeds),
        )

    def _hottest(self) -> int:
        """Number of the layer with most energy in the reference."""
        geometry = self.referee.reference.geometry
        return geometry.layers[int(features(self.referee.reference).energy.mean(axis=0).argmax())].id


def sizes(run: study.Run) -> dict[str, int]:
    """The sizes of the four sets, those of the judge first.

    `split` does not change a set when a later one is resized: with other ``n_train`` a flow that was stored is judged
    by the same showers, none of which it was trained on.
    """
    return {name: getattr(run, f"n_{name}") for name in ("reference", "floor", "valid", "train")}


def all_showers(run: study.Run) -> Showers:
    """The showers that a run divides: all there are, or as many as needed where they are simulated on demand."""
    needed = sum(sizes(run).values())
    return load(run.data, run.dataset, needed if run.data in ("simulate", "gflash") else None)


def over_seeds(rows: Sequence[Value]) -> study.Measurement:
    """The mean of differences; from five on its error is their spread, below that the error of the samples."""
    values, errors = np.array(rows, dtype=np.float64).T
    n = len(values)
    if n < MIN_SEEDS:
        return study.Measurement(float(values.mean()), float(math.sqrt(np.sum(errors**2)) / n))
    return study.Measurement(float(values.mean()), float(values.std(ddof=1) / math.sqrt(n)), dof=n - 1)


def _mean(values: NDArray) -> Value:
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
