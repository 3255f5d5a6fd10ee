"""Helicity amplitudes of W Z production with O_W and O_W~: symmetries, published limits, and Pythia's decays."""

import itertools
from importlib import util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bithep_lib.data.wz.kinematics import angles, boost, cos_theta, decay_angle, pair_frame
from bithep_lib.simulate import diboson_amplitudes as da
from bithep_lib.simulate.diboson_phase_space import directions, phase_space, two_body

needs_generator = pytest.mark.skipif(
    not (util.find_spec("pythia8mc") and util.find_spec("fastjet")), reason="needs bithep_lib[simulate]"
)
N = 50
OCTAHEDRON = np.concatenate([np.eye(3), -np.eye(3)])
SEEDS = st.integers(0, 2**32 - 1)


def random_process(seed: int, beam: float = 700.0, n: int = N) -> da.HardProcess:
    return phase_space(beam, n, seed)


def mapped(process: da.HardProcess, change) -> da.HardProcess:
    names = ("quark", "antiquark", "fermion", "antifermion", "lepton", "antilepton")
    return da.HardProcess(*(change(getattr(process, name)) for name in names), process.up)


@given(SEEDS, st.floats(100.0, 4000.0))
def test_ward_identity(seed: int, beam: float) -> None:
    process = random_process(seed, beam)
    t, u, s, _, _ = da.channels(process, process.lepton + process.antilepton)
    # Near the beam 1 / t^2 loses digits; central events are exact to rounding.
    central = np.abs((process.fermion + process.antifermion)[:, 3]) < 0.9 * beam
    largest = np.maximum(np.maximum(np.abs(t), np.abs(u)), np.abs(s))
    assert (np.abs(t + u + s) / largest)[central].max(initial=0) < 1e-12
    assert (np.abs(t + u) / largest).max() > 1e-3  # the three-boson vertex is needed


@given(SEEDS)
def test_operators_are_gauge_invariant_by_themselves(seed: int) -> None:
    process = random_process(seed)
    z = process.lepton + process.antilepton
    *_, cw, cwt = da.channels(process, z)
    *_, of_current, _ = da.channels(process, da.current(process.lepton, process.antilepton, -1))
    assert max(np.abs(cw).max(), np.abs(cwt).max()) < 1e-10 * np.abs(of_current).max()


@given(SEEDS)
def test_spinors_and_currents(seed: int) -> None:
    process = random_process(seed)
    for helicity in (-1, 1):
        for p in (process.quark, process.antiquark, process.fermion):
            np.testing.assert_allclose((np.abs(da.spinor(p, helicity)) ** 2).sum(-1), 2 * p[:, 0], rtol=1e-12)
        j = da.current(process.lepton, process.antilepton, helicity)
        z = process.lepton + process.antilepton
        assert np.abs(da.dot(j, z)).max() < 1e-9 * da.dot(z, z).max()
        # -J . J* = 2 m^2: the sum over polarisations of a massless pair.
        np.testing.assert_allclose(-da.dot(j, j.conj()).real, 2 * da.dot(z, z), rtol=1e-7)


@given(SEEDS)
def test_weights_do_not_depend_on_the_observer(seed: int) -> None:
    process = random_process(seed, n=10)
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    beta = 0.6 * directions(generator, 1)[0]
    seen = mapped(process, lambda p: boost(np.concatenate([p[:, :1], p[:, 1:] @ rotation.T], axis=1), beta))
    here, there = da.weights(process), da.weights(seen)
    for name in ("r1", "r2", "r1t", "r2t"):
        a, b = getattr(here, name), getattr(there, name)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(a).max())


@given(SEEDS)
def test_c_w_is_even_and_c_w_tilde_odd_under_cp(seed: int) -> None:
    process = random_process(seed)
    p = mapped(process, lambda p: p * da.METRIC)
    conjugate = da.HardProcess(
        p.antiquark, p.quark, p.antifermion, p.fermion, p.antilepton, p.lepton, up=~process.up
    )  # fmt: skip
    here, there = da.weights(process), da.weights(conjugate)
    for name, sign in (("r1", 1), ("r2", 1), ("r1t", -1), ("r2t", 1)):
        a, b = getattr(here, name), sign * getattr(there, name)
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7 * np.abs(a).max(), err_msg=name)


