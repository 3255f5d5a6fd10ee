r"""Exact leading-order helicity amplitudes of q qbar' -> W(-> f fbar') Z(-> l lbar) with the operators O_W and O_W~.

The doubly resonant amplitude has a t-, a u- and an s-channel diagram. All fermions are massless, so each of the three
fermion lines is a current J of two-component spinors, and the three-boson vertex is a contraction of the field
strengths F = k J - J k. The operators of the Warsaw basis (arXiv:1008.4884, table 2)

    Q_W  = eps^{IJK} W^I_mu^nu W^J_nu^rho W^K_rho^mu ,    Q_W~ = eps^{IJK} W~^I_mu^nu W^J_nu^rho W^K_rho^mu

add to that vertex, in the notation of K. Hagiwara et al., Nucl. Phys. B282 (1987) 253,

    i g_WWZ lambda_Z / m_W^2 W^dagger_{lambda mu} W^mu_nu Z^{nu lambda} ,    lambda_Z = 6 m_W^2 C_W / (g Lambda^2) ,

and the same with the dual Z~ for C_W~. So each event's probability is a polynomial in C = C_W / Lambda^2,

    |M|^2 / |M_SM|^2 = 1 + C r1 + C^2 r2 ,

which is what :func:`weights` returns. It depends on the hard process only, not on what shower and hadronisation make of
it. Signs are those of arXiv:1008.4884: D_mu = d_mu + i g S^I W^I_mu + ..., and eps_{0123} = +1 in the dual.

Approximations: leading order, one operator at a time, no hard radiation in the matrix element, massless fermions.
Four-momenta are (E, px, py, pz) in GeV; N events at a time.
"""

import itertools
from dataclasses import dataclass

import numpy as np

__all__ = ["Amplitudes", "HardProcess", "Weights", "amplitudes", "weights"]

SIN2_THETA_W = 0.2312  # effective leptonic mixing angle; Pythia's value
WEAK_COUPLING = 0.6530  # g = 2 m_W sqrt(sqrt(2) G_F)
TEV_TO_GEV = 1e3

METRIC = np.array([1.0, -1.0, -1.0, -1.0])
_SIGMA = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
_SIGMA_BAR = _SIGMA * METRIC[:, None, None]
# eps^{0123} = -eps_{0123} = -1.
_EPSILON = np.zeros((4, 4, 4, 4))
for _order in itertools.permutations(range(4)):
    _EPSILON[_order] = -np.linalg.det(np.eye(4)[list(_order)])


@dataclass(frozen=True)
class HardProcess:
    """N hard processes q qbar' -> (f fbar') (l lbar), momenta (N, 4).

    Attributes:
        quark, antiquark: incoming, along the beams.
        fermion, antifermion: from the W.
        lepton, antilepton: from the Z.
        up: bool (N,), the incoming quark is of up type.
    """

    quark: np.ndarray
    antiquark: np.ndarray
    fermion: np.ndarray
    antifermion: np.ndarray
    lepton: np.ndarray
    antilepton: np.ndarray
    up: np.ndarray

    def massless(self) -> "HardProcess":
        """The same process with massless fermions: the pairs keep their sum and, at rest, their direction."""
        pairs = [
            massless_pair(a, b) for a, b in ((self.fermion, self.antifermion), (self.lepton, self.antilepton))
        ]  # fmt: skip
        return HardProcess(self.quark, self.antiquark, *pairs[0], *pairs[1], self.up)


@dataclass(frozen=True)
class Amplitudes:
    """Complex amplitudes (2, N) for the two helicities of the lepton, left to right, up to a factor common to all.

    Attributes:
        sm: the Standard Model's.
        cw: that of O_W per unit of C_W / Lambda^2 = 1 / TeV^2.
        cwt: that of O_W~, likewise.
    """

    sm: np.ndarray
    cw: np.ndarray
    cwt: np.ndarray


@dataclass(frozen=True)
class Weights:
    """Coefficients float64 (N,) of w = 1 + C r1 + C^2 r2, C in 1 / TeV^2: for O_W, and (``t``) for O_W~."""

    r1: np.ndarray
    r2: np.ndarray
    r1t: np.ndarray
    r2t: np.ndarray


def weights(process: HardProcess) -> Weights:
    """How much more often each event would happen with C_W or C_W~: interference r1 and square r2."""
    m = amplitudes(process.massless())
    rate = _summed(m.sm, m.sm)
    return Weights(
        r1=2 * _summed(m.sm, m.cw) / rate,
        r2=_summed(m.cw, m.cw) / rate,
        r1t=2 * _summed(m.sm, m.cwt) / rate,
        r2t=_summed(m.cwt, m.cwt) / rate,
    )


def amplitudes(process: HardProcess) -> Amplitudes:
    """Amplitudes of ``process``, whose fermions must be massless (:meth:`HardProcess.massless`).

    Only left-handed quarks couple to the W, so the helicity of the leptons is the only one to sum over.
    """
    left, right = -0.5 + SIN2_THETA_W, SIN2_THETA_W  # couplings of the charged leptons to the Z
    of_helicity = [
        channels(process, coupling * current(process.lepton, process.antilepton, helicity))
        for helicity, coupling in ((-1, left), (1, right))
    ]
    t, u, s, cw, cwt = (np.stack(channel) for channel in zip(*of_helicity, strict=True))
    return Amplitudes(t + u + s, cw, cwt)


