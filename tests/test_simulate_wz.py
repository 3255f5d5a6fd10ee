"""The generator of W Z jets, and the analytic toy."""

import re
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from bithep_lib.data import wz
from bithep_lib.data.wz import kinematics as kin
from bithep_lib.simulate import micro_mc as toy
from bithep_lib.simulate import wz as generator
from bithep_lib.simulate.micro_mc import micro_mc

needs_generator = pytest.mark.skipif(
    not (util.find_spec("pythia8mc") and util.find_spec("fastjet")), reason="needs bithep_lib[simulate]"
)


# The generator --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Thirty jets in two files, made in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator, "SHARD_SIZE", 15)
        return generator.generate(30, 3, tmp_path_factory.mktemp("wz"), workers=1)


@needs_generator
def test_generated_jets_pass_every_check(generated: list[Path]) -> None:
    jets = wz.load(generated[0].parent)
    assert len(jets) == 30
    assert set(jets.truth) == set(wz.TRUTH)
    assert (jets.truth["w_pt"] > 480).all()
    assert np.median(np.sin(wz.moment_axis(jets) - jets.phi_decay) ** 2) < 0.02
    counts = wz.event_counts(generated[0].parent)
    assert counts["tried"] == counts["vetoed_early"] + counts["simulated"]
    assert 0.5 < counts["sigma_tried"] < 3.0


@needs_generator
def test_generation_is_deterministic_and_resumes(
    generated: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "SHARD_SIZE", 15)
    (tmp_path / generated[0].name).write_bytes(generated[0].read_bytes())
    (tmp_path / generated[1].name).write_bytes(generated[1].read_bytes()[:1000])  # as a crash could leave it
    untouched = (tmp_path / generated[0].name).stat().st_mtime_ns
    again = generator.generate(30, 3, tmp_path, workers=1)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in generated]
    assert again[0].stat().st_mtime_ns == untouched
    assert wz.read(generated[0]).fingerprint != wz.read(generated[1]).fingerprint
    with pytest.raises(ValueError, match=r"another configuration \(seed 3, now 4\)"):
        generator.generate(30, 4, tmp_path)
    assert generator.generate(30, 3, tmp_path, part=(1, 2)) == again[1:]


@needs_generator
def test_loader_simulates_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITHEP_CACHE", str(tmp_path))
    jets = wz.load("simulate", n=3, seed=8, workers=1)
    (folder,) = (tmp_path / "wz").iterdir()
    assert folder.name.startswith("seed8-")
    assert wz.load(folder).fingerprint == jets.fingerprint == wz.load("simulate", n=3, seed=8).fingerprint


@needs_generator
def test_true_angle_of_the_record_is_that_of_the_two_planes() -> None:
    from bithep_lib.simulate.pythia_wz import hard_processes

    hard = hard_processes(generator.WZProcess(), 500, seed=11)
    z = hard.lepton + hard.antilepton
    angle = kin.decay_angle(hard.fermion, hard.fermion + hard.antifermion, z)
    planes = kin.planes_angle(hard.fermion, hard.antifermion, z)
    clear = np.abs(np.sin(angle)) > 1e-3
    assert clear.sum() > 480
    np.testing.assert_allclose(angle[clear], planes[clear], atol=1e-10)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["-n", "0"], "n_jets must be a positive number of jets, got 0"),
        (["--seed", "-1"], "seed must be a non-negative integer, got -1"),
        (["--part", "2/2"], r"part must be \(i, n\) with 0 <= i < n, got \(2, 2\)"),
    ):
        assert generator.main(arguments) == 2
        assert re.fullmatch(f"error: {message}\n", capsys.readouterr().err)
    with pytest.raises(SystemExit, match="2"):
        generator.main(["--part", "three"])


# The toy --------------------------------------------------------------------------------------------------------------


def test_micro_mc_has_the_known_moments() -> None:
    jets = micro_mc(20_000, seed=4)
    count, r2 = jets.mask.sum(1), (jets.xy**2).sum(-1)[jets.mask]
    assert count.mean() == pytest.approx(50, abs=4 * np.sqrt(50 / 20_000))
    assert r2.mean() == pytest.approx(1.18, abs=0.005)
    assert jets.pt.sum(1).mean() == pytest.approx(toy.TOTAL_PT * np.exp(0.02), abs=0.1)
    assert jets.pt.sum(1).std() == pytest.approx(3.4, abs=0.1)
    assert not jets.xy[~jets.mask].any()
    assert (np.abs(jets.phi) <= np.pi).all()


def test_micro_mc_direction_has_the_known_resolution() -> None:
    jets = micro_mc(20_000, seed=5)

    def sin2(weight: np.ndarray) -> float:
        return float((np.sin(wz.axis(weight, jets.xy, power=2) - jets.phi) ** 2).mean())

    bound = 0.3**2 / 50
    assert bound < sin2(jets.mask.astype(float)) < 1.2 * bound
    assert sin2(jets.pt) == pytest.approx(0.0009, abs=0.00005)  # momenta tell where the prongs are
    one_prong = micro_mc(5000, seed=5, radius=0.0)
    assert (np.sin(wz.axis(one_prong.pt, one_prong.xy) - one_prong.phi) ** 2).mean() == pytest.approx(0.5, abs=0.02)


def test_micro_mc_arguments() -> None:
    first, again, other = micro_mc(5, seed=1), micro_mc(5, seed=1), micro_mc(5, seed=2)
    np.testing.assert_array_equal(first.pt, again.pt)
    assert not np.array_equal(first.pt, other.pt)
    one_sided = micro_mc(200, weights=(1.0, 0.0))
    centre = (one_sided.pt[..., None] * one_sided.xy).sum(1)
    assert np.cos(np.arctan2(centre[:, 1], centre[:, 0]) - one_sided.phi).min() > 0.9
    with pytest.raises(ValueError, match="sigma, particles and width must be positive, got .* sigma=0"):
        micro_mc(5, sigma=0)
    with pytest.raises(ValueError, match=r"weights must be two shares.* got \(0.0, 0.0\)"):
        micro_mc(5, weights=(0.0, 0.0))
