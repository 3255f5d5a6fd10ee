import pytest
import torch
from torch import nn

from bithep_lib import quantize_
from bithep_lib.data.calochallenge import geometry, ratios
from bithep_lib.models.caloinn import SETTINGS, CaloINN

SMALL = {"n_blocks": 5, "hidden": 16}


def showers(dataset: str, n: int = 32, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies in MeV, some layers empty."""
    generator = torch.Generator().manual_seed(seed)
    shape = geometry(dataset)
    incident = 1000 * 2.0 ** torch.randint(0, 7, (n,), generator=generator)
    voxels = torch.rand(n, shape.n_voxels, generator=generator) ** 8 * incident[:, None] / 100
    voxels[: n // 2, shape.slice(0)] = 0
    return voxels, incident


def noise_for(flow: CaloINN, voxels: torch.Tensor) -> torch.Tensor:
    return torch.rand(len(voxels), flow.features, generator=torch.Generator().manual_seed(1))


# Trainable parameters and the quantised share of Table 3, by its rule: weights and biases over everything trainable.
COUNTS = {
    ("ds1-photons", "Default"): (18_821_350, 0, "0.0"),
    ("ds1-photons", "ExchangePermutation"): (18_819_112, 0, "0.0"),
    ("ds1-photons", "NNCentral"): (18_821_350, 8.3895, "8.4"),
    ("ds1-photons", "BlockCentral"): (18_819_112, 66.5802, "66.6"),
    ("ds1-photons", "All"): (18_821_350, 99.8585, "99.9"),
    ("ds1-pions", "Default"): (26_592_624, 0, "0.0"),
    ("ds1-pions", "ExchangePermutation"): (26_589_384, 0, "0.0"),
    ("ds1-pions", "NNCentral"): (26_592_624, 5.9378, "5.9"),
    ("ds1-pions", "BlockCentral"): (26_589_384, 66.5988, "66.6"),
    ("ds1-pions", "All"): (26_592_624, 99.8860, "99.9"),
    ("ds2", "Default"): (270_999_370, 0, "0.0"),
    ("ds2", "ExchangePermutation"): (270_960_220, 0, "0.0"),
    ("ds2", "NNCentral"): (270_999_370, 0.3399, "0.3"),
    ("ds2", "BlockCentral"): (270_960_220, 71.3942, "71.4"),
    ("ds2", "All"): (270_999_370, 99.9374, "99.9"),
}


@pytest.mark.parametrize(("dataset", "setup"), COUNTS)
def test_counts_of_table_3(dataset, setup):
    parameters, percent, printed = COUNTS[dataset, setup]
    with torch.device("meta"):
        _, report = CaloINN.build(setup, dataset=dataset)
    assert report.parameters == parameters
    assert 100 * report.fraction == pytest.approx(percent, abs=5e-5)
    assert f"{100 * report.fraction:.1f}" == printed


def test_a_condition_of_its_own_costs_no_parameter():
    with torch.device("meta"):
        _, joint = CaloINN.build("All")
        _, separate = CaloINN.build("All", separate_condition=True)
    assert separate.parameters == joint.parameters


@pytest.mark.parametrize("dataset", SETTINGS)
@pytest.mark.parametrize("setup", ["Default", "BlockCentral", "All"])
def test_the_flow_maps_back(dataset, setup):
    flow, _ = CaloINN.build(setup, dataset=dataset, standardise=True, **SMALL)
    flow = flow.double().eval()
    voxels, incident = showers(dataset)
    x, condition = flow.encode(voxels.double(), incident.double(), noise=noise_for(flow, voxels).double())
    flow.initialise(x, condition)
    randomise(flow)
    with torch.no_grad():
        z, log_det = flow(x, condition)
        back, log_inverse = flow.inverse(z, condition)
    assert not torch.allclose(z, x)
    torch.testing.assert_close(back, x, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_inverse, -log_det, atol=1e-4, rtol=0)


def test_log_det_is_that_of_the_jacobian():
    flow, _ = CaloINN.build("ExchangePermutation", **SMALL)
    flow = flow.double().eval()
    x, condition = (tensor[:1] for tensor in flow.encode(*(t.double() for t in showers("ds1-photons"))))
    flow.initialise(torch.cat([x, x + torch.randn(20, x.shape[1], dtype=x.dtype)]), condition.expand(21, 1))
    randomise(flow)
    jacobian = torch.autograd.functional.jacobian(lambda row: flow(row, condition)[0].squeeze(0), x).squeeze(1)
    torch.testing.assert_close(jacobian.slogdet()[1], flow(x, condition)[1].squeeze(), atol=1e-6, rtol=1e-9)


def test_actnorms_start_from_the_data():
    flow = CaloINN(**SMALL)
    voxels, incident = showers("ds1-photons", 200)
    x, condition = flow.encode(voxels, incident, noise=noise_for(flow, voxels))
    flow.initialise(x, condition)
    z = x
    for block in flow.blocks:
        if block.actnorm is not None:
            normed, _ = block.actnorm(z)
            torch.testing.assert_close(normed.mean(0), torch.zeros(flow.features), atol=1e-3, rtol=0)
            torch.testing.assert_close(normed.std(0), torch.ones(flow.features), atol=1e-3, rtol=0)
        with torch.no_grad():
            z, _ = block.eval()(z, condition)
    assert [block.actnorm is not None for block in flow.blocks] == [False, True, True, True, True]


def test_exchange_bends_every_entry_once_at_either_end():
    """For even D. (For odd D one entry, the first, escapes.)"""
    flow, _ = CaloINN.build("ExchangePermutation", dataset="ds1-pions", n_blocks=6, hidden=16)
    assert flow.features % 2 == 0
    for pair in (flow.first, flow.last):
        place = torch.arange(flow.features)
        bent = torch.zeros(flow.features, dtype=torch.int)
        for block in pair:
            bent[place[block.split[0] :]] += 1
            place = place[block.permutation]
        assert (bent == 1).all()
    assert [block.actnorm is not None for block in flow.blocks] == [False, False, True, True, False, False]


def test_published_tails_leave_the_empty_voxels_of_ds2_to_no_spline():
    """29.6 % of the empty voxels lie below -15, so that a shower with hundreds of them never enters block 0."""
    voxels, incident = showers("ds2", 8)
    voxels[:, ::2] = 0
    for as_published, moved in ((True, False), (False, True)):
        flow = CaloINN("ds2", as_published=as_published, **SMALL)
        x, condition = flow.encode(voxels, incident, noise=noise_for(flow, voxels))
        block = flow.blocks[0]
        randomise(block)
        z, log_det = block(x, condition)
        assert (not torch.equal(z, x[:, block.permutation])) is moved
        assert bool(log_det.abs().max() > 0) is moved
        log_det.sum().backward()
        assert bool(block.network.first.weight.grad.abs().max() > 0) is moved


def test_encoding_maps_back_to_the_shower():
    """Without noise only what is below the noise's width, a fraction of 1e-5 of a layer, is lost."""
    for dataset in SETTINGS:
        flow = CaloINN(dataset, **SMALL)
        voxels, incident = showers(dataset)
        x, condition = flow.encode(voxels.double(), incident.double())
        assert condition[:, 0].tolist() == pytest.approx((incident / 1000).log10().tolist())
        decoded = flow.decode(x, incident.double())
        assert (decoded[:16, flow.geometry.slice(0)] == 0).all()
        largest = ratios.layer_energies(voxels.double(), flow.geometry).max(1).values
        assert ((decoded - voxels).abs().max(1).values < 2e-4 * largest).all()


def test_samples_are_showers_whatever_the_weights():
    flow, _ = CaloINN.build("All", **SMALL)
    randomise(flow, 5.0)
    incident = showers("ds1-photons", 50)[1]
    sample = flow.sample(incident, seed=1, batch_size=20)
    assert sample.shape == (50, 368)
    assert sample.isfinite().all()
    assert (sample >= 0).all()
    assert torch.equal(sample, flow.sample(incident, seed=1, batch_size=20))
    assert flow.training
    wild = torch.tensor([float("inf"), float("-inf"), float("nan"), 1e30, -1e30]).repeat(75)[: flow.features]
    assert flow.decode(wild.expand(2, -1), incident[:2]).isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dataset": "ds4"}, "dataset='ds4', allowed are ds1-photons, ds1-pions, ds2"),
        ({"permutations": "soft"}, "permutations='soft', allowed are random, exchange"),
        ({"n_blocks": 4}, "n_blocks=4"),
        ({"widht": 4}, "unknown widht"),
    ],
)
def test_impossible_flows_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        CaloINN(**arguments)


