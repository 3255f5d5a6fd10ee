import numpy as np
import pandas as pd
import pytest
import torch
from test_calochallenge import make

from bithep_lib.models import CaloDREAM
from bithep_lib.plots import matching


def texts(ax) -> str:
    return " ".join(text.get_text() for text in ax.texts)


def test_a_swarm_is_drawn_where_it_is():
    points, places = np.zeros((5, 2)), np.ones((4, 2))
    figure = matching.velocities({0.0: (points, places, places), 0.5: (points + 1, places, -places)})
    assert [ax.get_title() for ax in figure.axes] == ["$t$ = 0", "$t$ = 0.5"]
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_xdata(), np.ones(5))


def test_each_point_has_its_path():
    way = np.random.default_rng(1).normal(size=(7, 3, 2))
    figure = matching.paths({"a": way, "b": way}, way[0])
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() == "-"]
    assert len(lines) == 3
    np.testing.assert_array_equal(lines[2].get_ydata(), way[:, 2, 1])


def test_tokens_add_up_to_the_shower():
    showers = make("ds2", 3)
    figure = matching.tokens(showers, (3, 16, 1))
    image = figure.axes[1].collections[0].get_array()
    assert image.size == 135
    assert image.sum() == pytest.approx(showers.voxels.sum(1).mean(), rel=1e-5)
    with pytest.raises(ValueError, match="cannot be cut into rings"):
        matching.tokens(showers, (3, 8, 1))


def test_the_networks_show_every_parameter_but_the_normalisations():
    with torch.device("meta"):
        built = {name: CaloDREAM.build(name) for name in ("quantized/regular", "regular/no_embedding", "regular/full")}
    model = built["regular/full"][0]
    figure = matching.networks(model, {name: report for name, (_, report) in built.items()})
    last_lines = [text.get_text().rsplit("\n", 1)[-1].replace("\u2009", "") for text in figure.axes[0].texts]
    numbers = [int(line) for line in last_lines if line.isdigit()]
    assert {1_575_936, 11_073_600, 8_773_440} < set(numbers)
    norms = sum(p.numel() for name, p in model.named_parameters() if ".norms." in name)
    assert sum(numbers) == sum(p.numel() for p in model.parameters()) - norms


def test_both_halves_of_a_shower_are_seen_from_the_side():
    showers = make("ds2", 2)
    figure = matching.side_views({"": {"one": showers[0], "two": showers[1]}})
    for ax, energies in zip(figure.axes, showers.voxels, strict=False):
        assert ax.collections[0].get_array().sum() == pytest.approx(energies.sum(), rel=1e-5)
    with pytest.raises(ValueError, match="one shower"):
        matching.side_views({"": {"both": showers}})


def test_curves_are_labelled_by_their_names():
    history = pd.DataFrame({"train_loss": [2.0, 1.0], "valid_loss": [2.0, 1.5]}, index=[1, 2])
    assert matching.losses({"float": history}).axes[0].get_legend().get_texts()[0].get_text() == "float"
    table = pd.DataFrame(
        {"method": ["euler", "rk4"], "evaluations": [4, 4], "single": [0.1, 0.05], "mean": [0.01, 0.01]}
    )
    figure = matching.solver({"energy": (table, 0.03)})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["euler", "rk4"]
    assert "statistical error" in texts(figure.axes[0])


def test_steps_are_relative_to_the_true_energy():
    energies = np.array([1.0, 10.0])
    figure = matching.embedding_steps(energies, {"shared": [1.1, 9.0]})
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), [1.1, 0.9])
