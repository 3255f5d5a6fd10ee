"""Create the virtual environment of `make`: exact versions, checked before and explained after a failure.

Runs with whatever ``python3`` the machine has, before anything is installed: standard library only, and no
syntax newer than Python 3.6, so that a Python that is too old gets a sentence and not a traceback.
Usage: ``python3 tools/environment.py``.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
LOCK = os.path.join(ROOT, "requirements.lock")
STAMP = os.path.join(VENV, ".bithep-environment")
LOG = os.path.join(VENV, "pip.log")
MINIMUM = (3, 11)
FREE_GB = 4.0  # a CPU environment takes 2.3 GB, and pip unpacks beside it


class Failure(Exception):
    """A one-line explanation for the user."""


def venv_python():
    return os.path.join(VENV, "Scripts" if os.name == "nt" else "bin", "python")


def version_of(python):
    """(major, minor) of an interpreter, None where it does not run."""
    command = [python, "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        answer = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60, check=True
        ).stdout
        return tuple(int(part) for part in answer.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def find_python():
    """An interpreter that is new enough: the one running this file, else a newer one on the PATH."""
    if sys.version_info[:2] >= MINIMUM:
        return sys.executable
    for minor in (11, 12, 13, 14):
        found = shutil.which(f"python3.{minor}")
        if found and (version_of(found) or (0,)) >= MINIMUM:
            return found
    have = ".".join(map(str, sys.version_info[:2]))
    raise Failure(
        f"Python {MINIMUM[0]}.{MINIMUM[1]} or newer is needed, and {sys.executable} is {have}: "
        "install one, or name it with `make PYTHON=/path/to/python3.11`"
    )


def check_disk(path, needed_gb):
    free = shutil.disk_usage(path).free / 1e9
    if free < needed_gb:
        raise Failure(
            f"the disk is full: {free:.1f} GB are free in {path}, and the environment needs {needed_gb:.1f} GB"
        )


def wanted():
    """What the environment must have been made from: the pins, the package's metadata and the Python that runs it."""
    digest = hashlib.sha256(repr(version_of(venv_python())).encode())
    for name in (LOCK, os.path.join(ROOT, "pyproject.toml")):
        with open(name, "rb") as stream:
            digest.update(stream.read())
    return digest.hexdigest()


def up_to_date():
    try:
        with open(STAMP) as stream:
            return stream.read().strip() == wanted()
    except OSError:
        return False


def create():
    if (version_of(venv_python()) or (0,)) >= MINIMUM:
        return
    python = find_python()
    print(f"environment: creating .venv with {python}", flush=True)
    # --clear: what is left of an interrupted attempt, or of a Python that is gone, is no use.
    done = subprocess.run([python, "-m", "venv", "--clear", VENV], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        said = done.stdout.decode(errors="replace")
        if "ensurepip" in said:
            raise Failure(
                "this Python cannot make virtual environments: install its venv module (Debian, Ubuntu: python3-venv)"
            )
        reason = (said.strip().splitlines() or ["no reason given"])[-1]
        raise Failure(f"could not create .venv: {reason}")


def explain(lines):
    """One line for what pip said at length."""
    text = "\n".join(lines)
    missing = [line for line in lines if "No matching distribution found" in line]
    if "No space left on device" in text or "Errno 28" in text:
        return "the disk is full: free some space and run make again (what pip had downloaded is kept in its cache)"
    if any(word in text for word in ("Retrying (", "ConnectionError", "Temporary failure in name resolution")):
        return "the package index cannot be reached: check the network or pip's proxy settings, then run make again"
    if missing:
        package = missing[-1].split("No matching distribution found for", 1)[1].split("(")[0].strip()
        return f"the package {package} cannot be had from the package index for this Python and platform"
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip gave no reason"])[-1]


def pip(arguments, what):
    """Run pip with its output in a log, one line of progress here, and one line where it fails."""
    command = [
        venv_python(),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--progress-bar",
        "off",
    ] + arguments
    print(f"environment: {what}", flush=True)
    lines, started, ended = [], time.time(), threading.Event()

    def beat():
        """Pip says nothing while it unpacks, which is most of the time: show that something happens."""
        while not ended.wait(10):
            found = sum(1 for line in lines if line.startswith(("Collecting ", "Processing ")))
            unpacking = any(line.startswith("Installing collected") for line in lines)
            state = "unpacking" if unpacking else f"{found} packages found"
            print(f"environment:   {state}, {time.time() - started:.0f} s", flush=True)

    threading.Thread(target=beat, daemon=True).start()
    try:
        with open(LOG, "a") as log:
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            for raw in process.stdout:
                lines.append(raw.decode(errors="replace").rstrip())
                log.write(lines[-1] + "\n")
            process.wait()
    finally:
        ended.set()
    if process.returncode:
        raise Failure(f"{explain(lines)} (the whole of pip's report is in .venv/pip.log)")


def main():
    try:
        if up_to_date():
            return 0
        # A full environment whose pins changed needs room for the difference only.
        check_disk(ROOT, 1.0 if os.path.exists(STAMP) else FREE_GB)
        create()
        with open(LOCK) as stream:
            count = sum(1 for line in stream if "==" in line)
        pip(
            ["-r", LOCK],
            f"installing {count} packages at the versions of requirements.lock (minutes; log: .venv/pip.log)",
        )
        pip(["--no-deps", "--no-build-isolation", "-e", "."], "installing bithep_lib from this folder")
        with open(STAMP + ".part", "w") as stream:
            stream.write(wanted() + "\n")
        os.replace(STAMP + ".part", STAMP)
        print("environment: ready", flush=True)
        return 0
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
    except KeyboardInterrupt:
        print("error: interrupted; run make again to go on", file=sys.stderr)
    except OSError as failure:
        full = "the disk is full: free some space and run make again" if failure.errno == 28 else str(failure)
        print(f"error: {full}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
