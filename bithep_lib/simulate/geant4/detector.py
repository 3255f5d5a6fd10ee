"""A stack of plates as Geant4 volumes, and the energy in every voxel counted by Geant4's own scorers.

Each read-out plate holds a disc, the disc equal wedges (the angular bins), the wedge rings (the radial bins). So a step
ends at the border of a voxel, the scorer ``G4PSEnergyDeposit3D`` adds it up in C++, and Python sees one number a voxel
and event instead of 2 500 steps a GeV. Only to be imported by :mod:`bithep_lib.simulate.geant4.worker`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import geant4_pybind as g4
import numpy as np

from bithep_lib.data.calochallenge.geometry import Geometry, Layer
from bithep_lib.simulate.geant4.read_out import ELECTROMAGNETIC, HADRONS, Birks
from bithep_lib.simulate.geant4.stacks import Section

__all__ = ["Detector"]

MARGIN = 260.0  # mm of plate around the outermost voxel: what leaves it sideways hardly comes back
GAP = 10.0  # mm between the stack and the end of the world
WEDGES_IF_NONE = 8  # a layer without angular bins is counted in wedges too, which are then added up
SCORER = "energy"


class Detector(g4.G4VUserDetectorConstruction):
    """The stack along +z, front face at z = 0."""

    def __init__(
        self, sections: tuple[Section, ...], geometry: Geometry, birks: Mapping[str, Birks] | None = None
    ) -> None:
        """Describe it; Geant4 builds it.

        Args:
            sections: what it is made of; the layers they name must be those of ``geometry``.
            birks: law for hadrons of each material that is read out; None: all deposits are seen.
        """
        super().__init__()
        self.sections, self.geometry, self.birks = sections, geometry, birks
        self._read_out: list[_ReadOut] = []
        self._hadrons: dict[str, _Hadrons] = {}
        self._kept: list[object] = []  # Geant4 keeps bare pointers: what Python forgets is gone

    def Construct(self) -> g4.G4VPhysicalVolume:
        """Called by Geant4: build all volumes and return the world."""
        half = max(layer.r_edges[-1] for layer in self.geometry.layers) + MARGIN
        depth = sum(section.length for section in self.sections)
        world = self._volume(g4.G4Box("world", 2 * half, 2 * half, depth + GAP), "G4_Galactic")
        front = 0.0
        for section in self.sections:
            self._place_section(section, world, half, front)
            front += section.length
        return self._place(world, None)

    def _place_section(self, section: Section, world: g4.G4LogicalVolume, half: float, front: float) -> None:
        block = self._volume(g4.G4Box("section", half, half, section.length / 2), "G4_Galactic")
        self._place(block, world, z=front + section.length / 2)
        period = self._volume(g4.G4Box("period", half, half, section.period / 2), "G4_Galactic")
        if section.repetitions > 1:
            self._keep(g4.G4PVReplica("period", period, block, g4.kZAxis, section.repetitions, section.period))
        else:
            self._place(period, block)
        z = -section.period / 2
        for plate in section.plates:
            volume = self._volume(g4.G4Box("plate", half, half, plate.thickness / 2), plate.material)
            self._place(volume, period, z=z + plate.thickness / 2)
            z += plate.thickness
        if section.layers:
            first = [layer.id for layer in self.geometry.layers].index(section.layers[0])
            layer = self.geometry.layers[first]
            rings = self._place_voxels(layer, volume, plate.thickness / 2, plate.material)
            self._read_out.append(_ReadOut(section, first, layer, rings))

    def _place_voxels(
        self, layer: Layer, plate: g4.G4LogicalVolume, half: float, material: str
    ) -> list[g4.G4LogicalVolume]:
        """Disc, wedges, rings; in a wedge's frame the rings follow each other along x, where Geant4 finds them fast."""
        outer, n = layer.r_edges[-1], _wedges(layer)
        width = 2 * np.pi / n
        disc = self._volume(g4.G4Tubs("disc", 0, outer, half, -np.pi, 2 * np.pi), material)
        self._place(disc, plate)
        wedge = self._volume(g4.G4Tubs("wedge", 0, outer, half, -width / 2, width), material)
        self._keep(g4.G4PVReplica("wedge", wedge, disc, g4.kPhi, n, width, -np.pi))
        solids = [g4.G4Tubs("ring", *edges, half, -width / 2, width) for edges in pairwise(layer.r_edges)]
        rings = [self._volume(solid, material) for solid in solids]
        for i, ring in enumerate(rings):
            self._place(ring, wedge, copy=i)
        return rings

    def ConstructSDandField(self) -> None:
        """Called by Geant4: one detector a section, with one scorer, or two where hadrons are seen by Birks' law."""
        for part in self._read_out:
            detector = self._keep(g4.G4MultiFunctionalDetector(part.name))
            # Copy numbers of period, wedge and ring: of the volumes 4, 1 and 0 levels up from the ring.
            scorer = self._keep(g4.G4PSEnergyDeposit3D(SCORER, *part.shape, 4, 1, 0))
            detector.RegisterPrimitive(scorer)
            if self.birks is not None:
                scorer.SetFilter(self._only("electromagnetic", ELECTROMAGNETIC))
                material = part.section.plates[-1].material
                hadrons = _Hadrons(scorer, part.shape, self.birks[material], _density(material))
                hadrons.SetFilter(self._only("hadrons", HADRONS))
                detector.RegisterPrimitive(hadrons)
                self._hadrons[part.name] = hadrons
            g4.G4SDManager.GetSDMpointer().AddNewDetector(detector)
            for ring in part.rings:
                ring.SetSensitiveDetector(detector)

    def voxels(self, event: g4.G4Event) -> np.ndarray:
        """Energy in every voxel in MeV, divided by the sampling fractions: float64 (n_voxels,)."""
        voxels = np.zeros(self.geometry.n_voxels)
        collections = event.GetHCofThisEvent()
        for part in self._read_out:
            number = g4.G4SDManager.GetSDMpointer().GetCollectionID(f"{part.name}/{SCORER}")
            hits = np.array([(i, float(energy)) for i, energy in collections.GetHC(number)]).reshape(-1, 2)
            deposits = np.zeros(part.shape)
            deposits.reshape(-1)[hits[:, 0].astype(int)] = hits[:, 1] / part.section.sampling_fraction
            if part.name in self._hadrons:
                deposits += self._hadrons[part.name].take() / part.section.sampling_fraction
            layers = len(part.section.layers)
            deposits = deposits.reshape(layers, -1, *part.shape[1:]).sum(axis=1)
            if part.layer.n_alpha == 1:
                deposits = deposits.sum(axis=1)
            start = self.geometry.offsets[part.first]
            voxels[start : start + deposits.size] = deposits.ravel()
        return voxels

    def _volume(self, solid: g4.G4VSolid, material: str) -> g4.G4LogicalVolume:
        return self._keep(g4.G4LogicalVolume(self._keep(solid), _material(material), material))

    def _place(
        self, volume: g4.G4LogicalVolume, mother: g4.G4LogicalVolume | None, z: float = 0.0, copy: int = 0
    ) -> g4.G4VPhysicalVolume:
        position = g4.G4ThreeVector(0, 0, z)
        return self._keep(g4.G4PVPlacement(None, position, volume, volume.GetName(), mother, False, copy, False))

    def _only(self, name: str, particles: tuple[str, ...]) -> g4.G4SDParticleFilter:
        chosen = self._keep(g4.G4SDParticleFilter(name))
        for particle in particles:
            chosen.add(particle)
        return chosen

    def _keep(self, thing: Any) -> Any:
        self._kept.append(thing)
        return thing


