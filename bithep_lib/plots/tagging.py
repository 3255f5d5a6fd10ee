"""Figures of taggers: ROC curves, scores, calibration (Figure 2 of arXiv:2504.03387), differences, learning curves."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from bithep_lib.evaluate.calibration import CalibrationCurve
from bithep_lib.evaluate.extrapolation import Extrapolation
from bithep_lib.evaluate.resampling import Estimate
from bithep_lib.evaluate.tagging import MIN_BACKGROUND, roc
from bithep_lib.plots.style import GLUON, OKABE_ITO, QUARK, line_styles, new_figure, ratio_figure


def roc_curves(labels: ArrayLike, scores: Mapping[str, ArrayLike], *, reference: str | None = None) -> Figure:
    """Background rejection against signal efficiency, and below it each tagger's rejection over the reference's.

    Args:
        labels: (N,), 1 quark and 0 gluon.
        scores: for each tagger (N,), or (S, N) for S trainings, drawn as the mean with the band of their spread.
        reference: the tagger in the denominator below; the first one by default.

    A curve ends where fewer than 50 background jets pass.
    """
    reference = next(iter(scores)) if reference is None else reference
    if reference not in scores:
        raise ValueError(f"reference must be one of {', '.join(scores)}, got {reference!r}")
    y = np.asarray(labels)
    efficiency = np.linspace(0.02, 1, 197)
    smallest = MIN_BACKGROUND / np.sum(y == 0)
    curves = {}
    for name, s in scores.items():
        runs = [roc(y, row) for row in np.atleast_2d(np.asarray(s))]
        background = np.array([[run.background_at(e) for e in efficiency] for run in runs])
        curves[name] = 1 / np.where(background < smallest, np.nan, background)
    base = curves[reference].mean(axis=0)
    with ratio_figure(figsize=(4.6, 3.9)) as (fig, (top, bottom)):
        for (name, rejection), line in zip(curves.items(), line_styles(len(curves)), strict=True):
            for ax, values in ((top, rejection), (bottom, rejection / base)):
                mean = values.mean(axis=0)
                ax.plot(efficiency, mean, label=name, **line)
                if len(values) > 1:
                    spread = values.std(axis=0, ddof=1)
                    ax.fill_between(
                        efficiency, mean - spread, mean + spread, color=line["color"], alpha=0.2, linewidth=0
                    )
        cut = efficiency[efficiency > 0.1]
        top.plot(cut, 1 / cut, color=OKABE_ITO["grey"], linewidth=0.8, label="chance")
        top.set(yscale="log", ylabel=r"gluon rejection $1/\epsilon_g$", xlim=(0, 1))
        bottom.set(xlabel=r"quark efficiency $\epsilon_q$", ylabel=f"ratio to\n{reference}")
        top.legend(loc="lower left", frameon=True, framealpha=0.9, edgecolor="none")
    return fig


def score_histograms(labels: ArrayLike, probabilities: Mapping[str, ArrayLike], *, bins: int = 40) -> Figure:
    """Distribution of P(quark) for quark and gluon jets, one panel a tagger (logarithmic)."""
    y, n = np.asarray(labels), len(probabilities)
    edges = np.linspace(0, 1, bins + 1)
    with new_figure(1, n, figsize=(3.6 * n, 3.2), sharey=True, squeeze=False) as (fig, axes):
        for ax, (name, p) in zip(axes[0], probabilities.items(), strict=True):
            for label, colour, style, kind in ((1, QUARK, "-", "quark"), (0, GLUON, "--", "gluon")):
                density, _ = np.histogram(np.asarray(p)[y == label], bins=edges, density=True)
                ax.stairs(density, edges, color=colour, linestyle=style, label=kind)
            ax.set(xlabel="predicted P(quark)", yscale="log", title=name, xlim=(0, 1))
        axes[0, 0].set_ylabel("density")
        axes[0, 0].legend()
    return fig


def calibration(curves: Mapping[str, CalibrationCurve], **more: Mapping[str, CalibrationCurve]) -> Figure:
    """Fraction of quarks against mean prediction, in the layout of Figure 2: diagonal dashed, a band for the error.

    Args:
        curves: by the name of the tagger.
        **more: further panels to the right of that one, which is then called "as trained": title (``_`` for a space) to
            curves.
    """
    panels = {"as trained" if more else "": curves} | {title.replace("_", " "): drawn for title, drawn in more.items()}
    size = (4.2, 4.0) if len(panels) == 1 else (3.5 * len(panels), 3.8)
    with new_figure(1, len(panels), figsize=size, sharey=True, squeeze=False) as (fig, axes):
        for ax, (title, drawn) in zip(axes[0], panels.items(), strict=True):
            ax.plot([0, 1], [0, 1], "--", color=OKABE_ITO["grey"], linewidth=1, label="perfect calibration")
            for (name, curve), line in zip(drawn.items(), line_styles(len(drawn)), strict=True):
                filled = ~np.isnan(curve.fraction)
                x, y, error = (values[filled] for values in (curve.prediction, curve.fraction, curve.error))
                ax.plot(x, y, marker=".", label=name, **line)
                ax.fill_between(x, y - error, y + error, color=line["color"], alpha=0.25, linewidth=0)
            ax.set(xlabel="Mean predicted probability", xlim=(0, 1), ylim=(0, 1), title=title, aspect="equal")
        axes[0, 0].set_ylabel("Fraction of positives")
        axes[0, 0].legend(loc="upper left")
    return fig


def differences(estimates: Mapping[str, Estimate], *, xlabel: str, expected: tuple[str, float] | None = None) -> Figure:
    """Differences with their intervals, one row each; open circles are the single trainings.

    Args:
        estimates: from `evaluate.resampling.paired_difference`, the row labels as keys.
        xlabel: what the difference is, with its sign.
        expected: name and value of a number to compare with, a vertical line.
    """
    with new_figure(figsize=(6.2, 0.42 * len(estimates) + 1.3)) as (fig, ax):
        rows = np.arange(len(estimates))
        for row, e in zip(rows, estimates.values(), strict=True):
            ax.plot(e.interval, [row, row], color=OKABE_ITO["blue"], linewidth=2, solid_capstyle="butt")
            ax.plot(e.value, row, "o", color=OKABE_ITO["blue"])
            if len(e.per_seed) > 1:
                ax.plot(
                    e.per_seed, np.full(len(e.per_seed), row + 0.22), "o", mfc="none", ms=4, color=OKABE_ITO["grey"]
                )
        ax.axvline(0, color=OKABE_ITO["black"], linewidth=0.8)
        if expected is not None:
            ax.axvline(expected[1], color=OKABE_ITO["vermilion"], linestyle="--", label=expected[0])
            ax.legend(loc="lower right", bbox_to_anchor=(1, 1))
        ax.set(xlabel=xlabel, yticks=rows, yticklabels=list(estimates), ylim=(len(estimates) - 0.5, -0.5))
    return fig


def training_curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Cross entropy against epochs, validation with line and marker, training as a thin line.

    Args:
        histories: for each tagger the history of `train.fit`, with columns epoch (or as index), train_loss, valid_loss.
    """
    with new_figure(figsize=(4.8, 3.4)) as (fig, ax):
        for (name, history), line in zip(histories.items(), line_styles(len(histories)), strict=True):
            epoch = history["epoch"] if "epoch" in history else history.index
            ax.plot(epoch, history["valid_loss"], marker="o", markersize=4, label=f"{name}, validation", **line)
            ax.plot(epoch, history["train_loss"], color=line["color"], linewidth=0.8, label=f"{name}, training")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="epoch", ylabel="cross entropy")
        ax.legend()
    return fig