def test_impossible_energies_are_refused():
    flow = CaloINN(**SMALL)
    for energy in (-1.0, 0.0, 100.0, 1e9, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="incident energy 1 is .* ds1-photons has 256 to 4.1943e\\+06 MeV"):
            flow.sample(torch.tensor([1000.0, energy]), seed=1)


def test_ratios_and_energies_are_inverse():
    shape = geometry("ds1-pions")
    voxels, incident = (tensor.double() for tensor in showers("ds1-pions"))
    energies = ratios.layer_energies(voxels, shape)
    u = ratios.energy_ratios(energies, incident)
    torch.testing.assert_close(ratios.energies_from_ratios(u, incident), energies, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(u[:, 0] * incident, voxels.sum(1))
    hostile = torch.linspace(-3, 3, 32 * 7, dtype=torch.float64).view(32, 7)
    made = ratios.energies_from_ratios(hostile, incident)
    assert (made >= 0).all()
    torch.testing.assert_close(made.sum(1), incident * hostile[:, 0].clamp_min(0))


def test_in_bits_after_training_or_before_is_the_same_model():
    flow = CaloINN(**SMALL)
    report = quantize_(flow, CaloINN.strategies["NNCentral"])
    assert {layer.name.split(".")[3] for layer in report.layers if layer.low_bit} == {"hidden"}


def randomise(module: nn.Module, spread: float = 0.5) -> None:
    """Give the last layers, which start at zero, weights."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in module.named_parameters():
        if "last." in name and parameter.ndim == 2:
            values = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.data.copy_(spread * values / parameter.shape[1] ** 0.5)