@dataclass(frozen=True)
class _ReadOut:
    """One section that is read out: the position and the bins of its first layer, and the volumes to watch."""

    section: Section
    first: int
    layer: Layer
    rings: list[g4.G4LogicalVolume]

    @property
    def name(self) -> str:
        return f"layer{self.first}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Periods, wedges and rings."""
        return self.section.repetitions, _wedges(self.layer), self.layer.n_r


class _Hadrons(g4.G4VPrimitiveScorer):
    """Adds up what is seen of hadrons. Geant4 has no scorer with Birks' law; their steps are few, some 50 a GeV."""

    def __init__(
        self, cells: g4.G4PSEnergyDeposit3D, shape: tuple[int, int, int], birks: Birks, density: float
    ) -> None:
        super().__init__("hadrons")
        self.cells, self.birks, self.density = cells, birks, density
        self.visible = np.zeros(shape)

    def ProcessHits(self, step: g4.G4Step, _: g4.G4TouchableHistory) -> bool:
        """Called by Geant4 for each step of the particles that the filter lets through."""
        energy, length = step.GetTotalEnergyDeposit(), step.GetStepLength()
        if energy > 0 and length > 0:
            self.visible.reshape(-1)[self.cells.GetIndex(step)] += self.birks.visible(energy, length, self.density)
        return True

    def take(self) -> np.ndarray:
        """MeV in each cell since the last call: float64 (periods, wedges, rings)."""
        taken, self.visible = self.visible, np.zeros_like(self.visible)
        return taken


def _material(name: str) -> g4.G4Material:
    return g4.G4NistManager.Instance().FindOrBuildMaterial(name)


def _density(material: str) -> float:
    """In g/cm^3."""
    return _material(material).GetDensity() / (g4.g / g4.cm3)


def _wedges(layer: Layer) -> int:
    return layer.n_alpha if layer.n_alpha > 1 else WEDGES_IF_NONE
