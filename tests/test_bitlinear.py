"""Equations 1-3: worked numbers of the layer, and the properties that make it a drop-in linear layer."""

import copy
import gc
import math
import shutil
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from bithep_lib import BitLinear, QuantSpec
from bithep_lib.bitlinear import activation_codes, weight_codes
from bithep_lib.native import use_backend

W = torch.tensor([[0.4, -0.1, 0.25], [-0.9, 0.05, 0.3]])
B = torch.tensor([0.1, -0.2])
X = torch.tensor([[1, -2, 0.5], [0.01, 0.02, -0.04], [0, 0, 0]])
G = torch.tensor([[1.0, 0], [0, 1], [1, -1]])
THIRD = 1 / 3

TERNARY, BINARY = [[1, 0, 1], [-1, 0, 1]], [[1, -1, 1], [-1, 1, 1]]
TOKEN, TENSOR = [[64, -127, 32], [32, 64, -127], [0, 0, 0]], [[64, -128, 32], [1, 1, -3], [0, 0, 0]]
SPECS = {
    "ternary": QuantSpec.reference(),
    "binary": QuantSpec.reference("binary"),
    "ternary, paper": QuantSpec.paper(),
    "binary, paper": QuantSpec.paper("binary"),
}
OUTPUTS = {
    "ternary": [[0.6039370, -0.3679790], [0.0900262, -0.2166929], [0.1, -0.2]],
    "binary": [[1.2706038, -1.0346458], [0.0833071, -0.2099738], [0.1, -0.2]],
    "ternary, paper": [[0.6, -0.3666667], [0.0895833, -0.2208333], [0.1, -0.2]],
    "binary, paper": [[1.2666667, -1.0333333], [0.0843750, -0.2156250], [0.1, -0.2]],
}
INPUT_GRADIENTS = {
    "ternary": [[THIRD, 0, THIRD], [-THIRD, 0, THIRD], [2 * THIRD, 0, 0]],
    "binary": [[THIRD, -THIRD, THIRD], [-THIRD, THIRD, THIRD], [2 * THIRD, -2 * THIRD, 0]],
}


def layer_of(weight: torch.Tensor, bias: torch.Tensor | None = None, spec: QuantSpec = SPECS["ternary"]) -> BitLinear:
    layer = BitLinear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype, spec=spec)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# --- worked numbers ---------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_worked_numbers_forward(name):
    spec = SPECS[name]
    t, beta = weight_codes(W, spec)
    q, s = activation_codes(X, spec)
    assert t.tolist() == (TERNARY if "ternary" in name else BINARY)
    assert t.dtype == torch.int8
    assert beta.item() == pytest.approx(THIRD, rel=1e-7)
    assert q.tolist() == (TENSOR if "paper" in name else TOKEN)
    assert s.shape == (() if "paper" in name else (3, 1))
    torch.testing.assert_close(layer_of(W, B, spec)(X), torch.tensor(OUTPUTS[name]), rtol=0, atol=2e-7)


@pytest.mark.parametrize("name", ["ternary", "binary"])
def test_worked_numbers_gradients(name):
    layer, x = layer_of(W, B, SPECS[name]), X.clone().requires_grad_()
    layer(x).backward(G)
    expected = torch.tensor([[1.0078740, -2.0, 0.5039370], [0.0100787, 0.0201575, -0.04]])
    torch.testing.assert_close(layer.weight.grad, expected, rtol=0, atol=2e-7)
    assert layer.bias.grad.tolist() == [2, 0]
    torch.testing.assert_close(x.grad, torch.tensor(INPUT_GRADIENTS[name]), rtol=0, atol=2e-7)


def test_rounding_ties_go_to_the_even_code():
    codes, beta = weight_codes(torch.tensor([[0.5, 1.5, -0.5, -1.5]]))
    assert beta == 1
    assert codes.tolist() == [[0, 1, 0, -1]]


def test_binary_has_two_states_even_at_zero():
    assert weight_codes(torch.zeros(2, 3), QuantSpec("binary"))[0].tolist() == [[1] * 3] * 2


