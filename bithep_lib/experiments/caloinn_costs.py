"""What the setups of chapter 4 cost: bytes, modelled energy and measured time of a shower, packed against float32.

None of it depends on the training, so the published flow is taken with random weights. Time is that of
`CaloINN.sample`: conditioners, splines and everything else.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bithep_lib import native, study
from bithep_lib.costs import cost
from bithep_lib.experiments.caloinn_variants import SETUPS
from bithep_lib.models import CaloINN
from bithep_lib.packed import pack
from bithep_lib.quantize import quantize_
from bithep_lib.timing import interleaved, ratios

BATCHES = 1, 100
"""Showers made at a time."""


def bending(setup: str, dataset: str, **sizes: int) -> CaloINN:
    """The flow of a setup, with splines that bend: as built, the last layers are zero and all bins alike."""
    flow = CaloINN.build("Default", dataset=dataset, **sizes)[0]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(1)
        for block in flow.blocks:
            nn.init.normal_(block.network.last.weight, std=0.02)
    quantize_(flow, CaloINN.strategies[setup])
    return flow.eval()


def measure(run: study.Run, rounds: int = 15, **sizes: int) -> Path:
    """Record bytes, energy and time of all setups.

    Times are medians of interleaved rounds, as a ratio to Default in the same round; their errors are half of the
    distance of the quartiles. ``ms`` is the clock of one machine, for orientation.

    Args:
        run: of the chapter; its data set is taken.
        rounds: of the timing.
        **sizes: of the flow, where not the published ones.
    """
    metrics: dict[str, object] = {}
    flows = {setup: bending(setup, run.dataset, **sizes) for setup in SETUPS if setup != "ExchangePermutation"}
    low, high = flows["Default"].geometry.energy_range
    for setup, flow in flows.items():
        if CaloINN.strategies[setup] is None:
            continue
        example = torch.randn(1, flow.features), torch.ones(1, 1)
        found = cost(flow, example, rounds=0)
        metrics |= {f"{setup}_bytes_{where}": size for where, size in found.bytes.items()}
        metrics[f"{setup}_energy_gain"] = found.gain["energy"]
        flows[setup] = pack(flow)
    for batch in BATCHES:
        energies = torch.from_numpy(np.geomspace(low, high, batch)).float()
        times = interleaved(
            {setup: partial(flow.sample, energies, seed=1) for setup, flow in flows.items()}, rounds=rounds
        )
        for setup, row in ratios(times, "Default", inverse=True).iterrows():
            metrics[f"{setup}_speedup_{batch}"] = {"value": row["median"], "error": (row["high"] - row["low"]) / 2}
            metrics[f"{setup}_ms_{batch}"] = 1e3 * float(times[setup].median()) / batch
    network = sizes or "published"
    return study.record(run, variant="cost", data="none", metrics=metrics, backend=native.backend(), network=network)
