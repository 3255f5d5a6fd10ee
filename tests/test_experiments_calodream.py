"""The stored runs of chapter 5: put together, judged, recorded, compared, concluded."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import bithep_lib
from bithep_lib import paper, study
from bithep_lib.bitlinear import BitLinear, QuantSpec
from bithep_lib.data.calochallenge import load
from bithep_lib.experiments import calodream, calodream_claims, calodream_studies
from bithep_lib.experiments.calodream_variants import VARIANTS, Part, Variant, build
from bithep_lib.models.calodream import CaloDREAM

SIZES = {"energy": {"width": 48, "depth": 1, "feedforward": 8, "velocity_width": 8}, "shape": {"width": 12, "depth": 1}}
PLAIN, BITS = "calodream/regular/regular", "calodream/quantized/no_embedding"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return calodream.Campaign(study.setup("calodream", scale="smoke", output_dir=folder, n_train=60, n_reference=60))


@pytest.fixture(scope="module")
def outcomes(campaign):
    return {name: campaign.train(name, 1) for name in (PLAIN, BITS)}


def content(path):
    return json.loads(path.read_text())


def test_a_combination_is_put_together_from_two_trainings(campaign, outcomes):
    """The energy network of one combination is, number by number, that of any other with the same energy network."""
    name = "calodream/quantized/regular"
    model, _, result = campaign.fit(name, 1)
    assert result.resumed_from == campaign.run.epochs  # both networks were there
    both = {other: campaign.fit(other, 1)[0] for other in (PLAIN, BITS)}
    for part, other in (("energy", BITS), ("shape", PLAIN)):
        mine, theirs = (m.get_submodule(part).state_dict() for m in (model, both[other]))
        assert all(torch.equal(mine[key], theirs[key]) for key in theirs)
    fresh, _ = campaign.build(VARIANTS[name], 1)
    changed = [not torch.equal(a, b) for a, b in zip(model.parameters(), fresh.parameters(), strict=True)]
    assert np.mean(changed) > 0.5  # trained; what is behind a modulation of zero waits for it


def test_a_record_says_how_well_both_networks_know_the_velocity(campaign, outcomes):
    metrics = content(campaign.record(BITS, 1, outcomes[BITS]))["metrics"]
    model, _, _ = campaign.fit(BITS, 1)
    again = calodream.velocity_errors(model, *campaign.tensors("reference"), seed=campaign.run.seed)
    assert metrics["velocity_shape"]["value"] == pytest.approx(again["velocity_shape"].mean(), rel=1e-5)
    assert metrics["velocity_energy"]["value"] == pytest.approx(again["velocity_energy"].mean(), rel=1e-5)
    assert 0.4 < metrics["auc_high"]["value"] <= 1
    pair = content(campaign.compare(PLAIN, BITS, (1,)))
    each = outcomes[BITS].velocity_energy - outcomes[PLAIN].velocity_energy
    assert pair["metrics"]["velocity_energy_difference"]["value"] == pytest.approx(each.mean(), rel=1e-5)


def test_a_stored_network_says_which_bundled_showers_it_has_not_seen(campaign):
    unseen = load("sample", "ds2").incident[campaign.about()["held_out_of_sample"]]
    seen = np.concatenate([campaign.referee.train.incident, campaign.referee.valid.incident])
    assert len(unseen) + len(seen) == 4000
    assert not np.isin(unseen, seen).any()
    assert np.isin(campaign.referee.reference.incident, unseen).all()


def test_a_stored_network_makes_the_same_showers(campaign, outcomes, tmp_path):
    path = campaign.store(BITS, 1, tmp_path)
    model = bithep_lib.load(f"calodream/{path.stem}", folder=tmp_path)
    trained, _, _ = campaign.fit(BITS, 1)
    energies = torch.tensor([2e3, 9e4])
    a, b = (m.sample(energies, seed=1, energy_steps=2, shape_steps=2) for m in (model, trained.eval()))
    assert torch.allclose(a.sum(1), b.sum(1), rtol=0.05)  # floats in 16 bits


def test_table_4_needs_all_six(campaign, outcomes, tmp_path):
    with pytest.raises(ValueError, match="all six combinations"):
        calodream_claims.conclude(campaign)
    run = study.setup(
        "calodream", scale="smoke", output_dir=tmp_path, n_train=60, n_reference=60, n_seeds=3
    )  # fmt: skip
    several = calodream.Campaign(run)
    rng = np.random.default_rng(1)
    cost = {"regular": 1.0, "no_embedding": 1.01, "full": 1.1}
    for seed in run.seeds:
        shared = rng.normal(1, 0.001, len(outcomes[PLAIN].velocity_shape))
        for name in calodream_claims.ROWS.values():
            made = replace(outcomes[PLAIN], velocity_shape=cost[name.split("/")[-1]] * shared)
            made.save(several.path(name, seed, "outcomes", "npz"))
    found = content(calodream_claims.conclude(several))
    measured = {name: study.Measurement(**value) for name, value in found["claims"].items()}
    assert measured["section5-embeddings-velocity"].value == pytest.approx(np.log(1.01 / 1.1), abs=1e-3)
    verdicts = study.judge(study.claims("calodream"), measured)
    assert verdicts["section5-embeddings-velocity"] == verdicts["section5-share"] == "confirmed"
    assert verdicts["table4-embeddings-high"] == "insensitive"  # the same showers in all outcomes
    assert verdicts["section5-width"] == "not attempted"
    assert len(found["curves"]["energy regular, shape full"]["seed"]) == 3


def test_one_training_has_no_spread_and_several_have_student_s():
    assert calodream_claims.over_trainings([(1.0, 0.1)]) == study.Measurement(1.0, 0.1)
    several = calodream_claims.over_trainings([(1.0, 0.0), (2.0, 0.0), (3.0, 0.0)])
    assert (several.value, several.dof) == (2.0, 2)
    assert several.error == pytest.approx(1 / np.sqrt(3))


def test_counts_decide_the_fractions_of_table_4(tmp_path):
    found = content(calodream_claims.count(study.setup("calodream", scale="smoke", output_dir=tmp_path)))
    measured = {name: study.Measurement(**value) for name, value in found["claims"].items()}
    verdicts = study.judge(study.claims("calodream"), measured)
    assert len(measured) == 3 + 5
    slips = {name for name, verdict in verdicts.items() if verdict == "contradicted"}
    assert slips == {
        "table4-fraction-energy-regular-shape-no-embedding",
        "table4-fraction-energy-quantized-shape-no-embedding",
    }
    assert set(calodream_claims.ROWS) == set(paper.TABLE_4.rows)


def test_solvers_come_closer_with_more_evaluations(campaign, outcomes, monkeypatch):
    monkeypatch.setattr(calodream_studies, "SHOWERS", {"energy": 20, "shape": 8})
    monkeypatch.setattr(calodream_studies, "SOLVERS", {"midpoint": (1, 8), "rk4": (4,)})
    monkeypatch.setattr(calodream_studies, "PUBLISHED", {"energy": ("rk4", 12), "shape": ("rk4", 12)})
    found = content(calodream_studies.solver(campaign))["curves"]["solver"]
    for part in ("energy", "shape"):
        error = {
            (method, steps): value
            for name, method, steps, value in zip(
                *(found[key] for key in ("part", "method", "steps", "error")), strict=True
            )
            if name == part
        }
        assert error[calodream_studies.PUBLISHED[part]] == 0
        assert error["rk4", 4] < error["midpoint", 8] < error["midpoint", 1]


def test_eight_bits_are_coarse_for_an_energy_among_ratios(campaign):
    metrics = content(calodream_studies.steps(campaign))["metrics"]
    model, _ = campaign.build(Variant(), 1)
    u, _, condition = model.encode(*campaign.tensors("reference"))
    largest = torch.cat([condition, u], dim=1).abs().amax(dim=1)
    assert metrics["energy_step"] == pytest.approx(float(torch.expm1(largest / 127 * np.log(1000)).median()), rel=1e-4)
    uniform = float((largest / 127 * np.log(1000)).square().mean().sqrt()) / np.sqrt(12)
    assert metrics["energy_error"] == pytest.approx(uniform, rel=0.3)
    assert metrics["times"] < metrics["times_x1000"] == 1001
    assert metrics["features"] < 128 < metrics["features_x1000"]


def test_the_test_bed_wants_its_showers(campaign):
    with pytest.raises(ValueError, match="data='gflash'"):
        campaign.fit("gflash/regular/regular width 48", 1)


def test_a_separate_energy_is_the_same_function_until_it_becomes_bits():
    whole = CaloDREAM(**SIZES).shape.condition_embedding
    apart = CaloDREAM(
        energy=SIZES["energy"], shape=SIZES["shape"] | {"separate_energy": True}
    ).shape.condition_embedding
    with torch.no_grad():
        apart.second.load_state_dict(whole.second.state_dict())
        apart.first.bias.copy_(whole.first.bias)
        apart.energy.weight.copy_(whole.first.weight[:, :1])
        apart.first.weight.copy_(whole.first.weight[:, 1:])
    c = torch.randn(5, 46)
    assert torch.allclose(apart(c), whole(c), atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_what_they_are_called(name):
    model, report = build(VARIANTS[name], 1, **SIZES)
    again, _ = build(VARIANTS[name], 1, **SIZES)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    bits = {key: module.spec for key, module in model.named_modules() if isinstance(module, BitLinear)}
    part = VARIANTS[name].shape
    assert ("energy.velocity.hidden.0" in bits) == ("quantized" in name)
    assert ("shape.blocks.0.qkv" in bits) == (part.setup not in ("regular", "mlp", "adaln"))
    assert ("shape.condition_embedding.first" in bits) == part.setup.startswith("full")
    if name.endswith("float embeddings"):
        assert bits["shape.x_embedding"] == QuantSpec(activation_bits=None) != bits["shape.blocks.0.qkv"]
    trainable = [key for key in bits if model.get_submodule(key).weight.requires_grad]
    assert bool(trainable) == (bool(bits) and not part.frozen)


def test_after_training_is_trained_without_bits():
    assert Part("full", after=True).trained == Part()
    assert Part("full", frozen=True).trained == Part("full", frozen=True)


def test_a_scan_of_the_learning_rate_is_for_both_alike(tmp_path):
    run = study.setup("calodream", scale="smoke", output_dir=tmp_path, n_train=40, n_reference=50, n_floor=50)
    found = content(calodream_studies.rates(run))
    scan = found["curves"]["scan"]
    assert len(scan["learning_rate"]) == 8
    for setup in ("regular", "no_embedding"):
        rows = [
            row for row in zip(scan["learning_rate"], scan["valid_loss"], scan["setup"], strict=True) if row[2] == setup
        ]
        assert found["metrics"][f"best_{setup}"] == min(rows, key=lambda row: row[1])[0]
