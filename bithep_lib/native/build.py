"""Compile the kernel once, into the cache, for the processor at hand.

The file's name holds a hash of everything that decides its content: the source, the compiler and its flags, and the
features of the processor. What an older source or another machine left in a cache is therefore never used by mistake.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("bitlinear.cpp")

FLAGS = (
    "-O3",
    "-mavx2",
    "-mfma",
    "-ffp-contract=off",  # a fused multiply-add rounds once where torch rounds twice: a quarter of the outputs differ
    "-fno-tree-pre",  # GCC 12 would otherwise move the running sums from registers to memory
    "-std=c++17",
    "-fopenmp",
    "-shared",
    "-fPIC",
)


class BuildError(RuntimeError):
    """The kernel cannot be built here; the message says why."""


@dataclass(frozen=True)
class Instructions:
    """A variant of the kernel: what the processor must have, and what the compiler must be told."""

    name: str
    needs: frozenset[str]
    flags: tuple[str, ...] = ()


VARIANTS = (
    Instructions(
        "avx512_vnni",
        frozenset({"avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"}),
        ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mprefer-vector-width=512"),
    ),
    Instructions("avx_vnni", frozenset({"avx2", "fma", "avx_vnni"}), ("-mavxvnni",)),
    Instructions("avx2", frozenset({"avx2", "fma"})),
)
"""Best first."""


def cpu_flags() -> frozenset[str]:
    """The processor's features as Linux names them; empty where /proc/cpuinfo does not exist."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), []))


def usable_variants(flags: frozenset[str] | None = None) -> tuple[Instructions, ...]:
    """The variants that this processor (or one with these ``flags``) can run, best first.

    Raises:
        BuildError: there is none.
    """
    flags = cpu_flags() if flags is None else flags
    usable = tuple(variant for variant in VARIANTS if variant.needs <= flags)
    if not usable:
        raise BuildError(
            f"the processor ({platform.machine() or 'unknown'}) has no AVX2, or the system does not say so"
        )
    return usable


def library_path(variant: Instructions, folder: Path, flags: frozenset[str] | None = None) -> Path:
    """Where the compiled variant lies in ``folder``, for a processor with these ``flags`` (default: this one)."""
    flags = cpu_flags() if flags is None else flags
    recipe = [SOURCE.read_text(), *_compiler(), *FLAGS, *variant.flags, *sorted(flags)]
    return folder / f"bitlinear-{variant.name}-{hashlib.sha256(chr(10).join(recipe).encode()).hexdigest()[:16]}.so"


def build(variant: Instructions, folder: Path) -> Path:
    """The compiled variant in ``folder``, compiled now if it is not there.

    Several processes may build at once: each compiles to a file of its own and renames it, so that a library that can
    be found is complete.

    Raises:
        BuildError: there is no compiler, or it fails; the message ends with the compiler's last words.
        OSError: the folder cannot be written.
    """
    path = library_path(variant, folder)
    if path.exists():
        return path
    compiler = _compiler()
    if shutil.which(compiler[0]) is None:
        raise BuildError(f"there is no C++ compiler: {compiler[0]!r} is not on the PATH (set CXX to name another)")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as temporary:
        output = Path(temporary) / path.name
        command = [*compiler, *FLAGS, *variant.flags, str(SOURCE), "-o", str(output)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=600)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"{shlex.join(command)} did not finish: {error}") from error
        if result.returncode != 0 or not output.exists():
            words = "\n".join(result.stderr.strip().splitlines()[-5:])
            raise BuildError(f"{shlex.join(command)} failed with code {result.returncode}:\n{words}")
        os.replace(output, path)
    return path


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX", "")) or ["g++"]
