"""What a parameter may be, and the one clear line a wrong one gets.

A settings class (`study.settings`) declares each of its fields with one of the functions below: `integer`, `number`,
`choice`, ... The same declaration checks the parameters of a notebook and the command line of
``python -m bithep_lib.run``.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from bithep_lib.suggest import did_you_mean


class ParameterError(ValueError):
    """A parameter has an unknown name, a wrong type or an impossible value. The message is one line for the user."""


@dataclass(frozen=True)
class Kind:
    """The values a parameter may take. `doc` says in a few words what the parameter means."""

    doc: str

    def check(self, name: str, value: Any) -> Any:
        """The value in its canonical type.

        Raises:
            ParameterError: names the parameter, the value and the values allowed.
        """
        raise NotImplementedError

    def refuse(self, name: str, value: Any, hint: str = "") -> ParameterError:
        return ParameterError(f"{name}={value!r} is not allowed: {name} is {self}{hint}")


@dataclass(frozen=True)
class Integer(Kind):
    low: int
    high: int | None = None

    def __str__(self) -> str:
        return f"an integer from {self.low} to {self.high}" if self.high is not None else f"an integer >= {self.low}"

    def check(self, name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            whole = isinstance(value, float) and value.is_integer()
            raise self.refuse(name, value, f"; write {int(value)}" if whole else "")
        if value < self.low or (self.high is not None and value > self.high):
            raise self.refuse(name, value)
        return int(value)


@dataclass(frozen=True)
class Number(Kind):
    low: float
    below: float = math.inf
    low_allowed: bool = False

    def __str__(self) -> str:
        top = f" and < {self.below:g}" if self.below < math.inf else ""
        return f"a number {'>=' if self.low_allowed else '>'} {self.low:g}{top}"

    def check(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            text = isinstance(value, str) and _is_number(value)
            raise self.refuse(name, value, "; this is text (YAML reads 1e-3 as text: write 1.0e-3)" if text else "")
        if not (self.low < value < self.below or (self.low_allowed and value == self.low)):
            raise self.refuse(name, value)
        return float(value)


@dataclass(frozen=True)
class Choice(Kind):
    allowed: tuple[str, ...]
    or_path: bool = False

    def __str__(self) -> str:
        return f"one of {', '.join(map(repr, self.allowed))}" + (" or the path of a file" if self.or_path else "")

    def check(self, name: str, value: Any) -> str:
        if isinstance(value, os.PathLike) and self.or_path:
            value = os.fspath(value)
        if not isinstance(value, str):
            raise self.refuse(name, value)
        if value in self.allowed:
            return value
        if self.or_path:
            path = os.path.expanduser(value)
            if os.path.exists(path):
                return os.path.abspath(path)
            raise self.refuse(name, value, f" that exists{did_you_mean(value, self.allowed)}")
        raise self.refuse(name, value, did_you_mean(value, self.allowed))


@dataclass(frozen=True)
class Choices(Kind):
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        return f"a list of one or more of {', '.join(map(repr, self.allowed))}, each once"

    def check(self, name: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, str) or not isinstance(value, Iterable):
            hint = f"; write [{value!r}]" if value in self.allowed else ""
            raise self.refuse(name, value, hint)
        value = tuple(value)
        for item in value:
            if item not in self.allowed:
                raise self.refuse(name, list(value), did_you_mean(str(item), self.allowed))
        if not value or len(set(value)) != len(value):
            raise self.refuse(name, list(value))
        return value


@dataclass(frozen=True)
class Device(Kind):
    def __str__(self) -> str:
        return "'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'"

    def check(self, name: str, value: Any) -> str:
        kind, _, index = value.partition(":") if isinstance(value, str) else ("", "", "")
        if value in ("auto", "cpu", "cuda", "mps") or (kind == "cuda" and index.isdecimal()):
            return value
        raise self.refuse(name, value)


@dataclass(frozen=True)
class Folder(Kind):
    def __str__(self) -> str:
        return "the path of a folder"

    def check(self, name: str, value: Any) -> str:
        if not isinstance(value, str | os.PathLike) or not os.fspath(value):
            raise self.refuse(name, value)
        path = os.path.abspath(os.path.expanduser(os.fspath(value)))
        if os.path.exists(path) and not os.path.isdir(path):
            raise self.refuse(name, value, ", and this is a file")
        return path


def integer(doc: str, *, low: int = 0, high: int | None = None, default: int | None = None) -> Any:
    """A settings field that holds a whole number."""
    return _field(Integer(doc, low, high), default)


def number(doc: str, *, below: float = math.inf, zero: bool = False, default: float | None = None) -> Any:
    """A settings field that holds a positive real number (`zero`: or 0) below a bound."""
    return _field(Number(doc, 0.0, below, zero), default)


def choice(doc: str, *allowed: str, or_path: bool = False, default: str | None = None) -> Any:
    """A settings field that holds one of a few words, or (with `or_path`) the path of a file that exists."""
    return _field(Choice(doc, allowed, or_path), default)


def choices(doc: str, *allowed: str, default: tuple[str, ...] | None = None) -> Any:
    """A settings field that holds a list of words."""
    return _field(Choices(doc, allowed), default)


def device(doc: str, default: str = "auto") -> Any:
    """A settings field that names where the networks run."""
    return _field(Device(doc), default)


def folder(doc: str) -> Any:
    """A settings field that holds the path of a folder, by default none."""
    return _field(Folder(doc), None, optional=True)


def limit(doc: str) -> Any:
    """A settings field that holds a positive number, by default none: no limit."""
    return _field(Number(doc, 0.0), None, optional=True)


def _field(kind: Kind, default: Any, *, optional: bool = False) -> Any:
    metadata = {"kind": kind, "optional": optional}
    if default is None and not optional:
        return field(metadata=metadata)  # every scale has to say
    return field(default=default, metadata=metadata)


def check(settings: Any, owner: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Check parameters against the fields of a settings class or object.

    Args:
        settings: the class or object whose fields were made by the functions of this module.
        owner: what the message calls it, for instance ``"chapter 'quark_gluon'"``.
        parameters: name to value. A value None stands for "what the scale says".

    Returns:
        The parameters that are not None, in their canonical types.

    Raises:
        ParameterError: an unknown name, a wrong type or an impossible value.
    """
    known = {item.name: item.metadata["kind"] for item in fields(settings)}
    for name in parameters:
        if name not in known:
            raise ParameterError(
                f"{owner} has no parameter {name!r}{did_you_mean(name, known)}; it has: scale, {', '.join(known)}"
            )
    return {name: known[name].check(name, value) for name, value in parameters.items() if value is not None}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
