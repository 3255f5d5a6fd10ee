"""What the four calorimeters are made of: plates across the shower axis, from front to back.

ds2 and ds3 are the detector of Geant4's example Par04, 90 times 1.4 mm tungsten and 0.3 mm silicon, here as flat plates
instead of a barrel of 80 cm radius. The detector of ds1, a slice of ATLAS, is not public in this form: its stand-in has
plates of the thicknesses of the ATLAS barrel (lead and liquid argon; steel and scintillator), with the challenge's
voxels, no noise, no accordion and no magnetic field.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["STACKS", "Plate", "Section", "stack"]


@dataclass(frozen=True)
class Plate:
    """One plate: a material of Geant4's NIST list and its thickness in mm."""

    material: str
    thickness: float


@dataclass(frozen=True)
class Section:
    """The same plates ``repetitions`` times.

    Attributes:
        plates: front to back; the last one is read out, if anything is.
        repetitions: how often they come.
        layers: numbers of the layers that the section's deposits go to, front to back, each from an equal part of the
            repetitions; empty where nothing is read out.
        sampling_fraction: deposits are divided by it.
    """

    plates: tuple[Plate, ...]
    repetitions: int = 1
    layers: tuple[int, ...] = ()
    sampling_fraction: float = 1.0

    @property
    def period(self) -> float:
        """Thickness of all plates together in mm."""
        return sum(plate.thickness for plate in self.plates)

    @property
    def length(self) -> float:
        """Depth of the section in mm."""
        return self.repetitions * self.period


def stack(sections: list[Mapping[str, Any]]) -> tuple[Section, ...]:
    """Sections from the plain dictionaries that ``dataclasses.asdict`` makes of them."""
    return tuple(
        Section(**{**one, "plates": tuple(Plate(**p) for p in one["plates"]), "layers": tuple(one["layers"])})
        for one in sections
    )


_TUNGSTEN_SILICON = (Plate("G4_W", 1.4), Plate("G4_Si", 0.3))
_LEAD_ARGON = (Plate("G4_Pb", 1.53), Plate("G4_Fe", 0.4), Plate("G4_lAr", 4.2))
_TILES = (Plate("G4_Fe", 14.0), Plate("G4_POLYSTYRENE", 3.0))
# Of electrons in endless stacks of these plates, 5 GeV, where a test measures them.
_ARGON = 0.21
_SCINTILLATOR = 0.033

_CYLINDER = (Section(_TUNGSTEN_SILICON, 90, tuple(range(45)), 0.033),)
# The presampler has next to no absorber of its own: it stands for what was lost in the cryostat, as in ATLAS.
_FRONT = (
    Section((Plate("G4_Al", 116.0),)),
    Section((Plate("G4_lAr", 11.0),), 1, (0,), 0.05),
    Section((Plate("G4_lAr", 20.0),)),
)
_BARREL = (
    *_FRONT,
    Section(_LEAD_ARGON, 13, (1,), _ARGON),
    Section(_LEAD_ARGON, 48, (2,), _ARGON),
    Section(_LEAD_ARGON, 6, (3,), _ARGON),
    Section((Plate("G4_Al", 60.0),)),
    Section(_TILES, 18, (12,), _SCINTILLATOR),
)

STACKS: dict[str, tuple[Section, ...]] = {
    "ds1-photons": _BARREL,
    "ds1-pions": (
        *_BARREL,
        Section(_TILES, 50, (13,), _SCINTILLATOR),
        Section(_TILES, 22, (14,), _SCINTILLATOR),
    ),
    "ds2": _CYLINDER,
    "ds3": _CYLINDER,
}
"""Detector of each data set."""
