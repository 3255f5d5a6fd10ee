"""The sensitivity atlas: blocks, runs, and the cost that is drawn."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import nn

from bithep_lib import BitLinear, plots, study
from bithep_lib.experiments import atlas
from bithep_lib.experiments.atlas_models import MODELS

SETTINGS = ["-p", "scale=smoke", "-p", "n_train=40", "-p", "n_valid=20", "-p", "n_test=30"]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    return atlas.Campaign(study.setup("atlas", scale="smoke", n_train=20, n_test=20, output_dir=str(folder)))


@pytest.mark.parametrize("name", MODELS)
def test_a_block_is_in_bits_and_nothing_else(name, campaign):
    linears = {layer for layer, module in campaign.build(atlas.Variant(name), 1)[0].named_modules() if linear(module)}
    for block, select in MODELS[name].blocks.items():
        model, report = campaign.build(atlas.Variant(name, block, "ternary", 4), 1)
        bits = {layer for layer, module in model.named_modules() if isinstance(module, BitLinear)}
        assert bits == {layer for layer in linears if select(layer, None)}
        assert 0 < report.fraction < 1
        assert all(model.get_submodule(layer).spec.activation_bits == 4 for layer in bits)


def linear(module):
    return isinstance(module, nn.Linear) and not isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_the_same_twice_and_falls_with_training(name, campaign):
    model = campaign.build(atlas.Variant(name), 1)[0]
    part = campaign.data(name)[0]["test"]
    assert MODELS[name].loss(model, part) == MODELS[name].loss(model, part)
    outcome = campaign.train(f"{name}/none", 1)
    assert np.isfinite(outcome.loss)
    assert float(outcome.untrained) == MODELS[name].loss(model, part)


def test_runs_are_recorded_and_their_cost_is_a_share(tmp_path, capsys):
    pair = "smeftnet/none", "smeftnet/read-out binary-8bit"
    options = ["--seeds", "1", "2", *SETTINGS, "-p", f"output_dir={tmp_path}"]
    assert atlas.main([*pair, "--compare", *pair, *options]) == 0
    *runs, difference = [json.loads(Path(line).read_text()) for line in capsys.readouterr().out.split()]
    loss = {(run["variant"], run["seed"]): run["metrics"] for run in runs}
    costs = [
        (loss[pair[1], seed]["loss"] - loss[pair[0], seed]["loss"]) / (0.5 - loss[pair[0], seed]["loss"])
        for seed in (1, 2)
    ]
    assert difference["metrics"]["cost"]["value"] == pytest.approx(np.mean(costs))
    (row,) = atlas.costs(tmp_path, "smoke").to_dict("records")
    assert (row["model"], row["block"], row["weights"], row["activation_bits"]) == ("smeftnet", "read-out", "binary", 8)
    assert row["cost"] == pytest.approx(np.mean(costs))


def test_weights_alone_and_inputs_alone():
    specs = [(None, 8), ("ternary", None), ("ternary", 8), ("binary", 4)]
    rows = [("shape", "embeddings", *spec, 0.1 * i, np.nan, 0.2 * bool(i), 1, "book") for i, spec in enumerate(specs)]
    (row,) = atlas.alone(pd.DataFrame(rows, columns=atlas._COLUMNS)).reset_index().to_dict("records")
    assert (row["model"], row["block"], row["share"]) == ("shape", "embeddings", 0.2)
    assert (row["8-bit inputs"], row["ternary weights"]) == (0.0, 0.1)
    assert all(np.isnan(row[kind]) for kind in ("4-bit inputs", "8-bit weights", "binary weights"))
    assert atlas.alone(atlas.costs(scale="paper")).empty


def test_where_training_gained_nothing_there_is_no_cost():
    assert atlas._share("energy", 2.0, 1.0, 1.5) == 0.5
    assert np.isnan(atlas._share("energy", 1.0, 1.0, 1.5))


def test_the_name_of_a_model_stands_for_its_whole_grid(monkeypatch):
    asked = {}
    monkeypatch.setattr(atlas.driver, "main", lambda campaign, text, arguments: asked.update(given=arguments) or 0)
    atlas.main(["smeftnet", "--seeds", "1"])
    assert len([name for name in asked["given"] if name in atlas.VARIANTS]) == 1 + 3 * (4 * 3 - 1)
    assert asked["given"][-2:] == ["--seeds", "1"]


def test_the_figure_has_a_row_a_block_and_a_number_a_cell():
    variants = [v for v in atlas.VARIANTS.values() if v.block is not None and v.model in ("smeftnet", "shape")]
    costs = pd.DataFrame([vars(v) for v in variants]).assign(cost=np.linspace(0, 1, len(variants)))
    axes = plots.overview.atlas(costs).axes
    assert [len(ax.get_yticks()) for ax in axes[:2]] == [3, 5]
    assert len(axes[0].texts) + len(axes[1].texts) == len(variants)
    costs.loc[0, "cost"] = np.nan
    assert len(plots.overview.atlas(costs).axes[0].texts) == len(axes[0].texts) - 1
