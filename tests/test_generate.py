import numpy as np
import pytest
import torch

from bithep_lib.data import calochallenge
from bithep_lib.generate import generate
from bithep_lib.models import CaloDREAM, CaloINN

FLOW = {"n_blocks": 5, "hidden": 16}
ENERGIES = calochallenge.geometry("ds1-photons").draw_energies(50, seed=1)


@pytest.fixture
def flow() -> CaloINN:
    flow, _ = CaloINN.build("All", **FLOW)
    for block in flow.blocks:
        torch.nn.init.normal_(block.network.last.weight, std=0.2, generator=torch.Generator().manual_seed(1))
    return flow


def test_one_shower_for_each_energy(flow, tmp_path):
    path = generate(flow, ENERGIES, tmp_path / "showers.hdf5", seed=3, batch_size=20, progress=False)
    showers = calochallenge.load(path, "ds1-photons")
    assert showers.incident.tolist() == ENERGIES.tolist()
    assert showers.voxels.dtype == np.float32
    assert (showers.voxels >= 0).all()
    assert [file.name for file in tmp_path.iterdir()] == ["showers.hdf5"]
    again = generate(flow, ENERGIES, tmp_path / "again.hdf5", seed=3, batch_size=20, progress=False)
    assert calochallenge.load(again, "ds1-photons").fingerprint == showers.fingerprint
    other = generate(flow, ENERGIES, tmp_path / "other.hdf5", seed=4, batch_size=20, progress=False)
    assert calochallenge.load(other, "ds1-photons").fingerprint != showers.fingerprint


def test_flow_matching_goes_the_same_way(tmp_path):
    model = CaloDREAM(energy={"velocity_width": 8, "velocity_hidden": 1, "depth": 1}, shape={"width": 12, "depth": 1})
    options = {"energy_steps": 1, "shape_steps": 1, "method": "euler"}
    path = generate(model, np.geomspace(1e3, 1e6, 3), tmp_path / "ds2.hdf5", seed=1, progress=False, **options)
    assert len(calochallenge.load(path, "ds2")) == 3


def test_an_interrupted_run_goes_on(flow, tmp_path, monkeypatch):
    whole = generate(flow, ENERGIES, tmp_path / "whole.hdf5", seed=3, batch_size=20, progress=False)
    calls = []
    sample = CaloINN.sample

    def interrupted(self, incident, **options):
        calls.append(len(incident))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return sample(self, incident, **options)

    monkeypatch.setattr(CaloINN, "sample", interrupted)
    target = tmp_path / "showers.hdf5"
    target.write_bytes(b"the old file")
    with pytest.raises(KeyboardInterrupt):
        generate(flow, ENERGIES, target, seed=3, batch_size=20, progress=False)
    assert target.read_bytes() == b"the old file"
    generate(flow, ENERGIES, target, seed=3, batch_size=20, progress=False)
    assert calls == [20, 20, 20, 10]
    fingerprints = {calochallenge.load(path, "ds1-photons").fingerprint for path in (whole, target)}
    assert len(fingerprints) == 1
    assert not target.with_name("showers.hdf5.parts").exists()


def test_parts_of_another_model_are_not_mixed_in(flow, tmp_path):
    whole = generate(flow, ENERGIES, tmp_path / "whole.hdf5", seed=3, batch_size=20, progress=False)
    parts = tmp_path / "showers.hdf5.parts"
    parts.mkdir()
    (parts / "0123456789ab-00000.hdf5").write_bytes(whole.read_bytes())
    made = generate(flow, ENERGIES, tmp_path / "showers.hdf5", seed=3, batch_size=20, progress=False)
    assert calochallenge.load(made, "ds1-photons").fingerprint == calochallenge.load(whole, "ds1-photons").fingerprint


@pytest.mark.parametrize(
    ("energies", "options", "words"),
    [
        ([], {}, "no energies"),
        ([1e3, 1e8], {}, "incident energy 1 is 1e\\+08 MeV; ds1-photons has 256"),
        ([1e3, float("nan")], {}, "incident energy 1 is nan MeV"),
        ([1e3], {"batch_size": 0}, "batch_size=0"),
    ],
)
def test_impossible_requests_write_nothing(flow, tmp_path, energies, options, words):
    with pytest.raises(ValueError, match=words):
        generate(flow, np.array(energies), tmp_path / "showers.hdf5", seed=1, progress=False, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [float("nan"), float("inf"), -1.0])
def test_no_impossible_voxel_is_ever_written(flow, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(CaloINN, "sample", lambda self, incident, **options: torch.full((len(incident), 368), damage))
    with pytest.raises(RuntimeError, match="negative or not finite"):
        generate(flow, ENERGIES, tmp_path / "showers.hdf5", seed=1, progress=False)
    assert not (tmp_path / "showers.hdf5").exists()
