"""Run records: a number worth quoting is a JSON file that says how it was made.

A run writes its records to its output folder (`record`); ``make records``, which calls ``python -m bithep_lib.study
collect``, takes them into the package; `records` reads them from there as a table.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from bithep_lib.files import write_atomic
from bithep_lib.study import statements
from bithep_lib.study.provenance import peak_memory_mib
from bithep_lib.study.run import Run
from bithep_lib.study.scales import SCALE_NAMES, SCALES
from bithep_lib.study.verdicts import Measurement
from bithep_lib.suggest import did_you_mean

SCHEMA = 1

_FIELDS: dict[str, type | tuple[type, ...]] = {
    "schema": int,
    "chapter": str,
    "variant": str,
    "scale": str,
    "seed": int,
    "parameters": dict,
    "data": str,
    "backend": str,
    "metrics": dict,
    "curves": dict,
    "claims": dict,
    "left_out": list,
    "wall_seconds": (int, float),
    "peak_memory_mib": (int, float),
    "finished": str,
    "provenance": dict,
}
# Settings that say where, how long and how many trainings, and do not make one training another.
_NOT_IDENTITY = ("device", "threads", "max_minutes", "n_seeds", "strategies", "setups", "weights")


def record(
    run: Run,
    *,
    variant: str,
    metrics: Mapping[str, Any],
    data: str,
    seed: int | None = None,
    backend: str = "torch",
    curves: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    claims: Mapping[str, Measurement] | None = None,
    wall_seconds: float | None = None,
    **parameters: Any,
) -> Path:
    """Write one result as a JSON record under ``run.output_dir / "records"``, atomically.

    Args:
        run: what `study.setup` returned.
        variant: what was run, for instance ``"pfn/all"``.
        metrics: name to number, or to anything with ``value`` and ``error``.
        data: fingerprint of the data.
        seed: of this training; by default ``run.seed``.
        backend: what did the low-bit arithmetic, ``"torch"`` or ``"native"``.
        curves: name to columns of numbers, for figures: ``{"roc": {"signal": [...], "background": [...]}}``.
        claims: claim id to its measurement (see `study.claims`).
        wall_seconds: time of this result; by default since `study.setup`.
        **parameters: settings beyond the run's own, for instance the sizes of the network.

    Returns:
        The file. A record of the same run with other numbers is kept beside it as ``*.superseded-1.json``, and a
        warning says so.

    Raises:
        ValueError: the record is not valid: a metric that is not finite, an unknown claim, a name with odd characters.
        OSError: the file cannot be written.
    """
    settings = {name: value for name, value in asdict(run.settings).items() if name not in ("output_dir", "seed")}
    if os.sep in (source := settings.get("data", "")):
        settings["data"] = Path(source).name  # a user's own file: the fingerprint identifies it, its folder is private
    content = {
        "schema": SCHEMA,
        "chapter": run.chapter,
        "variant": variant,
        "scale": run.scale,
        "seed": run.seed if seed is None else int(seed),
        "parameters": _plain(settings | parameters),
        "data": data,
        "backend": backend,
        "metrics": {name: _plain(value) for name, value in metrics.items()},
        "curves": {name: _plain(columns) for name, columns in (curves or {}).items()},
        "claims": {name: asdict(measured) for name, measured in (claims or {}).items()},
        "left_out": list(run.left_out),
        "wall_seconds": round(run.elapsed() if wall_seconds is None else wall_seconds, 1),
        "peak_memory_mib": round(_peak_memory_mib(run.device), 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "provenance": run.provenance,
    }
    check(content, "the record")
    known = [claim.id for claim in statements.claims(run.chapter)]
    if unknown := set(content["claims"]) - set(known):
        raise ValueError(
            f"chapter {run.chapter!r} has no claim {', '.join(sorted(unknown))}; it has {', '.join(known)}"
        )
    path = run.output_dir / "records" / file_name(content)
    if path.exists():
        if _result(load(path)) == _result(content):
            return path
        kept = _superseded(path)
        path.rename(kept)
        warnings.warn(f"{path.name} had other numbers; the old record is now {kept.name}", stacklevel=2)
    return write_atomic(path, _dump(content))


def records(
    chapter: str,
    scale: str | None = None,
    variant: str | None = None,
    *,
    folder: str | Path | None = None,
    **settings: Any,
) -> pd.DataFrame:
    """The stored records of a chapter, one row each, ordered by variant, scale and seed.

    Args:
        chapter: for instance ``"quark_gluon"``.
        scale: only this scale.
        variant: only this variant.
        folder: read records (of any depth) in this folder as well as those of the package, for instance
            ``run.output_dir``.
        **settings: only runs that had these settings, for instance ``dataset="ds2"``.

    Returns:
        Columns variant, scale, seed, one column a metric (and ``<metric>_error`` where there is one), then data,
        backend, commit, wall_seconds, peak_memory_mib, parameters (dict) and curves (dict). Empty when there are none.

    Raises:
        ValueError: an unknown chapter, scale or setting, or a file that is not a valid record (named).
    """
    if chapter not in SCALES:
        raise ValueError(f"there is no chapter {chapter!r}; the chapters are {', '.join(SCALES)}")
    if scale not in (None, *SCALE_NAMES):
        raise ValueError(f"there is no scale {scale!r}; the scales are {', '.join(SCALE_NAMES)}")
    known = [field.name for field in fields(SCALES[chapter][SCALE_NAMES[0]])]
    for name in settings:
        if name not in known:
            raise ValueError(f"chapter {chapter!r} has no setting {name!r}{did_you_mean(name, known)}")

    def asked_for(content: dict[str, Any]) -> bool:
        parameters = content["parameters"]
        return (
            content["chapter"] == chapter
            and scale in (None, content["scale"])
            and variant in (None, content["variant"])
            and all(name in parameters and parameters[name] == value for name, value in settings.items())
        )

    rows = [_row(content) for content in _read_all(folder) if asked_for(content)]
    first, last = ["variant", "scale", "seed"], ["data", "backend", "commit", "wall_seconds", "peak_memory_mib"]
    last += ["parameters", "curves"]
    metrics = sorted({name for row in rows for name in row} - {*first, *last})
    frame = pd.DataFrame(rows, columns=first + metrics + last)
    order = frame["scale"].map(SCALE_NAMES.index)
    frame = frame.assign(_order=order).sort_values(["variant", "_order", "seed"], kind="stable").drop(columns="_order")
    return frame.reset_index(drop=True)


def measurements(scale: str | None = None, *, folder: str | Path | None = None) -> dict[str, tuple[str, Measurement]]:
    """What the stored records measured for each claim: claim id to (scale, measurement).

    Without `scale`, each claim is taken from the largest scale that has measured it (never from ``smoke``).
    """
    found: dict[str, tuple[str, Measurement]] = {}
    wanted = SCALE_NAMES[1:] if scale is None else (scale,)
    contents = [content for content in _read_all(folder) if content["scale"] in wanted]
    for content in sorted(contents, key=lambda content: (SCALE_NAMES.index(content["scale"]), content["finished"])):
        found |= {name: (content["scale"], Measurement(**value)) for name, value in content["claims"].items()}
    return found


def check(content: Any, where: str) -> None:
    """Raise a ValueError that names `where` and the field when `content` is not a valid record."""

    def refuse(problem: str) -> None:
        raise ValueError(f"{where} is not a valid run record: {problem}")

    if not isinstance(content, dict):
        refuse("it is not a JSON object")
    if content.get("schema") != SCHEMA:
        refuse(f"schema is {content.get('schema')!r}, this version reads {SCHEMA}")
    if difference := set(_FIELDS) ^ set(content):
        refuse(f"the fields {', '.join(sorted(difference))} are missing or unknown")
    for name, kind in _FIELDS.items():
        if not isinstance(content[name], kind) or isinstance(content[name], bool):
            refuse(f"{name} is {content[name]!r}")
    if content["chapter"] not in SCALES or content["scale"] not in SCALE_NAMES:
        refuse(f"there is no chapter {content['chapter']!r} at scale {content['scale']!r}")
    if not re.fullmatch(r"[\w+./ =-]+", content["variant"]) or ".." in content["variant"]:
        refuse(f"variant {content['variant']!r} has characters other than letters, digits and _ + - . / = space")
    if not content["data"]:
        refuse("data has no fingerprint")
    for name, value in content["metrics"].items():
        values = list(value.values()) if isinstance(value, dict) else [value]
        if isinstance(value, dict) and set(value) != {"value", "error"}:
            refuse(f"metric {name!r} has the fields {sorted(value)}, not value and error")
        if not all(isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in values):
            refuse(f"metric {name!r} is {value!r}, not a finite number")
    for name, columns in content["curves"].items():
        if not isinstance(columns, dict) or len({len(column) for column in columns.values()}) > 1:
            refuse(f"the columns of curve {name!r} are not lists of equal length")
    for name, value in content["claims"].items():
        try:
            Measurement(**value)
        except (TypeError, ValueError) as error:
            refuse(f"claim {name!r}: {error}")


def load(path: Path) -> dict[str, Any]:
    """One record file, checked. Raises a ValueError that names the file."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not a valid run record: {error}") from error
    check(content, str(path))
    return content


