"""Looking at jets: single ones, averages, and distributions of the two classes."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import ArrayLike

from bithep_lib.data.quark_gluon.jets import Jets
from bithep_lib.data.quark_gluon.kinematics import jet_momentum, relative
from bithep_lib.data.quark_gluon.particles import CLASSES, particle_class
from bithep_lib.plots.style import GLUON, OKABE_ITO, QUARK, new_figure, ratio_figure, step_histogram

RADIUS = 0.4
NAMES = {1: "quark", 0: "gluon"}
_MARKERS = dict(zip(CLASSES, "^sod*", strict=True))
_COLOURS = dict(zip(CLASSES, (OKABE_ITO[c] for c in ("purple", "black", "vermilion", "blue", "orange")), strict=True))
_Y, _PHI = r"rapidity $y - y_\mathrm{jet}$", r"azimuth $\phi - \phi_\mathrm{jet}$ [rad]"


def event_display(jets: Jets) -> Figure:
    """Every particle of a few jets around the jet axis: area as its share of the transverse momentum, colour its kind.

    The circle is the anti-kT radius R = 0.4. At most four jets, in one row.
    """
    if not 1 <= len(jets) <= 4:
        raise ValueError(f"event_display draws one to four jets, got {len(jets)}")
    seen, total = relative(jets.constituents), jet_momentum(jets.constituents)
    kinds = particle_class(jets.constituents[..., 3])
    side = min(3.4, 9.2 / len(jets))  # inches
    size = (side * len(jets) + 1.3, side + 0.3)
    with new_figure(1, len(jets), figsize=size, sharex=True, sharey=True, squeeze=False) as (fig, axes):
        for i, ax in enumerate(axes[0]):
            ax.add_patch(Circle((0, 0), RADIUS, fill=False, color=OKABE_ITO["grey"], linestyle="--"))
            for code, name in enumerate(CLASSES):
                of_kind = seen["mask"][i] & (kinds[i] == code)
                dy, dphi, z = (seen[key][i][of_kind] for key in ("dy", "dphi", "z"))
                ax.scatter(dy, dphi, s=8 + 900 * z, c=_COLOURS[name], marker=_MARKERS[name], alpha=0.6, linewidths=0)
            particles, pt, m = seen["mask"][i].sum(), total["pt"][i], total["m"][i]
            ax.set(xlim=(-0.55, 0.55), ylim=(-0.55, 0.55), xlabel=_Y, aspect="equal")
            ax.set_title(f"{NAMES[int(jets.label[i])]}: {particles} particles\n$p_T$ = {pt:.0f} GeV, $m$ = {m:.0f} GeV")
        axes[0][0].set_ylabel(_PHI)
        handles = [axes[0][-1].scatter([], [], s=40, c=_COLOURS[n], marker=_MARKERS[n], label=n) for n in CLASSES]
        fig.legend(handles=handles, loc="outside right center")
    return fig


def average_images(jets: Jets, *, bins: int = 33, half_width: float = 0.5) -> Figure:
    """Mean share of the jet's transverse momentum per pixel, for quarks and gluons, and the ratio of the two.

    ``bins`` pixels to a side cover ``half_width`` in rapidity and azimuth on each side of the jet axis.
    """
    edges = np.linspace(-half_width, half_width, bins + 1)
    images = {}
    for label, name in NAMES.items():
        seen = relative(jets.constituents[jets.label == label])
        real = seen["mask"]
        image, _, _ = np.histogram2d(seen["dy"][real], seen["dphi"][real], bins=[edges, edges], weights=seen["z"][real])
        images[name] = image / len(real)
    with new_figure(1, 3, figsize=(9.4, 3.4), sharex=True, sharey=True) as (fig, axes):
        low, high = 1e-5, max(image.max() for image in images.values())
        for ax, (name, image) in zip(axes, images.items(), strict=False):
            mesh = ax.pcolormesh(edges, edges, image.T, norm=LogNorm(low, high), cmap="viridis", rasterized=True)
            ax.set_title(name)
        fig.colorbar(mesh, ax=axes[:2], label=r"mean $p_T$ share per pixel")
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log2(images["gluon"] / images["quark"])
        mesh = axes[2].pcolormesh(edges, edges, ratio.T, vmin=-2, vmax=2, cmap="PuOr_r", rasterized=True)
        axes[2].set_title("gluon / quark")
        fig.colorbar(mesh, ax=axes[2], label=r"$\log_2$ of the ratio")
        for ax in axes:
            ax.set(xlabel=_Y, aspect="equal")
            ax.grid(False)
        axes[0].set_ylabel(_PHI)
    return fig


def class_comparison(values: ArrayLike, labels: ArrayLike, *, xlabel: str, bins: int | ArrayLike = 40) -> Figure:
    """Distribution of one number for quark and gluon jets and, below, the ratio of the two, with Poisson errors."""
    with ratio_figure() as (fig, (top, bottom)):
        _compare(top, bottom, np.asarray(values), np.asarray(labels), xlabel, bins)
        top.legend()
    return fig


def class_comparisons(observables: dict[str, ArrayLike], labels: ArrayLike, *, bins: int = 40) -> Figure:
    """`class_comparison` for a few observables, side by side; the keys are the axis labels."""
    n = len(observables)
    with new_figure(2, n, figsize=(3.6 * n, 4.2), sharex="col", height_ratios=[3, 1], squeeze=False) as (fig, axes):
        for column, (xlabel, values) in enumerate(observables.items()):
            _compare(axes[0, column], axes[1, column], np.asarray(values), np.asarray(labels), xlabel, bins)
        for ax in axes[:, 1:].flat:
            ax.set_ylabel("")
        axes[0, 0].legend()
    return fig


def _compare(
    top: Axes, bottom: Axes, values: np.ndarray, labels: np.ndarray, xlabel: str, bins: int | ArrayLike
) -> None:
    if values.shape != labels.shape:
        raise ValueError(f"values and labels must be equally long, got shapes {values.shape} and {labels.shape}")
    if np.ndim(bins) == 0:
        low, high = np.quantile(values, [0.0, 0.998])  # the last per mille would leave the plot empty on the right
        if np.issubdtype(values.dtype, np.integer):  # whole numbers of counts in each bin, or it looks like a comb
            step = max(1, int(np.ceil((high - low) / bins)))
            bins = np.arange(low - 0.5, high + step, step)
        else:
            bins = np.linspace(low, high, bins + 1)
    edges, density, error = np.asarray(bins, dtype=float), {}, {}
    for label, colour, style in ((1, QUARK, "-"), (0, GLUON, "--")):
        count, _ = np.histogram(values[labels == label], bins=edges)
        norm = 1 / (np.sum(labels == label) * np.diff(edges))
        density[label], error[label] = count * norm, np.sqrt(count) * norm
        step_histogram(top, density[label], edges, error[label], color=colour, linestyle=style, label=NAMES[label])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = density[0] / density[1]
        relative_error = np.hypot(error[0] / density[0], error[1] / density[1])
    centre, known = (edges[:-1] + edges[1:]) / 2, np.isfinite(ratio) & (ratio > 0)
    bottom.errorbar(
        centre[known], ratio[known], (ratio * relative_error)[known], fmt=".", color=OKABE_ITO["black"], elinewidth=0.8
    )
    bottom.axhline(1, color=OKABE_ITO["grey"], linewidth=0.8)
    bottom.set(xlabel=xlabel, ylabel="gluon / quark", yscale="log", ylim=(0.05, 20))
    top.set(ylabel="fraction of jets per unit", ylim=(0, None))
