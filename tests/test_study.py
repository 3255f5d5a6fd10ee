"""Scales, parameters, records and claims."""

import copy
import json
import math
import os
import pickle
import subprocess
import time
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, strategies
from scipy import stats

from bithep_lib import paper, study
from bithep_lib.files import write_atomic
from bithep_lib.study import provenance, storage
from bithep_lib.study.__main__ import main
from bithep_lib.study.verdicts import verdict

M = study.Measurement


@pytest.fixture
def run(tmp_path):
    return study.setup("quark_gluon", scale="smoke", seed=3, output_dir=str(tmp_path))


# Settings and parameters


@pytest.mark.parametrize("chapter", study.SCALES)
def test_every_scale_obeys_the_rules_it_sets_for_users(chapter):
    assert tuple(study.SCALES[chapter]) == study.SCALE_NAMES
    for scale, settings in study.SCALES[chapter].items():
        given = {item.name: getattr(settings, item.name) for item in fields(settings)}
        assert study.resolve(chapter, scale, given) == settings
    assert len({type(settings) for settings in study.SCALES[chapter].values()}) == 1


@pytest.mark.parametrize("chapter", study.SCALES)
def test_scales_grow(chapter):
    for name in ("n_train", "n_test", "n_jets", "epochs", "n_seeds"):
        sizes = [getattr(settings, name, 0) for settings in study.SCALES[chapter].values()]
        assert sizes == sorted(sizes), name


def test_the_paper_scale_is_the_papers():
    settings = study.SCALES["quark_gluon"]["paper"]
    for name, key in (("n_train", "training"), ("n_valid", "validation"), ("n_test", "testing")):
        assert getattr(settings, name) == paper.TEXT[f"jets for {key}"].value
    assert settings.n_seeds == paper.TEXT["P-DAT trainings"].value
    assert settings.max_constituents == paper.TEXT["constituents"].value


