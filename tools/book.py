"""Build the book.

    python -m tools.book build --executed    every chapter executed at scale "book", then the strict HTML build
    python -m tools.book build               the strict HTML build from the committed outputs
    python -m tools.book execute             execute only (``--scale smoke`` for a quick look)
    python -m tools.book links               ask for every link that leads out of the book
    python -m tools.book pdf                 print the book with Chromium

Executed notebooks go to ``_build/executed``, one file per notebook and state of everything it depends on, so that
nothing is executed twice; the committed notebooks are never touched.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from tools.execute import execute_all
from tools.notebooks import ROOT, normalise, read, shown

BUILD = ROOT / "_build"
STAGE = BUILD / "stage"
SOURCES = ("_config.yml", "_toc.yml")
FOLDERS = ("book", "tools")
FREE_GB = 1.0


class BookError(Exception):
    """Something the reader of one line can act on."""


def toc_entries(node: dict | list | None = None) -> list[str]:
    """Every page named in ``_toc.yml``, in reading order, without suffix."""
    if node is None:
        node = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    if isinstance(node, list):
        return [entry for item in node for entry in toc_entries(item)]
    own = [node[key] for key in ("root", "file") if key in node]
    return own + [e for key in ("parts", "chapters", "sections") if key in node for e in toc_entries(node[key])]


def toc_notebooks() -> list[Path]:
    """The notebooks of the book, in reading order."""
    return [path for entry in toc_entries() if (path := ROOT / f"{entry}.ipynb").exists()]


def library_files() -> Iterator[Path]:
    """What an execution depends on besides the notebook: library, stored records, weights and samples, and the pins."""
    yield ROOT / "requirements.lock"
    for path in sorted((ROOT / "bithep_lib").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
            yield path


def library_digest() -> str:
    digest = hashlib.sha256()
    for path in library_files():
        digest.update(f"{path.relative_to(ROOT)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def notebook_key(path: Path, library: str, scale: str) -> str:
    """Hash of the notebook's code and of all it depends on; prose and stored outputs change nothing that is executed,
    but the executed copy carries the prose, so it counts too."""
    cells = [(cell.cell_type, cell.source, cell.metadata) for cell in normalise(read(path)).cells]
    return hashlib.sha256(repr((cells, library, scale)).encode()).hexdigest()[:16]


def execute_book(scale: str) -> dict[Path, Path]:
    """Execute what has not been executed in its present state; notebook -> executed copy."""
    library = library_digest()
    folder = BUILD / "executed" / scale
    copies = {path: folder / f"{path.stem}-{notebook_key(path, library, scale)}.ipynb" for path in toc_notebooks()}
    jobs = [(path, copy) for path, copy in copies.items() if not copy.exists()]
    print(f"book: {len(copies)} notebooks, {len(jobs)} to execute at scale {scale!r}", flush=True)
    # The notebooks' default is the scale "book".
    if any(done.error for done in execute_all(jobs, None if scale == "book" else {"scale": scale})):
        raise BookError("a chapter failed: see above")
    for old in set(folder.glob("*.ipynb")) - set(copies.values()):
        old.unlink()
    return copies


def make_stage(stage: Path, notebooks: dict[Path, Path]) -> Path:
    """A clean folder with the book's sources and the given copies of its notebooks."""
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    for name in SOURCES:
        shutil.copy2(ROOT / name, stage / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, stage / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (stage / "notebooks").mkdir()
    for path, copy in notebooks.items():
        shutil.copyfile(copy, stage / "notebooks" / path.name)
    return stage


def jupyter_book(stage: Path, output: Path, builder: str = "html") -> None:
    """The strict build: any warning of Sphinx is an error."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(stage), "--path-output", str(output)]
    command += ["--builder", builder, "-W", "--keep-going", "-q", "--all"]
    done = subprocess.run(command, cwd=stage, capture_output=True, text=True)
    if done.returncode:
        report = output / "_build" / "build.log"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(done.stdout + done.stderr, encoding="utf-8")
        for line in (done.stdout + done.stderr).splitlines():
            if "WARNING" in line or "ERROR" in line:
                print(line.replace(f"{stage}/", ""), file=sys.stderr)
        raise BookError(f"the build failed: see above, and {shown(report)}")


def missing_pages(html: Path) -> list[str]:
    """Entries of the table of contents that have no page."""
    return [entry for entry in toc_entries() if not (html / f"{entry}.html").exists()]


def build(output: Path, executed: bool) -> Path:
    """Build the book below ``output``; the folder of its HTML."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < FREE_GB:
        raise BookError(f"the disk is full: {free:.1f} GB are free, and the build needs {FREE_GB:.1f} GB")
    notebooks = execute_book("book") if executed else {path: path for path in toc_notebooks()}
    print("book: building the pages, any warning is an error", flush=True)
    output.mkdir(parents=True, exist_ok=True)
    # One absolute path for every build: nothing may depend on it, and two builds at once must not share it.
    stage = make_stage(STAGE if output == ROOT else output / "stage", notebooks)
    html = output / "_build" / "html"
    shutil.rmtree(html, ignore_errors=True)
    jupyter_book(stage, output)
    if missing := missing_pages(html):
        raise BookError(f"no page was built for {', '.join(missing)}")
    return html


def print_pdf() -> Path:
    """One long page, printed by Chromium."""
    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if browser is None:
        raise BookError("Chromium is needed to print the book: install it (Debian, Ubuntu: chromium)")
    output = BUILD / "print"
    output.mkdir(parents=True, exist_ok=True)
    jupyter_book(make_stage(STAGE, {path: path for path in toc_notebooks()}), output, "singlehtml")
    single = output / "_build" / "singlehtml"
    # The root document lies in a folder, but the page's links are relative to the top.
    page = shutil.copyfile(single / "book" / "intro.html", single / "print.html")
    target = BUILD / "bithep.pdf"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--virtual-time-budget=30000", "--no-pdf-header-footer", f"--print-to-pdf={target}", page.as_uri()]
    subprocess.run([browser, *options], check=True, capture_output=True)
    return target


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.book", description=__doc__.split("\n")[0])
    parser.add_argument("action", choices=["build", "execute", "links", "pdf"])
    parser.add_argument(
        "--executed", action="store_true", help="execute the chapters instead of taking the stored outputs"
    )
    parser.add_argument("--scale", default="book", help="scale of `execute`")
    chosen = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        if chosen.action == "execute":
            execute_book(chosen.scale)
        elif chosen.action == "links":
            stage = make_stage(BUILD / "links" / "stage", {path: path for path in toc_notebooks()})
            jupyter_book(stage, BUILD / "links", "linkcheck")
            print("book: every link leads somewhere")
        elif chosen.action == "pdf":
            print(f"book: {shown(print_pdf())}")
        else:
            html = build(ROOT, chosen.executed)
            print(f"book: built in {time.monotonic() - started:.0f} s. Open {html / 'index.html'}")
    except BookError as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    except OSError as failure:
        print("error: the disk is full" if failure.errno == 28 else f"error: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; finished chapters are kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
