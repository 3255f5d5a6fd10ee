r"""Monotone splines on an interval: the elementwise maps inside a coupling block.

A spline of K bins is an increasing map of :math:`[-B, B]` onto itself that passes through K + 1 knots; a network gives
the bins' widths and heights, and the slopes. Here are the two of arXiv:2312.09290 (CaloINN): rational-quadratic
(Durkan et al., arXiv:1906.04032) and monotone cubic (Durkan et al., arXiv:1906.02145, with Steffen's slopes).

Both return the mapped values and the *elementwise* logarithm of the derivative, and both are the identity outside of
:math:`[-B, B]`. No finite input gives a NaN. In float32 a bin may be as steep as 1e3, so round trips are exact to
about 1e-3 in the worst bin; tests use float64.

Parameters lie along the axis *before* the values, (..., P, D) for values (..., D): every step is then one operation on
rows of D neighbours in memory, several times faster than on D short rows of bins.

Example:

    >>> x, theta = torch.linspace(-4, 4, 9, dtype=torch.float64), torch.randn(14, 9, dtype=torch.float64)
    >>> y, log_slope = rational_quadratic(x, theta, bound=3.0)
    >>> torch.allclose(rational_quadratic(y, theta, bound=3.0, inverse=True)[0], x)
    True
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_FRACTION = 1e-3
"""Smallest width and height of a bin, as a fraction of the interval."""
MIN_SLOPE = 1e-3
"""Smallest slope at a knot."""

_UNIT_SLOPE = math.log(math.expm1(1 - MIN_SLOPE))
"""The parameter that gives slope 1."""

Spline = Callable[..., tuple[Tensor, Tensor]]


def rational_quadratic(x: Tensor, theta: Tensor, *, bound: float, inverse: bool = False) -> tuple[Tensor, Tensor]:
    r"""Rational-quadratic spline with slope 1 at both ends.

    In a bin with width :math:`\Delta x`, height :math:`\Delta y`, mean slope :math:`s = \Delta y / \Delta x`, slopes
    :math:`\delta_k, \delta_{k+1}` at its knots and :math:`\xi = (x - x_k) / \Delta x`

    .. math:: y = y_k + \Delta y\, \frac{s \xi^2 + \delta_k\, \xi (1 - \xi)}
                                        {s + (\delta_k + \delta_{k+1} - 2 s)\, \xi (1 - \xi)} .

    Args:
        x: (..., D) values.
        theta: (..., 3K - 1, D) parameters: K widths, K heights (softmax) and K - 1 inner slopes (softplus).
        bound: B, half the interval.
        inverse: map back.

    Returns:
        The mapped values and the logarithms of the derivatives, both (..., D).
    """
    bins = (theta.shape[-2] + 1) // 3
    widths, heights, slopes = theta.split([bins, bins, bins - 1], dim=-2)
    widths, heights = _bins(widths, bound), _bins(heights, bound)
    clamped = x.clamp(-bound, bound)
    bin_ = (heights if inverse else widths).find(clamped)
    x0, dx = widths.pick(bin_)
    y0, dy = heights.pick(bin_)
    slopes = F.pad(slopes, (0, 0, 1, 1), value=_UNIT_SLOPE)
    d0, d1 = (MIN_SLOPE + F.softplus(_pick(slopes, knot)) for knot in (bin_, bin_ + 1))
    slope = dy / dx
    curvature = d0 + d1 - 2 * slope

    if inverse:
        rise = clamped - y0
        a = dy * (slope - d0) + rise * curvature
        b = dy * d0 - rise * curvature
        c = -slope * rise
        root = (b * b - 4 * a * c).clamp_min(0).sqrt()
        xi = (2 * c / (-b - root)).clamp(0, 1)
        y = x0 + xi * dx
    else:
        xi = ((clamped - x0) / dx).clamp(0, 1)
    mixed = xi * (1 - xi)
    denominator = slope + curvature * mixed
    if not inverse:
        y = y0 + dy * (slope * xi * xi + d0 * mixed) / denominator
    log_slope = (d1 * xi * xi + 2 * slope * mixed + d0 * (1 - xi) ** 2).log() + 2 * (slope / denominator).log()
    return _with_tails(x, y, -log_slope if inverse else log_slope, bound)


def cubic(x: Tensor, theta: Tensor, *, bound: float, inverse: bool = False) -> tuple[Tensor, Tensor]:
    r"""Monotone cubic spline.

    In a bin :math:`y = a \xi^3 + b \xi^2 + c\,\xi + y_k` with :math:`\xi = x - x_k`,
    :math:`a = (d_k + d_{k+1} - 2 s_k) / w_k^2`, :math:`b = (3 s_k - 2 d_k - d_{k+1}) / w_k`, :math:`c = d_k`. The
    inner slopes follow from the mean slopes :math:`s_k` of neighbouring bins (Steffen, A&A 239 (1990) 443), and only
    the two at the ends are free.

    The inverse is found by Newton's method inside a bracket that every step halves or improves, so that there is no
    root to choose and nothing to divide by a vanishing :math:`a`. The last step is differentiable, which gives the
    exact gradient.

    Args:
        x: (..., D) values.
        theta: (..., 2K + 2, D) parameters: K widths, K heights (softmax), left and right slope (sigmoid).
        bound: B, half the interval.
        inverse: map back.

    Returns:
        The mapped values and the logarithms of the derivatives, both (..., D).
    """
    bins = theta.shape[-2] // 2 - 1
    widths, heights, ends = theta.split([bins, bins, 2], dim=-2)
    widths, heights = _bins(widths, bound), _bins(heights, bound)
    slopes = _steffen(widths.sizes, heights.sizes, ends)
    clamped = x.clamp(-bound, bound)
    bin_ = (heights if inverse else widths).find(clamped)
    x0, w = widths.pick(bin_)
    y0, h = heights.pick(bin_)
    d0, d1 = _pick(slopes, bin_), _pick(slopes, bin_ + 1)
    s = h / w
    # With t = xi / w in [0, 1]: y - y_k = ((A t + B) t + C) t, which needs no division by w^2.
    a, b, c = w * (d0 + d1 - 2 * s), w * (3 * s - 2 * d0 - d1), w * d0

    if inverse:
        rise = (clamped - y0).clamp_min(0).minimum(h)
        with torch.no_grad():
            t = _solve(a, b, c, h, rise)
        if torch.is_grad_enabled():
            t = t - (((a * t + b) * t + c) * t - rise) / ((3 * a * t + 2 * b) * t + c).detach().clamp_min(1e-9)
        y = x0 + t.clamp(0, 1) * w
    else:
        t = ((clamped - x0) / w).clamp(0, 1)
        y = y0 + ((a * t + b) * t + c) * t
    log_slope = (((3 * a * t + 2 * b) * t + c) / w).clamp_min(1e-9).log()
    return _with_tails(x, y, -log_slope if inverse else log_slope, bound)


def _with_tails(x: Tensor, y: Tensor, log_slope: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """The identity outside of the interval. Inside, rounding must not take a value out, or it would not come back."""
    inside = (x >= -bound) & (x <= bound)
    return torch.where(inside, y.clamp(-bound, bound), x), torch.where(inside, log_slope, 0.0)


class _Bins(NamedTuple):
    """Bins that fill [-B, B], with softmax(logits) as sizes, none below `MIN_FRACTION` of the interval."""

    rise: Tensor
    """(..., K, D) exp(logits), up to a factor a column."""
    scale: Tensor
    """(..., 1, D) times `rise` is what a bin has beyond the smallest size."""
    starts: Tensor
    """(..., K, D) left ends."""
    smallest: float

    @property
    def sizes(self) -> Tensor:
        """(..., K, D)"""
        return self.smallest + self.scale * self.rise

    def find(self, x: Tensor) -> Tensor:
        """Number of the bin that holds x: how many of the others do not start above it."""
        below = self.starts[..., 1:, :] <= x.unsqueeze(-2)
        return below.to(torch.int8).sum(-2, dtype=torch.int8).long()  # four times faster than a sum of booleans

    def pick(self, bin_: Tensor) -> tuple[Tensor, Tensor]:
        """Left end and size of these bins."""
        return _pick(self.starts, bin_), self.smallest + self.scale.squeeze(-2) * _pick(self.rise, bin_)


def _bins(logits: Tensor, bound: float) -> _Bins:
    bins = logits.shape[-2]
    smallest = 2 * bound * MIN_FRACTION
    rise = (logits - logits.detach().amax(-2, keepdim=True)).exp()
    total = rise.cumsum(-2)
    scale = (2 * bound - bins * smallest) / total[..., -1:, :]
    first = torch.arange(bins, dtype=rise.dtype, device=rise.device).unsqueeze(-1) * smallest - bound
    return _Bins(rise, scale, torch.addcmul(first, total - rise, scale), smallest)


def _pick(values: Tensor, bin_: Tensor) -> Tensor:
    return values.gather(-2, bin_.unsqueeze(-2)).squeeze(-2)


def _steffen(widths: Tensor, heights: Tensor, ends: Tensor) -> Tensor:
    """Slopes at the K + 1 knots with which the cubic is increasing in every bin."""
    s = heights / widths
    s0, s1, w0, w1 = s[..., :-1, :], s[..., 1:, :], widths[..., :-1, :], widths[..., 1:, :]
    inner = 2 * torch.minimum(torch.minimum(s0, s1), 0.5 * (w1 * s0 + w0 * s1) / (w0 + w1))
    outer = MIN_SLOPE + ends.sigmoid() * (3 * s[..., [0, -1], :] - 2 * MIN_SLOPE)
    return torch.cat([outer[..., :1, :], inner, outer[..., 1:, :]], dim=-2)


def _solve(a: Tensor, b: Tensor, c: Tensor, h: Tensor, rise: Tensor, steps: int = 60) -> Tensor:
    """The t in [0, 1] where the increasing cubic ((a t + b) t + c) t equals `rise`, with Newton and bisection."""
    low, high = torch.zeros_like(rise), torch.ones_like(rise)
    t = rise / h
    for _ in range(steps):
        excess = ((a * t + b) * t + c) * t - rise
        low, high = torch.where(excess < 0, t, low), torch.where(excess < 0, high, t)
        newton = t - excess / ((3 * a * t + 2 * b) * t + c)
        inside = (newton > low) & (newton < high)  # False for NaN
        proposal = torch.where(inside, newton, 0.5 * (low + high))
        if torch.equal(proposal, t):
            break
        t = proposal
    return t
