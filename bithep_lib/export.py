"""Networks for other programs: exact ONNX graphs, and QONNX for hardware tools (extra ``export``).

`to_onnx` writes the integer arithmetic of the layers in standard operators, one by one, so that any ONNX runtime
computes the bits of the packed network. `to_qonnx` writes networks whose scales are powers of two
(`QuantSpec.hardware`) in the dialect that tools for FPGAs read (arXiv:2206.07527): a ``Quant`` node for each operand,
and shifts and sums for the rest.

    >>> quantize_(model, select, QuantSpec.hardware())
    >>> calibrate(model, jets)                       # fixes the scales of the inputs; then train as usual
    >>> to_qonnx(model, "trigger.onnx")
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from bithep_lib.bitlinear import EPS, BitLinear
from bithep_lib.files import write_atomic
from bithep_lib.packed import PackedBitLinear

if TYPE_CHECKING:
    import onnx

__all__ = ["calibrate", "to_onnx", "to_qonnx"]

OPSET, IR_VERSION = 18, 9
QONNX_DOMAIN = "qonnx.custom_op.general"


def calibrate(model: nn.Module, example: Tensor | tuple[Any, ...]) -> dict[str, int]:
    """Fix the input scales of layers with ``activation_scale="static_po2"``, from one forward pass.

    Each layer gets the largest power of two s = 2^e with which no input of ``example`` saturates, in the order in which
    the layers run, so that each sees the quantised outputs of those before it.

    Args:
        model: with such BitLinear layers; their ``spec`` is replaced.
        example: an input of the network, or a tuple of inputs; a few thousand typical events.

    Returns:
        The exponent e of each layer, by name.

    Raises:
        ValueError: there is no such layer, or an input is not finite.
    """
    layers = {
        layer: name or type(model).__name__
        for name, layer in model.named_modules()
        if isinstance(layer, BitLinear) and layer.spec.power_of_two
    }
    if not layers:
        raise ValueError("calibrate: the model has no BitLinear layer with activation_scale='static_po2'")
    largest = dict.fromkeys(layers, 0.0)

    def observe(layer: BitLinear, inputs: tuple[Tensor, ...]) -> None:
        if not inputs[0].isfinite().all():
            raise ValueError(f"calibrate: the input of {layers[layer]} is not finite")
        largest[layer] = max(largest[layer], inputs[0].abs().max().item())
        exponent = math.floor(math.log2(layer.spec.q_max / max(largest[layer], EPS)))
        layer.spec = replace(layer.spec, activation_exponent=exponent)

    handles = [layer.register_forward_pre_hook(observe) for layer in layers]
    training = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()(*(example if isinstance(example, tuple) else (example,)))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return {name: layer.spec.activation_exponent for layer, name in layers.items()}


def to_onnx(model: nn.Module, path: str | Path | None = None) -> onnx.ModelProto:
    """The network as an ONNX graph of standard operators with the arithmetic of equations 1-3 in integers.

    The outputs of BitLinear layers are those of the network to the bit, for finite inputs. A float layer rounds as the
    runtime pleases.

    Args:
        model: an `nn.Sequential` (nested ones too) of BitLinear or packed layers, `nn.Linear`, ReLU, dropout and
            identity; or one such layer. Integer layers with at most 127 levels, and a scale per token or static.
        path: write the graph there, atomically.

    Returns:
        The model: input ``x`` (tokens, in), output ``y`` (tokens, out), float32.

    Raises:
        ValueError: another kind of module, or a `QuantSpec` that int8 operators cannot hold.
        ImportError: the extra ``export`` is not installed.
    """
    graph = _Graph()
    for name, module in _chain(model):
        if isinstance(module, PackedBitLinear):
            graph.integer_layer(name, module)
        elif isinstance(module, nn.Linear):
            weight = graph.constant(module.weight.detach().t().float())
            graph.add_bias(graph.node("MatMul", graph.last, weight), module.bias)
        else:
            graph.node("Relu", graph.last)
    return graph.finish(model, path)


def to_qonnx(model: nn.Module, path: str | Path | None = None) -> onnx.ModelProto:
    """A network of powers of two as a QONNX graph, for FPGA tools such as hls4ml and FINN.

    Inputs become ``Quant`` nodes (signed, narrow: -Q_b to Q_b, rounded half to even), ternary weights ``Quant`` nodes
    of two bits, binary weights ``BipolarQuant`` nodes. Biases are constants on the grid of their layer's sums. The
    executor of qonnx 1.0 computes the network's bits from it, and so does the C simulation of hls4ml 1.3 (ternary).

    Args:
        model: as for `to_onnx`, with calibrated layers of ``QuantSpec.hardware()`` only, and no float layer.
        path: write the graph there, atomically.

    Raises:
        ValueError: another kind of module, or a layer that is not of this kind or not calibrated.
        ImportError: the extra ``export`` is not installed.
    """
    graph = _Graph()
    for name, module in _chain(model):
        if isinstance(module, PackedBitLinear):
            graph.quantised_layer(name, module)
        elif isinstance(module, nn.Linear):
            raise ValueError(f"to_qonnx: {name} is a float layer; quantise it with QuantSpec.hardware()")
        else:
            graph.node("Relu", graph.last)
    return graph.finish(model, path)


def _chain(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers of a chain with their names, packed; modules that do nothing in evaluation are left out."""
    if isinstance(model, nn.Sequential):
        for key, child in model.named_children():
            yield from _chain(child, f"{name}.{key}" if name else key)
    elif isinstance(model, BitLinear) and model.spec.weights is not None:
        yield name or "layer", PackedBitLinear.of(model)
    elif type(model) in (nn.Linear, nn.ReLU) or isinstance(model, PackedBitLinear):
        yield name or "layer", model
    elif not isinstance(model, nn.Dropout | nn.Identity):
        raise ValueError(
            f"export: {name or 'the model'} is a {type(model).__name__}; exported are chains (nn.Sequential) of "
            "BitLinear, packed and nn.Linear layers, ReLU, Dropout and Identity"
        )


