"""What a training step of P-DAT costs: time, peak memory, and where the time goes.

    python benchmarks/bench_pdat.py [--rounds 5] [--jets 64]

One thread, a batch of bundled jets, AdamW. The corrected network (`PDAT()`: real particles only, pairs i < j once and
shared, features recomputed in chunks) stands beside the released architecture (`PDAT(as_published=True)`: every jet
padded to 100 particles), both with full-precision attention and with ternary attention. Times are process CPU seconds
of interleaved rounds in one run, so that a busy machine slows all alike; peak memory is the resident size of a process
of its own, libraries and jets included.

`as_published` spares itself some of what the released code does without effect (a nearest-neighbour search whose result
is not used, for one). The released code itself took 7.9 to 9.6 s and 2.8 GB for this step, where u below was 47 ms.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from bithep_lib.data import quark_gluon
from bithep_lib.models import PDAT
from bithep_lib.models import pdat as module
from bithep_lib.quantize import count

VARIANTS = {
    "as published": ("none", {"as_published": True}),
    "as published, ternary attention": ("attention", {"as_published": True}),
    "P-DAT": ("none", {}),
    "P-DAT, ternary attention": ("attention", {}),
    "P-DAT, nothing computed twice": ("none", {"recompute": False}),
}


def model_of(name: str) -> PDAT:
    strategy, sizes = VARIANTS[name]
    torch.manual_seed(1)
    return PDAT.build(strategy, **sizes)[0]


def training_step(model: nn.Module, constituents: Tensor, label: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(constituents), label).backward()
        optimizer.step()

    return step


def unit_step() -> Callable[[], None]:
    """u: a training step of nn.Linear, 512 x 1024 to 1024."""
    layer, x = nn.Linear(1024, 1024), torch.randn(512, 1024, requires_grad=True)
    gradient = torch.randn(512, 1024)
    return lambda: layer(x).backward(gradient)


def interleaved(actions: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in actions}
    for round_ in range(rounds + 1):
        for name, action in actions.items():
            start = time.process_time()
            action()
            if round_:  # the first one warms up
                times[name].append(time.process_time() - start)
    return times


def inference(model: PDAT, constituents: Tensor) -> Callable[[], None]:
    def run() -> None:
        model.eval()
        with torch.inference_mode():
            model(constituents)
        model.train()

    return run


def peak_memory() -> float:
    """MiB. Not getrusage, whose figure a process inherits from the one that started it."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def memory(name: str, jets: int) -> tuple[float, float]:
    """Resident MiB of a fresh process: before the first step, and at the peak of three steps."""
    command = [sys.executable, str(Path(__file__).resolve()), "--jets", str(jets), "--memory", name]
    before, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(before), float(peak)


def stages(model: PDAT, constituents: Tensor, rounds: int) -> dict[str, float]:
    """CPU seconds of the parts of a forward pass (median over rounds)."""
    spent: Counter[str] = Counter()

    def timed(function: Callable, label: str) -> Callable:
        def call(*args, **kwargs):
            start = time.process_time()
            result = function(*args, **kwargs)
            spent[label] += time.process_time() - start
            return result

        return call

    parts = {"_features": "features", "_pair_bias": "pair bias", "_second_edge_conv": "EdgeConv 2"}
    for attribute, label in parts.items():
        setattr(model, attribute, timed(getattr(model, attribute), label))
    for block in model.particle_attention:
        block.forward = timed(block.forward, "particle attention, twice")
    for block in model.channel_attention:
        block.forward = timed(block.forward, "channel attention, twice")
        block.bias = timed(block.bias, "jet bias")
    in_chunks, module.in_chunks = module.in_chunks, timed(module.in_chunks, "chunked")
    rows = []
    for _ in range(rounds):
        spent.clear()
        start = time.process_time()
        model(constituents)
        total = time.process_time() - start
        row = dict(spent)
        row["EdgeConv 1"] = row.pop("chunked") - row["EdgeConv 2"] - row["pair bias"]  # these are chunked, too
        rows.append(row | {"rest": total - sum(row.values()), "forward": total})
    module.in_chunks = in_chunks
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def operators(step: Callable[[], None], rows: int = 8) -> list[tuple[str, float]]:
    """The operators that take most of a training step, with their share."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    return [(event.key, event.self_cpu_time_total / total) for event in events[:rows]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jets", type=int, default=64)
    parser.add_argument("--memory", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    jets = quark_gluon.load("sample", n=options.jets)
    constituents, label = torch.from_numpy(jets.constituents), torch.from_numpy(jets.label).float()
    if options.memory:
        step = training_step(model_of(options.memory), constituents, label)
        before = peak_memory()
        for _ in range(3):
            step()
        print(before, peak_memory())
        return

    models = {name: model_of(name) for name in VARIANTS}
    actions = {name: training_step(model, constituents, label) for name, model in models.items()}
    scoring = {f"{name} (scores)": inference(model, constituents) for name, model in models.items()}
    times = interleaved({"unit": unit_step()} | actions | scoring, options.rounds)
    unit = statistics.median(times["unit"])
    speed = 3 * 2 * 512 * 1024**2 / unit
    multiplicity = jets.multiplicity
    print(f"{options.jets} jets, {multiplicity.mean():.1f} particles on average, at most {multiplicity.max()}")
    print(f"u = {1e3 * unit:.0f} ms ({speed / 1e9:.0f} GFLOP/s)\n")
    print(f"{'training step':34}{'seconds':>9}{'u':>7}{'MiB':>7}{'grown':>7}{'bound':>8}{'scores':>8}")
    for name, model in models.items():
        seconds = statistics.median(times[name])
        before, peak = memory(name, options.jets)
        bound = 3 * 2 * count(model, constituents).macs / speed  # forward and backward, matrix products only
        print(
            f"{name:34}{seconds:9.2f}{seconds / unit:7.1f}{peak:7.0f}{peak - before:7.0f}{bound:7.2f}s"
            f"{statistics.median(times[f'{name} (scores)']):7.2f}s"
        )
    for ending in ("", ", ternary attention"):
        ratio = [a / b for a, b in zip(times["as published" + ending], times["P-DAT" + ending], strict=True)]
        print(f"as published / P-DAT{ending}: {statistics.median(ratio):.1f} ({min(ratio):.1f} to {max(ratio):.1f})")

    print("\nwhere a forward pass of P-DAT spends its time")
    for name, seconds in stages(model_of("P-DAT"), constituents, options.rounds).items():
        print(f"  {name:28}{1e3 * seconds:6.0f} ms")
    print("\nand a training step, by operator")
    for name, share in operators(actions["P-DAT"]):
        print(f"  {name:40}{100 * share:5.1f} %")


if __name__ == "__main__":
    main()
