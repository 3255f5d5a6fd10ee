"""Normalising flows at a look: densities that are bent, splines, blocks in bits, and what a flow is fed with."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor, nn

from bithep_lib.bitlinear import BitLinear
from bithep_lib.models.caloinn import CaloINN
from bithep_lib.plots.style import OKABE_ITO, line_styles, new_figure

__all__ = ["change_of_variables", "inputs", "layers_in_bits", "map_and_slope", "per_block", "steps", "training"]

Map = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Values (N,) to mapped values and logarithms of the derivatives, both (N,)."""

_BITS, _FLOAT = OKABE_ITO["vermilion"], OKABE_ITO["blue"]
_STRIPS = 8  # of equal probability, under both curves


def change_of_variables(forward: Map, *, bound: float, data: ArrayLike = ()) -> Figure:
    """How an increasing map from x to z makes a density of x out of a normal one of z.

    Areas of one colour are equal: what is under the normal curve between two values of z is under the other between
    the x that are mapped to them.

    Args:
        forward: x to z and log(dz/dx).
        bound: x is drawn from -bound to bound.
        data: a sample of x (N,), drawn as a histogram over its density.
    """
    x = torch.linspace(-bound, bound, 2401, dtype=torch.float64)
    z, log_slope = (values.detach().numpy() for values in forward(x))
    x, density = x.numpy(), stats.norm.pdf(z) * np.exp(log_slope)
    levels = np.linspace(-bound, bound, 2401)
    cuts = stats.norm.ppf(np.linspace(0, 1, _STRIPS + 1))
    with new_figure(2, 2, figsize=(5.6, 4.4), width_ratios=(3, 1.2), height_ratios=(3, 1.6)) as (fig, axes):
        (curve, right), (below, corner) = axes
        corner.remove()
        curve.plot(x, z, color=OKABE_ITO["black"])
        for i, (low, high) in enumerate(zip(cuts, cuts[1:], strict=False)):
            colour = (_FLOAT, OKABE_ITO["sky"])[i % 2]
            below.fill_between(x, density, where=(z >= low) & (z <= high), color=colour, linewidth=0)
            right.fill_betweenx(
                levels, stats.norm.pdf(levels), where=(levels >= low) & (levels <= high), color=colour, linewidth=0
            )
        for cut in cuts[1:-1]:
            at = np.interp(cut, z, x)
            curve.plot([at, at, bound], [-bound, cut, cut], color=OKABE_ITO["grey"], linewidth=0.7)
        if len(data):
            below.hist(data, 60, (-bound, bound), density=True, histtype="step", color=_BITS, label="data")
            below.legend()
        curve.set(xlim=(-bound, bound), ylim=(-bound, bound), ylabel="$z = f(x)$")
        right.set(ylim=(-bound, bound), xlim=(0, None), xlabel="normal density of $z$", yticklabels=[])
        below.set(xlim=(-bound, bound), ylim=(0, None), xlabel="$x$", ylabel="density of $x$")
    return fig


def map_and_slope(maps: Mapping[str, Map], knots: Mapping[str, tuple[ArrayLike, ArrayLike]], *, bound: float) -> Figure:
    """Splines: the map on the left, its derivative on the right.

    Args:
        maps: name to the map.
        knots: name to the (x, y) of the knots of its spline, drawn as points.
        bound: half of the splines' interval; a little more is drawn, where they are the identity.
    """
    x = torch.linspace(-1.2 * bound, 1.2 * bound, 1201, dtype=torch.float64)
    with new_figure(1, 2, figsize=(6.6, 2.9)) as (fig, (left, right)):
        left.plot(x, x, color=OKABE_ITO["grey"], linewidth=0.8)
        for (name, forward), line in zip(maps.items(), line_styles(len(maps)), strict=True):
            y, log_slope = (values.detach() for values in forward(x))
            left.plot(x, y, label=name, **line)
            right.plot(x, log_slope.exp(), **line)
            if name in knots:
                left.plot(*knots[name], "o", color=line["color"], markersize=4)
        for ax in (left, right):
            ax.axvspan(-bound, bound, color=OKABE_ITO["grey"], alpha=0.1, linewidth=0)
            ax.set(xlabel="$x$", xlim=(-1.2 * bound, 1.2 * bound))
        left.set(ylabel="$y$", ylim=(-1.2 * bound, 1.2 * bound))
        right.set(ylabel=r"slope $\mathrm{d}y/\mathrm{d}x$", yscale="log")
        left.legend()
    return fig


def steps(points: Mapping[str, ArrayLike], *, colour: ArrayLike, limit: float = 3.5) -> Figure:
    """The same points after each step of a flow in two dimensions, a panel each.

    Args:
        points: title to (N, 2).
        colour: (N,) a number for each point that it keeps.
        limit: the panels reach from -limit to limit.
    """
    with new_figure(1, len(points), figsize=(2.1 * len(points) + 0.3, 2.8), sharey=True, squeeze=False) as (fig, axes):
        for ax, (title, where) in zip(axes[0], points.items(), strict=True):
            ax.scatter(*np.asarray(where).T, c=colour, cmap="viridis", s=3, linewidths=0, rasterized=True)
            ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=title, xlabel="$x_1$")
        axes[0, 0].set_ylabel("$x_2$")
    return fig


