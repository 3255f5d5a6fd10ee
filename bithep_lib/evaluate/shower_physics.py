r"""Do simulated showers behave as showers must? Depth, width, response and resolution beside theory and publications.

An electromagnetic shower of energy E in a medium with :term:`critical energy` :math:`E_c` deposits its energy along the
depth t (in radiation lengths) on average as a gamma distribution,

.. math:: \frac{dE}{dt} = E\, b\, \frac{(bt)^{a-1} e^{-bt}}{\Gamma(a)}, \qquad
          t_\mathrm{max} = \frac{a - 1}{b} = \ln\frac{E}{E_c} + C,

with C = -1/2 for electrons and +1/2 for photons, and 90 % of it within one Moliere radius of the axis (S. Navas et al.
(Particle Data Group), Phys. Rev. D 110, 030001 (2024), section 34.5). A sampling calorimeter measures it with
:math:`\sigma / E = s / \sqrt{E/\mathrm{GeV}} \oplus c`.

A hadron's cascade is electromagnetic to a part that grows with the energy, and a calorimeter sees less of the rest:

.. math:: \frac{E_\mathrm{visible}}{E} = 1 - \left(1 - \frac{h}{e}\right) \left(\frac{E}{E_0}\right)^{m-1},

with e and h the responses to its two parts, and for pions E_0 = 1 GeV and m between 0.80 and 0.87 (the same review,
section 35.9.2; T. A. Gabriel et al., Nucl. Instrum. Meth. A 338 (1994) 336).

The published data are mean and standard deviation of preprocessed features of the CaloChallenge's files, from the
public history of the CaloDREAM authors' repository (github.com/luigifvr/calo_dreamer, folder ``dat``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import curve_fit
from scipy.special import gammainc

from bithep_lib.data.calochallenge import Showers
from bithep_lib.data.calochallenge.ratios import energy_ratios
from bithep_lib.evaluate.showers import features

__all__ = [
    "CRITICAL_ENERGY",
    "EXPONENT",
    "MOLIERE_RADIUS",
    "SHOWERING",
    "HadronicResponse",
    "Resolution",
    "containment",
    "depth_profile",
    "fit_hadronic_response",
    "fit_resolution",
    "layer_shares",
    "published_moments",
    "ratio_moments",
    "response",
    "ring_moments",
]

CRITICAL_ENERGY = 8.2
"""MeV, of the tungsten-silicon stack of ds2 and ds3: the mean of both materials' weighted by their radiation lengths
(hep-ex/0001020, equations 10 to 16)."""
MOLIERE_RADIUS = 10.9
"""mm, of the same stack in the same way."""
EXPONENT = 0.82
"""m of the energy that is not electromagnetic in a pion's cascade: E^m, E in GeV."""
SHOWERING = 4.0
"""GeV: below, many pions end without a cascade."""
DELTA = 1e-6  # keeps logits finite
PUBLISHED = Path(__file__).parent / "published" / "moments.csv"


