"""Exported networks: ONNX to the bit in onnxruntime, QONNX by the definition of its operators, and powers of two."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bithep_lib import BitLinear, QuantSpec, native, pack, quantize_
from bithep_lib.bitlinear import activation_codes, weight_codes
from bithep_lib.export import calibrate, to_onnx, to_qonnx

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mlp(spec: QuantSpec, *sizes: int, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [m for a, b in zip(sizes, sizes[1:], strict=False) for m in (nn.Linear(a, b, bias), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    quantize_(model, lambda name, linear: True, spec)
    return model.eval()


def hardware(*sizes: int, weights: str = "ternary", bits: int = 8) -> nn.Sequential:
    model = mlp(QuantSpec.hardware(weights, bits), *sizes)
    calibrate(model, random(500, sizes[0], seed=9))
    return model


def run(proto: "onnx.ModelProto", x: torch.Tensor) -> torch.Tensor:
    onnx.checker.check_model(proto, full_check=True)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def output(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x)


# --- standard operators -----------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        QuantSpec(),
        QuantSpec("binary"),
        QuantSpec("int8"),
        QuantSpec(activation_bits=4),
        QuantSpec(activation_scale="static_po2", activation_exponent=4),
    ],
    ids=repr,
)
@pytest.mark.parametrize("sizes", [(16, 64, 32, 32, 5), (3, 1), (300, 70, 2)])
def test_onnxruntime_computes_the_same_bits(spec, sizes):
    model = mlp(spec, *sizes)
    x = torch.cat([random(100, sizes[0]), torch.zeros(1, sizes[0]), 1e-20 * random(1, sizes[0])])
    proto = to_onnx(model)
    assert torch.equal(run(proto, x), output(model, x))
    assert torch.equal(run(proto, x[:1]), output(model, x[:1]))
    assert torch.equal(run(to_onnx(pack(model)), x), output(model, x))


def test_only_standard_operators_and_one_byte_a_weight():
    proto = to_onnx(mlp(QuantSpec(), 16, 64, 5))
    assert {node.domain for node in proto.graph.node} == {""}
    assert [node.op_type for node in proto.graph.node].count("MatMulInteger") == 2
    int8 = [c for c in proto.graph.initializer if c.data_type == onnx.TensorProto.INT8]
    assert sum(math.prod(c.dims) for c in int8) == 16 * 64 + 64 * 5


def test_a_file_is_written(tmp_path):
    model = mlp(QuantSpec(), 16, 8)
    to_onnx(model, tmp_path / "model.onnx")
    x = random(4, 16)
    session = ort.InferenceSession(str(tmp_path / "model.onnx"))
    assert np.array_equal(session.run(None, {"x": x.numpy()})[0], output(model, x).numpy())


def test_float_layers_agree_to_rounding():
    model = nn.Sequential(
        nn.Linear(7, 30), nn.ReLU(), nn.Sequential(BitLinear(30, 20), nn.Dropout()), nn.Identity()
    ).eval()
    x = random(50, 7)
    torch.testing.assert_close(run(to_onnx(model), x), output(model, x), rtol=0, atol=0.05)  # a code may flip
    last = nn.Sequential(BitLinear(7, 30), nn.ReLU(), nn.Linear(30, 5))
    torch.testing.assert_close(run(to_onnx(last), x), output(last, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(BitLinear(3, 3), nn.SiLU()), "1 is a SiLU; exported are chains"),
        (BitLinear(3, 3, spec=QuantSpec.paper()), "at most 127 levels"),
        (BitLinear(3, 3, spec=QuantSpec(activation_bits=None)), "at most 127 levels"),
        (nn.Sequential(nn.ReLU()), "no linear layer"),
    ],
)
def test_what_cannot_be_exported_is_named(model, message):
    with pytest.raises(ValueError, match=message):
        to_onnx(model)


def test_without_onnx_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ImportError, match=r"bithep_lib\[export\]"):
        to_onnx(BitLinear(3, 3))


# --- powers of two ----------------------------------------------


def test_calibration_uses_the_range_without_saturating():
    model, x = mlp(QuantSpec.hardware(), 16, 64, 5), 3 * random(500, 16)
    exponents = calibrate(model, x)
    assert list(exponents) == ["0", "2"]
    for layer, inputs in ((model[0], x), (model[2], output(model[:2], x))):
        q, s = activation_codes(inputs, layer.spec)
        assert s.unique().tolist() == [2.0**layer.spec.activation_exponent]
        assert 63 <= q.abs().max() <= 127
        t, beta = weight_codes(layer.weight, layer.spec)
        assert math.log2(beta.item()).is_integer()
        assert torch.equal((layer.weight / beta).round().clamp(-1, 1), t.float())
    q, _ = activation_codes(100 * x, model[0].spec)
    assert (q.min(), q.max()) == (-127, 127)  # what lies beyond the calibration saturates


def test_calibration_is_needed_and_possible():
    model = mlp(QuantSpec.hardware(), 4, 3)
    with pytest.raises(ValueError, match=r"bithep_lib.export.calibrate\(model, example\)"):
        model(random(2, 4))
    with pytest.raises(ValueError, match="the input of 0 is not finite"):
        calibrate(model, torch.tensor([[1.0, float("nan"), 0, 0]]))
    with pytest.raises(ValueError, match="no BitLinear layer with activation_scale='static_po2'"):
        calibrate(BitLinear(3, 4), random(2, 3))
    assert not model[0]._forward_pre_hooks
    assert calibrate(nn.Sequential(BitLinear(3, 4, spec=QuantSpec.hardware())), torch.zeros(1, 3))["0"] > 0


def test_nearest_power_of_two():
    for mean, nearest in [
        (1.0, 1.0),
        (0.3, 0.25),
        (0.35, 0.25),
        (0.36, 0.5),
        (1.5, 2.0),
        (1.41, 1.0),
        (6e-4, 2.0**-11),
    ]:
        _, beta = weight_codes(torch.full((3, 4), mean), QuantSpec.hardware())
        assert beta.item() == nearest


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_everything_is_a_multiple_of_a_power_of_two(backend):
    model, x = hardware(16, 32, 5), random(100, 16)
    with native.use_backend(backend):
        y = output(model, x)
    t, beta = weight_codes(model[2].weight, model[2].spec)
    units = y.double() * model[2].spec.fixed_scale / beta.double()
    assert torch.equal(units, units.round())


def test_hardware_networks_train():
    """Straight through rounding, saturation and powers of two: the loss falls, and the scales stay powers of two."""
    model, x = hardware(4, 32, 1), random(512, 4)
    target = (x[:, :1] * x[:, 1:2]).sign()
    optimiser, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(150):
        loss = nn.functional.soft_margin_loss(model(x), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert torch.equal(pack(model)(x), output(model, x))


# --- QONNX ------------------------------------------------------

try:
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun
except ImportError:  # onnx itself is missing, and this module skipped
    OpRun = object


class Quant(OpRun):
    """The operator as the QONNX documentation defines it, for the reference evaluator of onnx."""

    op_domain = "qonnx.custom_op.general"

    def _run(self, x, scale, zero, bits, signed, narrow, rounding_mode):
        assert (rounding_mode, signed) == ("ROUND", 1)
        highest = 2 ** (bits - 1) - 1
        lowest = -highest if narrow else -highest - 1
        integer = np.clip(np.rint(x / scale + zero), lowest, highest)
        return (((integer - zero) * scale).astype(np.float32),)


class BipolarQuant(OpRun):
    op_domain = "qonnx.custom_op.general"

    def _run(self, x, scale):
        return (np.where(x >= 0, scale, -scale).astype(np.float32),)


@pytest.mark.parametrize("weights", ["ternary", "binary"])
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_qonnx_means_the_same_network(weights, bits, tmp_path):
    model, x = hardware(16, 64, 32, 5, weights=weights, bits=bits), 2 * random(200, 16)
    proto = to_qonnx(model, tmp_path / "trigger.onnx")
    assert torch.equal(torch.from_numpy(_evaluate(proto, x)), output(model, x))
    assert torch.equal(torch.from_numpy(_evaluate(onnx.load(tmp_path / "trigger.onnx"), x)), output(pack(model), x))


def _evaluate(proto: "onnx.ModelProto", x: torch.Tensor) -> np.ndarray:
    return ReferenceEvaluator(proto, new_ops=[Quant, BipolarQuant]).run(None, {"x": x.numpy()})[0]


def test_qonnx_says_how_many_bits():
    proto = to_qonnx(hardware(16, 8, bits=6))
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in proto.graph.initializer}
    nodes = [node for node in proto.graph.node if node.op_type == "Quant"]
    assert [int(constants[node.input[3]]) for node in nodes] == [2, 6]
    for node in nodes:
        assert math.log2(float(constants[node.input[1]])).is_integer()
    assert {opset.domain for opset in proto.opset_import} == {"", "qonnx.custom_op.general"}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (BitLinear(3, 3), "needed is QuantSpec.hardware()"),
        (nn.Sequential(nn.Linear(3, 3)), "0 is a float layer"),
        (
            BitLinear(3, 3, spec=QuantSpec(levels=100, activation_scale="static_po2", activation_exponent=0)),
            "levels=100; needed are 127 for 8 bits",
        ),
    ],
)
def test_qonnx_needs_powers_of_two(model, message):
    with pytest.raises(ValueError, match=message):
        to_qonnx(model)
