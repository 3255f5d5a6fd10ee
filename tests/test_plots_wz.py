"""Figures of the W Z data card hold the numbers they claim to show."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bithep_lib import plots
from bithep_lib.data import wz
from bithep_lib.simulate.diboson_phase_space import patterns


@pytest.fixture(scope="module")
def jets() -> wz.WZJets:
    return wz.load("sample", n=3000)


def test_selection(jets: wz.WZJets) -> None:
    figure = plots.wz.selection(jets, bins=20)
    figure.canvas.draw()
    momentum, mass, number, angle = figure.axes
    assert [ax.get_xlabel() for ax in figure.axes] == [
        "jet $p_T$ [GeV]", "soft-drop mass [GeV]", "particles in the jet", r"$\cos\theta$ of the up-type quark",
    ]  # fmt: skip
    for ax in (mass, number, angle):
        heights, edges, _ = ax.patches[0].get_data()
        assert (heights * np.diff(edges)).sum() == pytest.approx(1, abs=0.01)
    assert momentum.get_yscale() == "log"
    assert sorted(line.get_xdata()[0] for line in angle.lines) == [-0.8, 0.8]
    assert not plt.get_fignums()


def test_growth(jets: wz.WZJets) -> None:
    pt = np.array([500.0, 1000.0])
    theory = [patterns(p, np.array([-0.5, 0.5]), n=1000) for p in pt]
    figure = plots.wz.growth(jets, pt, theory)
    figure.canvas.draw()
    linear, quadratic = figure.axes
    drawn = [line for line in linear.lines if len(line.get_xdata()) == 2 and line.get_xdata()[0] == 500.0]
    np.testing.assert_allclose(drawn[0].get_ydata(), [-2 * expected.cw for expected in theory])
    assert (drawn[0].get_ydata() > 0).all()
    assert "TeV$^2$" in linear.get_ylabel()
    assert "TeV$^4$" in quadratic.get_ylabel()


def test_axis_residuals(jets: wz.WZJets) -> None:
    figure = plots.wz.axis_residuals(jets)
    figure.canvas.draw()
    left, right = figure.axes
    heights, edges, _ = left.patches[0].get_data()
    assert (heights * np.diff(edges)).sum() == pytest.approx(1)
    axis, floor = (container.lines[0].get_ydata() for container in right.containers)
    assert (axis > floor).all()
    assert np.abs(np.average((edges[:-1] + edges[1:]) / 2, weights=heights)) < 0.02
