"""Run the workflow on this machine: ``python -m tools.scan smoke [arguments of snakemake]``.

What was begun is continued, also after the workflow was killed: Snakemake's own lock on its folder outlives a kill and
would have to be removed by hand, so here the lock is one that the system takes back from a process that ends.
"""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from tools.notebooks import ROOT, shown

FOLDER = ROOT / "_build" / "scan"


def command(grid: str, arguments: list[str], folder: Path = FOLDER) -> list[str]:
    """The call of Snakemake. ``arguments`` come last, so that they decide."""
    base = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    return [*base, "--directory", str(folder), "--nolock", "--config", f"grid={grid}", *arguments]


def main(arguments: list[str] | None = None) -> int:
    """Snakemake's exit code; 2 where another scan is running."""
    grid, *rest = sys.argv[1:] if arguments is None else arguments
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"error: another scan is running in {shown(FOLDER)}", file=sys.stderr)
            return 2
        # The jobs call `python`: this one, also where the environment was not activated.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        code = subprocess.run(command(grid, rest), env=os.environ | {"PATH": path}).returncode
    if code == 0:
        print(f"scan: done. Open {shown(FOLDER / grid / 'results.html')}")
    return code


if __name__ == "__main__":
    sys.exit(main())