def test_a_parameter_overrides_the_scale_and_none_does_not():
    run = study.setup("quark_gluon", scale="smoke", n_train=np.int64(50), n_valid=None, strategies=["none"])
    assert (run.n_train, run.n_valid, run.strategies) == (50, 100, ("none",))
    assert type(run.n_train) is int
    assert run.given == ("n_train", "strategies")
    assert run.scale == "smoke"
    assert run.device == torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_trian": 5}, "'quark_gluon' has no parameter 'n_trian'; did you mean 'n_train'.*; it has: scale, seed,"),
        ({"scale": "bok"}, "scale='bok' is not allowed: scale is one of 'smoke', 'book', .*did you mean 'book'"),
        ({"scale": None}, "scale=None is not allowed"),
        ({"seed": 1e3}, "seed=1000.0 is not allowed: seed is an integer >= 0; write 1000"),
        ({"seed": 1.5}, "seed=1.5 is not allowed: seed is an integer >= 0$"),
        ({"seed": True}, "seed=True is not allowed"),
        ({"seed": "3"}, "seed='3' is not allowed"),
        ({"seed": -1}, "seed=-1 is not allowed"),
        ({"n_train": 9}, "n_train is an integer >= 10"),
        ({"learning_rate": "1e-3"}, "this is text \\(YAML reads 1e-3 as text: write 1.0e-3\\)"),
        ({"learning_rate": 0}, "learning_rate is a number > 0 and < 1"),
        ({"learning_rate": float("nan")}, "learning_rate=nan is not allowed"),
        ({"weight_decay": -0.1}, "weight_decay is a number >= 0 and < 1"),
        ({"max_minutes": 0}, "max_minutes is a number > 0"),
        ({"strategies": "all"}, "strategies is a list of one or more of 'none', .*; write \\['all'\\]"),
        ({"strategies": ["none", "al"]}, "did you mean 'all'"),
        ({"strategies": []}, "strategies=\\[\\] is not allowed"),
        ({"strategies": ["all", "all"]}, "each once"),
        ({"weights": "stroed"}, "weights is one of 'stored', 'train'; did you mean 'stored'"),
        ({"data": "smaple"}, "or the path of a file that exists; did you mean 'sample'"),
        ({"data": "/no/such/file.npz"}, "or the path of a file that exists"),
        ({"data": 3}, "data=3 is not allowed"),
        ({"device": "gpu"}, "device is 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'"),
        ({"device": "cuda:99"}, "device='cuda:99': this machine has . CUDA devices"),
        ({"output_dir": 3}, "output_dir is the path of a folder"),
        ({"output_dir": "/dev/null"}, "and this is a file"),
        ({"output_dir": "/dev/null/below"}, "is not a folder that can be written: Not a directory"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_in_one_line(parameters, message):
    with pytest.raises(study.ParameterError, match=message) as caught:
        study.setup("quark_gluon", **parameters)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_an_unknown_chapter_and_setting():
    with pytest.raises(
        study.ParameterError, match="no chapter 'quark_glun'; did you mean 'quark_gluon'.*; the chapters"
    ):
        study.setup("quark_glun")
    with pytest.raises(AttributeError, match="chapter 'jets' has no setting 'n_jet'; did you mean 'n_jets'"):
        _ = study.setup("jets").n_jet


def test_a_path_is_accepted_as_data_and_made_absolute(tmp_path, monkeypatch):
    (tmp_path / "jets.npz").touch()
    monkeypatch.chdir(tmp_path)
    assert study.setup("quark_gluon", data="jets.npz").data == str(tmp_path / "jets.npz")


def test_setup_leaves_the_random_state_alone_and_sets_threads():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    study.setup("quark_gluon", seed=9)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == 1


def test_a_run_can_be_copied_and_pickled(run):
    assert copy.deepcopy(run) == pickle.loads(pickle.dumps(run)) == run


def test_output_dir_is_made_or_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BITHEP_CACHE", str(tmp_path / "cache"))
    run = study.setup("quark_gluon", scale="smoke")
    assert run.output_dir == tmp_path / "cache" / "runs" / "quark_gluon" / "smoke"
    assert not (tmp_path / "cache").exists()
    assert study.setup("jets", output_dir=str(tmp_path / "a" / "b")).output_dir.is_dir()


def test_seeds_and_time():
    run = study.setup("quark_gluon", scale="smoke", seed=7, n_seeds=3, max_minutes=0.02 / 60)
    assert run.seeds == (7, 8, 9)
    assert study.setup("jets").seeds == (1,)
    assert study.setup("jets").time_left() == math.inf
    assert study.setup("jets").minutes_left() is None
    assert 0 < run.minutes_left() < 0.02 / 60
    time.sleep(0.03)
    assert run.time_left() == run.minutes_left() == 0
    done = [seed for seed in run.seeds if not run.out_of_time(f"training with seed {seed}")]
    assert done == []
    assert run.left_out == ["training with seed 7", "training with seed 8", "training with seed 9"]


def test_summary_is_the_same_everywhere(tmp_path):
    one = study.setup("quark_gluon", scale="smoke", n_train=50, output_dir=str(tmp_path), device="auto").summary()
    other = study.setup("quark_gluon", scale="smoke", n_train=50).summary()
    assert one.drop(index="device").equals(other.drop(index="device"))
    assert one.loc["n_train", ["value", "from"]].tolist() == ["50", "parameter"]
    assert one.loc["n_test", ["value", "from"]].tolist() == ["200", "scale smoke"]
    assert one.loc["max_minutes", "value"] == "no limit"
    assert str(tmp_path) not in one.to_string()


def test_provenance_names_commit_versions_and_machine_and_no_person(run):
    found = run.provenance
    assert found["versions"]["torch"] == torch.__version__
    assert found["threads"] == 1
    assert found["cpu"]
    text = json.dumps(found)
    assert os.path.expanduser("~") not in text
    assert os.uname().nodename not in text
    if (provenance.PACKAGE.parent / ".git").exists():
        command = ["git", "-C", str(provenance.PACKAGE), "rev-parse", "HEAD"]
        assert found["commit"] == subprocess.run(command, capture_output=True, text=True).stdout.strip()


def test_the_commit_of_another_repository_is_not_ours(tmp_path, monkeypatch):
    package = tmp_path / ".venv" / "bithep_lib"
    package.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    assert provenance.commit()[1] is not True
    assert provenance.peak_memory_mib() > 50


# Records


def write(run, **changes):
    arguments = {"variant": "pfn/all", "metrics": {"auc": 0.8, "rejection": M(30.0, 1.5)}, "data": "fingerprint"}
    return study.record(run, **(arguments | changes))


def test_a_record_says_how_it_was_made(run, tmp_path):
    curves = {"roc": {"signal": np.linspace(0, 1, 3, dtype=np.float32), "background": torch.tensor([0.0, 0.1, 1.0])}}
    path = write(run, curves=curves, claims={"table1-auc": M(-0.004, 0.001, 4)}, phi_sizes=(64, 64), backend="native")
    assert path.parent == tmp_path / "records" / "quark_gluon" / "smoke"
    content = json.loads(path.read_text())
    assert content["parameters"]["n_train"] == 300
    assert content["parameters"]["phi_sizes"] == [64, 64]
    assert content["curves"]["roc"]["background"] == [0.0, 0.1, 1.0]
    assert content["provenance"]["versions"]["torch"] == torch.__version__
    assert content["peak_memory_mib"] > 50
    assert "\n" not in path.read_text().split('"signal": [')[1].split("]")[0]
    assert str(tmp_path) not in path.read_text()

    row = study.records("quark_gluon", folder=tmp_path).query("scale == 'smoke' and variant == 'pfn/all'").iloc[0]
    assert (row.seed, row.auc, row.rejection, row.rejection_error) == (3, 0.8, 30.0, 1.5)
    assert row.backend == "native"
    assert study.measurements("smoke", folder=tmp_path)["table1-auc"] == ("smoke", M(-0.004, 0.001, 4))
    assert study.measurements(folder=tmp_path).get("table1-auc", ("book",))[0] != "smoke"  # smoke decides nothing


def test_a_users_folder_stays_private(tmp_path):
    (tmp_path / "jets.npz").touch()
    run = study.setup("quark_gluon", scale="smoke", data=str(tmp_path / "jets.npz"), output_dir=str(tmp_path))
    content = write(run).read_text()
    assert str(tmp_path) not in content
    assert json.loads(content)["parameters"]["data"] == "jets.npz"


def test_nothing_is_overwritten_in_silence(run):
    path = write(run)
    before = path.stat().st_mtime_ns
    assert write(run) == path
    assert path.stat().st_mtime_ns == before
    with pytest.warns(UserWarning, match=r"the old record is now .*superseded-1.json"):
        write(run, metrics={"auc": 0.9})
    with pytest.warns(UserWarning, match=r"superseded-2.json"):
        write(run, metrics={"auc": 0.7})
    assert len(list(path.parent.iterdir())) == 3
    assert study.records("quark_gluon", "smoke", "pfn/all", folder=run.output_dir)["auc"].tolist() == [0.7]


def test_other_settings_are_another_record(run, tmp_path):
    names = {write(run), write(run, seed=4), write(run, data="other"), write(run, variant="pfn/none")}
    names |= {write(run, width=3), write(run, backend="native")}
    longer = study.setup("quark_gluon", scale="smoke", seed=3, epochs=2, output_dir=str(tmp_path))
    more_seeds = study.setup("quark_gluon", scale="smoke", seed=3, n_seeds=2, max_minutes=9, output_dir=str(tmp_path))
    assert len(names | {write(longer)}) == 7
    assert write(more_seeds) in names  # the same training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"auc": float("nan")}}, "metric 'auc' is nan, not a finite number"),
        ({"metrics": {"auc": True}}, "metric 'auc' is True"),
        ({"metrics": {"auc": "high"}}, "metric 'auc' is 'high'"),
        ({"metrics": {"auc": {"value": 1.0, "sigma": 2.0}}}, "metric 'auc' has the fields"),
        ({"metrics": {"auc": object()}}, "a record cannot hold"),
        ({"variant": "../up"}, "variant '../up' has characters"),
        ({"variant": ""}, "variant '' has characters"),
        ({"data": ""}, "data has no fingerprint"),
        (
            {"curves": {"roc": {"x": [1.0], "y": [1.0, 2.0]}}},
            "the columns of curve 'roc' are not lists of equal length",
        ),
        ({"claims": {"table9": M(1.0)}}, "chapter 'quark_gluon' has no claim table9; it has table1-accuracy"),
    ],
)
def test_a_record_that_is_not_valid_is_not_written(run, changes, message):
    with pytest.raises(ValueError, match=message):
        write(run, **changes)
    assert not (run.output_dir / "records").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:100], "is not a valid run record"),
        (lambda text: "[]", "it is not a JSON object"),
        (lambda text: text.replace('"schema": 1', '"schema": 9'), "schema is 9, this version reads 1"),
        (lambda text: text.replace('"seed": 3', '"sead": 3'), "the fields sead, seed are missing or unknown"),
        (lambda text: text.replace('"seed": 3', '"seed": "3"'), "seed is '3'"),
        (lambda text: text.replace('"auc": 0.8', '"auc": null'), "metric 'auc' is None"),
        (lambda text: text.replace('"scale": "smoke"', '"scale": "big"'), "at scale 'big'"),
    ],
)
def test_a_damaged_record_is_named(run, damage, message):
    path = write(run)
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=f"{path.name} is not a valid run record.*{message}|{message}") as caught:
        study.records("quark_gluon", folder=run.output_dir)
    assert path.name in str(caught.value)


