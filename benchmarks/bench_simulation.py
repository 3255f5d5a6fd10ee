"""What calorimeter showers cost to make: GFLASH in showers per second, Geant4 in milliseconds per GeV.

    python benchmarks/bench_simulation.py [--showers 512] [--geant4 50]

CPU seconds of one core. Geant4 runs in a process of its own, whose start (imports, geometry, physics tables) is
measured with a single low-energy particle, shown, and taken off.
"""

import argparse
import resource
import time
from dataclasses import asdict

from bithep_lib.data.calochallenge import geometry
from bithep_lib.simulate import gflash, showers
from bithep_lib.simulate.geant4 import environment
from bithep_lib.simulate.geant4.stacks import STACKS


def parametrised(dataset: str, n: int) -> float:
    """Showers per second of one core."""
    gflash.generate(dataset, 16)
    start = time.process_time()
    gflash.generate(dataset, n)
    return n / (time.process_time() - start)


def simulated(dataset: str, energy: float, total: float) -> tuple[float, float]:
    """Start of a process in s, and ms/GeV beyond it, for particles of ``energy`` MeV that add up to ``total`` MeV."""
    particle = geometry(dataset).particle
    job = {
        "dataset": dataset,
        "stack": [asdict(section) for section in STACKS[dataset]],
        "physics": showers.HADRONIC if particle == "pion" else showers.ELECTROMAGNETIC,
        "cut": showers.CUT,
        "particle": showers.PARTICLES[particle],
        "seed": 1,
        "rebuilt_tables": "G4LEDATA" not in environment.data_sets(),
        "read_out": showers.READ_OUT if particle == "pion" else None,
    }
    n = max(1, round(total / energy))
    begin, run = (_seconds(job | {"energies": energies}) for energies in ([100.0], [energy] * n))
    return begin, 1e6 * (run - begin) / (n * energy)


def _seconds(job: dict) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    showers.run_worker(job)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--showers", type=int, default=512, help="parametrised ones")
    parser.add_argument("--geant4", type=float, default=50.0, help="GeV to simulate for each data set; 0: none")
    options = parser.parse_args()
    print(f"{'GFLASH':24}{'showers/s':>12}")
    for dataset in gflash.TUNED:
        print(f"{dataset:24}{parametrised(dataset, options.showers):12.0f}")
    if not options.geant4:
        return
    print(f"{'Geant4':24}{'start / s':>12}{'ms/GeV':>12}")
    for dataset in STACKS:
        start, cost = simulated(dataset, 1e4, options.geant4 * 1e3)
        print(f"{dataset:24}{start:12.1f}{cost:12.1f}")


if __name__ == "__main__":
    main()
