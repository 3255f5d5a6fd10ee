"""Train the networks of chapter 3 and record what came out.

    python -m bithep_lib.experiments.smeft smeftnet/none smeftnet/all --seeds 1 2 3 4 5 -p scale=laptop

A killed run goes on from its last finished epoch, the predictions of a finished training are kept, and its record is
written at once. All trainings see the same jets in the same split. Then, with the same settings:

    python -m bithep_lib.experiments.smeft --references -p scale=laptop                 # true angle and moment axis
    python -m bithep_lib.experiments.smeft --compare smeftnet/none smeftnet/all --seeds 1 2 3 4 5 -p scale=laptop
    python -m bithep_lib.experiments.smeft --conclude -p scale=laptop                   # Table 2 and the claims
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bithep_lib import study
from bithep_lib.data import wz
from bithep_lib.evaluate import limits, regression
from bithep_lib.evaluate.regression import FIGURE_4_BINS as BINS
from bithep_lib.experiments import driver, smeft_claims, supervised
from bithep_lib.experiments.smeft_variants import VARIANTS
from bithep_lib.experiments.variants import Variant
from bithep_lib.models.smeftnet_released import BLOCKS
from bithep_lib.train import AngleTask, predict

LUMINOSITIES = 300.0, 3000.0  # 1/fb: Run 3 of the LHC, and the HL-LHC
RATE_ERROR = 0.05
"""Relative uncertainty of luminosity and cross-section together, where the rate is used."""
FORWARD = 0.8
"""Above this |cos theta*| one quark has nearly all of the momentum, and the plane is hard to see."""
SOFT = {"particles": 30, "pt": 0.5, "radius": 0.8}
"""Added to each jet: particles of so many GeV, uniform in a disc of so many rad."""
MIN_JETS = 20
"""A mean over fewer jets is not quoted."""
STRESSED = 5000
"""Test jets, the first ones, that are judged with soft particles and with smearing."""
SMEARING = 0.03
"""rad: standard deviation of the error added to each coordinate of a particle, about that of a cell of 0.1 x 0.1."""


@dataclass(frozen=True, kw_only=True)
class Outcome(driver.Outcome):
    """Angles of the test jets in rad: the truth, and predictions (modulo pi) for them as they are; for the first ones
    also with soft particles added, and with smeared directions."""

    truth: NDArray[np.float32]
    angle: NDArray[np.float32]
    soft: NDArray[np.float32]
    smeared: NDArray[np.float32]


Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


class Campaign(supervised.Campaign):
    """Trainings of one `study.Run` on the same jets.

    Args:
        run: of the chapter ``smeft``. Its ``seed`` draws the split; a training has its own seed.
    """

    chapter, variants, outcome = "smeft", VARIANTS, Outcome
    task, answer = AngleTask, "phi_decay"

    def __init__(self, run: study.Run) -> None:
        sizes = run.n_train, run.n_valid, run.n_test
        jets = wz.load(run.data, n=sum(sizes))
        super().__init__(run, jets.fingerprint)
        self.jets = dict(zip(("train", "valid", "test"), wz.split(jets, sizes, seed=run.seed), strict=True))
        self.inputs = {part: tensors(jets) for part, jets in self.jets.items()}
        self.inputs |= stressed(tuple(part[:STRESSED] for part in self.inputs["test"]), seed=run.seed)

    def inputs_of(self, variant: Variant) -> dict[str, Inputs]:
        return self.inputs

    def judge(self, model: nn.Module, data: Mapping[str, Inputs]) -> dict[str, NDArray]:
        angles = {
            name: model.angle(predict(model, data[part], batch_size=256, device=self.run.device)).numpy()
            for name, part in (("angle", "test"), ("soft", "soft"), ("smeared", "smeared"))
        }
        return angles | {"truth": self.jets["test"].phi_decay}

    def arguments(self, name: str) -> dict[str, Any]:
        variant = VARIANTS[name]
        if not variant.sizes.get("as_published"):
            return dict(variant.sizes)
        blocks = {"none": (), "all": BLOCKS}.get(variant.strategy, (variant.strategy,))
        return dict(variant.sizes) | {"bit_class": list(blocks)}

    def record(self, name: str, seed: int, outcome: Outcome) -> Path:
        _, report = VARIANTS[name].build(seed, example=tuple(part[:2] for part in self.inputs["test"]))
        about = supervised.network(outcome, report) | {
            "fraction_weights": report.fraction_weights,
            "fraction_macs": report.fraction_macs,
        }
        return study.record(
            self.run,
            variant=name,
            seed=seed,
            data=self.fingerprint,
            backend=driver.backend(report),
            metrics=self.metrics(outcome) | about,
            curves=figures(outcome) | {"history": outcome.history()},
            wall_seconds=outcome.seconds,
            **self.parameters(name),
        )

    def references(self) -> list[Path]:
        """Records of the true angle, of the moment axis and of an angle drawn by lot, judged like a network."""
        truth = self.jets["test"].phi_decay
        lot = np.random.default_rng([self.run.seed, 2]).permutation(truth)
        angles = {part: moment_axis(self.inputs[part]) for part in ("test", "soft", "smeared")}
        found = {
            "moment axis": _outcome(truth, angles["test"], angles["soft"], angles["smeared"]),
            "true angle": _outcome(truth, truth, truth[:STRESSED], truth[:STRESSED]),
            "by lot": _outcome(truth, lot, lot[:STRESSED], lot[:STRESSED]),
        }
        return [
            study.record(
                self.run,
                variant=name,
                data=self.fingerprint,
                metrics=self.metrics(outcome),
                curves=figures(outcome),
                wall_seconds=0.0,
            )
            for name, outcome in found.items()
        ]

    def metrics(self, outcome: Outcome) -> dict[str, Any]:
        """What an estimate of the angle is worth on the test jets, by itself and minus the moment axis."""
        jets, truth = self.jets["test"], outcome.truth
        everywhere = slice(None)
        found: dict[str, Any] = {}
        for name, angle, part, chosen in (
            ("sin2", outcome.angle, "test", everywhere),
            ("sin2_forward", outcome.angle, "test", np.abs(jets.cos_theta) > FORWARD),
            ("sin2_soft", outcome.soft, "soft", everywhere),
            ("sin2_smeared", outcome.smeared, "smeared", everywhere),
        ):
            own = regression.sin2_delta(angle, truth[: len(angle)])[chosen]
            base = regression.sin2_delta(moment_axis(self.inputs[part]), truth[: len(angle)])[chosen]
            if len(own) < MIN_JETS:
                continue
            found |= {name: smeft_claims.over_jets(own), f"{name}_minus_axis": smeft_claims.over_jets(own - base)}
        found |= {key: value for key, value in regression.summary(outcome.angle, truth).items() if key != "sin2"}
        found["bands"] = float(np.mean(smeft_claims.in_bands(outcome.angle, truth)))
        for name, r, shift in (("asymmetry", jets.r1, 0.0), ("asymmetry_cp_odd", jets.r1t, np.pi / 4)):
            found[name] = limits.interference_asymmetry(outcome.angle - shift, r)._asdict()
        return found | self.expected_limits(outcome.angle)

    def expected_limits(self, angle: NDArray) -> dict[str, dict[str, float]]:
        """Half widths of the expected intervals for C_W / Lambda^2 in TeV^-2, in all eight ways (those that exist)."""
        jets, found = self.jets["test"], {}
        for luminosity, quadratic, rate in product(LUMINOSITIES, (False, True), (None, RATE_ERROR)):
            analysis = limits.Analysis(
                luminosity=luminosity,
                cross_section=wz.event_counts()["sigma_accepted"],
                quadratic=quadratic,
                rate_error=rate,
            )
            name = f"limit_{luminosity:.0f}_{'quadratic' if quadratic else 'linear'}_{'rate' if rate else 'shape'}"
            try:
                limit = limits.bootstrap_limit(angle, jets.jet_pt, jets.r1, jets.r2, analysis)
            except ValueError:  # too few simulated jets
                continue
            found[name] = {"value": limit.half_width, "error": limit.error}
        return found

    def compare(self, first: str, second: str, seeds: Sequence[int]) -> Path:
        """sin^2 of the error of the second variant minus that of the first, jet by jet and seed by seed.

        From five seeds on the error holds jets and seeds.

        Raises:
            ValueError: one of the trainings has not been done.
        """
        a, b = ([self.finished(name, seed) for seed in seeds] for name in (first, second))
        forward, everywhere = np.abs(self.jets["test"].cos_theta) > FORWARD, slice(None)
        metrics, rows = {}, {"seed": list(seeds)}
        for name, angle, chosen in (
            ("sin2", "angle", everywhere),
            ("sin2_forward", "angle", forward),
            ("sin2_soft", "soft", everywhere),
            ("sin2_smeared", "smeared", everywhere),
        ):
            each = np.array([smeft_claims.worse(x, y, angle)[chosen] for x, y in zip(a, b, strict=True)])
            if each.shape[1] < MIN_JETS:
                continue
            found = smeft_claims.over_seeds_and_jets(each)
            metrics[f"{name}_difference"] = {"value": found.value, "error": found.error}
            rows[name] = each.mean(axis=1).tolist()
        return study.record(
            self.run,
            variant=f"{second} - {first}",
            seed=min(seeds),
            data=self.fingerprint,
            metrics=metrics,
            curves={"seeds": rows},
            wall_seconds=0.0,
            n_trainings=len(seeds),
        )


def tensors(jets: wz.WZJets) -> Inputs:
    """What a network reads: pt, xy, mask and the jet's transverse momentum."""
    return tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in (*wz.features(jets), jets.jet_pt))


