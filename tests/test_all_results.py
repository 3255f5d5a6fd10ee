"""The page of all results: tables from records, operations that are counted, times that are extrapolated."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bithep_lib import paper, plots, study
from bithep_lib.costs import multiply_adds
from bithep_lib.experiments import all_results, paper_scale
from bithep_lib.models import CaloINN
from bithep_lib.quantize import count


def train(folder, seed, auc, *, variant="pfn/none", scale="smoke", n_train=300):
    run = study.setup("quark_gluon", scale=scale, n_train=n_train, output_dir=str(folder))
    metrics = {"auc": auc, "accuracy": 0.5, "fraction": 0.0}
    return study.record(run, variant=variant, seed=seed, metrics=metrics, data="x", wall_seconds=6.0)


def test_a_new_record_appears_by_itself(tmp_path):
    assert all_results.table("Table 1", tmp_path, "smoke").empty
    for seed in range(1, 6):
        train(tmp_path, seed, 0.8 + 0.01 * seed)
    train(tmp_path, 1, 0.1, n_train=50)  # one seed of another size: not what most seeds have
    table = all_results.table("Table 1", tmp_path, "smoke")
    assert list(table.index) == [("particle-flow network", "smoke")]
    row = table.iloc[0]
    assert row["AUC", "here"] == study.spread([0.81, 0.82, 0.83, 0.84, 0.85])
    assert (row["", "seeds"], row["", "trained on"]) == (5, 300)
    (cost,) = all_results.costs(tmp_path, "smoke").to_dict("records")
    assert cost["minutes"] == 0.1
    assert cost["ms per example"] == 20.0
    hours = all_results.hours(tmp_path, "smoke").loc[("quark_gluon", "smoke")]
    assert (hours["runs"], hours["core-hours"]) == (6, 0.01)


def test_smoke_runs_are_shown_only_where_they_are_asked_for(tmp_path):
    train(tmp_path, 1, 0.999)
    assert "0.9990" not in all_results.table("Table 1", tmp_path).to_string()
    assert "0.9990" in all_results.table("Table 1", tmp_path, "smoke").to_string()


@pytest.mark.parametrize("name", all_results.TABLES)
def test_every_row_of_the_paper_is_a_variant_that_can_be_run(name):
    from bithep_lib.experiments import calodream, caloinn, quark_gluon, smeft

    modules = {"quark_gluon": quark_gluon, "smeft": smeft, "caloinn": caloinn, "calodream": calodream}
    table = all_results.TABLES[name]
    assert set(table.rows.values()) <= set(modules[table.chapter].VARIANTS)
    datasets = ("ds1-photons", "ds1-pions", "ds2") if table.chapter == "caloinn" else ("",)
    ours = {table.published_row.get(row, row).format(dataset=dataset) for row in table.rows for dataset in datasets}
    quoted = {"ParticleNet", "PCT", "LorentzNet", "ParT"}
    assert set(table.published.rows) - quoted <= ours
    assert {metric.column for metric in table.metrics.values()} - {None} <= set(table.published.columns)


def test_the_stored_tables_hold_the_stored_records():
    frame = all_results.runs("Table 2")
    table = all_results.table("Table 2")
    bits = frame[(frame["setup"] == "SMEFTNet-Bit") & (frame["scale"] == "laptop")]
    assert table.loc[("SMEFTNet-Bit", "laptop"), ("<sin²>", "here")] == study.spread(bits["sin2"])
    assert table.loc[("SMEFTNet-Bit", "laptop"), ("Wasserstein", "paper")] == str(
        paper.TABLE_2["SMEFTNet-Bit", "Wasserstein"]
    )
    figure = plots.overview.setups(all_results.panels())
    assert len(figure.axes) == len(all_results.panels())


def test_multiply_adds_are_those_of_the_products():
    model = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    assert multiply_adds(model, torch.zeros(4, 7)) == 4 * (7 * 5 + 5 * 3)
    with torch.device("meta"):
        flow = CaloINN("ds2")
        weights = sum(layer.weights for layer in count(flow).layers)
        assert multiply_adds(flow.eval(), (torch.zeros(1, flow.features), torch.zeros(1, 1))) == weights


@pytest.fixture(scope="module")
def counted():
    return paper_scale.operations()


def test_the_operations_are_those_of_the_settings(counted):
    settings = study.SCALES["smeft"]["paper"]
    row = counted.loc["SMEFTNet"]
    expected = 2 * 3 * row["forward [MMAC]"] * 1e6 * settings.n_train * settings.epochs
    assert 1e15 * row["training [PFLOP]"] == pytest.approx(expected, rel=0.05)  # shown with two and three digits
    assert row["trainings"] == 4 * settings.n_seeds
    assert counted.loc["CaloINN, ds2", "forward [MMAC]"] > 10 * counted.loc["CaloINN, ds1-photons", "forward [MMAC]"]


def test_times_follow_the_operations(counted):
    measured = pd.DataFrame({"network": ["P-DAT"], "macs": [1e12], "seconds": [1000.0], "rate": [1e9]})
    table = paper_scale.estimate(counted, measured, core_gflops=20.0, gpu_tflops=10.0, n_gpus=4)
    row, flop = table.loc["P-DAT"], 1e15 * counted.loc["P-DAT", "training [PFLOP]"]
    assert row["core-hours"] == pytest.approx(row["trainings"] * flop / 2e9 / 3600)
    assert row["share of peak"] == pytest.approx(0.1)
    assert row["GPU-hours"] == pytest.approx(row["core-hours"] / 500)  # the ratio of the peaks
    assert row["hours on the cluster"] == pytest.approx(row["GPU-hours"] * math.ceil(row["trainings"] / 4) / 10)
    assert np.isnan(table.loc["CaloDREAM", "core-hours"])  # no stored run, no estimate
    assert table.loc["all", "core-hours"] == row["core-hours"]


def test_a_stored_run_is_compared_with_its_own_operations(tmp_path):
    for seed, n_train in ((1, 100), (2, 100), (3, 200)):
        train(tmp_path, seed, 0.8, variant="pdat/none", n_train=n_train)
    scaling = paper_scale.scaling(tmp_path, "smoke")
    assert set(scaling["seed"]) == {1, 2}  # as in the table: the size that most seeds have
    forward = paper_scale.NETWORKS["P-DAT"].forward(study.SCALES["quark_gluon"]["smoke"], 1)["network"][0]
    np.testing.assert_allclose(scaling["macs"], 3 * 100 * forward)
    np.testing.assert_allclose(scaling["rate"], scaling["macs"] / 6.0)