@pytest.mark.parametrize(
    ("kind", "sample", "zeros", "error"),
    [
        ("ternary", lambda g: torch.randn(1000, 1000, generator=g), 0.3101, 0.5132),
        ("binary", lambda g: torch.randn(1000, 1000, generator=g), 0.0, 0.6028),
        ("ternary", lambda g: torch.rand(1000, 1000, generator=g) * 2 - 1, 0.25, 0.3953),
    ],
)
def test_rounding_statistics_of_weights(kind, sample, zeros, error):
    weight = sample(torch.Generator().manual_seed(1))
    codes, beta = weight_codes(weight, QuantSpec(kind))
    assert (codes == 0).float().mean().item() == pytest.approx(zeros, abs=2e-3)
    assert ((beta * codes - weight).norm() / weight.norm()).item() == pytest.approx(error, abs=2e-3)


@pytest.mark.parametrize(("length", "error"), [(5, 0.0034), (20, 0.0049), (64, 0.0059), (256, 0.0070)])
def test_rounding_error_of_activations(length, error):
    x = random(20_000, length)
    q, s = activation_codes(x)
    assert ((q / s - x).norm() / x.norm()).item() == pytest.approx(error, abs=1e-4)


# --- properties -------------------------------------------------

shapes = st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**31))


@given(shapes, st.integers(-10, 10))
def test_the_layer_is_homogeneous(shape, exponent):
    tokens, k, n, seed = shape
    layer, x = layer_of(random(n, k, seed=seed)), random(tokens, k, seed=seed + 1)
    y = layer(x)
    assert torch.equal(layer(x * 2.0**exponent), y * 2.0**exponent)
    # another factor may move a code that sits on a tie by one, so compare the codes away from ties only
    q, s = activation_codes(x)
    if ((x * s - q).abs() < 0.499).all():
        torch.testing.assert_close(layer(3.7 * x), 3.7 * y, rtol=1e-6, atol=1e-6 * y.abs().max().item())
    torch.testing.assert_close(layer_of(5 * layer.weight.detach())(x), 5 * y, rtol=2e-6, atol=0)


@given(shapes)
def test_a_token_does_not_see_its_neighbours(shape):
    tokens, k, n, seed = shape
    weight, x = random(n, k, seed=seed), random(tokens, k, seed=seed + 1)
    larger = torch.cat([x, 100 * x.abs().max() * torch.ones(1, k)])
    layer = layer_of(weight)
    assert torch.equal(layer(larger)[:tokens], layer(x))
    assert torch.equal(torch.cat([layer(row[None]) for row in x]), layer(x))
    # and with one scale for the whole tensor it does: this is why QuantSpec.paper() never enters a reported number
    paper = layer_of(weight, spec=QuantSpec.paper())
    assert not torch.equal(activation_codes(larger, paper.spec)[0][:tokens], activation_codes(x, paper.spec)[0])


@given(shapes, st.integers(2, 16))
def test_codes_are_bounded_integers_that_use_the_range(shape, bits):
    tokens, k, _, seed = shape
    x = random(tokens, k, seed=seed)
    for spec in (QuantSpec(activation_bits=bits), QuantSpec(activation_bits=bits, levels=2 ** (bits - 1))):
        q, _ = activation_codes(x, spec)
        assert not q.is_floating_point()
        assert (q.abs().amax(dim=1) == spec.q_max).all()


@given(shapes, st.sampled_from([QuantSpec(), QuantSpec("binary"), QuantSpec("int8"), QuantSpec.paper()]))
def test_the_layer_is_its_integer_form(shape, spec):
    tokens, k, n, seed = shape
    weight, bias, x = random(n, k, seed=seed), random(n, seed=seed + 1), random(tokens, k, seed=seed + 2)
    t, beta = weight_codes(weight, spec)
    q, s = activation_codes(x, spec)
    integer_sum = q.long() @ t.long().t()
    assert torch.equal(layer_of(weight, bias, spec)(x), integer_sum.float() * (beta / s) + bias)


@given(st.integers(1, 5), st.sampled_from(["ternary", "int8"]))
def test_sums_beyond_the_exact_integers_of_float32_stay_exact(n, kind):
    spec = QuantSpec(kind, activation_bits=16)
    weight, x = random(n, 5000, seed=n).abs(), random(3, 5000, seed=n + 1).abs()
    t, beta = weight_codes(weight, spec)
    q, s = activation_codes(x, spec)
    exact = q.long() @ t.long().t()
    assert exact.abs().max() > 2**24
    assert torch.equal(layer_of(weight, spec=spec)(x), exact.float() * (beta / s))


