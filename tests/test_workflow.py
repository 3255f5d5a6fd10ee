"""The workflow: a grid that is killed and goes on, fails in one place, changes in one place, and runs on a cluster."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from bithep_lib import study
from bithep_lib.run import Notebook, find
from bithep_lib.study.storage import load
from tools import scan

pytest.importorskip("snakemake", reason="the extra [scan] is not installed")
pytestmark = pytest.mark.timeout(1800)  # a minute and a half on two idle cores; a busy machine is no failure

# Fourteen jobs. "broken" asks for fewer jets than a page of jets may have.
GRID = {
    "scale": "smoke",
    "seeds": [1, 2],
    "chapters": {"broken": {"notebook": "jets", "parameters": {"n_jets": 1}}},
    "trainings": {
        "quark_gluon": {
            "variants": ["pfn/none", "pfn/all"],
            "compare": [["pfn/none", "pfn/all"]],
            "settings": {"n_train": 100, "n_valid": 50, "n_test": 100},
        },
        "smeft": {
            "variants": ["smeftnet/none", "smeftnet/all"],
            "compare": [["smeftnet/none", "smeftnet/all"]],
            "settings": {"n_train": 100, "n_valid": 50, "n_test": 100},
        },
    },
}
TRAININGS = 8


class Workflow:
    """The workflow in a folder of its own, with one grid."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.grid, self.file = folder, json.loads(json.dumps(GRID)), folder / "mine.yaml"
        self.results = folder / "tested"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        self.file.write_text(yaml.safe_dump({"grids": {"tested": self.grid}}))
        command = scan.command("tested", ["--configfile", str(self.file), *arguments], self.folder)
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment.pop('PATH', '')}{os.environ['PATH']}"
        settings = {"PATH": path, "BITHEP_CACHE": str(self.folder / "cache"), "HOME": str(self.folder)}
        return subprocess.Popen(
            command,
            env=os.environ | settings | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, **environment)
        try:
            said, _ = process.communicate()
        finally:
            kill(process)
        return process.returncode, said

    def planned(self) -> dict[str, int]:
        """What a call would run: rule to number of jobs."""
        code, said = self.run("--dry-run")
        assert code == 0, said
        counts = re.search(r"Job stats:\n.*?\n-[- ]*\n(.*?)\n\n", said, re.S)
        return {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)", counts[1] if counts else "", re.M)}

    def records(self) -> list[Path]:
        return sorted(self.results.glob("runs/*/records/*/*/*.json"))

    def finished(self) -> dict[Path, int]:
        """The trainings that are done, with the times at which they were."""
        return {path: path.stat().st_mtime_ns for path in self.results.glob("trainings/*/*.txt") if path.stat().st_size}


