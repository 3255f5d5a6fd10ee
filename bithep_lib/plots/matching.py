"""Figures of flow matching: points on their way from noise to data, CaloDREAM's tokens and networks, solvers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Polygon, Rectangle
from numpy.typing import ArrayLike, NDArray
from torch import nn

from bithep_lib.data.calochallenge.showers import Showers
from bithep_lib.plots.style import OKABE_ITO, line_styles, new_figure
from bithep_lib.quantize import QuantReport

__all__ = [
    "embedding_steps",
    "losses",
    "networks",
    "paths",
    "side_views",
    "solver",
    "tokens",
    "velocities",
]

SQUASH = 0.32  # of the circles of a cylinder that is seen from the side
DECADES = 4  # of energy, from the brightest pixel down

# Boxes of the two networks: label, names of its parameters, left edge, bottom, width, height.
_BOXES = (
    ("transformer", r"energy\.transformer\..*", 0.0, 3.1, 1.9, 0.9),
    ("embedding\nof time", r"energy\.time\..*", 0.0, 1.9, 1.9, 0.9),
    ("first\nlayer", r"energy\.velocity\.first\..*", 2.5, 3.1, 1.3, 0.9),
    ("six hidden\nlayers", r"energy\.velocity\.hidden\..*", 4.1, 3.1, 2.2, 0.9),
    ("last\nlayer", r"energy\.velocity\.last\..*", 6.6, 3.1, 1.3, 0.9),
    ("embedding\nof tokens", r"shape\.(x_embedding\..*|frequencies)", 0.0, 0.2, 1.9, 0.9),
    ("embedding\nof time", r"shape\.time_embedding\..*", 0.0, -1.0, 1.9, 0.9),
    ("embedding of\ncondition", r"shape\.condition_embedding\..*", 0.0, -2.2, 1.9, 0.9),
    ("6 × attention", r"shape\.blocks\.\d+\.(qkv|projection)\..*", 2.5, 0.2, 1.8, 0.9),
    ("6 × perceptron", r"shape\.blocks\.\d+\.(fc1|fc2)\..*", 4.6, 0.2, 1.8, 0.9),
    ("modulation of all layers", r"shape\.(blocks\.\d+\.)?modulation\..*", 2.5, -1.6, 5.4, 0.9),
    ("last\nlayer", r"shape\.last\..*", 6.6, 0.2, 1.3, 0.9),
)
_ARROWS = (  # from, to
    *(((1.9, y), (2.5, y)) for y in (3.55, 0.65)),
    *(((x, y), (x + 0.3, y)) for y in (3.55,) for x in (3.8, 6.3)),
    *(((x, 0.65), (x + 0.3 - 0.1 * (x > 6), 0.65)) for x in (4.3, 6.4)),
    ((1.9, 2.35), (2.6, 3.05)),
    ((1.9, -0.55), (2.5, -1.0)),
    ((1.9, -1.75), (2.5, -1.3)),
    *(((x, -0.7), (x, 0.15)) for x in (3.4, 5.5, 7.25)),
    *(((-0.35, y), (-0.02, y)) for y in (3.55, 2.35, 0.65, -0.55, -1.75)),
    *(((7.9, y), (8.25, y)) for y in (3.55, 0.65)),
)
_WORDS = (
    (-0.4, 3.55, "right", "$E_\\mathrm{inc}$, $u_0 \\dots u_{j-1}$"),
    (-0.4, 2.35, "right", "$t$"),
    (-0.4, 0.65, "right", "voxels $x_t$ in\n135 × 48"),
    (-0.4, -0.55, "right", "$t$"),
    (-0.4, -1.75, "right", "$E_\\mathrm{inc}$, $u_0 \\dots u_{44}$"),
    (8.3, 3.55, "left", "velocity\nof $u_j$"),
    (8.3, 0.65, "left", "velocity\nof voxels"),
)


def velocities(snapshots: Mapping[float, tuple[ArrayLike, ArrayLike, ArrayLike]]) -> Figure:
    """Where points of the plane are at some times, and how fast a network would carry them on from there.

    Args:
        snapshots: time to the points (N, 2), the places (G, 2) of the arrows and their velocities (G, 2).
    """
    with new_figure(1, len(snapshots), figsize=(1.75 * len(snapshots), 2.1), sharex=True, sharey=True) as (fig, axes):
        for ax, (time, (points, places, arrows)) in zip(np.atleast_1d(axes), snapshots.items(), strict=True):
            points, places, arrows = (np.asarray(array) for array in (points, places, arrows))
            ax.plot(*points.T, ".", markersize=1.5, color=OKABE_ITO["blue"], alpha=0.6, rasterized=True)
            ax.quiver(*places.T, *arrows.T, color=OKABE_ITO["grey"], angles="xy", scale=25, width=0.008)
            ax.set(title=f"$t$ = {time:g}", xlim=(-2.9, 2.9), ylim=(-2.9, 2.9), aspect="equal", xlabel="$x$")
        np.atleast_1d(axes)[0].set_ylabel("$y$")
    return fig


def paths(ways: Mapping[str, ArrayLike], data: ArrayLike) -> Figure:
    """Trajectories in the plane from noise to data, one panel a network.

    Args:
        ways: name to the places (times, N, 2) of N points.
        data: (M, 2) what the networks were trained on, in grey.
    """
    with new_figure(1, len(ways), figsize=(2.5 * len(ways), 2.8), sharex=True, sharey=True, squeeze=False) as (
        fig,
        axes,
    ):
        for ax, (name, way) in zip(axes[0], ways.items(), strict=True):
            way = np.asarray(way)
            ax.plot(*np.asarray(data).T, ".", markersize=1.5, color="0.75", zorder=0, rasterized=True)
            ax.plot(*np.moveaxis(way, -1, 0), color=OKABE_ITO["sky"], linewidth=0.5, alpha=0.7)
            ax.plot(*way[0].T, ".", markersize=2.5, color=OKABE_ITO["orange"], label="noise, $t$ = 0")
            ax.plot(*way[-1].T, ".", markersize=2.5, color=OKABE_ITO["blue"], label="drawn, $t$ = 1")
            ax.set(title=name, xlim=(-2.9, 2.9), ylim=(-2.9, 2.9), aspect="equal", xlabel="$x$")
        axes[0, 0].set_ylabel("$y$")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside lower center", ncols=2, markerscale=3)
    return fig


def tokens(showers: Showers, patch: Sequence[int], shown: Sequence[Sequence[int]] = ((1, 0, 2), (5, 0, 6))) -> Figure:
    """How the voxels of a cylinder are cut into tokens: some of them in the cylinder, and the mean energy of each.

    Args:
        showers: of a data set whose layers are all alike.
        patch: voxels of a token in layer, angle and radius. All angles must be in one token.
        shown: which tokens to draw in the cylinder, by their place in (layer, angle, radius).

    Raises:
        ValueError: layers of different shapes, or tokens that do not hold all angles.
    """
    one = showers.geometry
    if not one.uniform or patch[1] != one.shape(0)[0]:
        raise ValueError(f"{one.name} cannot be cut into rings by patch={tuple(patch)}")
    grid = one.n_layers, *one.shape(0)
    mean = showers.voxels.mean(0, dtype=np.float64).reshape(grid)
    counts = [n // p for n, p in zip(grid, patch, strict=True)]
    energy = mean.reshape(counts[0], patch[0], grid[1], counts[2], patch[2]).sum((1, 2, 4))
    with new_figure(1, 2, figsize=(8.2, 2.8), width_ratios=[1.25, 1]) as (fig, (left, right)):
        _cylinder(left, one.n_layers * one.layer_thickness, one.layers[0].r_edges[-1])
        extent = (-0.5, one.n_layers - 0.5, 0, one.layers[0].r_edges[-1])
        right.pcolormesh(
            np.linspace(*extent[:2], counts[0] + 1),
            np.array(one.layers[0].r_edges)[:: patch[2]],
            energy.T,
            norm=LogNorm(energy.max() / 10**DECADES, energy.max()),
            cmap="viridis",
            edgecolor="white",
            linewidth=0.4,
        )
        for (layer, _, ring), line in zip(shown, line_styles(len(shown)), strict=True):
            edges = np.array(one.layers[0].r_edges)[[ring * patch[2], (ring + 1) * patch[2]]]
            start = layer * patch[0]
            _tube(left, start * one.layer_thickness, patch[0], one.layer_thickness, edges[1], patch[1], line["color"])
            right.add_patch(
                Rectangle(
                    (start - 0.5, edges[0]), patch[0], np.diff(edges)[0], fill=False, ec=line["color"], linewidth=2.5
                )
            )
        left.set(title=f"tokens of {patch[0]} layers × {patch[1]} angles × {patch[2]} ring")
        right.set(xlabel="layer", ylabel="radius [mm]", title=" × ".join(map(str, (counts[0], counts[2]))) + " tokens")
        right.grid(False)
        scale = ScalarMappable(LogNorm(energy.max() / 10**DECADES, energy.max()), "viridis")
        fig.colorbar(scale, ax=right, label="mean energy [MeV]")
    return fig


def _cylinder(ax: Axes, length: float, radius: float) -> None:
    turn = np.linspace(0, 2 * np.pi, 65)
    for z in (0, length):
        ax.plot(z + SQUASH * radius * np.cos(turn), radius * np.sin(turn), color="0.6", linewidth=0.8)
    for side in (-radius, radius):
        ax.plot([0, length], [side, side], color="0.6", linewidth=0.8)
    ax.annotate("", (0, 0), (-0.22 * length, 0), arrowprops={"arrowstyle": "->", "color": OKABE_ITO["black"]})
    ax.text(-0.22 * length, 0.04 * radius, "electron", va="bottom", fontsize="small")
    ax.set(aspect="equal", xlim=(-0.25 * length, 1.12 * length), ylim=(-1.1 * radius, 1.1 * radius))
    ax.set_axis_off()


def _tube(ax: Axes, z: float, layers: int, thickness: float, radius: float, sectors: int, colour: str) -> None:
    """The near half of a tube's outer face, voxel by voxel, and the circle of its front end."""
    turn = np.linspace(-np.pi, np.pi, sectors + 1)
    for layer in range(layers):
        a, b = z + layer * thickness, z + (layer + 1) * thickness
        for start, stop in zip(turn[:-1], turn[1:], strict=True):
            if np.cos((start + stop) / 2) > 0:  # the far half is behind
                continue
            alpha = np.linspace(start, stop, 5)
            near = np.stack([a + SQUASH * radius * np.cos(alpha), radius * np.sin(alpha)], axis=1)
            far = np.stack([b + SQUASH * radius * np.cos(alpha[::-1]), radius * np.sin(alpha[::-1])], axis=1)
            ax.add_patch(Polygon(np.concatenate([near, far]), facecolor=colour, alpha=0.55, ec="white", linewidth=0.4))
    whole = np.linspace(0, 2 * np.pi, 97)
    end = z + layers * thickness
    for place in (z, end):
        ax.plot(place + SQUASH * radius * np.cos(whole), radius * np.sin(whole), color=colour, linewidth=0.8, alpha=0.8)


