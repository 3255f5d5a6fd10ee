"""What CaloDREAM costs at the published size: training steps, evaluations and showers, beside the released code.

    python benchmarks/bench_calodream.py [--rounds 3] [--batch 8]

One thread, random inputs. Times are CPU seconds of interleaved rounds in one run, in units of u, a training step of
nn.Linear 512 x 1024 -> 1024 in the same round. Where u took 47 ms, the released code took 16.5 s for a step of the
shape network at batch 64 (5.5 u a shower; 19.0 s without embeddings in bits), 80 evaluations of it took 7.1 s a shower
(1.9 u each; 9.3 s in bits), and the energy network made 1.13 showers/s (18.8 u each; 0.42 /s in bits) with 200
evaluations for each of the 45 ratios.

The bound of a float step is what its matrix products take at the speed of u. A solver with fewer evaluations is another
solver: ``python -m bithep_lib.experiments.calodream --solver`` measures what it costs, against the statistical error.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bithep_lib import pack
from bithep_lib.models import CaloDREAM
from bithep_lib.models.flow_matching import evaluations
from bithep_lib.quantize import count
from bithep_lib.timing import interleaved

UNIT = 0.047
RELEASED = {
    "step regular": 16.5 / 64 / UNIT,
    "step no_embedding": 19.0 / 64 / UNIT,
    "step full": 18.4 / 64 / UNIT,
    "evaluation regular": 7.1 / 80 / UNIT,
    "evaluation no_embedding": 9.3 / 80 / UNIT,
    "energies regular": 1 / 1.13 / UNIT,
    "energies quantized": 1 / 0.42 / UNIT,
}
"""u a shower."""
FEWER = ("midpoint", 6)
"""Solver and steps for each energy ratio, instead of the published ("rk4", 50)."""
SHOWERS = 128
"""Energies of so many showers at a time."""


def unit_step() -> Callable[[], None]:
    layer, x = nn.Linear(1024, 1024), torch.randn(512, 1024, requires_grad=True)
    gradient = torch.randn(512, 1024)
    return lambda: layer(x).backward(gradient)


def network(setup: str) -> CaloDREAM:
    """With modulations that are not zero, as after the first steps."""
    model, _ = CaloDREAM.build(setup)
    for block in model.shape.blocks:
        nn.init.normal_(block.modulation.weight, std=0.02)
    return model


def step(model: CaloDREAM, x: Tensor, condition: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.shape.parameters())

    def act() -> None:
        optimizer.zero_grad()
        model.shape.loss(x, condition).backward()
        optimizer.step()

    return act


def evaluation(model: CaloDREAM, x: Tensor, condition: Tensor) -> Callable[[], Tensor]:
    time = torch.full((len(x),), 0.5)
    return torch.inference_mode()(lambda: model.shape(x, time, condition))


def energies(model: CaloDREAM, method: str, steps: int) -> Callable[[], Tensor]:
    condition, noise = torch.rand(SHOWERS, 1), torch.randn(SHOWERS, model.energy.n_ratios)
    return torch.inference_mode()(lambda: model.energy.sample(condition, noise, steps=steps, method=method))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="showers of a step or an evaluation of the shape network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    models = {setup: network(f"quantized/{setup}") for setup in ("no_embedding", "full")}
    models["regular"] = network("regular/regular")
    x, condition = torch.randn(options.batch, 6480), torch.randn(options.batch, 46)

    fast = pack(models["no_embedding"])
    actions: dict[str, Callable[[], object]] = {"u": unit_step()}
    actions |= {f"step {name}": step(models[name], x, condition) for name in ("regular", "no_embedding", "full")}
    actions |= {
        "evaluation regular": evaluation(models["regular"].eval(), x, condition),
        "evaluation no_embedding": evaluation(fast, x, condition),
        "energies regular": energies(models["regular"], *FEWER),
        "energies quantized": energies(fast, *FEWER),
    }
    showers = {name: SHOWERS if name.startswith("energies") else options.batch for name in actions}
    times = interleaved(actions, rounds=options.rounds)
    in_u = times.div(times["u"], axis=0).quantile([0.5, 0.25, 0.75])

    unit_flop = 3 * 2 * 512 * 1024**2
    macs = count(models["regular"].shape, (x[:1], torch.rand(1), condition[:1])).macs
    bound = {"step regular": 3 * 2 * macs / unit_flop, "evaluation regular": 2 * macs / unit_flop}
    print(
        f"u = {1e3 * times['u'].median():.0f} ms; batch {options.batch}, energies of {SHOWERS} showers at a time with"
    )
    print(f"{FEWER[0]}, {FEWER[1]} steps: {evaluations(FEWER[1], FEWER[0])} evaluations a ratio instead of 200\n")
    print(f"{'':26}{'u / shower':>12}{'low':>8}{'high':>8}{'/ bound':>10}{'released / ours':>17}")
    for name in list(actions)[1:]:
        median, low, high = in_u[name] / showers[name]
        against = f"{median / bound[name]:10.2f}" if name in bound else 10 * " "
        print(f"{name:26}{median:12.3f}{low:8.3f}{high:8.3f}{against}{RELEASED[name] / median:17.1f}")
    for what in ("step", "evaluation"):
        ratio = (times[f"{what} regular"] / times[f"{what} no_embedding"]).median()
        print(f"\n{what}: no_embedding {ratio:.2f} x as fast as regular", end="")
    print()


if __name__ == "__main__":
    main()
