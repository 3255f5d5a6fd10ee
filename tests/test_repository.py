"""The repository: one address, versions that agree, and failures of `make` that are one line."""

import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tools import book_text
from tools.notebooks import PICTURE, picture

CONDA_NAMES = {"pytorch-cpu": "torch", "matplotlib-base": "matplotlib"}
CONDA_ONLY = {"python", "pip", "cxx-compiler"}


def tracked(root: Path, *patterns: str) -> list[Path]:
    """The repository's own files: known to git, or new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := root / name).is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@pytest.fixture(scope="session")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="session")
def lock(root) -> dict[str, Version]:
    pins = {}
    for line in (root / "requirements.lock").read_text().splitlines():
        name, _, version = line.partition("==")
        assert version, f"requirements.lock: not an exact pin: {line}"
        pins[canonical(name)] = Version(version)
    return pins


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- one address --------------------------------------------------------------------------------------------------

HOSTS = (
    r"https://github\.com/[\w.-]+/[\w.-]+",
    r"https://mybinder\.org/v2/gh/[\w.-]+/[\w.-]+",
    r"https://colab\.research\.google\.com/github/[\w.-]+/[\w.-]+",
    r"https://[\w-]+\.github\.io/[\w.-]+",
)


def foreign_addresses(text: str, address: dict[str, str]) -> list[str]:
    """Addresses of this project that do not follow from `_config.yml`."""
    own = (
        address["url"],
        f"https://mybinder.org/v2/gh/{address['name']}",
        f"https://colab.research.google.com/github/{address['name']}",
        address["pages"].rstrip("/"),
    )
    found = {match.removesuffix(".git") for pattern in HOSTS for match in re.findall(pattern, text)}
    return sorted(link for link in found if "bithep" in link.lower() and link not in own)


def test_every_link_to_this_project_follows_from_the_configuration(root):
    address = book_text.repository(root)
    assert address["pages"] == "https://{}.github.io/{}/".format(*address["name"].split("/"))
    drifted = {
        str(path.relative_to(root)): links
        for path in tracked(root)
        if path != Path(__file__) and (links := foreign_addresses(text_of(path), address))
    }
    assert drifted == {}


def test_a_drifted_address_is_noticed(root):
    address = book_text.repository(root)
    for link in ("https://github.com/other/bithep", "https://mybinder.org/v2/gh/bithep/bithep-book/main"):
        assert foreign_addresses(f"see [here]({link})", address)
    assert foreign_addresses(f"pip install git+{address['url']}.git@main", address) == []
    assert foreign_addresses("https://github.com/pytorch/pytorch", address) == []


def test_readme_and_notebooks_name_the_address(root):
    address = book_text.repository(root)
    assert f"git clone {address['url']}" in text_of(root / "README.md")
    for path in (root / "notebooks").glob("*.ipynb"):
        assert f"git+{address['url']}@" in text_of(path), path.name


# --- what must not be committed -----------------------------------------------------------------------------------

# Taken apart, so that this file does not hold what it looks for.
INDEX_HOSTS = ["py" + "pi.org", "pythonhosted" + ".org", "registry.npm" + "js", "deb.debian" + ".org"]


def test_no_registry_and_no_private_path_is_committed(root):
    private = re.compile(r"(?<![\w.:/])/(?:(?:work|root)/\w|tmp/bash)")
    found = []
    for path in tracked(root):
        if path == Path(__file__) or path.name in ("test_notebooks.py", "guards.py"):
            continue
        text = text_of(path)
        found += [f"{path.relative_to(root)}: {host}" for host in INDEX_HOSTS if host in text]
        found += [f"{path.relative_to(root)}: {match.group()}" for match in private.finditer(text)]
    assert found == []


def test_no_large_file_is_committed(root):
    large = {str(path.relative_to(root)): path.stat().st_size for path in tracked(root) if path.stat().st_size > 1e7}
    assert large == {}
    assert sum(path.stat().st_size for path in tracked(root, "bithep_lib")) < 75e6


def test_the_picture_of_the_readme_is_the_figure_of_its_notebook(root):
    assert PICTURE[2].read_bytes() == picture()
    assert f"]({PICTURE[2].relative_to(root).as_posix()})" in text_of(root / "README.md")


# --- versions that agree ------------------------------------------------------------------------------------------


def requirements(project: dict, *extras: str) -> list[Requirement]:
    lines = list(project["project"]["dependencies"])
    for extra in extras:
        lines += project["project"]["optional-dependencies"][extra]
    return [Requirement(line) for line in lines]


def disagreements(wanted: list[Requirement], lock: dict[str, Version]) -> list[str]:
    """Requirements that the pins do not meet."""
    return [str(r) for r in wanted if (pin := lock.get(canonical(r.name))) is None or pin not in r.specifier]


def test_the_pins_meet_the_package_metadata(project, lock):
    assert disagreements(requirements(project, "simulate", "geant4", "export", "scan", "book", "test"), lock) == []
    assert len(lock) > 150


def test_a_pin_that_disagrees_is_noticed(lock):
    wanted = [Requirement("torch>=99"), Requirement("nosuchpackage"), Requirement("numpy>=1.26")]
    assert disagreements(wanted, lock) == ["torch>=99", "nosuchpackage"]


def test_pins_are_portable(lock):
    assert str(lock["torch"]) == "2.13.0"
    assert all(pin.local is None for pin in lock.values())
    assert "bithep-lib" not in lock
    assert canonical("hatchling") in lock  # the build backend: bithep_lib is installed without a build environment


def test_the_installed_environment_is_the_pinned_one(lock):
    from importlib.metadata import version

    for name in ("torch", "numpy", "jupyter-book", "sphinx-book-theme", "lightning", "papermill", "nbval"):
        assert Version(Version(version(name)).public) == lock[name], name


def test_the_malicious_releases_are_excluded(project):
    (lightning,) = [r for r in requirements(project) if r.name == "lightning"]
    assert "2.6.2" not in lightning.specifier
    assert "2.6.3" not in lightning.specifier
    assert "2.6.6" in lightning.specifier


def test_the_library_does_not_pin_what_colab_brings(project):
    for requirement in requirements(project):
        operators = {part.operator for part in requirement.specifier}
        assert operators <= {">=", "!="}, f"{requirement}: only lower bounds, Colab has its own version"
    needed = SpecifierSet(project["project"]["requires-python"])
    assert all(python in needed for python in ("3.11.0", "3.12.0"))


def environment_problems(environment: object, project: dict) -> list[str]:
    """What is wrong with an environment.yml; repo2docker itself ignores much of it in silence."""
    if not isinstance(environment, dict) or set(environment) != {"name", "channels", "dependencies"}:
        return ["environment.yml has name, channels and dependencies, and nothing else"]
    if not isinstance(environment["dependencies"], list):
        return ["dependencies is not a list"]
    found = []
    if environment["channels"] != ["conda-forge", "nodefaults"]:
        found.append("channels are not conda-forge and nodefaults")
    library = {canonical(r.name): r for r in requirements(project)}
    conda = [item for item in environment["dependencies"] if isinstance(item, str)]
    (pip,) = [item["pip"] for item in environment["dependencies"] if isinstance(item, dict)] or [[]]
    for item in conda:
        name = re.match(r"[\w-]+", item).group()
        if name == "python":
            # repo2docker understands no range here, and falls back to its own default.
            if not re.fullmatch(r"python=3\.\d+", item):
                found.append(f"{item}: write python=3.11")
        elif name not in CONDA_ONLY:
            known = library.get(CONDA_NAMES.get(name, name))
            if known is None:
                found.append(f"{item} is no dependency of the library")
            elif SpecifierSet(item.removeprefix(name)) != known.specifier:
                found.append(f"{item} is not {known}")
    if not any(item.startswith("-e .[book") for item in pip):
        found.append("the library is not installed with its extra [book]")
    return found


def test_the_conda_environment_agrees_with_the_package(root, project):
    assert environment_problems(yaml.safe_load((root / "environment.yml").read_text()), project) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("python=3.11", "python>=3.11"),
        ("numpy>=1.26", "numpy>=1.20"),
        ("pytorch-cpu>=2.4", "pytorch>=2.4"),
        ("-e .[book,simulate]", "papermill"),
        ("nodefaults", "pytorch"),
        ("name: bithep", "nome: bithep"),
    ],
)
def test_a_wrong_conda_environment_is_noticed(root, project, old, new):
    text = (root / "environment.yml").read_text()
    assert old in text
    assert environment_problems(yaml.safe_load(text.replace(old, new, 1)), project)


def test_binder_takes_the_environment(root):
    """repo2docker prints the image it would build; the conda packages themselves are solved by Binder only."""
    command = [str(Path(sys.executable).with_name("jupyter-repo2docker")), "--no-build", "--debug", "."]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-2000:]
    assert "environment.yml" in said
    assert re.search(r"python[-=]3\.11|environment\.py-3\.11", said)


def test_the_citation_names_this_version(root, project):
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert citation["version"] == project["project"]["version"]
    assert citation["license"] == project["project"]["license"] == "BSD-3-Clause"
    assert "BitHEP developers" in (root / "LICENSE").read_text()
    assert citation["repository-code"] == book_text.repository(root)["url"]
    assert "2504.03387" in str(citation["references"])


@pytest.mark.slow
def test_the_wheel_carries_the_package_data(root, tmp_path):
    """Colab has only the package: samples, records, stored networks and the kernel's source must be in it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    data = {
        path.relative_to(root).as_posix()
        for path in tracked(root, "bithep_lib")
        if path.suffix in (".py", ".npz", ".json", ".safetensors", ".cpp", ".h", ".h5")
    }
    assert any(name.endswith(".cpp") for name in data)
    assert data <= inside
    assert not any(name.startswith(("tests/", "tools/", "notebooks/")) for name in inside)


