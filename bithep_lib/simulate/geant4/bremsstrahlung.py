r"""The energy spectrum of bremsstrahlung photons, from theory and the radiative stopping power of NIST.

Geant4 reads, below 1 GeV, the scaled cross section

.. math:: \chi(T, \kappa) = \frac{\beta^2}{Z^2}\,k\,\frac{d\sigma}{dk}, \qquad \kappa = k/T,

of Seltzer and Berger. Its shape is taken here from the screened, Coulomb-corrected cross section of Tsai (Rev. Mod.
Phys. 46 (1974) 815, equations 3.38 to 3.45), and its integral over :math:`\kappa`, which is all that the mean energy
loss depends on, from ESTAR.
"""

import numpy as np
from scipy.integrate import trapezoid

from bithep_lib.simulate.geant4.nist import element, radiative_stopping_power

__all__ = ["ENERGIES", "KAPPA", "scaled_cross_section", "tsai"]

ELECTRON_MASS = 0.51099895  # MeV
FINE_STRUCTURE = 1 / 137.035999
RADIUS_SQUARED = 79.40788  # classical electron radius squared in mb
AVOGADRO = 6.02214076e23  # per mol
MILLIBARN = 1e-27  # cm^2

KAPPA = np.array(
    [0, 1e-4, 1e-3, 5e-3, 0.01, 0.025, 0.05, 0.075]
    + [round(0.1 + 0.05 * i, 2) for i in range(17)]
    + [0.925, 0.95, 0.97, 0.99, 0.995, 0.999, 1.0]
)
"""Photon energy over kinetic energy of the electron: the columns of the table."""

ENERGIES = np.append(np.outer(10.0 ** np.arange(-3, 4), [1, 1.5, 2, 3, 4, 5, 6, 8]).ravel(), 1e4)
"""Kinetic energies in MeV: the rows of the table, 1 keV to 10 GeV."""


def tsai(z: int, energy: np.ndarray, kappa: np.ndarray) -> np.ndarray:
    """Tsai's scaled cross section in mb, with screening functions of Thomas and Fermi and the Coulomb correction.

    Args:
        energy: kinetic energy of the electron in MeV, broadcast against ``kappa``.
        kappa: photon energy over ``energy``, 0 .. 1.
    """
    total = energy + ELECTRON_MASS
    y = kappa * energy / total
    delta = 100 * ELECTRON_MASS * y / np.maximum(total - kappa * energy, 1e-9)
    gamma, epsilon = delta / z ** (1 / 3), delta / z ** (2 / 3)
    phi = 16.863 - 2 * np.log1p((0.55846 * gamma) ** 2) + 2.4 * np.exp(-0.9 * gamma) + 1.6 * np.exp(-1.5 * gamma)
    phi_difference = 2 / (3 + 19.5 * gamma + 18 * gamma**2)
    psi = 24.34 - 2 * np.log1p((3.621 * epsilon) ** 2) + 2.8 * np.exp(-8 * epsilon) + 1.2 * np.exp(-29.2 * epsilon)
    psi_difference = 2 / (3 + 120 * epsilon + 1200 * epsilon**2)
    a2 = (FINE_STRUCTURE * z) ** 2
    coulomb = a2 * (1 / (1 + a2) + 0.20206 - 0.0369 * a2 + 0.0083 * a2**2 - 0.002 * a2**3)
    elastic = phi / 4 - np.log(z) / 3 - coulomb
    inelastic = psi / 4 - 2 * np.log(z) / 3
    shape = (1 - y + 0.75 * y**2) * (elastic + inelastic / z) + (1 - y) / 8 * (phi_difference + psi_difference / z)
    beta_squared = energy * (energy + 2 * ELECTRON_MASS) / total**2
    return 16 / 3 * FINE_STRUCTURE * RADIUS_SQUARED * beta_squared * np.maximum(shape, 0)


def scaled_cross_section(z: int, energy: np.ndarray = ENERGIES, kappa: np.ndarray = KAPPA) -> np.ndarray:
    """Scaled cross section in mb with the radiative stopping power of NIST: float64 (len(energy), len(kappa)).

    Where theory falls short (low energies) a constant is added, as the true spectrum is flatter there; where it is too
    large the shape is scaled down.

    Args:
        z: atomic number.
        energy: kinetic energies in MeV (T,).
        kappa: photon energies over ``energy`` (K,).
    """
    fine = np.linspace(0, 1, 2001)
    energy = np.asarray(energy, np.float64)[:, None]
    beta_squared = energy * (energy + 2 * ELECTRON_MASS) / (energy + ELECTRON_MASS) ** 2
    per_atom = radiative_stopping_power(z, energy) * element(z).mass / AVOGADRO / MILLIBARN  # MeV mb
    wanted = per_atom * beta_squared / z**2 / energy
    found = trapezoid(tsai(z, energy, fine), fine, axis=1)[:, None]
    shape = tsai(z, energy, kappa)
    return np.where(wanted > found, shape + (wanted - found), shape * wanted / found)
