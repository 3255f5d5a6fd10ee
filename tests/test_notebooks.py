"""The notebooks: their stored outputs mean something, every parameter works, and they fit into Binder."""

import ast
import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from bithep_lib import plots, study
from tools import guards
from tools.execute import MEMORY_GIB, execute
from tools.notebooks import all_notebooks, dumps, is_normal, normalise, read, write
from tools.notebooks import main as notebooks_command

NOTEBOOKS = all_notebooks()
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_notebooks():
    assert NOTEBOOKS


@by_name
def test_a_committed_notebook_is_sound(path):
    assert guards.problems(path) == []


# --- the guards themselves ----------------------------------------------------------------------------------------


def sound() -> nbformat.NotebookNode:
    """A tiny notebook that every guard passes."""
    checked = ["1 + 1", "2 + 2", "print(3)"]
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell('import sys\n\nif "google.colab" in sys.modules:\n    pass', metadata={"tags": ["remove-cell"]}),
        new_code_cell("seed: int = 1  # where randomness starts", metadata={"tags": ["parameters"]}),
        *(new_code_cell(source, metadata={"tags": [guards.CHECKED]}) for source in checked),
    ]
    for number, cell in enumerate(cells[1:], start=1):
        cell.execution_count = number
    cells[3].outputs = [new_output("execute_result", {"text/plain": "2"}, execution_count=3)]
    cells[4].outputs = [new_output("execute_result", {"text/plain": "4"}, execution_count=4)]
    cells[5].outputs = [new_output("stream", text="3\n")]
    return normalise(new_notebook(cells=cells))


def image(**mystnb) -> nbformat.NotebookNode:
    cell = new_code_cell("plot()", execution_count=1, metadata={"mystnb": mystnb} if mystnb else {})
    cell.outputs = [new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})]
    return cell


def test_a_sound_notebook_passes():
    assert guards.notebook_problems(sound()) == []


def change(cell: int, **fields):
    def apply(notebook):
        for name, value in fields.items():
            notebook.cells[cell][name] = value

    return apply


