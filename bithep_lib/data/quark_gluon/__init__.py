"""Quark and gluon jets: load, check, split, and turn into observables or network inputs.

>>> from bithep_lib.data import quark_gluon
>>> jets = quark_gluon.load("sample", n=1000)
>>> jets.constituents.shape, int(jets.label.sum())
((1000, 139, 4), 500)
>>> train, valid, test = quark_gluon.split(jets, (600, 200, 200), seed=1)
>>> x, mask = quark_gluon.features(train, max_constituents=30)
>>> x.shape
(600, 30, 10)
"""

from bithep_lib.data.quark_gluon.checks import DataError
from bithep_lib.data.quark_gluon.closure import PUBLISHED, closure
from bithep_lib.data.quark_gluon.files import SAMPLE, event_counts, load, read
from bithep_lib.data.quark_gluon.jets import Jets, concatenate, split
from bithep_lib.data.quark_gluon.kinematics import jet_momentum, relative, wrap_phi
from bithep_lib.data.quark_gluon.layout import COLUMNS, GLUON, QUARK, TRUTH
from bithep_lib.data.quark_gluon.observables import FEATURES, OBSERVABLES, features, observables
from bithep_lib.data.quark_gluon.particles import CLASSES, PDG_IDS, charge, particle_class

__all__ = [
    "CLASSES",
    "COLUMNS",
    "FEATURES",
    "GLUON",
    "OBSERVABLES",
    "PDG_IDS",
    "PUBLISHED",
    "QUARK",
    "SAMPLE",
    "TRUTH",
    "DataError",
    "Jets",
    "charge",
    "closure",
    "concatenate",
    "event_counts",
    "features",
    "jet_momentum",
    "load",
    "observables",
    "particle_class",
    "read",
    "relative",
    "split",
    "wrap_phi",
]
