"""What a training step of SMEFTNet costs, beside the released construction and a bound from the arithmetic.

    python benchmarks/bench_smeftnet.py [--rounds 7] [--jets 256]

One thread, 256 jets of 40 particles, Adam. Times are process CPU seconds of interleaved rounds in one run; u is one
training step of nn.Linear, 512 x 1024 to 1024, in the same run. The network of this package does its matrix products
for particles and visits all pairs with a few operations a channel; the released construction
(`SMEFTNet(as_published=True)`, here without its loops over graphs) runs a network for each pair of neighbours, so its
time grows with their number. It is shown for bundled jets, as it takes them for Cartesian, and for jets in which each
particle has 21 neighbours on average.

The released code itself took 0.67 s (full precision) and 0.99 s (bits) for the step with two layers [20, 20] and 21
neighbours, where u was 47 ms: 14 u and 21 u.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from bithep_lib import pack
from bithep_lib.data import wz
from bithep_lib.models import SMEFTNet
from bithep_lib.quantize import count
from bithep_lib.timing import interleaved
from bithep_lib.train import sin2_loss

RELEASED = {"none": 0.67 / 0.047, "all": 0.99 / 0.047}
"""The released code's step in u, by strategy."""
PASSES = 9
"""Times that a training step visits each number of each pair: four forward, five backward."""


def sample_jets(n: int) -> tuple[Tensor, ...]:
    """Bundled jets: pt, xy, mask, jet_pt and the true angle."""
    jets = wz.load("sample", n=n)
    return tuple(torch.from_numpy(np.asarray(x)) for x in (*wz.features(jets), jets.jet_pt, jets.phi_decay))


def crowded(jets: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The same with 40 particles in such a part of the (theta, phi) plane that half of all pairs are neighbours."""
    generator = torch.Generator().manual_seed(1)
    pt, xy, mask, jet_pt, phi_decay = jets
    theta = 0.5 * torch.rand(pt.shape, generator=generator)
    phi = 0.75 * torch.rand(pt.shape, generator=generator)
    return (
        pt.clamp_min(0.1),
        torch.stack([theta * phi.cos(), theta * phi.sin()], dim=-1),
        mask | True,
        jet_pt,
        phi_decay,
    )


def training_step(model: nn.Module, jets: tuple[Tensor, ...]) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        sin2_loss(model(*jets[:-1]), jets[-1]).mean().backward()
        optimizer.step()

    return step


def scoring(model: nn.Module, jets: tuple[Tensor, ...]) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            model(*jets[:-1])

    return run


def unit_step() -> Callable[[], None]:
    """u: a training step of nn.Linear, 512 x 1024 to 1024."""
    layer, x = nn.Linear(1024, 1024), torch.randn(512, 1024, requires_grad=True)
    gradient = torch.randn(512, 1024)
    return lambda: layer(x).backward(gradient)


def copying(bytes_: int = 1 << 20) -> Callable[[], None]:
    """One pass over a megabyte of messages, in place: what the cache gives."""
    x = torch.rand(bytes_ // 4)
    return lambda: x.mul_(1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jets", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    jets = sample_jets(options.jets)
    inputs = {"W jets": jets, "21 neighbours": crowded(jets)}

    models, rows = {}, {}
    for strategy in ("none", "all"):
        ours = SMEFTNet.build(strategy)[0]
        published = SMEFTNet.build(strategy, as_published=True, layers=((20, 20), (20, 20)))[0]
        models[f"SMEFTNet, {strategy}"] = (ours, "W jets")
        for name in inputs:
            models[f"as published, {strategy}, {name}"] = (published, name)
    actions = {name: training_step(model, inputs[kind]) for name, (model, kind) in models.items()}
    packed = pack(SMEFTNet.build("all")[0])
    scores = {
        "float": scoring(SMEFTNet.build("none")[0].eval(), jets),
        "bits": scoring(SMEFTNet.build("all")[0].eval(), jets),
        "packed": scoring(packed, jets),
    }
    times = interleaved({"unit": unit_step(), "pass": copying()} | actions | scores, rounds=options.rounds, seconds=0.0)
    unit = times["unit"].median()
    speed = 3 * 2 * 512 * 1024**2 / unit
    rate = (1 << 18) / times["pass"].median()
    print(f"{options.jets} jets, {int(jets[2].sum()) / options.jets:.1f} particles on average")
    print(f"u = {1e3 * unit:.0f} ms ({speed / 1e9:.0f} GFLOP/s); {rate / 1e9:.1f} G numbers a second in one pass\n")
    print(f"{'training step':40}{'seconds':>9}{'u':>7}{'MACs a jet':>12}")
    for name, (model, kind) in models.items():
        some = tuple(x[:32] for x in inputs[kind][:-1])
        rows[name] = times[name].median()
        print(f"{name:40}{rows[name]:9.3f}{rows[name] / unit:7.2f}{count(model, some).macs // 32:12,d}")

    hidden = sum(layer.hidden for layer in models["SMEFTNet, none"][0].message_passing)
    visited = options.jets * jets[0].shape[1] ** 2 * hidden * PASSES / rate
    products = (
        3 * 2 * count(models["SMEFTNet, none"][0], tuple(x[:32] for x in jets[:-1])).macs / 32 * options.jets / speed
    )
    print(f"\nbound of the step: {1e3 * visited:.0f} ms to visit the messages of all pairs,", end=" ")
    print(f"{1e3 * products:.0f} ms of products")
    for strategy in ("none", "all"):
        own = times[f"SMEFTNet, {strategy}"]
        for name in inputs:
            ratio = times[f"as published, {strategy}, {name}"] / own
            low, middle, high = ratio.quantile([0.25, 0.5, 0.75])
            print(f"as published / SMEFTNet, {strategy}, {name}: {middle:.1f} [{low:.1f}, {high:.1f}]")
        released = RELEASED[strategy] / statistics.median(own / times["unit"])
        print(f"released code / SMEFTNet, {strategy}, 21 neighbours, in units of u: {released:.0f}")
    print("\nscores of the batch, seconds: " + ", ".join(f"{name} {times[name].median():.3f}" for name in scores))


if __name__ == "__main__":
    main()
