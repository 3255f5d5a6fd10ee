"""SMEFTNet: counts, the three promises for every strategy, what the released construction breaks, and learning."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bithep_lib import BitLinear, QuantSpec, pack, quantize_
from bithep_lib.data import wz
from bithep_lib.models import SMEFTNet
from bithep_lib.models.message_passing import RunningNorm, neighbourhoods
from bithep_lib.models.smeftnet_released import neighbours
from bithep_lib.simulate.micro_mc import micro_mc
from bithep_lib.train import AngleTask, fit, predict, sin2_loss

STRATEGIES = list(SMEFTNet.strategies)


def inputs(pt, xy, jet_pt, dtype=torch.float32):
    pt, xy, jet_pt = (torch.as_tensor(np.asarray(x)).to(dtype) for x in (pt, xy, jet_pt))
    return pt, xy, pt > 0, jet_pt


@pytest.fixture(scope="module")
def jets():
    """32 jets of W bosons, at most 35 particles in 40 slots."""
    some = wz.load("sample", n=32)
    pt, xy, _ = wz.features(some)
    pt = np.where(np.arange(40) < 35, pt, 0)
    return inputs(pt, xy, some.jet_pt)


def toy(n, seed):
    some = micro_mc(n, seed)
    return (*inputs(some.pt, some.xy, some.pt.sum(1)), torch.from_numpy(some.phi))


@functools.cache
def prepared(strategy, as_published):
    """A network whose weights are all far from where they begin, with the running numbers of some jets."""
    some = wz.load("sample", n=64)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model, _ = SMEFTNet.build(strategy, as_published=as_published)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
            for module in model.modules():
                if isinstance(module, torch.nn.BatchNorm1d):
                    module.momentum = None  # plain averages, so that few batches are enough
            for _ in range(3):
                model.train()(*inputs(some.pt, wz.features(some)[1], some.jet_pt))
    return model.eval()


def build(strategy="none", dtype=torch.float32, *, as_published=False):
    return copy.deepcopy(prepared(strategy, as_published)).to(dtype)


def as_double(jets):
    return tuple(x.double() if x.is_floating_point() else x for x in jets)


def angles(model, *jets):
    with torch.no_grad():
        return model.angle(model(*jets))


def distance(a, b):
    """The largest difference of two angles modulo pi."""
    return torch.sin(a - b).abs().max().item()


def rotated(xy, angle):
    c, s = math.cos(angle), math.sin(angle)
    return xy @ torch.tensor([[c, s], [-s, c]], dtype=xy.dtype)


# Counts: section 4 of the facts behind the book, from the released architecture.

COUNTS = [  # layers; all parameters; weights of messages and read-out; % of parameters Bit30, Bit70, Bit
    ([(20, 20)], 2588, (520, 1792), (22.0, 71.8, 94.9)),
    ([(20, 20), (20, 20)], 4329, (2180, 1792), (53.2, 42.9, 96.9)),
    (None, 2339, (590, 1472), (27.5, 65.7, 94.3)),
    ([(10, 10)], 1868, (160, 1472), (9.8, 82.3, 93.0)),
    ([(10, 10), (20, 20)], 3329, (1220, 1792), (39.2, 55.8, 96.0)),
]


@pytest.mark.parametrize(("layers", "total", "weights", "percent"), COUNTS)
def test_published_counts(layers, total, weights, percent):
    reports = {s: SMEFTNet.build(s, as_published=True, layers=layers)[1] for s in STRATEGIES}
    assert reports["none"].parameters == reports["mlp"].parameters == total
    normalisation = 2 * sum(hidden for hidden, _ in layers or [(10, 10)] * 2)  # the class of the bits has none
    assert reports["all"].parameters == reports["message_passing"].parameters == total - normalisation
    blocks = ("message_passing", "mlp")
    assert tuple(sum(layer.weights for layer in reports[s].quantized) for s in blocks) == weights
    for strategy, expected in zip((*blocks, "all"), percent, strict=True):
        assert 100 * reports[strategy].fraction == pytest.approx(expected, abs=0.05)


def test_published_fractions():
    fractions = [SMEFTNet.build(s, as_published=True)[1].fraction_weights for s in ("message_passing", "mlp", "all")]
    assert fractions == [590 / 2062, 1472 / 2062, 1]  # 28.6 %, 71.4 %, 100 %


def test_published_arithmetic():
    """Two layers [20, 20] and 21 neighbours, as the paper's radius gives on average: 99.9 % are messages."""
    pt, xy, mask, jet_pt = dense_jets(8)
    _, report = SMEFTNet.build(
        "message_passing", as_published=True, layers=[(20, 20)] * 2, example=(pt, xy, mask, jet_pt)
    )
    assert report.fraction_macs > 0.999
    assert report.used == report.parameters