def stressed(inputs: Inputs, seed: int) -> dict[str, Inputs]:
    """The same jets with soft particles added, and with the directions of their particles smeared."""
    pt, xy, mask, jet_pt = inputs
    rng = np.random.default_rng([seed, 1])
    shape = len(pt), SOFT["particles"]
    radius, phi = SOFT["radius"] * np.sqrt(rng.random(shape)), rng.uniform(-np.pi, np.pi, shape)
    position = torch.from_numpy(np.stack([radius * np.cos(phi), radius * np.sin(phi)], axis=-1)).to(xy.dtype)
    soft = (
        torch.cat([pt, torch.full(shape, SOFT["pt"])], dim=1),
        torch.cat([xy, position], dim=1),
        torch.cat([mask, torch.ones(shape, dtype=torch.bool)], dim=1),
        jet_pt,
    )
    noise = torch.from_numpy(rng.normal(0.0, SMEARING, xy.shape)).to(xy.dtype)
    return {"soft": soft, "smeared": (pt, xy + noise * mask.unsqueeze(-1), mask, jet_pt)}


def moment_axis(inputs: Inputs) -> NDArray[np.float64]:
    return wz.axis(inputs[0].numpy(), inputs[1].numpy())


def figures(outcome: Outcome) -> dict[str, dict[str, NDArray]]:
    """The histogram of Figure 4, as columns."""
    counts, edges = np.histogram(regression.residuals(outcome.angle, outcome.truth), BINS, (-np.pi, np.pi))
    return {"residuals": {"low": edges[:-1], "count": counts}}


def _outcome(truth: NDArray, angle: NDArray, soft: NDArray, smeared: NDArray) -> Outcome:
    nothing = np.zeros(0)
    return Outcome(
        train_loss=nothing, valid_loss=nothing, best_epoch=0, seconds=0.0, truth=truth, angle=angle, soft=soft,
        smeared=smeared,
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: see `bithep_lib.experiments.driver.main`."""
    actions = {
        "references": (lambda run: Campaign(run).references(), "record true angle, moment axis and chance"),
        "conclude": (lambda run: smeft_claims.conclude(Campaign(run)), "record Table 2 and the claims"),
        "count": (smeft_claims.count, "record what the paper's variants quantise; trains nothing"),
    }
    return driver.main(Campaign, __doc__, arguments, actions)


if __name__ == "__main__":
    sys.exit(main())
