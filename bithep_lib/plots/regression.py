"""Figures of a regressed angle: Figures 3 and 4 of arXiv:2504.03387, and the core of the residual."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from bithep_lib.evaluate.regression import FIGURE_4_BINS, residuals
from bithep_lib.plots.style import OKABE_ITO, line_styles, new_figure, ratio_figure, step_histogram

FIGURE_3_BINS = 30
_QUARTERS = np.pi * np.arange(-2, 3) / 2
_LABELS = (r"$-\pi$", r"$-\pi/2$", "0", r"$\pi/2$", r"$\pi$")
_TRUE = r"true $\varphi_\mathrm{decay}$ [rad]"


def truth_against_prediction(true: ArrayLike, predictions: Mapping[str, ArrayLike], *, scatter: bool = False) -> Figure:
    """Predicted against true angle, one panel a model, in the layout of Figure 3.

    A perfect model lies on the dashed lines, whichever quark is which.

    Args:
        true: (N,) in rad in [-pi, pi].
        predictions: for each model (N,) in rad, as the model gives them: an angle beyond pi / 2 is drawn where it is.
        scatter: points, as in one version of the paper's figure, instead of a histogram of 30 x 30 bins. Points also
            show angles up to 0.45 rad beyond pi / 2; the histogram leaves them out.
    """
    true, n = np.asarray(true), len(predictions)
    reach = np.pi / 2 + (0.45 if scatter else 0)
    with new_figure(1, n, figsize=(3.5 * n + 0.9, 3.1), sharex=True, sharey=True, squeeze=False) as (fig, axes):
        edges = [np.linspace(-half, half, FIGURE_3_BINS + 1) for half in (np.pi, np.pi / 2)]
        counts = {name: np.histogram2d(true, np.asarray(p), bins=edges)[0] for name, p in predictions.items()}
        top = max(count.max() for count in counts.values())
        for ax, (name, p) in zip(axes[0], predictions.items(), strict=True):
            if scatter:
                points = {"s": 1.0, "alpha": 0.25, "linewidths": 0, "rasterized": True}
                ax.scatter(true, np.asarray(p), color=OKABE_ITO["blue"], **points)
            else:
                mesh = ax.pcolormesh(*edges, counts[name].T, vmin=0, vmax=top, cmap="viridis", rasterized=True)
            for turns in (-1, 0, 1):
                line = np.array([-np.pi, np.pi]) - turns * np.pi
                ax.plot([-np.pi, np.pi], line, "--", color=OKABE_ITO["grey"], linewidth=0.8)
            ax.set(title=name, xlabel=_TRUE, xlim=(-np.pi, np.pi), ylim=(-reach, reach))
            ax.set_xticks(_QUARTERS, _LABELS)
            ax.set_yticks(_QUARTERS[1:4], _LABELS[1:4])
            ax.grid(False)
        axes[0, 0].set_ylabel(r"predicted $\varphi_\mathrm{decay}$ [rad]")
        if not scatter:
            fig.colorbar(mesh, ax=axes, label="jets")
    return fig


def residual_histograms(
    true: ArrayLike, predictions: Mapping[str, ArrayLike], *, reference: str | None = None
) -> Figure:
    """Distribution of prediction minus truth on the full circle, in the layout of Figure 4, over that of a reference.

    Args:
        true: (N,) in rad.
        predictions: for each model (N,) in rad, or (S, N) for S trainings: their mean, with a band of their spread.
            The band of a single training is the statistical error.
        reference: the model in the denominator below; the first one by default.
    """
    edges = np.linspace(-np.pi, np.pi, FIGURE_4_BINS + 1)
    with _over_reference(true, predictions, edges, 2 * np.pi, reference) as (fig, (top, bottom)):
        top.set(ylabel="fraction of jets per bin", yscale="log", ylim=(None, 0.5))
        bottom.set(xlabel=r"residual: predicted $-$ true angle [rad]", yscale="log")
        bottom.set_xticks(_QUARTERS, _LABELS)
        top.legend(loc="upper center", ncols=2)
    return fig


def residual_core(
    true: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    *,
    half_width: float = 0.3,
    bins: int = 50,
    reference: str | None = None,
) -> Figure:
    """The same with the residual folded into (-pi/2, pi/2], near zero: the resolution of the axis.

    Args as in `residual_histograms`; ``half_width`` in rad.
    """
    edges = np.linspace(-half_width, half_width, bins + 1)
    with _over_reference(true, predictions, edges, np.pi, reference) as (fig, (top, bottom)):
        top.set(ylabel="fraction of jets per bin", ylim=(0, None))
        bottom.set(xlabel=r"residual modulo $\pi$: predicted $-$ true angle [rad]")
        top.legend()
    return fig


@contextmanager
def _over_reference(
    true: ArrayLike, predictions: Mapping[str, ArrayLike], edges: np.ndarray, period: float, reference: str | None
) -> Iterator[tuple[Figure, tuple[Axes, Axes]]]:
    """Shares of the residuals per bin, with their errors, and below them the ratio to those of the reference."""
    reference = next(iter(predictions)) if reference is None else reference
    if reference not in predictions:
        raise ValueError(f"reference must be one of {', '.join(predictions)}, got {reference!r}")
    shares = {name: _shares(p, true, edges, period) for name, p in predictions.items()}
    base = np.where(shares[reference][0] > 0, shares[reference][0], np.nan)  # no ratio where the reference is empty
    with ratio_figure(figsize=(5.6, 4.4)) as (fig, (top, bottom)):
        for (name, (share, error)), line in zip(shares.items(), line_styles(len(shares)), strict=True):
            step_histogram(top, share, edges, error, label=name, **line)
            step_histogram(bottom, share / base, edges, error / base, **line)
        ratios = np.concatenate([share / base for share, _ in shares.values()])
        low, high = np.nanquantile(ratios, [0.02, 0.98])
        bottom.set(
            ylabel=f"ratio to\n{reference}",
            xlim=(edges[0], edges[-1]),
            ylim=(max(0.8 * low, 0.05), min(1.2 * high, 20)),
        )
        yield fig, (top, bottom)


def _shares(predictions: ArrayLike, true: ArrayLike, edges: np.ndarray, period: float) -> tuple[np.ndarray, np.ndarray]:
    """Fraction of jets per bin, and its error: the spread of the trainings, or of a single one the statistical."""
    runs = [residuals(row, true, period=period) for row in np.atleast_2d(np.asarray(predictions))]
    rows = np.array([np.histogram(run, edges)[0] for run in runs]) / len(np.asarray(true))
    mean = rows.mean(axis=0)
    return mean, rows.std(axis=0, ddof=1) if len(rows) > 1 else np.sqrt(mean / len(np.asarray(true)))