def dense_jets(n, seed=1):
    """40 particles in each, so close in theta and phi that half of all pairs are neighbours."""
    generator = torch.Generator().manual_seed(seed)
    theta, phi = torch.rand(2, n, 40, generator=generator) * torch.tensor([0.5, 0.75]).view(2, 1, 1) + 0.05
    xy = torch.stack([theta * phi.cos(), theta * phi.sin()], dim=-1)
    return (
        torch.rand(n, 40, generator=generator) + 0.1,
        xy,
        torch.ones(n, 40, dtype=torch.bool),
        torch.full((n,), 600.0),
    )


def test_default_fractions(jets):
    reports = {s: SMEFTNet.build(s, example=jets)[1] for s in STRATEGIES}
    assert 0.28 < reports["message_passing"].fraction_weights < 0.32
    assert reports["mlp"].fraction_weights + reports["message_passing"].fraction_weights == pytest.approx(1)
    assert reports["all"].fraction_weights == 1
    by_weights = [sum(layer.macs for layer in reports[s].quantized) for s in ("message_passing", "all")]
    assert by_weights[0] / by_weights[1] > 0.94
    assert reports["none"].macs / 32 < 165_000
    assert len({r.parameters for r in reports.values()}) == len({r.macs for r in reports.values()}) == 1
    assert all(r.used == r.parameters for r in reports.values())


def test_meta_device():
    with torch.device("meta"):
        model, report = SMEFTNet.build("mlp", as_published=True)
    assert next(model.parameters()).is_meta
    assert report.parameters == 2339


# The three promises. In float64 they hold to rounding, for bits as for floats: all inputs of a quantised layer are
# invariants, which rounding moves by 1e-15, and nearly never over the border between two codes. In float32 the same
# inputs move by 1e-7, and now and then one code of one particle changes by one.

CODE = 5e-3
"""Float32, quantised: what one code of one particle may move the angle by, in rad."""


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return request.param


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def case(request, strategy, jets):
    """A network, jets in its precision, and the tolerance."""
    dtype = request.param
    tolerance = 1e-9 if dtype == torch.float64 else 5e-6 if strategy == "none" else CODE
    model = build(strategy, dtype)
    return model, jets if dtype == torch.float32 else as_double(jets), tolerance


def test_output_turns_with_the_jet(case):
    model, (pt, xy, mask, jet_pt), tolerance = case
    before = angles(model, pt, xy, mask, jet_pt)
    for angle in (0.3, 1.57, -2.5):
        assert distance(angles(model, pt, rotated(xy, angle), mask, jet_pt), before + angle) < tolerance


def test_order_of_particles_does_not_matter(case):
    model, (pt, xy, mask, jet_pt), tolerance = case
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    assert (
        distance(angles(model, pt[:, order], xy[:, order], mask[:, order], jet_pt), angles(model, *case[1])) < tolerance
    )


def add_soft(jets, pt_soft, seed=3):
    """Five more particles, in slots that were empty."""
    pt, xy, mask, jet_pt = (x.clone() for x in jets)
    pt[:, 35:], mask[:, 35:] = pt_soft, True
    xy[:, 35:] = 0.3 * torch.randn(xy[:, 35:].shape, generator=torch.Generator().manual_seed(seed), dtype=xy.dtype)
    return pt, xy, mask, jet_pt