def kill(process: subprocess.Popen) -> None:
    """The workflow and its jobs, at once."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def until(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def story(tmp_path_factory) -> dict:
    """One grid through its life: killed, continued with a job that fails, corrected. The tests look at the stages."""
    workflow = Workflow(tmp_path_factory.mktemp("scan"))
    found = {"workflow": workflow, "planned": workflow.planned()}

    process = workflow.start()
    try:
        until(lambda: len(workflow.finished()) >= 3, process)
    finally:
        kill(process)
    found["killed"] = {"records": workflow.records(), "finished": workflow.finished()}
    for path in found["killed"]["records"]:
        load(path)  # raises where one is damaged

    found["failed"] = workflow.run()
    found["after_failure"] = workflow.finished()

    workflow.grid["chapters"]["broken"]["parameters"]["n_jets"] = 300
    found["planned_correction"] = workflow.planned()
    found["corrected"] = workflow.run()
    found["after_correction"] = workflow.finished()
    return found


@pytest.mark.slow
def test_the_grid_is_of_the_size_it_says(story):
    assert story["planned"] == {
        "all": 1,
        "chapter": 1,
        "evaluate": 2,
        "records": 1,
        "results": 1,
        "total": 14,
        "train": TRAININGS,
    }


@pytest.mark.slow
def test_a_killed_workflow_goes_on_and_loses_only_the_jobs_in_hand(story):
    killed, after = story["killed"]["finished"], story["after_failure"]
    assert 3 <= len(killed) < TRAININGS
    assert len(after) == TRAININGS
    done_again = [path for path in killed if after[path] != killed[path]]
    assert len(done_again) <= 2  # those that were being written: two jobs at a time
    for path in story["killed"]["records"]:
        load(path)


@pytest.mark.slow
def test_a_failing_job_names_its_log_and_the_others_go_on(story):
    code, said = story["failed"]
    assert code != 0
    assert "tested/logs/chapters/broken-seed1.log" in said
    assert "n_jets=1 is not allowed" in said  # what the log holds is shown
    workflow = story["workflow"]
    assert len(list(workflow.results.glob("evaluations/*/*.txt"))) == 2
    assert not list(workflow.folder.glob("**/*.superseded*"))


@pytest.mark.slow
def test_a_corrected_parameter_runs_what_depends_on_it_and_nothing_else(story):
    assert story["planned_correction"] == {"all": 1, "chapter": 1, "records": 1, "results": 1, "total": 4}
    assert story["corrected"][0] == 0, story["corrected"][1]
    assert story["after_correction"] == story["after_failure"]
    workflow = story["workflow"]
    assert workflow.planned() == {}
    workflow.grid["trainings"]["smeft"]["settings"]["learning_rate"] = 1e-3
    planned = {"all": 1, "evaluate": 1, "records": 1, "results": 1, "total": 8, "train": 4}
    assert workflow.planned() == planned


@pytest.mark.slow
def test_the_page_of_results_is_made_of_the_records_of_the_grid(story):
    workflow = story["workflow"]
    listed = {line for path in workflow.results.glob("*/**/*.txt") for line in path.read_text().splitlines()}
    records = sorted(workflow.results.glob("records/*/*/*.json"))
    assert len(records) == len(listed) == TRAININGS + 2 + 1
    assert {load(path)["scale"] for path in records} == {"smoke"}
    frame = study.records("smeft", "smoke", folder=workflow.results / "records")
    value = frame[frame["variant"] == "smeftnet/none"]["sin2"].iloc[0]
    page = (workflow.results / "results.html").read_text()
    assert f"{value:.4f}" in page
    assert "SMEFTNet-Bit" in page


SBATCH = """#!/bin/sh
# Writes its call down, and runs the job at once, as a node would.
echo "$@" >> "$SLURM_STAND_IN/submitted"
for last; do :; done
SLURM_JOB_ID=1 sh -c "${last#--wrap=}" > "$SLURM_STAND_IN/job" 2>&1
echo $? > "$SLURM_STAND_IN/code"
echo 1
"""
STATE = """#!/bin/sh
if [ "$(cat "$SLURM_STAND_IN/code" 2> /dev/null)" = 0 ]; then echo "1|COMPLETED"; else echo "1|FAILED"; fi
"""
SRUN = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
exec "$@"
"""


@pytest.mark.slow
def test_a_job_goes_through_slurm(tmp_path, root):
    """Against stand-ins for Slurm's programs: what is submitted, and that it does the job on the other side."""
    programs = {"sbatch": SBATCH, "sacct": STATE, "squeue": STATE, "srun": SRUN}
    programs |= {"sinfo": "#!/bin/sh\n", "sacctmgr": "#!/bin/sh\necho my_group\n"}
    (tmp_path / "bin").mkdir()
    for name, script in programs.items():
        path = tmp_path / "bin" / name
        path.write_text(script)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    workflow = Workflow(tmp_path)
    target = "tested/trainings/smeft/smeftnet_none-seed3.txt"
    code, said = workflow.run(
        *("--workflow-profile", str(root / "workflow" / "profiles" / "slurm"), "--latency-wait", "2"),
        *("--default-resources", "slurm_account=my_group", "slurm_partition=cpu"),
        *("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"),
        *("--", target),
        SLURM_STAND_IN=str(tmp_path),
        PATH=f"{tmp_path / 'bin'}{os.pathsep}",
    )
    assert code == 0, said
    call = (tmp_path / "submitted").read_text()
    assert call.count("--parsable") == 1
    resources = yaml.safe_load((root / "workflow" / "config.yaml").read_text())["resources"]["train"]
    for option in ("my_group", "cpu", f"--mem {resources['mem_mb']}", f"-t {resources['runtime']}"):
        assert option in call
    assert load(workflow.folder / (workflow.folder / target).read_text().strip())["seed"] == 3


