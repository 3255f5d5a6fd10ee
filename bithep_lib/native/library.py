"""The compiled kernel as Python sees it: pointers in, tensors out."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bithep_lib.data.cache import cache_dir
from bithep_lib.native.build import BuildError, Instructions, build, usable_variants

PANEL = BLOCK = 16
"""Outputs and inputs of the blocks in which the codes are stored; both dimensions are padded to them."""


def padded(features: int) -> int:
    """Length of a row of codes in memory."""
    return -(-features // BLOCK) * BLOCK


class _Layer(ctypes.Structure):
    """`struct Layer` of bitlinear.cpp."""

    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("beta", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("in_features", ctypes.c_int32),
        ("out_features", ctypes.c_int32),
        ("levels", ctypes.c_float),
        ("fixed_scale", ctypes.c_float),
        ("relu", ctypes.c_int32),
    )


class _Network(ctypes.Structure):
    """`struct Network` of bitlinear.cpp."""

    _fields_ = (("layers", ctypes.c_void_p), ("count", ctypes.c_int64))


@dataclass(frozen=True)
class PackedLayer:
    """One layer as the kernel takes it: contiguous tensors on the CPU.

    Attributes:
        codes: uint8, as `Kernel.quantise_weights` and `bithep_lib.codes.pack_codes` write them.
        beta: float32, shape ().
        bias: float32, shape (out,), or None.
        in_features: K.
        out_features: N.
        q_max: largest activation code Q_b, at most 127.
        fixed_scale: s for every token, or None: one scale for each token.
        relu: apply max(0, y) to the output.
    """

    codes: Tensor
    beta: Tensor
    bias: Tensor | None
    in_features: int
    out_features: int
    q_max: int
    fixed_scale: float | None = None
    relu: bool = False

    def _struct(self) -> _Layer:
        return _Layer(
            self.codes.data_ptr(),
            self.beta.data_ptr(),
            None if self.bias is None else self.bias.data_ptr(),
            self.in_features,
            self.out_features,
            self.q_max,
            self.fixed_scale or 0.0,
            self.relu,
        )


class Kernel:
    """The functions of one compiled variant. Threads: those of `torch.get_num_threads`.

    Args:
        path: the shared library, as `bithep_lib.native.build.build` makes it.
        variant: the one it was built for.

    Raises:
        OSError: the file is no library of this source and variant.
    """

    def __init__(self, path: Path, variant: Instructions) -> None:
        library = ctypes.CDLL(str(path))

        def function(name: str, arguments: int, result: type | None = None) -> Callable:
            found = getattr(library, f"bithep_{name}")
            # All arguments are addresses or 64-bit integers. Declared as pointers, ctypes converts both fastest.
            found.restype, found.argtypes = result, [ctypes.c_void_p] * arguments
            return found

        try:
            self.instructions = function("instructions", 0, ctypes.c_char_p)().decode()
            layer_bytes = function("layer_bytes", 0, ctypes.c_int64)()
            self._packed_bytes = function("packed_bytes", 2, ctypes.c_int64)
            self._quantise_weights = function("quantise_weights", 7)
            self._dequantise_weights = function("dequantise_weights", 6)
            self._dequantise_rows = function("dequantise_rows", 7)
            self._forward = function("forward", 7)
            self._run = function("run", 5)
        except AttributeError as error:
            raise OSError(f"{path} is no kernel of this library: {error}") from error
        if self.instructions != variant.name or layer_bytes != ctypes.sizeof(_Layer):
            raise OSError(f"{path} holds the variant {self.instructions!r}, not {variant.name!r} of this source")

    def quantise_weights(self, weight: Tensor, beta: Tensor, mean: Tensor | None = None) -> Tensor:
        """Equation 1: the packed codes of a float32 matrix (out, in), given its scale (and mean, if binary)."""
        n, k = weight.shape
        codes = weight.new_empty(self._packed_bytes(n, k), dtype=torch.uint8)
        center = None if mean is None else mean.data_ptr()
        self._quantise_weights(
            weight.data_ptr(), n, k, beta.data_ptr(), center, codes.data_ptr(), torch.get_num_threads()
        )
        return codes

    def dequantise_weights(self, codes: Tensor, beta: Tensor, out_features: int, in_features: int) -> Tensor:
        """beta t, float32 (out, in)."""
        weight = beta.new_empty(out_features, in_features)
        self._dequantise_weights(
            codes.data_ptr(), out_features, in_features, beta.data_ptr(), weight.data_ptr(), torch.get_num_threads()
        )
        return weight

    def dequantise_rows(self, q: Tensor, s: Tensor, in_features: int) -> Tensor:
        """q / s, float32 (rows, in), of padded codes (rows, padded(in)) and their scales (rows, 1)."""
        x = s.new_empty(q.shape[0], in_features)
        self._dequantise_rows(
            q.data_ptr(), q.stride(0), s.data_ptr(), q.shape[0], in_features, x.data_ptr(), torch.get_num_threads()
        )
        return x

    def forward(self, layer: PackedLayer, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Equations 2 and 3 for float32 rows (M, in): the output (M, out), the padded codes and the scales (M, 1)."""
        rows = x.shape[0]
        y = x.new_empty(rows, layer.out_features)
        q = x.new_empty(rows, padded(layer.in_features), dtype=torch.int8)
        s = x.new_empty(rows, 1)
        network, threads = _network([layer]), torch.get_num_threads()
        address = ctypes.addressof(network)
        self._forward(address, x.data_ptr(), rows, y.data_ptr(), q.data_ptr(), s.data_ptr(), threads)
        return y, q, s

    def prepare(self, layers: Sequence[PackedLayer]) -> Callable[[Tensor], Tensor]:
        """Layers that run one after the other in a single call, without gradients.

        Returns:
            A function of a float32 tensor (..., in of the first layer) on the CPU that returns (..., out of the last
            layer), or raises ValueError where the last axis does not fit. It keeps the tensors alive.
        """
        network = _network(layers)
        address, run, threads = ctypes.addressof(network), self._run, torch.get_num_threads
        in_features, out_features = layers[0].in_features, layers[-1].out_features

        def call(x: Tensor, _alive: object = (network, *layers)) -> Tensor:
            shape = x.shape
            if shape[-1] != in_features:
                raise ValueError(f"the layer takes {in_features} features, but the input has {shape[-1]}")
            if not x.is_contiguous():
                x = x.contiguous()
            rows = x.numel() // in_features
            y = x.new_empty(rows, out_features)
            run(address, x.data_ptr(), rows, y.data_ptr(), threads())
            return y if len(shape) == 2 else y.view(*shape[:-1], out_features)

        return call


