r"""How far histograms of two samples of showers are apart: the separation powers of the CaloChallenge.

The separation power (triangular discrimination, arXiv:2009.03796, equation 15) of two histograms that each sum to 1 is

.. math:: S(h, g) = \frac12 \sum_i \frac{(h_i - g_i)^2}{h_i + g_i},

0 for equal and 1 for disjoint histograms. Entries outside the range of the histogram are dropped before it is
normalised, so S does not see them.

Two samples of the *same* distribution differ by chance. With n and m entries in K occupied bins,

.. math:: \langle S \rangle = \frac{K - 1}{4} \left(\frac1n + \frac1m\right),

as :math:`4 S / (1/n + 1/m)` is the :math:`\chi^2` of two histograms. This is what Geant4 against Geant4 gives in the
published tables (0.4e-3 for 100 bins and 121 000 showers), and it is much larger for samples of a few thousand: every
number here stands beside its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bithep_lib.data.calochallenge.geometry import Geometry
from bithep_lib.data.calochallenge.showers import Showers
from bithep_lib.evaluate.showers import Features, features

__all__ = ["GROUPS", "Comparison", "compare", "from_columns", "separation_power", "separation_table", "to_columns"]

GROUPS = (
    "E layer",
    "E total",
    "cell",
    "EC eta",
    "EC phi",
    "EC r",
    "EC eta std",
    "EC phi std",
    "EC r std",
    "sparsity",
)
"""The groups of the challenge's tables: "EC" is the centre of energy, "std" its width, "cell" the voxel energies."""

ENERGY_EDGES, CELL_EDGES = 40, 50
_OUTER = (12, 13, 14)  # hadronic layers of ds1, with wider bins
_LABELS = {
    "E layer": ("energy", "$E_{{{}}}$ [MeV]"),
    "EC eta": ("eta", r"$\langle\eta\rangle_{{{}}}$ [mm]"),
    "EC phi": ("phi", r"$\langle\phi\rangle_{{{}}}$ [mm]"),
    "EC r": ("r", r"$\langle r\rangle_{{{}}}$ [mm]"),
    "EC eta std": ("eta_width", r"$\sigma_{{\eta,{}}}$ [mm]"),
    "EC phi std": ("phi_width", r"$\sigma_{{\phi,{}}}$ [mm]"),
    "EC r std": ("r_width", r"$\sigma_{{r,{}}}$ [mm]"),
    "sparsity": ("sparsity", "sparsity of layer {}"),
}
_COLUMNS = ("group", "layer", "low", "high", "reference", "generated")
_RESPONSE = r"$E_\mathrm{tot} / E_\mathrm{inc}$"
_ANGULAR = ("EC eta", "EC phi", "EC eta std", "EC phi std")


@dataclass(frozen=True, eq=False)
class Comparison:
    """One histogram of a reference sample and of a generated one.

    Attributes:
        group: one of :data:`GROUPS`, or "E total at" and an energy for one of the discrete energies of ds1.
        layer: the layer's number in the challenge, None for the whole shower.
        label: of the horizontal axis, with unit.
        edges: of the bins (K + 1,).
        reference: entries (K,).
        generated: entries (K,).
        logarithmic: bins of equal width in the logarithm.
        entries: how many numbers there were in the reference and in the generated sample, inside the range or not.
    """

    group: str
    layer: int | None
    label: str
    edges: np.ndarray
    reference: np.ndarray
    generated: np.ndarray
    logarithmic: bool
    entries: tuple[int, int]

    @property
    def separation(self) -> float:
        """Separation power of the two."""
        return separation_power(self.reference, self.generated)

    @property
    def by_chance(self) -> float:
        """What two samples of these sizes from one distribution would have on average; NaN without entries.

        It takes the entries as independent. Voxels of one shower are not, so for "cell" it is a lower limit.
        """
        n, m = self.reference.sum(), self.generated.sum()
        occupied = int(((self.reference + self.generated) > 0).sum())
        return float((occupied - 1) / 4 * (1 / n + 1 / m)) if n and m else float("nan")

    @property
    def outside(self) -> tuple[float, float]:
        """Fraction of entries that the histogram does not show, in the reference and in the generated sample."""
        n, m = self.entries
        return 1 - self.reference.sum() / max(n, 1), 1 - self.generated.sum() / max(m, 1)


