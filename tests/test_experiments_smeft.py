"""The stored runs of chapter 3: recorded, compared, concluded."""

import json

import numpy as np
import pytest

import bithep_lib
from bithep_lib import study
from bithep_lib.data import wz
from bithep_lib.evaluate import regression
from bithep_lib.experiments import smeft, smeft_claims
from bithep_lib.experiments.smeft_variants import VARIANTS

TABLE = list(smeft_claims.ROWS.values())


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return smeft.Campaign(study.setup("smeft", scale="smoke", output_dir=folder, n_seeds=2, n_test=300))


def content(path):
    return json.loads(path.read_text())


def test_a_training_is_judged_beside_the_moment_axis(campaign):
    name = "smeftnet/all"
    outcome = campaign.train(name, 1)
    again = campaign.train(name, 1)
    assert all(np.array_equal(getattr(outcome, key), getattr(again, key)) for key in outcome.__dataclass_fields__)
    metrics = content(campaign.record(name, 1, outcome))["metrics"]
    test = campaign.jets["test"]
    sin2 = regression.sin2_delta(outcome.angle, test.phi_decay)
    axis = regression.sin2_delta(wz.moment_axis(test), test.phi_decay)
    assert metrics["sin2"]["value"] == pytest.approx(sin2.mean())
    assert metrics["sin2_minus_axis"]["value"] == pytest.approx((sin2 - axis).mean())
    assert metrics["dilution"] == pytest.approx(1 - 2 * sin2.mean())
    assert metrics["fraction_weights"] == 1


@pytest.mark.parametrize("name", ["smeftnet/message_passing", "smeftnet/all as published"])
def test_a_stored_network_is_the_trained_one(campaign, tmp_path, name):
    outcome = campaign.train(name, 1)
    path = campaign.store(name, 1, tmp_path)
    model = bithep_lib.load(f"smeft/{path.stem}", folder=tmp_path)
    angle = campaign.judge(model, campaign.inputs)["angle"]
    assert np.abs(regression.residuals(angle, outcome.angle, period=np.pi)).max() < 0.05  # floats in 16 bits


def test_references_know_what_they_must(campaign):
    found = {item["variant"]: item["metrics"] for item in map(content, campaign.references())}
    assert found["true angle"]["sin2"]["value"] == pytest.approx(0, abs=1e-12)
    assert found["moment axis"]["sin2_minus_axis"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["moment axis"]["sin2"]["value"] < 0.05
    assert found["by lot"]["sin2"]["value"] == pytest.approx(0.5, abs=0.1)


def test_table_2_needs_all_of_its_rows(campaign):
    with pytest.raises(ValueError, match="has not been trained"):
        smeft_claims.conclude(campaign)
    for seed in campaign.run.seeds:
        for name in TABLE:
            campaign.train(name, seed)
    found = content(smeft_claims.conclude(campaign))
    reference, other = (campaign.finished(TABLE[0], 1), campaign.finished(TABLE[1], 2))
    a, b = (regression.residuals(outcome.angle, outcome.truth) for outcome in (reference, other))
    assert found["curves"]["all"]["seed"] == [2]
    assert found["metrics"]["all_wasserstein_circle"] == pytest.approx(regression.circular_wasserstein(a, b))
    assert found["claims"] == {}  # two trainings have no error
    pair = content(campaign.compare(TABLE[0], TABLE[1], (1, 2)))
    each = [smeft_claims.worse(campaign.finished(TABLE[0], s), campaign.finished(TABLE[1], s)).mean() for s in (1, 2)]
    assert pair["curves"]["seeds"]["sin2"] == pytest.approx(each)


def test_five_trainings_decide_the_claims(campaign, tmp_path):
    """With the outcomes of networks that are as good as we say."""
    run = study.setup("smeft", scale="smoke", output_dir=tmp_path, n_seeds=5, n_test=300)
    larger = smeft.Campaign(run)
    truth, rng = larger.jets["test"].phi_decay, np.random.default_rng(1)
    errors = dict(zip(TABLE, (0.05, 0.3, 0.2, 0.06), strict=True))
    errors |= {"smeftnet/none as published": 0.6, "smeftnet/all as published": 0.9, smeft_claims.VECTOR: 0.05}
    for name, error in errors.items():
        for seed in run.seeds:
            angle = truth + rng.normal(0, error, len(truth)).astype(np.float32)
            smeft._outcome(truth, angle, angle, angle).save(larger.path(name, seed, "outcomes", "npz"))
    found = content(smeft_claims.conclude(larger))["claims"]
    measured = {name: study.Measurement(**value) for name, value in found.items()}
    verdicts = study.judge(study.claims("smeft"), measured)
    assert verdicts["table2-bit30-bit70"] == verdicts["conclusion-fraction"] == "confirmed"
    assert verdicts["conclusion-mlp"] == verdicts["figure4-tails"] == "confirmed"
    assert verdicts["table2-bit70-bit"] == "confirmed"
    assert verdicts["figure3-cause"] == "contradicted"
    assert verdicts["figure3-width"] == "confirmed"
    assert measured["conclusion-free"].dof == 4


def test_what_needs_no_training(campaign):
    found = content(smeft_claims.count(campaign.run))
    verdicts = study.judge(
        study.claims("smeft"), {name: study.Measurement(**value) for name, value in found["claims"].items()}
    )
    assert found["metrics"]["published_bit30_fraction_weights"] == pytest.approx(590 / (590 + 1472))
    assert found["metrics"]["published_bit30_fraction_macs"] > 0.99
    assert verdicts["section4-bit30-weights"] == verdicts["section4-bit70-weights"] == "confirmed"
    assert verdicts["section4-bit30-multiply-adds"] == verdicts["table2-separation"] == "contradicted"


def test_stress_leaves_the_jets_and_adds_what_it_says(campaign):
    inputs = campaign.inputs["test"]
    found = smeft.stressed(inputs, seed=1)
    for before, after in zip(inputs[:3], found["soft"][:3], strict=True):
        assert np.array_equal(before, after[:, : before.shape[1]])
    assert float(found["soft"][0][:, 40:].sum(1).mean()) == pytest.approx(smeft.SOFT["particles"] * smeft.SOFT["pt"])
    moved = (found["smeared"][1] - inputs[1])[inputs[2]]
    assert float(moved.std()) == pytest.approx(smeft.SMEARING, rel=0.02)
    assert not (found["smeared"][1] - inputs[1])[~inputs[2]].any()


def test_equal_bytes_are_equal():
    bits = VARIANTS["smeftnet/all"].build(1)[1].bytes.two_bit
    assert VARIANTS["smeftnet/none equal bytes"].build(1)[1].bytes.float32 == pytest.approx(bits, rel=0.1)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_be_built_from_its_seed(name):
    a, b, c = (VARIANTS[name].build(seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(np.array_equal(a[key], b[key]) for key in a)
    assert not all(np.array_equal(a[key], c[key]) for key in a)
