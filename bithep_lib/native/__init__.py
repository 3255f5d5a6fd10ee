"""Two ways to compute a BitLinear layer, equal to the bit, and the choice between them.

``native``
    A C++ kernel that multiplies 2-bit weights with 8-bit inputs in integers, compiled once for this processor
    (`bithep_lib.native.build`). It serves float32 tensors on x86 processors with AVX2, in training and packed.
``torch``
    The same integers in a float32 matrix product. It serves everything else: any device, any dtype, any `QuantSpec`.

By default (``auto``) the kernel is used wherever it can be, with one warning where it cannot be built. The environment
variable ``BITHEP_BACKEND`` and `use_backend` choose otherwise.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from bithep_lib.native.build import BuildError
from bithep_lib.native.library import BLOCK, PANEL, Kernel, PackedLayer, load_kernel, padded

__all__ = [
    "BLOCK",
    "PANEL",
    "BuildError",
    "Kernel",
    "NativeUnavailable",
    "PackedLayer",
    "backend",
    "kernel",
    "loaded_kernel",
    "padded",
    "use_backend",
]

Backend = Literal["auto", "native", "torch"]


class NativeUnavailable(UserWarning):
    """The kernel cannot be built on this machine, so torch operations do its work: same results, slower."""


class _State:
    """The choice, and the kernel once somebody asked for it."""

    choice: Backend | None = None
    kernel: Kernel | None = None
    failure: str | None = None


def kernel() -> Kernel | None:
    """The compiled kernel, built at the first call; None where torch operations are chosen or nothing else works.

    Raises:
        RuntimeError: ``native`` is demanded and cannot be built.
        ValueError: ``BITHEP_BACKEND`` holds something else than auto, native or torch.
    """
    if _State.kernel is not None and _State.choice in ("auto", "native"):  # the usual case, first
        return _State.kernel
    if _State.choice is None:
        _State.choice = _checked(os.environ.get("BITHEP_BACKEND", "auto"), "the environment variable BITHEP_BACKEND")
    if _State.choice == "torch":
        return None
    if _State.kernel is None and _State.failure is None:
        try:
            _State.kernel = load_kernel()
        except BuildError as error:
            _State.failure = str(error)
            if _State.choice == "auto":
                warnings.warn(
                    f"BitLinear layers run on torch operations, with the same results but slower, because {error}. "
                    "Set BITHEP_BACKEND=torch to choose this without a warning.",
                    NativeUnavailable,
                    stacklevel=2,
                )
    if _State.kernel is None and _State.choice == "native":
        raise RuntimeError(f"the native backend was demanded, but {_State.failure}")
    return _State.kernel


def loaded_kernel() -> Kernel:
    """The kernel that computed a forward pass, for its backward pass, whatever is chosen now."""
    assert _State.kernel is not None
    return _State.kernel


def backend() -> str:
    """What computes BitLinear layers here: ``"torch"`` or ``"native (...)"`` with the instruction set."""
    found = kernel()
    return "torch" if found is None else f"native ({found.instructions})"


@contextmanager
def use_backend(choice: Backend) -> Iterator[None]:
    """Choose the backend within a ``with`` block.

    Args:
        choice: ``"auto"``, ``"native"`` (an error where it cannot be built) or ``"torch"``.

    Example:
        >>> with use_backend("torch"):
        ...     y = layer(x)
    """
    before = _State.choice
    _State.choice = _checked(choice, "use_backend: choice")
    try:
        yield
    finally:
        _State.choice = before


def _checked(choice: str, source: str) -> Backend:
    if choice not in get_args(Backend):
        raise ValueError(f"{source} is {choice!r}; choose one of {', '.join(get_args(Backend))}")
    return choice
