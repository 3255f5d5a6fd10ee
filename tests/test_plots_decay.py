"""Figures of the decay plane: what they show is what they were given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from bithep_lib.data import wz
from bithep_lib.plots import decay


@pytest.fixture(scope="module")
def jets():
    return wz.load("sample", n=400)


def labels(figure: Figure) -> list[str]:
    return [text for ax in figure.axes for text in (ax.get_xlabel(), ax.get_ylabel())]


def test_the_plane_is_at_the_angle():
    figure = decay.decay_plane(angle=0.6)
    line = next(line for line in figure.axes[1].lines if line.get_label() == "decay plane")
    (x0, x1), (y0, y1) = line.get_xdata(), line.get_ydata()
    assert np.arctan2(y1 - y0, x1 - x0) == pytest.approx(0.6)


def test_jets_turned_by_the_truth_lie_along_the_axis(jets):
    figure = decay.average_images(jets)
    spread = []
    for ax in figure.axes[:2]:
        image = ax.collections[0].get_array().reshape(41, 41)  # rows: y
        centre = np.arange(41) - 20
        spread.append((image.sum(axis=0) @ centre**2) / (image.sum(axis=1) @ centre**2))
    assert spread[0] == pytest.approx(1, abs=0.3)
    assert spread[1] > 5
    assert "rad" in labels(figure)[0]


def test_interference_shows_the_weights(jets):
    figure = decay.interference(jets.phi_decay, {"pure": np.cos(2 * jets.phi_decay)}, bins=6)
    x, y = figure.axes[0].lines[0].get_data()
    assert y == pytest.approx(np.cos(2 * x), abs=0.15)


def test_jets_are_one_to_four(jets):
    assert len(decay.jets(jets[:2]).axes) == 2
    with pytest.raises(ValueError, match="one to four jets, got 5"):
        decay.jets(jets[:5])


def test_rows_of_limits_and_courses_of_trainings():
    figure = decay.limits({"a": (0.1, 0.01), "b": (0.2, 0.02)}, xlabel="x [TeV]", references={"truth": 0.05})
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a", "b"]
    history = pd.DataFrame({"valid_loss": [0.3, 0.2]}, index=[1, 2])
    figure = decay.training_curves({"net": history}, axis=0.1)
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.3, 0.2]
    assert "epoch" in labels(figure)
