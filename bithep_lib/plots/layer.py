"""Figures of chapter 1: what a BitLinear layer does to its weights and its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from bithep_lib.bitlinear import BitLinear, activation_codes, weight_codes
from bithep_lib.plots.style import OKABE_ITO, line_styles, new_figure


def diagram(layer: BitLinear, x: Tensor) -> Figure:
    """Figure 1 of arXiv:2504.03387, drawn from a live layer: every number in it was computed by the layer.

    Args:
        layer: a small layer (all numbers are written out) with quantised weights and inputs.
        x: input of shape (tokens, in), a few tokens.
    """
    t, beta = weight_codes(layer.weight, layer.spec)
    q, s = activation_codes(x, layer.spec)
    integer_sum = q.long() @ t.long().t()
    with torch.no_grad():
        y = layer(x)
    panels = [
        [(layer.weight.detach(), r"latent weights $\theta$", "{:.2f}"), (x, r"input $x$", "{:.2f}")],
        [(t, f"codes $t$,  $\\beta$ = {beta:.3f}", "{:d}"), (q, f"codes $q$,  $Q_b$ = {layer.spec.q_max}", "{:d}")],
        [(integer_sum, r"integer sum $q\, t^\mathsf{T}$", "{:d}"), (y, r"output $y$", "{:.3f}")],
    ]
    with new_figure(2, 3, figsize=(8.6, 0.7 * (len(layer.weight) + len(x)) + 1.6)) as (fig, axes):
        for column, pair in zip(axes.T, panels, strict=True):
            for ax, (values, title, number) in zip(column, pair, strict=True):
                _numbers(ax, values.numpy(), title, number)
        _arrow(axes[0, 0], r"$\div\,\beta$" + "\nround, clip", "right")
        _arrow(axes[1, 0], r"$\times\, Q_b/\gamma$" + "\nround", "right")
        _arrow(axes[0, 1], "exact sum\nof integers", "right")
        _arrow(axes[0, 2], r"$\times\, \beta\gamma/Q_b$, then $+\, b$", "down")
    return fig


def latent_weights(before: Tensor, after: Tensor) -> Figure:
    """Latent weights in units of beta before and after training, with the three ranges that become -1, 0 and +1.

    The outermost bins hold what lies beyond.
    """
    edges = np.linspace(-6, 6, 121)
    with new_figure(1, 2, figsize=(8, 3.2), sharey=True) as (fig, axes):
        for ax, weight, title in zip(axes, (before, after), ("before training", "after training"), strict=True):
            codes, beta = weight_codes(weight)
            ratio = (weight.detach() / beta).flatten().clamp(edges[0], edges[-1]).numpy()
            for code, colour in zip((-1, 0, 1), ("blue", "grey", "vermilion"), strict=True):
                inside = codes.flatten().numpy() == code
                label = f"$t$ = {code:+d}: {inside.mean():.0%}" if code else f"$t$ = 0: {inside.mean():.0%}"
                ax.hist(ratio[inside], edges, color=OKABE_ITO[colour], edgecolor="none", label=label)
            for threshold in (-0.5, 0.5):
                ax.axvline(threshold, color="black", linewidth=0.8, linestyle=":")
            ax.set(title=title, xlabel=r"latent weight $\theta/\beta$")
            ax.legend()
        axes[0].set_ylabel("weights per bin of 0.1")
    return fig


def error_against_bits(bits: Sequence[int], errors: Mapping[str, Sequence[float]]) -> Figure:
    """Relative root-mean-square rounding error against the number of bits, one curve for each name in ``errors``."""
    with new_figure(figsize=(5.6, 3.6)) as (fig, ax):
        for (name, values), line in zip(errors.items(), line_styles(len(errors)), strict=True):
            ax.plot(bits, values, marker="o", markersize=4, label=name, **line)
        ax.set(yscale="log", xlabel="bits per activation $b$", ylabel="relative rms error of $q/s$")
        ax.set_xticks(list(bits))
        ax.legend()
    return fig


def decision_maps(
    predict: Mapping[str, Callable[[Tensor], Tensor]], points: np.ndarray, labels: np.ndarray, ncols: int = 4
) -> Figure:
    """Maps of a classifier's probability over two input coordinates, one panel for each name in ``predict``.

    Args:
        predict: panel title to a network that turns inputs (n, 2) into n logits.
        points: shape (n, 2), drawn on each map with their 0/1 ``labels``.
        labels: shape (n,).
        ncols: panels in a row.
    """
    low, high = points.min(axis=0) - 0.3, points.max(axis=0) + 0.3
    across, up = (np.linspace(low[i], high[i], 120, dtype=np.float32) for i in (0, 1))
    grid = torch.from_numpy(np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2))
    nrows = -(-len(predict) // ncols)
    with new_figure(nrows, ncols, figsize=(2.3 * ncols, 2.1 * nrows), sharex=True, sharey=True, squeeze=False) as (
        fig,
        axes,
    ):
        for ax, (title, function) in zip(axes.flat, predict.items(), strict=False):
            with torch.no_grad():
                probability = torch.sigmoid(function(grid)).reshape(120, 120).numpy()
            shown = ax.contourf(across, up, probability, np.linspace(0, 1, 11), cmap="coolwarm", alpha=0.75)
            ax.contour(across, up, probability, [0.5], colors="black", linewidths=1)
            for label, colour in ((0, "blue"), (1, "vermilion")):
                inside = labels == label
                ax.scatter(*points[inside].T, s=7, color=OKABE_ITO[colour], edgecolor="white", linewidth=0.4)
            ax.set_title(title)
        for ax in axes.flat[len(predict) :]:
            ax.set_axis_off()
        for ax in axes[-1]:
            ax.set_xlabel("$x_1$")
        for ax in axes[:, 0]:
            ax.set_ylabel("$x_2$")
        fig.colorbar(shown, ax=axes, label="probability of class 1", shrink=0.8)
    return fig


def cost_grid(results: pd.DataFrame, value: str, label: str) -> Figure:
    """The grid weights x activations, each cell the mean over seeds with every seed as a point beside it.

    Args:
        results: one row for each training, with the columns ``weights``, ``activations``, ``seed`` and ``value``.
        value: the column to show.
        label: what it is, with its unit.
    """
    with new_figure(figsize=(6.4, 3.6)) as (fig, ax):
        sns.pointplot(
            results,
            x="weights",
            y=value,
            hue="activations",
            errorbar=None,
            dodge=0.3,
            linestyle="none",
            marker="_",
            markersize=18,
            ax=ax,
            legend=False,
            palette=[OKABE_ITO["blue"], OKABE_ITO["vermilion"]],
        )
        sns.stripplot(
            results,
            x="weights",
            y=value,
            hue="activations",
            dodge=0.3,
            jitter=False,
            size=5,
            ax=ax,
            palette=[OKABE_ITO["blue"], OKABE_ITO["vermilion"]],
        )
        ax.set(xlabel="weights", ylabel=label, yscale="log")
        ax.legend(title="activations")
    return fig


def _numbers(ax: Axes, values: np.ndarray, title: str, number: str) -> None:
    """A matrix as a heat map around zero, with its numbers."""
    largest = np.abs(values).max() or 1.0
    ax.imshow(values, cmap="coolwarm", vmin=-1.6 * largest, vmax=1.6 * largest, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        ax.text(column, row, number.format(value), ha="center", va="center")
    ax.set_title(title)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    sns.despine(ax=ax, left=True, bottom=True)


def _arrow(ax: Axes, text: str, side: str) -> None:
    """An arrow with a text from a panel to its neighbour on one side."""
    start, end, place, align = {
        "right": ((1.03, 0.5), (1.36, 0.5), (1.2, 0.55), ("center", "bottom")),
        "down": ((0.5, -0.04), (0.5, -0.2), (0.53, -0.12), ("left", "center")),
    }[side]
    ax.annotate("", end, start, xycoords="axes fraction", arrowprops={"arrowstyle": "->", "color": "black"})
    ax.annotate(text, place, xycoords="axes fraction", ha=align[0], va=align[1], fontsize="small")