class _Graph:
    """An ONNX graph under construction: one chain of nodes from ``x``; ``last`` is the name of the newest result."""

    def __init__(self) -> None:
        try:
            import onnx
        except ImportError as error:
            raise ImportError("exporting needs the package onnx: pip install 'bithep_lib[export]'") from error
        self._onnx = onnx
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self.last = "x"

    def constant(self, value: Tensor | float) -> str:
        """A tensor stored in the file."""
        name = f"c{len(self._constants)}"
        array = value.cpu().numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=np.float32)
        self._constants.append(self._onnx.numpy_helper.from_array(array.copy(order="C"), name))
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node with one result, which is the new last one."""
        self.last = f"n{len(self._nodes)}_{operator}"
        node = self._onnx.helper.make_node(operator, list(inputs), [self.last], domain=domain, **attributes)
        self._nodes.append(node)
        return self.last

    def add_bias(self, product: str, bias: Tensor | None) -> None:
        if bias is not None:
            self.node("Add", product, self.constant(bias.detach().float()))

    def integer_layer(self, name: str, layer: PackedBitLinear) -> None:
        """Equations 2 and 3, each rounding a node of its own."""
        spec, x = layer.spec, self.last
        if spec.q_max is None or spec.q_max > 127 or spec.activation_scale == "tensor":
            raise ValueError(
                f"to_onnx: {name} has {spec}; needed are at most 127 levels, and a scale per token or static"
            )
        if spec.power_of_two:
            s = self.constant(spec.fixed_scale)
        else:
            axis = self.constant(torch.tensor([-1]))
            gamma = self.node("ReduceMax", self.node("Abs", x), axis, keepdims=1)
            inverse = self.node("Reciprocal", self.node("Max", gamma, self.constant(EPS)))
            s = self.node("Mul", inverse, self.constant(float(spec.q_max)))
        rounded = self.node("Round", self.node("Mul", x, s))
        limits = self.constant(float(-spec.q_max)), self.constant(float(spec.q_max))
        q = self.node("Cast", self.node("Clip", rounded, *limits), to=self._onnx.TensorProto.INT8)
        product = self.node("MatMulInteger", q, self.constant(layer.t.t()))
        scale = self.node("Div", self.constant(layer.beta.float()), s)
        total = self.node("Cast", product, to=self._onnx.TensorProto.FLOAT)
        self.add_bias(self.node("Mul", total, scale), layer.bias)

    def quantised_layer(self, name: str, layer: PackedBitLinear) -> None:
        """Operands as multiples of powers of two, whose products and sums float32 holds exactly."""
        spec, x = layer.spec, self.last
        if not spec.power_of_two or spec.weights not in ("ternary", "binary"):
            raise ValueError(f"to_qonnx: {name} has {spec}; needed is QuantSpec.hardware()")
        full = 2 ** (spec.activation_bits - 1) - 1
        if spec.q_max != full:
            raise ValueError(
                f"to_qonnx: {name} has levels={spec.q_max}; needed are {full} for {spec.activation_bits} bits"
            )
        weight = self.constant((layer.t * layer.beta).t().float())
        scale = self.constant(layer.beta.float())
        if spec.weights == "binary":
            w = self.node("BipolarQuant", weight, scale, domain=QONNX_DOMAIN)
        else:
            w = self.quant(weight, scale, bits=2)
        q = self.quant(x, self.constant(1 / spec.fixed_scale), bits=spec.activation_bits)
        self.add_bias(self.node("MatMul", q, w), layer.bias)

    def quant(self, value: str, scale: str, bits: int) -> str:
        """A signed, narrow ``Quant`` node: scale clip(round(value / scale), -(2^(b-1) - 1), 2^(b-1) - 1)."""
        zero, width = self.constant(0.0), self.constant(float(bits))
        return self.node(
            "Quant", value, scale, zero, width, domain=QONNX_DOMAIN, signed=1, narrow=1, rounding_mode="ROUND"
        )

    def finish(self, model: nn.Module, path: str | Path | None) -> onnx.ModelProto:
        helper, linears = self._onnx.helper, [m for _, m in _chain(model) if not isinstance(m, nn.ReLU)]
        if not linears:
            raise ValueError(f"export: {type(model).__name__} has no linear layer")
        self._nodes[-1].output[0] = "y"  # no Identity: hls4ml would drop it together with the output
        sizes = {"x": linears[0].in_features, "y": linears[-1].out_features}
        x, y = (
            helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, ["tokens", size])
            for name, size in sizes.items()
        )
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == QONNX_DOMAIN for node in self._nodes):
            opsets.append(helper.make_opsetid(QONNX_DOMAIN, 1))
        graph = helper.make_graph(self._nodes, "bithep", [x], [y], self._constants)
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="bithep_lib")
        if path is not None:
            write_atomic(path, proto.SerializeToString())
        return proto
