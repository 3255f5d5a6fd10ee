import pytest
import torch

from bithep_lib.data import calochallenge
from bithep_lib.models import CaloDREAM, CaloINN
from bithep_lib.train import FlowTask, MatchingTask, fit

SHAPES = {"energy": {"velocity_width": 16, "velocity_hidden": 1, "depth": 1}, "shape": {"width": 12, "depth": 1}}


def showers(dataset: str, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    made = calochallenge.load("gflash", dataset, n=n)
    return torch.from_numpy(made.voxels), torch.from_numpy(made.incident).float()


def test_a_flow_in_bits_learns_its_showers():
    flow, _ = CaloINN.build("NNCentral", n_blocks=5, hidden=32)
    voxels, incident = showers("ds1-photons", 400)
    flow.initialise(*flow.encode(voxels, incident, noise=torch.rand(400, flow.features)))
    task = FlowTask(flow, learning_rate=2e-3)
    result = fit(
        task,
        (voxels[:300], incident[:300]),
        (voxels[300:], incident[300:]),
        epochs=4,
        batch_size=50,
        seed=1,
        progress=False,
    )
    losses = result.history["valid_loss"]
    assert losses.iloc[-1] < losses.iloc[0] - 20


@pytest.mark.parametrize("part", ["energy", "shape"])
def test_one_network_is_trained_and_the_other_stays(part):
    model, _ = CaloDREAM.build("quantized/full", **SHAPES)
    voxels, incident = showers("ds2", 40)
    model.initialise(voxels, incident)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    task = MatchingTask(model, part)
    result = fit(
        task,
        (voxels[:30], incident[:30]),
        (voxels[30:], incident[30:]),
        epochs=1,
        batch_size=10,
        seed=1,
        progress=False,
    )
    assert 0.5 < result.history["valid_loss"].iloc[-1] < 5
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed
    assert all(name.startswith(f"{part}.") for name in changed)


def test_only_two_parts_exist():
    with pytest.raises(ValueError, match="part='both', allowed are energy, shape"):
        MatchingTask(CaloDREAM(**SHAPES), "both")
