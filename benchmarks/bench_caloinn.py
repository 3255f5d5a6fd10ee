"""What CaloINN costs: a training step and a shower, in full precision and in bits, beside the released code.

    python benchmarks/bench_caloinn.py [--rounds 5] [--batch 512] [--dataset ds1-photons]

One thread, AdamW, random showers of the data set's size. The released code took 2.4 s for this step at batch 512 on ds1
photons and generated about 500 showers/s, where u, a training step of nn.Linear 512 x 1024 -> 1024, took 47 ms: 51 u a
step and 0.043 u a shower. Times are CPU seconds of interleaved rounds in one run, divided by that round's u.

The bound is what the matrix products of the float conditioners take at the speed of u; a layer in bits is not bound by
it. Splines, normalisation, optimiser and permutations come on top.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bithep_lib import quantize_
from bithep_lib.models import splines
from bithep_lib.models.caloinn import CaloINN
from bithep_lib.quantize import count
from bithep_lib.timing import interleaved

RELEASED_STEP, RELEASED_SHOWER = 51.0, 1 / 500 / 0.047  # in u


def flow_of(setup: str, dataset: str) -> CaloINN:
    """A flow whose splines bend: the last layers start at zero, where every bin is alike."""
    flow = CaloINN.build("Default", dataset=dataset)[0]
    for block in flow.blocks:
        nn.init.normal_(block.network.last.weight, std=0.02)
    quantize_(flow, CaloINN.strategies[setup])
    return flow


def training_step(flow: CaloINN, x: Tensor, condition: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(flow.parameters())

    def step() -> None:
        optimizer.zero_grad()
        (-flow.log_prob(x, condition).mean()).backward()
        optimizer.step()

    return step


def unit_step() -> Callable[[], None]:
    layer, x = nn.Linear(1024, 1024), torch.randn(512, 1024, requires_grad=True)
    gradient = torch.randn(512, 1024)
    return lambda: layer(x).backward(gradient)


def spline_step(flow: CaloINN, batch: int) -> Callable[[], None]:
    """Forward and backward of one block's splines."""
    block = flow.blocks[0]
    x = torch.randn(batch, block.split[1], requires_grad=True)
    theta = torch.randn(batch, block.network.last.out_features // block.split[1], block.split[1], requires_grad=True)
    spline: splines.Spline = block.spline

    def step() -> None:
        y, log_slope = spline(x, theta, bound=block.bound)
        (y.sum() + log_slope.sum()).backward()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--dataset", default="ds1-photons")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    flows = {setup: flow_of(setup, options.dataset) for setup in ("Default", "NNCentral", "BlockCentral", "All")}
    features = flows["Default"].features
    x, condition = torch.randn(options.batch, features) * 3 - 6, torch.rand(options.batch, 1) * 2
    incident = 1000 * 10 ** condition[:, 0]

    steps = {f"train {name}": training_step(flow, x, condition) for name, flow in flows.items()}
    samples = {f"sample {name}": (lambda flow=flow: flow.sample(incident, seed=1)) for name, flow in flows.items()}
    actions = {"u": unit_step(), "splines": spline_step(flows["Default"], options.batch)} | steps | samples
    times = interleaved(actions, rounds=options.rounds)
    in_u = times.div(times["u"], axis=0).quantile([0.5, 0.25, 0.75])

    flop = 3 * 2 * count(flows["Default"], (x, condition)).macs
    unit_flop = 3 * 2 * 512 * 1024**2
    n_blocks = len(flows["Default"].blocks)
    print(f"{options.dataset}, batch {options.batch}; u = {1e3 * times['u'].median():.0f} ms")
    print(f"float matrix products of a training step: {flop / 1e9:.1f} GFLOP = {flop / unit_flop:.1f} u (the bound)")
    print(f"splines of {n_blocks} blocks, forward and backward: {n_blocks * in_u.loc[0.5, 'splines']:.1f} u\n")
    published = options.dataset == "ds1-photons"
    print(f"{'':22}{'u':>8}{'low':>8}{'high':>8}" + (f"{'released / ours':>18}" if published else ""))
    for name in [*steps, *samples]:
        median, low, high = in_u[name]
        released = RELEASED_STEP * options.batch / 512 if name in steps else RELEASED_SHOWER * options.batch
        print(f"{name:22}{median:8.2f}{low:8.2f}{high:8.2f}" + (f"{released / median:18.2f}" if published else ""))


if __name__ == "__main__":
    main()
