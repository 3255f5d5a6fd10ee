r"""What a decay angle is worth: interference asymmetry and expected limit on a Wilson coefficient.

With :math:`C = C_W/\Lambda^2` every event has the weight :math:`w(C) = 1 + C r_1 + C^2 r_2` relative to the Standard
Model, so the expected number of events in a bin b of decoded angle and transverse momentum is a parabola,

.. math:: n_b(C) = L \sigma \, (s_b + C a_b + C^2 b_b), \qquad
          s_b, a_b, b_b = \frac1N \sum_{i \in b} (1, r_{1,i}, r_{2,i}) .

The interference of C_W is :math:`r_1 \propto \cos 2\varphi` and vanishes in the total rate (helicity selection), so the
linear term is only seen by those who know the angle. An error :math:`\delta` of the angle that does not depend on it
multiplies the modulation by the dilution :math:`D = \langle\cos 2\delta\rangle = 1 - 2\langle\sin^2\delta\rangle`, and
a linear limit from the shape by :math:`1/D`.

The limit is the interval in C where the profile likelihood ratio of the Asimov data set of the Standard Model (Cowan,
Cranmer, Gross, Vitells, Eur. Phys. J. C 71 (2011) 1554) stays below the quantile of a chi-square with one degree of
freedom. Minuit (James and Roos, Comput. Phys. Commun. 10 (1975) 343) profiles the rates. The bounds are searched for
outside of it, because MINOS starts from the curvature, and of a likelihood that is flat at C = 0 there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from iminuit import Minuit
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import xlogy
from scipy.stats import chi2

PT_EDGES = (500.0, 600.0, 750.0, math.inf)
"""Bins of the transverse momentum in GeV: interference grows like its square, the quadratic term like its fourth
power."""
N_ANGLES = 8
_FLOOR = 1e-9
"""Smallest expected number of events: a linear prediction turns negative at large C."""


class Asymmetry(NamedTuple):
    """A number with its statistical error, both per unit of C, in TeV^2."""

    value: float
    error: float


def interference_asymmetry(angle: ArrayLike, r1: ArrayLike) -> Asymmetry:
    r"""Events with cos 2phi > 0 minus those with cos 2phi < 0, over all, at linear order per unit of C.

    For a modulation :math:`1 + C A \cos 2\varphi` it is :math:`(2/\pi) A D`. For the CP-odd coefficient, whose
    interference follows sin 2phi, give ``angle - pi / 4``.

    Args:
        angle: (N,) decoded decay angle in rad, known up to pi.
        r1: (N,) linear coefficient of each event's weight, in TeV^2.
    """
    phi, r = _same_length(angle=angle, r1=r1)
    signed = np.sign(np.cos(2 * phi)) * r
    return Asymmetry(float(signed.mean()), float(signed.std(ddof=1) / math.sqrt(len(signed))))


@dataclass(frozen=True)
class Templates:
    """Shares of the Standard Model's events in bins of transverse momentum and angle, and how they change with C.

    Attributes:
        sm: (P, A) shares s, with sum 1 where no event lies outside of the bins.
        linear: (P, A) a, in TeV^2.
        quadratic: (P, A) b, in TeV^4.
    """

    sm: NDArray[np.float64]
    linear: NDArray[np.float64]
    quadratic: NDArray[np.float64]


def templates(
    angle: ArrayLike,
    jet_pt: ArrayLike,
    r1: ArrayLike,
    r2: ArrayLike,
    *,
    pt_edges: Sequence[float] = PT_EDGES,
    n_angles: int = N_ANGLES,
    weights: ArrayLike | None = None,
) -> Templates:
    """Histogram a simulated sample of the Standard Model.

    Args:
        angle: (N,) decoded decay angle in rad; only its value modulo pi counts.
        jet_pt: (N,) in GeV.
        r1: (N,) in TeV^2.
        r2: (N,) in TeV^4.
        pt_edges: P + 1 rising edges in GeV.
        n_angles: bins of equal width between -pi/2 and pi/2.
        weights: (N,) weights of the events, for resampling; 1 by default.

    Raises:
        ValueError: arrays of different lengths or with values that are not finite, or no event inside the bins.
    """
    phi, pt, linear, quadratic = _same_length(angle=angle, jet_pt=jet_pt, r1=r1, r2=r2)
    w = np.ones(len(phi)) if weights is None else np.asarray(weights, dtype=float)
    row = np.searchsorted(np.asarray(pt_edges), pt, side="right") - 1
    column = (np.mod(phi + np.pi / 2, np.pi) / np.pi * n_angles).astype(int) % n_angles
    n_rows = len(pt_edges) - 1
    w = np.where((row >= 0) & (row < n_rows), w, 0.0)
    if not w.any():
        raise ValueError(f"no event has a jet_pt between {pt_edges[0]:g} and {pt_edges[-1]:g} GeV")
    index = np.clip(row, 0, n_rows - 1) * n_angles + column

    def fill(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(index, w * values, n_rows * n_angles).reshape(n_rows, n_angles) / w.sum()

    return Templates(fill(np.ones(len(phi))), fill(linear), fill(quadratic))


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What is counted, and what is known about it.

    Attributes:
        luminosity: integrated, in 1/fb.
        cross_section: of the selected Standard Model sample, in fb.
        quadratic: keep the term C^2, the square of the new amplitude; without it the prediction is linear in C.
        rate_error: relative uncertainty of the predicted rate, common to all bins. None: the rate is left free, so that
            only the shape in angle and transverse momentum counts.
        background: background events for each signal event, flat in the angle, with the signal's spectrum.
        background_error: relative uncertainty of their number.
        level: confidence level.
    """

    luminosity: float
    cross_section: float
    quadratic: bool = True
    rate_error: float | None = None
    background: float = 0.0
    background_error: float = 0.1
    level: float = 0.95

    @property
    def events(self) -> float:
        """Expected events of the Standard Model."""
        return self.luminosity * self.cross_section