ERROR = new_output("error", ename="ValueError", evalue="no", traceback=[])
FAULTS = {
    "the first cell is not a title": change(0, source="Hello"),
    "0 cells are tagged parameters": change(2, metadata=nbformat.from_dict({})),
    "not a literal": change(2, source="seed: int = f()  # no"),
    "no comment": change(2, source="seed: int = 1"),
    "not `name: type = value`": change(2, source="seed = 1  # no type"),
    "no single cell that sets up Colab": change(1, metadata=nbformat.from_dict({})),
    "2 cells are checked": change(4, metadata=nbformat.from_dict({})),
    "not executed": change(4, execution_count=None),
    "in order": change(4, execution_count=9),
    "checked, and nothing to compare": change(4, outputs=[]),
    "an error is stored": change(4, outputs=[ERROR]),
    "stderr is stored": change(5, outputs=[new_output("stream", name="stderr", text="Warning")]),
    "a path of somebody's machine": change(5, outputs=[new_output("stream", text="saved to /home/me/x.npz\n")]),
    "a memory address": change(5, outputs=[new_output("stream", text="<object at 0x7f0011223344>\n")]),
    "lines of code": change(4, source="\n".join(["x = 1"] * 31)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(fault):
    notebook = sound()
    FAULTS[fault](notebook)
    assert fault in "\n".join(guards.notebook_problems(notebook))


def test_a_figure_needs_a_caption_and_a_description():
    assert len(list(guards.cell_problems(image()))) == 2
    assert len(list(guards.cell_problems(image(figure={"caption": "A jet.", "name": "fig-jet"})))) == 1
    whole = image(figure={"caption": "A jet.", "name": "fig-jet"}, image={"alt": "Dots on a plane."})
    assert list(guards.cell_problems(whole)) == []
    whole.outputs = [new_output("display_data", {"text/plain": "<Figure size 640x480 with 1 Axes>"})]
    assert list(guards.cell_problems(whole)) == ["a caption, and no figure or table is stored"]


def test_links_and_shapes_are_no_private_paths():
    for text in ("https://example.org/home/x", "a/tmp/b", "jets per second/core"):
        assert not guards.PRIVATE_PATH.search(text)


# --- the normal form ----------------------------------------------------------------------------------------------


def untidy() -> nbformat.NotebookNode:
    """What papermill leaves behind."""
    notebook = sound()
    notebook.metadata["papermill"] = {"duration": 3.2}
    notebook.metadata["language_info"]["version"] = "3.11.7"
    for number, cell in enumerate(notebook.cells):
        cell.id = f"random-{number}"
        cell.metadata["papermill"] = {"start_time": "now"}
        cell.metadata["execution"] = {"iopub.status.busy": "now"}
    notebook.cells[5].outputs = [
        new_output("stream", name="stderr", text="Warning"),
        new_output("stream", text="3"),
        new_output("stream", text="\n"),
    ]
    injected = new_code_cell("seed = 3", metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(3, injected)
    notebook.cells.append(new_code_cell(""))
    return notebook


def test_the_normal_form_forgets_what_an_execution_leaves_behind():
    assert dumps(normalise(untidy())) == dumps(sound())


def test_normalising_twice_changes_nothing():
    once = normalise(untidy())
    assert dumps(normalise(once)) == dumps(once)
    nbformat.validate(once)


def test_a_picture_becomes_small_and_looks_the_same():
    x = np.linspace(0, 1, 50)
    written = io.BytesIO()
    with plots.new_figure() as (figure, ax):
        ax.imshow(np.outer(x, x))
    figure.savefig(written, format="png")
    notebook = sound()
    notebook.cells[5].outputs = [
        new_output("display_data", {"image/png": base64.b64encode(written.getvalue()).decode()})
    ]
    stored = base64.b64decode(normalise(notebook).cells[5].outputs[0].data["image/png"])
    assert len(stored) < len(written.getvalue()) / 2
    one, other = (Image.open(io.BytesIO(png)).convert("RGB") for png in (written.getvalue(), stored))
    assert np.abs(np.asarray(one, float) - np.asarray(other, float)).max() <= 10


def test_equal_cells_have_different_ids():
    notebook = new_notebook(cells=[new_code_cell("x"), new_code_cell("x"), new_markdown_cell("x")])
    assert len({cell.id for cell in normalise(notebook).cells}) == 3


def test_inserting_a_cell_leaves_the_other_ids_alone():
    notebook = sound()
    before = [cell.id for cell in notebook.cells]
    notebook.cells.insert(1, new_markdown_cell("new"))
    after = [cell.id for cell in normalise(notebook).cells]
    assert after[:1] + after[2:] == before


def test_the_command_rewrites_and_then_is_content(tmp_path):
    path = tmp_path / "untidy.ipynb"
    nbformat.write(untidy(), path)
    assert not is_normal(path)
    assert notebooks_command(["check", str(path)]) == 1
    assert notebooks_command(["normalise", str(path)]) == 1
    assert notebooks_command(["normalise", str(path)]) == 0
    assert notebooks_command(["check", str(path)]) == 0


# --- nbval compares -----------------------------------------------------------------------------------------------


def nbval(path: Path) -> subprocess.CompletedProcess:
    """The command of `make test` on one notebook."""
    options = ["-p", "no:cacheprovider", "-q", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600"]
    command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(path.parent), str(path)]
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True)


def test_nbval_notices_a_tampered_output_and_the_guards_what_nbval_does_not(tmp_path):
    path = tmp_path / "tiny.ipynb"
    write(path, sound())
    assert nbval(path).returncode == 0

    tampered = sound()
    tampered.cells[3].outputs[0].data["text/plain"] = "3"
    write(path, tampered)
    done = nbval(path)
    assert done.returncode == 1
    assert "1 failed" in done.stdout

    # Stripped of outputs and counts, nbval compares nothing and passes: this is what the guards are for.
    tampered.cells[3].execution_count, tampered.cells[3].outputs = None, []
    path.write_text(dumps(tampered))
    assert nbval(path).returncode == 0
    assert "cell 3: not executed" in guards.problems(path)


@pytest.mark.slow
def test_a_tampered_output_of_a_chapter_is_noticed(tmp_path):
    """The first checked cell of the first chapter, changed by one character."""
    notebook = read(NOTEBOOKS[0])
    number = next(i for i, cell in enumerate(notebook.cells) if guards.CHECKED in guards.tags(cell))
    notebook.cells = notebook.cells[: number + 1]
    path = tmp_path / NOTEBOOKS[0].name
    write(path, notebook)
    assert nbval(path).returncode == 0
    for output in notebook.cells[number].outputs:
        for kind in output.get("data", {}):
            output.data[kind] += "x"
    write(path, notebook)
    assert nbval(path).returncode == 1


# --- every parameter, overridden once -----------------------------------------------------------------------------

# Words and paths have no neighbour to step to; numbers do, see below.
WORDS = {"scale": "smoke", "data": "sample", "weights": "train", "device": "cpu", "max_minutes": 30.0}
WORDS |= {"dataset": "ds2", "classifier": "smoke", "method": "midpoint"}


def chapter_of(path: Path) -> str:
    """The chapter's name, as the notebook itself says it: ``study.setup("quark_gluon", ...)``."""
    source = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")
    return re.search(r"study\.setup\(\s*[\"'](\w+)[\"']", source).group(1)


def parameter_names(path: Path) -> list[str]:
    (cell,) = [cell for cell in read(path).cells if "parameters" in guards.tags(cell)]
    return [statement.target.id for statement in ast.parse(cell.source).body]


def overrides(path: Path, folder: Path) -> dict:
    """A value for every parameter, other than the scale "smoke" has it wherever another is as quick."""
    chapter = chapter_of(path)
    smoke = study.resolve(chapter, "smoke", {})
    chosen = {}
    for name in parameter_names(path):
        value = getattr(smoke, name, None)
        if name in WORDS:
            chosen[name] = WORDS[name]
        elif name in ("output_dir", "records"):
            chosen[name] = str(folder)
        elif isinstance(value, int):
            chosen[name] = value + 1
        elif isinstance(value, float):
            chosen[name] = value / 2
        elif isinstance(value, tuple):
            chosen[name] = list(reversed(value))
        else:
            pytest.fail(f"{path.name}: no test value for the parameter {name!r}: add one to WORDS")
    return chosen


@pytest.mark.slow
@by_name
def test_every_parameter_can_be_overridden(path, tmp_path):
    chosen = overrides(path, tmp_path / "output")
    (tmp_path / "output").mkdir()
    before = path.read_bytes()
    done = execute(path, tmp_path / path.name, chosen)
    assert done.error is None
    assert done.peak_gib < MEMORY_GIB
    assert done.peak_gib > 0.05, "the kernel's memory was not measured"
    assert path.read_bytes() == before
    assert any(guards.has_image(cell) for cell in read(tmp_path / path.name).cells if cell.cell_type == "code")


@by_name
def test_every_parameter_is_a_setting_of_its_chapter(path):
    """The kernel would say so too, minutes later."""
    chapter = chapter_of(path)
    names = [name for name in parameter_names(path) if name != "scale"]
    assert "scale" in parameter_names(path)
    assert "seed" in names
    study.resolve(chapter, "book", dict.fromkeys(names))
    with pytest.raises(study.ParameterError, match="has no parameter 'n_trian'"):
        study.resolve(chapter, "book", {"n_trian": 3})


@by_name
def test_the_measured_book_scale_fits_into_binder(path, root):
    """`make refresh` measured what it stored."""
    measured = json.loads((root / "book" / "executions.json").read_text())["notebooks"][path.name]
    assert measured["book"]["peak_gib"] < MEMORY_GIB
    assert measured["book"]["seconds"] < 300
    assert measured["smoke"]["seconds"] < 120


def test_a_failing_notebook_is_one_line_and_leaves_nothing(tmp_path):
    source, target = tmp_path / "broken-for-a-test.ipynb", tmp_path / "out" / "broken.ipynb"
    write(source, new_notebook(cells=[new_code_cell("1 / 0")], metadata=sound().metadata))
    done = execute(source, target)
    assert "ZeroDivisionError: division by zero" in done.error
    assert "\n" not in done.error
    assert not target.exists()
