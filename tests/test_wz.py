"""Jets of W bosons from W Z pairs: the bundled sample, frames and angles, the loader."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bithep_lib.data import wz
from bithep_lib.data.wz import kinematics as kin
from bithep_lib.simulate.diboson_phase_space import patterns

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def sample() -> wz.WZJets:
    return wz.load("sample")


def mean(x: np.ndarray) -> tuple[float, float]:
    return float(x.mean()), float(x.std() / np.sqrt(len(x)))


# The bundled sample ---------------------------------------------------------------------------------------------------


def test_sample_does_not_change_unnoticed(sample: wz.WZJets) -> None:
    assert len(sample) == 10_000
    assert sample.fingerprint == "64562b5b979f02c27788c7a104bbd84fc75e943b84e96ee70a3e1276975b7f54"
    assert sum(path.stat().st_size for path in wz.SAMPLE.iterdir()) < 6_000_000


def test_sample_is_the_stated_selection(sample: wz.WZJets) -> None:
    assert (sample.jet_pt > 500).all()
    assert (sample.jet_mass_softdrop > 70).all()
    assert (sample.jet_mass_softdrop < 110).all()
    assert {key: (column.dtype, column.shape) for key, column in sample.columns.items()} == (
        {key: (np.dtype("i2" if key == "pid" else "f4"), (10_000, 40)) for key in wz.PARTICLES}
        | {key: (np.dtype("f4"), (10_000,)) for key in wz.LABELS}
        | {key: (np.dtype("f8"), (10_000,)) for key in wz.WEIGHTS}
    )
    assert set(sample.truth) == set(wz.TRUTH)
    np.testing.assert_array_equal(sample.mask.sum(1), np.minimum(sample.truth["n_particles"], 40))
    share = sample.pt.sum(1) / sample.jet_pt
    assert 0.99 < share.mean() < 1.0
    # The two quarks are inside the jet: so is nearly all the momentum.
    assert np.average(np.hypot(sample.deta, sample.dphi) < 0.8, weights=sample.pt) > 0.99
    assert set(np.unique(np.abs(sample.pid[sample.mask]))) == {11, 13, 22, 130, 211, 321, 2112, 2212}


def test_leading_particles_balance_around_the_jet(sample: wz.WZJets) -> None:
    """The jet is the axis of the frame: momenta transverse to it cancel, up to the particles left out."""
    _, xy, mask = wz.features(sample)
    complete = sample.truth["n_particles"] <= 40
    theta = sample.theta[complete]
    # Lab pt is no momentum in this frame; at small angles it is proportional to it, jet by jet, to a few per cent.
    offset = np.hypot(*(sample.pt[complete, :, None] * xy[complete]).sum(1).T) / (sample.pt[complete] * theta).sum(1)
    assert np.median(offset) < 0.1
    assert not xy[~mask].any()


def test_moment_axis_finds_the_decay_plane(sample: wz.WZJets) -> None:
    sin2 = {power: np.sin(wz.moment_axis(sample, power) - sample.phi_decay) ** 2 for power in (0.5, 1.0, 2.0)}
    value, error = mean(sin2[1.0])
    assert value == pytest.approx(0.017, abs=0.002)
    assert sin2[0.5].mean() < sin2[2.0].mean() < 0.03
    assert error < 0.001
    floor, _ = mean(np.sin(sample.truth["phi_decay_jet"] - sample.phi_decay) ** 2)
    assert floor == pytest.approx(0.0033, abs=0.0006)
    # Hard to see where one prong is soft.
    edge = np.abs(sample.cos_theta) > 0.8
    assert sin2[1.0][edge].mean() > 2 * sin2[1.0][~edge].mean()


def test_interference_pattern(sample: wz.WZJets) -> None:
    """cos 2 phi for C_W only, sin 2 phi for C_W~ only; nothing in the Standard Model."""
    phi = sample.phi_decay.astype(np.float64)
    for r, wave, silent in ((sample.r1, np.cos, np.sin), (sample.r1t, np.sin, np.cos)):
        value, error = mean(r * wave(2 * phi))
        assert value < -10 * error
        value, error = mean(r * silent(2 * phi))
        assert abs(value) < 4 * error
    for wave in (np.cos, np.sin):
        value, error = mean(wave(2 * phi))
        assert abs(value) < 4 * error
    # The rate hardly interferes, and the pattern grows with energy.
    assert abs(sample.r1.mean()) < 0.4 * abs((sample.r1 * np.cos(2 * phi)).mean())
    hard = sample.truth["w_pt"] > 800
    both = sample.r1 * np.cos(2 * phi) + sample.r1t * np.sin(2 * phi)
    assert both[hard].mean() < 1.5 * both.mean()
    assert (sample.r1**2 <= 4 * sample.r2 * (1 + 1e-9)).all()


def test_weights_agree_with_amplitudes_that_never_saw_pythia(sample: wz.WZJets) -> None:
    few = sample[np.abs(sample.cos_theta) < 0.8]
    m, cosine, phi = few.truth["m_wz"], few.truth["cos_scattering"], few.phi_decay.astype(np.float64)
    pt = np.sqrt((m / 2) ** 2 - 86**2) * np.sqrt(1 - cosine**2)
    chosen = (pt > 500) & (pt < 600)
    columns = (few.r1 * np.cos(2 * phi), few.r1t * np.sin(2 * phi), few.r2, few.r2t)
    theory = patterns(pt[chosen].mean(), np.quantile(cosine[chosen], np.linspace(0.05, 0.95, 10)))
    for name, column, expected in zip(theory._fields, columns, theory, strict=True):
        value, error = mean(column[chosen])
        assert error < 0.06 * abs(expected)
        assert abs(value - expected) < 3 * error + 0.02 * abs(expected), name


def test_event_counts_give_the_cross_section() -> None:
    counts = wz.event_counts()
    assert counts["tried"] == counts["vetoed_early"] + counts["simulated"]
    assert counts["simulated"] > counts["in_acceptance"] > counts["accepted"] >= 10_000
    assert counts["sigma_tried"] == pytest.approx(1.56, abs=0.03)
    assert counts["sigma_accepted"] == pytest.approx(counts["sigma_tried"] * counts["accepted"] / counts["tried"])
    assert 0 < counts["sigma_error"] < 0.02 * counts["sigma_accepted"]


def test_closure(sample: wz.WZJets) -> None:
    table = wz.closure(sample[:4000], seed=1)
    assert list(table.index) == list(wz.EXPECTED)
    zero = table[table["expected"] == 0]
    assert len(zero) == 4
    assert (zero["value"].abs() < 4 * zero["error"]).all()
    assert table.loc["soft-drop mass, median [GeV]", "value"] == pytest.approx(80.8, abs=0.3)
    np.testing.assert_array_equal(table["error"], wz.closure(sample[:4000], seed=1)["error"])


def test_indexing_and_splitting(sample: wz.WZJets) -> None:
    assert len(sample[7]) == 1
    assert sample[7].truth["w_pt"][0] == sample.truth["w_pt"][7]
    few = wz.load("sample", n=2600)
    np.testing.assert_array_equal(few.pt, sample.pt[:2600])
    assert few.fingerprint == sample[:2600].fingerprint != few[::-1].fingerprint
    parts = wz.split(few, (1000, 500, 100), seed=1)
    assert [len(part) for part in parts] == [1000, 500, 100]
    together = np.concatenate([part.r1 for part in parts])
    assert len(np.unique(together)) == 1600
    np.testing.assert_array_equal(parts[1].pt, wz.split(few, (1000, 500, 100), seed=1)[1].pt)
    assert parts[0].fingerprint != wz.split(few, (1000, 500, 100), seed=2)[0].fingerprint
    for sizes in ((), (0.8, 0.2), (2000, 1000), (-1, 5)):
        with pytest.raises(ValueError, match="sizes must be one or more numbers of jets"):
            wz.split(few, sizes, seed=1)
    assert repr(few).startswith("WZJets(2600; sample; ")


# Angles ---------------------------------------------------------------------------------------------------------------


def random_momenta(seed: int, n: int = 20) -> tuple[np.ndarray, ...]:
    """Two quarks and a Z as at the collider: a few hundred GeV, any direction."""
    generator = np.random.default_rng(seed)
    for mass, scale in ((0.3, 200.0), (1.5, 200.0), (91.0, 400.0)):
        p = generator.normal(0, scale, (n, 3))
        yield np.concatenate([np.sqrt((p**2).sum(1) + mass**2)[:, None], p], axis=1)


@given(SEEDS)
def test_decay_angle_is_that_of_the_two_planes(seed: int) -> None:
    up, down, z = random_momenta(seed)
    angle = kin.decay_angle(up, up + down, z)
    np.testing.assert_allclose(np.abs(kin.wrap(angle - kin.planes_angle(up, down, z))), 0, atol=1e-7)
    # acos is blind near 0 and pi; elsewhere the two agree to rounding.
    clear = np.abs(np.sin(angle)) > 1e-2
    np.testing.assert_allclose(angle[clear], kin.planes_angle(up, down, z)[clear], atol=1e-10)
    np.testing.assert_allclose(np.abs(kin.wrap(angle - kin.decay_angle(down, up + down, z))), np.pi, atol=1e-8)


@given(SEEDS, st.floats(-np.pi, np.pi), st.floats(-0.9, 0.9))
def test_angles_do_not_depend_on_the_laboratory(seed: int, turn: float, speed: float) -> None:
    """Turned around the beam, or seen from a frame moving along it."""
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]])
    momenta = list(random_momenta(seed))
    seen = [kin.boost(p @ rotation.T, np.array([0, 0, speed])) for p in momenta]
    for (up, down, z), other in ((momenta, seen),):
        there = kin.decay_angle(other[0], other[0] + other[1], other[2])
        np.testing.assert_allclose(kin.wrap(kin.decay_angle(up, up + down, z) - there), 0, atol=1e-7)


@given(SEEDS)
def test_frame(seed: int) -> None:
    up, down, z = random_momenta(seed)
    w = up + down
    frame = kin.pair_frame(w, z)
    np.testing.assert_allclose(
        frame.axes @ np.swapaxes(frame.axes, 1, 2), np.broadcast_to(np.eye(3), (20, 3, 3)), atol=1e-9
    )
    assert (np.linalg.det(frame.axes) > 0).all()
    theta, _ = kin.angles(w, frame)
    back, _ = kin.angles(z, frame)
    np.testing.assert_allclose(theta, 0, atol=1e-6)
    np.testing.assert_allclose(back, np.pi, atol=1e-6)
    many, _ = kin.angles(np.stack([w, z], axis=1), frame)
    np.testing.assert_allclose(many, np.stack([theta, back], axis=1), atol=1e-12)
    _, beam = kin.angles(np.broadcast_to(kin.BEAM, w.shape), frame)
    np.testing.assert_allclose(beam, 0, atol=1e-9)


@cache
def twenty_jets() -> wz.WZJets:
    return wz.load("sample", n=20)


@given(st.floats(-7, 7), st.floats(0.3, 2.5))
def test_moment_axis_turns_with_the_jet(turn: float, power: float) -> None:
    jets = twenty_jets()
    turned = replace(jets, phi=kin.wrap(jets.phi.astype(np.float64) + turn))
    change = wz.moment_axis(turned, power) - wz.moment_axis(jets, power)
    np.testing.assert_allclose(kin.wrap(change - turn, np.pi), 0, atol=1e-6)
    # One particle on the axis has no direction and no influence.
    theta = jets.theta.copy()
    theta[:, 3] = 0
    assert np.isfinite(wz.moment_axis(replace(jets, theta=theta), power)).all()


# The loader -----------------------------------------------------------------------------------------------------------


def stored(path: Path, jets: wz.WZJets, **changes: np.ndarray) -> Path:
    """Write ``jets`` with some columns exchanged; None leaves one out."""
    columns = {key: value for key, value in (jets.columns | jets.truth | changes).items() if value is not None}
    with h5py.File(path, "w") as file:
        for key, value in columns.items():
            file[key] = value
    return path


def test_own_files_can_be_read_back(sample: wz.WZJets, tmp_path: Path) -> None:
    few = sample[:300]
    path = stored(tmp_path / "mine.h5", few)
    assert wz.read(path).fingerprint == few.fingerprint
    assert wz.load(path, n=50).fingerprint == few[:50].fingerprint
    assert wz.read(stored(tmp_path / "no_truth.h5", few, w_pt=None)).truth.keys() == few.truth.keys() - {"w_pt"}
    again = tmp_path / "again.h5"
    again.write_bytes(wz.encode(few.columns | few.truth, {"a": 1}))
    assert wz.read(again).fingerprint == few.fingerprint  # what is rounded stays as it is
    assert wz.stored_meta(again) == {"a": 1}
    assert again.read_bytes() == wz.encode(few.columns | few.truth, {"a": 1})


def changed(values: np.ndarray, row: int, value: float) -> np.ndarray:
    values = values.copy()
    values[row] = value
    return values


MISTAKES = {
    "MeV": (lambda j: {"pt": j.pt * 1000}, "jet_pt row 0 = .* its particles have another sum of pt: units"),
    "all MeV": (lambda j: {"pt": j.pt * 1000, "jet_pt": j.jet_pt * 1000}, "jet_pt row 0 .* outside 20 .. 20000 GeV"),
    "degrees": (lambda j: {"phi": np.degrees(j.phi)}, r"phi row 0, particle 0 = .* is outside .*: degrees"),
    "not finite": (lambda j: {"r1": changed(j.r1, 4, np.nan)}, "r1 row 4 = nan is not finite"),
    "order": (lambda j: {"pt": j.pt[:, ::-1]}, "pt row 0, particle .* above its predecessor: not in descending pt"),
    "padding": (lambda j: {"theta": np.where(j.mask, j.theta, 0.1)}, "theta row .* is not zero, but .* padding"),
    "empty": (lambda j: {key: changed(getattr(j, key), 7, 0) for key in wz.PARTICLES}, "pt row 7 .* an empty jet"),
    "shuffled truth": (lambda j: {"phi_decay": np.roll(j.phi_decay, 1)}, "phi_decay has nothing to do with the jets"),
    "shuffled jets": (lambda j: {"pt": np.roll(j.pt, 1, 0)}, "row .* not zero|another sum|nothing to do"),
    "weights": (lambda j: {"r1": j.r1 * 10}, "r1 row .* weight would be negative for some C"),
    "lengths": (lambda j: {"r2t": j.r2t[:-1]}, r"r2t must be numbers of shape \(300,\) as pt has 300 jets"),
    "width": (lambda j: {"pt": j.pt[:, :30]}, r"pt must have shape \(N, 40\)"),
    "other axis": (lambda j: {"deta": j.deta + 2 * j.mask}, "deta and dphi row 0 = .* relative to another axis"),
    "missing": (lambda j: {"r1": None, "phi": None}, r"here \['phi', 'r1'\] are missing"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake: str, sample: wz.WZJets, tmp_path: Path) -> None:
    few = sample[:300]
    change, message = MISTAKES[mistake]
    path = stored(tmp_path / "wrong.h5", few, **change(few))
    with pytest.raises(wz.DataError, match=f"{re.escape(str(path))}: .*{message}"):
        wz.read(path)


def test_impossible_sources(sample: wz.WZJets, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match="source must be 'sample', 'simulate' or an existing path, got 'sampel'"
    ):
        wz.load("sampel")
    with pytest.raises(FileNotFoundError, match="no HDF5 files"):
        wz.load(tmp_path)
    with pytest.raises(ValueError, match="n must be a positive number"):
        wz.load("sample", n=0)
    with pytest.raises(ValueError, match=r"n = 20000 .* has 10000: lower n"):
        wz.load("sample", n=20_000)
    with pytest.raises(ValueError, match="n must be given"):
        wz.load("simulate")
    broken = tmp_path / "broken.h5"
    broken.write_bytes((wz.SAMPLE / "wz-00000.h5").read_bytes()[:5000])
    with pytest.raises(wz.DataError, match=r"broken.h5: not a readable HDF5 file, damaged or incomplete"):
        wz.load(broken)
    with pytest.raises(wz.DataError, match="no counters: not a file of"):
        wz.event_counts(tmp_path)
    folder = tmp_path / "twice"
    folder.mkdir()
    for name in ("a.h5", "b.h5"):
        stored(folder / name, sample[:20])
    with pytest.raises(wz.DataError, match=r"the same jet is in .*a.h5 row 0 and .*b.h5 row 0"):
        wz.load(folder)
