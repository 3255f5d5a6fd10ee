"""Judge samples of showers whose quality is known, and record what the judge said.

    python -m bithep_lib.experiments.showers floor smear-0.1 gflash --inputs high low -p scale=laptop

A sample is ``floor`` (simulation against simulation), ``gflash`` (the parametrisation) or a sabotage with its
strength, ``smear-0.1`` (see `evaluate.sabotage`). A test that was stopped goes on where it stopped, and its record is
written as soon as it is done.
"""

from __future__ import annotations

import argparse
import ast
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bithep_lib import study
from bithep_lib.data.calochallenge import Showers, load, split
from bithep_lib.evaluate.classifier_test import CLASSIFIER, INPUTS, ClassifierResult, Inputs, Judge, classifier_test
from bithep_lib.evaluate.memorisation import memorisation
from bithep_lib.evaluate.sabotage import SABOTAGE, sabotage

__all__ = ["SHARES", "judge_of", "record", "run_test", "sample", "sizes"]

SHARES = {"train": 0.3, "valid": 0.1, "reference": 0.3, "floor": 0.3}
"""How `n_showers` is divided."""


def sizes(n: int) -> dict[str, int]:
    """The sizes of the four sets from the number of all showers.

    >>> sizes(1000)
    {'train': 300, 'valid': 100, 'reference': 300, 'floor': 300}
    """
    return {name: int(round(share * n, 6)) for name, share in SHARES.items()}


def judge_of(run: study.Run, repetitions: int | None = None) -> Judge:
    """The four sets of a run of the page on showers, and its classifier.

    Args:
        run: from ``study.setup("showers", ...)``.
        repetitions: fewer (or more) than the settings say.
    """
    settings = CLASSIFIER[run.classifier]
    if repetitions is not None:
        settings = replace(settings, repetitions=repetitions)
    showers = load(run.data, run.dataset, run.n_showers)
    parts = split(showers, sizes(run.n_showers), seed=run.seed)
    return Judge(**parts, settings=settings, seed=run.seed, device=str(run.device), progress=sys.stderr.isatty())


def sample(judge: Judge, name: str) -> Showers:
    """Showers to be judged, by name; what is sabotaged are the showers of the floor.

    Raises:
        ValueError: an unknown name.
    """
    from bithep_lib.simulate import gflash

    dataset, size = judge.reference.dataset, len(judge.reference)
    if name == "gflash":
        return Showers(judge.energies, gflash.shower(dataset, judge.energies, judge.seed), dataset, "GFLASH")
    if name == "floor":
        return judge.floor[:size]
    kind, _, strength = name.rpartition("-")
    if kind not in SABOTAGE:
        raise ValueError(
            f"a sample is 'floor', 'gflash' or one of {', '.join(SABOTAGE)} with '-strength', got {name!r}"
        )
    return sabotage(judge.floor[:size], kind, float(strength), judge.seed)


def run_test(judge: Judge, name: str, inputs: Inputs, checkpoint: Path | None = None) -> ClassifierResult:
    """The classifier test of a sample."""
    return classifier_test(
        sample(judge, name),
        judge.reference,
        inputs=inputs,
        paired=name == "gflash",
        settings=judge.settings,
        seed=judge.seed,
        device=judge.device,
        checkpoint=checkpoint,
        progress=judge.progress,
    )


def record(
    run: study.Run, judge: Judge, name: str, inputs: Inputs, wall_seconds: float, result: ClassifierResult
) -> Path:
    """The result as a run record, with the neighbours of the sample."""
    found = memorisation(sample(judge, name), judge.train, judge.floor if name == "gflash" else judge.reference)
    return study.record(
        run,
        variant=f"{name}/{inputs}",
        metrics=result.metrics() | {"closer": found.closer, "copies": found.copies},
        data=judge.reference.fingerprint,
        curves={"repetitions": result.curve()},
        wall_seconds=wall_seconds,
        judge=asdict(result.settings),
        n_judged=result.n,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 0, or 2 for a wrong parameter."""
    parser = argparse.ArgumentParser(
        prog="python -m bithep_lib.experiments.showers", description=__doc__.split("\n")[0]
    )
    parser.add_argument("samples", nargs="+", help="floor, gflash, or a sabotage with its strength: smear-0.1")
    parser.add_argument("--inputs", nargs="+", choices=INPUTS, default=["high"])
    parser.add_argument("--repetitions", type=int, help="of the classifier (default: as its settings say)")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args(arguments)
    try:
        parameters = dict(_parameter(text) for text in options.parameter)
        run = study.setup("showers", **parameters)
        judge = judge_of(run, options.repetitions)
        for name in options.samples:
            for inputs in options.inputs:
                started = time.monotonic()
                result = run_test(judge, name, inputs, _checkpoints(run, judge, name))
                path = record(run, judge, name, inputs, time.monotonic() - started, result)
                print(f"{name}: {result}; {path.name}", flush=True)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _checkpoints(run: study.Run, judge: Judge, name: str) -> Path:
    """A folder of its own for each sample, size and classifier."""
    key = f"{run.dataset}-{name}-{run.classifier}-{len(judge.reference)}-{judge.reference.fingerprint[:8]}-{run.seed}"
    return run.output_dir / "judge" / key


def _parameter(text: str) -> tuple[str, object]:
    name, sign, value = text.partition("=")
    if not sign:
        raise study.ParameterError(f"-p {text}: write NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


if __name__ == "__main__":
    sys.exit(main())
