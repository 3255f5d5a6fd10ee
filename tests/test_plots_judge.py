"""The figures of the judge of showers and of their physics show what they were given."""

import numpy as np
import pandas as pd
import pytest

from bithep_lib import plots
from bithep_lib.evaluate.memorisation import Memorisation
from bithep_lib.evaluate.shower_physics import HadronicResponse, Resolution, published_moments
from bithep_lib.evaluate.two_sample import CLASSIFIER, ClassifierResult


def result(mean: float) -> ClassifierResult:
    auc = mean + np.array([-0.01, 0.0, 0.01])
    return ClassifierResult(CLASSIFIER["book"], "high", 100, auc, auc, auc, auc, np.full(3, 0.02), np.ones(3, int))


def test_verdicts_have_a_row_each_and_the_floor_behind():
    figure = plots.judge.verdicts({"good": result(0.52), "bad": result(0.9)}, floor=result(0.5))
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["good", "bad"]
    points = [float(container.lines[0].get_xdata()[0]) for container in ax.containers]
    assert points == pytest.approx([0.52, 0.9])
    assert "AUC" in ax.get_xlabel()


def test_power_is_drawn_against_the_showers():
    curve = pd.DataFrame({"n": [100, 1000], "auc": [0.55, 0.7], "auc_sample": [0.05, 0.02]})
    (ax,) = plots.judge.power({"book": curve}).axes
    assert ax.lines[0].get_xdata().tolist() == [100, 1000]
    assert ax.get_xscale() == "log"


def test_neighbours_have_a_panel_each():
    rng = np.random.default_rng(1)
    one = Memorisation(rng.random(50), rng.random(60), 0.5, 0.02, 0.01, 0.01)
    figure = plots.judge.neighbours({"floor": one, "copies": one})
    assert [ax.get_title().split("\n")[0] for ax in figure.axes] == ["floor", "copies"]


def test_physics_is_drawn_with_units():
    table = pd.DataFrame({"energy": [1.0, 10.0], "mean": 0.95, "mean_error": 0.01, "resolution": [0.2, 0.06]})
    table["resolution_error"] = 0.01
    figure = plots.shower_physics.response({"photons": table}, {"photons": Resolution(0.2, 0.01, 0.01, 0.001)})
    assert all("GeV" in ax.get_xlabel() for ax in figure.axes)
    depth = pd.DataFrame({"energy": [1.0, 10.0], "t_max": [4.0, 6.0], "t_max_error": 0.1, "theory": [4.1, 6.4]})
    (ax,) = plots.shower_physics.depth(depth).axes
    assert "radiation lengths" in ax.get_ylabel()
    shares = pd.DataFrame({"front": [0.5, 0.2], "back": [0.2, 0.6]}, pd.Index([1.0, 64.0], name="energy [GeV]"))
    (ax,) = plots.shower_physics.layers(shares, HadronicResponse(0.7, 0.01)).axes
    assert [bar.get_y() + bar.get_height() for bar in ax.containers[1]] == pytest.approx([0.7, 0.8])
    assert [text.get_text() for text in ax.get_legend().get_texts()][:2] == ["back", "front"]
    assert "GeV" in ax.get_xlabel()
    assert ax.lines[0].get_xdata().tolist() == [1]  # no fit where pions do not shower
    published = published_moments("ds2")
    ours = published.assign(error=0.1)
    figure = plots.shower_physics.moments(ours, published)
    assert len(figure.axes) == 4
    # The response, ratio 0, is not a logit and not among the points.
    assert figure.axes[0].lines[0].get_xdata().tolist() == list(range(1, 45))
