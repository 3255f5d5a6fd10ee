"""Jets of hadronically decaying W bosons from W Z pairs: load, check, split, and turn into network inputs.

>>> from bithep_lib.data import wz
>>> jets = wz.load("sample", n=1000)
>>> jets.pt.shape
(1000, 40)
>>> train, valid, test = wz.split(jets, (600, 200, 200), seed=1)
>>> pt, xy, mask = wz.features(train)
>>> xy.shape
(600, 40, 2)
"""

from bithep_lib.data.wz.checks import DataError
from bithep_lib.data.wz.closure import EXPECTED, closure
from bithep_lib.data.wz.files import SAMPLE, encode, event_counts, load, read, stored_meta
from bithep_lib.data.wz.jets import WZJets, split
from bithep_lib.data.wz.layout import LABELS, PARTICLES, TRUTH, WEIGHTS, WIDTH
from bithep_lib.data.wz.observables import axis, features, moment_axis

__all__ = [
    "EXPECTED",
    "LABELS",
    "PARTICLES",
    "SAMPLE",
    "TRUTH",
    "WEIGHTS",
    "WIDTH",
    "DataError",
    "WZJets",
    "axis",
    "closure",
    "encode",
    "event_counts",
    "features",
    "load",
    "moment_axis",
    "read",
    "split",
    "stored_meta",
]