def test_records_refuses_unknown_names():
    with pytest.raises(ValueError, match="there is no chapter 'quarks'"):
        study.records("quarks")
    with pytest.raises(ValueError, match="there is no scale 'big'"):
        study.records("quark_gluon", "big")
    with pytest.raises(ValueError, match="no setting 'epoch'; did you mean 'epochs'"):
        study.records("quark_gluon", epoch=8)


def test_records_of_runs_with_certain_settings(run):
    write(run)
    found = {n: len(study.records("quark_gluon", "smoke", folder=run.output_dir, n_train=n)) for n in (run.n_train, 7)}
    assert found == {run.n_train: 1, 7: 0}


def test_the_packages_own_records_are_valid_and_committed_under_their_names():
    for path in storage._files(provenance.PACKAGE / "records"):
        content = storage.load(path)
        assert path == provenance.PACKAGE / "records" / storage.file_name(content)
        assert content["scale"] != "smoke"
    for chapter in study.SCALES:
        assert isinstance(study.records(chapter), pd.DataFrame)


def test_collect_takes_records_and_refuses_to_replace_in_silence(run, tmp_path, monkeypatch, capsys):
    write(run)  # of scale smoke: stays where it is
    run = study.setup("quark_gluon", scale="book", output_dir=str(tmp_path))
    package = tmp_path / "package"
    monkeypatch.setattr("bithep_lib.study.__main__.PACKAGE", package)
    name = write(run).name
    assert main(["collect", str(tmp_path)]) == 0
    stored = package / "records" / "quark_gluon" / "book" / name
    assert stored.exists()
    assert "1 records taken, 0 left" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="superseded"):
        write(run, metrics={"auc": 0.9})
    source = str(tmp_path / "records")
    assert main(["collect", source]) == 1
    assert f"left quark_gluon/book/{name}: the package has other numbers" in capsys.readouterr().err
    assert json.loads(stored.read_text())["metrics"]["auc"] == 0.8
    assert main(["collect", source, "--replace"]) == 0
    assert json.loads(stored.read_text())["metrics"]["auc"] == 0.9
    (tmp_path / "records" / "quark_gluon" / "book" / "bad.json").write_text("{")
    assert main(["collect", source]) == 1
    assert "bad.json is not a valid run record" in capsys.readouterr().err