def test_five_soft_particles_change_nothing(case):
    """1e-9 GeV is 1e-12 of a jet: less than float32 resolves, so there not a bit changes, quantised or not."""
    model, jets, _ = case
    before, after = angles(model, *jets), angles(model, *add_soft(jets, 1e-9))
    if before.dtype == torch.float32:
        assert distance(before, after) < 2e-7
    else:
        assert distance(before, after) < 1e-9


def test_change_falls_with_the_energy_of_soft_particles(jets):
    model, jets = build(dtype=torch.float64), as_double(jets)
    before = angles(model, *jets)
    moved = [distance(before, angles(model, *add_soft(jets, pt))) for pt in (1e-1, 1e-3, 1e-5)]
    assert 1e-6 < moved[0]
    assert moved[2] < 2e-2 * moved[1] < 1e-3 * moved[0]


def split(jets, share=0.3):
    """The hardest particle in two of the same direction."""
    pt, xy, mask, jet_pt = (x.clone() for x in jets)
    pt[:, 35], xy[:, 35], mask[:, 35] = share * pt[:, 0], xy[:, 0], True
    pt[:, 0] *= 1 - share
    return pt, xy, mask, jet_pt


def test_collinear_splitting_changes_nothing(case):
    model, jets, tolerance = case
    assert distance(angles(model, *jets), angles(model, *split(jets))) < tolerance


def test_crossing_the_radius_is_smooth():
    """Two particles at the radius: the neighbourhood closes continuously."""
    for step in (-1e-4, 1e-4):
        a = torch.tensor([[[0.0, 0.0], [1 + step, 0.0]]], dtype=torch.float64)
        weight, energy = neighbourhoods(a, torch.tensor([[0.5, 0.5]], dtype=torch.float64))
        assert weight[0, 0, 1] < 1e-6
        assert abs(energy[0, 0] - 0.5) < 1e-6


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_published_construction_breaks_the_promises(strategy, jets):
    model, jets = build(strategy, torch.float64, as_published=True), as_double(jets)
    before = angles(model, *jets)
    assert distance(angles(model, jets[0], rotated(jets[1], 0.3), *jets[2:]), before + 0.3) > 1e-3
    soft = [distance(before, angles(model, *add_soft(jets, pt))) for pt in (1e-6, 1e-9)]
    assert min(soft) > 1e-3
    assert soft[0] == pytest.approx(soft[1], rel=0.05)  # whatever the energy
    assert distance(before, angles(model, *split(jets))) > 1e-3
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))  # this one it keeps
    assert distance(angles(model, *(x[:, order] for x in jets[:3]), jets[3]), before) < 1e-9


def test_sender_weights_and_receiver_weights():
    """The weights of a neighbourhood are the energies of its members; as published they are all equal."""
    a = torch.tensor([[[0.0, 0.0], [0.5, 0.0], [9.0, 0.0]]])
    weight, energy = neighbourhoods(a, torch.tensor([[0.2, 0.3, 0.5]]))
    cut = (1 - 0.5**2) ** 2
    torch.testing.assert_close(energy, torch.tensor([[0.2 + 0.3 * cut, 0.3 + 0.2 * cut, 0.5]]))
    torch.testing.assert_close(weight[0, 0], torch.tensor([0.2, 0.3 * cut, 0.0]) / (0.2 + 0.3 * cut))
    torch.testing.assert_close(weight.sum(-1), torch.ones(1, 3))
    receiver, sender = neighbours(a[0], torch.zeros(3, dtype=torch.long), torch.arange(3), torch.Size([1, 3]), 1.0)
    assert list(zip(receiver.tolist(), sender.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2)]


# Jets of every kind.


def test_untrained_network_is_the_moment_axis(jets):
    pt, xy, *_ = jets
    expected = torch.from_numpy(wz.axis(pt.numpy(), xy.numpy()))
    model = SMEFTNet().eval()
    assert distance(angles(model, *jets), expected) < 1e-5


