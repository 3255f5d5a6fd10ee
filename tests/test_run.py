"""python -m bithep_lib.run: what is refused before a kernel starts, and what is kept when a cell fails."""

import os
import subprocess
import sys

import nbformat
import pytest

from bithep_lib import run

PARAMETERS = """\
scale: str = "book"  # size of everything
seed: int = 1  # first seed
n_train: int | None = None  # jets to train on
learning_rate: float = None  # step size
strategies: list[str] = None  # which layers become bits
data: str = "sample"  # which jets
output_dir: str = None  # where records go
explode: bool = False  # make a cell fail
"""
SETUP = """\
from bithep_lib import study
settings = study.setup(
    "quark_gluon", scale=scale, seed=seed, n_train=n_train, learning_rate=learning_rate, strategies=strategies,
    data=data, output_dir=output_dir,
)"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with one notebook, which stands for the book's."""
    cells = [
        nbformat.v4.new_markdown_cell("# Jets in bits"),
        nbformat.v4.new_code_cell("%matplotlib inline"),
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(SETUP),
        nbformat.v4.new_code_cell("print(settings.n_train, settings.learning_rate, settings.strategies)"),
        nbformat.v4.new_code_cell("import os; print(os.path.basename(os.getcwd()))"),
        nbformat.v4.new_code_cell("if explode:\n    raise RuntimeError('boom')"),
        nbformat.v4.new_code_cell("print('the end')"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), notebooks / "02_quark_gluon.ipynb")
    monkeypatch.setattr(run, "NOTEBOOKS", notebooks)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def texts(path):
    return [
        output.get("text", "").strip()
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "n_trian=10"], "has no parameter 'n_trian'; did you mean 'n_train'?; it has: scale"),
        (["-p", "seed=1e3"], "seed='1e3' is not of type int (first seed)"),
        (["-p", "seed=2.5"], "seed='2.5' is not of type int"),
        (["-p", "seed=none"], "seed='none' is not of type int"),
        (["-p", "explode=perhaps"], "explode='perhaps' is not of type bool"),
        (["-p", "learning_rate=fast"], "learning_rate='fast' is not of type float"),
        (["-p", "learning_rate=-1"], "learning_rate=-1.0 is not allowed: learning_rate is a number > 0 and < 1"),
        (["-p", "scale=bok"], "scale='bok' is not allowed: scale is one of 'smoke', 'book', 'laptop', 'paper'; did"),
        (["-p", "strategies=none,al"], "strategies=['none', 'al'] is not allowed"),
        (["-p", "data=smaple"], "data='smaple' is not allowed"),
        (["-p", "n_train=3"], "n_train=3 is not allowed: n_train is an integer >= 10"),
        (["-p", "seed"], "write NAME=VALUE"),
        (["-f", "absent.yaml"], "absent.yaml"),
        (["-f", "bad.yaml"], "bad.yaml is not YAML"),
        (["-f", "list.yaml"], "list.yaml holds no parameters"),
        (["-f", "typo.yaml"], "has no parameter 'sead'; did you mean 'seed'?"),
        (["-o", "notebooks/02_quark_gluon.ipynb"], "is the notebook itself"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_one_line_and_exit_code_2(folder, capsys, monkeypatch, arguments, message):
    (folder / "bad.yaml").write_text("seed: [1")
    (folder / "list.yaml").write_text("- seed")
    (folder / "typo.yaml").write_text("sead: 3")
    monkeypatch.setattr(run, "execute", lambda *_: pytest.fail("a kernel was started"))
    assert run.main(["02", *arguments]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message in errors


@pytest.mark.parametrize("name", ["02", "2", "quark_gluon", "02_quark_gluon", "notebooks/02_quark_gluon.ipynb"])
def test_a_notebook_is_found_by_number_name_or_path(folder, name):
    assert run.find(name) == folder / "notebooks" / "02_quark_gluon.ipynb"


def test_an_unknown_notebook_lists_those_there_are(folder, capsys):
    assert run.main(["qark_gluon"]) == 2
    assert "there is no notebook 'qark_gluon'; did you mean '02_quark_gluon'?" in capsys.readouterr().err


def test_an_installed_package_has_no_notebooks(folder, capsys, monkeypatch):
    monkeypatch.setattr(run, "NOTEBOOKS", folder / "nowhere")
    for arguments in (["02"], ["--list"]):
        assert run.main(arguments) == 2
        assert "the notebooks are not part of the installed package" in capsys.readouterr().err


def test_a_file_that_is_no_notebook(folder, capsys):
    (folder / "broken.ipynb").write_text("{")
    assert run.main(["broken.ipynb"]) == 2
    assert "broken.ipynb is not a notebook" in capsys.readouterr().err


def test_list(folder, capsys):
    assert run.main(["--list"]) == 0
    assert capsys.readouterr().out.split(maxsplit=1) == ["02_quark_gluon", "Jets in bits\n"]
    assert run.main(["02", "--list"]) == 0
    assert "n_train: int | None = None  # jets to train on" in capsys.readouterr().out


def test_parameters_reach_the_notebook_in_their_types(folder, capsys):
    (folder / "params.yaml").write_text("seed: 5\nlearning_rate: 1e-3\nstrategies: [none, all]\noutput_dir: here\n")
    arguments = ["02", "-f", "params.yaml", "-p", "scale=smoke", "-p", "n_train=50", "-p", "strategies=all"]
    assert run.main([*arguments, "-o", "results/out.ipynb"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "results" / "out.ipynb")
    notebook = nbformat.read("results/out.ipynb", as_version=4)
    injected = next(cell.source for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", []))
    assert "seed = 5" in injected
    assert f'output_dir = "{folder}/here"' in injected  # relative to where the user is, not to the notebook
    assert texts("results/out.ipynb") == ["50 0.001 ('all',)", "notebooks", "the end"]


def test_a_failing_cell_gives_exit_code_1_and_keeps_what_was_done(folder, capsys):
    assert run.main(["02", "-p", "explode=true", "-p", "scale=smoke"]) == 1
    assert "failed: RuntimeError: boom; what was done before is in" in capsys.readouterr().err
    assert "notebooks" in texts("02_quark_gluon-smoke.ipynb")


def test_the_command_line_refuses_before_it_starts_anything(tmp_path):
    command = [sys.executable, "-m", "bithep_lib.run", "01", "-p", "sead=3"]
    environment = os.environ | {"PYTHONPATH": str(run.PACKAGE.parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "did you mean 'seed'?" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_folder_is_refused_before_anything_runs(tmp_path, capsys):
    assert run.main(["01", "-p", "scale=smoke", "-o", str(tmp_path)]) == 2
    assert "is a folder; name a file in it" in capsys.readouterr().err
