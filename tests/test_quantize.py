"""quantize_ on networks that people have, and the counting rules."""

import copy

import pytest
import torch
from torch import nn

from bithep_lib import BitLinear, QuantSpec, load_packed, pack, quantize_, save_packed
from bithep_lib.quantize import count


def everything(name: str, linear: nn.Linear) -> bool:
    return True


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))


def test_selected_layers_become_bits_in_place():
    model = mlp()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    keys, middle = list(model.state_dict()), model[2]
    report = quantize_(model, lambda name, linear: linear.in_features == 64, QuantSpec("binary"))
    assert [type(m) for m in model if isinstance(m, nn.Linear)] == [nn.Linear, BitLinear, nn.Linear]
    assert model[2] is middle
    assert list(model.state_dict()) == keys
    assert [layer.name for layer in report.quantized] == ["2"]
    assert report.layers[1].spec == QuantSpec("binary")
    before = model[2].weight.detach().clone()
    model(torch.ones(4, 16)).sum().backward()
    optimiser.step()
    assert not torch.equal(before, model[2].weight)


def test_the_counting_rules_on_a_network_counted_by_hand():
    report = quantize_(mlp(), lambda name, linear: name == "2", example=torch.zeros(3, 16))
    total, weights = 16 * 64 + 64 + 64 * 32 + 32 + 32 + 1, 16 * 64 + 64 * 32 + 32
    assert (report.parameters, report.matrix_weights) == (total, weights)
    assert report.fraction == (64 * 32 + 32) / total
    assert report.fraction_weights == 64 * 32 / weights
    assert report.fraction_used == report.fraction
    assert report.macs == 3 * weights
    assert report.fraction_macs == 64 * 32 / weights
    rest = 4 * (total - 64 * 32)
    assert report.bytes == (4 * total, rest + 64 * 32 // 4 + 4, rest + -(-64 * 32 // 5) + 4)


def test_bytes_by_kind_of_weight():
    def size(kind):
        model = nn.Sequential(nn.Linear(7, 3, bias=False))
        return quantize_(model, everything, QuantSpec(kind)).bytes

    assert size("ternary") == (84, 6 + 4, 5 + 4)
    assert size("binary") == (84, 6 + 4, 3 + 4)
    assert size("int8") == (84, 21 + 4, 21 + 4)


def test_none_quantises_nothing_and_activations_alone_are_no_low_bit_weights():
    model = mlp()
    report = quantize_(model, None)
    assert report.quantized == ()
    assert report.fraction == report.fraction_weights == 0
    assert not any(isinstance(m, BitLinear) for m in model)
    assert quantize_(model, everything, QuantSpec(weights=None)).fraction == 0
    assert all(isinstance(m, BitLinear) for m in model if isinstance(m, nn.Linear))


def test_a_selector_that_matches_nothing_lists_what_there_is():
    with pytest.raises(ValueError, match="matches no nn.Linear of Sequential; there are: 0, 2, 4"):
        quantize_(mlp(), lambda name, linear: name == "head")
    with pytest.raises(ValueError, match="of Conv1d; there are: none"):
        quantize_(nn.Conv1d(3, 4, 1), everything)
    model = mlp()
    quantize_(model, lambda name, linear: name == "2")
    with pytest.raises(ValueError, match="there are: 0, 4; already BitLinear: 2"):
        quantize_(model, lambda name, linear: name == "2")


def test_unmeasured_fractions_are_not_invented():
    report = quantize_(mlp(), everything)
    assert report.fraction_used is None
    assert report.fraction_macs is None
    assert "not measured: pass example=" in repr(report)


def test_a_shared_layer_is_converted_and_counted_once():
    shared = nn.Linear(8, 8)
    report = quantize_(nn.Sequential(shared, nn.ReLU(), shared), everything, example=torch.zeros(2, 8))
    assert type(shared) is BitLinear
    assert report.parameters == 72
    assert report.fraction == 1
    assert report.macs == 2 * 2 * 64  # but it multiplies twice


def test_a_layer_that_never_runs_is_not_used():
    class Dead(nn.Module):
        def __init__(self):
            super().__init__()
            self.alive, self.dead = nn.Linear(4, 4), nn.Linear(4, 100)

        def forward(self, x):
            return self.alive(x)

    report = quantize_(Dead(), lambda name, linear: name == "dead", example=torch.zeros(1, 4))
    assert report.fraction == 500 / 520
    assert report.fraction_used == report.fraction_macs == 0


def test_measuring_leaves_no_trace():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1)).train()
    state, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    count(model, torch.randn(8, 4, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(m.training and not m._forward_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_what_is_no_linear_layer_is_named():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
            self.conv = nn.Conv1d(16, 8, 1)
            self.head = nn.Linear(8, 1)

        def forward(self, x):
            x, _ = self.attention(x, x, x)
            return self.head(self.conv(x.transpose(1, 2)).mean(-1))

    report = quantize_(Mixed(), everything, example=torch.zeros(2, 5, 16))
    assert [name for name, _, _ in report.left_alone] == ["attention", "attention.out_proj", "conv"]
    assert [layer.name for layer in report.quantized] == ["head"]
    tokens = 2 * 5
    by_hand = tokens * (3 * 16 * 16 + 2 * 5 * 16 + 16 * 16 + 16 * 8) + 2 * 8
    assert report.macs == by_hand
    assert "left alone, not an nn.Linear:" in repr(report)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("wrap", [False, True])
def test_a_torch_transformer_runs_in_bits_in_evaluation_too(wrap, padded, tmp_path):
    """PyTorch's fused evaluation paths read the weights behind its layers; quantised layers must still be called."""

    def encoder():
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
        return nn.TransformerEncoder(layer, 2) if wrap else layer

    model = encoder()
    quantize_(model, everything)
    x = torch.randn(3, 5, 16)
    mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 4 + [True]]) if padded else None
    training = model.train()(x, src_key_padding_mask=mask)
    loaded = load_packed(save_packed(model, tmp_path / "encoder.safetensors"), encoder())
    real = slice(None) if mask is None else ~mask
    for form in (model.eval(), pack(model), loaded):
        with torch.no_grad():
            evaluated = form(x, src_key_padding_mask=mask)
        torch.testing.assert_close(evaluated[real], training[real], rtol=0, atol=1e-5)


def test_a_single_layer_and_a_network_on_the_meta_device():
    layer = nn.Linear(3, 2)
    assert quantize_(layer, everything).layers[0].name == "BitLinear"
    assert type(layer) is BitLinear
    with torch.device("meta"):
        report = quantize_(nn.Sequential(nn.Linear(10**5, 10**4)), everything, example=torch.zeros(1, 10**5))
    assert report.fraction == 1
    assert report.macs == 10**9


def test_quantising_again_changes_the_spec_of_nothing_converted():
    model = mlp()
    quantize_(model, lambda name, linear: name == "0")
    report = quantize_(model, lambda name, linear: name == "2", QuantSpec("binary"))
    assert [layer.spec and layer.spec.weights for layer in report.layers] == ["ternary", "binary", None]
