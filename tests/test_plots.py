"""Figures hold the numbers they claim to show, carry their labels, and leave nothing behind."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from torch import nn

from bithep_lib import BitLinear, plots
from bithep_lib.data import quark_gluon
from bithep_lib.evaluate import calibration, resampling, tagging
from bithep_lib.evaluate.extrapolation import extrapolate


@pytest.fixture(scope="module")
def jets():
    return quark_gluon.load("sample", n=600)


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], 1500)
    common = rng.normal(1.8 * labels, 1, (3, 3000))
    return labels, {"float": common, "bits": common + rng.normal(0, 0.5, common.shape)}


def assert_labelled(figure: Figure) -> None:
    """Every panel says what is on its axes (a shared axis says it once), and the figure can be drawn."""
    figure.canvas.draw()
    panels = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    assert any(ax.get_xlabel() for ax in panels)
    assert any(ax.get_ylabel() or any(label.get_text().isalpha() for label in ax.get_yticklabels()) for ax in panels)
    assert not plt.get_fignums()


def figures(jets, scores) -> dict[str, Figure]:
    labels, logits = scores
    table = quark_gluon.observables(jets)
    probabilities = {name: calibration.probability(s - 0.9) for name, s in logits.items()}
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [0.6, 0.5], "valid_loss": [0.62, 0.55]})
    difference = resampling.paired_difference(labels, logits["bits"], logits["float"], n_resamples=50)
    return {
        "event display": plots.jets.event_display(jets[:3]),
        "average images": plots.jets.average_images(jets),
        "comparison": plots.jets.class_comparison(table["mass"], jets.label, xlabel="mass [GeV]"),
        "comparisons": plots.jets.class_comparisons({"n": table["multiplicity"], "girth": table["girth"]}, jets.label),
        "roc": plots.tagging.roc_curves(labels, logits),
        "scores": plots.tagging.score_histograms(labels, {name: p[0] for name, p in probabilities.items()}),
        "calibration": plots.tagging.calibration(
            {name: calibration.calibration_band(labels, p) for name, p in probabilities.items()}
        ),
        "differences": plots.tagging.differences({"bits": difference}, xlabel="AUC", expected=("paper", -0.0052)),
        "training": plots.tagging.training_curves({"float": history, "bits": history.set_index("epoch")}),
    }


def test_every_figure_is_labelled_and_closed(jets, scores):
    before = dict(mpl.rcParams)
    for figure in figures(jets, scores).values():
        assert_labelled(figure)
    assert dict(mpl.rcParams) == before


def test_roc_curve_is_the_rejection(scores):
    labels, logits = scores
    top, bottom = plots.tagging.roc_curves(labels, logits, reference="bits").axes
    drawn = dict(zip(top.lines[0].get_xdata().round(4), top.lines[0].get_ydata(), strict=True))
    runs = [tagging.rejection(labels, s, 0.5).value for s in logits["float"]]
    assert drawn[0.5] == pytest.approx(np.mean(runs))
    assert np.isnan(drawn[0.02])  # fewer than 50 background jets pass there
    ratio = dict(zip(bottom.lines[1].get_xdata().round(4), bottom.lines[1].get_ydata(), strict=True))
    assert ratio[0.5] == pytest.approx(1)
    with pytest.raises(ValueError, match="reference must be one of float, bits, got 'ternary'"):
        plots.tagging.roc_curves(labels, logits, reference="ternary")


def test_event_display_shows_every_particle(jets):
    figure = plots.jets.event_display(jets[:2])
    for ax, expected in zip(figure.axes, jets.multiplicity[:2], strict=True):
        assert sum(len(points.get_offsets()) for points in ax.collections) == expected
    with pytest.raises(ValueError, match="one to four jets, got 5"):
        plots.jets.event_display(jets[:5])


def test_images_share_out_the_momentum(jets):
    figure = plots.jets.average_images(jets, half_width=0.8)
    for ax in figure.axes[:2]:
        assert ax.collections[0].get_array().sum() == pytest.approx(1, abs=0.01)


def test_densities_are_normalised(jets):
    values = quark_gluon.observables(jets)["girth"]
    top, _ = plots.jets.class_comparison(values, jets.label, xlabel="girth", bins=np.linspace(0, 1, 21)).axes
    for steps in top.patches[::2]:  # steps and band alternate
        heights, edges, _ = steps.get_data()
        assert np.sum(heights * np.diff(edges)) == pytest.approx(1)
    with pytest.raises(ValueError, match="equally long"):
        plots.jets.class_comparison(values[:-1], jets.label, xlabel="girth")


def test_calibration_draws_filled_bins_only():
    curve = calibration.calibration_curve([0, 1, 1], [0.1, 0.52, 0.54])
    (ax,) = plots.tagging.calibration({"few": curve}).axes
    assert ax.lines[1].get_xdata() == pytest.approx([0.1, 0.53])
    assert ax.lines[1].get_ydata() == pytest.approx([0, 1])


def test_colours_differ_in_grey_and_lines_in_style():
    lines = plots.line_styles(6)
    assert len({(line["color"], line["linestyle"]) for line in lines}) == 6
    assert len({line["linestyle"] for line in lines[:4]}) == 4
    quark, gluon = (np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in (plots.QUARK, plots.GLUON))
    assert abs(quark - gluon) > 0.1
    assert to_hex(plots.QUARK) != to_hex(plots.GLUON)


def test_the_figures_of_the_layer_draw_what_the_layer_computed():
    torch.manual_seed(0)
    layer = BitLinear(3, 2)
    fig = plots.layer.diagram(layer, torch.tensor([[1.0, -2.0, 0.5]]))
    written = [text.get_text() for ax in fig.axes for text in ax.texts]
    assert {"64", "-127", "32"} <= set(written)
    network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), BitLinear(4, 1))
    points = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    assert len(plots.layer.decision_maps({"a": network, "b": network}, points, np.array([0, 1, 1])).axes) == 5
    assert len(plots.layer.latent_weights(torch.randn(8, 8), torch.randn(8, 8)).axes) == 2
    grid = pd.DataFrame({"weights": ["float", "binary"], "activations": ["float", "8 bit"], "error": [1.0, 2.0]})
    assert plots.layer.cost_grid(grid, "error", "rms error").axes[0].get_ylabel() == "rms error"
    assert plots.layer.error_against_bits([2, 3], {"x": [0.1, 0.05]}).axes[0].get_yscale() == "log"


def test_learning_curves_show_every_training_and_the_band():
    n = np.array([1000, 2000, 4000, 8000, 16_000])
    auc = 0.9 - 0.5 * n**-0.4
    points = pd.DataFrame({"n_train": np.repeat(n, 2), "value": np.repeat(auc, 2) + np.tile([-1e-3, 1e-3], 5)})
    band = extrapolate(n, auc, np.full(5, 1e-3), [1000, 1e5])
    figure = plots.tagging.learning_curves(
        {"float": points, "bits": points}, {"float": band}, ylabel="AUC", published={"paper": (1.6e6, 0.91)}
    )
    assert_labelled(figure)
    (ax,) = figure.axes
    assert ax.lines[0].get_ydata() == pytest.approx(points["value"])
    for line, curve in zip(ax.lines[1:4], band.curves.values(), strict=True):
        assert line.get_ydata() == pytest.approx(curve)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["float", "bits", "paper"]
    assert ax.lines[-1].get_xdata() == [1.6e6]


def test_calibration_panels_are_titled():
    curve = calibration.calibration_curve([0, 1, 1], [0.1, 0.52, 0.54])
    left, right = plots.tagging.calibration({"a": curve}, on_validation={"b": curve}).axes
    assert (left.get_title(), right.get_title()) == ("as trained", "on validation")


def test_the_figures_of_pdat_show_what_they_got():
    figure = plots.pdat.network({"parameters": 0.627, "multiply-adds": 0.063})
    figure.canvas.draw()
    bars = figure.axes[1].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([0.627, 0.063, 0.373, 0.937])
    assert "6.3 % in bits" in [text.get_text() for text in figure.axes[1].texts]
    even, own = np.full((4, 4), 0.25), np.eye(5)
    figure = plots.pdat.attention_maps({"float": {"quark": even, "gluon": own}, "bits": {"gluon": own, "quark": even}})
    assert_labelled(figure)
    for ax, weights in zip(figure.axes[:4], (even, own, even, own), strict=True):
        assert np.allclose(ax.images[0].get_array(), len(weights) * weights)
