"""Run a chapter with your own parameters: ``python -m bithep_lib.run 02 -p scale=smoke -p seed=3 -o out.ipynb``.

A thin front for papermill, which would accept a misspelt parameter and run at the defaults. Here names, types and
values are checked, against the notebook's parameters cell and the chapter's settings, before a kernel is started.
"""

from __future__ import annotations

import argparse
import ast
import os
import sys
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from bithep_lib import study
from bithep_lib.study.parameters import ParameterError
from bithep_lib.study.provenance import PACKAGE
from bithep_lib.suggest import did_you_mean

NOTEBOOKS = PACKAGE.parent / "notebooks"


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell: ``name: type = default  # help``."""

    name: str
    type: str
    default: Any
    help: str

    @property
    def optional(self) -> bool:
        return self.default is None or "None" in self.type or self.type.startswith("Optional")

    def convert(self, value: Any) -> Any:
        """The value in the parameter's type; text (from the command line) is read as that type.

        Raises:
            ParameterError: the value cannot be of that type.
        """
        kind = self.type.removeprefix("Optional[").partition("|")[0].strip(" ]").partition("[")[0]
        if self.optional and (value is None or (isinstance(value, str) and value.lower() in ("none", "null"))):
            return None
        try:
            if kind == "bool" and isinstance(value, str):
                return {"true": True, "false": False}[value.lower()]
            if kind in ("list", "tuple") and isinstance(value, str):
                return [item.strip(" '\"") for item in value.strip("[]() ").split(",")]
            if kind == "int" and isinstance(value, str):
                return int(value)
            if kind == "float" and isinstance(value, int | float | str) and not isinstance(value, bool):
                return float(value)  # YAML reads 1e-3 as text
        except (ValueError, KeyError):
            pass
        else:
            expected = {"int": int, "str": str, "bool": bool, "list": list, "tuple": list}.get(kind, object)
            if isinstance(value, expected) and not (kind == "int" and isinstance(value, bool)):
                return value
        raise ParameterError(f"{self.name}={value!r} is not of type {self.type} ({self.help})")


@dataclass(frozen=True)
class Notebook:
    """A notebook with one parameters cell."""

    path: Path
    title: str
    parameters: Mapping[str, Parameter]
    setup: tuple[str, Mapping[str, str]] | None
    """The chapter of its ``study.setup`` call, and which setting gets which parameter."""

    @classmethod
    def read(cls, path: Path) -> Notebook:
        """Raises a ValueError that names the file when it is no notebook or has no parameters cell."""
        import nbformat

        try:
            cells = nbformat.read(path, as_version=4).cells
        except Exception as error:  # nbformat raises whatever its schema checker does
            raise ValueError(f"{path} is not a notebook: {error}") from error
        tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
        if len(tagged) != 1:
            raise ValueError(f"{path} has {len(tagged)} cells with the tag 'parameters', not one")
        headings = [line[2:] for cell in cells for line in cell.source.splitlines() if line.startswith("# ")]
        code = [cell.source for cell in cells if cell.cell_type == "code"]
        return cls(path, headings[0] if headings else path.stem, _parameters(tagged[0]), _setup_call(code))

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters in their types, paths made absolute.

        Raises:
            ParameterError: an unknown name, a wrong type or an impossible value.
        """
        for name in given:
            if name not in self.parameters:
                raise ParameterError(
                    f"{self.path.name} has no parameter {name!r}{did_you_mean(name, self.parameters)}; "
                    f"it has: {', '.join(self.parameters)}"
                )
        values = {name: self.parameters[name].convert(value) for name, value in given.items()}
        if self.setup is not None:
            chapter, settings = self.setup
            merged = {name: parameter.default for name, parameter in self.parameters.items()} | values
            run = study.setup(chapter, **{setting: merged[name] for setting, name in settings.items()})
            for setting, name in settings.items():
                if setting != "scale" and values.get(name) is not None:
                    canonical = getattr(run.settings, setting)
                    values[name] = list(canonical) if isinstance(canonical, tuple) else canonical
        return values


def all_notebooks() -> list[Path]:
    """The book's notebooks, in order. Raises a ValueError where there are none."""
    known = sorted(NOTEBOOKS.glob("*.ipynb"))
    if not known:
        raise ValueError("the notebooks are not part of the installed package: clone the book's repository, run there")
    return known


def find(name: str) -> Path:
    """The notebook called `name`: a number (``2``, ``02``), a name (``quark_gluon``) or a path.

    Raises:
        ValueError: no such notebook, with those there are.
    """
    if name.endswith(".ipynb") and Path(name).is_file():
        return Path(name).resolve()
    known = all_notebooks()
    for path in known:
        number, _, title = path.stem.partition("_")
        same_number = name.isdecimal() and number.isdecimal() and int(name) == int(number)
        if same_number or name in (path.stem, path.name, title):
            return path
    stems = [path.stem for path in known]
    raise ValueError(f"there is no notebook {name!r}{did_you_mean(name, stems)}; there are {', '.join(stems)}")


