"""What a BitLinear layer costs beside `nn.Linear`: time and memory of a training step, time of inference.

    python benchmarks/bench_bitlinear.py [--rounds 15]

Every figure is a ratio of process CPU times, one thread, taken in interleaved rounds of one run (median and quartiles
of the ratio), so that a busy machine slows all columns alike. ``published form`` is the construction of the published
code, written from its description: quantise inside the autograd graph, then detach. BITHEP_BACKEND=torch keeps the
integer kernel out of it.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bithep_lib import BitLinear
from bithep_lib.timing import interleaved, ratios

SHAPES = [(6400, 64, 64), (4096, 256, 256), (512, 1024, 1024), (100_000, 20, 21)]


class PublishedForm(nn.Linear):
    """Float product of dequantised operands, v + (Q(v) - v).detach() for the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        beta = self.weight.abs().mean().clamp(min=1e-8)
        w = (self.weight / beta).round().clamp(-1, 1) * beta
        scale = 127.0 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-8)
        q = (x * scale).round().clamp(-128, 127) / scale
        return F.linear(x + (q - x).detach(), self.weight + (w - self.weight).detach(), self.bias)


LAYERS = {"nn.Linear": nn.Linear, "published form": PublishedForm, "BitLinear": BitLinear}


def saved_bytes(layer: nn.Module, x: Tensor) -> int:
    """Bytes that the graph keeps for backward, without the parameters: each storage once."""
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in layer.parameters()}

    def keep(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in own:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        layer(x)
    return sum(kept.values())


def train_step(layer: nn.Module, x: Tensor, gradient: Tensor) -> Callable[[], None]:
    def step() -> None:
        layer.zero_grad(set_to_none=True)
        layer(x).backward(gradient)

    return step


def infer(layer: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.inference_mode():
            return layer(x)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default 15)")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    print(f"{platform.machine()}, torch {torch.__version__}, one thread, {rounds} interleaved rounds")
    print(f"{'rows x in -> out':<22} {'':<16} {'training':>22} {'inference':>22} {'kept for backward':>18}")
    worse = []
    for rows, k, n in SHAPES:
        x = torch.randn(rows, k, generator=generator).requires_grad_()
        gradient = torch.randn(rows, n, generator=generator)
        layers = {name: cls(k, n) for name, cls in LAYERS.items()}
        steps = {name: train_step(m, x, gradient) for name, m in layers.items()}
        training = ratios(interleaved(steps, rounds=rounds), "nn.Linear")
        calls = {name: infer(m, x.detach()) for name, m in layers.items()}
        inference = ratios(interleaved(calls, rounds=rounds), "nn.Linear")
        kept = {name: saved_bytes(m, x * 1) for name, m in layers.items()}
        for name in layers:
            spread = "{:6.2f} [{:.2f}, {:.2f}]"
            print(
                f"{f'{rows} x {k} -> {n}' if name == 'nn.Linear' else '':<22} {name:<16} "
                f"{spread.format(*training.loc[name]):>22} {spread.format(*inference.loc[name]):>22} "
                f"{kept[name] / kept['nn.Linear']:>18.2f}"
            )
        if (
            training["median"]["BitLinear"] > training["median"]["published form"]
            or kept["BitLinear"] >= kept["published form"]
        ):
            worse.append(f"{rows} x {k} -> {n}")
    verdict = f"missed at {', '.join(worse)}" if worse else "met at every shape"
    print(f"target, training no slower than the published form and with less memory: {verdict}")


if __name__ == "__main__":
    main()
