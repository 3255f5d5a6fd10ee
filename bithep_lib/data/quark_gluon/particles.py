"""Particle species: PDG ids to the five classes of arXiv:2504.03387 (section 3), charges and masses."""

import numpy as np

__all__ = ["CLASSES", "PDG_IDS", "charge", "mass", "particle_class"]

CLASSES = ("electron", "muon", "charged hadron", "neutral hadron", "photon")
"""The five classes, in the order of the codes 0 .. 4 of :func:`particle_class`."""

# PDG id of the particle: (class, charge, mass in GeV; PDG review 2018, the values of Pythia 8's particle table).
_SPECIES = {
    11: ("electron", -1, 0.000511),
    13: ("muon", -1, 0.10566),
    22: ("photon", 0, 0.0),
    130: ("neutral hadron", 0, 0.49761),
    211: ("charged hadron", 1, 0.13957),
    321: ("charged hadron", 1, 0.49368),
    2112: ("neutral hadron", 0, 0.93957),
    2212: ("charged hadron", 1, 0.93827),
}

PDG_IDS = tuple(sorted([-i for i in _SPECIES if i not in (22, 130)] + list(_SPECIES)))
"""The fourteen ids that occur in jets at particle level; photon and K0_L are their own antiparticles."""

_TOP = max(_SPECIES)
_CLASS, _CHARGE, _MASS = np.full(_TOP + 1, -1, np.int8), np.zeros(_TOP + 1, np.int8), np.zeros(_TOP + 1)
for _id, (_class, _q, _m) in _SPECIES.items():
    _CLASS[_id], _CHARGE[_id], _MASS[_id] = CLASSES.index(_class), _q, _m


def particle_class(pid: np.ndarray) -> np.ndarray:
    """Class codes int8 of PDG ids (any shape, integer-valued): 0 .. 4 as in :data:`CLASSES`, -1 for any other id."""
    return _CLASS[_index(pid)]


def charge(pid: np.ndarray) -> np.ndarray:
    """Electric charge int8 in units of e; 0 for padding."""
    return _CHARGE[_index(pid)] * np.sign(pid).astype(np.int8)


def mass(pid: np.ndarray) -> np.ndarray:
    """Mass float64 in GeV; 0 for padding."""
    return _MASS[_index(pid)]


def _index(pid: np.ndarray) -> np.ndarray:
    """Row of the tables; ids that are in none of them go to row 0, which is padding's."""
    size = np.abs(pid)
    return np.where(size > _TOP, 0, size).astype(np.intp)
