"""Train the networks of chapter 5 and record what came out.

    python -m bithep_lib.experiments.calodream calodream/regular/regular calodream/quantized/full -p scale=laptop

Energy network and shape network are trained one by one and put together afterwards, as the paper's six combinations
are: each is trained once for each setup and seed. A killed run goes on from its last finished epoch, and a record is
written at once. Then, with the same settings:

    python -m bithep_lib.experiments.calodream --floor -p scale=laptop       # simulation against simulation
    python -m bithep_lib.experiments.calodream --compare calodream/regular/regular calodream/regular/full ...
    python -m bithep_lib.experiments.calodream --solver --steps --rates -p scale=laptop
    python -m bithep_lib.experiments.calodream --conclude -p scale=laptop    # Table 4 and the claims
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bithep_lib.bitlinear import BitLinear
from bithep_lib.data.calochallenge import load
from bithep_lib.experiments import calodream_claims, calodream_studies, driver, generators
from bithep_lib.experiments.calodream_variants import GFLASH, SHORTER, VARIANTS, Part, Variant, build
from bithep_lib.models.calodream import CaloDREAM
from bithep_lib.packed import pack
from bithep_lib.quantize import QuantReport, count
from bithep_lib.study.storage import file_name
from bithep_lib.train import FitResult, fit
from bithep_lib.train.generative import MatchingTask

PARTS = "energy", "shape"
WEIGHT_DECAY = {"energy": 0.0, "shape": 1e-5}
"""As published."""
TRAINING_OF_ENERGY = "energy_epochs", "energy_batch_size", "energy_learning_rate"
OF_ENERGY = "energy_width", "energy_depth", "energy_feedforward", "velocity_width", *TRAINING_OF_ENERGY
OF_SHAPE = "shape_width", "shape_depth", "epochs", "batch_size", "learning_rate"
OF_JUDGE = "method", "energy_steps", "shape_steps", "classifier"
OF_NOTHING = "output_dir", "seed", "device", "threads", "max_minutes", "n_seeds", "setups", "weights"
"""Settings that concern the training of one part, of the other, only what is done with both, or where and how often."""
BLOCK = 50
"""Showers at a time that `velocity_errors` averages over."""


@dataclass(frozen=True, kw_only=True)
class Outcome(generators.Outcome):
    """Adds the course of the energy network's training (the other is the shape network's), and how well both networks
    know the velocity on the showers of the reference: mean squared errors of blocks of showers, always with the same
    noise and times, so that two trainings can be compared block by block."""

    energy_train_loss: NDArray[np.float64]
    energy_valid_loss: NDArray[np.float64]
    velocity_energy: NDArray[np.float64]
    velocity_shape: NDArray[np.float64]


@dataclass(frozen=True)
class Fitted:
    """What `Campaign.fit` hands on to `Campaign.judge`."""

    seed: int
    energy: FitResult


class Campaign(generators.GeneratorCampaign):
    """Trainings of one `study.Run` of the chapter ``calodream``."""

    chapter, variants, outcome = "calodream", VARIANTS, Outcome

    @property
    def sizes(self) -> dict[str, dict[str, Any]]:
        """Arguments of both networks at this scale."""
        run = self.run
        return {
            "energy": {
                "width": run.energy_width,
                "depth": run.energy_depth,
                "feedforward": run.energy_feedforward,
                "velocity_width": run.velocity_width,
            },
            "shape": {"width": run.shape_width, "depth": run.shape_depth},
        }

    def build(self, variant: Variant, seed: int) -> tuple[CaloDREAM, QuantReport]:
        """Both networks, with initial weights and the means and widths of the training showers."""
        model, report = build(variant, seed, **self.sizes)
        model.load_state_dict(self._moments, strict=False)
        return model, report

    @cached_property
    def _moments(self) -> dict[str, Tensor]:
        model, _ = build(Variant(), 1, **self.sizes)
        model.initialise(*self.tensors("train"))
        return dict(model.named_buffers(recurse=False))

    def fit(self, name: str, seed: int) -> tuple[nn.Module, Fitted, FitResult]:
        variant = VARIANTS[name]
        if name.startswith(GFLASH) != (self.run.data == "gflash"):
            raise ValueError(f"{name} cannot be trained with data={self.run.data!r}: {GFLASH}/... is for data='gflash'")
        if name.endswith(f"epochs={SHORTER}") and self.run.epochs != SHORTER:
            raise ValueError(f"{name} cannot be trained with epochs={self.run.epochs}: add -p epochs={SHORTER}")
        model, _ = self.build(variant, seed)
        results = {}
        for part in PARTS:
            trained, results[part] = self.fit_part(part, getattr(variant, part), seed)
            model.get_submodule(part).load_state_dict(trained.state_dict())
        unfinished = "energy" if results["energy"].stopped_early else "shape"
        return model, Fitted(seed, results["energy"]), results[unfinished]

    def fit_part(self, kind: str, part: Part, seed: int) -> tuple[nn.Module, FitResult]:
        """One of the networks, from its last finished epoch on."""
        model, _ = self.build(Variant(**{kind: part.trained}), seed)
        run, prefix = self.run, "energy_" if kind == "energy" else ""
        task = MatchingTask(
            model,
            kind,
            learning_rate=getattr(run, f"{prefix}learning_rate"),
            weight_decay=WEIGHT_DECAY[kind],
            clip=run.clip,
        )
        result = fit(
            task,
            self.tensors("train"),
            self.tensors("valid"),
            epochs=getattr(run, f"{prefix}epochs"),
            batch_size=getattr(run, f"{prefix}batch_size"),
            seed=seed,
            checkpoint=self.part_path(kind, part.trained, seed),
            device=run.device,
            max_minutes=run.minutes_left(),
            progress=sys.stderr.isatty(),
        )
        return model.get_submodule(kind), result

    def part_path(self, kind: str, part: Part, seed: int) -> Path:
        """The checkpoint of one network: it depends on nothing that concerns the other one or the judge."""
        skipped = {*OF_NOTHING, *OF_JUDGE, *(OF_SHAPE if kind == "energy" else OF_ENERGY)}
        settings = {name: value for name, value in asdict(self.run.settings).items() if name not in skipped}
        content = {
            "chapter": self.chapter,
            "scale": self.run.scale,
            "variant": f"{kind}/{part.setup}",
            "seed": seed,
            "parameters": settings | {"part": asdict(part), "split_seed": self.run.seed},
            "data": self.fingerprint,
            "backend": "any",
        }
        return self.run.output_dir / "checkpoints" / f"{Path(file_name(content)).stem}.ckpt"

    def generate(self, model: CaloDREAM, incident: Tensor, seed: int) -> Tensor:
        run = self.run
        return packed(model).to(run.device).sample(
            incident, seed=seed, energy_steps=run.energy_steps, shape_steps=run.shape_steps, method=run.method
        )  # fmt: skip

    def judge(self, model: CaloDREAM, data: Fitted) -> dict[str, NDArray]:
        return super().judge(model, data.seed) | {
            "energy_train_loss": data.energy.history["train_loss"].to_numpy(),
            "energy_valid_loss": data.energy.history["valid_loss"].to_numpy(),
            **velocity_errors(model, *self.tensors("reference"), seed=self.run.seed),
        }

    def report(self, name: str) -> QuantReport:
        return self.build(VARIANTS[name], 1)[1]

    def metrics(self, outcome: generators.Outcome) -> dict[str, Any]:
        found = super().metrics(outcome)
        if isinstance(outcome, Outcome):
            found |= {f"velocity_{part}": _mean(getattr(outcome, f"velocity_{part}")) for part in PARTS}
            found |= {
                "valid_loss_energy": float(outcome.energy_valid_loss.min()),
                "valid_loss_shape": float(outcome.valid_loss.min()),
            }
        return found

    def curves(self, outcome: generators.Outcome) -> dict[str, Mapping[str, Sequence[Any]]]:
        found = super().curves(outcome)
        if isinstance(outcome, Outcome):
            found["history_shape"] = found.pop("history")
            found["history_energy"] = {
                "epoch": np.arange(1, len(outcome.energy_valid_loss) + 1),
                "train_loss": outcome.energy_train_loss,
                "valid_loss": outcome.energy_valid_loss,
            }
        return found

    def differences(self, first: Outcome, second: Outcome) -> dict[str, generators.Value]:
        found = super().differences(first, second)
        for part in PARTS:
            one, two = (getattr(outcome, f"velocity_{part}") for outcome in (first, second))
            found[f"velocity_{part}"] = tuple(_mean(two - one).values())
        return found

    def parameters(self, name: str) -> dict[str, Any]:
        model, _ = self.build(VARIANTS[name], 1)
        parts = {f"fraction_{part}": count(model.get_submodule(part)).fraction for part in PARTS}
        return {
            "network": asdict(VARIANTS[name]),
            "split_seed": self.run.seed,
            "schedule": "one cycle",
            "shared": "each network is trained once for each of its setups and seeds",
        } | parts

    def about(self) -> dict[str, Any]:
        """With the training of the energy network, and which of the bundled showers (by number) no network has seen."""
        bundled = load("sample", self.run.dataset).incident  # no two showers have the same energy
        known = np.concatenate([getattr(self.referee, part).incident for part in ("train", "valid")])
        unseen = np.flatnonzero(~np.isin(bundled, known)).tolist()
        return {name: getattr(self.run, name) for name in TRAINING_OF_ENERGY} | {"held_out_of_sample": unseen}

    def arguments(self, name: str) -> dict[str, Any]:
        variant = VARIANTS[name]
        return {part: self.sizes[part] | dict(getattr(variant, part).sizes) for part in PARTS}


def packed(model: CaloDREAM) -> CaloDREAM:
    """The same network with the codes of its weights, where it has any: it makes the same showers in less time."""
    codes = any(isinstance(module, BitLinear) and module.spec.weights for module in model.modules())
    return pack(model) if codes else model


@torch.inference_mode()
def velocity_errors(model: CaloDREAM, voxels: Tensor, incident: Tensor, *, seed: int) -> dict[str, NDArray]:
    """Mean squared errors of both velocities for blocks of `BLOCK` showers; noise and times are drawn from ``seed``."""
    model = packed(model).to(voxels.device).eval()
    found: dict[str, list[float]] = {f"velocity_{part}": [] for part in PARTS}
    generator = torch.Generator().manual_seed(seed)
    for part, energies in zip(voxels.split(BLOCK), incident.split(BLOCK), strict=True):
        u, fractions, condition = model.encode(part, energies)
        found["velocity_energy"].append(model.energy.loss(u, condition, generator=generator).item())
        steering = torch.cat([condition, u], dim=1)
        found["velocity_shape"].append(model.shape.loss(fractions, steering, generator=generator).item())
    return {name: np.array(values) for name, values in found.items()}


def _mean(values: NDArray) -> dict[str, float]:
    return {"value": float(values.mean()), "error": float(values.std(ddof=1) / np.sqrt(len(values)))}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: see `bithep_lib.experiments.driver.main`."""
    actions = {
        "floor": (lambda run: Campaign(run).floor(), "record simulation against simulation"),
        "solver": (lambda run: calodream_studies.solver(Campaign(run)), "record the errors of the solvers"),
        "steps": (lambda run: calodream_studies.steps(Campaign(run)), "record how coarse 8 bits make the embeddings"),
        "rates": (calodream_studies.rates, "record a scan of the learning rate, with bits and without"),
        "conclude": (lambda run: calodream_claims.conclude(Campaign(run)), "record Table 4 and the claims"),
        "count": (calodream_claims.count, "record what the paper's setups quantise; trains nothing"),
    }
    return driver.main(Campaign, __doc__, arguments, actions)


if __name__ == "__main__":
    sys.exit(main())
