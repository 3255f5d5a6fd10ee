"""The decay plane of a boosted W: what its angle is, how jets show it, and what it is worth."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Arc
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy.typing import ArrayLike

from bithep_lib.data import wz
from bithep_lib.plots.style import OKABE_ITO, line_styles, new_figure

_X, _Y = r"$\theta\,\cos\phi$ [rad]", r"$\theta\,\sin\phi$ [rad]"
_BEAM, _DECAY = OKABE_ITO["blue"], OKABE_ITO["vermilion"]


def decay_plane(angle: float = 0.9) -> Figure:
    """The angle of the decay plane, in space (rest frame of W and Z) and seen along the W.

    Args:
        angle: phi_decay in rad.
    """
    with new_figure(figsize=(9.0, 4.0)) as (fig, ax):
        ax.remove()
        left, right = fig.add_gridspec(1, 2, width_ratios=(1.35, 1))
        _in_space(fig.add_subplot(left, projection="3d"), angle)
        _along_the_w(fig.add_subplot(right), angle)
    return fig


def _in_space(ax: Axes, angle: float) -> None:
    turned = np.array([np.cos(angle), np.sin(angle)])
    for (x, y), colour, alpha in (((1.0, 0.0), _BEAM, 0.15), (turned, _DECAY, 0.2)):
        corners = [(z, s * x, s * y) for z, s in ((-1.1, -0.8), (1.1, -0.8), (1.1, 0.8), (-1.1, 0.8))]
        corners = corners if colour == _BEAM else [(max(z, 0.0), a, b) for z, a, b in corners]
        ax.add_collection3d(Poly3DCollection([corners], facecolor=colour, alpha=alpha, edgecolor=colour))
    black, grey = OKABE_ITO["black"], OKABE_ITO["grey"]
    arrow = {"arrow_length_ratio": 0.12, "linewidth": 2}
    ax.quiver(0, 0, 0, 1, 0, 0, color=black, **arrow)
    ax.quiver(0, 0, 0, -1, 0, 0, color=grey, **arrow)
    ax.text(1.15, 0, 0.05, "W")
    ax.text(-1.25, 0, 0.05, "Z", color=grey)
    ax.quiver(-0.75, -0.75, 0, 0.7, 0.7, 0, color=_BEAM, **arrow)
    ax.quiver(0.75, 0.75, 0, -0.7, -0.7, 0, color=_BEAM, **arrow)
    ax.text(-0.6, -1.1, 0.0, "proton", color=_BEAM)
    for sign, name in ((1, "q"), (-1, r"$\bar q'$")):
        ax.quiver(0.5, 0, 0, 0.5, *(0.65 * sign * turned), color=_DECAY, **arrow)
        ax.text(1.05, *(0.78 * sign * turned), name, color=_DECAY)
    arc = np.linspace(0, angle, 30)
    ax.plot(np.full(30, 1.1), 0.5 * np.cos(arc), 0.5 * np.sin(arc), color=black)
    middle = 0.62 * np.array([np.cos(angle / 2), np.sin(angle / 2)])
    ax.text(1.1, *middle, r"$\varphi$")
    ax.set(xlim=(-1, 1), ylim=(-0.8, 0.8), zlim=(-0.8, 0.8))
    ax.set_box_aspect((1.3, 1, 1), zoom=1.12)
    ax.view_init(elev=20, azim=-62)
    ax.set_axis_off()


def _along_the_w(ax: Axes, angle: float) -> None:
    turned = np.array([np.cos(angle), np.sin(angle)])
    for direction, colour, name in (
        (np.array([1.0, 0.0]), _BEAM, "plane of beam and W"),
        (turned, _DECAY, "decay plane"),
    ):
        ax.plot(*np.outer(direction, [-1, 1]), color=colour, label=name, linestyle="--" if colour == _BEAM else "-")
    for sign, name in ((1, "q"), (-1, r"$\bar q'$")):
        ax.plot(*(0.7 * sign * turned), "o", color=_DECAY)
        ax.annotate(name, 0.7 * sign * turned, xytext=(8, -4), textcoords="offset points", color=_DECAY)
    ax.plot(0, 0, "o", color=OKABE_ITO["black"])
    ax.annotate("W", (0, 0), xytext=(4, -14), textcoords="offset points")
    ax.add_patch(Arc((0, 0), 0.9, 0.9, theta1=0, theta2=np.degrees(angle), color=OKABE_ITO["black"]))
    ax.annotate(r"$\varphi$", 0.52 * np.array([np.cos(angle / 2), np.sin(angle / 2)]))
    ax.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal", xlabel=_X, ylabel=_Y, xticks=[0], yticks=[0])
    ax.legend(loc="lower right")


def jets(some: wz.WZJets, *, half_width: float = 0.6) -> Figure:
    """Particles of a few jets around the jet axis: area as the share of the transverse momentum. The line is the truth.

    Args:
        some: one to four jets.
        half_width: of the panels, in rad.
    """
    if not 1 <= len(some) <= 4:
        raise ValueError(f"jets draws one to four jets, got {len(some)}")
    pt, xy, mask = wz.features(some)
    with new_figure(1, len(some), figsize=(2.9 * len(some) + 0.4, 3.3), sharey=True, squeeze=False) as (fig, axes):
        for i, ax in enumerate(axes[0]):
            share = pt[i, mask[i]] / pt[i].sum()
            ax.scatter(*xy[i, mask[i]].T, s=6 + 900 * share, color=_BEAM, alpha=0.55, linewidths=0)
            phi = some.phi_decay[i]
            ax.plot(*np.outer([np.cos(phi), np.sin(phi)], [-1, 1]), color=_DECAY, linewidth=1, label="decay plane")
            ax.set(xlim=(-half_width, half_width), ylim=(-half_width, half_width), aspect="equal", xlabel=_X)
            ax.set_title(rf"$p_T$ = {some.jet_pt[i]:.0f} GeV, $\varphi$ = {phi:+.2f}")
        axes[0, 0].set_ylabel(_Y)
        axes[0, 0].legend(loc="lower left")
    return fig


def average_images(some: wz.WZJets, *, bins: int = 41, half_width: float = 0.5) -> Figure:
    """Mean share of the transverse momentum per pixel: jets as they are, and each turned by its true angle."""
    pt, xy, mask = wz.features(some)
    share = (pt / pt.sum(axis=1, keepdims=True))[mask]
    position = xy[..., 0] + 1j * xy[..., 1]
    edges = np.linspace(-half_width, half_width, bins + 1)
    with new_figure(1, 2, figsize=(7.4, 3.5), sharey=True) as (fig, axes):
        for ax, turn, title in (
            (axes[0], np.zeros(len(some)), "as they are"),
            (axes[1], some.phi_decay, r"turned by $-\varphi$"),
        ):
            seen = (position * np.exp(-1j * turn)[:, None])[mask]
            image, _, _ = np.histogram2d(seen.real, seen.imag, bins=[edges, edges], weights=share / len(some))
            mesh = ax.pcolormesh(edges, edges, image.T, norm=LogNorm(1e-5, 0.03), cmap="viridis", rasterized=True)
            ax.set(xlabel=_X, aspect="equal", title=title)
            ax.grid(False)
        axes[0].set_ylabel(_Y)
        fig.colorbar(mesh, ax=axes, label=r"mean $p_T$ share per pixel")
    return fig


def interference(phi: ArrayLike, weights: Mapping[str, ArrayLike], *, bins: int = 12) -> Figure:
    """Change of the rate in bins of the true angle for each coefficient, per event of the Standard Model.

    Args:
        phi: (N,) angle in rad.
        weights: name to (N,) linear coefficients r_1 in TeV^2.
    """
    edges = np.linspace(-np.pi / 2, np.pi / 2, bins + 1)
    folded = np.mod(np.asarray(phi) + np.pi / 2, np.pi) - np.pi / 2
    count, _ = np.histogram(folded, edges)
    with new_figure(figsize=(5.4, 3.4)) as (fig, ax):
        for (name, r1), line in zip(weights.items(), line_styles(len(weights)), strict=True):
            r = np.asarray(r1)
            mean = np.histogram(folded, edges, weights=r)[0] / count
            error = np.sqrt(np.histogram(folded, edges, weights=r**2)[0] / count - mean**2) / np.sqrt(count)
            centre = (edges[:-1] + edges[1:]) / 2
            ax.errorbar(centre, mean, error, label=name, marker="o", markersize=4, **line)
        ax.axhline(0, color=OKABE_ITO["black"], linewidth=0.8)
        ax.set(xlabel=r"$\varphi$ modulo $\pi$ [rad]", ylabel=r"mean $r_1$ [TeV$^2$]", xlim=(-np.pi / 2, np.pi / 2))
        ax.legend()
    return fig


def training_curves(histories: Mapping[str, pd.DataFrame], *, axis: float) -> Figure:
    """Loss on the validation jets against the epoch, with that of the moment axis on the same jets.

    Args:
        histories: for each network the history of `train.fit`.
        axis: <sin^2 delta> of the moment axis.
    """
    with new_figure(figsize=(5.2, 3.2)) as (fig, ax):
        for (name, history), line in zip(histories.items(), line_styles(len(histories)), strict=True):
            ax.plot(history.index, history["valid_loss"], marker="o", markersize=4, label=name, **line)
        ax.axhline(axis, color=OKABE_ITO["grey"], linestyle="--", label="moment axis")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set(xlabel="epoch", ylabel=r"validation $\langle\sin^2\delta\rangle$")
        ax.legend()
    return fig


def limits(values: Mapping[str, tuple[float, float]], *, xlabel: str, references: Mapping[str, float]) -> Figure:
    """Expected limits with their errors, one row each, and reference lines.

    Args:
        values: name to (half width, error).
        xlabel: what the half width is, with its unit.
        references: name to the half width of an estimate to compare with.
    """
    with new_figure(figsize=(6.4, 0.36 * len(values) + 1.4)) as (fig, ax):
        rows = np.arange(len(values))
        centre, error = np.array(list(values.values())).T
        ax.errorbar(centre, rows, xerr=error, fmt="o", color=OKABE_ITO["blue"], capsize=3)
        for (name, value), line in zip(references.items(), line_styles(len(references) + 1)[1:], strict=True):
            ax.axvline(value, label=name, **line)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set(xlabel=xlabel, yticks=rows, yticklabels=list(values), ylim=(len(values) - 0.5, -0.5))
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return fig
