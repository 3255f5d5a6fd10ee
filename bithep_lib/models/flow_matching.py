r"""Conditional flow matching: a network learns the velocity that carries noise to data (arXiv:2210.02747).

Between noise :math:`x_0 \sim N(0, 1)` and data :math:`x_1` runs the straight line :math:`x_t = (1 - t) x_0 + t x_1`,
whose velocity is :math:`x_1 - x_0`. A network :math:`v(x_t, t)` that is fitted to it for random pairs learns the mean
velocity at each place, and solving :math:`\dot x = v(x, t)` from 0 to 1 turns new noise into new data.

Example:

    >>> velocity = lambda x, t: -x                       # x(1) = x(0) / e
    >>> solve(velocity, torch.ones(2), steps=10)
    tensor([0.3679, 0.3679])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class RungeKutta:
    """An explicit Runge-Kutta method: when it evaluates the velocity, where, and how it adds up (Butcher tableau)."""

    order: int
    times: tuple[float, ...]
    mixes: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


METHODS: Mapping[str, RungeKutta] = MappingProxyType(
    {
        "euler": RungeKutta(1, (0.0,), ((),), (1.0,)),
        "midpoint": RungeKutta(2, (0.0, 0.5), ((), (0.5,)), (0.0, 1.0)),
        "heun3": RungeKutta(3, (0.0, 1 / 3, 2 / 3), ((), (1 / 3,), (0.0, 2 / 3)), (0.25, 0.0, 0.75)),
        "rk4": RungeKutta(
            4, (0.0, 1 / 3, 2 / 3, 1.0), ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)
        ),
    }
)
"""``rk4`` is Kutta's 3/8 rule, with which the showers of arXiv:2405.09629 were made."""


def interpolate(data: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """The point between noise and data at ``time`` (broadcast against both), and the velocity there."""
    return (1 - time) * noise + time * data, data - noise


def solve(velocity: Velocity, noise: Tensor, *, steps: int, method: str = "rk4") -> Tensor:
    """Carry ``noise`` from t = 0 to t = 1.

    Args:
        velocity: of (x, t), called ``steps`` times the stages of the method.
        noise: x at t = 0, of any shape.
        steps: equal steps.
        method: a key of `METHODS`.

    Raises:
        ValueError: an unknown method, or no step.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}, allowed are {', '.join(METHODS)}")
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    tableau, h, x = METHODS[method], 1 / steps, noise
    for step in range(steps):
        slopes: list[Tensor] = []
        for time, mix in zip(tableau.times, tableau.mixes, strict=True):
            place = x + h * sum(a * k for a, k in zip(mix, slopes, strict=True) if a) if slopes else x
            slopes.append(velocity(place, (step + time) * h))
        x = x + h * sum(b * k for b, k in zip(tableau.weights, slopes, strict=True) if b)
    return x


def evaluations(steps: int, method: str = "rk4") -> int:
    """How often `solve` calls the velocity."""
    return steps * len(METHODS[method].times)