@given(SEEDS)
def test_no_weight_is_negative(seed: int) -> None:
    w = da.weights(random_process(seed))
    assert (w.r1**2 <= 4 * w.r2 * (1 + 1e-9)).all()
    assert (w.r1t**2 <= 4 * w.r2t * (1 + 1e-9)).all()
    assert (w.r2 > 0).all()


@pytest.mark.parametrize("helicity", [1, -1])
def test_vertex_has_the_published_helicity_amplitudes(helicity: int) -> None:
    """Hagiwara et al. 1987, table 4: A_{++} = g_1 + 2 gamma^2 lambda, and (1 - 2 gamma^2) lambda~ i / beta."""
    m, energy = 80.0, 700.0
    k = np.sqrt(energy**2 - m**2)
    total, current = np.array([[2 * energy, 0, 0, 0]]), np.array([[0, 0, 0, 1.0 + 0j]])
    w, z = np.array([[energy, 0, 0, k]]), np.array([[energy, 0, 0, -k]])
    # Conjugates of the polarisation vectors along +z and -z.
    w_current, z_current = (np.array([[0, sign * helicity, 1j, 0]]) / np.sqrt(2) for sign in (-1, 1))
    yang_mills, cw, cwt = da.vertex(total, current, w, w_current, z, z_current)
    anomalous = 6 * m**2 / da.WEAK_COUPLING * 1e-6  # lambda_Z for 1 / TeV^2
    gamma2, beta = (energy / m) ** 2, k / energy
    np.testing.assert_allclose(cw / yang_mills, 2 * gamma2 * anomalous, rtol=1e-10)
    np.testing.assert_allclose(cwt / yang_mills, -helicity * 1j * (2 * gamma2 - 1) / beta * anomalous, rtol=1e-10)
    # Different helicities couple only through other currents.
    assert abs(da.vertex(total, current, w, w_current, z, z_current.conj())[1]) < 1e-6


def test_growth_with_energy() -> None:
    """Interference grows with E^2, the square with E^4; the same angles at all energies."""
    mean = {}
    for beam in (1000.0, 4000.0):
        process = random_process(5, beam, n=6000)
        phi = decay_angle(process.fermion, *_bosons(process))
        w, central = da.weights(process), np.abs(_bosons(process)[0][:, 3]) < 0.5 * beam
        # Isotropic decays are not the Standard Model's: weight them with its rate.
        sm = np.abs(da.amplitudes(process).sm) ** 2
        rate = sm.sum(0)[central]
        average = {
            "r1": np.average((w.r1 * np.cos(2 * phi))[central], weights=rate),
            "r1t": np.average((w.r1t * np.sin(2 * phi))[central], weights=rate),
            "r2": np.average(w.r2[central], weights=rate),
        }
        mean[beam] = average
    for name, power in (("r1", 2), ("r1t", 2), ("r2", 4)):
        assert np.log(mean[4000.0][name] / mean[1000.0][name]) / np.log(4) == pytest.approx(power, abs=0.2), name


def _bosons(process: da.HardProcess) -> tuple[np.ndarray, np.ndarray]:
    return process.fermion + process.antifermion, process.lepton + process.antilepton


def test_phase_space_is_what_was_asked_for() -> None:
    process = phase_space(600.0, 2000, seed=1, cos_scattering=0.3)
    w, z = _bosons(process)
    np.testing.assert_allclose(w + z, process.quark + process.antiquark, atol=1e-9)
    np.testing.assert_allclose(w[:, 3] / np.linalg.norm(w[:, 1:], axis=1), 0.3, atol=1e-12)
    np.testing.assert_allclose(np.sqrt(da.dot(w, w)).mean(), 80.37, atol=0.2)
    cosine = cos_theta(process.fermion, w, z)
    assert np.abs(np.histogram(cosine, 4, (-1, 1))[0] / 500 - 1).max() < 0.2  # isotropic
    with pytest.raises(ValueError, match="energy must be at least 100 GeV for a W and a Z, got 80"):
        phase_space(80, 1, 1)


