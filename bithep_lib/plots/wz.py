"""Validation of the W jets: what was selected, how the interference grows, how well an axis finds the decay plane."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from bithep_lib.data import wz
from bithep_lib.plots.style import OKABE_ITO, line_styles, new_figure, step_histogram
from bithep_lib.simulate.diboson_phase_space import M_W, M_Z, Patterns

HARD_EDGES = np.array([430.0, 500, 550, 650, 800, 1000, 1500])  # GeV
PEEKS = 0.8  # |cos theta|: beyond, the softer quark has less than a tenth of the momentum, which soft drop removes


def selection(jets: wz.WZJets, *, bins: int = 40) -> Figure:
    """Transverse momentum, soft-drop mass, particles, and polar decay angle of the selected jets, with their errors."""
    panels = (
        (jets.jet_pt, np.linspace(500, 1200, bins + 1), r"jet $p_T$ [GeV]", None),
        (jets.jet_mass_softdrop, np.linspace(70, 110, bins + 1), "soft-drop mass [GeV]", M_W),
        (jets.truth["n_particles"], np.arange(9.5, 120, 3), "particles in the jet", wz.WIDTH),
        (jets.cos_theta, np.linspace(-1, 1, bins + 1), r"$\cos\theta$ of the up-type quark", (-PEEKS, PEEKS)),
    )
    with new_figure(1, 4, figsize=(11.0, 2.9)) as (fig, axes):
        for ax, (values, edges, xlabel, marks) in zip(axes, panels, strict=True):
            counts, _ = np.histogram(values, edges)
            norm = 1 / (len(values) * np.diff(edges))
            step_histogram(ax, counts * norm, edges, np.sqrt(counts) * norm, color=OKABE_ITO["blue"])
            for mark in np.atleast_1d(marks if marks is not None else []):
                ax.axvline(mark, color=OKABE_ITO["grey"], linestyle="--", linewidth=1)
            ax.set(xlabel=xlabel, ylim=(0, None), xlim=(edges[0], edges[-1]))
        axes[0].set(yscale="log", ylim=(1e-5, None), ylabel="fraction of jets per unit")
    return fig


def growth(jets: wz.WZJets, pt: ArrayLike, theory: Sequence[Patterns]) -> Figure:
    """Size of the interference patterns and of the squares against the transverse momentum in the W Z frame.

    Only decays with abs(cos theta) < 0.8 count, on both sides.

    Args:
        pt: (K,) in GeV, where ``theory`` gives the expectations.
    """
    chosen = jets[np.abs(jets.cos_theta) < PEEKS]
    phi, truth = chosen.phi_decay.astype(np.float64), chosen.truth
    hard = np.sqrt((truth["m_wz"] / 2) ** 2 - ((M_W + M_Z) / 2) ** 2) * np.sqrt(1 - truth["cos_scattering"] ** 2)
    expected = Patterns(*np.transpose(theory))
    panels = (
        (
            (r"$C_W$: $-2\langle r_1\cos 2\varphi\rangle$", -2 * chosen.r1 * np.cos(2 * phi), -2 * expected.cw),
            (
                r"$C_{\widetilde W}$: $-2\langle \tilde r_1\sin 2\varphi\rangle$",
                -2 * chosen.r1t * np.sin(2 * phi),
                -2 * expected.cwt,
            ),
        ),
        (
            (r"$C_W$: $\langle r_2\rangle$", chosen.r2, expected.cw_squared),
            (r"$C_{\widetilde W}$: $\langle \tilde r_2\rangle$", chosen.r2t, expected.cwt_squared),
        ),
    )
    with new_figure(1, 2, figsize=(8.6, 3.6)) as (fig, axes):
        for ax, curves, ylabel in zip(axes, panels, ("interference [TeV$^2$]", "square [TeV$^4$]"), strict=True):
            for shift, (label, values, line), style in zip((0.99, 1.01), curves, line_styles(2), strict=True):
                x, mean, error = _binned(hard, values, HARD_EDGES)
                ax.errorbar(shift * x, mean, error, fmt="o", markersize=4, color=style["color"], capsize=2, label=label)
                ax.plot(pt, line, linewidth=1, **style)
            ax.set(xscale="log", yscale="log", xlabel=r"$p_T$ of the W in the $WZ$ frame [GeV]", ylabel=ylabel)
            ax.set_xticks([500, 700, 1000, 1500], ["500", "700", "1000", "1500"])
            ax.minorticks_off()
            ax.legend()
        axes[0].set_yticks([2, 5, 10, 20], ["2", "5", "10", "20"])
    return fig


def axis_residuals(jets: wz.WZJets, *, bins: int = 70) -> Figure:
    """The moment axis against the truth: distribution of the difference, and its size where decays are lopsided."""
    delta = np.mod(wz.moment_axis(jets) - jets.phi_decay + np.pi / 2, np.pi) - np.pi / 2
    with new_figure(1, 2, figsize=(8.4, 3.3)) as (fig, (left, right)):
        edges = np.linspace(-np.pi / 2, np.pi / 2, bins + 1)
        counts, _ = np.histogram(delta, edges)
        norm = 1 / (len(delta) * np.diff(edges))
        step_histogram(left, counts * norm, edges, np.sqrt(counts) * norm, color=OKABE_ITO["blue"])
        left.set(
            xlabel=r"moment axis $-\ \varphi$, modulo $\pi$ [rad]", ylabel="fraction of jets per rad", yscale="log"
        )
        _against_cos_theta(right, jets, {
            "moment axis": np.sin(delta) ** 2,
            "frame of the jet (floor)": np.sin(jets.truth["phi_decay_jet"] - jets.phi_decay) ** 2,
        })  # fmt: skip
    return fig


def _against_cos_theta(ax: Axes, jets: wz.WZJets, columns: Mapping[str, np.ndarray]) -> None:
    edges = np.array([0, 0.2, 0.4, 0.6, 0.7, 0.8, 1.0])
    for (label, values), line in zip(columns.items(), line_styles(len(columns)), strict=True):
        x, mean, error = _binned(np.abs(jets.cos_theta), values, edges)
        ax.errorbar(x, mean, error, label=label, marker="o", markersize=4, capsize=2, **line)
    ax.set(xlabel=r"$|\cos\theta|$ of the decay", ylabel=r"$\langle\sin^2\delta\rangle$", yscale="log", xlim=(0, 1))
    ax.set_yticks([0.002, 0.005, 0.01, 0.02, 0.05], ["0.002", "0.005", "0.01", "0.02", "0.05"])
    ax.minorticks_off()
    ax.legend()


def _binned(x: np.ndarray, values: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of x, mean of the values and its error in each bin that has at least two entries."""
    count, total, squares, place = (
        np.histogram(x, edges, weights=w)[0] for w in (None, values, values**2, x.astype(np.float64))
    )
    full = count > 1
    count, mean = count[full], total[full] / count[full]
    return place[full] / count, mean, np.sqrt((squares[full] / count - mean**2) / (count - 1))