def _network(layers: Sequence[PackedLayer]) -> _Network:
    structs = (_Layer * len(layers))(*(layer._struct() for layer in layers))
    network = _Network(ctypes.addressof(structs), len(layers))
    network.structs = structs  # the address is only valid as long as they live
    return network


def load_kernel() -> Kernel:
    """The best variant that compiles and loads here, from the cache if it is there.

    Raises:
        BuildError: none does; the message says why the last one did not.
    """
    failure: Exception | None = None
    for variant in usable_variants():
        try:
            return _load(variant)
        except BuildError as error:  # an old compiler may not know the newest instructions
            failure = error
    raise failure


def _load(variant: Instructions) -> Kernel:
    try:
        path = build(variant, cache_dir("native"))
        try:
            return Kernel(path, variant)
        except OSError:  # a damaged file in the cache
            path.unlink()
            return Kernel(build(variant, cache_dir("native")), variant)
    except (OSError, RuntimeError) as error:
        if isinstance(error, BuildError):
            raise
        # No home, or a cache that cannot be written or executed from. A loaded library outlives its file.
        with tempfile.TemporaryDirectory(prefix="bithep-") as folder:
            try:
                return Kernel(build(variant, Path(folder)), variant)
            except OSError as second:
                raise BuildError(f"the kernel does not load: {second} (in the cache: {error})") from second
