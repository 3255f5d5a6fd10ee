import math

import pytest
import torch

from bithep_lib.data.calochallenge import geometry
from bithep_lib.models.calodream import CaloDREAM
from bithep_lib.models.calodream_energy import EnergyNetwork
from bithep_lib.models.calodream_shape import ShapeNetwork
from bithep_lib.models.flow_matching import METHODS, evaluations, interpolate, solve
from bithep_lib.quantize import count

SMALL = {
    "energy": {"velocity_width": 32, "velocity_hidden": 2, "depth": 2, "feedforward": 32},
    "shape": {"width": 24, "depth": 2},
}


def showers(n: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """ds2-like energies in MeV; most voxels, and the first layers of half of the showers, are empty."""
    generator = torch.Generator().manual_seed(1)
    incident = 1000 * 10 ** (3 * torch.rand(n, generator=generator))
    voxels = torch.rand(n, 6480, generator=generator) ** 12
    voxels[: n // 2, : 3 * 144] = 0
    voxels = torch.where(voxels > 1e-3, voxels, 0)
    voxels *= (0.8 * incident / voxels.sum(1))[:, None]
    return torch.where(voxels > geometry("ds2").threshold, voxels, 0), incident


# Of all parameters and of the network's own, in percent; beside them what Table 4 prints.
@pytest.mark.parametrize(
    ("setup", "of_all", "of_energy", "of_shape"),
    [
        ("regular/regular", 0, 0, 0),
        ("quantized/regular", 5.5437, 66.0852, 0),  # 5.5 and 66.09
        ("regular/no_embedding", 58.4462, 0, 63.7980),  # 58.5 (rounds to 58.4) and 63.8
        ("quantized/no_embedding", 63.9899, 66.0852, 63.7980),  # 63.9 (rounds to 64.0)
        ("regular/full", 60.6666, 0, 66.2217),  # 60.7 and 66.22
        ("quantized/full", 66.2103, 66.0852, 66.2217),  # 66.2
        ("quantized/full_released", 66.2915, 66.0852, 66.3104),
    ],
)
def test_counts_of_table_4(setup, of_all, of_energy, of_shape):
    with torch.device("meta"):
        model, report = CaloDREAM.build(setup)
    energy, shape = count(model.energy), count(model.shape)
    assert (report.parameters, energy.parameters, shape.parameters) == (28_427_393, 2_384_705, 26_042_688)
    assert 100 * report.fraction == pytest.approx(of_all, abs=5e-5)
    assert 100 * energy.fraction == pytest.approx(of_energy, abs=5e-5)
    assert 100 * shape.fraction == pytest.approx(of_shape, abs=5e-5)


def test_the_paper_s_256_wide_velocity_network_is_not_the_one_it_counts():
    with torch.device("meta"):
        network = EnergyNetwork(velocity_width=256)
    assert sum(p.numel() for p in network.parameters()) == 1_166_913


@pytest.mark.parametrize("method", METHODS)
def test_solvers_have_their_order(method):
    """Halving the step of x' = x cos t divides the error by 2^order."""

    def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
        return x * math.cos(t)

    x0 = torch.ones(3, dtype=torch.float64)
    truth = math.exp(math.sin(1))
    errors = [abs(solve(velocity, x0, steps=n, method=method)[0].item() - truth) for n in (32, 64)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(METHODS[method].order, abs=0.1)
    calls = []
    solve(lambda x, t: calls.append(t) or x, x0, steps=3, method=method)
    assert len(calls) == evaluations(3, method)


def test_rk4_is_the_rule_with_thirds():
    """One step of x' = f(t) weights t = 0, 1/3, 2/3, 1 with 1, 3, 3, 1 eighths."""
    values = {0.0: 8.0, 1 / 3: 80.0, 2 / 3: 800.0, 1.0: 8000.0}
    result = solve(lambda x, t: torch.tensor(values[t]), torch.tensor(0.0), steps=1)
    assert result.item() == pytest.approx(1 + 30 + 300 + 1000)


def test_interpolation_ends_at_noise_and_data():
    noise, data = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    for time, end in ((0.0, noise), (1.0, data)):
        x, velocity = interpolate(data, noise, torch.full((5, 1), time))
        torch.testing.assert_close(x, end)
        torch.testing.assert_close(velocity, data - noise)


def test_sampled_ratios_are_those_of_the_uncached_network():
    """Key-value cache, single source token and split first layer against nn.Transformer, ratio by ratio."""
    torch.manual_seed(3)
    network = EnergyNetwork(6, width=16, velocity_width=32, velocity_hidden=2, depth=2, feedforward=32).double().eval()
    condition = torch.rand(4, 1, dtype=torch.float64)
    noise = torch.randn(4, 6, dtype=torch.float64)
    sampled = network.sample(condition, noise, steps=3, method="midpoint")

    ratios = torch.zeros(4, 6, dtype=torch.float64)
    for position in range(6):

        def velocity(x: torch.Tensor, t: float, position: int = position) -> torch.Tensor:
            points = torch.zeros_like(ratios).index_copy(1, torch.tensor([position]), x)
            return network(points, torch.full_like(points, t), ratios, condition)[:, position : position + 1]

        with torch.no_grad():
            ratios[:, position : position + 1] = solve(
                velocity, noise[:, position : position + 1], steps=3, method="midpoint"
            )
    torch.testing.assert_close(sampled, ratios)


def test_a_ratio_does_not_see_later_ones():
    network = EnergyNetwork(6, width=16, velocity_width=16, velocity_hidden=1, depth=1, feedforward=16).eval()
    x, time, ratios, condition = torch.rand(2, 6), torch.rand(2, 6), torch.rand(2, 6), torch.rand(2, 1)
    before = network(x, time, ratios, condition)
    changed = ratios.clone()
    changed[:, 3] += 1
    after = network(x, time, changed, condition)
    torch.testing.assert_close(after[:, :4], before[:, :4])
    assert (after[:, 4:] != before[:, 4:]).all()


def test_the_shape_network_starts_as_nothing_and_every_patch_matters():
    torch.manual_seed(5)
    network = ShapeNetwork((6, 4, 3), patch=(3, 4, 1), width=12, heads=2, depth=2)
    x, time, condition = torch.randn(2, 72), torch.rand(2), torch.rand(2, 7)
    assert torch.equal(network(x, time, condition), torch.zeros(2, 72))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x.requires_grad_()
    gradient = torch.autograd.grad(network(x, time, condition)[:, 0].sum(), x)[0]
    assert (gradient != 0).all()


def test_tokens_are_three_layers_of_one_ring():
    network = ShapeNetwork(width=12, heads=2, depth=1)
    voxels = torch.arange(6480.0).expand(2, -1)
    tokens = network._cut(voxels)
    assert tokens.shape == (2, 135, 48)
    layer, ring = tokens // 144, tokens % 9
    assert (layer.floor().amax(2) - layer.floor().amin(2) == 2).all()
    assert (ring.amax(2) == ring.amin(2)).all()
    assert torch.equal(network._join(tokens), voxels)


def test_encoding_maps_back_to_the_shower():
    voxels, incident = (tensor.double() for tensor in showers())
    model = CaloDREAM(**SMALL).double()
    model.initialise(voxels, incident, batch_size=3)
    u, fractions, condition = model.encode(voxels, incident)
    torch.testing.assert_close(u.mean(0), torch.zeros(45, dtype=torch.float64), atol=1e-9, rtol=0)
    varied = model.voxel_std != 1
    torch.testing.assert_close(fractions.std(0, correction=0)[varied], torch.ones(int(varied.sum())).double())
    assert (condition >= 0).all()
    assert (condition <= 1).all()
    decoded = model.decode(u, fractions, incident)
    torch.testing.assert_close(decoded, voxels, rtol=1e-4, atol=1e-3)
    assert ((decoded > 0) == (voxels > 0)).double().mean() > 0.999


def test_samples_are_showers_whatever_the_weights():
    model, _ = CaloDREAM.build("quantized/full", **SMALL)
    voxels, incident = showers(5)
    model.initialise(voxels, incident)
    for parameter in model.shape.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(2))
    options = {"energy_steps": 2, "shape_steps": 2, "method": "euler"}
    sample = model.sample(incident, seed=3, **options)
    assert sample.shape == (5, 6480)
    assert sample.isfinite().all()
    assert ((sample == 0) | (sample >= model.geometry.threshold)).all()
    assert torch.equal(sample, model.sample(incident, seed=3, **options))
    assert not torch.equal(sample, model.sample(incident, seed=4, **options))
    assert model.sample(incident[:1], seed=3, **options).shape == (1, 6480)
    wild = torch.tensor([float("inf"), float("-inf"), float("nan")])
    assert model.decode(wild.repeat(15)[None], wild.repeat(2160)[None], incident[:1]).isfinite().all()


def test_every_parameter_of_the_energy_network_is_used():
    network = CaloDREAM.build("quantized/regular", **SMALL)[0].energy
    u, condition = torch.randn(8, 45), torch.rand(8, 1)
    network.loss(u, condition, generator=torch.Generator().manual_seed(1)).backward()
    unused = [name for name, parameter in network.named_parameters() if not parameter.grad.abs().max() > 0]
    # With one source token attention has nothing to weigh: a softmax of one number is 1.
    assert all("encoder" in name or "multihead_attn.in_proj" in name for name in unused)


def test_the_shape_network_learns_in_bits():
    voxels, incident = showers()
    model, _ = CaloDREAM.build("quantized/no_embedding", **SMALL)
    model.initialise(voxels, incident)
    u, fractions, condition = model.encode(voxels, incident)
    optimizer = torch.optim.Adam(model.shape.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.shape.loss(fractions, torch.cat([condition, u], dim=1), generator=generator)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: CaloDREAM("ds1-photons"),
            "dataset='ds1-photons' has layers of different shapes, allowed are ds2",
        ),
        (lambda: CaloDREAM.build("quantised/full"), "setup='quantised/full', allowed are regular, quantized"),
        (lambda: ShapeNetwork(patch=(2, 16, 1)), "patch=\\(2, 16, 1\\) does not divide the grid \\(45, 16, 9\\)"),
        (lambda: ShapeNetwork(width=100), "width=100 must be a multiple of 6"),
        (lambda: EnergyNetwork(width=32), "width=32 must be at least 47"),
        (lambda: solve(lambda x, t: x, torch.ones(1), steps=0), "steps=0"),
        (lambda: solve(lambda x, t: x, torch.ones(1), steps=1, method="rk5"), "method='rk5', allowed are euler"),
        (lambda: CaloDREAM(**SMALL).sample(torch.tensor([1.0]), seed=1), "incident energy 0 is 1 MeV"),
    ],
)
def test_impossible_choices_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