def networks(model: nn.Module, reports: Mapping[str, QuantReport]) -> Figure:
    """CaloDREAM's two networks with the number of parameters of each part, coloured by who puts it into bits.

    Args:
        model: a `CaloDREAM` of any size.
        reports: name of a setup to what it quantises, smaller setups first: a part has the colour of the first one.
    """
    bits = {name: [layer.name for layer in report.quantized] for name, report in reports.items()}
    hues = [OKABE_ITO[name] for name in ("orange", "vermilion", "purple", "sky")]
    colours = {name: to_rgba(hue, 0.55) for name, hue in zip(reports, hues, strict=False)}
    with new_figure(figsize=(8.6, 4.1)) as (fig, ax):
        for label, names, x, y, width, height in _BOXES:
            part = [(name, p.numel()) for name, p in model.named_parameters() if re.fullmatch(names, name)]
            owner = next((key for key, found in bits.items() if any(re.fullmatch(names, f"{n}.") for n in found)), None)
            ax.add_patch(
                FancyBboxPatch(
                    (x, y),
                    width,
                    height,
                    boxstyle="round,pad=0.02",
                    facecolor=colours.get(owner, "#E8E8E8"),
                    edgecolor=OKABE_ITO["grey"],
                )
            )
            count = f"{sum(n for _, n in part):,}".replace(",", "\u2009")
            ax.text(x + width / 2, y + height / 2, f"{label}\n{count}", ha="center", va="center", fontsize="small")
        for start, end in _ARROWS:
            ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": OKABE_ITO["grey"]})
        for x, y, side, text in _WORDS:
            ax.text(x, y, text, ha=side, va="center", fontsize="small")
        for y, name in ((4.15, "energy network"), (1.25, "shape network")):
            ax.text(0, y, name, fontweight="bold", va="bottom")
        keys = [Patch(color=colour, label=f"in bits in {name}") for name, colour in colours.items()]
        fig.legend(handles=[*keys, Patch(color="#E8E8E8", label="never")], loc="outside lower center", ncols=4)
        ax.set(xlim=(-2.2, 9.5), ylim=(-2.35, 4.5))
        ax.set_axis_off()
    return fig