def execute(notebook: Notebook, parameters: dict[str, Any], output: Path) -> None:
    """Run the notebook with papermill in its own folder; what was done before a failure is kept in `output`."""
    import papermill

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's kernel before another of its name
    papermill.execute_notebook(
        str(notebook.path), str(output), parameters=parameters, cwd=str(notebook.path.parent), progress_bar=True
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 when a cell failed; 2 when a name, type or value is wrong, before anything was started."""
    parser = argparse.ArgumentParser(
        prog="python -m bithep_lib.run", description="Run a chapter of the book with your own parameters."
    )
    parser.add_argument("notebook", nargs="?", help="its number, its name or a path: 02, quark_gluon")
    parser.add_argument("-p", "--parameter", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    parser.add_argument("-f", "--file", type=Path, help="YAML file of parameters; -p overrides it")
    parser.add_argument("-o", "--output", type=Path, help="the executed notebook (default: NAME-SCALE.ipynb here)")
    parser.add_argument("--list", action="store_true", help="list the notebooks, or the parameters of one")
    options = parser.parse_args(arguments)
    try:
        if options.notebook is None:
            if not options.list:
                parser.error("which notebook? --list shows them")
            for path in all_notebooks():
                print(f"{path.stem:24} {Notebook.read(path).title}")
            return 0
        notebook = Notebook.read(find(options.notebook))
        if options.list:
            for parameter in notebook.parameters.values():
                print(f"{parameter.name}: {parameter.type} = {parameter.default!r}  # {parameter.help}")
            return 0
        given = _from_file(options.file) | _from_arguments(options.parameter)
        parameters = notebook.check(given)
        scale = parameters.get("scale", getattr(notebook.parameters.get("scale"), "default", "run"))
        output = (options.output or Path(f"{notebook.path.stem}-{scale}.ipynb")).resolve()
        if output == notebook.path:
            raise ValueError(f"--output {output.name} is the notebook itself")
        if output.is_dir():
            raise ValueError(f"--output {output} is a folder; name a file in it")
        output.parent.mkdir(parents=True, exist_ok=True)
        import papermill  # noqa: F401  (before anything is written)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"error: {error.name} is not installed: pip install 'bithep_lib[book]'", file=sys.stderr)
        return 2
    return _run(notebook, parameters, output)


def _run(notebook: Notebook, parameters: dict[str, Any], output: Path) -> int:
    from papermill.exceptions import PapermillExecutionError

    shown = ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "its defaults"
    print(f"running {notebook.path.name} with {shown}", file=sys.stderr)
    partial = f"; what was done before is in {output}"
    try:
        execute(notebook, parameters, output)
    except PapermillExecutionError as error:
        print(f"error: cell {error.exec_count} failed: {error.ename}: {error.evalue}{partial}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted{partial}", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(output)
    return 0


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    try:
        content = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no parameters: it needs lines such as 'seed: 3'")
    return {str(name): value for name, value in content.items()}


def _from_arguments(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise ValueError(f"-p {pair}: write NAME=VALUE, for instance -p scale=smoke")
    return dict(pair.split("=", 1) for pair in pairs)


def _parameters(source: str) -> dict[str, Parameter]:
    """The assignments of a parameters cell. (Papermill's own reading of it does not know ``int | None``.)"""
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for line in ast.parse(source).body:
        if isinstance(line, ast.Assign | ast.AnnAssign):
            target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
            default = ast.literal_eval(line.value)
            kind = ast.unparse(line.annotation) if isinstance(line, ast.AnnAssign) else type(default).__name__
            name = ast.unparse(target)
            found[name] = Parameter(name, kind.strip("'\""), default, comments.get(line.end_lineno, ""))
    return found


def _setup_call(code: Sequence[str]) -> tuple[str, dict[str, str]] | None:
    """The chapter and keywords of ``study.setup("chapter", setting=parameter, ...)`` in a notebook's code."""
    for source in code:
        try:
            calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
        except SyntaxError:  # a cell with IPython magic
            continue
        for call in calls:
            if ast.unparse(call.func) in ("study.setup", "setup") and call.args:
                keywords = {item.arg: item.value.id for item in call.keywords if isinstance(item.value, ast.Name)}
                return ast.literal_eval(call.args[0]), {arg: name for arg, name in keywords.items() if arg}
    return None


if __name__ == "__main__":
    sys.exit(main())