def learning_curves(
    points: Mapping[str, pd.DataFrame],
    bands: Mapping[str, Extrapolation],
    *,
    ylabel: str,
    published: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """A metric against the number of training jets, and its extrapolation.

    Args:
        points: for each tagger single trainings, with columns ``n_train`` and ``value``.
        bands: for some of them the extrapolation; each of its forms is a thin line in the band.
        ylabel: the metric.
        published: name to (number of jets, value), drawn as stars.
    """
    with new_figure(figsize=(6.0, 3.9)) as (fig, ax):
        for (name, found), line in zip(points.items(), line_styles(len(points)), strict=True):
            ax.plot(found["n_train"], found["value"], "o", mfc="none", ms=5, color=line["color"])
            mean = found.groupby("n_train")["value"].mean()
            if name not in bands:
                ax.plot(mean.index, mean, label=name, **line)
                continue
            band = bands[name]
            ax.fill_between(band.n_train, band.low, band.high, color=line["color"], alpha=0.2, linewidth=0)
            for number, curve in enumerate(band.curves.values()):
                ax.plot(band.n_train, curve, linewidth=1, label=name if number == 0 else None, **line)
        for (name, (n, value)), marker in zip((published or {}).items(), "*PXD", strict=False):
            ax.plot(n, value, marker, ms=9, color=OKABE_ITO["black"], label=name, linestyle="none")
        ax.set(xscale="log", xlabel="jets to train on", ylabel=ylabel)
        ax.legend(loc="upper left")
    return fig
