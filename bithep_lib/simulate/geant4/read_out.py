r"""What a calorimeter's read-out sees of hadrons: less of the slow ones, and nothing that comes late.

A slow hadron ionises so densely that charge recombines and light is quenched where they arise. By Birks' law (Proc.
Phys. Soc. A 64 (1951) 874) what is seen of an energy E is

.. math:: E_\mathrm{visible} = E\,\frac{1 + k\,(dE/dx)_\mathrm{min}}{1 + k\,dE/dx},

here with the numerator of ATLAS's simulation, which leaves fast, minimum ionising particles as they are. Electrons are
left alone: what they lose is part of the sampling fractions.

Neutrons lose their energy within microseconds, when a read-out has long moved on: ATLAS's simulation gives them up
after 150 ns, and here nothing later is followed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["BIRKS", "ELECTROMAGNETIC", "HADRONS", "WINDOW", "Birks", "birks"]

WINDOW = 150.0  # ns from the moment the particle enters

ELECTROMAGNETIC = ("e-", "e+", "gamma")
HADRONS = (
    *("pi+", "pi-", "mu+", "mu-", "kaon+", "kaon-", "proton", "anti_proton", "sigma+", "sigma-", "xi-"),
    *("deuteron", "triton", "He3", "alpha"),
)
"""Charged particles seen by Birks' law. What neither these nor electrons deposit, recoils of heavier nuclei above all,
about 3 % of the energy, is not seen: the law would leave next to nothing of it."""


@dataclass(frozen=True)
class Birks:
    """Birks' law in one material.

    Attributes:
        constant: k in g / (MeV cm^2).
        minimum: energy loss of minimum ionising particles in MeV cm^2 / g.
    """

    constant: float
    minimum: float

    def visible(self, energy: float, length: float, density: float) -> float:
        """What is seen, in MeV, of the energy lost along a step.

        Args:
            energy: MeV.
            length: of the step in mm, positive.
            density: g/cm^3.
        """
        loss = energy / (length / 10 * density)
        return energy * (1 + self.constant * self.minimum) / (1 + self.constant * loss)


BIRKS = {"G4_lAr": Birks(0.0486 / 10, 1.51), "G4_POLYSTYRENE": Birks(0.02002, 1.94)}
"""Constants of ATLAS's simulation: in liquid argon those that ICARUS measured (Nucl. Instrum. Meth. A 523 (2004) 275,
0.0486 kV/cm g / (MeV cm^2) over the field, of 10 kV/cm), in tiles 0.02002 g / (MeV cm^2)."""


def birks(constants: Mapping[str, Mapping[str, Any]]) -> dict[str, Birks]:
    """Materials and their law from the plain dictionaries that ``dataclasses.asdict`` makes of them."""
    return {material: Birks(**law) for material, law in constants.items()}