@given(shapes)
def test_an_all_zero_token_gives_the_bias_and_finite_gradients(shape):
    tokens, k, n, seed = shape
    layer, x = layer_of(random(n, k, seed=seed), random(n, seed=seed + 1)), torch.zeros(tokens, k, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert torch.equal(y, layer.bias.expand_as(y))
    assert layer.weight.grad.count_nonzero() == 0
    assert x.grad.isfinite().all()


def test_more_bits_never_round_worse():
    x = random(2000, 64)
    errors = []
    for bits in range(2, 17):
        q, s = activation_codes(x, QuantSpec(activation_bits=bits))
        errors.append((q / s - x).norm().item())
    assert errors == sorted(errors, reverse=True)
    weight = random(32, 64, seed=1)
    t, beta = weight_codes(weight)
    float_product = F.linear(x, beta * t)
    y = layer_of(weight, spec=QuantSpec(activation_bits=16))(x)
    assert ((y - float_product).norm() / float_product.norm()).item() < 1e-4


def test_controls_without_weight_or_activation_rounding():
    weight, bias, x = random(7, 12), random(7, seed=1), random(5, 12, seed=2)
    neither = layer_of(weight, bias, QuantSpec(weights=None, activation_bits=None))
    torch.testing.assert_close(neither(x), F.linear(x, weight, bias))
    t, beta = weight_codes(weight)
    torch.testing.assert_close(layer_of(weight, bias, QuantSpec(activation_bits=None))(x), F.linear(x, beta * t, bias))
    q, s = activation_codes(x)
    torch.testing.assert_close(layer_of(weight, bias, QuantSpec(weights=None))(x), F.linear(q / s, weight, bias))


@pytest.mark.parametrize(
    "spec",
    [QuantSpec(), QuantSpec("binary"), QuantSpec("int8"), QuantSpec(weights=None), QuantSpec(activation_bits=None)],
)
def test_gradients_are_those_of_the_linear_layer_with_rounded_operands(spec):
    """The straight-through estimator, against autograd on explicit detached roundings in float64."""
    weight, bias, x, g = (
        random(*s, seed=i, dtype=torch.float64) for i, s in enumerate([(6, 20), (6,), (4, 3, 20), (4, 3, 6)])
    )
    layer, x = layer_of(weight, bias, spec), x.requires_grad_()
    layer(x).backward(g)
    x2, w2, b2 = (v.detach().clone().requires_grad_() for v in (x, weight, bias))
    w_round, x_round = w2, x2
    if spec.weights:
        t, beta = weight_codes(weight, spec)
        w_round = w2 + (beta * t - w2).detach()
    if spec.activation_bits:
        q, s = activation_codes(x, spec)
        x_round = x2 + (q / s - x2).detach()
    F.linear(x_round, w_round, b2).backward(g)
    for ours, autograd in [(x.grad, x2.grad), (layer.weight.grad, w2.grad), (layer.bias.grad, b2.grad)]:
        torch.testing.assert_close(ours, autograd, rtol=1e-12, atol=1e-12)


# --- numbers that are no numbers, dtypes, shapes ----------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_nan_or_infinity_spoils_its_own_token_only(bad):
    x = random(4, 10)
    clean = x.clone()
    x[2, 3] = bad
    layer = layer_of(random(5, 10, seed=1), random(5, seed=2))
    y = layer(x)
    assert y[2].isnan().all()
    keep = [0, 1, 3]
    assert torch.equal(y[keep], layer(clean)[keep])
    assert activation_codes(x)[1][:, 0].isnan().tolist() == [False, False, True, False]
    y.sum().backward()
    assert layer.weight.grad.isnan().all()  # a broken input must not train silently


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types(dtype):
    weight, bias, x = random(8, 64, dtype=dtype), random(8, seed=1, dtype=dtype), random(16, 64, seed=2, dtype=dtype)
    x[3] = 0  # in half precision the lower bound of gamma would vanish
    layer, x = layer_of(weight, bias), x.requires_grad_()
    y = layer(x)
    assert y.dtype == dtype
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    reference = layer_of(weight.to(wide), bias.to(wide))(x.detach().to(wide))
    assert torch.equal(y, reference.to(dtype))
    assert torch.equal(y[3], bias)
    y.sum().backward()
    assert (x.grad.dtype, layer.weight.grad.dtype, layer.bias.grad.dtype) == (dtype,) * 3
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("spec", [QuantSpec(), QuantSpec.paper(), QuantSpec(activation_bits=None)])
@pytest.mark.parametrize("shape", [(0, 6), (3, 0, 6), (6,), (2, 3, 4, 6)])
def test_any_leading_shape(shape, spec):
    layer, x = layer_of(random(5, 6), random(5, seed=1), spec), torch.zeros(shape, requires_grad=True)
    y = layer(x)
    assert y.shape == (*shape[:-1], 5)
    y.sum().backward()
    assert x.grad.shape == shape
    assert layer.weight.grad.isfinite().all()


def test_a_wrong_width_is_refused():
    with pytest.raises(ValueError, match=r"BitLinear\(6, 5\): the input has 7 features"):
        BitLinear(6, 5)(torch.zeros(2, 7))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "trinary"}, "weights='trinary' is not allowed; choose one of ternary, binary, int8 or None"),
        ({"activation_bits": 1}, "activation_bits=1 is not allowed; choose an integer from 2 to 16"),
        ({"activation_bits": 8.0}, "activation_bits=8.0"),
        ({"levels": 129}, "levels=129 is not allowed; choose an integer from 1 to 2\\^\\(b-1\\) = 128"),
        ({"levels": 127, "activation_bits": None}, "levels=127"),
        ({"activation_scale": "row"}, "activation_scale='row' is not allowed; choose one of token, tensor"),
    ],
)
def test_a_wrong_spec_names_the_field_and_what_is_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        QuantSpec(**arguments)