def test_every_grid_names_what_there_is(root):
    """Chapters, variants and settings, at every scale; the numbers simulated are those that the chapters read."""
    from bithep_lib.experiments import atlas, calodream, caloinn, quark_gluon, smeft

    modules = quark_gluon, smeft, caloinn, calodream, atlas
    campaigns = {module.Campaign.chapter: module.Campaign for module in modules}
    config = yaml.safe_load((root / "workflow" / "config.yaml").read_text())
    for grid in config["grids"].values():
        scale = grid["scale"]
        for chapter in grid.get("chapters", {}).values():
            Notebook.read(find(chapter["notebook"])).check(chapter.get("parameters", {}) | {"scale": scale})
        for name, training in grid["trainings"].items():
            campaign = campaigns[training.get("chapter", name)]
            chosen = study.resolve(campaign.chapter, scale, training.get("settings", {}))
            assert set(training["variants"]) <= {*campaign.variants, *atlas.MODELS}, name
            compared = {variant for pair in training.get("compare", []) for variant in pair}
            assert compared <= set(training["variants"]), name
            if getattr(chosen, "data", None) == "simulate":
                (sample,) = training["data"]
                parts = ("n_train", "n_valid", "n_test", "n_reference", "n_floor")
                needed = sum(getattr(chosen, part, 0) for part in parts)
                assert grid["simulate"][sample]["n"] >= needed, f"{name} reads {needed} examples"


def test_a_grid_with_a_mistake_is_refused_before_anything_runs(tmp_path):
    workflow = Workflow(tmp_path)
    workflow.grid["trainings"]["smeft"]["variant"] = ["smeftnet/none"]
    code, said = workflow.run("--dry-run")
    assert code != 0
    assert "'variant' was unexpected" in said
    workflow.grid = json.loads(json.dumps(GRID))
    code, said = workflow.run("--dry-run", "--config", "grid=nope")
    assert "there is no grid 'nope'; the grids are" in said


def test_two_scans_at_once_are_refused(tmp_path, monkeypatch, capsys):
    import fcntl

    monkeypatch.setattr(scan, "FOLDER", tmp_path)
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert scan.main(["smoke"]) == 2
    assert "another scan is running" in capsys.readouterr().err


# The fields of REANA's specification that are used here, from its documentation.
REANA = {
    "type": "object",
    "required": ["version", "inputs", "workflow", "outputs"],
    "additionalProperties": False,
    "properties": {
        "version": {"type": "string"},
        "inputs": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "files": {"type": "array", "items": {"type": "string"}},
                "directories": {"type": "array", "items": {"type": "string"}},
                "parameters": {"type": "object", "required": ["input"]},
            },
        },
        "workflow": {
            "type": "object",
            "required": ["type", "file"],
            "additionalProperties": False,
            "properties": {"type": {"const": "snakemake"}, "file": {"type": "string"}},
        },
        "outputs": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "files": {"type": "array", "items": {"type": "string"}},
                "directories": {"type": "array", "items": {"type": "string"}},
            },
        },
    },
}


def test_reana_finds_what_it_is_told(root):
    reana = yaml.safe_load((root / "reana.yaml").read_text())
    jsonschema.validate(reana, REANA)
    inputs = reana["inputs"]
    assert all((root / name).is_file() for name in (*inputs["files"], reana["workflow"]["file"]))
    assert all((root / name).is_dir() for name in inputs["directories"])
    parameters = yaml.safe_load((root / inputs["parameters"]["input"]).read_text())
    assert any(inputs["parameters"]["input"].startswith(f"{folder}/") for folder in inputs["directories"])
    assert parameters["container"].startswith("docker://")
    config = yaml.safe_load((root / "workflow" / "config.yaml").read_text())
    assert parameters["grid"] in config["grids"]
    for name in (*reana["outputs"]["files"], *reana["outputs"]["directories"]):
        assert name.startswith(f"{parameters['grid']}/")
