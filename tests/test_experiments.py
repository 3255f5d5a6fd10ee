"""The stored runs of chapter 2: trained once, continued, recorded, compared."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import bithep_lib
from bithep_lib import BitLinear, study
from bithep_lib.data import quark_gluon
from bithep_lib.evaluate import resampling, tagging
from bithep_lib.experiments import quark_gluon as experiments
from bithep_lib.experiments import supervised
from bithep_lib.experiments.variants import VARIANTS, bypass_attention
from bithep_lib.quantize import count
from bithep_lib.train import predict

PAIR = ("pfn/none", "pfn/all")


@pytest.fixture
def campaign(tmp_path):
    run = study.setup("quark_gluon", scale="smoke", output_dir=tmp_path, n_train=120, n_valid=60, n_test=200)
    return experiments.Campaign(run)


def test_a_training_is_done_once(campaign, monkeypatch):
    first = campaign.train("pdat/attention reduced", seed=2)
    path = campaign.record("pdat/attention reduced", 2, first)
    monkeypatch.setattr(supervised, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = campaign.train("pdat/attention reduced", seed=2)
    assert all(np.array_equal(getattr(first, name), getattr(again, name)) for name in first.__dataclass_fields__)
    assert campaign.record("pdat/attention reduced", 2, again) == path
    content = json.loads(path.read_text())
    assert content["metrics"]["auc"]["value"] == tagging.auc(first.test_label, first.test_logit)
    assert content["parameters"]["network"]["sizes"]["embed"] == 32
    assert content["seed"] == 2
    assert content["parameters"]["split_seed"] == 1
    found = study.records("quark_gluon", "smoke", "pdat/attention reduced", folder=campaign.run.output_dir)
    row = found.iloc[0]
    assert len(found) == 1
    assert row["fraction"] == pytest.approx(count(VARIANTS["pdat/attention reduced"].build(2)[0]).fraction)


def test_a_difference_is_recorded_with_its_seeds(campaign):
    with pytest.raises(ValueError, match="pfn/none with seed 1 has not been trained at scale smoke"):
        campaign.compare(*PAIR, seeds=(1, 2))
    outcomes = {(name, seed): campaign.train(name, seed) for name in PAIR for seed in (1, 2)}
    content = json.loads(campaign.compare(*PAIR, seeds=(1, 2)).read_text())
    expected = [
        tagging.auc(outcomes["pfn/all", s].test_label, outcomes["pfn/all", s].test_logit)
        - tagging.auc(outcomes["pfn/none", s].test_label, outcomes["pfn/none", s].test_logit)
        for s in (1, 2)
    ]
    assert content["curves"]["seeds"]["auc"] == pytest.approx(expected)
    assert content["metrics"]["auc_difference"]["value"] == pytest.approx(np.mean(expected))
    assert content["metrics"]["auc_difference"]["error"] > 0
    assert content["claims"] == {}


def test_the_claims_are_measured_on_logits():
    """Gaussian scores: the second tagger is worse by a known amount, overconfident, and varies twice as much."""
    rng = np.random.default_rng(0)
    label = np.repeat([1, 0], 6000).astype(np.int8)
    scores = 2 * rng.normal(label - 0.5, 1 / np.sqrt(2), 12_000)  # calibrated: the log-likelihood ratio of the two
    luck = rng.normal(0, 0.05, (5, 1))
    full = (scores + luck).astype(np.float32)
    bits = (2 * (scores + rng.normal(0, 0.3, 12_000)) + 8 * luck).astype(np.float32)
    differences = {
        metric: resampling.paired_difference(label, bits, full, metric=metric, threshold=0.0, n_resamples=50)
        for metric in resampling.METRICS
    }
    claims = experiments._claims(label, full, bits, differences)
    assert set(claims) == {claim.id for claim in study.claims("quark_gluon") if "fraction" not in claim.id}
    assert claims["table1-auc"].value == pytest.approx(differences["auc"].value)
    assert claims["conclusion-classification"].value == -claims["table1-auc"].value
    assert -1 < claims["table1-rej50"].value < 0
    assert claims["figure2-full"].value < 0.02 < claims["figure2-bits"].value
    assert claims["figure2-full"].dof == claims["figure2-band"].dof == 4
    assert claims["figure2-band"].value < -4 * claims["figure2-band"].error < 0


def test_pairs_share_jets_and_labels(campaign):
    a, b = (campaign.train(name, 1) for name in PAIR)
    assert np.array_equal(a.test_label, b.test_label)
    assert not np.array_equal(a.test_logit, b.test_logit)


def test_bits_after_training_come_from_the_same_weights(campaign):
    before, after = campaign.train("pfn/none", 1), campaign.train("pfn/all after training", 1)
    assert np.array_equal(before.valid_loss, after.valid_loss)
    assert not np.array_equal(before.test_logit, after.test_logit)


def test_a_stored_network_is_the_trained_one(campaign, tmp_path):
    with pytest.raises(ValueError, match="pfn/all with seed 1 has not been trained"):
        campaign.store("pfn/all", 1, tmp_path)
    outcome = campaign.train("pfn/all", 1)
    about = json.loads(campaign.store("pfn/all", 1, tmp_path).read_text())["about"]
    assert (about["variant"], about["seed"], about["data"]) == ("pfn/all", 1, campaign.fingerprint)
    model = bithep_lib.load("quark_gluon/pfn-all", folder=tmp_path)
    x, mask = quark_gluon.features(campaign.jets["test"], campaign.run.max_constituents)
    logit = predict(model, (torch.from_numpy(x), torch.from_numpy(mask))).numpy()
    assert np.abs(logit - outcome.test_logit).max() < 0.02  # biases in 16 bits


def test_training_sets_of_a_learning_curve_are_nested(tmp_path, monkeypatch):
    """More training jets than the scale has come from jets it does not use; validation and test jets stay."""
    monkeypatch.setattr(quark_gluon, "load", lambda source, n, load=quark_gluon.load: load("sample", n=n))
    parts = [
        experiments.Campaign(
            study.setup("quark_gluon", scale="smoke", data="simulate", output_dir=tmp_path, n_train=n)
        ).jets
        for n in (120, 300, 500)
    ]
    assert [len(part["train"]) for part in parts] == [120, 300, 500]
    fingerprints = [{part[name].fingerprint for part in parts} for name in ("valid", "test")]
    assert [len(found) for found in fingerprints] == [1, 1]
    for small, large in zip(parts[:-1], parts[1:], strict=True):
        assert large["train"][: len(small["train"])].fingerprint == small["train"].fingerprint
    rows = np.concatenate([parts[-1][name].constituents for name in ("train", "valid", "test")])
    assert len(np.unique(rows.reshape(len(rows), -1), axis=0)) == len(rows)


def test_attention_can_be_bypassed_and_brought_back():
    jets = torch.from_numpy(quark_gluon.load("sample", n=8).constituents)
    model, without = (VARIANTS[f"pdat/none{end} reduced"].build(1)[0].eval() for end in ("", " without attention"))
    before = model(jets)
    handles = bypass_attention(model)
    assert torch.equal(model(jets), without(jets))
    assert not torch.allclose(model(jets), before)
    without(jets).sum().backward()
    assert all(p.grad is None for name, p in without.named_parameters() if "attention" in name)
    for handle in handles:
        handle.remove()
    assert torch.equal(model(jets), before)


def test_frozen_bits_stay_as_they_were():
    model, report = VARIANTS["pdat/attention frozen"].build(1)
    for name, module in model.named_modules():
        if isinstance(module, BitLinear):
            assert not any(p.requires_grad for p in module.parameters()), name
    assert sum(p.requires_grad for p in model.parameters()) == len(list(model.parameters())) - 2 * len(report.quantized)


def test_the_time_limit_is_kept(tmp_path):
    run = study.setup("quark_gluon", scale="smoke", output_dir=tmp_path, max_minutes=1e-6)
    assert experiments.Campaign(run).train("pfn/none", 1) is None
    assert run.left_out == ["pfn/none with seed 1 after 0 of 1 epochs"]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_be_built_from_its_seed(name):
    a, b, c = (VARIANTS[name].build(seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(np.array_equal(a[key], b[key]) for key in a)
    assert not all(np.array_equal(a[key], c[key]) for key in a)


@pytest.mark.parametrize(
    ("bits", "small"),
    [
        ("pdat/attention", "pdat/none equal bytes"),
        ("pdat/attention reduced", "pdat/none equal bytes reduced"),
        ("pfn/all", "pfn/none equal bytes"),
    ],
)
def test_equal_bytes_are_equal(bits, small):
    """The smaller float network takes the bytes of the ternary one (2-bit codes), within 10 %."""
    size = VARIANTS[bits].build(1)[1].bytes.two_bit
    assert VARIANTS[small].build(1)[1].bytes.float32 == pytest.approx(size, rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pdat/atention"], "there is no variant 'pdat/atention'; did you mean 'pdat/attention'"),
        (["pfn/none", "-p", "scale"], "-p scale: write NAME=VALUE"),
        (["pfn/none", "-p", "scale=lapptop"], "scale='lapptop' is not allowed"),
        (["pfn/none", "-p", "scale=smoke", "-p", "n_trains=5"], "did you mean 'n_train'"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message, capsys):
    assert experiments.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_the_command_line(tmp_path, capsys):
    assert experiments.main(["--list"]) == 0
    assert set(capsys.readouterr().out.splitlines()) == set(VARIANTS)
    options = ["-p", "scale=smoke", "-p", f"output_dir={tmp_path}", "-p", "n_train=120", "--seeds", "3", "4"]
    assert experiments.main([*PAIR, "--compare", *PAIR, *options]) == 0
    names = [line.rsplit("/", 1)[1].rsplit("-", 1)[0] for line in capsys.readouterr().out.split()]
    assert names == ["pfn_none-seed3", "pfn_all-seed3", "pfn_none-seed4", "pfn_all-seed4", "pfn_all_-_pfn_none-seed3"]


def test_what_is_quantised_is_counted_without_training(tmp_path, capsys):
    assert experiments.main(["--count", "-p", "scale=book", "-p", f"output_dir={tmp_path}"]) == 0
    found = json.loads(Path(capsys.readouterr().out.strip()).read_text())
    assert found["metrics"]["published_parameters"] == 497_678
    assert round(100 * found["metrics"]["published_fraction_weights"], 2) == 62.75
    assert round(found["claims"]["section3-fraction"]["value"], 2) == 62.69
    assert round(found["claims"]["section3-fraction-used"]["value"], 2) == 21.31