def test_a_spread_needs_five_trainings():
    assert study.spread([0.9, 0.91, 0.92, 0.93, 0.94], digits=3) == "0.920 ± 0.016"
    assert study.spread([0.9, 0.91, 0.92, 0.93], digits=2) == "0.90, 0.91, 0.92, 0.93"
    assert study.spread([math.nan]) == "not run"
    frame = pd.DataFrame({"variant": ["a"] * 5 + ["b"], "scale": "book", "auc": [1, 2, 3, 4, 5, 6]})
    table = study.summarise(frame, {"auc": 1})
    assert table.loc[("a", "book")].tolist() == [5, "3.0 ± 1.6"]
    assert table.loc[("b", "book")].tolist() == [1, "6.0"]
    assert study.summarise(frame[:0], {"auc": 1}).empty


def test_write_atomic_replaces_or_leaves(tmp_path):
    path = write_atomic(tmp_path / "new" / "file", "one")
    write_atomic(path, b"two")
    assert path.read_text() == "two"
    assert [item.name for item in path.parent.iterdir()] == ["file"]
    with pytest.raises(OSError, match="could not write /dev/null/file"):
        write_atomic("/dev/null/file", "x")


# Claims


def test_p_values_are_those_of_scipy():
    assert M(1.0, 0.5).above(0.0) == pytest.approx(stats.norm.sf(2))
    assert M(1.0, 0.5, 4).above(0.0) == pytest.approx(stats.t.sf(2, 4))
    assert M(1.0, 0.5, 4).below(0.0) == pytest.approx(stats.t.cdf(2, 4))
    assert M(1.0, 0.5).equal(0.0) == pytest.approx(2 * stats.norm.sf(2))
    assert (M(3.0).equal(3.0), M(3.0).equal(2.0), M(3.0).above(2.0), M(3.0).below(2.0)) == (1, 0, 0, 1)


@pytest.mark.parametrize(
    ("value", "error", "dof"), [(math.nan, 1, None), (1, -1, None), (1, math.inf, None), (1, 1, 0)]
)
def test_an_impossible_measurement(value, error, dof):
    with pytest.raises(ValueError, match="a measurement needs|an error from one training is no error"):
        M(value, error, dof)


