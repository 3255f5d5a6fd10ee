"""Do the simulated jets agree with the public ones? Numbers others measured on EnergyFlow's files, and ours."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from bithep_lib.data.quark_gluon.jets import Jets
from bithep_lib.data.quark_gluon.layout import GLUON, QUARK
from bithep_lib.data.quark_gluon.observables import observables

__all__ = ["PUBLISHED", "PublishedValue", "closure"]

_NOTE = "100 000 public jets, measured in the repository timinar/vibe-jet-tagging"
_EFN = "energy flow networks, arXiv:1810.05165, single-observable curves"


@dataclass(frozen=True)
class PublishedValue:
    """A number measured on the public files, and where it is from."""

    value: float
    source: str


PUBLISHED: dict[str, PublishedValue] = {
    "quark multiplicity, mean": PublishedValue(33.4, _NOTE),
    "quark multiplicity, rms": PublishedValue(13.3, _NOTE),
    "gluon multiplicity, mean": PublishedValue(53.2, _NOTE),
    "gluon multiplicity, rms": PublishedValue(15.8, _NOTE),
    "gluon / quark multiplicity": PublishedValue(1.59, _NOTE),
    "AUC of the multiplicity": PublishedValue(0.843, _NOTE),
    "AUC of the jet mass": PublishedValue(0.740, _EFN),
}
"""Quantities of :func:`closure`. The published values come without errors."""

BOOTSTRAP = 50


def closure(jets: Jets, seed: int = 0) -> pd.DataFrame:
    """Measure the quantities of :data:`PUBLISHED` on ``jets``.

    Returns:
        one row a quantity; columns ``value``, ``error`` (standard deviation of 50 bootstrap samples of the jets drawn
        with ``seed``), ``published``, ``difference`` in units of the error, and ``source`` of the published value.
    """
    table = observables(jets)[["multiplicity", "mass"]].to_numpy(np.float64)
    generator = np.random.default_rng(seed)
    draws = (generator.integers(0, len(jets), len(jets)) for _ in range(BOOTSTRAP))
    samples = pd.DataFrame([_measure(table[draw], jets.label[draw]) for draw in draws])
    rows = pd.DataFrame({"value": _measure(table, jets.label), "error": samples.std(ddof=1)})
    rows["published"] = [PUBLISHED[name].value for name in rows.index]
    rows["difference"] = (rows["value"] - rows["published"]) / rows["error"]
    rows["source"] = [PUBLISHED[name].source for name in rows.index]
    return rows


def _measure(table: np.ndarray, label: np.ndarray) -> dict[str, float]:
    count, mass = table.T
    quark, gluon = count[label == QUARK], count[label == GLUON]
    # Quark jets are the signal and have the smaller multiplicity and mass: hence the signs.
    return {
        "quark multiplicity, mean": quark.mean(),
        "quark multiplicity, rms": quark.std(),
        "gluon multiplicity, mean": gluon.mean(),
        "gluon multiplicity, rms": gluon.std(),
        "gluon / quark multiplicity": gluon.mean() / quark.mean(),
        "AUC of the multiplicity": roc_auc_score(label, -count),
        "AUC of the jet mass": roc_auc_score(label, -mass),
    }
