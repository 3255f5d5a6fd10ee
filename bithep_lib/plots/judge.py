"""Figures of the judge of showers: AUCs with their errors, power against sample size, neighbours."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bithep_lib.evaluate.memorisation import Memorisation
from bithep_lib.evaluate.two_sample import ClassifierResult
from bithep_lib.plots.style import OKABE_ITO, line_styles, new_figure, step_histogram

__all__ = ["neighbours", "power", "verdicts"]


def verdicts(results: Mapping[str, ClassifierResult], *, floor: ClassifierResult | None = None) -> Figure:
    """AUCs, one row each: the mean with the error of the finite sample, open circles for the repetitions.

    Args:
        results: from `evaluate.classifier_test`, the row labels as keys.
        floor: simulation against simulation, drawn as a band behind all rows.
    """
    with new_figure(figsize=(6.4, 0.36 * len(results) + 1.2)) as (fig, ax):
        if floor is not None:
            ax.axvspan(
                floor.mean - floor.sample,
                floor.mean + floor.sample,
                color=OKABE_ITO["grey"],
                alpha=0.25,
                label="floor",
                zorder=0,
            )
        rows = np.arange(len(results))
        for row, result in zip(rows, results.values(), strict=True):
            ax.errorbar(result.mean, row, xerr=result.sample, fmt="o", color=OKABE_ITO["blue"], capsize=2)
            ax.plot(result.auc, np.full(len(result.auc), row + 0.27), "o", mfc="none", ms=3.5, color=OKABE_ITO["grey"])
        ax.axvline(0.5, color=OKABE_ITO["black"], linewidth=0.8)
        ax.set(xlabel="AUC of the classifier test", yticks=rows, yticklabels=list(results))
        ax.set(ylim=(len(results) - 0.4, -0.6), xlim=(None, 1.02))
        if floor is not None:
            ax.legend(loc="upper right")
    return fig


def power(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """AUC against the number of showers of each class that the classifier is given, with the error of the sample.

    Args:
        curves: names to what `evaluate.classifier_test.against_size` returned.
    """
    with new_figure(figsize=(5.4, 3.6)) as (fig, ax):
        for (name, curve), line in zip(curves.items(), line_styles(len(curves)), strict=True):
            ax.plot(curve["n"], curve["auc"], marker="o", markersize=4, label=name, **line)
            low, high = curve["auc"] - curve["auc_sample"], curve["auc"] + curve["auc_sample"]
            ax.fill_between(curve["n"], low, high, color=line["color"], alpha=0.2, linewidth=0)
        ax.axhline(0.5, color=OKABE_ITO["black"], linewidth=0.8)
        ax.set(xscale="log", xlabel="showers of each class", ylabel="AUC of the classifier test")
        ax.legend()
    return fig


def neighbours(found: Mapping[str, Memorisation], *, bins: int = 40) -> Figure:
    """Distances to the nearest training shower, a panel for each: generated showers over held-out ones."""
    with new_figure(1, len(found), figsize=(3.6 * len(found), 3.0), sharex=True, sharey=True, squeeze=False) as (
        fig,
        axes,
    ):
        largest = max(np.quantile(one.held_out, 0.99) for one in found.values())
        edges = np.linspace(0, 1.15 * largest, bins + 1)
        for ax, (name, one) in zip(axes[0], found.items(), strict=True):
            for values, label, colour in (
                (one.held_out, "held out", OKABE_ITO["grey"]),
                (one.generated, "generated", OKABE_ITO["vermilion"]),
            ):
                count, _ = np.histogram(values, edges)
                norm = 1 / (len(values) * np.diff(edges))
                line = {"linestyle": "--" if label == "held out" else "-"}
                step_histogram(ax, count * norm, edges, np.sqrt(count) * norm, color=colour, label=label, **line)
            ax.set(title=f"{name}\ncopies: {100 * one.copies:.1f} ± {100 * one.copies_error:.1f} %")
            ax.set(xlabel="distance to nearest training shower", ylim=(0, None))
        axes[0, 0].set_ylabel("density")
        axes[0, 0].legend()
    return fig
