"""What showers cost: one training step of the judge's classifier, in single and in double precision.

    python benchmarks/bench_showers.py [--rounds 5]

One thread, process CPU seconds of interleaved rounds in one run, so that a busy machine slows all alike. u is a
training step of nn.Linear, 512 x 1024 to 1024, in the same run; "bound" is the time that the matrix products of a step
need at the speed of u.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bithep_lib.evaluate.two_sample import CLASSIFIER, ClassifierSettings, classifier
from bithep_lib.timing import interleaved, ratios

INPUTS = {"ds1-photons, high": 30, "ds1-photons, low": 369, "ds2, low": 6481}


def classifier_step(n_inputs: int, settings: ClassifierSettings) -> Callable[[], None]:
    """One step of the classifier test on a batch of noise."""
    dtype = getattr(torch, settings.precision)
    model = classifier(n_inputs, settings).to(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    x = torch.randn(settings.batch_size, n_inputs, dtype=dtype)
    label = torch.randint(2, (settings.batch_size,)).to(dtype)

    def step() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(x).squeeze(-1), label).backward()
        optimizer.step()

    return step


def unit_step() -> Callable[[], None]:
    """u: a training step of nn.Linear, 512 x 1024 to 1024."""
    layer, x = nn.Linear(1024, 1024), torch.randn(512, 1024, requires_grad=True)
    gradient: Tensor = torch.randn(512, 1024)
    return lambda: layer(x).backward(gradient)


def classifiers(rounds: int) -> None:
    """Print the classifier's step times, float32 and float64, for the challenge's settings and the reduced ones."""
    torch.manual_seed(1)
    # The book's network is small: its step is shown for photons only.
    wanted = [("challenge", name) for name in INPUTS] + [("laptop", "ds1-photons, low"), ("book", "ds1-photons, low")]
    print(f"{'classifier test, step':36}{'batch':>6}{'float32':>10}{'in u':>7}{'bound':>9}{'float64 / float32':>24}")
    for settings, name in wanted:
        single = CLASSIFIER[settings]
        steps = {
            precision: classifier_step(INPUTS[name], replace(single, precision=precision))
            for precision in ("float32", "float64")
        }
        times = interleaved({"u": unit_step()} | steps, rounds=rounds)
        median = times.median()
        with torch.device("meta"):
            weights = sum(p.numel() for p in classifier(INPUTS[name], single).parameters() if p.ndim == 2)
        work = 3 * 2 * weights * single.batch_size  # forward and twice as much backward
        bound = work / (3 * 2 * 512 * 1024**2 / median["u"])
        ratio = ratios(times, "float32").loc["float64"]
        print(
            f"{settings + ', ' + name:36}{single.batch_size:6}{1e3 * median['float32']:8.1f}ms"
            f"{median['float32'] / median['u']:7.2f}{1e3 * bound:7.1f}ms"
            f"{ratio['median']:12.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    classifiers(options.rounds)


if __name__ == "__main__":
    main()
