"""Counting, modelling and measuring what a network costs."""

import pytest
import torch
from torch import nn

from bithep_lib import BitLinear, QuantSpec, quantize_
from bithep_lib.bitlinear import weight_codes
from bithep_lib.costs import _free_layers, _swap, cost
from bithep_lib.energy import PJ, energy, operations
from bithep_lib.packed import pack
from bithep_lib.packed_files import save_packed
from bithep_lib.timing import interleaved, ratios


def mlp(*select: str, spec: QuantSpec = QuantSpec()) -> nn.Sequential:  # noqa: B008
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5))
    quantize_(model, lambda name, _: name in select, spec)
    return model


# --- operations and energy --------------------------------------


def test_operations_of_a_float_layer():
    done = operations(10, 64, 32)
    assert done.product == {"fp32_mul": 20480, "fp32_add": 20480 + 320}
    assert not done.quantise
    assert done.weight_bytes == 4 * 64 * 32
    assert done.activation_bytes == 4 * 10 * (64 + 32)


def test_operations_of_a_ternary_layer():
    done = operations(10, 64, 32, weights="ternary", nonzero=1400, integer_inputs=True)
    assert done.product == {"int32_add": 14000, "fp32_add": 320}  # no multiplication
    assert done.quantise == {"fp32_add": 2 * 640, "fp32_mul": 640 + 320, "fp32_div": 20}
    assert done.weight_bytes == 64 * 32 / 4
    static = operations(10, 64, 32, weights="ternary", integer_inputs=True, dynamic_scale=False)
    assert static.quantise == {"fp32_add": 640, "fp32_mul": 960, "fp32_div": 0}
    assert operations(10, 64, 32, weights="binary", integer_inputs=True).count("int32_add") == 20480


def test_operations_of_the_controls():
    int8 = operations(1, 64, 32, weights="int8", integer_inputs=True, bias=False)
    assert int8.product == {"int32_add": 2048, "int8_mul": 2048}
    float_inputs = operations(1, 64, 32, weights="ternary", nonzero=1400, bias=False)
    assert (float_inputs.product, float_inputs.quantise) == ({"fp32_add": 1400}, {"fp32_mul": 32})
    float_weights = operations(1, 64, 32, integer_inputs=True, bias=False)
    assert float_weights.product == {"fp32_add": 2048, "fp32_mul": 2048}


@pytest.mark.parametrize(
    ("width", "ratio", "share"), [(64, 19.3, 0.65), (256, 42.1, 0.34), (1024, 58.3, 0.114), (4096, 64.4, 0.031)]
)
def test_the_arithmetic_of_a_ternary_layer(width, ratio, share):
    """The gain grows with the width to (3.7 + 0.9) / (0.69 x 0.1) = 67; below, quantising the inputs is what costs."""
    used = energy(operations(1, width, width, weights="ternary", nonzero=round(0.69 * width**2), integer_inputs=True))
    in_float = energy(operations(1, width, width))
    assert in_float.product / (used.product + used.quantise) == pytest.approx(ratio, rel=0.01)
    assert used.quantise / (used.product + used.quantise) == pytest.approx(share, rel=0.02)


def test_the_memory_of_the_weights():
    done = operations(1, 64, 64)
    assert energy(done, "dram").weights == 130 * energy(done, "sram_8kb").weights
    assert energy(done).total == sum((energy(done).product, energy(done).weights, energy(done).activations))
    with pytest.raises(ValueError, match="weights_from='disk'; choose one of sram_8kb, sram_32kb, sram_1mb, dram"):
        energy(done, "disk")


# --- networks ---------------------------------------------------


def test_every_layer_is_counted_by_its_kind():
    model = mlp("2")
    counted = cost(model, torch.randn(7, 16), rounds=0)
    layers = counted.layers
    assert list(layers.index) == ["0", "2", "4"]
    assert list(layers["arithmetic"]) == ["float", "ternary x 8 bit", "float"]
    assert list(layers["macs"]) == [7 * 16 * 64, 7 * 64 * 32, 7 * 32 * 5]
    nonzero = int(weight_codes(model[2].weight)[0].count_nonzero())
    assert layers.loc["2", "int32_add"] == 7 * nonzero
    assert layers.loc["0", "int32_add"] == 0
    assert layers.loc["0", "energy"] == layers.loc["0", "float_energy"]
    macs = 16 * 64 + 64 * 32 + 32 * 5
    assert counted.amdahl["macs"] == pytest.approx(macs / (macs - 64 * 32))
    left = layers.loc[["0", "4"], "float_energy"].sum()
    assert counted.amdahl["energy"] == pytest.approx(layers["float_energy"].sum() / left)
    assert counted.times is counted.speedup is None
    assert "time" not in counted.amdahl
    by_hand = sum(PJ[kind] * layers[kind] for kind in PJ)
    assert (layers["product"] + layers["quantise"]).tolist() == pytest.approx(by_hand.tolist())


