"""How many evaluations a shower needs, what 8 bits leave of an input, and which learning rate the networks want."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bithep_lib import study
from bithep_lib.bitlinear import activation_codes
from bithep_lib.data.calochallenge import Showers
from bithep_lib.evaluate.showers import feature_vector
from bithep_lib.models.calodream import CaloDREAM
from bithep_lib.models.calodream_shape import SinusoidalTime
from bithep_lib.models.flow_matching import evaluations, solve

if TYPE_CHECKING:
    from bithep_lib.experiments.calodream import Campaign

STUDIED = "calodream/regular/regular"
SOLVERS = {
    "euler": (8, 16),
    "midpoint": (2, 3, 4, 6, 8, 12),
    "heun3": (2, 4, 6),
    "rk4": (1, 2, 3, 5, 10),
}
PUBLISHED = {"energy": ("rk4", 50), "shape": ("rk4", 20)}
"""What the others are compared with: the solver and steps of the released cards."""
SHOWERS = {"energy": 200, "shape": 48}
"""How many are solved for: what a minute of one thread allows."""


def solver(campaign: Campaign) -> Path:
    """Record what fewer evaluations of the velocity cost, for both networks of a finished training.

    The same noise is solved with each method. Of the energy network the standardised ratios are compared with those of
    the published solver, of the shape network the high-level features of the showers, each in units of its standard
    deviation from shower to shower. ``error`` is the root mean square over showers and features; ``bias`` that of the
    features' means, which is what distributions show, and is to be compared with the statistical error of a mean over
    the reference, 1 / sqrt(N).

    Raises:
        ValueError: the training has not been done.
    """
    seed = campaign.run.seed
    campaign.finished(STUDIED, seed)
    model, _, _ = campaign.fit(STUDIED, seed)
    found = {part: solutions(model.eval(), campaign, part) for part in PUBLISHED}
    rows = [row for part, results in found.items() for row in _compared(part, results)]
    return study.record(
        campaign.run,
        variant="solver",
        seed=seed,
        data=campaign.fingerprint,
        metrics={
            "statistical": 1 / math.sqrt(campaign.run.n_reference),
            **{f"published_evaluations_{part}": evaluations(*chosen[::-1]) for part, chosen in PUBLISHED.items()},
        },
        curves={"solver": {name: [row[name] for row in rows] for name in rows[0]}},
        network=STUDIED,
        showers=SHOWERS,
    )


Solutions = dict[tuple[str, int], NDArray[np.float64]]


@torch.inference_mode()
def solutions(model: CaloDREAM, campaign: Campaign, part: str) -> Solutions:
    """What is compared, (N, features), for each method and number of steps; the published one comes first."""
    voxels, incident = (tensor[: SHOWERS[part]] for tensor in campaign.tensors("reference"))
    u, _, condition = model.encode(voxels, incident)
    steering = torch.cat([condition, u], dim=1)
    generator = torch.Generator().manual_seed(campaign.run.seed)
    noise = torch.randn(len(u), u.shape[1] if part == "energy" else voxels.shape[1], generator=generator)

    def solved(method: str, steps: int) -> NDArray[np.float64]:
        if part == "energy":
            return model.energy.sample(condition, noise, steps=steps, method=method).double().numpy()
        x = solve(
            lambda x, t: model.shape(x, x.new_full((len(x),), t), steering), noise, steps=steps, method=method
        )  # fmt: skip
        made = model.decode(u, x, incident).numpy()
        showers = Showers(incident.double().numpy(), made, campaign.run.dataset, "generated")
        return feature_vector(showers).astype(np.float64)

    chosen = [PUBLISHED[part], *((method, steps) for method, counts in SOLVERS.items() for steps in counts)]
    return {key: solved(*key) for key in dict.fromkeys(chosen)}


def _compared(part: str, results: Solutions) -> list[dict[str, Any]]:
    exact = results[PUBLISHED[part]]
    width = exact.std(axis=0)
    alive = width > 1e-9  # features that are the same in all showers have no scale
    rows = []
    for (method, steps), values in results.items():
        difference = (values - exact)[:, alive] / width[alive]
        rows.append(
            {
                "part": part,
                "method": method,
                "steps": steps,
                "evaluations": evaluations(steps, method),
                "error": float(np.sqrt(np.mean(difference**2))),
                "bias": float(np.sqrt(np.mean(difference.mean(axis=0) ** 2))),
            }
        )
    return rows


def steps(campaign: Campaign) -> Path:
    """Record how coarse the inputs of the three embeddings become when they share a scale of 8 bits.

    ``energy_step`` is the step of the incident energy, as a fraction of it, in the median shower, and ``energy_error``
    the root mean square error that rounding makes, with 45 ratios on its scale. (With a scale of its own a single
    number is not rounded at all.) ``times`` is how many of 1001 times between 0 and 1 an embedding can tell apart, and
    ``features`` how many of its 256 inputs change at all. ``voxel_step`` is the step of a voxel of a shower, in
    standard deviations.
    """
    model, _ = campaign.build(next(iter(campaign.variants.values())), campaign.run.seed)
    u, fractions, condition = model.encode(*campaign.tensors("reference"))
    span = math.log(np.divide(*model.geometry.energy_range[::-1]))
    inputs = torch.cat([condition, u], dim=1)
    codes, scale = activation_codes(inputs)
    step = (scale.reciprocal() * span).expm1()
    error = ((codes / scale - inputs)[:, 0] * span).expm1()
    metrics = {
        "energy_step": float(step.median()),
        "energy_step_high": float(step.quantile(0.9)),
        "energy_error": float(error.square().mean().sqrt()),
        "voxel_step": float(activation_codes(model.shape._cut(fractions))[1].reciprocal().median()),
    }
    for name, scale in (("", 1.0), ("_x1000", 1000.0)):
        codes = _time_codes(scale)
        metrics |= {
            f"times{name}": float(len(torch.unique(codes, dim=0))),
            f"features{name}": float((codes != codes[0]).any(dim=0).sum()),
        }
    return study.record(
        campaign.run, variant="8-bit steps", data=campaign.fingerprint, metrics=metrics, wall_seconds=0.0
    )


def rates(run: study.Run) -> Path:
    """Record a scan of the shape network's learning rate, with bits in its blocks and without, half of the training.

    The rates are the scale's times a quarter, a half, one and two; what is compared is the loss on validation showers.
    """
    from bithep_lib.experiments.calodream import Campaign
    from bithep_lib.experiments.calodream_variants import Part

    rows = []
    for factor in (0.25, 0.5, 1.0, 2.0):
        rate = factor * run.learning_rate
        half = replace(run, settings=replace(run.settings, learning_rate=rate, n_train=run.n_train // 2))
        campaign = Campaign(half)
        for setup in ("regular", "no_embedding"):
            _, result = campaign.fit_part("shape", Part(setup), run.seed)
            loss = float(result.history["valid_loss"].min())
            rows.append({"setup": setup, "learning_rate": rate, "valid_loss": loss})
    best = {
        setup: min((row for row in rows if row["setup"] == setup), key=lambda row: row["valid_loss"])
        for setup in ("regular", "no_embedding")
    }
    return study.record(
        run,
        variant="learning rate",
        data=campaign.fingerprint,
        metrics={f"best_{setup}": row["learning_rate"] for setup, row in best.items()},
        curves={"scan": {name: [row[name] for row in rows] for name in rows[0]}},
        n_train_scanned=run.n_train // 2,
    )


def _time_codes(scale: float) -> Tensor:
    embedding = SinusoidalTime(1, scale=scale)
    phase = torch.linspace(0, 1, 1001).unsqueeze(1) * embedding.frequencies
    return activation_codes(torch.cat([phase.cos(), phase.sin()], dim=1))[0]
