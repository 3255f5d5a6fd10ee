import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bithep_lib.models import splines

SPLINES = {"rational_quadratic": 29, "cubic": 22}


def draw(name: str, *, seed: int, spread: float, bound: float = 5.0, rows: int = 200, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    theta = spread * torch.randn(rows, SPLINES[name], 7, generator=generator, dtype=dtype)
    x = bound * (2.4 * torch.rand(rows, 7, generator=generator, dtype=dtype) - 1.2)
    x[0], x[1], x[2] = bound, -bound, 0.0
    return x, theta


@pytest.mark.parametrize("name", SPLINES)
@given(seed=st.integers(0, 1000), spread=st.sampled_from([0.0, 0.5, 2.0, 8.0]))
def test_maps_back_and_knows_its_slope(name, seed, spread):
    spline = getattr(splines, name)
    x, theta = draw(name, seed=seed, spread=spread)
    x.requires_grad_()
    y, log_slope = spline(x, theta, bound=5.0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    inner = slice(2, None)  # the first two rows are the ends, where a derivative has two sides
    torch.testing.assert_close(slope.log()[inner], log_slope[inner], atol=1e-8, rtol=0)

    y = y.detach().requires_grad_()
    back, log_inverse = spline(y, theta, bound=5.0, inverse=True)
    torch.testing.assert_close(back, x.detach(), atol=1e-6, rtol=0)
    # A bin may be a thousand times steeper than its neighbour, and rounding of x then shows in the slope.
    torch.testing.assert_close(log_inverse, -log_slope.detach(), atol=3e-3, rtol=0)
    (slope,) = torch.autograd.grad(back.sum(), y)
    torch.testing.assert_close(slope.log()[inner], log_inverse.detach()[inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SPLINES)
def test_is_increasing_on_the_interval_and_the_identity_outside(name):
    theta = 2 * torch.randn(SPLINES[name], 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x = torch.linspace(-6, 6, 2001, dtype=torch.float64)[:, None]
    y, log_slope = getattr(splines, name)(x, theta.expand(2001, -1, -1), bound=5.0)
    assert (y.diff(dim=0) > 0).all()
    outside = x.abs() > 5
    assert torch.equal(y[outside], x[outside])
    assert (log_slope[outside] == 0).all()


def test_untrained_splines_are_nearly_the_identity():
    """With zeros from the network: inner slopes 1e-3 + ln 2 and ends 1, or ends 1.5 for the cubic."""
    x = torch.linspace(-5, 5, 10_001, dtype=torch.float64)
    y, log_slope = splines.rational_quadratic(x, torch.zeros(29, 10_001, dtype=torch.float64), bound=5.0)
    knots = torch.arange(-4, 5)
    inner = [int((x - k).abs().argmin()) for k in knots]
    torch.testing.assert_close(
        log_slope[inner].exp(), torch.full((9,), 0.694147, dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert log_slope[[0, -1]].exp().tolist() == pytest.approx([1.0, 1.0])
    y, log_slope = splines.cubic(x, torch.zeros(22, 10_001, dtype=torch.float64), bound=5.0)
    assert log_slope[[0, -1]].exp().tolist() == pytest.approx([1.5, 1.5], abs=1e-3)
    assert y[5000].item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", SPLINES)
def test_finite_input_gives_no_nan(name):
    """Thousands of published showers were lost to the cubic's inverse; parameters here are as wild as floats get."""
    spline = getattr(splines, name)
    for spread in (1.0, 30.0, 1e4, 1e30):
        x, theta = draw(name, seed=5, spread=spread, dtype=torch.float32)
        x[3] = torch.tensor([1e30, -1e30, 1e-30, -1e-30, 5.000001, -5.000001, 4.999999])
        for inverse in (False, True):
            y, log_slope = spline(x, theta, bound=5.0, inverse=inverse)
            assert y.isfinite().all()
            assert log_slope.isfinite().all()
            assert (y[x.abs() <= 5].abs() <= 5.001).all()


def test_rational_quadratic_worked_number():
    """Two bins of [-1, 1]: widths 1/2 and 3/2 of 2, equal heights, inner slope 1: halfway into the first bin."""
    softmax_quarter = torch.log(torch.tensor([0.25, 0.75], dtype=torch.float64))
    inner = torch.log(torch.expm1(torch.tensor([1 - 1e-3], dtype=torch.float64)))
    theta = torch.cat([softmax_quarter, torch.zeros(2, dtype=torch.float64), inner])
    y, _ = splines.rational_quadratic(torch.tensor([-0.75], dtype=torch.float64), theta[:, None], bound=1.0)
    # width 2 (1e-3 + 0.998 / 4) = 0.501, height 1, s = 1/0.501, xi = 0.25 / 0.501, delta = 1 at both ends
    width = 2 * (1e-3 + 0.998 / 4)
    s, xi = 1 / width, 0.25 / width
    expected = -1 + (s * xi**2 + xi * (1 - xi)) / (s + (2 - 2 * s) * xi * (1 - xi))
    assert y.item() == pytest.approx(expected, abs=1e-12)
