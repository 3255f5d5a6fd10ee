"""What a committed notebook must be, beyond its normal form: so that its checks check, and that it reads everywhere.

nbval compares nothing where a cell has no stored output or no execution count, and says so nowhere; these guards do.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from tools.notebooks import dumps, normalise, read

MAX_BYTES = 900_000
MAX_LINES = 30
MIN_CHECKED = 3
CHECKED = "nbval-check-output"
PRIVATE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|work|Users|private|var/folders)/\w")
ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def texts(cell: NotebookNode) -> Iterator[str]:
    """What a cell stored as text."""
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            yield output.text
        for kind, value in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield value


def has_image(cell: NotebookNode) -> bool:
    return any(kind.startswith("image/") for output in cell.outputs for kind in output.get("data", {}))


def parameters_problems(source: str) -> Iterator[str]:
    """Every line of the parameters cell is ``name: type = literal  # what it means``, which papermill can read."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    commented = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    for statement in ast.parse(source).body:
        line = source.splitlines()[statement.lineno - 1]
        if not isinstance(statement, ast.AnnAssign) or statement.value is None:
            yield f"parameters cell: not `name: type = value`: {line}"
            continue
        try:
            ast.literal_eval(statement.value)
        except ValueError:
            yield f"parameters cell: not a literal: {line}"
        if statement.end_lineno not in commented:
            yield f"parameters cell: no comment: {line}"


def cell_problems(cell: NotebookNode) -> Iterator[str]:
    """What is wrong with one code cell."""
    if cell.execution_count is None:
        yield "not executed"
    if len(cell.source.splitlines()) > MAX_LINES:
        yield f"{len(cell.source.splitlines())} lines of code, at most {MAX_LINES}"
    for output in cell.outputs:
        if output.output_type == "error" and "raises-exception" not in tags(cell):
            yield f"an error is stored: {output.ename}"
        if output.get("name") == "stderr":
            yield "stderr is stored"
    stored = "\n".join(texts(cell))
    if found := PRIVATE_PATH.search(stored + "\n" + cell.source):
        yield f"a path of somebody's machine: {found.group()}..."
    if found := ADDRESS.search(stored):
        yield f"a memory address is stored: {found.group()}"
    compared = [text for text in texts(cell) if text.strip() and not text.startswith("<Figure")]
    if CHECKED in tags(cell) and not compared:
        yield "checked, and nothing to compare is stored"
    if has_image(cell):
        mystnb = cell.metadata.get("mystnb", {})
        if not mystnb.get("figure", {}).get("caption") or not mystnb.get("figure", {}).get("name"):
            yield "a figure without caption or name"
        if not mystnb.get("image", {}).get("alt"):
            yield "a figure without a description (alt)"
    elif "figure" in cell.metadata.get("mystnb", {}) and not any(
        "text/html" in o.get("data", {}) for o in cell.outputs
    ):
        yield "a caption, and no figure or table is stored"


def notebook_problems(notebook: NotebookNode) -> list[str]:
    """What is wrong with a notebook, one line each."""
    found = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not notebook.cells or not notebook.cells[0].source.startswith("# "):
        found.append("the first cell is not a title")
    parameters = [cell for cell in code if "parameters" in tags(cell)]
    if len(parameters) != 1:
        found.append(f"{len(parameters)} cells are tagged parameters, not one")
    for cell in parameters:
        found.extend(parameters_problems(cell.source))
    setup = [cell for cell in code if "google.colab" in cell.source]
    if len(setup) != 1 or "remove-cell" not in tags(setup[0]):
        found.append("no single cell that sets up Colab, tagged remove-cell")
    checked = sum(CHECKED in tags(cell) for cell in code)
    if checked < MIN_CHECKED:
        found.append(f"{checked} cells are checked, at least {MIN_CHECKED} must be")
    counts = [cell.execution_count for cell in code]
    if None not in counts and counts != list(range(1, len(code) + 1)):
        found.append("the cells were not executed once each and in order")
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            found.extend(f"cell {number}: {problem}" for problem in cell_problems(cell))
    return found


def problems(path: Path) -> list[str]:
    """What is wrong with a notebook file, one line each."""
    text = path.read_text(encoding="utf-8")
    notebook = read(path)
    found = notebook_problems(notebook)
    if text != dumps(normalise(notebook)):
        found.append("not in normal form: python -m tools.notebooks normalise")
    if len(text.encode()) > MAX_BYTES:
        found.append(f"{len(text.encode()) // 1000} kB, at most {MAX_BYTES // 1000}: draw figures smaller")
    return found