def test_sizes_are_those_of_the_tensors_and_of_the_file(tmp_path):
    model = mlp("0", "2", "4")
    size = cost(model, torch.randn(1, 16), rounds=0).bytes
    assert size["float32"] == 4 * sum(p.numel() for p in model.parameters())
    assert size["memory"] == sum(t.nbytes for t in pack(model).state_dict().values())
    stored = save_packed(model, tmp_path / "file").read_bytes()
    assert size["disk"] == len(stored) - 8 - int.from_bytes(stored[:8], "little")


def test_shared_layers_and_products_between_activations():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = BitLinear(8, 8)

        def forward(self, x):
            return self.layer(self.layer(x)) @ x.transpose(-1, -2)

    counted = cost(Twice(), torch.randn(3, 5, 8), rounds=0)
    assert counted.layers.loc["layer", "tokens"] == 2 * 15
    assert counted.layers.loc["other products", "macs"] == 3 * 5 * 5 * 8


def test_attention_is_counted():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    quantize_(layer, lambda name, _: True)
    counted = cost(layer, torch.randn(2, 10, 32), rounds=0)
    in_and_out, attention = 20 * 32 * 4 * 32, 2 * (2 * 10 * 10 * 32)
    assert counted.layers.loc["other products", "macs"] == in_and_out + attention
    assert torch.backends.mha.get_fastpath_enabled()


def test_times_are_measured_beside_float_and_beside_nothing():
    model = mlp("0", "2", "4")
    counted = cost(model, torch.randn(1, 16), rounds=3)
    assert list(counted.times) == ["float32", "packed", "bits_free"]
    assert (counted.times > 0).all(axis=None)
    assert counted.amdahl["macs"] == float("inf")
    assert counted.amdahl["time"] > 0
    assert counted.speedup.loc["float32", "median"] == 1
    text = repr(counted)
    assert "nothing is left in float" in text
    assert "faster" in text
    assert "<table" in counted._repr_html_()


def test_free_layers_leave_the_rest_in_place():
    """The network without the time of its bits still does everything else, in the same order."""

    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(BitLinear(4, 6), nn.ReLU(), BitLinear(6, 5), nn.Linear(5, 3), nn.Tanh())

        def forward(self, x):
            assert self.body[0].in_features == x.shape[-1]
            return self.body(x)

    packed = pack(Looks())
    free = _swap(packed, _free_layers(packed))
    rest = packed.body[3:](torch.zeros(2, 5))
    assert torch.equal(free(torch.randn(2, 4)), rest)
    assert cost(packed, torch.randn(2, 4), rounds=1).amdahl["time"] > 0


def test_packed_and_trained_networks_cost_the_same():
    model, x = mlp("0", "2", spec=QuantSpec("binary")), torch.randn(2, 16)
    a, b = cost(model, x, rounds=0), cost(pack(model), x, rounds=0)
    assert a.layers.equals(b.layers)
    assert a.bytes == b.bytes


def test_the_network_is_not_changed():
    model = mlp("2").train()
    before = [p.clone() for p in model.parameters()]
    cost(model, torch.randn(2, 16), rounds=1)
    assert model.training
    assert all(torch.equal(a, b) and b.requires_grad for a, b in zip(before, model.parameters(), strict=True))
    assert not model[0]._forward_hooks


def test_a_network_without_bits_is_an_error():
    with pytest.raises(ValueError, match="no BitLinear layer"):
        cost(nn.Linear(3, 4), torch.randn(1, 3))


# --- timing -----------------------------------------------------


def test_ratios_are_taken_within_rounds():
    calls = {"once": 0, "thrice": 0}
    x = torch.randn(200, 200)

    def work(name: str, n: int) -> None:
        calls[name] += 1
        for _ in range(n):
            x @ x

    times = interleaved({"once": lambda: work("once", 1), "thrice": lambda: work("thrice", 3)}, rounds=9, seconds=0.01)
    assert times.shape == (9, 2)
    assert calls["once"] > calls["thrice"] > 9
    table = ratios(times, "once")
    assert table.loc["once"].tolist() == [1, 1, 1]
    assert 2 < table.loc["thrice", "median"] < 4.5
    assert table.loc["thrice", "low"] <= table.loc["thrice", "median"] <= table.loc["thrice", "high"]
    assert ratios(times, "once", inverse=True).loc["thrice", "median"] == pytest.approx(
        1 / table.loc["thrice", "median"]
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_in_another_precision_is_compared_in_that_precision(dtype):
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1)).to(dtype)
    quantize_(model, lambda name, linear: True)
    assert cost(model, torch.randn(4, 16, dtype=dtype), rounds=3).times is not None
