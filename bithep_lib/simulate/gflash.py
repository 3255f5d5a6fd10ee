r"""GFLASH: a parametrisation of electromagnetic showers in sampling calorimeters. It is not a simulation.

Formulas: G. Grindhammer and S. Peters, hep-ex/0001020. Depth t is in radiation lengths, radius r in Moliere radii, and
y = E / E_c. The mean longitudinal profile is a gamma distribution,

.. math:: \frac{1}{E}\frac{dE}{dt} = \frac{(\beta t)^{\alpha - 1} \beta e^{-\beta t}}{\Gamma(\alpha)},

whose ln T (of the maximum) and ln alpha fluctuate together from shower to shower; the radial profile is

.. math:: f(r) = \sum_i p_i \frac{2 r R_i^2}{(r^2 + R_i^2)^2},

a core and a tail that widen with depth. What is deposited in a voxel is a random number of spots. Four things go beyond
the paper, and their constants, with some of the paper's, are fitted to showers of Geant4 in the same detector
(:data:`TUNED`): the track of an electron before it showers, the conversion length of a photon, a third, broad
radial component and a core that fades behind the middle of the shower, and energies of spots that differ.

>>> from bithep_lib.simulate import gflash
>>> gflash.generate("ds2", 100, seed=1).voxels.shape
(100, 6480)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammainc

from bithep_lib.data.calochallenge import Showers, geometry
from bithep_lib.simulate.effective_medium import Calorimeter, Medium, calorimeter
from bithep_lib.simulate.showers import ENERGIES, draw_energies, read_out_threshold

__all__ = ["TUNED", "Tuning", "generate", "shower"]

CHUNK = 128  # showers at a time: what fits into the processor's cache


@dataclass(frozen=True)
class Tuning:
    """Constants that the paper leaves to the detector, or that it does not have; fitted to Geant4 (GeV, X0, R_M).

    Attributes:
        response: visible over deposited energy, and ``stochastic`` its resolution in sqrt(GeV).
        maximum: multiplies the paper's T, ``shape`` its alpha - 1, and ``spread`` the fluctuations of both, which are
            ``largest_spread`` at most (0.5 in Geant4's code).
        track: first particles: 1 for an electron, 2 for the pair of a photon. Their deposits, ``track_loss`` times E_c
            per X0, fade along ``track_length``.
        conversion: mean depth at which a photon becomes a pair; 0 for electrons.
        core, tail: multiply the paper's R_C and R_T, and ``core_share`` its p, which beyond the shower's mean depth
            also falls like exp(-``core_fade`` (t / <t> - 1)).
        halo: share of the broad component at the shower's mean depth, ``halo_growth`` the power of t / <t> with which
            it grows, and ``halo_radius`` its R.
        spots: multiplies the paper's number of spots; ``spot_shape`` is the gamma shape of one spot's energy, and
            the share of a ring among the spots is that among the energy to the power ``spot_evenness``.
    """

    response: float
    stochastic: float
    track: float
    conversion: float
    maximum: float
    shape: float
    spread: float
    largest_spread: float
    track_loss: float
    track_length: float
    core: float
    tail: float
    core_share: float
    core_fade: float
    halo: float
    halo_growth: float
    halo_radius: float
    spots: float
    spot_shape: float
    spot_evenness: float


# Fitted by bithep_lib.simulate.gflash_tuning to Geant4 showers of seed 1.
TUNED = {
    "ds1-photons": Tuning(
        response=1.0,
        stochastic=0.065,
        track=2,
        conversion=9 / 7,
        maximum=0.992,
        shape=0.966,
        spread=0.736,
        largest_spread=0.438,
        track_loss=1.18,
        track_length=2.98,
        core=1.38,
        tail=0.82,
        core_share=0.993,
        core_fade=0,
        halo=0.0943,
        halo_growth=0,
        halo_radius=0.896,
        spots=1.61,
        spot_shape=0.897,
        spot_evenness=0.951,
    ),
    "ds2": Tuning(
        response=0.962,
        stochastic=0.124,
        track=1,
        conversion=0,
        maximum=1.03,
        shape=0.945,
        spread=1.31,
        largest_spread=1.7,
        track_loss=0.535,
        track_length=2.73,
        core=1.94,
        tail=1.8,
        core_share=1.12,
        core_fade=0.319,
        halo=0.0557,
        halo_growth=0.462,
        halo_radius=0.995,
        spots=1.79,
        spot_shape=1.11,
        spot_evenness=1.05,
    ),
}
TUNED["ds3"] = TUNED["ds2"]
"""The constants of each data set; ds3 is the detector of ds2 in finer voxels."""


def generate(dataset: str, n: int, seed: int = 1, *, energies: Sequence[float] | None = None) -> Showers:
    """``n`` parametrised showers with the energies of :func:`bithep_lib.simulate.showers.generate`.

    Args:
        dataset: "ds1-photons", "ds2" or "ds3"; there is no parametrisation of pions.
        energies: in MeV; ds1: the values, equally often; ds2, ds3: lowest and highest. Default: those of the Geant4
            sample.

    Raises:
        ValueError: another data set, or an impossible argument.
    """
    _check_dataset(dataset)
    if n < 1 or seed < 0:
        raise ValueError(f"n must be a positive number of showers and seed a non-negative integer, got {n} and {seed}")
    incident = draw_energies(dataset, n, ENERGIES[dataset] if energies is None else energies, seed)
    return Showers(incident, shower(dataset, incident, seed), dataset, f"GFLASH parametrisation, seed {seed}")


def shower(dataset: str, incident: np.ndarray, seed: int = 1, tuning: Tuning | None = None) -> np.ndarray:
    """One parametrised shower for each incident energy.

    Args:
        incident: MeV, (N,).
        tuning: constants to use instead of :data:`TUNED`.

    Returns:
        energy in each voxel in MeV, zero below the read-out threshold: float32 (N, n_voxels).

    Raises:
        ValueError: a data set without parametrisation, or an energy that is not positive.
    """
    _check_dataset(dataset)
    energy = np.asarray(incident, np.float64) / 1e3
    if energy.ndim != 1 or not (energy > 0).all():
        raise ValueError(f"incident must be positive energies in MeV of shape (N,), got shape {energy.shape}")
    random = np.random.default_rng((seed, 1))  # the energies come from the stream of `seed` itself
    voxels = np.empty((len(energy), geometry(dataset).n_voxels), np.float32)
    for start in range(0, len(energy), CHUNK):
        part = slice(start, start + CHUNK)
        voxels[part] = _showers(dataset, energy[part], random, tuning or TUNED[dataset])
    return voxels


def _check_dataset(dataset: str) -> None:
    geometry(dataset)
    if dataset not in TUNED:
        raise ValueError(
            f"GFLASH describes electromagnetic showers: {', '.join(TUNED)}; for {dataset} take source='simulate'"
        )


def _showers(dataset: str, energy: np.ndarray, random: np.random.Generator, tuning: Tuning) -> np.ndarray:
    detector, g = calorimeter(dataset), geometry(dataset)
    m, n = detector.medium, len(energy)
    energy = energy[:, None]
    alpha, t_max = _longitudinal(m, energy, random, tuning)
    start = random.exponential(tuning.conversion, (n, 1)) if tuning.conversion else np.zeros((n, 1))
    centre = (detector.begin + detector.end) / 2

    # The first particles, one electron or a pair, before there is a shower: they cross plates and lose E_c per X0.
    crossed = tuning.track * m.sampling_frequency * detector.share * _tracks(detector, start, tuning.track_length)
    loss = m.critical_energy / 1e3 / m.sampling_frequency * tuning.track_loss
    left = np.maximum(energy - loss * m.sampling_frequency * tuning.track * tuning.track_length, energy / 10)

    visible = _deposited(detector, alpha, t_max, start) * left * detector.share
    # The number of particles that active plates see fluctuates, and with it the visible energy.
    visible = random.standard_gamma(np.maximum(visible / tuning.stochastic**2, 1e-9)) * tuning.stochastic**2
    visible += loss * random.standard_gamma(np.maximum(crossed, 1e-9))
    visible *= tuning.response
    spots = 10.3 / tuning.stochastic * energy**0.959 * tuning.spots
    spots = spots * _deposited(detector, alpha * (0.844 + 0.0026 * m.z), t_max * (0.813 + 0.0019 * m.z), start)
    spots += crossed

    components = _radial(m, energy, centre / (start + t_max * alpha / (alpha - 1)), tuning)
    voxels = np.empty((n, g.n_voxels), np.float32)
    for layers, edges, n_alpha in detector.groups:
        rings = sum(share[:, layers, None] * _inside(edges, radius[:, layers]) for share, radius in components)
        part = _voxels(visible[:, layers] * 1e3, spots[:, layers], rings, n_alpha, tuning, random)
        voxels[:, g.offsets[layers.start] : g.offsets[layers.stop]] = part
    voxels[voxels <= read_out_threshold(dataset)] = 0
    return voxels


def _longitudinal(
    m: Medium, energy: np.ndarray, random: np.random.Generator, tuning: Tuning
) -> tuple[np.ndarray, np.ndarray]:
    """alpha and T of each shower, (N, 1) each: section 4.1 of the paper, sampling calorimeter."""
    y = np.log(energy * 1e3 / m.critical_energy)
    t_max = y - 0.812 - 0.55 / m.sampling_frequency - 0.69 * (1 - m.e_hat)
    alpha = 0.81 + (0.458 + 2.26 / m.z) * y - 0.476 / m.sampling_frequency
    sigma_t, sigma_a = (
        tuning.spread * np.minimum(1 / np.maximum(a + b * y, 1e-9), tuning.largest_spread)
        for a, b in ((-2.5, 1.25), (-0.82, 0.79))
    )
    rho = np.clip(0.784 - 0.023 * y, 0, 1)
    z = random.standard_normal((2, *energy.shape))
    plus, minus = np.sqrt((1 + rho) / 2) * z[0], np.sqrt((1 - rho) / 2) * z[1]
    t_max = tuning.maximum * np.maximum(t_max, 0.3) * np.exp(sigma_t * (plus + minus))
    alpha = (1 + tuning.shape * np.maximum(alpha - 1, 0.1)) * np.exp(sigma_a * (plus - minus))
    return np.maximum(alpha, 1.1), t_max


def _deposited(detector: Calorimeter, alpha: np.ndarray, t_max: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Share of the gamma distribution between front and back of each layer: (N, n_layers)."""
    # Layers without anything between them share their faces.
    faces = np.union1d(detector.begin, detector.end)
    below = gammainc(alpha, (alpha - 1) / t_max * np.maximum(faces - start, 0))
    return below[:, np.searchsorted(faces, detector.end)] - below[:, np.searchsorted(faces, detector.begin)]


def _tracks(detector: Calorimeter, start: np.ndarray, length: float) -> np.ndarray:
    """Length in each layer, in X0, of a track that begins at ``start`` and fades like exp(-t / length)."""
    left = [np.exp(-np.maximum(depth - start, 0) / length) for depth in (detector.begin, detector.end)]
    return length * (left[0] - left[1])


def _radial(m: Medium, energy: np.ndarray, tau: np.ndarray, tuning: Tuning) -> list[tuple[np.ndarray, np.ndarray]]:
    """Share and radius of core, tail and halo, (N, n_layers) each: section 4.2 of the paper; tau is t / <t>."""
    ln_e = np.log(energy)
    f, e = m.sampling_frequency, 1 - m.e_hat
    core = 0.0251 + 0.00319 * ln_e + (0.1162 - 0.000381 * m.z) * tau - 0.0203 * e + 0.0397 / f * np.exp(-tau)
    tail = np.exp(-2.59 * (tau - 0.645)) + np.exp(np.minimum((0.3585 + 0.0421 * ln_e) * (tau - 0.645), 5))
    tail = (0.659 - 0.00309 * m.z) * tail - 0.14 * e - 0.495 / f * np.exp(-tau)
    q = (0.401 + 0.00187 * m.z - tau) / (1.313 - 0.0686 * ln_e)
    share = (2.632 - 0.00094 * m.z) * np.exp(q - np.exp(q)) + e * (0.348 - 0.642 / f * np.exp(-((tau - 1) ** 2)))
    halo = np.minimum(tuning.halo * tau**tuning.halo_growth, 0.9)
    share *= tuning.core_share * np.exp(-tuning.core_fade * np.maximum(tau - 1, 0))
    share = (1 - halo) * np.clip(share, 0, 1)
    return [
        (share, tuning.core * np.maximum(core, 0.01)),
        (1 - halo - share, tuning.tail * np.maximum(tail, 0.05)),
        (halo, np.full_like(share, tuning.halo_radius)),
    ]


def _inside(edges: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Share of one radial component in each ring: (N, n_layers, n_r)."""
    squared = edges**2
    return np.diff(squared / (squared + radius[..., None] ** 2), axis=-1)


def _voxels(
    visible: np.ndarray,
    spots: np.ndarray,
    rings: np.ndarray,
    n_alpha: int,
    tuning: Tuning,
    random: np.random.Generator,
) -> np.ndarray:
    """Divide each layer's energy among its voxels.

    Spots are independent, so their number in a voxel is Poisson distributed: no loop over spots, and a time that does
    not depend on the energy. They are spread more evenly over the rings than the energy, as those far from the axis
    are the weaker ones. The energy of k spots is gamma distributed with shape ``k * spot_shape``, scaled so that the
    layer keeps the energy drawn for it.

    Args:
        visible, spots: energy and mean number of spots of each layer (N, n_layers).
        rings: share of each ring (N, n_layers, n_r); what is missing from one lies outside all voxels.

    Returns:
        float32 (N, n_layers * n_alpha * n_r), in the unit of ``visible``.
    """
    n, n_layers, n_r = rings.shape
    inside = rings.sum(axis=-1, keepdims=True)
    even = rings**tuning.spot_evenness
    even *= inside / even.sum(axis=-1, keepdims=True)
    mean = np.broadcast_to((spots[..., None] * even / n_alpha)[:, :, None, :], (n, n_layers, n_alpha, n_r))
    energy = random.poisson(mean).astype(np.float32)
    hit = energy > 0
    energy[hit] = random.standard_gamma(energy[hit] * np.float32(tuning.spot_shape), dtype=np.float32)
    energy *= (rings / even).astype(np.float32)[:, :, None, :]
    total = energy.sum(axis=(2, 3), keepdims=True)
    scale = (visible[..., None] * inside)[..., None] / np.maximum(total, 1e-20)
    return (energy * scale.astype(np.float32)).reshape(n, -1)
