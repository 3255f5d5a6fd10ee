"""Figures of P-DAT: where its bits are, and what its attention looks at."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import ArrayLike

from bithep_lib.plots.style import OKABE_ITO, new_figure

_FLOAT, _BITS = "#E8E8E8", "#FBD9A5"
_PARTS = (  # label, in bits, and what is fed in from below
    ("EdgeConv", False, ""),
    ("EdgeConv", False, ""),
    ("particle\nattention", True, "6 numbers\na pair"),
    ("channel\nattention", True, "11 × 11\njet numbers"),
    ("1D con-\nvolution", False, ""),
    ("mean", False, ""),
    ("MLP", False, ""),
)


def network(shares: Mapping[str, float]) -> Figure:
    """P-DAT from the constituents to the score, its blocks in bits coloured, and below it how much of it that is.

    Args:
        shares: how it was counted, to the fraction in bits.
    """
    with new_figure(2, 1, figsize=(8.6, 3.9), gridspec_kw={"height_ratios": [1.7, 0.35 * len(shares)]}) as (fig, axes):
        _draw_flow(axes[0])
        rows = np.arange(len(shares))
        for values, left, colour in (
            (list(shares.values()), 0, _BITS),
            ([1 - share for share in shares.values()], list(shares.values()), _FLOAT),
        ):
            axes[1].barh(rows, values, left=left, color=colour, edgecolor=OKABE_ITO["grey"], height=0.7)
        for row, share in zip(rows, shares.values(), strict=True):
            axes[1].text(min(share, 0.85) + 0.012, row, f"{100 * share:.1f} % in bits", va="center")
        axes[1].set(yticks=rows, yticklabels=list(shares), xlim=(0, 1), ylim=(len(shares) - 0.5, -0.5))
        axes[1].set(xlabel="share of the network")
        axes[1].grid(False)
    return fig


def _draw_flow(ax: Axes) -> None:
    width, gap = 1.3, 0.38
    step = width + gap
    for i, (label, bits, extra) in enumerate(_PARTS):
        x = i * step
        ax.add_patch(
            FancyBboxPatch(
                (x, 0),
                width,
                1,
                boxstyle="round,pad=0.02",
                facecolor=_BITS if bits else _FLOAT,
                edgecolor=OKABE_ITO["grey"],
            )
        )
        ax.text(x + width / 2, 0.5, label, ha="center", va="center", fontsize="small")
        _arrow(ax, (x - gap, 0.5), (x - 0.03, 0.5))
        if extra:
            ax.text(x + width / 2, -1.0, extra, ha="center", va="center", fontsize="small")
            _arrow(ax, (x + width / 2, -0.66), (x + width / 2, -0.04))
    end = len(_PARTS) * step - gap
    _arrow(ax, (end, 0.5), (end + gap, 0.5))
    ax.text(-gap - 0.05, 0.5, "$n$ × ($p_T$, $y$,\n$\\phi$, kind)", ha="right", va="center", fontsize="small")
    ax.text(end + gap + 0.05, 0.5, "logit of\nP(quark)", ha="left", va="center", fontsize="small")
    first, last = 2 * step - 0.15, 3 * step + width + 0.15
    ax.plot([first, first, last, last], [1.12, 1.35, 1.35, 1.12], color=OKABE_ITO["grey"], linewidth=1)
    ax.text((first + last) / 2, 1.45, "twice, with the same weights", ha="center", va="bottom", fontsize="small")
    ax.set(xlim=(-2.0, end + gap + 1.2), ylim=(-1.4, 1.95))
    ax.set_axis_off()


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": OKABE_ITO["grey"], "linewidth": 1})


def attention_maps(maps: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """Who looks at whom: attention weights between the particles of jets, over the 1/n of an even look at all of them.

    Args:
        maps: one row of panels each, and in it for each column (the same in all rows) the weights (n, n) of one jet,
            rows that sum to 1.
    """
    columns = list(next(iter(maps.values())))
    size = (2.8 * len(columns) + 0.9, 2.6 * len(maps))
    with new_figure(len(maps), len(columns), figsize=size, squeeze=False) as (fig, axes):
        for row, (name, panels) in zip(axes, maps.items(), strict=True):
            for ax, column in zip(row, columns, strict=True):
                weights = np.asarray(panels[column])
                image = ax.imshow(weights * len(weights), norm=LogNorm(1 / 8, 8), cmap="PuOr_r", rasterized=True)
                ax.set(title=f"{column}, {name}", xlabel="attended particle, by $p_T$")
                ax.grid(False)
            row[0].set_ylabel("attending particle, by $p_T$")
        bar = fig.colorbar(image, ax=axes, label=r"attention weight $\times\ n$", shrink=0.8)
        bar.set_ticks([1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8], labels=["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        bar.minorticks_off()
    return fig
