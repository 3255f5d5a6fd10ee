"""The command line that the simulations of jets share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["run"]


def run(generate: Callable[..., list[Path]], module: str, jets: str, arguments: Sequence[str] | None = None) -> int:
    """Call ``generate`` with the options of a command line.

    Args:
        generate: of (n_jets, seed, output, workers, part=(task, tasks)), returns the files.
        module: its module, after ``python -m``.
        jets: what ``--help`` says about ``--n-jets``.
        arguments: of the command line.

    Returns:
        Exit code 0; 2 when an argument is wrong or a file cannot be written; 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=(generate.__doc__ or "").split("\n")[0])
    parser.add_argument("-n", "--n-jets", type=int, default=10_000, help=jets)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--output", help="folder (default: below $BITHEP_CACHE)")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="shards of task I of a cluster array of N tasks")
    options = parser.parse_args(arguments)
    try:
        task, tasks = map(int, options.part.split("/"))
    except ValueError:
        parser.error(f"--part must look like 3/20, got {options.part!r}")
    try:
        paths = generate(options.n_jets, options.seed, options.output, options.workers, part=(task, tasks))
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{len(paths)} files in {paths[0].parent}" if paths else "no shard for this part")
    return 0