def side_views(rows: Mapping[str, Mapping[str, Showers]]) -> Figure:
    """Showers seen from the side, a row of panels each: energy by layer, and by radius in the upper and the lower half.

    Args:
        rows: name of a row to titles and sets of one shower each (``showers[i]``), as many in every row. The data set's
            layers must be all alike.
    """
    columns = max(len(panels) for panels in rows.values())
    images = {name: {title: _from_the_side(one) for title, one in panels.items()} for name, panels in rows.items()}
    brightest = max(image.max() for panels in images.values() for image in panels.values())
    norm = LogNorm(brightest / 10**DECADES, brightest)
    any_one = next(iter(next(iter(rows.values())).values())).geometry
    edges = np.array(any_one.layers[0].r_edges)
    radii = np.concatenate([-edges[::-1], edges[1:]])
    layers = np.arange(any_one.n_layers + 1) - 0.5
    size = (1.4 * columns + 1.0, 1.4 * len(rows) + 0.5)
    with new_figure(len(rows), columns, figsize=size, sharex=True, sharey=True, squeeze=False) as (fig, axes):
        for row, (name, panels) in zip(axes, images.items(), strict=True):
            for ax, (title, image) in zip(row, panels.items(), strict=True):
                ax.pcolormesh(layers, radii, np.ma.masked_less_equal(image.T, 0), norm=norm, cmap="viridis")
                ax.set_title(title, fontsize="small")
                ax.grid(False)
            row[0].set_ylabel(f"{name}\nradius [mm]" if name else "radius [mm]")
        for ax in axes[-1]:
            ax.set_xlabel("layer")
        fig.colorbar(ScalarMappable(norm, "viridis"), ax=axes, label="energy [MeV]", aspect=12 * len(rows))
    return fig


