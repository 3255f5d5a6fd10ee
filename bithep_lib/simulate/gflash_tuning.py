"""Fit the free constants of the GFLASH parametrisation to showers of Geant4.

    python -m bithep_lib.simulate.gflash_tuning ds2 FOLDER

What is compared, in groups of incident energy: mean and spread of the energy in each layer and of the whole response,
and, in groups of layers, the energy and the hit voxels of each ring and the mean and spread of the logarithm of a hit
voxel's energy. The parametrised showers have the incident energies of the simulated ones.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
from scipy.optimize import least_squares

from bithep_lib.data import calochallenge
from bithep_lib.data.calochallenge import Showers
from bithep_lib.simulate.gflash import TUNED, Tuning, shower

__all__ = ["Target", "main", "pulls", "summary", "targets", "tune"]

ENERGY_GROUPS = 3
LAYER_GROUPS = 9
TOLERANCE = 0.05  # a parametrisation this close, relatively, is close enough: what counts beside statistical errors
TOTAL_TOLERANCE = 0.01  # of the response, which everybody looks at first
SHOWERS = 1000  # parametrised ones a step
FIXED = ("track", "conversion")  # physics, not tuning
STEP = 0.1  # relative, for derivatives: larger than the noise of the comparison


def summary(showers: Showers) -> tuple[np.ndarray, np.ndarray]:
    """What is compared, and its standard error: (n_quantities,) each."""
    g = showers.geometry
    rows = []
    voxels = showers.voxels / showers.incident[:, None]
    energy = np.stack([voxels[:, g.slice(i)].sum(1) for i in range(g.n_layers)], axis=1)
    rows += [*energy.T, voxels.sum(1)]
    rows += [np.abs(row - row.mean()) for row in rows]  # the spread, as a mean, so that it has a simple error
    for layers in np.array_split(np.arange(g.n_layers), min(g.n_layers, LAYER_GROUPS)):
        for bins in {g.layers[i].r_edges for i in layers}:
            same = [i for i in layers if g.layers[i].r_edges == bins]
            cells = np.stack([voxels[:, g.slice(i)].reshape(-1, *g.shape(i)) for i in same], axis=1)
            rows += [*cells.sum(axis=(1, 2)).T, *(cells > 0).mean(axis=(1, 2)).T]
        hit = np.concatenate([showers.voxels[:, g.slice(i)] for i in layers], axis=1)
        count = np.maximum((hit > 0).sum(1), 1)
        logarithm = np.log(np.where(hit > 0, hit, 1))
        mean = logarithm.sum(1) / count
        spread = np.sqrt(np.maximum((logarithm**2).sum(1) / count - mean**2, 0))
        rows += [np.exp(mean), np.exp(spread)]  # positive, so that a relative tolerance means something
    table = np.array(rows)
    return table.mean(1), table.std(1) / np.sqrt(len(showers))


@dataclass(frozen=True)
class Target:
    """What the parametrised showers of one group of energies are compared with.

    Attributes:
        incident: MeV, energies to make showers for.
        value: what :func:`summary` returned for the simulated showers, and ``error`` its standard error.
        tolerance: relative, of each quantity.
    """

    incident: np.ndarray
    value: np.ndarray
    error: np.ndarray
    tolerance: np.ndarray


def targets(simulated: Showers) -> list[Target]:
    """The groups of incident energy."""
    order = np.argsort(simulated.incident, kind="stable")
    groups = []
    for part in np.array_split(order, ENERGY_GROUPS):
        value, error = summary(simulated[part])
        tolerance = np.full(len(value), TOLERANCE)
        # Rows of the response: after those of the layers, mean and spread.
        layers = simulated.geometry.n_layers
        tolerance[[layers, 2 * layers + 1]] = TOTAL_TOLERANCE
        # About as many parametrised showers for any number of simulated ones.
        n = SHOWERS // ENERGY_GROUPS
        incident = np.tile(simulated.incident[part], -(-n // len(part)))[:: max(1, len(part) // n)]
        groups.append(Target(incident, value, error, tolerance))
    return groups


def pulls(dataset: str, groups: Sequence[Target], tuning: Tuning, seed: int = 1) -> np.ndarray:
    """Differences to the targets over tolerance and statistical error, group by group of incident energy."""
    differences = []
    for group in groups:
        value, noise = summary(Showers(group.incident, shower(dataset, group.incident, seed, tuning), dataset))
        scale = np.sqrt(group.error**2 + noise**2 + (group.tolerance * group.value) ** 2) + 1e-9
        differences.append((value - group.value) / scale)
    return np.concatenate(differences)


def tune(simulated: Showers, start: Tuning | None = None) -> Tuning:
    """The constants with the smallest sum of squared pulls (robust: few quantities that cannot fit do not decide)."""
    start = start or TUNED[simulated.dataset]
    names = [f.name for f in fields(start) if f.name not in FIXED]
    values = np.array([getattr(start, name) for name in names])

    groups = targets(simulated)

    def difference(factors: np.ndarray) -> np.ndarray:
        return pulls(simulated.dataset, groups, replace(start, **dict(zip(names, values * factors, strict=True))))

    fit = least_squares(
        difference, np.ones(len(names)), diff_step=STEP, loss="soft_l1", bounds=(0.05, 20.0), max_nfev=12
    )
    found = replace(start, **dict(zip(names, (values * fit.x).tolist(), strict=True)))
    # The response is one number among many to the fit, and the first that anybody looks at: it is set exactly.
    made = shower(simulated.dataset, np.tile(simulated.incident, -(-SHOWERS // len(simulated))), 1, found)
    wanted = (simulated.voxels.sum(1) / simulated.incident).mean()
    got = (made.sum(1).reshape(-1, len(simulated)) / simulated.incident).mean()
    return replace(found, response=float(found.response * wanted / got))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: print the constants that fit a folder of simulated showers."""
    parser = argparse.ArgumentParser(prog="python -m bithep_lib.simulate.gflash_tuning")
    parser.add_argument("dataset", choices=sorted(TUNED))
    parser.add_argument("folder", help="showers of Geant4")
    parser.add_argument("-n", type=int, help="use the first n")
    options = parser.parse_args(arguments)
    simulated = calochallenge.load(options.folder, options.dataset, options.n)
    groups = targets(simulated)
    for name, tuning in (("now", TUNED[options.dataset]), ("fitted", tune(simulated))):
        numbers = ", ".join(f"{key}={value:.3g}" for key, value in asdict(tuning).items())
        print(
            f"{name}: rms pull {np.sqrt((pulls(options.dataset, groups, tuning) ** 2).mean()):.2f}; Tuning({numbers})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
