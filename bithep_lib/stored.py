"""Trained networks that come with the library.

    >>> import bithep_lib
    >>> model = bithep_lib.load("quark_gluon/pfn-all")          # doctest: +SKIP

A network is two files: ``<name>.safetensors`` holds its numbers, ``<name>.json`` says which class with which arguments
they belong to, which layers are bits, how it was trained, and the checksum of the numbers. Nothing is unpickled.

Of a ternary layer only the codes are stored, five a byte, and their scale. Such a layer comes back with weights that
are quantised to just these codes and (up to the last digit) this scale; those that it was trained with are gone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as write_tensors
from torch import Tensor, nn

from bithep_lib.bitlinear import BitLinear, QuantSpec, weight_codes
from bithep_lib.codes import from_bytes, to_bytes
from bithep_lib.files import write_atomic
from bithep_lib.quantize import quantize_
from bithep_lib.suggest import did_you_mean

FORMAT = 1


def available(folder: str | Path | None = None) -> list[str]:
    """The names that `load` knows: of the networks in the package, or in `folder`."""
    root = _root(folder)
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.json"))


def describe(name: str, folder: str | Path | None = None) -> dict[str, Any]:
    """What is written about a stored network: class, arguments, layers in bits, checksum, and how it was made.

    Raises:
        ValueError: an unknown name (with those there are), or a damaged description.
    """
    known = available(folder)
    if name not in known:
        there = f"the stored networks are {', '.join(known)}" if known else "there are no stored networks"
        raise ValueError(f"there is no stored network {name!r}{did_you_mean(name, known)}; {there}")
    path = _root(folder) / f"{name}.json"
    try:
        about = json.loads(path.read_text())
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, this version reads {FORMAT}")
        return {key: about[key] for key in ("format", "model", "arguments", "layers", "sha256", "about")}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe a stored network: {error}") from error


def load(name: str, *, folder: str | Path | None = None) -> nn.Module:
    """A stored network, in evaluation mode.

    Args:
        name: for instance ``"quark_gluon/pfn-all"``; `available` lists them.
        folder: where to look instead of the package.

    Raises:
        ValueError: an unknown name, a checksum that does not match, or numbers that do not fit the network.
    """
    about = describe(name, folder)
    path = _root(folder) / f"{name}.safetensors"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ValueError(f"{path} is damaged or of another version: its checksum is not the one in {path.stem}.json")
    with torch.random.fork_rng(devices=()):  # the initial weights are drawn, and replaced
        model = _class(about["model"])(**about["arguments"])
    for spec in {json.dumps(spec, sort_keys=True) for spec in about["layers"].values()}:
        names = {layer for layer, found in about["layers"].items() if json.dumps(found, sort_keys=True) == spec}
        quantize_(model, lambda layer, _, names=names: layer in names, QuantSpec(**json.loads(spec)))
    try:
        tensors = read_tensors(content)
        _unpack(tensors, model)
        model.load_state_dict(tensors)
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path} does not fit {about['model']}: {' '.join(str(error).split())}") from error
    return model.eval()


def save(
    model: nn.Module,
    name: str,
    folder: str | Path,
    *,
    arguments: Mapping[str, Any],
    half: bool = True,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Store a network of `bithep_lib.models` so that `load` can bring it back.

    Args:
        model: the network, with or without BitLinear layers.
        name: ``"<chapter>/<what>"``; letters, digits and ``_ + - .``.
        folder: the root under which `name` is placed; the package's own is ``bithep_lib/weights``.
        arguments: what the class was called with, as JSON can hold it.
        half: floats in 16 bits, except buffers; ternary layers as codes, and other BitLinear layers with their exact
            weights, so that no code changes. Metrics quoted for a stored network are to be those of the network that
            `load` returns.
        about: how it was made: the record's file name, seed, metrics, ...

    Returns:
        The description file. Both files are replaced atomically, the numbers first.

    Raises:
        ValueError: a model of another library, a bad name, a number that is not finite or does not fit 16 bits, or
            arguments that build another network.
    """
    if not re.fullmatch(r"[\w+.-]+/[\w+.-]+", name):
        raise ValueError(f"name={name!r} must be '<chapter>/<what>', of letters, digits and _ + - .")
    kind = type(model).__name__
    if _class(kind) is not type(model):
        raise ValueError(f"{kind} is not a class of bithep_lib.models, so that load could not build it")
    bits = {layer: module for layer, module in model.named_modules() if isinstance(module, BitLinear)}
    exact = {f"{layer}.weight" for layer in bits} | {buffer for buffer, _ in model.named_buffers()}
    tensors = {}
    for key, value in model.state_dict().items():
        value = value.detach().cpu().contiguous().clone()
        tensors[key] = value.half() if half and key not in exact and value.is_floating_point() else value
        if value.is_floating_point() and not torch.isfinite(tensors[key]).all():
            raise ValueError(f"{key} has numbers that are not finite" + (" in 16 bits" if half else ""))
    try:
        with torch.random.fork_rng(devices=()):
            _class(kind)(**arguments).load_state_dict(tensors)
    except (RuntimeError, TypeError) as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"the arguments {dict(arguments)} build another network: {problem}") from error
    if half:
        for layer, module in bits.items():
            if module.spec.weights == "ternary" and not module.spec.power_of_two:
                codes, scale = weight_codes(tensors.pop(f"{layer}.weight").float(), module.spec)
                tensors |= {f"{layer}.codes": to_bytes(codes, "ternary"), f"{layer}.scale": scale}
    content = write_tensors(tensors)
    description = {
        "format": FORMAT,
        "model": kind,
        "arguments": dict(arguments),
        "layers": {layer: asdict(module.spec) for layer, module in bits.items()},
        "sha256": hashlib.sha256(content).hexdigest(),
        "about": dict(about or {}),
    }
    text = json.dumps(description, indent=1) + "\n"
    write_atomic(Path(folder) / f"{name}.safetensors", content)
    return write_atomic(Path(folder) / f"{name}.json", text)


def _unpack(tensors: dict[str, Tensor], model: nn.Module) -> None:
    """Replace codes and scale by weights whose mean absolute value is the scale: equation 1 makes the codes of them."""
    for layer, module in model.named_modules():
        if (packed := tensors.pop(f"{layer}.codes", None)) is None:
            continue
        try:
            codes = from_bytes(packed, "ternary", module.out_features, module.in_features)
            share = (codes.count_nonzero() / codes.numel()).clamp_min(1 / codes.numel())
            tensors[f"{layer}.weight"] = codes * (tensors.pop(f"{layer}.scale") / share)
        except (AttributeError, KeyError, ValueError) as error:
            raise ValueError(f"{layer}: {error}") from error


def _root(folder: str | Path | None) -> Path:
    return Path(str(resources.files("bithep_lib") / "weights")) if folder is None else Path(folder)


def _class(name: str) -> type[nn.Module]:
    from bithep_lib import models

    found = getattr(models, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"bithep_lib.models has no network {name!r}")
    return found
