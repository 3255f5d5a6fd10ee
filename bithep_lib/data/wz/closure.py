"""Do the jets have the properties that theory and others' measurements say they must have?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bithep_lib.data.wz.jets import WZJets
from bithep_lib.data.wz.observables import moment_axis

__all__ = ["EXPECTED", "Expectation", "closure"]

BOOTSTRAP = 50


@dataclass(frozen=True)
class Expectation:
    """A value that must come out, None where there is none to compare with, and why."""

    value: float | None
    source: str


EXPECTED: dict[str, Expectation] = {
    "soft-drop mass, median [GeV]": Expectation(80.37, "mass of the W, PDG 2024; grooming is not exact"),
    "SM: <cos 2 phi>": Expectation(0.0, "helicity selection: what is left is of order m_W^2 / E^2"),
    "SM: <sin 2 phi>": Expectation(0.0, "odd under naive time reversal: zero at leading order"),
    "C_W: <r1 cos 2 phi> [TeV^2]": Expectation(None, "the signal of C_W"),
    "C_W: <r1 sin 2 phi> [TeV^2]": Expectation(0.0, "C_W is even under CP"),
    "C_W~: <r1t sin 2 phi> [TeV^2]": Expectation(None, "the signal of C_W~: that of C_W up to m_W^2 / E^2"),
    "C_W~: <r1t cos 2 phi> [TeV^2]": Expectation(0.0, "C_W~ is odd under CP"),
    "moment axis: <sin^2 delta>": Expectation(None, "a network must be better than this"),
    "frame of the jet: <sin^2 delta>": Expectation(None, "no method can be better: jet and W do not coincide"),
}
"""Rows of :func:`closure`."""


def closure(jets: WZJets, seed: int = 0) -> pd.DataFrame:
    """Measure the quantities of :data:`EXPECTED` on ``jets``, which need the truth column ``phi_decay_jet``.

    Returns:
        one row a quantity; columns ``value``, ``error`` (standard deviation of 50 bootstrap samples of the jets drawn
        with ``seed``), ``expected`` (NaN where there is no such value) and ``source``.
    """
    phi = jets.phi_decay.astype(np.float64)
    columns = pd.DataFrame(
        {
            "SM: <cos 2 phi>": np.cos(2 * phi),
            "SM: <sin 2 phi>": np.sin(2 * phi),
            "C_W: <r1 cos 2 phi> [TeV^2]": jets.r1 * np.cos(2 * phi),
            "C_W: <r1 sin 2 phi> [TeV^2]": jets.r1 * np.sin(2 * phi),
            "C_W~: <r1t sin 2 phi> [TeV^2]": jets.r1t * np.sin(2 * phi),
            "C_W~: <r1t cos 2 phi> [TeV^2]": jets.r1t * np.cos(2 * phi),
            "moment axis: <sin^2 delta>": np.sin(moment_axis(jets) - phi) ** 2,
            "frame of the jet: <sin^2 delta>": np.sin(jets.truth["phi_decay_jet"] - phi) ** 2,
        }
    )
    mass = jets.jet_mass_softdrop

    def measure(rows: np.ndarray) -> pd.Series:
        return pd.concat(
            [pd.Series({"soft-drop mass, median [GeV]": np.median(mass[rows])}), columns.iloc[rows].mean()]
        )

    generator = np.random.default_rng(seed)
    draws = [generator.integers(0, len(jets), len(jets)) for _ in range(BOOTSTRAP)]
    table = pd.DataFrame({"value": measure(np.arange(len(jets)))})
    table["error"] = pd.DataFrame([measure(draw) for draw in draws]).std(ddof=1)
    table["expected"] = pd.Series({name: e.value for name, e in EXPECTED.items()}, dtype=float)
    table["source"] = pd.Series({name: e.source for name, e in EXPECTED.items()})
    return table.loc[list(EXPECTED)]
