"""Packed networks on disk: a safetensors file, with 1.6 bits a ternary weight and one bit a binary one.

The file holds, for each packed layer, its codes (`bithep_lib.codes.to_bytes`), its scale and its bias, and the tensors
of everything that stayed in floating point. The header names the format and its version, the layers with their shapes
and their `QuantSpec`, and a checksum of all tensors. Loading a file executes nothing in it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from bithep_lib.codes import from_bytes, to_bytes
from bithep_lib.files import write_atomic
from bithep_lib.packed import PackedBitLinear, pack, replace_layers
from bithep_lib.spec import QuantSpec

__all__ = ["FORMAT", "PackedFileError", "VERSION", "load_packed", "save_packed"]

FORMAT, VERSION = "bithep packed network", "1"


class PackedFileError(ValueError):
    """The file is not a packed network, is damaged, or belongs to another network; the message says which."""


def save_packed(model: nn.Module, path: str | Path, *, floats: torch.dtype | None = None) -> Path:
    """Write a network, packed, to one file. An existing file is replaced only when the new one is complete.

    Args:
        model: packed, or with BitLinear layers.
        path: by convention ``*.safetensors``.
        floats: store floating-point tensors other than the layers' scales in this type, e.g. ``torch.float16``. The
            default keeps each as it is; only then does the loaded network give the same bits.

    Raises:
        ValueError: nothing to pack.
        OSError: the file cannot be written.
    """
    packed = pack(model)
    layers = {name: m for name, m in packed.named_modules(remove_duplicate=False) if isinstance(m, PackedBitLinear)}
    inside = tuple(f"{name}." if name else "" for name in layers)
    tensors = {
        name: tensor if floats is None or not tensor.is_floating_point() else tensor.to(floats)
        for name, tensor in packed.state_dict().items()
        if not name.startswith(inside)
    }
    for name, layer in layers.items():
        prefix = f"{name}." if name else ""
        tensors[f"{prefix}codes"] = to_bytes(layer.t.cpu(), layer.spec.weights)
        tensors[f"{prefix}beta"] = layer.beta
        if layer.bias is not None:
            tensors[f"{prefix}bias"] = layer.bias if floats is None else layer.bias.to(floats)
    # Copies, because safetensors refuses tensors that share memory.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    described = {
        name: {"shape": [layer.out_features, layer.in_features], "spec": asdict(layer.spec)}
        for name, layer in layers.items()
    }
    header = {"format": FORMAT, "version": VERSION, "sha256": _checksum(tensors, described), "layers": described}
    # One entry, because safetensors writes several in any order, and equal networks shall give equal files.
    return write_atomic(path, to_safetensors(tensors, {"bithep": json.dumps(header)}))


def load_packed(path: str | Path, model: nn.Module) -> nn.Module:
    """The packed network in a file, in evaluation mode.

    Args:
        path: a file that `save_packed` wrote.
        model: a network of the same architecture, with its layers quantised or not, trained or not; it is not changed.

    Raises:
        PackedFileError: not such a file, another version, damaged, or made from another architecture.
        OSError: the file cannot be read.
    """
    tensors, described = _read(Path(path))
    model_layers = {name: m for name, m in model.named_modules(remove_duplicate=False) if isinstance(m, nn.Linear)}
    replacements: dict[nn.Linear, PackedBitLinear] = {}
    for name, entry in described.items():
        if name not in model_layers:
            there = ", ".join(model_layers) or "none"
            raise PackedFileError(f"{path}: there is no linear layer {name!r} in the model; it has {there}")
        linear, shape = model_layers[name], tuple(entry["shape"])
        if (linear.out_features, linear.in_features) != shape:
            given = (linear.out_features, linear.in_features)
            raise PackedFileError(f"{path}: layer {name!r} has the shape {shape}, the model's {given}")
        replacements[linear] = _layer(path, name, entry, tensors)
    loaded = replace_layers(model, replacements)

    inside = tuple(f"{name}." if name else "" for name in described)
    wanted = {name: tensor for name, tensor in loaded.state_dict().items() if not name.startswith(inside)}
    stored = {name: tensor for name, tensor in tensors.items() if not name.startswith(inside)}
    if wanted.keys() != stored.keys():
        missing, extra = sorted(wanted.keys() - stored.keys()), sorted(stored.keys() - wanted.keys())
        raise PackedFileError(f"{path} belongs to another network: it lacks {missing} and has {extra} besides")
    for name, tensor in wanted.items():
        if tensor.shape != stored[name].shape:
            shapes = tuple(stored[name].shape), tuple(tensor.shape)
            raise PackedFileError(f"{path}: {name!r} has the shape {shapes[0]}, the model's {shapes[1]}")
    # Assigning, not copying: the model may have been built on the device "meta", without memory.
    stored = {name: tensor.to(wanted[name].dtype) for name, tensor in stored.items()}
    loaded.load_state_dict(stored, strict=False, assign=True)
    return loaded.requires_grad_(False)


def _layer(path: str | Path, name: str, entry: dict, tensors: dict[str, Tensor]) -> PackedBitLinear:
    prefix, spec = f"{name}." if name else "", QuantSpec(**entry["spec"])
    try:
        t = from_bytes(tensors[f"{prefix}codes"], spec.weights, *entry["shape"])
        beta, bias = tensors[f"{prefix}beta"], tensors.get(f"{prefix}bias")
    except (KeyError, ValueError) as error:
        raise PackedFileError(f"{path}: layer {name!r} is not complete: {error}") from error
    return PackedBitLinear(t, beta, bias, spec)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, dict]]:
    """Tensors and layers of a file, after all checks that need no model."""
    content = path.read_bytes()
    try:
        tensors = parse_tensors(content)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(json.loads(content[8 : 8 + length]).get("__metadata__", {}).get("bithep", "{}"))
    except (SafetensorError, ValueError) as error:
        raise PackedFileError(f"{path} is no safetensors file, or a truncated one: {error}") from error
    if header.get("format") != FORMAT:
        raise PackedFileError(f"{path} is a safetensors file, but not a packed network (save_packed writes these)")
    if header.get("version") != VERSION:
        raise PackedFileError(
            f"{path} has version {header.get('version')!r} of the format; this library reads {VERSION!r}"
        )
    if header.get("sha256") != _checksum(tensors, header.get("layers")):
        raise PackedFileError(f"{path} is damaged: its tensors do not have the checksum that was written with them")
    return tensors, header["layers"]


def _checksum(tensors: dict[str, Tensor], layers: object) -> str:
    digest = hashlib.sha256(json.dumps(layers, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()