# --- workflows and make -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test", "publish", "weekly"])
def test_workflows_run_what_make_runs(root, name):
    workflow = yaml.safe_load((root / ".github" / "workflows" / f"{name}.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    runs = "\n".join(step.get("run", "") for step in steps)
    expected = {"test": ".ci/run", "publish": "make book", "weekly": "make links"}
    assert expected[name] in runs
    assert all("@v" in step["uses"] for step in steps if "uses" in step)
    assert workflow["permissions"] == {"contents": "read"}
    targets = re.findall(r"\bmake (\w+)", runs)
    rules = re.findall(r"^(\w+):", (root / "Makefile").read_text(), re.M)
    assert set(targets) <= set(rules)


def test_pages_are_published_from_main_after_the_build(root):
    workflow = yaml.safe_load((root / ".github" / "workflows" / "publish.yml").read_text())
    assert workflow[True]["push"]["branches"] == ["main"]  # YAML reads `on` as true
    assert workflow["jobs"]["deploy"]["needs"] == "build"
    assert workflow["jobs"]["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert workflow["concurrency"] == {"group": "pages", "cancel-in-progress": False}


def test_every_target_of_make_is_a_rule(root):
    text = (root / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.M).group(1).split()
    assert set(phony) == set(re.findall(r"^(\w+):", text, re.M))


def load_environment(root, monkeypatch, tmp_path):
    """tools/environment.py, as a fresh clone in `tmp_path` would run it."""
    spec = importlib.util.spec_from_file_location("environment", root / "tools" / "environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in {
        "ROOT": tmp_path,
        "VENV": tmp_path / ".venv",
        "LOCK": tmp_path / "requirements.lock",
        "STAMP": tmp_path / ".venv" / ".bithep-environment",
        "LOG": tmp_path / ".venv" / "pip.log",
    }.items():
        monkeypatch.setattr(module, name, str(value))
    (tmp_path / "requirements.lock").write_text("nosuchpackage-bithep==1.0\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return module


def test_an_old_python_is_one_line(root, monkeypatch, tmp_path, capsys):
    environment = load_environment(root, monkeypatch, tmp_path)
    monkeypatch.setattr(environment, "FREE_GB", 0.0)
    monkeypatch.setattr(environment.sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    assert environment.main() == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: Python 3.11 or newer is needed")
    assert "is 3.9" in line
    assert "make PYTHON=" in line
    assert not (tmp_path / ".venv").exists()


def test_environment_py_can_be_read_by_an_old_python(root):
    """Else a Python that is too old would answer with a SyntaxError."""
    import ast

    ast.parse((root / "tools" / "environment.py").read_text(), feature_version=(3, 6))


def test_a_full_disk_is_one_line(root, monkeypatch, tmp_path, capsys):
    environment = load_environment(root, monkeypatch, tmp_path)
    monkeypatch.setattr(environment, "FREE_GB", 1e9)
    assert environment.main() == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: the disk is full: ")


@pytest.mark.slow
def test_a_package_that_cannot_be_had_is_one_line(root, monkeypatch, tmp_path, capsys):
    environment = load_environment(root, monkeypatch, tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip's own answer, without asking anybody
    monkeypatch.setattr(environment, "FREE_GB", 0.1)
    assert environment.main() == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: the package nosuchpackage-bithep==1.0 cannot be had")
    assert "nosuchpackage" in (tmp_path / ".venv" / "pip.log").read_text()
    assert not environment.up_to_date()


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'", "cannot be reached"),
        ("ERROR: something else", "ERROR: something else"),
    ],
)
def test_what_pip_says_becomes_one_line(root, monkeypatch, tmp_path, said, line):
    explained = load_environment(root, monkeypatch, tmp_path).explain(["Collecting torch", said])
    assert line in explained
    assert "\n" not in explained


def test_a_change_of_the_pins_makes_the_environment_stale(root, monkeypatch, tmp_path):
    environment = load_environment(root, monkeypatch, tmp_path)
    assert not environment.up_to_date()
    (tmp_path / ".venv").mkdir()
    Path(environment.STAMP).write_text(environment.wanted())
    assert environment.up_to_date()
    (tmp_path / "requirements.lock").write_text("nosuchpackage-bithep==1.1\n")
    assert not environment.up_to_date()
