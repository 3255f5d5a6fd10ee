"""One look for every figure of the book: seaborn, a quiet grid, Okabe-Ito colours.

Every plotting function of the package returns a :class:`matplotlib.figure.Figure` that pyplot has already forgotten,
so a notebook cell ending in ``plots.roc_curves(...)`` shows it exactly once and nothing piles up in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Colours that stay apart for the common forms of colour blindness and in grey print (Okabe and Ito 2008).
OKABE_ITO: dict[str, str] = {
    "blue": "#0072B2",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "orange": "#E69F00",
    "black": "#000000",
    "grey": "#7F7F7F",
}
#: The two classes of jets, the same in every figure.
QUARK, GLUON = OKABE_ITO["vermilion"], OKABE_ITO["blue"]
#: Line styles cycle with the colours, so that curves can be told apart without any colour at all.
LINE_STYLES = ("-", "--", "-.", ":")

_RC = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "figure.dpi": 90,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "grid.alpha": 0.4,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "mathtext.fontset": "dejavusans",
    "savefig.bbox": "tight",
    "svg.hashsalt": "bithep",
}


@contextmanager
def style() -> Iterator[None]:
    """Apply the book's look inside a ``with`` block and give back the reader's own settings after it."""
    colours = [c for name, c in OKABE_ITO.items() if name != "black"]
    with mpl.rc_context(), sns.axes_style("whitegrid", rc=_RC), sns.plotting_context("notebook", font_scale=0.9):
        mpl.rcParams.update(_RC | {"axes.prop_cycle": mpl.cycler(color=colours)})
        yield


@contextmanager
def new_figure(
    nrows: int = 1, ncols: int = 1, *, figsize: tuple[float, float] = (5.6, 4.0), **kwargs: Any
) -> Iterator[tuple[Figure, Any]]:
    """``with new_figure(1, 2) as (fig, axes): ...``: subplots in the book's style, closed to pyplot on leaving.

    ``kwargs`` go to :func:`matplotlib.pyplot.subplots`. The figure itself stays usable (shown, saved, tested)
    afterwards.
    """
    with style():
        fig, axes = plt.subplots(nrows, ncols, figsize=figsize, **kwargs)
        try:
            yield fig, axes
        finally:
            plt.close(fig)


def ratio_figure(*, figsize: tuple[float, float] = (5.6, 4.8)) -> Any:
    """Two panels sharing the horizontal axis: the quantity above, its ratio to a reference below (context manager)."""
    return new_figure(2, 1, figsize=figsize, sharex=True, gridspec_kw={"height_ratios": [3, 1]})


def line_styles(n: int) -> list[dict[str, str]]:
    """``n`` pairs of colour and line style, for ``ax.plot(..., **style)``."""
    colours = [c for name, c in OKABE_ITO.items() if name not in ("black", "grey")]
    return [{"color": c, "linestyle": s} for c, s in islice(zip(cycle(colours), cycle(LINE_STYLES), strict=False), n)]


def step_histogram(
    ax: Axes, counts: np.ndarray, edges: np.ndarray, errors: np.ndarray | None = None, **line: Any
) -> None:
    """A histogram as steps with a band of its error: ``counts`` of shape (bins,) between ``edges`` (bins + 1,)."""
    ax.stairs(counts, edges, **line)
    if errors is not None:
        ax.stairs(counts + errors, edges, baseline=counts - errors, fill=True, color=line.get("color"), alpha=0.25)
