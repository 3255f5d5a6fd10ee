"""Speed and memory of BitLinear layers on integers, beside `nn.Linear`, with the targets and a verdict on each.

    python benchmarks/bench_lowbit.py [--threads 1 2] [--rounds 15] [--only training inference network memory]

Every figure is a ratio taken in interleaved rounds of one run (median, and quartiles in brackets): CPU time of the
process with one thread, wall time with more. Beside it stands the rate that was reached.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))

import pandas as pd
import torch
from torch import Tensor, nn

from bithep_lib import BitLinear, native, pack
from bithep_lib.timing import interleaved, ratios


@dataclass(frozen=True)
class Figure:
    """One measured ratio and what it should be."""

    what: str
    median: float
    low: float
    high: float
    target: float
    at_most: bool
    rate: str = ""

    @property
    def met(self) -> bool:
        return self.median <= self.target if self.at_most else self.median >= self.target

    def __str__(self) -> str:
        relation = "<=" if self.at_most else ">="
        spread = f"{self.median:7.2f} [{self.low:.2f}, {self.high:.2f}]"
        return (
            f"{self.what:<52} {spread:<26} {relation} {self.target:<5} {'met' if self.met else 'MISSED':<7} {self.rate}"
        )


def training(rounds: int) -> Iterator[Figure]:
    """Forward and backward, the time over that of nn.Linear."""
    for lead, k, n, target in [
        ((6400,), 64, 64, 1.20),
        ((64, 100), 128, 128, 1.10),
        ((512,), 256, 256, 1.10),
        ((8, 135), 480, 480, 0.95),
        ((2048,), 1024, 1024, 0.95),
    ]:
        x, gradient = torch.randn(*lead, k, requires_grad=True), torch.randn(*lead, n)
        layers = {"float": nn.Linear(k, n), "bits": BitLinear(k, n)}
        actions = {name: step(layer, x, gradient) for name, layer in layers.items()}
        times = interleaved(actions, rounds=rounds, seconds=0.05)
        rate = f"nn.Linear at {6 * x.numel() * n / times['float'].median() / 1e9:.0f} GFLOP/s"
        yield figure(f"training {x.numel() // k} x {k} -> {n}", times, target, rate=rate)


def inference(rounds: int) -> Iterator[Figure]:
    """Packed layers, the speed over that of nn.Linear."""
    for rows, k, target in [
        (1, 64, 1.0),
        (1, 256, 1.8),
        (1, 1024, 4.5),
        (1, 4096, 10.0),
        (6400, 64, 1.4),
        (6400, 128, 2.0),
        (512, 256, 2.0),
        (1080, 480, 2.0),
        (2048, 1024, 2.0),
    ]:
        layers = {"float": nn.Linear(k, k), "bits": pack(BitLinear(k, k))}
        times = calls(layers, torch.randn(rows, k), rounds)
        rate = f"{2 * rows * k * k / times['bits'].median() / 1e9:.0f} GOP/s"
        yield figure(f"packed {rows} x {k} -> {k}", times, target, inverse=True, rate=rate)


def network(rounds: int) -> Iterator[Figure]:
    """Whole perceptrons, packed and called once, at batch 1: the speed over eager torch."""
    for sizes in [(16, 64, 32, 32, 5), (64, 64, 64, 64, 5), (64, 256, 256, 256, 10), (128, 1024, 1024, 1024, 10)]:
        networks = {"float": mlp(nn.Linear, sizes), "bits": pack(mlp(BitLinear, sizes))}
        times = calls(networks, torch.randn(1, sizes[0]), rounds)
        rate = f"{times['bits'].median() * 1e6:.1f} us"
        yield figure(f"one call {'-'.join(map(str, sizes))}", times, 7.0, inverse=True, rate=rate)


def memory(rounds: int) -> Iterator[Figure]:
    """Bytes that the graph keeps for backward over those of nn.Linear, and bytes of packed weights over float32."""
    for name, build, x in [
        ("3 x (256 -> 256, SiLU), 512 rows", lambda kind: stack(kind, 256, nn.SiLU), torch.randn(512, 256)),
        ("3 x (128 -> 128, GELU), 6400 rows", lambda kind: stack(kind, 128, nn.GELU), torch.randn(6400, 128)),
    ]:
        kept = {kind: saved_bytes(build(kind), x) for kind in (nn.Linear, BitLinear)}
        ratio = kept[BitLinear] / kept[nn.Linear]
        yield Figure(f"kept for backward, {name}", ratio, ratio, ratio, 0.8, True)
    packed = sum(t.nbytes for t in pack(BitLinear(1024, 1024, bias=False)).buffers()) / (4 * 1024 * 1024)
    yield Figure("packed weights, 1024 -> 1024", packed, packed, packed, 0.0626, True)


def calls(networks: dict[str, nn.Module], x: Tensor, rounds: int) -> pd.DataFrame:
    """Times of one call of each network."""
    with torch.inference_mode():
        return interleaved({name: partial(network, x) for name, network in networks.items()}, rounds=rounds)


def step(layer: nn.Module, x: Tensor, gradient: Tensor) -> Callable[[], None]:
    def action() -> None:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        layer(x).backward(gradient)

    return action


def figure(what: str, times: pd.DataFrame, target: float, *, inverse: bool = False, rate: str = "") -> Figure:
    row = ratios(times, "float", inverse=inverse).loc["bits"]
    return Figure(what, row["median"], row["low"], row["high"], target, not inverse, rate)


def mlp(kind: type[nn.Linear], sizes: tuple[int, ...]) -> nn.Sequential:
    layers = [layer for a, b in zip(sizes, sizes[1:], strict=False) for layer in (kind(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).eval()


def stack(kind: type[nn.Linear], width: int, activation: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(*[layer for _ in range(3) for layer in (kind(width, width), activation())])


def saved_bytes(model: nn.Module, x: Tensor) -> int:
    """Bytes kept for backward, each storage once, without the parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}  # tensors, not addresses alone: one that is freed could give its address to the next

    def keep(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in parameters:
            kept[t.untyped_storage().data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        model(x.clone().requires_grad_() * 1)
    return sum(t.untyped_storage().nbytes() for t in kept.values())


def processor() -> str:
    """The processor's name, as Linux gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def main() -> int:
    parts = {"training": training, "inference": inference, "network": network, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default 1 2)")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default 15)")
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="parts to run (default all)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(f"{processor()}, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, backend {native.backend()}")
    missed = []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        print(f"\n{threads} thread{'s' if threads > 1 else ''} ({'process CPU' if threads == 1 else 'wall'} time)")
        for part in arguments.only:
            # Latency is one thread's matter, and memory does not depend on threads.
            if threads > 1 and part in ("network", "memory"):
                continue
            for result in parts[part](arguments.rounds):
                print(result, flush=True)
                if not result.met:
                    missed.append(f"{result.what}, {threads} threads")
    print(f"\n{len(missed)} missed: {'; '.join(missed)}" if missed else "\nall targets met")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
