"""Figures of chapter 6: what bits save, in time, memory and energy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bithep_lib.costs import Cost
from bithep_lib.plots.style import OKABE_ITO, line_styles, new_figure

PURPOSES = {
    "product": ("products and sums", "blue"),
    "quantise": ("quantising the inputs", "vermilion"),
    "weights": ("reading the weights", "green"),
    "activations": ("reading and writing activations", "sky"),
}
"""What energy is spent on: columns of `bithep_lib.costs.Cost.layers`, with a label and a colour."""


def speed_against_width(speeds: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """Speed relative to float32 against the width of a layer, one panel a batch size.

    Args:
        speeds: title of a panel to name of a curve to a table indexed by the width, with the columns ``median``,
            ``low`` and ``high`` (drawn as a band).
    """
    with new_figure(1, len(speeds), figsize=(4.2 * len(speeds), 3.6), sharey=True, squeeze=False) as (fig, axes):
        for ax, (title, curves) in zip(axes[0], speeds.items(), strict=True):
            for (name, table), line in zip(curves.items(), line_styles(len(curves)), strict=True):
                ax.plot(table.index, table["median"], marker="o", markersize=4, label=name, **line)
                ax.fill_between(table.index, table["low"], table["high"], color=line["color"], alpha=0.2, linewidth=0)
            ax.axhline(1, color="black", linewidth=0.8)
            ax.set(xscale="log", yscale="log", title=title, xlabel="width of the layer $K = N$")
            ax.set_xticks(table.index, [str(width) for width in table.index])
            ax.minorticks_off()
            ax.yaxis.set_major_formatter("{x:g}")
        axes[0, 0].set_ylabel("speed relative to nn.Linear")
        axes[0, 0].legend()
    return fig


def energy_breakdown(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Modelled energy of a layer per multiply-add of float32, by purpose, as stacked bars: one panel a kind of layer.

    Args:
        tables: title of a panel to a table indexed by the width, with the columns of `PURPOSES` in picojoules per
            multiply-add.
    """
    with new_figure(1, len(tables), figsize=(3.1 * len(tables), 3.4), squeeze=False) as (fig, axes):
        for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
            _stack(ax, table)
            ax.set(title=title, xlabel="width of the layer")
        axes[0, 0].set_ylabel("energy per multiply-add [pJ]")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=2)
    return fig


def cost_of_layers(cost: Cost) -> Figure:
    """Modelled energy of each layer of a network by purpose, and in outline that of the same layer in float32."""
    layers = cost.layers
    with new_figure(figsize=(1.6 + 0.9 * len(layers), 3.6)) as (fig, ax):
        _stack(ax, layers[list(PURPOSES)] / 1000)
        ax.bar(
            np.arange(len(layers)),
            layers["float_energy"] / 1000,
            width=0.8,
            fill=False,
            edgecolor="black",
            linewidth=0.8,
            label="in float32",
        )
        names = [f"{name}\n{kind}" for name, kind in zip(layers.index, layers["arithmetic"], strict=True)]
        ax.set_xticks(np.arange(len(layers)), names)
        ax.set(xlabel="layer", ylabel="energy of one call [nJ]")
        fig.legend(loc="outside lower center", ncols=2)
    return fig


def _stack(ax: Axes, table: pd.DataFrame) -> None:
    bottom = np.zeros(len(table))
    for column, (label, colour) in PURPOSES.items():
        ax.bar(np.arange(len(table)), table[column], bottom=bottom, width=0.7, color=OKABE_ITO[colour], label=label)
        bottom += table[column].to_numpy()
    ax.set_xticks(np.arange(len(table)), [str(name) for name in table.index])