@pytest.mark.parametrize(
    ("rule", "measured", "expected"),
    [
        (study.Difference(-0.005), M(-0.0048, 0.0005), "confirmed"),
        (study.Difference(-0.005), M(0.0001, 0.0005), "contradicted"),  # no effect
        (study.Difference(-0.005), M(-0.020, 0.0005), "contradicted"),  # far larger
        (study.Difference(-0.005), M(-0.003, 0.004), "insensitive"),
        (study.Difference(-0.005, error=0.01), M(0.0001, 0.0005), "insensitive"),  # the paper does not know itself
        (study.AtMost(0.02), M(0.010, 0.002), "confirmed"),
        (study.AtMost(0.02), M(0.030, 0.002), "contradicted"),
        (study.AtMost(0.02), M(0.021, 0.002), "insensitive"),
        (study.Exact(63, 0.5), M(62.69), "confirmed"),
        (study.Exact(63, 0.5), M(21.3), "contradicted"),
    ],
)
def test_verdicts(rule, measured, expected):
    assert verdict(*rule.p_values(measured)) == expected


def test_holm_worked_example():
    assert study.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert study.holm([]) == []


@given(strategies.lists(strategies.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_between_the_raw_p_value_and_bonferroni_and_keeps_the_order(p_values):
    corrected = study.holm(p_values)
    assert all(p <= c <= min(1, len(p_values) * p) + 1e-12 for p, c in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.asarray(corrected)[order]) >= 0).all()


def claim(number, family="Table X"):
    return study.Claim(
        id=f"c{number}", statement="", source="", chapter="jets", family=family, contrast="", rule=study.Difference(1.0)
    )


def test_the_correction_is_made_within_a_family():
    measured = {f"c{number}": M(1.0, 0.45) for number in range(3)}  # p = 0.026 against none
    alone = study.judge([claim(n, f"Table {n}") for n in range(3)], measured)
    together = study.judge([claim(n) for n in range(3)], measured)
    assert set(alone.values()) == {"confirmed"}
    assert set(together.values()) == {"insensitive"}
    assert study.judge([claim(0)], {}) == {"c0": "not attempted"}
    with pytest.raises(ValueError, match="there is no claim c9"):
        study.judge([claim(0)], {"c9": M(1.0)})


def test_under_the_null_the_family_is_rarely_wrong():
    """With no effect anywhere, no claim of a family of five is "confirmed" in at least 95 % of the repetitions."""
    generator = np.random.default_rng(1)
    claims = [claim(number) for number in range(5)]
    wrong = 0
    for _ in range(400):
        measured = {f"c{number}": M(generator.normal(), 1.0) for number in range(5)}
        wrong += "confirmed" in study.judge(claims, measured).values()
    assert wrong / 400 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_the_books_claims_come_from_the_paper():
    claims = {claim.id: claim for claim in study.claims()}
    assert len(claims) == len(study.claims())
    assert claims["table1-auc"].rule.published == -0.0052
    assert claims["table1-accuracy"].rule.published == -0.005
    assert claims["table1-rej50"].rule.published == pytest.approx(35.0 / 39.2 - 1, abs=1e-4)
    assert claims["table1-rej30"].rule.published == pytest.approx(83.3 / 95.1 - 1, abs=1e-4)
    for item in claims.values():
        assert item.chapter in study.SCALES
        assert item.statement
        assert item.source
        assert item.contrast
        effects = list(item.effect.values())
        assert effects == sorted(effects, reverse=True)  # larger scales see smaller effects
        assert set(item.effect) <= set(study.SCALE_NAMES)
        assert item.effect or isinstance(item.rule, study.Exact)
    assert claims["conclusion-classification"].rule.bound == 0.0087  # ParT 0.9203, ParticleNet 0.9116
    assert "book" not in claims["table1-rej30"].effect  # fewer than 50 gluons pass
    assert study.claims("jets") == ()


def test_the_table_of_claims():
    measured = {"table1-auc": ("laptop", M(-0.0051, 0.0007, 4)), "section3-fraction": ("book", M(62.69))}
    table = study.table(study.claims(), measured)
    assert table.loc["table1-auc", ["measured", "scale"]].tolist() == ["-0.00510 ± 0.00070", "laptop"]
    assert table.loc["table1-auc", "verdict"] == "confirmed"
    assert table.loc["section3-fraction", ["measured", "verdict"]].tolist() == ["62.69", "confirmed"]
    assert (table["verdict"] == "not attempted").sum() == len(study.claims()) - 2
    assert len(study.claims_table()) == len(study.claims())
