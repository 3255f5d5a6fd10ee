"""Figures and tables of the chapters on generators, and of flows: what they show is what they were given."""

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.patches import Rectangle

from bithep_lib import paper
from bithep_lib.models import CaloINN, splines
from bithep_lib.plots import flow, generators
from bithep_lib.plots.generators import Contrast


def records() -> pd.DataFrame:
    rows = [
        {"variant": "caloinn/Default", "seed": seed, "auc_low": 0.7, "auc_high": 0.8 + 0.01 * seed} for seed in range(5)
    ]
    rows += [{"variant": "caloinn/All", "seed": 0, "auc_low": 0.9, "auc_high": 0.95}]
    rows += [{"variant": "floor", "seed": 1, "auc_low": 0.501, "auc_high": 0.5}]
    rows += [
        {
            "variant": "caloinn/All - caloinn/Default",
            "seed": 1,
            "auc_low_difference": 0.2,
            "auc_low_difference_error": 0.03,
            "curves": {"seeds": {"seed": list(range(n)), "auc_low": [0.2] * n}},
        }
        for n in (5,)
    ]
    return pd.DataFrame(rows)


def test_the_papers_table_beside_ours() -> None:
    rows = {
        "Default": ("ds1-photons Default", "caloinn/Default"),
        "All": ("ds1-photons All", "caloinn/All"),
        "BlockCentral": ("ds1-photons BlockCentral", "caloinn/BlockCentral"),
    }
    table = generators.auc_table(paper.TABLE_3, rows, records(), {"caloinn/All": {"low": "0.91"}})
    assert table.loc["Default", ("paper", "AUC low")] == "0.633 ± 0.003"
    assert table.loc["Default", ("stored runs", "AUC high")] == "0.820 ± 0.016"
    assert table.loc["All", ("stored runs", "AUC low")] == "0.900"
    assert table.loc["All", ("this execution", "AUC low")] == "0.91"
    assert table.loc["BlockCentral", ("stored runs", "AUC low")] == "not run"
    assert table.loc["Geant4 against Geant4", ("stored runs", "AUC low")] == "0.501"
    assert [group for group, _ in table.columns] == ["paper"] * 3 + ["stored runs"] * 2 + ["this execution"] * 2


def test_contrasts_come_from_records_and_have_errors_from_five_trainings_on() -> None:
    rows = {"All": "caloinn/All", "NNCentral": "caloinn/NNCentral"}
    found = generators.contrasts(records(), "caloinn/Default", rows, "auc_low", {"All": 0.1})
    assert found == {"All": Contrast(0.2, 0.03, [0.2] * 5, 0.1)}
    few = records()
    few.at[few.index[-1], "curves"] = {"seeds": {"seed": [1], "auc_low": [0.2]}}
    assert generators.contrasts(few, "caloinn/Default", rows, "auc_low")["All"].error is None


def test_differences_are_where_they_belong() -> None:
    panel = {"a": Contrast(0.1, 0.02, (0.08, 0.12), 0.3), "b": Contrast(-0.1)}
    figure = generators.differences({"AUC low": panel, "AUC high": panel})
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["a", "b"]
    assert [container.lines[0].get_xdata()[0] for container in right.containers] == [0.1, -0.1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["our runs", "one pair of trainings", "paper"]
    with pytest.raises(ValueError, match="same rows"):
        generators.differences({"one": panel, "other": {"a": Contrast(0.1)}})


def test_quality_stands_at_its_size() -> None:
    figure = generators.quality_against_size({"All": (2e6, [0.7, 0.8])}, ylabel="AUC", floor=(0.5, 0.01))
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [2, 2]
    assert list(line.get_ydata()) == [0.7, 0.8]


def bent(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    theta = torch.linspace(-1, 1, 14, dtype=x.dtype).view(14, 1)
    y, log_slope = splines.rational_quadratic(x[:, None], theta.expand(len(x), -1, 1), bound=3.0)
    return y[:, 0], log_slope[:, 0]


def test_the_density_below_integrates_to_one() -> None:
    below = flow.change_of_variables(bent, bound=4.0).axes[2]
    area = 0.0
    for strip in below.collections:
        for path in strip.get_paths():
            x, y = path.vertices.T
            area += abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
    assert area == pytest.approx(1, abs=0.02)


def test_the_slope_is_the_derivative_of_the_map() -> None:
    left, right = flow.map_and_slope({"a": bent}, {"a": ([0.0], [0.0])}, bound=3.0).axes
    x, y = left.lines[1].get_data()
    assert np.gradient(np.asarray(y), x)[100:-100] == pytest.approx(
        np.asarray(right.lines[0].get_ydata())[100:-100], rel=0.1
    )


def test_boxes_are_coloured_by_what_is_in_bits() -> None:
    sizes = {"n_blocks": 6, "hidden": 8, "bins": 4}
    setups = {setup: CaloINN.build(setup, **sizes) for setup in CaloINN.strategies}
    figure = flow.layers_in_bits({setup: made for setup, (made, _) in setups.items()})
    for ax, (_, report) in zip(figure.axes, setups.values(), strict=True):
        boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
        assert len(boxes) == 6 * 4
        assert sum(box.get_alpha() is None for box in boxes) == len(report.quantized)
    letters = ["".join(text.get_text() for text in ax.texts) for ax in figure.axes]
    assert letters == ["RRRRRR", "XXRRXX", "RRRRRR", "XXRRXX", "RRRRRR"]
    with pytest.raises(ValueError, match="equally many blocks"):
        flow.layers_in_bits({"a": CaloINN(**sizes), "b": CaloINN(**sizes | {"n_blocks": 5})})


def test_entries_outside_are_counted() -> None:
    figure = flow.inputs({"half": (np.array([[-19.0, -1.0]]), 18.0)})
    assert "50 % outside" in figure.axes[0].get_title()


def test_courses_steps_and_blocks() -> None:
    history = pd.DataFrame({"valid_loss": [3.0, 2.0]}, index=[1, 2])
    assert list(flow.training({"a": history}).axes[0].lines[0].get_ydata()) == [3, 2]
    assert list(flow.per_block({"a": [1.0, 2.0, 3.0]}, ylabel="loss [nats]").axes[0].lines[0].get_ydata()) == [1, 2, 3]
    points = np.zeros((5, 2))
    assert [ax.get_title() for ax in flow.steps({"one": points, "two": points}, colour=np.arange(5)).axes] == [
        "one",
        "two",
    ]
