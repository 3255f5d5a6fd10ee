"""``python -m bithep_lib.study collect [DIR] [--replace]``: take finished runs' records into the package."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bithep_lib.data.cache import cache_dir
from bithep_lib.study.provenance import PACKAGE
from bithep_lib.study.storage import collect


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 when a record is damaged or was left because the package has other numbers for the same run."""
    parser = argparse.ArgumentParser(prog="python -m bithep_lib.study")
    action = parser.add_subparsers(required=True).add_parser("collect", help="take records into the package")
    action.add_argument("folder", nargs="?", type=Path, default=cache_dir("runs"), help="default: the cache's runs")
    action.add_argument("--replace", action="store_true", help="replace stored records of the same run")
    options = parser.parse_args(arguments)
    try:
        copied, refused = collect(options.folder, PACKAGE / "records", replace=options.replace)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    for name in copied:
        print(f"records/{name}")
    for name in refused:
        print(f"left {name}: the package has other numbers for this run (--replace takes the new)", file=sys.stderr)
    print(f"{len(copied)} records taken, {len(refused)} left")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