@pytest.mark.parametrize("as_published", [False, True])
def test_padding_and_batches(jets, as_published):
    model = build(as_published=as_published)
    pt, xy, mask, jet_pt = jets
    together = angles(model, *jets)
    wild = torch.where(mask.unsqueeze(-1), xy, torch.nan), torch.where(mask, pt, 7.0)
    assert distance(angles(model, wild[1], wild[0], mask, jet_pt), together) < 1e-6
    alone = torch.cat([angles(model, *(x[i : i + 1] for x in jets)) for i in range(len(pt))])
    assert distance(alone, together) < 1e-5
    assert distance(angles(model, *(x[:, :35] for x in jets[:3]), jet_pt), together) < 1e-5


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("as_published", [False, True])
def test_odd_jets(strategy, as_published):
    """One particle, one on the axis, all on the axis, particles of no energy: finite angles and gradients."""
    model = SMEFTNet.build(strategy, as_published=as_published)[0]
    if not as_published:
        with torch.no_grad():
            model.mixing += 0.1
            model.correction += 0.1
    pt = torch.tensor([[5.0, 0, 0], [5, 3, 0], [5, 3, 1], [5, 1e-30, 0]])
    xy = torch.tensor(
        [[[0.1, 0.2]] + [[0, 0]] * 2, [[0, 0], [0.1, 0], [0, 0]], [[0, 0]] * 3, [[0, 0.1], [0, 3], [0, 0]]]
    )
    mask = torch.tensor([[True, False, False], [True, True, False], [True] * 3, [True] * 3])
    output = model.train()(pt, xy, mask, torch.tensor([500.0, 600, 700, 1000]))
    sin2_loss(output, torch.tensor([0.1, 0.2, 0.3, 0.4])).mean().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    one = model.eval()(pt[:1], xy[:1], mask[:1], torch.tensor([500.0]))
    assert one.shape == ((1,) if as_published else (1, 2))


def test_one_particle_is_its_own_axis():
    model = build("all")
    phi = torch.tensor([0.1, 2.0, -3.0])
    xy = 0.3 * torch.stack([phi.cos(), phi.sin()], dim=-1).unsqueeze(1)
    found = angles(model, torch.full((3, 1), 600.0), xy, torch.ones(3, 1, dtype=torch.bool), torch.full((3,), 600.0))
    offset = found - phi  # an invariant: the same for all three
    assert distance(offset[1:], offset[:1]) < CODE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": []}, "layers"),
        ({"mlp": (32, 0)}, "mlp"),
        ({"radius": 0.0}, "radius"),
        ({"bit_class": ("mlp",)}, "as_published"),
        ({"bit_class": "mlp", "as_published": True}, "message_passing, mlp"),
    ],
)
def test_impossible_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        SMEFTNet(**change)


def test_wrong_inputs(jets):
    pt, xy, mask, jet_pt = jets
    model = SMEFTNet()
    with pytest.raises(ValueError, match="none, all, mlp, message_passing"):
        SMEFTNet.build("attention")
    for wrong in ((pt, xy[..., :1], mask, jet_pt), (pt, xy, mask[:3], jet_pt), (pt, xy, mask, jet_pt[:3])):
        with pytest.raises(ValueError, match="pt must be"):
            model(*wrong)
    with pytest.raises(ValueError, match="bool"):
        model(pt, xy, mask.float(), jet_pt)
    with pytest.raises(ValueError, match=r"\[1\]"):
        model(torch.where(torch.arange(32).unsqueeze(1) == 1, 0.0, pt), xy, mask, jet_pt)


# Bits.


@pytest.mark.parametrize("as_published", [False, True])
def test_packed_network_is_the_same(jets, as_published):
    model = build("all", as_published=as_published)
    with torch.no_grad():
        assert torch.equal(pack(model)(*jets), model(*jets))


def test_round_trips(jets):
    model = build("all")
    expected = angles(model, *jets)
    twin = copy.deepcopy(model)
    assert torch.equal(angles(twin, *jets), expected)
    full = SMEFTNet()
    full.load_state_dict(model.state_dict())  # the latent weights, and the same names
    assert not torch.equal(angles(full.eval(), *jets), expected)
    quantize_(full, SMEFTNet.strategies["all"])
    assert torch.equal(angles(full, *jets), expected)


