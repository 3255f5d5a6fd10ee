"""The file layout of quark and gluon jets: EnergyFlow's, plus truth columns that our simulation can give.

EnergyFlow's ``QG_jets*.npz`` (doi:10.5281/zenodo.3164691) hold ``X`` (N, M, 4) with one row ``(pt, y, phi, pid)`` per
particle, zero padded, and ``y`` (N,) with 1 for a quark and 0 for a gluon jet.
"""

__all__ = ["COLUMNS", "GLUON", "QUARK", "TRUTH", "WIDTH"]

COLUMNS = ("pt", "y", "phi", "pid")
"""Columns of ``X``: transverse momentum in GeV, rapidity, azimuth in radians, PDG particle id."""

GLUON, QUARK = 0, 1

WIDTH = 139
"""M of EnergyFlow's first file: the largest multiplicity among its 100 000 jets."""

TRUTH = {
    "jet_pt": "transverse momentum of the jet, GeV",
    "jet_y": "rapidity of the jet",
    "jet_phi": "azimuth of the jet in [0, 2 pi)",
    "jet_m": "mass of the jet, GeV",
    "parton_id": "PDG id of the hard process's outgoing parton",
    "parton_dr": "distance of jet and parton, sqrt(dy^2 + dphi^2)",
    "pthat": "transverse momentum of the hard process, GeV",
}
"""Extra arrays (N,) in simulated files; the public files do not have them."""
