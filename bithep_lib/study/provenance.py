"""Where a number comes from: the commit, the versions and the machine that made it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

PACKAGE = Path(__file__).resolve().parents[1]


def commit() -> tuple[str | None, bool | None]:
    """The git commit of the library that is running, and whether its files differ from that commit.

    (None, None) where that cannot be known: an installed package that did not come from a git repository.
    """
    try:
        # A library installed into a virtual environment inside some other repository is not that repository's.
        if Path(_git("rev-parse", "--show-toplevel")).resolve() == PACKAGE.parent:
            code = ("bithep_lib", ":!bithep_lib/records", ":!bithep_lib/weights")  # results do not make results
            return _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--", *code))
    except (OSError, subprocess.SubprocessError):
        pass
    try:  # pip install git+https://... leaves the commit in the metadata (PEP 610)
        origin = json.loads(metadata.distribution("bithep_lib").read_text("direct_url.json") or "{}")
        return origin["vcs_info"]["commit_id"], False
    except (metadata.PackageNotFoundError, KeyError, ValueError):
        return None, None


def provenance(device: torch.device) -> dict[str, Any]:
    """Commit, versions and machine, as plain JSON values. Nothing in it names a person, a host or a folder."""
    revision, dirty = commit()
    return {
        "commit": revision,
        "modified": dirty,
        "versions": {name: _version(name) for name in ("bithep_lib", "torch", "numpy", "lightning", "scikit-learn")}
        | {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def peak_memory_mib() -> float:
    """The largest resident memory this process has had, in MiB."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, kiB elsewhere
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(PACKAGE.parent), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