def separation_power(reference: np.ndarray, generated: np.ndarray) -> float:
    """Separation power of two histograms with the same bins.

    Args:
        reference: entries of each bin (K,), of any normalisation.
        generated: (K,).

    Returns:
        0 .. 1; 1 if just one of them is empty, 0 if both are (the published script gives NaN in both cases).

    Raises:
        ValueError: different shapes, or negative or non-finite entries.
    """
    h, g = np.asarray(reference, np.float64), np.asarray(generated, np.float64)
    if h.ndim != 1 or h.shape != g.shape:
        raise ValueError(f"two histograms with the same bins are needed, got shapes {h.shape} and {g.shape}")
    if not (np.isfinite(h).all() and np.isfinite(g).all() and (h >= 0).all() and (g >= 0).all()):
        raise ValueError("histograms must have finite entries that are not negative")
    if not h.any() or not g.any():
        return float(h.any() != g.any())
    h, g = h / h.sum(), g / g.sum()
    both = h + g
    return float(0.5 * np.sum(np.square(h - g)[both > 0] / both[both > 0]))


def compare(
    generated: Showers, reference: Showers, *, groups: Iterable[str] = GROUPS, layers: Iterable[int] | None = None
) -> list[Comparison]:
    """The challenge's histograms of two samples, with its bins: layers in order within each group.

    Voxels below the read-out threshold are set to zero in both. For ds1, "E total" is followed by a histogram for each
    discrete energy that both samples have.

    Args:
        groups: some of :data:`GROUPS`.
        layers: numbers of layers in the challenge; None for all.

    Raises:
        ValueError: an unknown group or layer, an empty sample, or samples of different data sets.
    """
    groups = tuple(groups)
    if unknown := [group for group in groups if group not in GROUPS]:
        raise ValueError(f"unknown group {unknown[0]!r}; the groups: {', '.join(GROUPS)}")
    if generated.dataset != reference.dataset:
        raise ValueError(f"showers of one data set are needed, got {generated.dataset} and {reference.dataset}")
    if not len(generated) or not len(reference):
        raise ValueError(f"no showers to compare: {len(generated)} generated, {len(reference)} of the reference")
    one = reference.geometry
    layers = [layer.id for layer in one.layers] if layers is None else list(layers)
    for layer in layers:
        one.position(layer)  # refuses unknown ones
    pair = features(reference), features(generated)
    found = []
    for group in groups:
        if group == "cell":
            found.append(_cells(generated, reference))
        elif group == "E total":
            found += _responses(*pair)
        else:
            found += _layers(group, *pair, layers)
    return found


