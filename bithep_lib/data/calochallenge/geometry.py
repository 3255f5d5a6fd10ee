r"""Where every voxel of the four CaloChallenge data sets is.

A shower is a flat row of voxel energies. Voxels run through the layers in order; within a layer the radial bin is
fastest, then the angle:

    flat index = offset of the layer + a * n_r + r

Angular bins are equal parts of :math:`[-\pi, \pi]`. The position of a voxel is that of its bin centres (the radius is
the mean of the two edges), and its Cartesian coordinates are called :math:`\eta = r\cos\alpha` and :math:`\phi =
r\sin\alpha` in the challenge, in mm, although for ds2 and ds3 they are nothing but x and y.

>>> from bithep_lib.data.calochallenge import geometry
>>> ds2 = geometry("ds2")
>>> ds2.n_voxels, ds2.shape(0)
(6480, (16, 9))
>>> ds2.index(layer=44, angle=15, ring=8)
6479
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bithep_lib.data.calochallenge import tables
from bithep_lib.suggest import did_you_mean

__all__ = ["DATASETS", "Geometry", "Layer", "dataset_of_size", "geometry"]


@dataclass(frozen=True)
class Layer:
    """One layer of voxels: its number in the challenge, its name, angular bins and radial edges in mm."""

    id: int
    name: str
    n_alpha: int
    r_edges: tuple[float, ...]

    @property
    def n_r(self) -> int:
        """Radial bins."""
        return len(self.r_edges) - 1

    @property
    def n_voxels(self) -> int:
        """Voxels of the layer."""
        return self.n_alpha * self.n_r


@dataclass(frozen=True, eq=False, repr=False)
class Geometry:
    """The voxels of one data set, and what the challenge fixes beside them.

    Attributes:
        name: "ds1-photons", "ds1-pions", "ds2" or "ds3".
        particle: "photon", "pion" or "electron".
        layers: in the order of the files. A *position* in this tuple (0 .. N - 1) is not the layer's ``id``.
        threshold: MeV; the evaluation sets voxels below it to zero.
        energies: incident energies in MeV and their number in one public file (ds1); empty where they are log-uniform.
        energy_range: smallest and largest incident energy in MeV.
        layer_thickness: mm, along the shower axis, and :attr:`layer_depth` the same in radiation lengths; None for
            ds1, whose layers are cells of very different depth.
    """

    name: str
    particle: str
    layers: tuple[Layer, ...]
    threshold: float
    energy_range: tuple[float, float]
    energies: Mapping[int, int] = field(default_factory=dict)
    layer_thickness: float | None = None
    layer_depth: float | None = None

    @property
    def n_layers(self) -> int:
        """Layers that have voxels."""
        return len(self.layers)

    @cached_property
    def offsets(self) -> np.ndarray:
        """First voxel of each layer and, last, the number of all voxels: int64 (n_layers + 1,)."""
        return _frozen(np.cumsum([0, *(layer.n_voxels for layer in self.layers)]))

    @property
    def n_voxels(self) -> int:
        """Voxels of a shower."""
        return int(self.offsets[-1])

    @cached_property
    def layer(self) -> np.ndarray:
        """Position of each voxel's layer: int64 (n_voxels,)."""
        return self._per_voxel(lambda i, layer: np.full(layer.n_voxels, i))

    @cached_property
    def r(self) -> np.ndarray:
        """Radius of each voxel's centre in mm: float64 (n_voxels,)."""
        return self._per_voxel(lambda _, layer: np.tile(_centres(np.array(layer.r_edges)), layer.n_alpha))

    @cached_property
    def alpha(self) -> np.ndarray:
        """Angle of each voxel's centre in rad, in (-pi, pi); 0 where a layer has no angular bins: (n_voxels,)."""
        return self._per_voxel(lambda _, layer: np.repeat(_centres(_angles(layer.n_alpha)), layer.n_r))

    @cached_property
    def eta(self) -> np.ndarray:
        """r cos(alpha) in mm: float64 (n_voxels,)."""
        return _frozen(self.r * np.cos(self.alpha))

    @cached_property
    def phi(self) -> np.ndarray:
        """r sin(alpha) in mm: float64 (n_voxels,)."""
        return _frozen(self.r * np.sin(self.alpha))

    @cached_property
    def area(self) -> np.ndarray:
        """Area of each voxel across the shower axis in mm^2: float64 (n_voxels,)."""

        def areas(_: int, layer: Layer) -> np.ndarray:
            return np.tile(np.pi * np.diff(np.square(layer.r_edges)) / layer.n_alpha, layer.n_alpha)

        return self._per_voxel(areas)

    @cached_property
    def angular(self) -> np.ndarray:
        """Positions of the layers with more than one angular bin, the only ones with a centre of energy."""
        return _frozen(np.flatnonzero([layer.n_alpha > 1 for layer in self.layers]))

    @property
    def uniform(self) -> bool:
        """All layers have the same bins, so that a shower is an array (n_layers, n_alpha, n_r)."""
        return len({(layer.n_alpha, layer.r_edges) for layer in self.layers}) == 1

    def slice(self, position: int) -> slice:
        """The voxels of the layer at ``position``."""
        return slice(int(self.offsets[position]), int(self.offsets[position + 1]))

    def shape(self, position: int) -> tuple[int, int]:
        """(n_alpha, n_r) of the layer at ``position``: ``voxels[:, g.slice(i)].reshape(-1, *g.shape(i))``."""
        return self.layers[position].n_alpha, self.layers[position].n_r

    def angles(self, position: int) -> np.ndarray:
        """Edges of the angular bins of the layer at ``position`` in rad: (n_alpha + 1,)."""
        return _angles(self.layers[position].n_alpha)

    def position(self, layer: int) -> int:
        """Position, 0 .. N - 1, of the layer with this number (its ``id``).

        Raises:
            ValueError: there is no such layer.
        """
        ids = [one.id for one in self.layers]
        if layer not in ids:
            raise ValueError(f"{self.name} has no layer {layer}; its layers: {', '.join(map(str, ids))}")
        return ids.index(layer)

    def index(self, layer: int, angle: int, ring: int) -> int:
        """Flat index of a voxel.

        Args:
            layer: the layer's number in the challenge (its ``id``).
            angle: angular bin, 0 .. n_alpha - 1.
            ring: radial bin, 0 .. n_r - 1.

        Raises:
            ValueError: there is no such voxel.
        """
        position = self.position(layer)
        n_alpha, n_r = self.shape(position)
        for name, value, n in (("angle", angle, n_alpha), ("ring", ring, n_r)):
            if not 0 <= value < n:
                raise ValueError(f"{name} must be 0 .. {n - 1} in layer {layer} of {self.name}, got {value}")
        return int(self.offsets[position]) + angle * n_r + ring

    def draw_energies(self, n: int, seed: int) -> np.ndarray:
        """Incident energies of ``n`` showers as the challenge draws them, in MeV: float64 (n,), in random order.

        For ds1 the energies come in the proportions of a public file, exactly so if ``n`` is its size; for ds2 and ds3
        the logarithm is uniform between 1 GeV and 1 TeV.

        Raises:
            ValueError: ``n`` is not positive.
        """
        if n < 1:
            raise ValueError(f"n must be a positive number of showers, got {n}")
        generator = np.random.default_rng(seed)
        if not self.energies:
            low, high = np.log10(self.energy_range)
            return 10 ** generator.uniform(low, high, n)
        shares = np.cumsum([0, *self.energies.values()])
        counts = np.diff(np.rint(n * shares / shares[-1]).astype(int))
        return generator.permutation(np.repeat(np.array(list(self.energies), np.float64), counts))

    def __repr__(self) -> str:
        return f"Geometry({self.name}: {self.particle} showers, {self.n_layers} layers, {self.n_voxels} voxels)"

    def _per_voxel(self, values) -> np.ndarray:
        return _frozen(np.concatenate([values(i, layer) for i, layer in enumerate(self.layers)]))


