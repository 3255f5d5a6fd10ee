"""Figures that hold showers against theory and against published moments."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from bithep_lib.evaluate.shower_physics import SHOWERING, HadronicResponse, Resolution
from bithep_lib.plots.style import OKABE_ITO, line_styles, new_figure

__all__ = ["depth", "layers", "moments", "response"]


def response(tables: Mapping[str, pd.DataFrame], fits: Mapping[str, Resolution]) -> Figure:
    """Visible over incident energy, and its relative spread, against the incident energy.

    Args:
        tables: names to what `evaluate.shower_physics.response` returned.
        fits: for some of the names, the resolution to draw as a line.
    """
    with new_figure(1, 2, figsize=(8.6, 3.4)) as (fig, (left, right)):
        for (name, table), line in zip(tables.items(), line_styles(len(tables)), strict=True):
            points = {"color": line["color"], "fmt": "o", "markersize": 4}
            left.errorbar(table["energy"], table["mean"], table["mean_error"], label=name, **points)
            right.errorbar(table["energy"], table["resolution"], table["resolution_error"], label=name, **points)
            if name in fits:
                energy = np.geomspace(table["energy"].min(), table["energy"].max(), 100)
                right.plot(energy, fits[name](energy), **line)
        left.set(xscale="log", xlabel="incident energy [GeV]", ylabel=r"mean $E_\mathrm{tot} / E_\mathrm{inc}$")
        right.set(xscale="log", yscale="log", xlabel="incident energy [GeV]")
        right.set_ylabel(r"$\sigma(E_\mathrm{tot}) / \langle E_\mathrm{tot}\rangle$")
        left.legend()
    return fig


def depth(table: pd.DataFrame) -> Figure:
    """Depth of the shower maximum against energy, and the theory.

    Args:
        table: what `evaluate.shower_physics.depth_profile` returned.
    """
    with new_figure(figsize=(4.8, 3.4)) as (fig, ax):
        points = {"fmt": "o", "markersize": 4, "color": OKABE_ITO["blue"]}
        ax.errorbar(table["energy"], table["t_max"], table["t_max_error"], label="simulated", **points)
        ax.plot(table["energy"], table["theory"], "--", color=OKABE_ITO["black"], label=r"$\ln(E/E_c) - 1/2$")
        ax.set(xscale="log", xlabel="incident energy [GeV]", ylabel="shower maximum [radiation lengths]")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # less than two decades: a tick a decade is too few
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend()
    return fig


def layers(shares: pd.DataFrame, fit: HadronicResponse) -> Figure:
    """Where the energy goes: stacked mean shares of the layers, their sum the response, and the fit to it.

    Args:
        shares: what `evaluate.shower_physics.layer_shares` returned; the first layer is the lowest bar.
        fit: what `evaluate.shower_physics.fit_hadronic_response` returned.
    """
    with new_figure(figsize=(6.6, 3.6)) as (fig, ax):
        where = np.arange(len(shares))
        below = np.zeros(len(shares))
        for name, color in zip(shares, sns.color_palette("viridis", shares.shape[1]), strict=True):
            ax.bar(where, shares[name], bottom=below, width=0.8, color=color, label=name)
            below += shares[name].to_numpy()
        fitted = shares.index >= SHOWERING
        ax.plot(where[fitted], fit(shares.index[fitted]), "o--", color=OKABE_ITO["black"], markersize=3, label=str(fit))
        ax.axhline(1, color=OKABE_ITO["grey"], linewidth=0.8)
        ax.set_xticks(where, [f"{energy:.2g}" for energy in shares.index])
        ax.set(xlabel=shares.index.name, ylabel=r"mean $E_\ell / E_\mathrm{inc}$", ylim=(0, 1.1 * max(1, below.max())))
        handles, names = ax.get_legend_handles_labels()
        ax.legend(handles[::-1], names[::-1], loc="center left", bbox_to_anchor=(1, 0.5))  # as they are stacked
    return fig


def moments(ours: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Means of preprocessed features beside those of the CaloChallenge's own file; below, the difference.

    Two columns, the layer ratios and the rings of one layer.

    Args:
        ours: from `evaluate.shower_physics.ratio_moments` and `ring_moments`, one below the other.
        published: from `evaluate.shower_physics.published_moments`.
    """
    names = ours.index.get_level_values("feature").unique()
    labels = {"ratio": "i", **{name: "ring" for name in names if name.startswith("ring")}}
    with new_figure(2, len(names), figsize=(8.6, 4.0), sharex="col", height_ratios=[2, 1]) as (fig, axes):
        for column, name in enumerate(names):
            mine, theirs = ours.loc[name], published.loc[name]
            rows = mine.index[1:] if name == "ratio" else mine.index  # ratio 0 is the response, not a logit
            mine, theirs = mine.loc[rows], theirs.loc[rows]
            top, bottom = axes[:, column]
            top.plot(rows, theirs["mean"], "--", color=OKABE_ITO["black"], label="CaloChallenge")
            top.plot(rows, mine["mean"], color=OKABE_ITO["blue"], label="bundled")
            bottom.errorbar(
                rows, mine["mean"] - theirs["mean"], mine["error"], fmt=".", color=OKABE_ITO["blue"], elinewidth=0.8
            )
            bottom.axhline(0, color=OKABE_ITO["grey"], linewidth=0.8)
            bottom.set(xlabel=labels[name])
            top.set_title(r"logit of $E_{i-1} / \sum_{m \geq i-1} E_m$" if name == "ratio" else f"logit, {name}")
        axes[0, 0].set_ylabel("mean")
        axes[1, 0].set_ylabel("difference")
        axes[0, 0].legend()
    return fig