def separation_table(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """Separation powers per group, averaged over layers as in the challenge's tables.

    Returns:
        one row a group; columns ``separation`` (mean over layers), ``by chance`` (the same for two samples of equal
        distribution and these sizes), ``largest`` and ``layer`` (where it is).
    """
    rows = [(c.group, c.layer, c.separation, c.by_chance) for c in comparisons if c.group in GROUPS]
    table = pd.DataFrame(rows, columns=["group", "layer", "separation", "by chance"])
    grouped = table.groupby("group", sort=False)
    mean = grouped[["separation", "by chance"]].mean()
    worst = table.loc[grouped["separation"].idxmax()].set_index("group")
    mean["largest"], mean["layer"] = worst["separation"], worst["layer"].astype("Int64")
    return mean


def to_columns(comparisons: Iterable[Comparison]) -> dict[str, list[Any]]:
    """Comparisons as one long table for a run record, a row a bin; `from_columns` makes them again.

    Returns:
        Columns ``group``, ``layer`` (-1 for the whole shower), ``low`` and ``high`` (edges), ``reference`` and
        ``generated`` (entries). How many numbers lay outside of the range is not kept.
    """
    rows = [
        (c.group, -1 if c.layer is None else c.layer, *bin_)
        for c in comparisons
        for bin_ in zip(
            c.edges[:-1].tolist(), c.edges[1:].tolist(), c.reference.tolist(), c.generated.tolist(), strict=True
        )
    ]
    return pd.DataFrame(rows, columns=_COLUMNS).to_dict("list")


def from_columns(columns: Mapping[str, Sequence[Any]]) -> list[Comparison]:
    """The comparisons that `to_columns` wrote down.

    Raises:
        KeyError: a column is missing.
    """
    found = []
    for (group, layer), bins in pd.DataFrame(columns)[list(_COLUMNS)].groupby(["group", "layer"], sort=False):
        counts = [bins[name].to_numpy(np.float64) for name in ("reference", "generated")]
        edges = np.append(bins["low"], bins["high"].iloc[-1])
        entries = tuple(int(count.sum()) for count in counts)
        whole = layer == -1
        found.append(
            Comparison(
                group, None if whole else layer, _label(group, layer), edges, *counts, _logarithmic(group), entries
            )
        )
    return found


def edges_of(group: str, geometry: Geometry, layer: int | None, largest: float) -> np.ndarray:
    """The challenge's bin edges for a group and a layer.

    Args:
        layer: its number; None for "E total" and "cell".
        largest: where logarithmic bins end: the largest value in the reference or, if that has none above the
            threshold, in the generated sample.
    """
    cylinder = geometry.uniform
    if group in ("E layer", "cell"):
        top = largest if largest > geometry.threshold else 10 * geometry.threshold
        return np.geomspace(geometry.threshold, top, ENERGY_EDGES if group == "E layer" else CELL_EDGES)
    if group == "E total":
        return np.linspace(0.5, 1.5, 101)
    if group == "sparsity":
        return np.linspace(0, 1, 21)
    outer = layer in _OUTER
    if group in ("EC eta", "EC phi"):
        limit = 30 if cylinder else 500 if outer else 100
        return np.linspace(-limit, limit, 101)
    if group in ("EC eta std", "EC phi std"):
        return np.linspace(0, 30 if cylinder else 400 if outer else 100, 101)
    upper = {"EC r": 42, "EC r std": 20}[group] if cylinder else 1500 if outer else 500
    return np.linspace(0, upper, 101)


def _layers(group: str, reference: Features, generated: Features, layers: Sequence[int]) -> list[Comparison]:
    attribute, _ = _LABELS[group]
    geometry = reference.geometry
    ids = [layer.id for layer in geometry.layers]
    ids = [ids[i] for i in geometry.angular] if group in _ANGULAR else ids
    found = []
    for column, layer in enumerate(ids):
        if layer not in layers:
            continue
        values, others = (getattr(sample, attribute)[:, column] for sample in (reference, generated))
        edges = edges_of(group, geometry, layer, _largest(values, others, geometry))
        found.append(_histograms(group, layer, edges, values, others))
    return found


def _responses(reference: Features, generated: Features) -> list[Comparison]:
    edges = edges_of("E total", reference.geometry, None, 0)
    found = [_histograms("E total", None, edges, reference.response, generated.response)]
    for i, energy in enumerate(reference.geometry.energies):
        # Photons scatter less than a tenth from the fifth energy on, and have narrower bins there.
        narrow = reference.geometry.particle == "photon" and i >= 4
        edges = np.linspace(*((0.9, 1.1) if narrow else (0.4, 1.4)), 21)
        values, others = (f.response[np.isclose(f.incident, energy, rtol=1e-3)] for f in (reference, generated))
        if len(values) and len(others):
            found.append(_histograms(f"E total at {energy / 1e3:.3g} GeV", None, edges, values, others))
    return found


def _cells(generated: Showers, reference: Showers) -> Comparison:
    one = reference.geometry
    edges = edges_of("cell", one, None, _largest(reference.voxels, generated.voxels, one))
    counts, entries = [], []
    for showers in (reference, generated):
        count, seen = np.zeros(len(edges) - 1), 0
        for start in range(0, len(showers), 1000):
            voxels = showers.voxels[start : start + 1000]
            hit = voxels[voxels >= one.threshold]
            count += np.histogram(hit, edges)[0]
            seen += hit.size
        counts.append(count)
        entries.append(seen)
    return Comparison("cell", None, _label("cell"), edges, *counts, _logarithmic("cell"), tuple(entries))


def _largest(reference: np.ndarray, generated: np.ndarray, geometry: Geometry) -> float:
    largest = float(reference.max())
    return largest if largest > geometry.threshold else float(generated.max())


def _histograms(
    group: str, layer: int | None, edges: np.ndarray, reference: np.ndarray, generated: np.ndarray
) -> Comparison:
    counts = [np.histogram(values, edges)[0].astype(np.float64) for values in (reference, generated)]
    entries = len(reference), len(generated)
    return Comparison(group, layer, _label(group, layer), edges, *counts, _logarithmic(group), entries)


def _label(group: str, layer: int | None = None) -> str:
    if group == "cell":
        return "voxel energy [MeV]"
    if group.startswith("E total"):
        return _RESPONSE + group.removeprefix("E total")
    return _LABELS[group][1].format(layer)


def _logarithmic(group: str) -> bool:
    return group in ("E layer", "cell")
