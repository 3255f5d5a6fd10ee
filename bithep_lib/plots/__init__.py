"""Figures of the book, one function each; every one returns a matplotlib Figure (see :mod:`bithep_lib.plots.style`).

>>> from bithep_lib import plots
>>> plots.tagging.roc_curves(labels, {"float": a, "bits": b})   # doctest: +SKIP
"""

from bithep_lib.plots import (
    bits,
    decay,
    flow,
    generators,
    jets,
    judge,
    layer,
    matching,
    overview,
    pdat,
    regression,
    shower_physics,
    shower_view,
    showers,
    tagging,
    wz,
)
from bithep_lib.plots.style import GLUON, OKABE_ITO, QUARK, line_styles, new_figure, ratio_figure, step_histogram, style

__all__ = [
    "GLUON",
    "OKABE_ITO",
    "QUARK",
    "bits",
    "decay",
    "flow",
    "generators",
    "jets",
    "judge",
    "layer",
    "line_styles",
    "matching",
    "new_figure",
    "overview",
    "pdat",
    "ratio_figure",
    "regression",
    "shower_physics",
    "shower_view",
    "showers",
    "step_histogram",
    "style",
    "tagging",
    "wz",
]
