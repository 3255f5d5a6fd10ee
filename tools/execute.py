"""Execute notebooks with papermill: two at a time, one thread each, time and memory measured."""

import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tools.notebooks import ROOT, all_notebooks, normalise, read, shown, write

AT_A_TIME = 2
MEMORY_GIB = 1.5
"""What Binder gives a notebook to live in at scale "book"."""


@dataclass(frozen=True)
class Execution:
    """What one execution took: seconds of wall time, peak resident memory of the kernel in GiB, and the error."""

    notebook: str
    seconds: float
    peak_gib: float
    error: str | None


def _worker(source: str, target: str, parameters: str) -> None:
    """Run in a process of its own, whose children are this notebook's kernel and nothing else."""
    import resource

    import papermill

    error = None
    try:
        papermill.execute_notebook(
            source, target, parameters=json.loads(parameters) or None, cwd=str(Path(source).parent), progress_bar=False
        )
    except papermill.PapermillExecutionError as failure:
        error = f"cell {failure.exec_count}: {failure.ename}: {failure.evalue}"
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    print("\n" + json.dumps({"peak_gib": peak, "error": error}))


def execute(source: Path, target: Path, parameters: dict | None = None) -> Execution:
    """Execute one notebook into ``target``, in normal form; nothing is written there where a cell fails.

    The partial result of a failed execution is kept in ``_build/failed``.
    """
    part = ROOT / "_build" / "running" / f"{os.getpid()}-{source.name}"
    part.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    # One thread a kernel, and no note about frozen modules in an output.
    # (With any other backend than the inline one a Figure is shown as its name only.)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    environment |= {"PYTHONHASHSEED": "0", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    command = [sys.executable, "-m", "tools.execute", str(source), str(part), json.dumps(parameters or {})]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - started
    try:
        outcome = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        outcome = {
            "peak_gib": 0.0,
            "error": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1],
        }
    error = outcome["error"]
    if error is None:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(target, normalise(read(part)))
        part.unlink()
    elif part.exists():
        failed = ROOT / "_build" / "failed" / source.name
        failed.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, failed)
        error += f" (as far as it got: {shown(failed)})"
    return Execution(source.name, seconds, outcome["peak_gib"], error)


def execute_all(jobs: list[tuple[Path, Path]], parameters: dict | None = None) -> list[Execution]:
    """Execute ``(source, target)`` pairs and report each as it ends, in the order given."""

    def run(job: tuple[Path, Path]) -> Execution:
        print(f"execute: {job[0].name} ...", flush=True)
        return execute(*job, parameters)

    finished = []
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for done in pool.map(run, jobs):
            finished.append(done)
            if done.error:
                print(f"error: {done.notebook}: {done.error}", file=sys.stderr, flush=True)
            else:
                note = "" if done.peak_gib < MEMORY_GIB else f" (more than the {MEMORY_GIB} GiB of Binder)"
                print(
                    f"execute: {done.notebook} done in {done.seconds:.0f} s, {done.peak_gib:.2f} GiB{note}", flush=True
                )
    return finished


def store(executions: dict[str, list[Execution]]) -> None:
    """Keep time and memory, by scale, in ``book/executions.json``, from which the book's tables are made.

    Of a notebook that was not executed now, the earlier measurement stays.
    """
    file = ROOT / "book" / "executions.json"
    known = json.loads(file.read_text(encoding="utf-8"))["notebooks"] if file.exists() else {}
    for scale, finished in executions.items():
        for done in finished:
            if done.error is None:
                measured = {"seconds": round(done.seconds), "peak_gib": round(done.peak_gib, 2)}
                known.setdefault(done.notebook, {})[scale] = measured
    present = {path.name for path in all_notebooks()}
    content = {"machine": machine(), "notebooks": {name: known[name] for name in sorted(present & set(known))}}
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(part, file)


def machine() -> str:
    """The processor, for a sentence."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{os.cpu_count()} cores of {model}"


if __name__ == "__main__":
    _worker(*sys.argv[1:])