class Limit(NamedTuple):
    """An expected interval for C in TeV^-2. `error`: of half its width, from the finite simulated sample."""

    low: float
    high: float
    error: float = 0.0

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"[{self.low:+.4f}, {self.high:+.4f}] ± {self.error:.4f}"


def expected_limit(shares: Templates, analysis: Analysis) -> Limit:
    """The interval of C that data like the Standard Model's would leave.

    Raises:
        ValueError: the likelihood does not bound C: too few events, or templates that do not depend on it.
    """
    n_rows, n_angles = shares.sm.shape
    sm, linear, quadratic = (analysis.events * part for part in (shares.sm, shares.linear, shares.quadratic))
    if not analysis.quadratic:
        quadratic = np.zeros_like(quadratic)
    background = analysis.background * np.repeat(sm.sum(axis=1, keepdims=True), n_angles, axis=1) / n_angles
    observed = sm + background  # the Asimov data

    def nll(parameters: NDArray[np.float64]) -> float:
        c, rate, pull = parameters
        signal = rate * (sm + c * linear + c**2 * quadratic)
        expected = np.maximum(signal + background * (1 + analysis.background_error * pull), _FLOOR)
        penalty = 0.5 * pull**2
        if analysis.rate_error is not None:
            penalty += 0.5 * ((rate - 1) / analysis.rate_error) ** 2
        # Minus the value at the minimum, so that Minuit sees small numbers.
        return float((expected - observed - xlogy(observed, expected / np.maximum(observed, _FLOOR))).sum() + penalty)

    minuit = Minuit(nll, np.array([0.0, 1.0, 0.0]), name=("C", "rate", "background"))
    minuit.errordef = Minuit.LIKELIHOOD
    minuit.fixed["C"], minuit.fixed["background"] = True, not analysis.background

    def above(c: float) -> float:
        """The profile likelihood ratio at C, minus its quantile."""
        minuit.reset()
        minuit.values["C"] = c
        return 2 * minuit.migrad().fval - quantile

    quantile = chi2.ppf(analysis.level, 1)
    information = np.divide(linear**2, observed, out=np.zeros_like(sm), where=observed > 0).sum()
    scale = 1 / max(math.sqrt(information), math.sqrt(np.abs(quadratic).sum()), _FLOOR)
    bounds = []
    for side in (-scale, scale):
        outside = next((c for c in side * 2.0 ** np.arange(-2, 12) if above(c) > 0), None)
        if outside is None:
            raise ValueError(
                f"{analysis.events:.3g} events in {sm.size} bins do not bound C: more luminosity, more simulated "
                "events, or an angle that knows something about it"
            )
        bounds.append(brentq(above, outside / 2 if outside != side / 4 else 0.0, outside, xtol=1e-4 * scale, rtol=1e-5))
    return Limit(*bounds)


def bootstrap_limit(
    angle: ArrayLike,
    jet_pt: ArrayLike,
    r1: ArrayLike,
    r2: ArrayLike,
    analysis: Analysis,
    *,
    n_resamples: int = 20,
    seed: int = 0,
    pt_edges: Sequence[float] = PT_EDGES,
    n_angles: int = N_ANGLES,
) -> Limit:
    """`expected_limit` of a simulated sample, with the error and without the bias of its finite size.

    Noise in the templates looks like sensitivity, so a small sample promises too much; each resample has that noise
    twice, and the mean of the resamples shows by how much. Two angles given the same `seed` share the resamples.

    Args:
        angle, jet_pt, r1, r2, pt_edges, n_angles: as for `templates`.
        analysis: what is counted.
        n_resamples: of the bootstrap (Poisson weights); at least 2.
        seed: of the resamples.
    """
    if n_resamples < 2:
        raise ValueError(f"n_resamples={n_resamples} must be at least 2")
    arrays, bins = (angle, jet_pt, r1, r2), {"pt_edges": pt_edges, "n_angles": n_angles}
    plain = expected_limit(templates(*arrays, **bins), analysis)
    rng = np.random.default_rng(seed)
    found = np.array(
        [
            expected_limit(templates(*arrays, **bins, weights=rng.poisson(1.0, np.size(angle))), analysis)[:2]
            for _ in range(n_resamples)
        ]
    )
    low, high = 2 * np.array(plain[:2]) - found.mean(axis=0)
    return Limit(float(low), float(high), float(((found[:, 1] - found[:, 0]) / 2).std(ddof=1)))


def _same_length(**arrays: ArrayLike) -> list[NDArray[np.float64]]:
    checked = {name: np.asarray(values, dtype=float) for name, values in arrays.items()}
    shapes = {name: values.shape for name, values in checked.items()}
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
        raise ValueError(f"one value an event is needed, got the shapes {shapes}")
    for name, values in checked.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds {np.count_nonzero(~np.isfinite(values))} values that are not finite")
    return list(checked.values())