# --- a good citizen among modules -------------------------------


def test_full_precision_checkpoints_load_and_spec_travels():
    linear, layer = nn.Linear(6, 5), BitLinear(6, 5, spec=QuantSpec("binary"))
    layer.load_state_dict(linear.state_dict())
    assert torch.equal(layer.weight, linear.weight)
    assert layer.state_dict().keys() == linear.state_dict().keys()
    copied = copy.deepcopy(layer)
    assert copied.spec == layer.spec
    assert layer.to(torch.float64)(random(2, 6, dtype=torch.float64)).dtype == torch.float64


def test_nothing_of_a_forward_pass_stays_on_the_module():
    layer, x = BitLinear(64, 64), random(100, 64).requires_grad_()
    before = dict(layer.__dict__)
    y = layer(x)
    copy.deepcopy(layer)  # the published layer cannot be copied after a forward pass
    y.sum().backward()
    assert layer.__dict__ == before
    watch = weakref.ref(x)
    del x, y
    gc.collect()
    assert watch() is None


def test_only_bytes_are_kept_for_backward():
    saved = []
    layer, x = BitLinear(256, 256), random(1000, 256).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        layer(x)
    assert {t.dtype for t in saved if t.numel() > 1000} <= {torch.int8, torch.uint8}
    assert sum(t.nbytes for t in saved) < 0.35 * (x.nbytes + layer.weight.nbytes)
    saved.clear()
    layer.weight.requires_grad_(False)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        layer(x)
    assert sum(t.nbytes for t in saved) < 0.3 * layer.weight.nbytes  # a frozen layer does not keep its input


def test_autocast_does_not_round_the_sums():
    layer, x = layer_of(random(32, 512)), random(50, 512, seed=1).requires_grad_()
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
        y.sum().backward()
    assert torch.equal(y, expected)
    gradient, x.grad = x.grad, None
    expected.sum().backward()
    assert torch.equal(gradient, x.grad)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_torch_compile_changes_no_bit(backend):
    layer, x = layer_of(random(16, 36), random(16, seed=1)), random(50, 36, seed=2)
    results = []
    with use_backend(backend):
        torch._dynamo.reset()
        for function in (layer, torch.compile(layer)):
            leaf = x.clone().requires_grad_()
            y = function(leaf)
            results.append((y, *torch.autograd.grad(y.square().sum(), (leaf, layer.weight, layer.bias))))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_second_derivatives_are_refused_rather_than_wrong():
    layer, x = BitLinear(6, 5), random(3, 6).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_a_thread_more_changes_no_bit():
    layer, x = layer_of(random(300, 500)), random(700, 500, seed=1)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = layer(x)
        torch.set_num_threads(2)
        assert torch.equal(layer(x), one)
    finally:
        torch.set_num_threads(threads)