def file_name(content: Mapping[str, Any]) -> str:
    """``<chapter>/<scale>/<variant>-seed<seed>-<hash of the parameters and the data>.json``."""
    identity = {name: value for name, value in content["parameters"].items() if name not in _NOT_IDENTITY}
    text = json.dumps([identity, content["data"], content["backend"]], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    variant = re.sub(r"[^\w+.-]+", "_", content["variant"])
    return f"{content['chapter']}/{content['scale']}/{variant}-seed{content['seed']}-{digest}.json"


def collect(source: Path, target: Path, *, replace: bool = False) -> tuple[list[str], list[str]]:
    """Copy the valid records under `source` into `target`; those of scale ``smoke`` mean nothing and stay.

    Returns:
        The names copied, and the names refused because `target` has the same run with other numbers (they are copied
        when `replace` is true).

    Raises:
        ValueError: a file is not a valid record. Nothing is copied then.
    """
    found = [load(path) for path in _files(source)]
    copied, refused = [], []
    for content in found:
        if content["scale"] == "smoke":
            continue
        name = file_name(content)
        path = target / name
        if path.exists() and _result(load(path)) == _result(content):
            continue
        if path.exists() and not replace:
            refused.append(name)
            continue
        write_atomic(path, _dump(content))
        copied.append(name)
    return copied, refused


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.json")):
        if ".superseded-" not in path.name and path.parent.parent.name in SCALES:
            yield path


def _read_all(folder: str | Path | None) -> list[dict[str, Any]]:
    """All records of the package, and those in `folder` that are not the same run."""
    with resources.as_file(resources.files("bithep_lib") / "records") as package:
        contents = {file_name(content): content for content in map(load, _files(package))}
    if folder is not None:
        contents |= {file_name(content): content for content in map(load, _files(Path(folder)))}
    return [contents[name] for name in sorted(contents)]


def _row(content: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {name: content[name] for name in ("variant", "scale", "seed")}
    for name, value in content["metrics"].items():
        if isinstance(value, dict):
            row |= {name: value["value"], f"{name}_error": value["error"]}
        else:
            row[name] = value
    row |= {name: content[name] for name in ("data", "backend", "wall_seconds", "peak_memory_mib")}
    return row | {"commit": content["provenance"].get("commit")} | {k: content[k] for k in ("parameters", "curves")}


def _result(content: Mapping[str, Any]) -> Any:
    """What makes two records of one run the same: the numbers, not the day or the machine."""
    return [content[name] for name in ("metrics", "curves", "claims", "left_out")]


def _superseded(path: Path) -> Path:
    number = 1
    while (kept := path.with_suffix(f".superseded-{number}.json")).exists():
        number += 1
    return kept


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it; floats of arrays are rounded to seven digits, a float32's worth."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return [float(f"{x:.7g}") if isinstance(x, float) else _plain(x) for x in value.tolist()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "value") and hasattr(value, "error"):
        return {"value": _plain(value.value), "error": _plain(value.error)}
    if isinstance(value, str | int | float | None):
        return value
    raise ValueError(f"a record cannot hold {value!r} of type {type(value).__name__}")


def _dump(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, indent=1, allow_nan=False)
    # A column of numbers on one line. A string holds no newline in JSON, so this touches lists only.
    return re.sub(r"\[\n([^\[\]{}]*)\n *\]", lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"


def _peak_memory_mib(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_memory_mib()
