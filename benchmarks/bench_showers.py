"""What showers cost: features, preprocessing, and a step of the judge's classifier in single and double precision.

    python benchmarks/bench_showers.py [--rounds 5]

One thread, process CPU seconds of interleaved rounds in one run, so that a busy machine slows all alike. u is a
training step of nn.Linear, 512 x 1024 to 1024, in the same run; "bound" is the time that the matrix products of a step
need at the speed of u. Features and preprocessing read every voxel: their bound is one pass over the voxels, a sum in
double precision. The challenge's own class for high-level features made 83 000 (ds1 photons), 57 000 (ds1 pions),
10 900 (ds2) and 1 800 (ds3) showers per CPU second where u was 47 ms.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bithep_lib.data.calochallenge import DATASETS, Showers, augment, geometry, read, write
from bithep_lib.data.calochallenge.ratios import energy_ratios, layer_energies
from bithep_lib.evaluate.classifier_test import classifier_inputs
from bithep_lib.evaluate.separation import compare
from bithep_lib.evaluate.showers import feature_vector
from bithep_lib.evaluate.two_sample import CLASSIFIER, ClassifierSettings, classifier
from bithep_lib.timing import interleaved, ratios

INPUTS = {"ds1-photons, high": 30, "ds1-photons, low": 369, "ds2, low": 6481}


def sparse_showers(dataset: str, n: int) -> Showers:
    """Showers with a fifth of the voxels lit; what is measured does not depend on where."""
    generator = np.random.default_rng(1)
    one = geometry(dataset)
    voxels = generator.exponential(1, (n, one.n_voxels)) * (generator.random((n, one.n_voxels)) < 0.2)
    incident = one.draw_energies(n, seed=1)
    return Showers(incident, (voxels * (incident / voxels.sum(1))[:, None]).astype(np.float32), dataset)


def preprocessing(rounds: int) -> None:
    """Print how many showers per second are read, written, turned into features and compared, by data set."""
    columns = {}
    for dataset in DATASETS:
        n = {"ds2": 500, "ds3": 100}.get(dataset, 3000)
        showers = sparse_showers(dataset, n)
        with tempfile.TemporaryDirectory() as folder:
            columns[dataset] = n / interleaved(steps(showers, Path(folder)), rounds=rounds).median()
    table = pd.DataFrame(columns).reindex(columns["ds2"].index)
    print("showers per CPU second")
    print(table.to_string(float_format="{:,.0f}".format, na_rep="-"), end="\n\n")


def steps(showers: Showers, folder: Path) -> dict[str, Callable[[], object]]:
    """What is done with showers before and after a network."""
    incident, voxels = torch.from_numpy(showers.incident), torch.from_numpy(showers.voxels).double()
    path = write(folder / "showers.hdf5", showers)
    actions = {
        "one pass (bound)": lambda: showers.voxels.sum(1, dtype=np.float64),
        "high-level features": lambda: feature_vector(showers),
        "classifier's voxels": lambda: classifier_inputs(showers, "low"),
        "layer energy ratios": lambda: energy_ratios(layer_energies(voxels, showers.geometry), incident),
        "separation powers": lambda: compare(showers, showers),
        "write, gzip": lambda: write(folder / "again.hdf5", showers),
        "read and check": lambda: read([path]),
    }
    if showers.geometry.uniform:
        actions["random rotation"] = lambda: augment(showers, 1, seed=1)
    return actions


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
    preprocessing(options.rounds)
    classifiers(options.rounds)


if __name__ == "__main__":
    main()