@pytest.mark.parametrize("strategy", ["mlp", "message_passing"])
def test_strategies_are_blocks(strategy):
    for as_published in (False, True):
        model, _ = SMEFTNet.build(strategy, as_published=as_published)
        chosen = {name.split(".")[0] for name, module in model.named_modules() if isinstance(module, BitLinear)}
        assert chosen == {strategy}


def test_one_scale_for_the_tensor_breaks_the_soft_limit(jets):
    """With one scale a batch, a particle of no energy far away changes the codes of all others."""
    model = build("all", torch.float64)
    for module in model.modules():
        if isinstance(module, BitLinear):
            module.spec = QuantSpec.paper()
    jets = as_double(jets)
    pt, xy, mask, jet_pt = add_soft(jets, 1e-9)
    far = pt, torch.where(torch.arange(40).view(1, -1, 1) >= 35, 8 * xy, xy), mask, jet_pt
    assert distance(angles(model, *jets), angles(model, *far)) > 1e-5


def test_running_norm():
    norm, generator = RunningNorm(3), torch.Generator().manual_seed(0)
    for _ in range(300):
        norm(torch.randn(64, 3, generator=generator) * torch.tensor([0.01, 1, 50]) + torch.tensor([3.0, 0, -7]))
    torch.testing.assert_close(norm.mean, torch.tensor([3.0, 0, -7]), atol=0.6, rtol=0.01)
    torch.testing.assert_close(norm.variance.sqrt(), torch.tensor([0.01, 1, 50]), rtol=0.1, atol=0)
    x = torch.randn(1, 3, generator=generator)
    training = norm.train()(x)  # of a single row, and the same as in evaluation but for one more row in the averages
    torch.testing.assert_close(norm.eval()(x), training)


# The loss, and learning.


def test_loss_identities():
    phi = torch.linspace(-3, 3, 101, dtype=torch.float64)
    turned = lambda delta: torch.stack([torch.cos(2 * (phi + delta)), torch.sin(2 * (phi + delta))], dim=-1)  # noqa: E731
    for delta, expected in ((0.0, 0.0), (math.pi, 0.0), (math.pi / 2, 1.0), (0.4, math.sin(0.4) ** 2)):
        torch.testing.assert_close(sin2_loss(phi + delta, phi), torch.full_like(phi, expected))
        torch.testing.assert_close(sin2_loss(7 * turned(delta), phi), torch.full_like(phi, expected), atol=1e-9, rtol=0)
    zero = torch.zeros(1, 2, requires_grad=True)
    loss = sin2_loss(zero, torch.tensor([0.3]))
    loss.backward()
    assert loss.item() == 0.5
    assert zero.grad.isfinite().all()
    with pytest.raises(ValueError, match="shape"):
        sin2_loss(torch.zeros(3, 3), torch.zeros(3))


@given(st.floats(-20, 20))
def test_angle_of_an_angle(f):
    found = SMEFTNet.angle(torch.tensor([f], dtype=torch.float64)).item()
    assert -math.pi / 2 < found <= math.pi / 2
    assert abs(math.sin(found - f)) < 1e-9


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_learns(strategy):
    """On the toy: a guess has 0.5, the moment axis 0.0009, and a trained network less, also in bits."""
    train, valid = toy(512, 1), toy(256, 2)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = SMEFTNet.build(strategy)[0]
    untrained = sin2_loss(predict(model, valid[:-1]), valid[-1]).mean().item()
    result = fit(AngleTask(model), train, valid, epochs=4, batch_size=32, seed=1, progress=False)
    assert result.history["valid_loss"].min() < 0.97 * untrained < 0.003


def test_task_refuses_degrees(jets):
    train, valid = ((*(x[rows] for x in jets), torch.linspace(0, 180, 16)) for rows in (slice(16), slice(16, 32)))
    with pytest.raises(ValueError, match="train: angles must be radians"):
        fit(AngleTask(SMEFTNet()), train, valid, epochs=1, batch_size=8, seed=1, progress=False)
