r"""Stand-ins for the cross sections of neutrons below 20 MeV, in Geant4's own text layout.

There is no free source of them in a package. Neutrons on hydrogen, which knock visible protons out of a scintillator,
have an accurate formula, of effective ranges (J. L. Gammel, in Fast Neutron Physics II, 1963; E in MeV):

.. math:: \frac{\sigma}{\mathrm{barn}} = \frac{3\pi}{1.206 E + (-1.86 + 0.09415 E + 0.0001306 E^2)^2}
          + \frac{\pi}{1.206 E + (0.4223 + 0.13 E)^2}.

All others are smooth functions of the right order of magnitude, without resonances: an elastic cross section that falls
around 1 MeV, an inelastic one that rises above the first level, capture as 1/v. Above 20 MeV Geant4's own formulas take
over, scaled so that they join.
"""

from pathlib import Path

import numpy as np

from bithep_lib.simulate.geant4.tables import SQUARE_MM_PER_BARN, folder_made_once, write_vector

__all__ = ["cross_sections", "neutron_folder", "write_neutrons"]

VERSION = 1
LAST_Z = 92

# Elastic cross section of slow neutrons (barn), threshold of inelastic scattering (MeV), inelastic cross section at
# 20 MeV (barn) and capture at 0.025 eV (barn): rounded, from general tables of nuclear data.
_ELEMENTS = {
    1: (20.0, 15.0, 1e-6, 0.33),
    6: (4.7, 4.4, 0.45, 0.0035),
    13: (1.4, 0.84, 0.95, 0.23),
    18: (0.7, 1.46, 1.15, 0.66),
    26: (11.0, 0.85, 1.35, 2.6),
    82: (11.0, 0.9, 2.5, 0.17),
}


def neutron_folder() -> Path:
    """The folder of neutrons' cross sections in ``$BITHEP_CACHE/geant4``, written on first use.

    Raises:
        OSError: the folder cannot be written.
    """
    return folder_made_once(f"neutrons-{VERSION}", write_neutrons)


def write_neutrons(folder: Path) -> None:
    """Write the cross sections of all elements up to uranium: a cascade leaves nuclei of any behind."""
    place = folder / "neutron"
    place.mkdir()
    for z in range(1, LAST_Z + 1):
        energy, sections = cross_sections(z)
        for name, section in sections.items():
            write_vector(place / f"{name}{z}", energy, section * SQUARE_MM_PER_BARN)


def cross_sections(z: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Cross sections of neutrons on the element with atomic number ``z``.

    Returns:
        energies in MeV (241,), 1e-11 to 20, and for "el", "inel" and "cap" barn per atom (241,).
    """
    mass = max(1, round(2.05 * z + 0.0058 * z**2))  # of the stable isotopes
    slow, threshold, inelastic, capture = _ELEMENTS.get(z, (6.0, 1.0, 0.075 * mass ** (2 / 3), 0.5))
    energy = np.geomspace(1e-11, 20.0, 241)
    fast = 0.8 * inelastic
    rise = 1 - np.exp(-np.maximum(energy - threshold, 0) / (1.5 * threshold))
    return energy, {
        "el": _on_protons(energy) if z == 1 else fast + (slow - fast) / (1 + energy),
        "inel": inelastic * rise,
        "cap": np.minimum(capture * np.sqrt(2.53e-8 / energy), 1e3) / (1 + energy / 0.5),
    }


def _on_protons(energy: np.ndarray) -> np.ndarray:
    momentum = 1.206 * energy
    triplet = momentum + (-1.86 + 0.09415 * energy + 0.0001306 * energy**2) ** 2
    singlet = momentum + (0.4223 + 0.13 * energy) ** 2
    return 3 * np.pi / triplet + np.pi / singlet
