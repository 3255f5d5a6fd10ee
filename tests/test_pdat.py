"""P-DAT: counts, features, symmetries, the faults of the published code, and jets of every size."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bithep_lib import BitLinear, QuantSpec
from bithep_lib.data import jet_features as features
from bithep_lib.data import quark_gluon
from bithep_lib.models import PDAT
from bithep_lib.models.pdat import FAULTS
from bithep_lib.models.ragged import Ragged

SMALL = {"embed": 16, "heads": 4, "neighbours": (6, 5)}


def build(strategy="none", seed=1, **sizes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PDAT.build(strategy, **{**SMALL, **sizes})[0]


def published(**sizes):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return PDAT(as_published=True, **sizes)


@pytest.fixture(scope="module")
def jets():
    return torch.from_numpy(quark_gluon.load("sample", n=40).constituents)


def artificial(n, seed=0):
    """One jet (1, n, 4) with n particles around (y, phi) = (0.5, 6.2): across the border of phi."""
    rng = np.random.default_rng(seed)
    pid = rng.choice([22, 211, -211, 321, 130, 2112, -2212, 11, -13], n)
    columns = [rng.exponential(500 / n, n) + 0.01, rng.normal(0.5, 0.1, n), rng.normal(6.2, 0.1, n), pid]
    return torch.tensor(np.stack(columns, -1)[None], dtype=torch.float32)


# Counts: section 4 of the facts behind the book, from the released architecture.


def test_published_parameters():
    model, report = PDAT.build("attention", as_published=True)
    modules = {name: sum(p.numel() for p in module.parameters()) for name, module in model.named_children()}
    assert modules == {
        "edge_conv1": 34_560,
        "edge_conv2": 16_768,
        "never_called": 16_576,
        "particle_attention": 26_472,
        "channel_attention": 287_716,
        "convolution": 82_176,
        "classifier": 33_410,
    }
    assert report.parameters == sum(modules.values()) == 497_678
    assert sum(layer.parameters for layer in report.quantized) == 312_000
    assert sum(layer.weights for layer in report.quantized) == 307_200
    assert report.matrix_weights == 489_563
    assert report.fraction == 312_000 / 497_678  # 62.69 %
    assert report.fraction_weights == 307_200 / 489_563  # 62.75 %
    assert report.bytes[:2] == (1_990_712, 838_760)
    assert report.bytes.packed == pytest.approx(823_400, abs=12)  # 12 layers, each rounded up to a byte


def test_published_parameters_that_are_used(jets):
    _, report = PDAT.build("attention", as_published=True, example=jets[:2])
    assert report.used == 214_728
    assert sum(layer.used for layer in report.quantized) == 45_760
    assert report.fraction_used == pytest.approx(0.2131, abs=5e-5)
    assert report.macs / 2 == pytest.approx(142.0e6, rel=2e-3)
    assert report.fraction_macs == pytest.approx(0.063, abs=5e-4)


def test_published_without_shared_blocks():
    _, report = PDAT.build("attention", as_published=True, share_blocks=False)
    assert (sum(layer.parameters for layer in report.quantized), report.parameters) == (624_000, 811_866)


def test_strategies(jets):
    reports = {s: PDAT.build(s, example=jets[:2])[1] for s in PDAT.strategies}
    assert reports["none"].fraction == reports["none"].fraction_macs == 0
    fractions = [report.fraction for report in reports.values()]
    assert fractions == sorted(fractions)
    assert len({report.macs for report in reports.values()}) == 1
    attention = reports["attention"]
    assert sum(layer.parameters for layer in attention.quantized) == 11 * (64 * 64 + 64)
    assert all(name.split(".")[0] in ("particle_attention", "channel_attention") for name in names(attention))
    assert not any("pair_bias" in name for name in names(reports["attention+features"]))
    assert len(reports["all"].quantized) == len(reports["all"].layers)
    # nothing is built that is not used, and by bits no parameter loses its gradient
    assert all(report.used == report.parameters == attention.parameters for report in reports.values())


def names(report):
    return [layer.name for layer in report.quantized]


def test_meta_device():
    with torch.device("meta"):
        model, report = PDAT.build("attention", as_published=True)
    assert next(model.parameters()).is_meta
    assert report.parameters == 497_678


# Features.


def test_pair_features():
    a, b = ([torch.tensor(x) for x in particle] for particle in ((100.0, 0.0, 0.0, 211.0), (50.0, 0.3, 0.4, 22.0)))
    expected = [0.5, math.log(1242.775), math.log(25), 1 / 3, math.log(50), 0.0]
    torch.testing.assert_close(features.pair_features(a, b), torch.tensor(expected), atol=1e-5, rtol=1e-5)
    assert torch.equal(features.pair_features(a, b), features.pair_features(b, a))
    assert features.pair_features(a, a)[-1] == 1


def test_pair_features_of_one_direction_are_finite():
    a = [torch.tensor(x) for x in (1e-3, 1.0, 2.0, 22.0)]
    assert features.pair_features(a, a).isfinite().all()


def test_pair_mass_of_close_particles():
    """cosh(dy) - cos(dphi) has no correct digit in float32 at these angles; the half angles keep them all."""
    a, b = ([torch.tensor(x) for x in p] for p in ((10.0, 0.0, 0.0, 22.0), (10.0, 1e-4, 2e-4, 22.0)))
    expected = 2 * 100 * (math.cosh(1e-4) - math.cos(2e-4))
    assert features.pair_features(a, b)[1].exp().item() == pytest.approx(expected, rel=0.01)


def test_wrap_phi():
    assert features.wrap_phi(torch.tensor(0.05 - 6.25)).item() == pytest.approx(0.083185, abs=1e-5)
    a, b = ([torch.tensor(x) for x in p] for p in ((10.0, 0.0, 0.05, 22.0), (10.0, 0.0, 6.25, 22.0)))
    assert features.pair_features(a, b)[0].item() == pytest.approx(0.083185, abs=1e-5)
    assert features.pair_features(a, b, wrap=False)[0].item() == pytest.approx(6.2, abs=1e-5)


def test_released_azimuth_turns_particles_around():
    """A jet across phi = pi: what is above pi points backwards, and the jet loses most of its momentum."""
    pt, y, phi = torch.tensor([[100.0, 100.0]]), torch.zeros(1, 2), torch.tensor([[3.1, 3.2]])
    assert features.momentum(pt, y, phi).sum().pt.item() == pytest.approx(199.75, abs=0.01)
    assert features.momentum(pt, y, features.released_phi(phi)).sum().pt.item() < 20
    # a jet in the lower half plane is turned as a whole: its momentum is right, its direction is not
    phi = torch.tensor([[4.0, 4.1]])
    p = features.momentum(pt, y, features.released_phi(phi))
    assert p.sum().pt.item() == pytest.approx(features.momentum(pt, y, phi).sum().pt.item(), rel=1e-5)


def test_species_agree_with_the_data():
    ids = np.array(quark_gluon.PDG_IDS)
    species = features.species(torch.tensor(ids, dtype=torch.float32)).numpy()
    assert features.SPECIES[:5] == quark_gluon.CLASSES
    assert (species[:, :5].argmax(1) == quark_gluon.particle_class(ids)).all()
    assert (species[:, :5].sum(1) == 1).all()
    assert (species[:, 5] == quark_gluon.charge(ids)).all()
    assert (features.species(torch.tensor([0.0, 1e9])) == 0).all()


def test_released_species_of_a_photon_is_that_of_padding():
    assert torch.equal(features.released_species(torch.tensor([22.0, 0.0])), torch.zeros(2))
    assert features.released_species(torch.tensor([-13.0, 310.0])).tolist() == pytest.approx([1.3, 310.0])


def test_jet_features(jets):
    pt, y, phi, pid = jets.unbind(-1)
    p = features.momentum(pt, y, phi)
    matrix = features.jet_features(p, y, phi, pid)
    assert matrix.shape == (40, 11, 11)
    assert matrix.isfinite().all()
    assert torch.equal(matrix, matrix.mT)
    assert (matrix.diagonal(dim1=1, dim2=2) == 1).all()
    turned = features.jet_features(features.momentum(pt, y, phi + 1), y, phi + 1, pid)
    torch.testing.assert_close(turned, matrix, atol=2e-3, rtol=1e-3)  # log of a small |py| is not well conditioned
    released = features.jet_features(p, y, phi, pid, released=True)
    again = features.jet_features(features.momentum(pt, y, phi + 1), y, phi + 1, pid, released=True)
    assert (released - again)[:, 0, 1].abs().max() > 0.1


def test_moments_of_a_symmetric_jet_vanish():
    jet = torch.tensor([[[100.0, 0.1, 0.1, 22.0], [100.0, -0.1, 0.1, 22.0], [100.0, 0.1, -0.1, 22.0]]])
    jet = torch.cat([jet, torch.tensor([[[100.0, -0.1, -0.1, 22.0]]])], dim=1)
    pt, y, phi, pid = jet.unbind(-1)
    matrix = features.jet_features(features.momentum(pt, y, phi), y, phi, pid)[0]
    assert matrix[10, 7:9].abs().max() < 1e-5  # A and B
    assert matrix[10, 9].item() == pytest.approx(math.sqrt(0.02), rel=0.01)  # R, but for the recoil
    assert features.particle_features(features.momentum(pt, y, phi))[0, :, 2].sum().item() == pytest.approx(1, abs=0.01)


# The network.


def scores(model, constituents):
    model.eval()
    with torch.no_grad():
        return model(constituents)


@pytest.mark.parametrize("share_blocks", [True, False])
def test_order_of_particles_does_not_matter(jets, share_blocks):
    model = build(share_blocks=share_blocks)
    order = torch.randperm(jets.shape[1], generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(scores(model, jets[:, order]), scores(model, jets), atol=1e-5, rtol=0)


def test_order_of_particles_matters_as_published(jets):
    """Reshaping where one has to transpose mixes particles with channels."""
    model = published()
    order = torch.randperm(100, generator=torch.Generator().manual_seed(2))
    jets = jets[:8, :100]
    assert (scores(model, jets[:, order]) - scores(model, jets)).abs().max() > 1e-4


def test_azimuth_of_the_jet_does_not_matter(jets):
    model = build()
    turned = jets.clone()
    turned[..., 2] += 2.0 * (turned[..., 0] > 0)
    torch.testing.assert_close(scores(model, turned), scores(model, jets), atol=2e-4, rtol=0)
    model = build(faults=["wrong_phi"])
    assert (scores(model, turned) - scores(model, jets)).abs().max() > 1e-3


def test_padding_does_not_matter(jets):
    short = jets[:, : int((jets[..., 0] > 0).sum(1).max())]
    long = F.pad(short, (0, 0, 5, 30))
    model = build()
    torch.testing.assert_close(scores(model, long), scores(model, short), atol=1e-6, rtol=0)
    model = build(faults=["no_mask"], max_constituents=110)
    assert torch.equal(scores(model, F.pad(short, (0, 0, 0, 30))), scores(model, short))


@pytest.mark.parametrize("strategy", ["none", "attention", "all"])
def test_a_jet_has_one_score(jets, strategy):
    """In any batch and at any place in it. The integers of equations 1-3 are exact; what is left is the rounding of
    float32 sums before them, which now and then moves a code by one."""
    model = build(strategy)
    together = scores(model, jets)
    alone = torch.cat([scores(model, jet[None]) for jet in jets])
    atol = 1e-5 if strategy == "none" else 2e-3
    torch.testing.assert_close(alone, together, atol=atol, rtol=0)
    torch.testing.assert_close(scores(model, jets.flip(0)).flip(0), together, atol=atol, rtol=0)


def test_one_scale_for_the_tensor_gives_a_jet_many_scores(jets):
    model = build("all", spec=QuantSpec.paper())
    alone = torch.cat([scores(model, jet[None]) for jet in jets])
    assert (alone - scores(model, jets)).abs().max() > 0.01


@pytest.mark.parametrize("strategy", ["none", "all"])
@pytest.mark.parametrize("n", [1, 2, 5, 100, 139])
def test_jets_of_any_size(n, strategy):
    model, jet = build(strategy), artificial(n)
    for mode in (True, False):  # a batch of one
        model.train(mode)
        score = model(jet)
        assert score.shape == (1,)
        assert score.isfinite().all()
    score.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_only_the_leading_constituents_count():
    model, jet = build(max_constituents=100), artificial(139)
    leading = jet[:, jet[0, :, 0].argsort(descending=True)[:100]]
    torch.testing.assert_close(scores(model, jet), scores(model, leading), atol=1e-5, rtol=0)
    assert (scores(build(max_constituents=139), jet) - scores(model, jet)).abs().max() > 1e-4


def test_jets_of_different_sizes_in_one_batch():
    model = build("attention")
    jets = [artificial(n, seed=n) for n in (139, 1, 60, 2, 100)]
    batch = torch.cat([F.pad(jet, (0, 0, 0, 139 - jet.shape[1])) for jet in jets])
    torch.testing.assert_close(scores(model, batch), torch.cat([scores(model, jet) for jet in jets]), atol=2e-3, rtol=0)


def test_wrong_input_is_refused(jets):
    model = build()
    batch = jets[:4].clone()
    batch[2] = 0
    with pytest.raises(ValueError, match=r"no constituent with pt > 0 in the jets \[2\]"):
        model(batch)
    with pytest.raises(ValueError, match=r"shape \(jets, particles, 4\).*not torch.float32 of shape \(4, 139, 3\)"):
        model(jets[:4, :, :3])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embed": 30}, "embed must be a positive multiple of heads, but embed=30, heads=8"),
        ({"max_constituents": 0}, "max_constituents=0"),
        ({"neighbours": (0, 20)}, r"neighbours=\(0, 20\)"),
        ({"faults": ["no_masks"]}, "allowed are collections of double_softmax, no_mask, wrong_phi"),
        ({"faults": "no_mask"}, "faults='no_mask'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PDAT(**arguments)


def test_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="strategy='half', allowed are none, attention, attention.features, all"):
        PDAT.build("half")


def test_attention_maps(jets):
    model = build().eval()
    for jet in jets[:3]:
        n = int((jet[:, 0] > 0).sum())
        particle, channel = model.attention_maps(jet)
        assert particle.shape == (2, 4, n, n)
        assert channel.shape == (2, 16, 16)
        for maps in (particle, channel):
            torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))


def test_double_softmax():
    """The published loss, in the order of section 5: class 0, logits (4, -4), (0, 0), (-4, 4)."""
    logits = torch.tensor([[4.0, -4.0], [0.0, 0.0], [-4.0, 4.0]], requires_grad=True)
    label = torch.zeros(3)
    for fault, loss, slope in (
        (True, [0.3134421, 0.6931472, 1.3127714], [-1.804e-4, -0.25, -4.90e-4]),
        (False, [3.354e-4, 0.6931472, 8.0003357], [-3.3534e-4, -0.5, -0.9996647]),
    ):
        model = build(faults=["double_softmax"] if fault else [])
        model.classifier = torch.nn.Identity()
        score = model.score(logits)
        losses = F.binary_cross_entropy_with_logits(score, label, reduction="none")
        torch.testing.assert_close(losses, torch.tensor(loss), atol=1e-6, rtol=1e-4)
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        torch.testing.assert_close(gradient[:, 0], torch.tensor(slope), atol=1e-6, rtol=2e-3)


def test_published_second_edge_conv_sees_no_neighbour(jets):
    """What it computes from k neighbours is a function of the particle alone."""
    model = published().eval()
    layout = Ragged(torch.tensor([7, 12]))
    x = torch.randn(19, 128, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(model._second_edge_conv(x, layout), model.edge_conv2(x), atol=1e-6, rtol=0)
        model = build().eval()
        x = x[:, :32]
        moved = x.clone()
        moved[0] += 1  # one particle of the first jet
        change = (model._second_edge_conv(moved, layout) - model._second_edge_conv(x, layout)).abs().amax(1)
    assert (change[1:7] > 1e-4).any()  # its neighbours notice
    assert (change[7:] == 0).all()  # the other jet does not


@pytest.mark.parametrize("faults", [[fault] for fault in FAULTS] + [list(FAULTS)])
def test_each_fault_can_be_trained(jets, faults):
    model = build(faults=faults)
    before = scores(build(), jets[:8])
    assert (scores(model, jets[:8]) - before).abs().max() > 1e-4
    model.train()(jets[:8]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_published_network_can_be_trained(jets):
    model = published(max_constituents=20, neighbours=(5, 5))
    model(jets[:8]).sum().backward()
    reached = {name for name, p in model.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in model.named_parameters() if "never_called" not in name}


@pytest.mark.parametrize("strategy", ["none", "attention", "all"])
def test_training_lowers_the_loss(jets, strategy):
    model, jets = build(strategy, dropout=0.0), jets[:16]
    label = (jets[..., 0] > 0).sum(1).gt(40).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator_state = torch.get_rng_state()
    torch.manual_seed(0)
    losses = []
    for _ in range(25):
        loss = F.binary_cross_entropy_with_logits(model(jets), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    torch.set_rng_state(generator_state)
    assert losses[-1] < 0.5 * losses[0]
    assert any(isinstance(m, BitLinear) for m in model.modules()) == (strategy != "none")


@pytest.mark.parametrize("strategy", ["none", "all"])
def test_computing_twice_gives_the_same_gradients(jets, strategy):
    gradients = []
    for recompute in (True, False):
        model = build(strategy, recompute=recompute).eval()
        model(jets).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_full_precision_weights_load_into_bits(jets):
    model = build()
    bits = build("all", seed=2)
    bits.load_state_dict(model.state_dict())
    assert (scores(bits, jets) - scores(model, jets)).abs().max() > 1e-4


# The layout without padding.


def test_ragged_lists_and_tables():
    layout = Ragged(torch.tensor([2, 3]))
    x = torch.arange(1.0, 6.0).unsqueeze(1)
    assert layout.pad(x).squeeze(-1).tolist() == [[1, 2, 0], [3, 4, 5]]
    assert torch.equal(layout.unpad(layout.pad(x)), x)
    assert layout.mean(x).flatten().tolist() == [1.5, 4]
    assert [rows.tolist() for rows in layout.pairs] == [[0, 2, 2, 3], [1, 3, 4, 4]]
    table = layout.table(torch.tensor([[10.0], [20.0], [30.0], [40.0]]), torch.tensor([[7.0]]))[0]
    assert table[0, :2, :2].tolist() == [[7, 10], [10, 7]]
    assert table[1].tolist() == [[7, 20, 30], [20, 7, 40], [30, 40, 7]]
    assert (table[0, :, 2] == table[0, 0, 2]).all()
    assert table[0, 0, 2] < -1e4


def test_neighbours_are_the_nearest_of_the_same_jet(jets):
    counts = torch.tensor([2, 9, 30])
    layout = Ragged(counts)
    for width in (2, 5):  # the plane, and features
        x = torch.randn(41, width, generator=torch.Generator().manual_seed(width))
        rows, real = layout.neighbours(x, 6)
        assert real.sum(1).tolist() == [2] * 2 + [6] * 39
        for i in range(41):
            jet = (layout.jet == layout.jet[i]).nonzero().flatten()
            nearest = jet[(x[jet] - x[i]).square().sum(1).argsort()[:6]]
            assert set(rows[i][real[i]].tolist()) == set(nearest.tolist())
            assert (rows[i][~real[i]] == i).all()


def test_groups_cover_the_batch():
    layout = Ragged(torch.tensor([1, 1, 2, 3, 5]))
    assert [rows for rows, _ in layout.groups] == [slice(0, 2), slice(2, 7), slice(7, 12)]
    assert [group.counts.tolist() for _, group in layout.groups] == [[1, 1], [2, 3], [5]]
