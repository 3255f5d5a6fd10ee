r"""Showers in a few numbers: the high-level features of the CaloChallenge (arXiv:2410.21611, section 4).

With :math:`E_v` the voxel energies in MeV after those below the read-out threshold were set to zero, and
:math:`\varepsilon = 10^{-16}`, for each layer l and for :math:`x = \eta, \phi, r`:

.. math::

    E_l &= \sum_{v \in l} E_v, \qquad
    \langle x \rangle_l = \frac{\sum_{v \in l} x_v E_v}{E_l + \varepsilon}, \\
    \sigma_{x,l} &= \sqrt{\max\Bigl(0,\ \frac{\sum_{v \in l} x_v^2 E_v}{E_l + \varepsilon}
                    - \langle x \rangle_l^2\Bigr)}, \qquad
    \mathrm{sparsity}_l = 1 - \text{fraction of voxels with } E_v > 0,

and for the shower :math:`E_\mathrm{tot} = \sum_l E_l` and the response :math:`E_\mathrm{tot} / E_\mathrm{inc}`. The
centres and widths in :math:`\eta` and :math:`\phi`, which are mm here, exist only for layers with angular bins.

The sums are matrix products of the voxels with :math:`(1, r, r^2, \eta, \eta^2, \phi, \phi^2)`, in float64.

>>> from bithep_lib.data import calochallenge
>>> from bithep_lib.evaluate.showers import feature_vector, features
>>> showers = calochallenge.load("gflash", "ds2", n=100)      # doctest: +SKIP
>>> features(showers).response.mean(), feature_vector(showers).shape      # doctest: +SKIP
(0.98, (100, 362))
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bithep_lib.data.calochallenge.geometry import Geometry, geometry
from bithep_lib.data.calochallenge.showers import Showers

__all__ = ["Features", "feature_names", "feature_vector", "features"]

EPSILON = 1e-16
LOG_FLOOR = 1e-8  # MeV, added before a logarithm
PORTION = 1000  # showers in double precision at a time


@dataclass(frozen=True, eq=False)
class Features:
    """High-level features of N showers with L layers, of which A have angular bins; float64, MeV and mm.

    Attributes:
        geometry: of the showers.
        incident: incident energy (N,).
        energy: of each layer (N, L).
        sparsity: of each layer (N, L).
        r: radial centre of energy of each layer (N, L).
        r_width: its width (N, L).
        eta: centre of energy of each layer with angular bins (N, A), in the order of ``geometry.angular``.
        eta_width: its width (N, A).
        phi: as eta (N, A).
        phi_width: as eta_width (N, A).
    """

    geometry: Geometry
    incident: np.ndarray
    energy: np.ndarray
    sparsity: np.ndarray
    r: np.ndarray
    r_width: np.ndarray
    eta: np.ndarray
    eta_width: np.ndarray
    phi: np.ndarray
    phi_width: np.ndarray

    def __len__(self) -> int:
        return len(self.incident)

    @property
    def total(self) -> np.ndarray:
        """Energy of all voxels, MeV (N,)."""
        return self.energy.sum(1)

    @property
    def response(self) -> np.ndarray:
        """Visible / incident energy (N,)."""
        return self.total / self.incident

    def vector(self) -> np.ndarray:
        """What the challenge's high-level classifier sees: float32 (N, 2 + 4 L + 4 A), see :func:`feature_names`."""
        columns = [
            np.log10(self.incident)[:, None],
            np.log10(self.energy + LOG_FLOOR),
            *(part / 100 for part in (self.eta, self.phi, self.eta_width, self.phi_width)),
            np.log10(self.total + LOG_FLOOR)[:, None],
            self.sparsity,
            self.r / 100,
            self.r_width / 100,
        ]
        return np.concatenate(columns, axis=1, dtype=np.float32, casting="same_kind")

    def table(self) -> pd.DataFrame:
        """All features, one row a shower; columns (feature, layer id), where a feature of the shower has layer ""."""
        ids = [layer.id for layer in self.geometry.layers]
        columns = {("incident", ""): self.incident, ("total", ""): self.total, ("response", ""): self.response}
        for name in ("energy", "sparsity", "r", "r_width"):
            columns |= {(name, ids[i]): getattr(self, name)[:, i] for i in range(len(ids))}
        for name in ("eta", "eta_width", "phi", "phi_width"):
            columns |= {(name, ids[at]): getattr(self, name)[:, i] for i, at in enumerate(self.geometry.angular)}
        table = pd.DataFrame(columns)
        table.columns.names = ["feature", "layer"]
        return table


