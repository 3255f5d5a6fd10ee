"""Weight codes as bytes: two bits each for computing, five codes a byte for storing.

In memory the codes of a layer lie as the kernel reads them (``native/bitlinear.cpp`` describes the layout): 2 bits a
weight, in blocks of 16 outputs and 16 inputs. On disk, ternary codes are written as the digits of numbers in base
three: 3^5 = 243 fit a byte, so a weight takes 1.6 bits, where log2(3) = 1.585 is the least. Binary codes take one bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bithep_lib.native import BLOCK, PANEL
from bithep_lib.spec import WeightKind

_SHIFTS = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)
_POWERS = torch.tensor([1, 3, 9, 27, 81], dtype=torch.uint8)
_BITS = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8)


def pack_codes(t: Tensor) -> Tensor:
    """Codes t in {-1, 0, 1}, int8 (out, in), in the kernel's layout: uint8, 4 a byte, both dimensions padded to 16.

    Example:
        >>> pack_codes(torch.ones(64, 100, dtype=torch.int8)).numel()  # 64 x 112 codes
        1792
    """
    n, k = t.shape
    padded = torch.nn.functional.pad(t + 1, (0, -k % BLOCK, 0, -n % PANEL), value=1).to(torch.uint8)
    # (panel, output, block, group i, input r of the group) -> (panel, block, output, input r, group i)
    blocks = padded.view(-1, PANEL, padded.shape[1] // BLOCK, 4, 4).permute(0, 2, 1, 4, 3)
    return (blocks << _SHIFTS.to(t.device)).sum(-1, dtype=torch.uint8).flatten()


def unpack_codes(packed: Tensor, out_features: int, in_features: int) -> Tensor:
    """The inverse of `pack_codes`: int8 (out, in)."""
    blocks = packed.view(-(-out_features // PANEL), -(-in_features // BLOCK), PANEL, 4, 1)
    codes = (blocks >> _SHIFTS.to(packed.device) & 3).permute(0, 2, 1, 4, 3)
    codes = codes.reshape(-(-out_features // PANEL) * PANEL, -1)[:out_features, :in_features]
    return codes.to(torch.int8) - 1


def to_bytes(t: Tensor, kind: WeightKind) -> Tensor:
    """Codes int8 (out, in) for storing: uint8, five a byte (ternary) or eight (binary); int8 codes stay as they are."""
    if kind == "int8":
        return t.clone()
    digits, weights = (t.flatten() + 1, _POWERS) if kind == "ternary" else ((t.flatten() + 1) // 2, _BITS)
    digits = torch.nn.functional.pad(digits, (0, -digits.numel() % len(weights))).to(torch.uint8)
    return (digits.view(-1, len(weights)) * weights).sum(-1, dtype=torch.uint8)


def from_bytes(stored: Tensor, kind: WeightKind, out_features: int, in_features: int) -> Tensor:
    """The inverse of `to_bytes`.

    Raises:
        ValueError: the bytes are not as many as the shape needs, or not codes of this kind.
    """
    count = out_features * in_features
    weights = {"ternary": _POWERS, "binary": _BITS, "int8": _BITS[:1]}[kind]
    if stored.dtype != (torch.int8 if kind == "int8" else torch.uint8) or stored.numel() != -(-count // len(weights)):
        raise ValueError(
            f"{kind} codes of shape ({out_features}, {in_features}) take {-(-count // len(weights))} bytes, "
            f"not {stored.numel()} of {stored.dtype}"
        )
    if kind == "int8":
        return stored.view(out_features, in_features)
    if kind == "ternary" and count and stored.max() >= 243:
        raise ValueError(f"{int(stored.max())} is no byte of five ternary codes (0 to 242)")
    base = 3 if kind == "ternary" else 2
    digits = (stored[:, None] // weights % base).flatten()[:count].to(torch.int8)
    return (digits - 1 if kind == "ternary" else 2 * digits - 1).view(out_features, in_features)