def response(showers: Showers, edges: ArrayLike | None = None) -> pd.DataFrame:
    """Mean and relative spread of visible / incident energy for each incident energy.

    Args:
        edges: of the bins in incident energy, MeV; by default every energy is its own for ds1, and five bins a decade
            are made for ds2 and ds3.

    Returns:
        Columns ``energy`` (mean in the bin, GeV), ``n``, ``mean``, ``mean_error``, ``resolution`` (standard deviation /
        mean) and ``resolution_error``; bins with fewer than ten showers are left out.
    """
    visible = features(showers).response
    rows = []
    for chosen in _bins(showers, edges):
        values = visible[chosen]
        n, mean, std = len(values), values.mean(), values.std(ddof=1)
        # The error of a standard deviation needs the fourth moment: low energies have long tails.
        kurtosis = np.mean((values - mean) ** 4) / values.var() ** 2 if std > 0 else 3.0
        rows.append(
            {
                "energy": showers.incident[chosen].mean() / 1e3,
                "n": n,
                "mean": mean,
                "mean_error": std / np.sqrt(n),
                "resolution": std / mean,
                "resolution_error": std / mean * np.sqrt((kurtosis - 1) / (4 * n)),
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Resolution:
    """sigma / E = ``stochastic`` / sqrt(E / GeV) (+) ``constant``, the two added in quadrature, with errors."""

    stochastic: float
    stochastic_error: float
    constant: float
    constant_error: float

    def __call__(self, energy: ArrayLike) -> NDArray[np.float64]:
        """Relative resolution at energies in GeV."""
        return np.hypot(self.stochastic / np.sqrt(np.asarray(energy, dtype=float)), self.constant)

    def __str__(self) -> str:
        return (
            f"({100 * self.stochastic:.1f} ± {100 * self.stochastic_error:.1f}) % / sqrt(E/GeV) (+) "
            f"({100 * self.constant:.1f} ± {100 * self.constant_error:.1f}) %"
        )


def fit_resolution(table: pd.DataFrame) -> Resolution:
    """Fit the two terms to the squared resolutions of `response`, weighted with their errors.

    Raises:
        ValueError: fewer than three energies.
    """
    if len(table) < 3:
        raise ValueError(f"a resolution needs at least three energies, got {len(table)}")

    # In the squares it is a straight line: sigma^2 = s^2 / E + c^2, and c^2 may come out below zero by chance.
    square, error = table["resolution"] ** 2, 2 * table["resolution"] * table["resolution_error"]
    terms = np.column_stack([1 / table["energy"], np.ones(len(table))]) / error.to_numpy()[:, None]
    covariance = np.linalg.inv(terms.T @ terms)
    squares = covariance @ terms.T @ (square / error).to_numpy()
    best = np.sqrt(np.maximum(squares, 0))
    errors = np.sqrt(best**2 + np.sqrt(np.diag(covariance))) - best  # upwards, so that 0 has one as well
    return Resolution(best[0], errors[0], best[1], errors[1])


@dataclass(frozen=True)
class HadronicResponse:
    """Response to pions 1 - (1 - ``h_over_e``) (E / GeV)^(m - 1), with the error of ``h_over_e`` and m of 0.82."""

    h_over_e: float
    h_over_e_error: float

    def __call__(self, energy: ArrayLike) -> NDArray[np.float64]:
        """Visible over incident energy at energies in GeV."""
        return 1 - (1 - self.h_over_e) * np.asarray(energy, dtype=float) ** (EXPONENT - 1)

    def __str__(self) -> str:
        return f"e/h = {1 / self.h_over_e:.2f} ± {self.h_over_e_error / self.h_over_e**2:.2f}"


def fit_hadronic_response(table: pd.DataFrame) -> HadronicResponse:
    """Fit h/e to the means of `response` from 4 GeV on, where pions shower.

    Raises:
        ValueError: no energy of 4 GeV or more.
    """
    table = table[table["energy"] >= SHOWERING]
    if table.empty:
        raise ValueError(f"h/e needs energies of {SHOWERING:g} GeV or more, got none")
    # Linear in 1 - h/e: the mean of its values at the single energies, with weights.
    power = table["energy"] ** (EXPONENT - 1)
    values, errors = (1 - table["mean"]) / power, table["mean_error"] / power
    weights = errors**-2
    return HadronicResponse(1 - (weights * values).sum() / weights.sum(), weights.sum() ** -0.5)


def layer_shares(showers: Showers, edges: ArrayLike | None = None) -> pd.DataFrame:
    """Mean energy of each layer over the incident energy: rows mean incident energies in GeV, columns layers' names.

    Args:
        edges: as for `response`.
    """
    energy = features(showers).energy / showers.incident[:, None]
    bins = _bins(showers, edges)
    index = pd.Index([showers.incident[chosen].mean() / 1e3 for chosen in bins], name="incident energy [GeV]")
    rows = [energy[chosen].mean(0) for chosen in bins]
    return pd.DataFrame(rows, index, columns=[layer.name for layer in showers.geometry.layers])


def depth_profile(showers: Showers, edges: ArrayLike | None = None) -> pd.DataFrame:
    """Gamma distributions fitted to mean longitudinal profiles, beside the theory; for ds2 and ds3.

    Args:
        edges: of the bins in incident energy, MeV; by default five a decade.

    Returns:
        Columns ``energy`` (GeV), ``n``, ``a``, ``b``, ``t_max`` with ``t_max_error`` (statistical, by delete-a-tenth
        jackknife) and ``theory`` = ln(E / E_c) - 1/2, in radiation lengths; lengths count from the front face.

    Raises:
        ValueError: a data set whose layers have no common thickness.
    """
    depth = showers.geometry.layer_depth
    if depth is None:
        raise ValueError(f"the layers of {showers.dataset} have no common depth; give showers of ds2 or ds3")
    energy = features(showers, threshold=0).energy
    layers = depth * np.arange(energy.shape[1] + 1)

    def fitted(profile: NDArray) -> NDArray:
        def model(t: NDArray, a: float, b: float, scale: float) -> NDArray:
            return scale * np.diff(gammainc(a, b * layers))

        return curve_fit(model, layers[1:], profile, p0=(4, 0.5, profile.sum()), bounds=(1e-3, np.inf))[0]

    rows = []
    for chosen in _bins(showers, edges):
        part = energy[chosen] / showers.incident[chosen, None]
        a, b, _ = fitted(part.mean(0))
        tenths = [fitted(np.delete(part, np.s_[k::10], axis=0).mean(0)) for k in range(10)]
        peaks = np.array([(a_ - 1) / b_ for a_, b_, _ in tenths])
        mean = float(np.exp(np.log(showers.incident[chosen]).mean()))
        rows.append(
            {
                "energy": mean / 1e3,
                "n": len(part),
                "a": a,
                "b": b,
                "t_max": (a - 1) / b,
                "t_max_error": np.sqrt(9 * peaks.var()),
                "theory": np.log(mean / CRITICAL_ENERGY) - 0.5,
            }
        )
    return pd.DataFrame(rows)


def containment(showers: Showers, radii: ArrayLike) -> NDArray[np.float64]:
    """Share of the visible energy within each radius (mm) of the axis, over all layers and showers: shape (K,).

    Counts whole rings, so radii should be ring edges.
    """
    outer = np.concatenate([np.tile(np.array(layer.r_edges[1:]), layer.n_alpha) for layer in showers.geometry.layers])
    energy = (showers.voxels / showers.incident[:, None]).sum(0, dtype=np.float64)
    return np.array([energy[outer <= radius + 1e-9].sum() for radius in np.atleast_1d(radii)]) / energy.sum()


def published_moments(dataset: str) -> pd.DataFrame:
    """Moments of the CaloChallenge's own file: rows (feature, index), columns ``mean`` and ``std``.

    ``("ratio", 0)`` is visible / incident energy, ``("ratio", i)`` the logit of E_{i-1} / (E_{i-1} + E_i + ...), and
    for ds2 ``("ring of layer 10", j)`` the logit of a voxel's share of its layer, in ring j.
    """
    table = pd.read_csv(PUBLISHED)
    return table[table["dataset"] == dataset].drop(columns="dataset").set_index(["feature", "index"])


def ratio_moments(showers: Showers) -> pd.DataFrame:
    """The ``ratio`` rows of `published_moments` for these showers, with the error of the mean.

    For ds2 the showers are weighted so that log E is uniform within 1 GeV to 100 GeV and 100 GeV to 1 TeV, two thirds
    and one third, as in the published file.
    """
    one = features(showers, threshold=0)
    ratios = energy_ratios(torch.from_numpy(one.energy), torch.from_numpy(one.incident)).numpy()
    values = np.column_stack([ratios[:, 0], _logit(ratios[:, 1:])])
    frame = _weighted(values, _weights(showers))
    frame.index = pd.MultiIndex.from_product([["ratio"], range(len(frame))], names=["feature", "index"])
    return frame


def ring_moments(showers: Showers, layer: int = 10) -> pd.DataFrame:
    """The ``ring of layer ...`` rows of `published_moments`: mean logit of the voxels' shares, for ds2."""
    one = showers.geometry
    position = one.position(layer)
    voxels = showers.voxels[:, one.slice(position)].astype(np.float64)
    shares = voxels / (voxels.sum(1, keepdims=True) + 1e-10)
    frame = _weighted(_logit(shares).reshape(len(showers), *one.shape(position)).mean(1), _weights(showers))
    frame.index = pd.MultiIndex.from_product(
        [[f"ring of layer {layer}"], range(len(frame))], names=["feature", "index"]
    )
    return frame


def _bins(showers: Showers, edges: ArrayLike | None) -> list[NDArray[np.intp]]:
    """Rows of each bin in incident energy that has ten showers."""
    if edges is None:
        if showers.geometry.energies:
            edges = np.unique(showers.incident)
            edges = np.concatenate([edges * (1 - 1e-6), [np.inf]])
        else:
            low, high = np.log10(showers.incident.min()), np.log10(showers.incident.max())
            edges = 10 ** np.arange(np.floor(5 * low) / 5, high + 0.2, 0.2)
    number = np.digitize(showers.incident, np.asarray(edges))
    rows = [np.flatnonzero(number == k) for k in range(1, len(np.asarray(edges)))]
    return [chosen for chosen in rows if len(chosen) >= 10]


def _logit(share: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(share, 0, 1) * (1 - 2 * DELTA) + DELTA
    return np.log(inside) - np.log1p(-inside)


def _weights(showers: Showers) -> NDArray[np.float64]:
    """Equal for ds1; for ds2 and ds3 two thirds to below 100 GeV and one third to above, where there are both."""
    above = showers.incident >= 1e5
    if showers.geometry.energies or not 0 < above.mean() < 1:
        return np.full(len(showers), 1 / len(showers))
    return np.where(above, 1 / 3 / above.sum(), 2 / 3 / (~above).sum())


def _weighted(values: NDArray[np.float64], weights: NDArray[np.float64]) -> pd.DataFrame:
    mean = weights @ values
    variance = weights @ (values - mean) ** 2
    return pd.DataFrame({"mean": mean, "error": np.sqrt(weights**2 @ (values - mean) ** 2), "std": np.sqrt(variance)})
