"""What the stored runs of all chapters share: a training is done once, resumed, recorded, compared and stored.

A chapter writes a `Campaign` (how one of its variants is trained and judged) and hands it to `main`, which is the
command line ``python -m bithep_lib.experiments.<chapter>``.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bithep_lib import native, stored, study
from bithep_lib.files import write_atomic
from bithep_lib.quantize import QuantReport
from bithep_lib.study.storage import file_name
from bithep_lib.suggest import did_you_mean
from bithep_lib.train import FitResult


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a training leaves: its course, and the arrays that a chapter adds.

    Attributes:
        train_loss, valid_loss: of each epoch, (E,).
        best_epoch: the epoch whose weights were judged, counted from 1.
        seconds: of training and judging.
    """

    train_loss: NDArray[np.float64]
    valid_loss: NDArray[np.float64]
    best_epoch: int
    seconds: float

    def history(self, *columns: str) -> dict[str, NDArray]:
        """The course of the training by epoch: losses, and further ones of the arrays."""
        course = {name: getattr(self, name) for name in ("train_loss", "valid_loss", *columns)}
        return {"epoch": np.arange(1, len(self.valid_loss) + 1)} | course

    def save(self, path: Path) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **asdict(self))
        write_atomic(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self:
        with np.load(path) as file:
            values = {name: file[name] for name in cls.__dataclass_fields__}
        return cls(**values | {"best_epoch": int(values["best_epoch"]), "seconds": float(values["seconds"])})


class Campaign(ABC):
    """Trainings of one `study.Run` on the same data, in the split that the setting ``seed`` of the run draws.

    Args:
        run: of this chapter. A training has its own seed.
        fingerprint: of the data.

    Attributes:
        chapter: its name in `study.SCALES`.
        variants: what can be trained, by the name that stands in the record.
        outcome: what a training of this chapter leaves.
    """

    chapter: ClassVar[str]
    variants: ClassVar[Mapping[str, Any]]
    outcome: ClassVar[type[Outcome]]

    def __init__(self, run: study.Run, fingerprint: str) -> None:
        self.run = run
        self.fingerprint = fingerprint

    @abstractmethod
    def fit(self, name: str, seed: int) -> tuple[nn.Module, Any, FitResult]:
        """The network, from the last finished epoch on; with the data it was given."""

    @abstractmethod
    def judge(self, model: nn.Module, data: Any) -> dict[str, NDArray]:
        """The arrays that `outcome` has beyond the course of the training."""

    @abstractmethod
    def record(self, name: str, seed: int, outcome: Any) -> Path:
        """Metrics and curves of a training as a run record."""

    @abstractmethod
    def compare(self, first: str, second: str, seeds: Sequence[int]) -> Path:
        """What the second variant has more than the first, same data and seeds, as a record of its own."""

    @abstractmethod
    def arguments(self, name: str) -> dict[str, Any]:
        """The arguments with which a stored network is built again."""

    def train(self, name: str, seed: int) -> Outcome | None:
        """Train a variant, or read what an earlier call left; None when the time of the run was over before the end."""
        path = self.path(name, seed, "outcomes", "npz")
        if path.exists():
            return self.outcome.load(path)
        model, data, result = self.fit(name, seed)
        trained = time.monotonic()
        if result.stopped_early:
            self.run.left_out.append(f"{name} with seed {seed} after {len(result.history)} of {self.run.epochs} epochs")
            return None
        course = {
            name: result.history[name].to_numpy()
            for name in self.outcome.__dataclass_fields__
            if name in result.history
        }
        outcome = self.outcome(
            **course,
            **self.judge(model, data),
            best_epoch=result.kept_epoch,
            seconds=result.seconds + time.monotonic() - trained,
        )
        outcome.save(path)
        return outcome

    def store(self, name: str, seed: int, folder: Path) -> Path:
        """Put a finished training where `bithep_lib.load` finds it, as ``<chapter>/<name>`` in `folder`.

        A name that begins with the chapter's does not repeat it.
        """
        self.finished(name, seed)
        model, _, _ = self.fit(name, seed)
        about = {"variant": name, "scale": self.run.scale, "seed": seed, "data": self.fingerprint}
        about |= {
            key: getattr(self.run, key) for key in ("n_train", "n_valid", "epochs", "batch_size", "learning_rate")
        }
        about |= self.about()
        file = f"{self.chapter}/" + name.removeprefix(f"{self.chapter}/").replace("/", "-").replace(" ", "-")
        return stored.save(model, file, folder, arguments=self.arguments(name), about=about)

    def finished(self, name: str, seed: int) -> Any:
        """What the training left.

        Raises:
            ValueError: it has not been done.
        """
        path = self.path(name, seed, "outcomes", "npz")
        if not path.exists():
            raise ValueError(
                f"{name} with seed {seed} has not been trained at scale {self.run.scale} with these settings"
            )
        return self.outcome.load(path)

    def about(self) -> dict[str, Any]:
        """What is said of a stored network beyond its training."""
        return {}

    def parameters(self, name: str) -> dict[str, Any]:
        """What makes a training this one, beyond the settings of the run."""
        return {"network": asdict(self.variants[name]), "split_seed": self.run.seed, "schedule": "cosine"}

    def path(self, name: str, seed: int, folder: str, ending: str) -> Path:
        """A file of this training, by a name that says all that its record says, but for the backend."""
        settings = {key: value for key, value in asdict(self.run.settings).items() if key not in ("output_dir", "seed")}
        content = {
            "chapter": self.run.chapter,
            "scale": self.run.scale,
            "variant": name,
            "seed": seed,
            "parameters": settings | self.parameters(name),
            "data": self.fingerprint,
            "backend": "any",
        }
        return self.run.output_dir / folder / f"{Path(file_name(content)).stem}.{ending}"


def backend(report: QuantReport) -> str:
    """What computes the layers in bits, for a record."""
    return "native" if report.quantized and native.kernel() is not None else "torch"


Action = Callable[[study.Run], Path | list[Path]]


def main(
    campaign: Callable[[study.Run], Campaign] | type[Campaign],
    description: str | None,
    arguments: Sequence[str] | None = None,
    actions: Mapping[str, tuple[Action, str]] | None = None,
) -> int:
    """The command line of a chapter's runs.

    Args:
        campaign: the class of the chapter, made from a run.
        description: what ``--help`` says.
        arguments: of the command line.
        actions: options that record something without a training: name to what is called, and its help.

    Returns:
        Exit code 0; 2 when an argument is wrong; 130 after Ctrl-C (the finished epochs are kept).
    """
    actions, variants = actions or {}, campaign.variants
    parser = argparse.ArgumentParser(
        prog=f"python -m bithep_lib.experiments.{campaign.chapter}", description=description
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help="what to train; --list shows them")
    parser.add_argument("--compare", nargs=2, metavar="VARIANT", help="record the difference of two that are trained")
    for name, (_, text) in actions.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_argument(
        "--store", metavar="FOLDER", help="store the networks of the first seed there, for bithep_lib.load"
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="of the trainings (default: the scale's)")
    parser.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="scale, or any setting of it")
    parser.add_argument("--list", action="store_true", help="list the variants")
    options = parser.parse_args(arguments)
    try:
        if options.list:
            print("\n".join(variants))
            return 0
        for name in (*options.variants, *(options.compare or ())):
            if name not in variants:
                raise ValueError(f"there is no variant {name!r}{did_you_mean(name, variants)}; --list shows them all")
        run = study.setup(campaign.chapter, **dict(map(_parameter, options.p)))
        asked = [act for name, (act, _) in actions.items() if getattr(options, name)]
        for act in asked:
            done = act(run)
            print(*(done if isinstance(done, list) else [done]), sep="\n")
        if asked:
            return 0
        trainings, seeds = campaign(run), options.seeds or run.seeds
        for seed in seeds:  # all variants of one seed first, so that there are pairs as early as can be
            for name in options.variants:
                if run.out_of_time(f"{name} with seed {seed}"):
                    continue
                outcome = trainings.train(name, seed)
                if outcome is not None:
                    print(trainings.record(name, seed, outcome), flush=True)
        if options.store:
            for name in options.variants:
                print(trainings.store(name, seeds[0], Path(options.store)))
        if options.compare:
            print(trainings.compare(*options.compare, seeds))
        for what in run.left_out:
            print(f"left out: {what}", file=sys.stderr)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(stopped, file=sys.stderr)
        return 130
    return 0


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"-p {text}: write NAME=VALUE, for instance -p scale=smoke")
    try:
        return name, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return name, value