@given(SEEDS)
def test_massless_pair(seed: int) -> None:
    generator = np.random.default_rng(seed)
    momenta = [generator.normal(0, 50, (N, 3)) for _ in range(2)]
    a, b = (
        np.concatenate([np.sqrt((p**2).sum(1) + m**2)[:, None], p], axis=1)
        for p, m in zip(momenta, (1.5, 5.0), strict=True)
    )
    c, d = da.massless_pair(a, b)
    np.testing.assert_allclose(c + d, a + b, rtol=1e-10, atol=1e-9)
    assert max(np.abs(da.dot(c, c)).max(), np.abs(da.dot(d, d)).max()) < 1e-8
    beta = (a + b)[:, 1:] / (a + b)[:, :1]
    first, second = (boost(p, beta)[:, 1:] for p in (a, c))
    cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    np.testing.assert_allclose(cosine, 1, atol=1e-12)


@needs_generator
def test_own_amplitudes_reproduce_the_decays_of_pythia() -> None:
    """The moments of Pythia's decay angles, and those of isotropic decays weighted with the amplitudes."""
    from bithep_lib.simulate.pythia_wz import hard_processes
    from bithep_lib.simulate.wz import WZProcess

    process = hard_processes(WZProcess(), 4000, seed=3).massless()
    t, u, s, _, _ = da.channels(process, process.lepton + process.antilepton)
    assert (np.abs(t + u + s) / np.maximum(np.abs(t), np.abs(u))).max() < 1e-10
    # |M|^2 has angular momenta up to 2 in each decay, which the six corners of an octahedron average exactly. Their
    # random orientations make all other averages right in the mean.
    theirs, own, rate = _moments(process), [], []
    (w, z), generator = _bosons(process), np.random.default_rng(1)
    turn_w, turn_z = (Rotation.random(len(w), random_state=generator) for _ in range(2))
    for i, j in itertools.product(range(6), repeat=2):
        pairs = [*two_body(w, turn_w.apply(OCTAHEDRON[i])), *two_body(z, turn_z.apply(OCTAHEDRON[j]))]
        decayed = da.HardProcess(process.quark, process.antiquark, *pairs, process.up)
        own.append(_moments(decayed))
        rate.append((np.abs(da.amplitudes(decayed).sm) ** 2).sum(0))
    weight = np.stack(rate) / np.mean(rate, axis=0)
    far_from_isotropic = []
    for name, values in theirs.items():
        isotropic = np.stack([moments[name] for moments in own])
        expected = (weight * isotropic).mean(0)
        error = np.hypot(values.std(), expected.std()) / np.sqrt(len(values))
        assert abs(values.mean() - expected.mean()) < 4 * error, (name, values.mean(), expected.mean(), error)
        if abs(values.mean() - isotropic.mean()) > 5 * error:
            far_from_isotropic.append(name)
    assert {"cos W cos Theta", "cos Z cos Theta"} <= set(far_from_isotropic), far_from_isotropic


def _moments(process: da.HardProcess) -> dict[str, np.ndarray]:
    w, z = _bosons(process)
    frame = pair_frame(w, z)
    (_, phi_w), (_, phi_z) = angles(process.fermion, frame), angles(process.lepton, frame)
    cos_w, cos_z = cos_theta(process.fermion, w, z), cos_theta(process.lepton, z, w)
    scattering = np.cos(angles(process.quark, frame)[0])
    return {
        "cos W": cos_w, "cos^2 W": cos_w**2, "cos Z": cos_z, "cos^2 Z": cos_z**2, "cos W cos Z": cos_w * cos_z,
        "cos W cos Theta": cos_w * scattering, "cos Z cos Theta": cos_z * scattering,
        "cos 2 phi W": np.cos(2 * phi_w), "sin 2 phi W": np.sin(2 * phi_w), "cos 2 phi Z": np.cos(2 * phi_z),
        "cos (phi W - phi Z)": np.cos(phi_w - phi_z), "cos (phi W + phi Z)": np.cos(phi_w + phi_z),
        "cos (2 phi W + 2 phi Z)": np.cos(2 * phi_w + 2 * phi_z),
        "cos (2 phi W - 2 phi Z)": np.cos(2 * phi_w - 2 * phi_z),
    }  # fmt: skip