def _frozen(array: np.ndarray) -> np.ndarray:
    """Geometries are shared by everyone who asks for them: nobody may write into one."""
    array.flags.writeable = False
    return array


def _centres(edges: np.ndarray) -> np.ndarray:
    return (edges[1:] + edges[:-1]) / 2


def _angles(n_alpha: int) -> np.ndarray:
    return np.linspace(-np.pi, np.pi, n_alpha + 1)


def _layers(table: str) -> tuple[Layer, ...]:
    """Rows ``id name n_alpha edges...``; an id ``0-44`` stands for 45 equal layers, an indented row continues."""
    layers = []
    for row in re.sub(r"\n {10,}", " ", table).strip().splitlines():
        ids, name, n_alpha, *edges = row.split()
        first, _, last = ids.partition("-")
        layers += [
            Layer(i, name, int(n_alpha), tuple(map(float, edges))) for i in range(int(first), int(last or first) + 1)
        ]
    return tuple(layers)


_ATLAS = {"threshold": 1.0, "energy_range": (2.0**8, 2.0**22)}
# Voxels hold the energy in silicon divided by the sampling fraction 0.033; the threshold is 0.5 keV in silicon.
_CYLINDER = {
    "particle": "electron",
    "threshold": 0.5e-3 / 0.033,
    "energy_range": (1e3, 1e6),
    "layer_thickness": 3.4,
    "layer_depth": 0.8,
}
_GEOMETRIES = {
    g.name: g
    for g in (
        Geometry(
            "ds1-photons", "photon", _layers(tables.DS1_PHOTONS), energies=tables.ENERGIES["ds1-photons"], **_ATLAS
        ),
        Geometry("ds1-pions", "pion", _layers(tables.DS1_PIONS), energies=tables.ENERGIES["ds1-pions"], **_ATLAS),
        Geometry("ds2", layers=_layers(tables.DS2), **_CYLINDER),
        Geometry("ds3", layers=_layers(tables.DS3), **_CYLINDER),
    )
}

DATASETS = tuple(_GEOMETRIES)
"""Names of the four data sets."""


def geometry(dataset: str) -> Geometry:
    """The geometry of a data set, by name.

    Raises:
        ValueError: no such data set.
    """
    if dataset not in _GEOMETRIES:
        raise ValueError(
            f"dataset must be one of {', '.join(DATASETS)}, got {dataset!r}{did_you_mean(str(dataset), DATASETS)}"
        )
    return _GEOMETRIES[dataset]


def dataset_of_size(n_voxels: int) -> str | None:
    """The data set whose showers have ``n_voxels`` voxels, if any: the four numbers differ."""
    return next((g.name for g in _GEOMETRIES.values() if g.n_voxels == n_voxels), None)