def layers_in_bits(flows: Mapping[str, CaloINN]) -> Figure:
    """Which linear layers of which blocks are bits: a row a flow, a column a block, its layers from bottom to top.

    A box is as wide as the layer's number of weights says (on a logarithmic scale). Under a block stands what follows
    it: a random permutation of all entries (R) or the exchange of the halves (X); a bar before it is an actnorm.

    Args:
        flows: name to a flow with equally many blocks as the others; it may live on the meta device.

    Raises:
        ValueError: no flow, or different numbers of blocks.
    """
    counts = {len(flow.blocks) for flow in flows.values()}
    if len(counts) != 1:
        raise ValueError(f"flows with equally many blocks are needed, got {sorted(counts)}")
    with new_figure(len(flows), 1, figsize=(7.4, 0.95 * len(flows) + 0.8), sharex=True, squeeze=False) as (fig, axes):
        for ax, (name, flow) in zip(axes[:, 0], flows.items(), strict=True):
            for number, block in enumerate(flow.blocks):
                _block(ax, number, block)
            ax.set(ylim=(-0.45, 1.02), yticks=[], xlim=(-0.75, len(flow.blocks) - 0.4))
            ax.set_ylabel(name, rotation=0, ha="right", va="center")
            ax.grid(False)
            for spine in ax.spines.values():
                spine.set_visible(False)
        last = axes[-1, 0]
        last.set_xticks(range(counts.pop()))
        last.set_xlabel("block, from the showers (0) to the normal numbers")
        handles = [Patch(color=_BITS, label="bits"), Patch(color=_FLOAT, alpha=0.35, label="floating point")]
        fig.legend(handles=handles, loc="outside upper center", ncols=2)
    return fig


def inputs(samples: Mapping[str, tuple[ArrayLike, float]], *, bins: int = 80) -> Figure:
    """Histograms of what a flow is fed with, a panel each, and the interval in which its splines bend.

    Args:
        samples: title to the inputs x (N, D) of a flow, D of one kind, and the bound B of its splines.
    """
    with new_figure(1, len(samples), figsize=(3.8 * len(samples), 2.8), sharey=True, squeeze=False) as (fig, axes):
        for ax, (title, (x, bound)) in zip(axes[0], samples.items(), strict=True):
            values = np.asarray(x).ravel()
            counts, edges = np.histogram(values, bins, (-20.0, 2.0))
            ax.stairs(counts / values.size, edges, color=_FLOAT, fill=True, alpha=0.6)
            ax.axvspan(-20.5, -bound, color=_BITS, alpha=0.15, linewidth=0, label="outside of the splines")
            ax.axvline(-bound, color=_BITS, linestyle="--", linewidth=1)
            outside = np.mean(np.abs(values) > bound)
            ax.set(title=f"{title}: {100 * outside:.2g} % outside", xlim=(-20.5, 2.5), yscale="log")
            ax.set_xlabel(r"input $x = \log(y + 10^{-8})$")
        axes[0, 0].set_ylabel("share of the entries in a bin")
        axes[0, 0].legend(loc="upper right")
    return fig


def training(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Mean of -log p of the validation showers against the epoch, for each network.

    Args:
        histories: name to `FitResult.history`.
    """
    with new_figure(figsize=(5.2, 3.3)) as (fig, ax):
        for (name, history), line in zip(histories.items(), line_styles(len(histories)), strict=True):
            ax.plot(history.index, history["valid_loss"], marker="o", markersize=3, label=name, **line)
        ax.set(xlabel="epoch", ylabel=r"$\langle -\log p \rangle$ of validation showers [nats]")
        ax.legend()
    return fig


def per_block(losses: Mapping[str, Sequence[float]], *, ylabel: str) -> Figure:
    """A number for each block of a flow, a row of points for each way of counting it.

    Args:
        losses: name to one number a block, from the showers on.
        ylabel: what the numbers are, with unit.
    """
    with new_figure(figsize=(6.4, 3.3)) as (fig, ax):
        for (name, values), line in zip(losses.items(), line_styles(len(losses)), strict=True):
            ax.plot(range(len(values)), values, marker="o", markersize=4, label=name, **line)
        ax.axhline(0, color=OKABE_ITO["black"], linewidth=0.8)
        ax.set(xlabel="block, from the showers (0) to the normal numbers", ylabel=ylabel)
        ax.set_xticks(range(max(map(len, losses.values()))))
        ax.legend()
    return fig


def _block(ax: Axes, number: int, block: nn.Module) -> None:
    layers = [layer for layer in block.network.modules() if isinstance(layer, nn.Linear)]
    largest = max(layer.weight.numel() for layer in layers)
    height = 1 / len(layers)
    for i, layer in enumerate(layers):
        width = 0.7 * np.log10(layer.weight.numel()) / np.log10(largest)
        bits = isinstance(layer, BitLinear)
        style = {"color": _BITS} if bits else {"color": _FLOAT, "alpha": 0.35}
        ax.add_patch(Rectangle((number - width / 2, i * height), width, 0.82 * height, linewidth=0, **style))
    if block.actnorm is not None:
        ax.plot([number - 0.5] * 2, [0, 0.95], color=OKABE_ITO["black"], linewidth=1.2)
    half = len(block.permutation) // 2
    swapped = torch.arange(len(block.permutation)).roll(half)
    known = not block.permutation.is_meta
    kind = "X" if known and torch.equal(block.permutation.cpu(), swapped) else "R"
    ax.text(number, -0.4, kind, ha="center", va="bottom", fontsize="small", color=OKABE_ITO["grey"])
