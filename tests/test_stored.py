"""Stored networks: what comes back, and what is refused."""

import json

import pytest
import torch
from torch import nn

from bithep_lib import BitLinear, QuantSpec, quantize_, stored
from bithep_lib.bitlinear import weight_codes
from bithep_lib.models import ParticleFlowNetwork

ARGUMENTS = {"n_features": 4, "phi_sizes": [8, 8], "f_sizes": [8]}
NAME = "quark_gluon/pfn-all"


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model, _ = ParticleFlowNetwork.build("f", **ARGUMENTS)
        quantize_(model, lambda name, _: name == "phi.2", QuantSpec(weights="binary", activation_bits=4))
    return model.eval()


@pytest.fixture
def jets():
    return torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(2)), torch.arange(35).view(5, 7) % 4 != 0


def test_an_exact_copy(tmp_path, model, jets):
    stored.save(model, NAME, tmp_path, arguments=ARGUMENTS, half=False, about={"seed": 1})
    loaded = stored.load(NAME, folder=tmp_path)
    assert torch.equal(loaded(*jets), model(*jets))
    assert not loaded.training
    assert loaded.phi[2].spec == QuantSpec(weights="binary", activation_bits=4)
    assert type(loaded.phi[0]) is nn.Linear
    assert isinstance(loaded.f[0], BitLinear)
    assert stored.describe(NAME, tmp_path)["about"] == {"seed": 1}
    assert stored.available(tmp_path) == [NAME]


def test_half_precision_changes_no_code_and_saves_space(tmp_path, model, jets):
    stored.save(model, "a/exact", tmp_path, arguments=ARGUMENTS, half=False)
    stored.save(model, "a/half", tmp_path, arguments=ARGUMENTS)
    loaded = stored.load("a/half", folder=tmp_path)
    for name, layer in model.named_modules():
        if isinstance(layer, BitLinear):
            codes, scale = weight_codes(layer.weight, layer.spec)
            again, scale_again = weight_codes(loaded.get_submodule(name).weight, layer.spec)
            assert torch.equal(again, codes)
            assert torch.allclose(scale_again, scale, rtol=1e-6)
    assert torch.allclose(loaded(*jets), model(*jets), atol=0.02)
    assert loaded.phi[0].weight.dtype == torch.float32
    exact, half = ((tmp_path / f"a/{name}.safetensors").stat().st_size for name in ("exact", "half"))
    assert half < exact


def test_ternary_layers_take_five_weights_a_byte(tmp_path):
    arguments = {"n_features": 4, "phi_sizes": [200, 200], "f_sizes": [8]}
    model, report = ParticleFlowNetwork.build("all", **arguments)
    nn.init.zeros_(model.phi[2].weight)  # a layer that has learned nothing has a scale, too
    stored.save(model, "a/packed", tmp_path, arguments=arguments)
    assert (tmp_path / "a/packed.safetensors").stat().st_size < report.bytes.packed + 3000
    loaded = stored.load("a/packed", folder=tmp_path)
    for name, layer in model.named_modules():
        if isinstance(layer, BitLinear):
            again = weight_codes(loaded.get_submodule(name).weight, layer.spec)[0]
            assert torch.equal(again, weight_codes(layer.weight, layer.spec)[0])


def test_an_unknown_name_lists_those_there_are(tmp_path, model):
    with pytest.raises(ValueError, match="no stored network 'x/y'; there are no stored networks"):
        stored.load("x/y", folder=tmp_path)
    stored.save(model, NAME, tmp_path, arguments=ARGUMENTS)
    with pytest.raises(ValueError, match=f"did you mean '{NAME}'.*the stored networks are {NAME}"):
        stored.load("quark_gluon/pfn-al", folder=tmp_path)


def test_a_changed_byte_is_noticed(tmp_path, model):
    stored.save(model, NAME, tmp_path, arguments=ARGUMENTS)
    path = tmp_path / f"{NAME}.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"pfn-all.safetensors is damaged .* checksum is not the one in pfn-all.json"):
        stored.load(NAME, folder=tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match="pfn-all.safetensors cannot be read"):
        stored.load(NAME, folder=tmp_path)


def test_a_description_that_does_not_fit_is_refused(tmp_path, model):
    path = stored.save(model, NAME, tmp_path, arguments=ARGUMENTS)
    about = json.loads(path.read_text())
    for change, message in (
        ({"arguments": ARGUMENTS | {"phi_sizes": [8, 9]}}, "does not fit ParticleFlowNetwork: f.0: ternary codes"),
        ({"model": "os"}, "bithep_lib.models has no network 'os'"),
        ({"format": 99}, "pfn-all.json does not describe a stored network: format 99, this version reads 1"),
    ):
        path.write_text(json.dumps(about | change))
        with pytest.raises(ValueError, match=message):
            stored.load(NAME, folder=tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"pfn-all.json does not describe a stored network"):
        stored.load(NAME, folder=tmp_path)


def test_what_cannot_be_brought_back_is_not_saved(tmp_path, model):
    with pytest.raises(ValueError, match="Linear is not a class of|has no network 'Linear'"):
        stored.save(nn.Linear(2, 2), NAME, tmp_path, arguments={})
    with pytest.raises(ValueError, match="name='pfn' must be '<chapter>/<what>'"):
        stored.save(model, "pfn", tmp_path, arguments=ARGUMENTS)
    with pytest.raises(ValueError, match="the arguments .* build another network: .*size mismatch"):
        stored.save(model, NAME, tmp_path, arguments=ARGUMENTS | {"f_sizes": [9]})
    with torch.no_grad():
        model.phi[0].bias[0] = 1e6
    with pytest.raises(ValueError, match="phi.0.bias has numbers that are not finite in 16 bits"):
        stored.save(model, NAME, tmp_path, arguments=ARGUMENTS)
    assert list(tmp_path.rglob("*.json")) == []


def test_loading_leaves_the_random_state_alone(tmp_path, model):
    stored.save(model, NAME, tmp_path, arguments=ARGUMENTS)
    before = torch.get_rng_state()
    stored.load(NAME, folder=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_stored_network_of_the_package_loads():
    for name in stored.available():
        assert sum(parameter.numel() for parameter in stored.load(name).parameters()) > 0


def test_the_package_stays_small():
    root = stored._root(None)
    assert sum(path.stat().st_size for path in root.rglob("*.safetensors")) < 30 * 2**20
