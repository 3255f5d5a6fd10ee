"""Figures of the page of all results."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bithep_lib.plots.style import LINE_STYLES, OKABE_ITO, new_figure

_MARKERS = "osD^vP"


def setups(panels: Mapping[str, tuple[pd.DataFrame, str, str, Mapping[str, float]]]) -> Figure:
    """Every training of every setup as a point, the mean as a bar, and the paper's number as a diamond.

    Args:
        panels: title to (trainings with the columns ``setup`` and the metric, metric, its label, the paper's value of
            each setup). Setups are drawn from the top in the order in which they come.
    """
    rows = [max(1, frame["setup"].nunique()) for frame, *_ in panels.values()]
    size = (7.6, 0.7 * len(panels) + 0.33 * sum(rows))
    with new_figure(len(panels), 1, figsize=size, squeeze=False, gridspec_kw={"height_ratios": rows}) as (fig, axes):
        for ax, (title, panel) in zip(axes[:, 0], panels.items(), strict=True):
            _draw_setups(ax, *panel)
            ax.set_title(title, loc="left")
        axes[0, 0].plot([], [], "o", color=OKABE_ITO["blue"], label="one training")
        axes[0, 0].plot([], [], "|", color=OKABE_ITO["black"], ms=11, mew=2, label="mean")
        axes[0, 0].plot([], [], "D", mfc="none", color=OKABE_ITO["vermilion"], label="paper")
        fig.legend(loc="outside upper right", ncols=3)
    return fig


def _draw_setups(ax: Axes, frame: pd.DataFrame, metric: str, label: str, published: Mapping[str, float]) -> None:
    names = list(dict.fromkeys(frame["setup"]))
    for row, name in enumerate(names):
        values = frame.loc[frame["setup"] == name, metric].to_numpy(dtype=float)
        ax.plot(values, np.full(len(values), row), "o", color=OKABE_ITO["blue"], ms=4, alpha=0.7)
        ax.plot(values.mean(), row, "|", color=OKABE_ITO["black"], ms=11, mew=2)
        if name in published:
            ax.plot(published[name], row, "D", mfc="none", color=OKABE_ITO["vermilion"])
    ax.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlabel=label)


def atlas(costs: pd.DataFrame) -> Figure:
    """What bits in one block cost: a panel a model, a row a block, a column a width of weights and activations.

    Args:
        costs: columns ``model``, ``block``, ``weights``, ``activation_bits``, ``cost``, as from
            `bithep_lib.experiments.atlas.costs`. A cell without a number stays empty.
    """
    weights = costs["weights"].astype(object).where(costs["weights"].notna(), "float")
    inputs = ["float" if pd.isna(bits) else f"{bits:.0f} bit" for bits in costs["activation_bits"]]
    table = costs.assign(column=[f"{w}\n× {a}" for w, a in zip(weights, inputs, strict=True)])
    columns = list(dict.fromkeys(table["column"]))
    models = list(dict.fromkeys(table["model"]))
    rows = [table.loc[table["model"] == model, "block"].nunique() for model in models]
    size = (8.6, 1.0 + 0.4 * len(models) + 0.3 * sum(rows))
    with new_figure(len(models), 1, figsize=size, squeeze=False, gridspec_kw={"height_ratios": rows}) as (fig, axes):
        for ax, model in zip(axes[:, 0], models, strict=True):
            part = table[table["model"] == model]
            cells = part.pivot_table(index="block", columns="column", values="cost", sort=False, dropna=False)
            cells = cells.reindex(index=list(dict.fromkeys(part["block"])), columns=columns)
            image = ax.imshow(cells.to_numpy(dtype=float), aspect="auto", cmap="Blues", vmin=0, vmax=1)
            for (row, column), cost in np.ndenumerate(cells.to_numpy(dtype=float)):
                if np.isfinite(cost):
                    colour = "white" if cost > 0.5 else "black"
                    ax.text(
                        column,
                        row,
                        f"{round(cost, 2) + 0.0:.2f}",
                        ha="center",
                        va="center",
                        fontsize="x-small",
                        color=colour,
                    )
            ax.set(yticks=range(len(cells)), yticklabels=cells.index)
            ax.set_title(model, loc="left")
            ax.set(xticks=range(len(columns)), xticklabels=columns if ax is axes[-1, 0] else [])
            ax.tick_params(labelsize="small")
            ax.grid(False)
        axes[-1, 0].set_xlabel("weights × activations of the block")
        fig.colorbar(image, ax=axes[:, 0], label="share of the gain lost", aspect=40)
    return fig


def operations_and_time(measured: pd.DataFrame, counted: pd.Series, peak: float) -> Figure:
    """Time of a training over its operations: stored runs, and where the paper's trainings lie.

    Args:
        measured: columns ``network``, ``macs``, ``seconds``; may be empty.
        counted: operations of a training at the paper's sizes (two a multiply-add), by network.
        peak: of the core, in operations a second; drawn as the time below which no core gets.
    """
    with new_figure(figsize=(7.2, 4.4)) as (fig, ax):
        reach = np.array([min([*2 * measured["macs"], *counted]) / 3, 3 * counted.max()])
        ax.plot(reach, reach / peak, color=OKABE_ITO["black"], lw=1, label="the core at its peak")
        colours = [c for name, c in OKABE_ITO.items() if name not in ("black", "grey")]
        for number, (name, total) in enumerate(counted.items()):
            colour, marker = colours[number % len(colours)], _MARKERS[number % len(_MARKERS)]
            runs = measured[measured["network"] == name]
            ax.plot(2 * runs["macs"], runs["seconds"], marker, color=colour, ms=5, mfc="none")
            ax.axvline(total, color=colour, ls=LINE_STYLES[1 + number % 3], lw=1)
            ax.plot([], [], color=colour, ls=LINE_STYLES[1 + number % 3], marker=marker, mfc="none", label=name)
        ax.set(xscale="log", yscale="log", xlabel="operations of a training", ylabel="time on one core [s]")
        ax.legend(fontsize="small")
    return fig