def _from_the_side(showers: Showers) -> NDArray[np.float64]:
    """Energies (layers, 2 rings) of one shower: rings of the half sin(alpha) < 0 from outside in, then the other."""
    one = showers.geometry
    if len(showers) != 1 or not one.uniform:
        raise ValueError(f"one shower with layers that are all alike is needed, got {showers!r}")
    voxels = showers.voxels[0].astype(np.float64).reshape(one.n_layers, *one.shape(0))
    half = one.shape(0)[0] // 2  # angles run from -pi up
    return np.concatenate([voxels[:, :half].sum(1)[:, ::-1], voxels[:, half:].sum(1)], axis=1)


def losses(histories: Mapping[str, pd.DataFrame], *, ylabel: str = "mean squared error of the velocity") -> Figure:
    """Validation loss (line) and training loss (dotted) against the epoch.

    Args:
        histories: name to a table with an epoch a row (its index) and the columns ``train_loss`` and ``valid_loss``.
    """
    with new_figure(figsize=(4.8, 2.9)) as (fig, ax):
        for (name, history), line in zip(histories.items(), line_styles(len(histories)), strict=True):
            ax.plot(history.index, history["valid_loss"], marker="o", markersize=3.5, label=name, **line)
            ax.plot(history.index, history["train_loss"], linestyle=":", linewidth=1, color=line["color"])
        ax.set(xlabel="epoch", ylabel=ylabel)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(title="held out (dotted: training)")
    return fig


def solver(panels: Mapping[str, tuple[pd.DataFrame, float]]) -> Figure:
    """Errors of solvers against the number of times that they call the network, double logarithmic.

    Args:
        panels: title to a table with the columns ``method``, ``evaluations``, ``single`` (the error of one solution,
            dotted) and ``mean`` (that of the mean of many, solid), and the statistical error to compare with.
    """
    with new_figure(1, len(panels), figsize=(3.3 * len(panels) + 1.2, 2.8), sharey=True, squeeze=False) as (fig, axes):
        for ax, (title, (table, statistical)) in zip(axes[0], panels.items(), strict=True):
            groups = table.groupby("method", sort=False)
            for (method, rows), line in zip(groups, line_styles(groups.ngroups), strict=True):
                ax.plot(rows["evaluations"], rows["mean"], marker="o", markersize=4, label=method, **line)
                ax.plot(rows["evaluations"], rows["single"], ":", linewidth=1, color=line["color"])
            ax.axhline(statistical, color=OKABE_ITO["black"], linewidth=0.8)
            ax.annotate(
                "statistical error",
                (1, statistical),
                (-2, 3),
                fontsize="small",
                ha="right",
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
            )
            ax.set(xscale="log", yscale="log", title=title, xlabel="evaluations of the network")
            ticks = sorted(set(table["evaluations"]))
            ax.set_xticks(ticks, [str(number) for number in ticks])
            ax.minorticks_off()
        axes[0, 0].set_ylabel("error of the solver")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, title="mean (dotted: single)", loc="outside right upper", fontsize="small")
    return fig


def embedding_steps(energies: ArrayLike, seen: Mapping[str, ArrayLike]) -> Figure:
    """What is left of a shower's energy when it is rounded to eight bits with other inputs.

    Args:
        energies: (N,) incident energies in GeV, ascending.
        seen: name to the energies (N,) that the rounded inputs stand for.
    """
    with new_figure(figsize=(5.4, 2.9)) as (fig, ax):
        energies = np.asarray(energies)
        for (name, values), line in zip(seen.items(), line_styles(len(seen)), strict=True):
            ax.plot(energies, np.asarray(values) / energies, label=name, **line | {"linewidth": 1.1})
        ax.set(xscale="log", xlabel="incident energy [GeV]", ylabel="energy seen / incident energy")
        fig.legend(loc="outside upper center", ncols=len(seen))
    return fig