def features(showers: Showers, *, threshold: float | None = None) -> Features:
    """The high-level features of showers.

    Args:
        threshold: voxels with less energy (MeV) count as empty; None takes the challenge's, 0 keeps all.

    Raises:
        ValueError: ``threshold`` is negative.
    """
    one = showers.geometry
    threshold = one.threshold if threshold is None else threshold
    if not threshold >= 0:
        raise ValueError(f"threshold must be an energy in MeV, not negative, got {threshold}")
    n, sums = len(showers), _powers(one)
    moments = np.empty((n, one.n_layers, sums.shape[1]))
    filled = np.empty((n, one.n_layers))
    for start in range(0, n, PORTION):
        part = slice(start, start + PORTION)
        voxels = showers.voxels[part]
        voxels = np.where(voxels < threshold, 0, voxels).astype(np.float64)
        for i in range(one.n_layers):
            layer = voxels[:, one.slice(i)]
            moments[part, i] = layer @ sums[one.slice(i)]
            filled[part, i] = np.count_nonzero(layer, axis=1) / layer.shape[1]
    energy, angular = moments[..., 0], one.angular
    r, r_width = _centre_and_width(energy, moments[..., 1], moments[..., 2])
    eta, eta_width = _centre_and_width(*(moments[:, angular, k] for k in (0, 3, 4)))
    phi, phi_width = _centre_and_width(*(moments[:, angular, k] for k in (0, 5, 6)))
    incident = np.asarray(showers.incident, np.float64)
    return Features(one, incident, energy, 1 - filled, r, r_width, eta, eta_width, phi, phi_width)


def feature_vector(showers: Showers, *, threshold: float | None = None) -> np.ndarray:
    """High-level features as the challenge's classifier sees them: float32 (N, 30), (N, 46) or (N, 362).

    In this order: log10 of the incident energy; log10 of each layer's energy; centres in eta and in phi; widths in eta
    and in phi; log10 of the total energy; sparsity of each layer; radial centres; radial widths. Energies in MeV,
    lengths in 100 mm.
    """
    return features(showers, threshold=threshold).vector()


def feature_names(dataset: str) -> list[str]:
    """Names of the columns of :func:`feature_vector`; layers by their number in the challenge.

    Raises:
        ValueError: no such data set.
    """
    one = geometry(dataset)
    ids = [layer.id for layer in one.layers]
    angular = [ids[i] for i in one.angular]
    return [
        "log10 E_inc",
        *(f"log10 E_{i}" for i in ids),
        *(f"{name}_{i}" for name in ("eta", "phi", "eta width", "phi width") for i in angular),
        "log10 E_tot",
        *(f"{name}_{i}" for name in ("sparsity", "r", "r width") for i in ids),
    ]


def _powers(one: Geometry) -> np.ndarray:
    """(1, r, r^2, eta, eta^2, phi, phi^2) of each voxel: (n_voxels, 7)."""
    return np.stack(
        [np.ones(one.n_voxels), one.r, one.r**2, one.eta, one.eta**2, one.phi, one.phi**2],
        axis=1,
    )


def _centre_and_width(energy: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    centre = first / (energy + EPSILON)
    return centre, np.sqrt(np.maximum(second / (energy + EPSILON) - centre**2, 0))
