"""Scales, parameters, run records and claims: how the book keeps its numbers honest.

>>> from bithep_lib import study
>>> run = study.setup("quark_gluon", scale="smoke", seed=3)
>>> run.n_train, run.seeds
(300, (3,))
"""

from bithep_lib.study.parameters import ParameterError
from bithep_lib.study.run import Run, resolve, setup
from bithep_lib.study.settings import SCALE_NAMES, SCALES, Settings

__all__ = ["SCALES", "SCALE_NAMES", "ParameterError", "Run", "Settings", "resolve", "setup"]
