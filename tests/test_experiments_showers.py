"""The runs behind the stored numbers on the judge."""

import numpy as np
import pytest

from bithep_lib import study
from bithep_lib.data.calochallenge import write
from bithep_lib.experiments import showers as experiment
from bithep_lib.simulate import gflash


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file of showers that need no Geant4."""
    made = gflash.generate("ds1-photons", 600, seed=3)
    path = tmp_path_factory.mktemp("showers") / "mine.hdf5"
    write(path, made)
    return path


def test_a_sabotaged_sample_is_judged_and_recorded(file, tmp_path, capsys):
    arguments = ["floor", "drop-0.5", "--repetitions", "1"]
    arguments += [f"-p{name}={value}" for name, value in (("scale", "smoke"), ("data", file), ("output_dir", tmp_path))]
    assert experiment.main(arguments) == 0
    assert "drop-0.5: AUC" in capsys.readouterr().out
    frame = study.records("showers", scale="smoke", folder=tmp_path).set_index("variant")
    assert frame.loc["drop-0.5/high", "auc"] > frame.loc["floor/high", "auc"] + 0.1
    assert frame.loc["drop-0.5/high", "parameters"]["judge"]["repetitions"] == 1


def test_gflash_is_made_for_the_energies_of_the_reference(file):
    judge = experiment.judge_of(study.setup("showers", scale="smoke", data=str(file)))
    made = experiment.sample(judge, "gflash")
    judge.check_energies(made)
    assert [len(part) for part in (judge.train, judge.valid, judge.reference, judge.floor)] == [180, 60, 180, 180]
    assert np.array_equal(experiment.sample(judge, "floor").voxels, judge.floor.voxels)
    with pytest.raises(ValueError, match="'floor', 'gflash' or one of"):
        experiment.sample(judge, "smeared-0.1")


def test_wrong_parameters_are_one_line(capsys):
    assert experiment.main(["floor", "-p", "scale=huge"]) == 2
    assert "scale='huge'" in capsys.readouterr().err
