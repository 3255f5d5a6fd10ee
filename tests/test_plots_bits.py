"""The figures of chapter 6, and the networks it lists."""

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from bithep_lib import BitLinear, cost, pack, plots
from bithep_lib.data import quark_gluon
from bithep_lib.experiments.networks import networks


def test_speed_against_width():
    table = pd.DataFrame({"median": [1.0, 4.0], "low": [0.9, 3.5], "high": [1.1, 4.2]}, index=[64, 256])
    fig = plots.bits.speed_against_width({"one event": {"packed": table, "other": table}, "many": {"packed": table}})
    left, right = fig.axes
    assert left.get_title() == "one event"
    assert [line.get_label() for line in left.get_lines()][:2] == ["packed", "other"]
    assert left.get_lines()[0].get_ydata().tolist() == [1.0, 4.0]
    assert [label.get_text() for label in right.get_xticklabels()] == ["64", "256"]
    assert "nn.Linear" in left.get_ylabel()


def test_energy_breakdown_stacks_all_purposes():
    table = pd.DataFrame({"product": [1.0], "quantise": [2.0], "weights": [3.0], "activations": [4.0]}, index=[64])
    fig = plots.bits.energy_breakdown({"float": table, "bits": table})
    assert isinstance(fig, Figure)
    bars = fig.axes[0].patches
    assert [bar.get_height() for bar in bars] == [1, 2, 3, 4]
    assert [bar.get_y() for bar in bars] == [0, 1, 3, 6]
    assert "[pJ]" in fig.axes[0].get_ylabel()


def test_cost_of_layers_shows_the_energies_of_the_table():
    counted = cost(nn.Sequential(BitLinear(8, 6), nn.Linear(6, 2)), torch.randn(1, 8), rounds=0)
    (ax,) = plots.bits.cost_of_layers(counted).axes
    outlines = [bar.get_height() for bar in ax.patches[-2:]]
    assert outlines == (counted.layers["float_energy"] / 1000).tolist()
    tops = [max(bar.get_y() + bar.get_height() for bar in ax.patches[i:8:2]) for i in range(2)]
    assert tops == pytest.approx((counted.layers["energy"] / 1000).tolist())


def test_every_network_of_the_book_packs_to_the_same_bits():
    names = []
    for network in networks(quark_gluon.load("sample", n=3)):
        names.append(network.name)
        with torch.no_grad():
            assert torch.equal(pack(network.model)(*network.example), network.model(*network.example)), network.name
    assert len(names) == len(set(names)) >= 5
