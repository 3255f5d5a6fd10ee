"""The particle-flow network: a function of a set, in floats and in bits."""

import copy

import pytest
import torch

from bithep_lib import BitLinear, QuantSpec
from bithep_lib.models import ParticleFlowNetwork

SIZES = {"n_features": 5, "phi_sizes": (24, 16), "f_sizes": (12,)}


def build(strategy: str = "none", spec: QuantSpec | None = None) -> ParticleFlowNetwork:
    torch.manual_seed(0)
    return ParticleFlowNetwork.build(strategy, spec=spec or QuantSpec(), **SIZES)[0]


def jets(lengths: list[int], padded: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Particles with garbage in the padded slots: a network that looks there gives itself away."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(padded) < torch.tensor(lengths)[:, None]
    x = torch.randn(len(lengths), padded, 5, generator=generator)
    return torch.where(mask[..., None], x, 1e6), mask


STRATEGIES = list(ParticleFlowNetwork.strategies)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_padding_changes_nothing(strategy):
    model, (x, mask) = build(strategy), jets([1, 2, 7, 20], 20)
    wider = torch.cat([x, torch.full((4, 9, 5), torch.nan)], dim=1)
    wider_mask = torch.cat([mask, torch.zeros(4, 9, dtype=torch.bool)], dim=1)
    assert torch.equal(model(x, mask), model(wider, wider_mask))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_order_of_particles_changes_nothing(strategy):
    model, (x, mask) = build(strategy), jets([20, 20, 13], 20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    # The sum has another order, which may move its last bit, and a bit may move an 8-bit code of the next layer by one.
    tolerance = 1e-5 if strategy in ("none", "phi") else 5e-3
    torch.testing.assert_close(model(x[:, order], mask[:, order]), model(x, mask), rtol=0, atol=tolerance)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_jet_scores_the_same_in_any_batch(strategy):
    model, (x, mask) = build(strategy).eval(), jets([3, 9, 1, 20], 20)
    together = model(x, mask)
    alone = torch.cat([model(x[i : i + 1], mask[i : i + 1]) for i in range(4)])
    if strategy == "all":  # integer sums: not a single bit differs
        assert torch.equal(together, alone)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_the_papers_tensor_scale_lets_jets_talk_to_each_other():
    """Negative control of the test above: one gamma for the whole batch."""
    model, (x, mask) = build("all", QuantSpec.paper()).eval(), jets([3, 9, 1, 20], 20)
    alone = torch.cat([model(x[i : i + 1], mask[i : i + 1]) for i in range(4)])
    assert not torch.allclose(model(x, mask), alone, rtol=1e-5, atol=1e-5)


def test_it_is_the_formula():
    model, (x, mask) = build(), jets([4, 11], 15)
    by_hand = [model.f(model.phi(x[i, :n]).sum(0) / model.pooling_scale)[0] for i, n in enumerate([4, 11])]
    torch.testing.assert_close(model(x, mask), torch.stack(by_hand))


def test_two_particles_in_one_place_are_not_one():
    model = build()
    one, two = (model(torch.ones(1, n, 5), torch.ones(1, n, dtype=torch.bool)) for n in (1, 2))
    assert not torch.allclose(one, two)


def test_empty_jet_is_refused():
    x, mask = jets([3, 0, 2], 5)
    with pytest.raises(ValueError, match="jet 1 of the batch has no particles"):
        build()(x, mask)


@pytest.mark.parametrize(("x", "mask"), [((2, 5, 4), (2, 5)), ((2, 5, 5), (2, 6)), ((5, 5), (5,))])
def test_wrong_shapes_are_refused(x, mask):
    with pytest.raises(ValueError, match=r"x must be \(jets, particles, 5\)"):
        build()(torch.ones(x), torch.ones(mask, dtype=torch.bool))


def test_strategies_choose_what_their_names_say():
    names = {}
    for strategy in STRATEGIES:
        names[strategy] = [n for n, m in build(strategy).named_modules() if isinstance(m, BitLinear)]
    assert names == {
        "none": [],
        "phi": ["phi.0", "phi.2"],
        "f": ["f.0", "f.2"],
        "hidden": ["phi.2", "f.0"],
        "all": ["phi.0", "phi.2", "f.0", "f.2"],
    }
    with pytest.raises(ValueError, match="strategy must be one of none, phi, f, hidden, all, got 'ternary'"):
        ParticleFlowNetwork.build("ternary", n_features=5)
    with pytest.raises(ValueError, match="phi_sizes must be positive"):
        ParticleFlowNetwork(5, phi_sizes=(8, 0))


def test_report_counts_parameters_and_work():
    x, mask = jets([4, 11], 15)
    model, report = ParticleFlowNetwork.build("all", example=(x, mask), **SIZES)
    assert report.parameters == 5 * 24 + 24 + 24 * 16 + 16 + 16 * 12 + 12 + 12 + 1
    assert report.fraction == report.fraction_used == report.fraction_macs == 1
    assert report.macs == 15 * (5 * 24 + 24 * 16) + 2 * (16 * 12 + 12)  # 15 real particles, 2 jets
    with torch.device("meta"):
        assert ParticleFlowNetwork.build("all", **SIZES)[1].parameters == report.parameters


@pytest.mark.parametrize("strategy", ["none", "hidden", "all"])
def test_it_learns_to_count(strategy):
    """Jets of equal particles that differ in their number only: solvable by the sum, hopeless for a mean."""
    model = build(strategy)
    lengths = [4 + i % 2 * 4 for i in range(64)]
    mask = torch.arange(8) < torch.tensor(lengths)[:, None]
    x, y = torch.ones(64, 8, 5), (torch.tensor(lengths) > 5).float()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x, mask), y)
        loss.backward()
        optimiser.step()
    assert loss < 0.2  # ln 2 = 0.69 without a count
    assert torch.equal(copy.deepcopy(model)(x, mask), model(x, mask))
