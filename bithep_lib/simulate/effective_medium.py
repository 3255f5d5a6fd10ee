"""A stack of plates as one material, in radiation lengths and Moliere radii, for parametrised showers."""

from dataclasses import dataclass
from functools import cache
from itertools import groupby

import numpy as np

from bithep_lib.data.calochallenge import geometry
from bithep_lib.simulate.geant4.stacks import STACKS, Section

__all__ = ["Calorimeter", "Medium", "calorimeter", "medium"]


@dataclass(frozen=True)
class Material:
    """Z, A, density in g/cm^3 and radiation length in g/cm^2 (Particle Data Group)."""

    z: float
    a: float
    density: float
    radiation_length: float

    @property
    def critical_energy(self) -> float:
        """MeV, equation 1 of the paper."""
        return 2.66 * (self.radiation_length * self.z / self.a) ** 1.1

    @property
    def x0(self) -> float:
        """Radiation length in mm."""
        return 10 * self.radiation_length / self.density


MATERIALS = {
    "G4_W": Material(74, 183.84, 19.30, 6.76),
    "G4_Si": Material(14, 28.085, 2.33, 21.82),
    "G4_Pb": Material(82, 207.2, 11.35, 6.37),
    "G4_Fe": Material(26, 55.845, 7.874, 13.84),
    "G4_lAr": Material(18, 39.948, 1.396, 19.55),
    "G4_Al": Material(13, 26.982, 2.699, 24.01),
    "G4_POLYSTYRENE": Material(5.575, 10.37, 1.06, 43.79),
}


@dataclass(frozen=True)
class Medium:
    """Plates seen as one material (section 3 of the paper).

    Attributes:
        z: effective atomic number.
        x0, moliere: radiation length and Moliere radius in mm.
        critical_energy: MeV.
        sampling_frequency: radiation lengths over the thickness of a passive and an active plate, F_S.
        e_hat: electron over minimum-ionising response, from the atomic numbers of both plates.
    """

    z: float
    x0: float
    moliere: float
    critical_energy: float
    sampling_frequency: float
    e_hat: float


def medium(section: Section) -> Medium:
    """The effective medium of a section's plates, of which the last one is active."""
    materials = [MATERIALS[plate.material] for plate in section.plates]
    mass = np.array([plate.thickness * m.density for plate, m in zip(section.plates, materials, strict=True)])
    weight, density = mass / mass.sum(), mass.sum() / section.period
    x0 = 1 / sum(w / m.radiation_length for w, m in zip(weight, materials, strict=True))  # g/cm^2
    loss = sum(w * m.critical_energy / m.radiation_length for w, m in zip(weight, materials, strict=True))
    return Medium(
        z=sum(w * m.z for w, m in zip(weight, materials, strict=True)),
        x0=10 * x0 / density,
        moliere=10 * 21.2 / loss / density,
        critical_energy=x0 * loss,
        sampling_frequency=10 * x0 / density / section.period,
        e_hat=1 / (1 + 0.007 * (materials[0].z - materials[-1].z)),
    )


@dataclass(frozen=True)
class Calorimeter:
    """What a data set's stack is to the parametrisation.

    Attributes:
        begin, end: depth of each layer's front and back in radiation lengths (n_layers,).
        share: read-out over deposited energy of each layer (n_layers,).
        groups: positions of layers with equal bins, their radial edges in Moliere radii, and their angular bins.
    """

    medium: Medium
    begin: np.ndarray
    end: np.ndarray
    share: np.ndarray
    groups: tuple[tuple[slice, np.ndarray, int], ...]


@cache
def calorimeter(dataset: str) -> Calorimeter:
    """The detector of a data set in these terms; the medium is that of its most repeated plates."""
    stack = STACKS[dataset]
    depths = {}
    depth = 0.0
    for section in stack:
        plates = [plate.thickness / MATERIALS[plate.material].x0 for plate in section.plates]
        each = sum(plates) * section.repetitions / max(1, len(section.layers))
        # A plate on its own samples nothing: of what is deposited in it everything is visible.
        share = 1 / section.sampling_fraction if len(plates) == 1 else 1.0
        for layer in section.layers or (None,):
            depths[layer] = (depth, depth + each, share)
            depth += each
    layers = geometry(dataset).layers
    effective = medium(max((s for s in stack if s.layers), key=lambda s: s.repetitions))
    begin, end, share = np.array([depths[layer.id] for layer in layers]).T
    groups = []
    for (edges, n_alpha), group in groupby(range(len(layers)), lambda i: (layers[i].r_edges, layers[i].n_alpha)):
        positions = list(group)
        inside = slice(positions[0], positions[-1] + 1)
        groups.append((inside, np.array(edges) / effective.moliere, n_alpha))
    return Calorimeter(effective, begin, end, share, tuple(groups))
