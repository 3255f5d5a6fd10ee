"""Train the flows of chapter 4, let them make showers, judge these and record what came out.

    python -m bithep_lib.experiments.caloinn caloinn/Default caloinn/BlockCentral --seeds 1 2 3 4 5

A killed run goes on from its last finished epoch, the judgement of a finished training is kept, and its record is
written at once. All trainings see the same showers in the same split. Then, with the same settings:

    python -m bithep_lib.experiments.caloinn --floor                        # Geant4 judged like a flow
    python -m bithep_lib.experiments.caloinn --compare caloinn/Default caloinn/BlockCentral --seeds 1 2 3 4 5
    python -m bithep_lib.experiments.caloinn --conclude                     # the claims, from the setups of Table 3
    python -m bithep_lib.experiments.caloinn --tune                         # other learning rates, on validation
    python -m bithep_lib.experiments.caloinn --count                        # sizes of all data sets; trains nothing
    python -m bithep_lib.experiments.caloinn --cost                         # bytes, energy and time of a shower
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bithep_lib import study
from bithep_lib.experiments import caloinn_claims, caloinn_costs, driver, generators
from bithep_lib.experiments.caloinn_variants import VARIANTS
from bithep_lib.models import CaloINN
from bithep_lib.quantize import QuantReport, quantize_
from bithep_lib.train import FitResult, FlowTask, fit

FIRST = 1000
"""Training showers from which mean and width of the input and the actnorms are set."""


@dataclass(frozen=True, kw_only=True)
class Outcome(generators.Outcome):
    """What a flow leaves beyond what every generator does.

    Attributes:
        log_likelihood: of the reference showers, nats each, (N,): of x as in `CaloINN.log_prob`.
        log_likelihood_train: of as many training showers, with the final weights.
        not_finite: generated showers with a number that is not finite before `CaloINN.decode` takes care of it.
    """

    log_likelihood: NDArray[np.float64]
    log_likelihood_train: NDArray[np.float64]
    not_finite: NDArray[np.int64]


class Campaign(generators.GeneratorCampaign):
    """Trainings of one `study.Run` on the same showers.

    Args:
        run: of the chapter ``caloinn``.
    """

    chapter, variants, outcome = "caloinn", VARIANTS, Outcome

    @property
    def sizes(self) -> dict[str, int]:
        """Of the flow at this scale."""
        return {name: getattr(self.run, name) for name in ("n_blocks", "hidden", "bins")}

    def fit(self, name: str, seed: int) -> tuple[CaloINN, int, FitResult]:
        variant = VARIANTS[name]
        trained = VARIANTS[variant.after or name]
        flow, _ = trained.build(seed, self.run.dataset, **self.sizes)
        train = self.tensors("train")
        flow.initialise(*self._encoded(flow, *(part[:FIRST] for part in train), seed=seed))
        task = FlowTask(flow, learning_rate=self.run.learning_rate, weight_decay=self.run.weight_decay)
        result = fit(
            task,
            train,
            self.tensors("valid"),
            epochs=self.run.epochs,
            batch_size=self.run.batch_size,
            seed=seed + trained.repeat,
            checkpoint=self.path(variant.after or name, seed, "checkpoints", "ckpt"),
            device=self.run.device,
            max_minutes=self.run.minutes_left(),
            keep="last",  # as published; and one odd shower can decide a mean of -log p, and so the best epoch
            progress=sys.stderr.isatty(),
        )
        if variant.after is not None and not result.stopped_early:
            quantize_(flow, variant.select(self.run.dataset, **self.sizes), variant.spec)
        return flow, seed + variant.repeat, result

    def parameters(self, name: str) -> dict[str, Any]:
        return super().parameters(name) | {"schedule": "one cycle"}

    def report(self, name: str) -> QuantReport:
        flow = CaloINN(self.run.dataset, **self.sizes)
        example = self._encoded(flow, *(part[:2] for part in self.tensors("train")), seed=0)
        return VARIANTS[name].build(1, self.run.dataset, example=example, **self.sizes)[1]

    def arguments(self, name: str) -> dict[str, Any]:
        return {"dataset": self.run.dataset} | VARIANTS[name].sizes(self.run.dataset, **self.sizes)

    def judge(self, model: CaloINN, data: int) -> dict[str, NDArray]:
        found = super().judge(model, data)
        n = len(self.referee.reference)
        return found | {
            "log_likelihood": self.log_likelihood(model, "reference", n),
            "log_likelihood_train": self.log_likelihood(model, "train", n),
            "not_finite": np.array(not_finite(model, torch.from_numpy(self.referee.energies).float(), data)),
        }

    def log_likelihood(self, flow: CaloINN, part: str, n: int) -> NDArray[np.float64]:
        """Nats of the first n showers of a part, each with the same noise for every flow."""
        x, condition = self._encoded(flow, *(values[:n] for values in self.tensors(part)), seed=self.run.seed)
        flow.eval()
        with torch.inference_mode():
            parts = zip(x.split(1000), condition.split(1000), strict=True)
            return (
                torch.cat([flow.log_prob(*(values.to(flow.mean) for values in pair)) for pair in parts]).cpu().numpy()
            )

    def metrics(self, outcome: Outcome) -> dict[str, Any]:
        found = super().metrics(outcome)
        if not isinstance(outcome, Outcome):  # the floor has no density
            return found
        n, m = len(outcome.log_likelihood), len(outcome.log_likelihood_train)
        error = float(outcome.log_likelihood.std(ddof=1) / n**0.5)
        error_train = float(outcome.log_likelihood_train.std(ddof=1) / m**0.5)
        held_out, train = float(outcome.log_likelihood.mean()), float(outcome.log_likelihood_train.mean())
        return found | {
            "log_likelihood": {"value": held_out, "error": error},
            "log_likelihood_train": {"value": train, "error": error_train},
            "log_likelihood_gap": {"value": train - held_out, "error": float(np.hypot(error, error_train))},
            "not_finite": int(outcome.not_finite),
        }

    def differences(self, first: Outcome, second: Outcome) -> dict[str, generators.Value]:
        each = second.log_likelihood - first.log_likelihood
        gaps = [float(one.log_likelihood_train.mean() - one.log_likelihood.mean()) for one in (first, second)]
        return super().differences(first, second) | {
            "log_likelihood": (float(each.mean()), float(each.std(ddof=1) / len(each) ** 0.5)),
            "log_likelihood_gap": (gaps[1] - gaps[0], 0.0),
        }

    def _encoded(self, flow: CaloINN, voxels: Tensor, incident: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        """x and condition, with noise drawn from a seed."""
        noise = torch.rand(len(voxels), flow.features, generator=torch.Generator().manual_seed(seed))
        return flow.cpu().encode(voxels, incident, noise=noise)


@torch.inference_mode()
def not_finite(flow: CaloINN, incident: Tensor, seed: int, batch_size: int = 1000) -> int:
    """How many of the showers that `CaloINN.sample` makes have a number that is not finite before `CaloINN.decode`."""
    generator, found = torch.Generator().manual_seed(seed), 0
    flow.eval()
    for energies in incident.to(flow.mean).split(batch_size):
        z = torch.randn(len(energies), flow.features, generator=generator).to(flow.mean)
        x, _ = flow.inverse(z, (energies[:, None] / 1000).log10())
        found += int((~x.isfinite()).any(1).sum())
    return found


def tune(run: study.Run) -> Path:
    """Record the best validation loss of the first seed at half the learning rate of the scale, at it, and at twice.

    For the setups whose learning rate could need to differ: nothing, the central blocks and everything in bits.
    """
    rows: dict[str, list[Any]] = {"setup": [], "learning_rate": [], "valid_loss": []}
    data = ""
    for factor in (0.5, 1.0, 2.0):
        rate = factor * run.learning_rate
        campaign = Campaign(replace(run, settings=replace(run.settings, learning_rate=rate)))
        data = campaign.fingerprint
        for setup in ("Default", "BlockCentral", "All"):
            _, _, result = campaign.fit(f"caloinn/{setup}", run.seed)
            for name, value in zip(rows, (setup, rate, result.history["valid_loss"].min()), strict=True):
                rows[name].append(value)
    return study.record(run, variant="learning rate", data=data, metrics={}, curves={"scan": rows})


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: see `bithep_lib.experiments.driver.main`."""
    actions = {
        "floor": (lambda run: Campaign(run).floor(), "record Geant4 against Geant4"),
        "conclude": (lambda run: caloinn_claims.conclude(Campaign(run)), "record the claims on the trained setups"),
        "tune": (tune, "record the validation loss at half and twice the learning rate"),
        "cost": (caloinn_costs.measure, "record bytes, energy and time of a shower of the published flow"),
        "count": (caloinn_claims.count, "record sizes and quantised fractions of all data sets; trains nothing"),
    }
    return driver.main(Campaign, __doc__, arguments, actions)


if __name__ == "__main__":
    sys.exit(main())
