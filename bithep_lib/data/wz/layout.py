"""What a file of W Z jets holds: one HDF5 file per shard, datasets of equal length N.

Particles are sorted by transverse momentum, the leading 40, padded with zeros. Angles and momenta of particles are
stored with the steps of :data:`STEPS`, far below what any detector resolves, which halves the size of the files.
"""

__all__ = ["LABELS", "LAYOUT", "PARTICLES", "STEPS", "TRUTH", "WEIGHTS", "WIDTH"]

LAYOUT = 1
"""Version of this layout."""

WIDTH = 40
"""Particles a jet; the leading 40 carry 99.4 % of the transverse momentum."""

PARTICLES = {
    "pt": "transverse momentum in the laboratory, GeV",
    "theta": "angle to the jet in the rest frame of jet and Z, rad",
    "phi": "azimuth around the jet in the rest frame of jet and Z, beam at 0, rad in (-pi, pi]",
    "deta": "pseudorapidity minus the jet's, in the laboratory",
    "dphi": "azimuth minus the jet's, in the laboratory, rad",
    "pid": "PDG id",
}
"""Arrays (N, 40): float32, ``pid`` int16."""

STEPS = {"theta": 2.0**-12, "phi": 2.0**-12, "deta": 2.0**-12, "dphi": 2.0**-12}
"""Rounding of stored angles; ``pt`` keeps eleven binary digits after the first (relative error 2.4e-4)."""

LABELS = {
    "jet_pt": "transverse momentum of the jet, GeV",
    "jet_mass_softdrop": "soft-drop mass of the jet, GeV",
    "phi_decay": "true azimuth of the up-type quark around the W, rest frame of W and Z, beam at 0, rad in (-pi, pi]",
    "cos_theta": "true cosine of the up-type quark's polar angle in the rest frame of the W, axis opposite to the Z",
}
"""Arrays (N,), float32."""

WEIGHTS = {
    "r1": "interference of C_W with the Standard Model, TeV^2",
    "r2": "square of C_W, TeV^4",
    "r1t": "interference of the CP-odd C_W~, TeV^2",
    "r2t": "square of C_W~, TeV^4",
}
"""Arrays (N,), float64: the event's weight is 1 + C r1 + C^2 r2 for C = C_W / Lambda^2 in TeV^-2."""

TRUTH = {
    "jet_eta": "pseudorapidity of the jet",
    "n_particles": "particles in the jet, before only 40 are kept",
    "w_pt": "transverse momentum of the W, GeV",
    "w_charge": "charge of the W, +1 or -1",
    "z_pt": "transverse momentum of the Z, GeV",
    "m_wz": "invariant mass of W and Z, GeV",
    "cos_scattering": "cosine of the angle between the W and the beam at phi = 0, in the rest frame of W and Z",
    "phi_decay_jet": "azimuth of the up-type quark around the jet, in the rest frame of jet and Z, rad",
    "lepton_pt_min": "transverse momentum of the softer lepton, GeV",
    "lepton_eta_max": "largest absolute pseudorapidity of the two leptons",
}
"""Further arrays (N,), float32 (integers int16): what the simulation knows. Files of others need not have them."""
