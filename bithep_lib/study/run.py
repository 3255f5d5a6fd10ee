"""`setup`: the second cell of every notebook, where parameters become settings or a clear error."""

from __future__ import annotations

import math
import os
import tempfile
import time
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from bithep_lib.data.cache import cache_dir
from bithep_lib.study import provenance
from bithep_lib.study.parameters import ParameterError, check
from bithep_lib.study.scales import SCALE_NAMES, SCALES
from bithep_lib.study.settings import Settings
from bithep_lib.suggest import did_you_mean


@dataclass(frozen=True)
class Run:
    """One execution of a chapter. Every setting is an attribute: ``run.n_train``, ``run.epochs``, ...

    Attributes:
        chapter: for instance ``"quark_gluon"``.
        scale: ``"smoke"``, ``"book"``, ``"laptop"`` or ``"paper"``.
        settings: the settings of the scale, overridden by the parameters given.
        given: the names of the settings that were given as parameters.
        device: the device the setting ``device`` stands for on this machine.
        left_out: what `out_of_time` refused to start.
    """

    chapter: str
    scale: str
    settings: Settings
    given: tuple[str, ...]
    device: torch.device
    left_out: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic, repr=False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "settings" not in self.__dict__:  # copy and pickle ask before there are settings
            raise AttributeError(name)
        known = asdict(self.settings)
        if name not in known:
            raise AttributeError(f"chapter {self.chapter!r} has no setting {name!r}{did_you_mean(name, known)}")
        return known[name]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the trainings: seed, seed + 1, ..., n_seeds of them (1 where a chapter has no ``n_seeds``)."""
        return tuple(range(self.seed, self.seed + getattr(self.settings, "n_seeds", 1)))

    @property
    def output_dir(self) -> Path:
        """Where records and checkpoints of this run go: as given, or ``$BITHEP_CACHE/runs/<chapter>/<scale>``."""
        given = self.settings.output_dir
        return Path(given) if given else cache_dir("runs", self.chapter, self.scale)

    def time_left(self) -> float:
        """Seconds until ``max_minutes`` are over, never below 0; infinite when there is no limit."""
        limit = self.settings.max_minutes
        return math.inf if limit is None else max(0.0, 60.0 * limit - self.elapsed())

    def minutes_left(self) -> float | None:
        """`time_left` in minutes, None when there is no limit: what ``train.fit(max_minutes=...)`` takes."""
        return None if self.settings.max_minutes is None else self.time_left() / 60

    def elapsed(self) -> float:
        """Seconds since `setup`."""
        return time.monotonic() - self.started

    def out_of_time(self, what: str) -> bool:
        """Whether the time is over; if so, `what` is noted in `left_out`.

        >>> for seed in run.seeds:                              # doctest: +SKIP
        ...     if run.out_of_time(f"training with seed {seed}"):
        ...         continue
        """
        over = self.time_left() <= 0
        if over:
            self.left_out.append(what)
        return over

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Commit, versions and machine (see `study.provenance`)."""
        return provenance.provenance(self.device)

    def summary(self) -> pd.DataFrame:
        """The settings as a table: value, where it comes from, meaning.

        It is the same on every machine: no timings, no resolved device, no folders, so that it can be a checked output.
        """
        rows = {}
        for item in fields(self.settings):
            if item.name == "output_dir":
                continue
            value = getattr(self.settings, item.name)
            shown = "no limit" if value is None else ", ".join(value) if isinstance(value, tuple) else str(value)
            origin = "parameter" if item.name in self.given else f"scale {self.scale}"
            rows[item.name] = {"value": shown, "from": origin, "meaning": item.metadata["kind"].doc}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"chapter {self.chapter}")


def setup(chapter: str, *, scale: str = "book", **parameters: Any) -> Run:
    """Check a chapter's parameters and merge them with the settings of a scale.

    Args:
        chapter: ``"bitlinear"``, ``"jets"``, ``"quark_gluon"``, ``"real_bits"`` (see `study.scales`).
        scale: ``"smoke"``, ``"book"``, ``"laptop"`` or ``"paper"``.
        **parameters: any setting of the chapter by name; None stands for the scale's value.

    Returns:
        The run. PyTorch's number of threads is set; its random state is left alone, since everything that draws numbers
        takes an explicit seed.

    Raises:
        ParameterError: (a ValueError) an unknown name, a wrong type, an impossible value, a device that is not there or
            a folder that cannot be written. One line, with the values allowed.
    """
    settings = resolve(chapter, scale, parameters)
    place = _device(settings.device)
    if settings.output_dir is not None:
        _check_writable(settings.output_dir)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    given = tuple(name for name, value in parameters.items() if value is not None)
    return Run(chapter=chapter, scale=scale, settings=settings, given=given, device=place)


def resolve(chapter: str, scale: str, parameters: dict[str, Any]) -> Settings:
    """The settings that `setup` would use, without touching the machine (no folder, no device, no threads).

    Raises:
        ParameterError: as `setup`.
    """
    if chapter not in SCALES:
        raise ParameterError(
            f"there is no chapter {chapter!r}{did_you_mean(chapter, SCALES)}; the chapters are {', '.join(SCALES)}"
        )
    if scale not in SCALE_NAMES:
        raise ParameterError(
            f"scale={scale!r} is not allowed: scale is one of {', '.join(map(repr, SCALE_NAMES))}"
            f"{did_you_mean(str(scale), SCALE_NAMES)}"
        )
    settings = SCALES[chapter][scale]
    return replace(settings, **check(settings, f"chapter {chapter!r}", parameters))


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    place = torch.device(name)
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise ParameterError(f"device={name!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise ParameterError(f"device={name!r}: this machine has no Apple GPU that PyTorch can use")
    return place


def _check_writable(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise ParameterError(f"output_dir={path!r} is not a folder that can be written: {reason}") from error