def channels(process: HardProcess, z_current: np.ndarray) -> tuple[np.ndarray, ...]:
    """The amplitudes (N,) of the t, u and s channel, and of O_W and O_W~, with the current of the Z given.

    Gauge invariance makes t + u + s vanish for ``z_current`` = momentum of the Z (the Ward identity); for this to be
    exact off the peak too, the W in the s channel has the mass of the W that is produced.
    """
    w, z = process.fermion + process.antifermion, process.lepton + process.antilepton
    total = w + z
    up, down = 0.5 - 2 / 3 * SIN2_THETA_W, -0.5 + 1 / 3 * SIN2_THETA_W  # left-handed quarks and the Z, in g / cos
    first, second = np.where(process.up, up, down), np.where(process.up, down, up)
    w_current = current(process.fermion, process.antifermion, -1)
    in_current = current(process.antiquark, process.quark, -1)

    quark, antiquark = spinor(process.quark, -1), spinor(process.antiquark, -1).conj()
    t, u = process.quark - z, process.quark - w

    def line(a: np.ndarray, inner: np.ndarray, b: np.ndarray) -> np.ndarray:
        """antiquark-bar a-slash inner-slash b-slash quark / inner^2."""
        right = _slash(inner, _SIGMA) @ (_slash(b, _SIGMA_BAR) @ quark[..., None])
        return (antiquark[:, None] @ _slash(a, _SIGMA_BAR) @ right)[:, 0, 0] / dot(inner, inner)

    t_channel = first * line(w_current, t, z_current)
    u_channel = second * line(z_current, u, w_current)

    # g_WWZ is the difference of the quarks' couplings; the sign of the propagator is fixed by the Ward identity.
    propagator = (second - first) / (dot(total, total) - dot(w, w))
    s_channel = (propagator * x for x in vertex(total, in_current, w, w_current, z, z_current))
    return t_channel, u_channel, *s_channel


def vertex(
    total: np.ndarray,
    in_current: np.ndarray,
    w: np.ndarray,
    w_current: np.ndarray,
    z: np.ndarray,
    z_current: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three bosons, per unit of g_WWZ: Yang-Mills, O_W and O_W~ (1 / TeV^2), complex (N,).

    ``total`` comes in, ``w`` and ``z`` go out; momenta and currents (N, 4). Hagiwara et al., equation 2.1, with
    derivatives of incoming fields: F = -i (k J - J k).
    """
    strength_in, strength_w, strength_z = _tensor(total, in_current), _tensor(-w, w_current), _tensor(-z, z_current)
    yang_mills = (
        _contract(strength_in, w_current, z_current)
        - _contract(strength_w, in_current, z_current)
        + _contract(strength_z, in_current, w_current)
    )
    # lambda_Z / m_W^2 = 6 C_W / (g Lambda^2); three derivatives where Yang-Mills has one: (-i)^2 = -1.
    scale = -6.0 / (WEAK_COUPLING * TEV_TO_GEV**2)
    trace = _trace(strength_in, strength_w, strength_z)
    dual_trace = _trace(strength_in, strength_w, _dual(strength_z))
    return yang_mills, scale * trace, scale * dual_trace


def massless_pair(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Massless momenta with the same sum and the same direction in the rest frame of the pair."""
    total = first + second
    difference = first - second
    difference = difference - total * (dot(total, difference) / dot(total, total))[..., None]
    difference = difference * np.sqrt(-dot(total, total) / dot(difference, difference))[..., None]
    return (total + difference) / 2, (total - difference) / 2


def spinor(p: np.ndarray, helicity: int) -> np.ndarray:
    """Two-component spinor (N, 2) of helicity -1 or +1 of a massless momentum (N, 4), with norm^2 = 2 E."""
    energy, x, y, z = np.moveaxis(p, -1, 0)
    # E + pz without cancellation for momenta along -z.
    plus = np.where(z > 0, energy + z, (x**2 + y**2) / np.where(z > 0, 1.0, energy - z))
    root = np.sqrt(plus)
    along = root > 0  # otherwise exactly along -z, where any phase will do
    other = np.where(along, (x + 1j * y) / np.where(along, root, 1.0), np.sqrt(2 * energy))
    return np.stack([root, other] if helicity > 0 else [-other.conj(), root], axis=-1)


def current(outgoing: np.ndarray, other: np.ndarray, helicity: int) -> np.ndarray:
    """J^mu = ubar(outgoing) gamma^mu v(other), complex (N, 4): conserved, J . (outgoing + other) = 0."""
    sigma = _SIGMA_BAR if helicity < 0 else _SIGMA
    pairs = spinor(outgoing, helicity).conj()[:, :, None] * spinor(other, helicity)[:, None, :]
    return pairs.reshape(-1, 4) @ sigma.reshape(4, 4).T


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Minkowski product (+, -, -, -) of (..., 4) vectors."""
    return (a * b * METRIC).sum(-1)


def _summed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a.conj() * b).real.sum(0)


def _slash(a: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    return ((a * METRIC) @ sigma.reshape(4, 4)).reshape(-1, 2, 2)


def _tensor(k: np.ndarray, a: np.ndarray) -> np.ndarray:
    """F^{mu nu} = k^mu a^nu - a^mu k^nu."""
    product = k[:, :, None] * a[:, None, :]
    return product - product.transpose(0, 2, 1)


def _contract(f: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """F^{mu nu} a_mu b_nu."""
    return ((a * METRIC)[:, None] @ f @ (b * METRIC)[..., None])[:, 0, 0]


def _trace(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """A_{lambda mu} B^mu_nu C^{nu lambda}."""
    return (((a * METRIC) @ (b * METRIC)) * (c * METRIC).transpose(0, 2, 1)).sum((1, 2))


def _dual(f: np.ndarray) -> np.ndarray:
    """F~^{mu nu} = eps^{mu nu rho sigma} F_{rho sigma} / 2."""
    return 0.5 * ((f * METRIC[:, None] * METRIC).reshape(-1, 16) @ _EPSILON.reshape(16, 16)).reshape(-1, 4, 4)
