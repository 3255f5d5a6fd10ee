"""The compiled kernel: equal to the torch operations to the bit, and absent without harm where it cannot be built."""

import os
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

from bithep_lib import BitLinear, QuantSpec, native, quantize_
from bithep_lib.bitlinear import activation_codes, bias_on_grid, weight_codes, weight_scale
from bithep_lib.data import quark_gluon
from bithep_lib.experiments.variants import VARIANTS as TAGGERS
from bithep_lib.native import build as building
from bithep_lib.native.library import Kernel, PackedLayer, padded
from bithep_lib.train import ClassificationTask, fit, predict

try:
    VARIANTS = building.usable_variants()
except building.BuildError:
    VARIANTS = ()
needs_kernel = pytest.mark.skipif(not VARIANTS, reason="the kernel needs a processor with AVX2")

# rows, in, out: ragged, tiny, one row, few rows, many rows, resident and streamed panels, several 16-bit sums, and
# enough work for two threads, in many rows and in few
SHAPES = [
    (1, 1, 1),
    (3, 1, 5),
    (7, 37, 19),
    (13, 20, 21),
    (1, 64, 64),
    (2, 300, 5),
    (5, 1024, 100),
    (6, 16, 16),
    (12, 48, 32),
    (25, 17, 33),
    (100, 64, 64),
    (33, 480, 480),
    (900, 256, 130),
    (5, 2600, 2000),
    (64, 4096, 17),
]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """The same bits; NaN counts as equal to NaN."""
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def with_torch(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with native.use_backend("torch"), torch.no_grad():
        return layer(x)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    return {variant.name: Kernel(building.build(variant, folder), variant) for variant in VARIANTS}


@pytest.fixture(params=[variant.name for variant in VARIANTS] or [pytest.param("none", marks=needs_kernel)])
def kernel(request, built):
    return built[request.param]


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def untried(monkeypatch):
    """As in a fresh process: nothing chosen, nothing built."""
    monkeypatch.delenv("BITHEP_BACKEND", raising=False)
    for name in ("choice", "kernel", "failure"):
        monkeypatch.setattr(native._State, name, None)


def packed(kernel: Kernel, layer: BitLinear, relu: bool = False) -> PackedLayer:
    beta, mean = weight_scale(layer.weight.detach(), layer.spec)
    codes = kernel.quantise_weights(layer.weight.detach(), beta, mean)
    bias = bias_on_grid(None if layer.bias is None else layer.bias.detach(), beta, layer.spec)
    sizes = layer.in_features, layer.out_features
    return PackedLayer(codes, beta, bias, *sizes, layer.spec.q_max, layer.spec.fixed_scale, relu)


# --- one layer, each function of the kernel ---------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_forward_equals_torch(kernel, threads, shape, bias):
    rows, k, n = shape
    layer, x = BitLinear(k, n, bias), random(rows, k)
    y, q, s = kernel.forward(packed(kernel, layer), x)
    assert torch.equal(y, with_torch(layer, x))
    codes, scale = activation_codes(x, layer.spec)
    assert torch.equal(q[:, :k], codes)
    assert not q[:, k:].any()
    assert torch.equal(s, scale)
    call = kernel.prepare([packed(kernel, layer)])
    assert torch.equal(call(x), y)
    assert torch.equal(call(x.t().contiguous().t()), y)  # whatever the strides


@pytest.mark.parametrize(
    "spec",
    [
        QuantSpec("binary"),
        QuantSpec(activation_bits=4),
        QuantSpec(activation_bits=8, levels=100),
        QuantSpec("binary", activation_bits=2),
        QuantSpec(activation_scale="static_po2", activation_exponent=5),
    ],
    ids=repr,
)
def test_other_specs_equal_torch(kernel, spec):
    layer, x = BitLinear(50, 40, spec=spec), 3 * random(30, 50)
    y, q, _ = kernel.forward(packed(kernel, layer), x)
    assert torch.equal(y, with_torch(layer, x))
    assert q.abs().max() <= spec.q_max


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("sign", [1, -1])
def test_saturated_sums_do_not_overflow(kernel, rows, sign):
    """All codes 127 and all weights one: the largest sum there is, where 16-bit sums overflow."""
    layer = BitLinear(5000, 20, bias=False)
    nn.init.constant_(layer.weight, sign)
    y, _, _ = kernel.forward(packed(kernel, layer), torch.ones(rows, 5000))
    assert torch.equal(y, with_torch(layer, torch.ones(rows, 5000)))
    assert y[0, 0].item() == pytest.approx(sign * 5000)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("rows", [2, 40])
def test_a_fault_makes_its_row_nan(kernel, bad, rows):
    layer, x = BitLinear(30, 20), random(rows, 30)
    x[1, 17] = bad
    y, _, _ = kernel.forward(packed(kernel, layer), x)
    assert y[1].isnan().all()
    assert not y[0].isnan().any()
    assert equal(y, with_torch(layer, x))
    hidden = kernel.prepare([packed(kernel, layer, relu=True)])(x)
    assert equal(hidden, with_torch(nn.Sequential(layer, nn.ReLU()), x))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_faulty_weights_make_all_nan(kernel, bad):
    layer, x = BitLinear(30, 20), random(3, 30)
    with torch.no_grad():
        layer.weight[3, 4] = bad
    y, _, _ = kernel.forward(packed(kernel, layer), x)
    assert y.isnan().all()
    assert equal(y, with_torch(layer, x))


def test_extreme_rows(kernel):
    """Zero, denormal, tiny, huge, and halves that round to even."""
    x = torch.tensor([0.0, 1e-40, 1e-9, 1e-8, 3e38])[:, None] * random(5, 33).sign()
    x = torch.cat([x, torch.arange(33).float()[None] / 2 + 0.5, torch.full((1, 33), -0.0)])
    x[5, 0] = 127
    layer = BitLinear(33, 20)
    assert equal(kernel.forward(packed(kernel, layer), x)[0], with_torch(layer, x))


@pytest.mark.parametrize("kind", ["ternary", "binary"])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (19, 37), (130, 256), (800, 700)])
def test_weights_survive_packing(kernel, threads, shape, kind):
    weight, spec = random(*shape), QuantSpec(kind)
    beta, mean = weight_scale(weight, spec)
    codes = kernel.quantise_weights(weight, beta, mean)
    assert codes.numel() == padded(shape[0]) * padded(shape[1]) // 4  # two bits a weight
    t, _ = weight_codes(weight, spec)
    assert torch.equal(kernel.dequantise_weights(codes, beta, *shape), t * beta)


def test_rounding_of_weights_at_ties(kernel):
    weight = torch.tensor([[0.5, 1.5, -0.5, -1.5]])  # beta = 1
    beta, _ = weight_scale(weight, QuantSpec())
    codes = kernel.quantise_weights(weight, beta)
    assert kernel.dequantise_weights(codes, beta, 1, 4).tolist() == [[0, 1, 0, -1]]


def test_rows_are_dequantised_as_in_torch(kernel, threads):
    for rows in (50, 7000):
        q, s = activation_codes(random(rows, 300))
        wide = nn.functional.pad(q, (0, 4))
        assert torch.equal(kernel.dequantise_rows(wide, s, 300), q.float() / s)


@pytest.mark.parametrize("sizes", [(16, 64, 32, 32, 5), (130, 700, 20), (3, 1)])
@pytest.mark.parametrize("rows", [1, 9, 1000])
def test_a_network_in_one_call(kernel, threads, sizes, rows):
    layers = [BitLinear(a, b) for a, b in zip(sizes, sizes[1:], strict=False)]
    last = len(layers) - 1
    network = kernel.prepare([packed(kernel, layer, relu=i < last) for i, layer in enumerate(layers)])
    x = expected = random(rows, sizes[0])
    for i, layer in enumerate(layers):
        expected = with_torch(layer, expected)
        expected = expected.relu() if i < last else expected
    assert torch.equal(network(x), expected)


# --- BitLinear on the kernel ------------------------------------


@needs_kernel
def test_backends_train_to_equal_weights():
    """Forward, gradients and optimiser: after twenty steps of Adam no bit differs."""
    x, target = random(256, 20), random(256, 3, seed=1)
    weights = []
    for choice in ("native", "torch"):
        torch.manual_seed(5)
        model = nn.Sequential(nn.Linear(20, 50), nn.SiLU(), nn.Linear(50, 33), nn.SiLU(), nn.Linear(33, 3))
        quantize_(model, lambda name, linear: True)
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        with native.use_backend(choice):
            for _ in range(20):
                optimiser.zero_grad()
                nn.functional.mse_loss(model(x), target).backward()
                optimiser.step()
        weights.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    assert torch.equal(*weights)


@needs_kernel
@pytest.mark.slow
def test_a_tagger_of_chapter_2_trains_to_equal_weights():
    """The same jets, seed and settings: after a training by `fit` the networks are equal, and so are their scores."""
    jets = quark_gluon.load("sample", n=400)
    x, mask = (torch.from_numpy(part) for part in quark_gluon.features(jets, 40))
    label = torch.from_numpy(jets.label)
    train, valid = ((x[rows], mask[rows], label[rows]) for rows in (slice(0, 300), slice(300, 400)))
    results = []
    for choice in ("native", "torch"):
        model, _ = TAGGERS["pfn/all"].build(seed=1)
        with native.use_backend(choice):
            done = fit(ClassificationTask(model), train, valid, epochs=2, batch_size=50, seed=1, progress=False)
            scores = predict(model, valid[:-1], batch_size=64)
        results.append((nn.utils.parameters_to_vector(model.parameters()).detach(), scores, done.history))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert results[0][2].equals(results[1][2])


@pytest.mark.slow
def test_the_layer_passes_its_tests_on_torch_operations(root):
    """All tests of the layer once more, without the kernel."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_bitlinear.py"]
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "BITHEP_BACKEND": "torch"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:]


@needs_kernel
def test_a_deep_network_does_not_depend_on_batch_or_backend():
    torch.manual_seed(0)
    model = nn.Sequential(*[m for _ in range(24) for m in (BitLinear(64, 64), nn.SiLU())])
    x = random(300, 64)
    with torch.no_grad(), native.use_backend("native"):
        whole = model(x)
        assert torch.equal(torch.cat([model(part) for part in x.split([1, 4, 95, 200])]), whole)
    # SiLU itself may differ in the last bit between vector lengths, so compare backends on equal batches
    assert torch.equal(with_torch(model, x), whole)


@needs_kernel
def test_what_the_kernel_does_not_serve_goes_to_torch():
    with native.use_backend("native"):
        for layer, x in [
            (BitLinear(8, 4, dtype=torch.float64), random(3, 8).double()),
            (BitLinear(8, 4).half(), random(3, 8).half()),
            (BitLinear(8, 4, spec=QuantSpec.paper()), random(3, 8)),
            (BitLinear(8, 4, spec=QuantSpec("int8")), random(3, 8)),
            (BitLinear(8, 4, spec=QuantSpec(activation_bits=None)), random(3, 8)),
            (BitLinear(8, 4), random(0, 8)),
            (BitLinear(140_000, 2), random(1, 140_000)),
        ]:
            with torch.no_grad():
                assert torch.equal(layer(x), with_torch(layer, x))
        assert BitLinear(8, 4, device="meta")(torch.empty(3, 8, device="meta")).shape == (3, 4)


@needs_kernel
def test_the_backward_pass_needs_no_second_choice():
    layer, x = BitLinear(8, 4), random(3, 8)
    with native.use_backend("native"):
        y = layer(x)
    with native.use_backend("torch"):
        y.sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("choice", ["torch", "auto"])
@pytest.mark.parametrize("spec", [QuantSpec(), QuantSpec.paper(), QuantSpec("int8", activation_bits=12)], ids=repr)
def test_the_compiled_operator_keeps_torch_rules(choice, spec):
    tensors = random(6, 20).requires_grad_(), random(5, 20, seed=1).requires_grad_(), random(5, seed=2)
    with native.use_backend(choice):
        torch.library.opcheck(torch.ops.bithep.bit_linear, (*tensors, *spec.fields))


# --- building ---------------------------------------------------

SCRIPT = """
import sys, warnings, torch
from bithep_lib import BitLinear, native
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    torch.manual_seed(0)
    layer = BitLinear(20, 10)
    y = layer(torch.ones(3, 20)); y = layer(torch.ones(3, 20))
notes = [w for w in caught if issubclass(w.category, native.NativeUnavailable)]
print(native.backend(), len(notes), y.sum().item().hex(), *(str(w.message) for w in notes), sep="|")
"""


def in_a_process(tmp_path, **environment: str) -> subprocess.Popen:
    env = {**os.environ, "BITHEP_CACHE": str(tmp_path / "cache"), **environment}
    env.pop("BITHEP_BACKEND", None)
    return subprocess.Popen([sys.executable, "-c", SCRIPT], env=env, text=True, stdout=-1, stderr=-1)


def result_of(process: subprocess.Popen) -> list[str]:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip().split("|")


def test_a_machine_without_a_compiler(tmp_path):
    """The compiler is hidden: the same numbers, and one notice that says why and what to do."""
    backend, notices, value, *messages = result_of(in_a_process(tmp_path, PATH=str(tmp_path), CXX=""))
    assert (backend, notices) == ("torch", "1")
    assert "BITHEP_BACKEND=torch" in messages[0]
    assert "g++" in messages[0] or "AVX2" in messages[0]
    torch.manual_seed(0)
    assert with_torch(BitLinear(20, 10), torch.ones(3, 20)).sum().item().hex() == value


@needs_kernel
def test_a_failing_compiler_is_quoted(tmp_path, untried, monkeypatch):
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho 'fatal error: immintrin.h: no such file' >&2\nexit 3\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("BITHEP_CACHE", str(tmp_path / "cache"))
    with pytest.warns(native.NativeUnavailable, match=r"(?s)code 3.*immintrin.h"):
        assert native.backend() == "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert native.backend() == "torch"  # said once
    with native.use_backend("native"), pytest.raises(RuntimeError, match="immintrin.h"):
        native.kernel()
    assert not list((tmp_path / "cache" / "native").glob("*"))


@needs_kernel
def test_an_older_compiler_gets_a_smaller_variant(tmp_path, untried, monkeypatch):
    """A compiler that does not know the new instructions still builds the plain variant."""
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\ncase "$*" in *vnni*) echo unknown option >&2; exit 1;; esac\nexec g++ "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("BITHEP_CACHE", str(tmp_path / "cache"))
    assert native.backend() == "native (avx2)"


@needs_kernel
def test_a_cache_that_cannot_be_written(tmp_path, untried, monkeypatch):
    (tmp_path / "file").write_text("")  # no folder can be made below a file, not even by root
    monkeypatch.setenv("BITHEP_CACHE", str(tmp_path / "file" / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert native.backend().startswith("native")
    layer, x = BitLinear(20, 10), random(4, 20)
    with torch.no_grad():
        assert torch.equal(layer(x), with_torch(layer, x))  # the library works after its temporary file is gone


@needs_kernel
def test_two_processes_build_at_once(tmp_path):
    processes = [in_a_process(tmp_path) for _ in range(2)]
    results = [result_of(process) for process in processes]
    assert results[0] == results[1]
    assert results[0][:2] == [f"native ({VARIANTS[0].name})", "0"]
    assert len(list((tmp_path / "cache" / "native").iterdir())) == 1  # one library, no leftovers


@needs_kernel
def test_a_cache_from_another_processor_or_source_is_not_used(tmp_path, monkeypatch):
    variant = VARIANTS[-1]
    here = building.library_path(variant, tmp_path)
    assert here != building.library_path(variant, tmp_path, building.cpu_flags() | {"a_new_instruction"})
    monkeypatch.setenv("CXX", "another-compiler")
    assert here != building.library_path(variant, tmp_path)
    monkeypatch.delenv("CXX")
    changed = tmp_path / "bitlinear.cpp"
    changed.write_text(building.SOURCE.read_text() + "// changed\n")
    monkeypatch.setattr(building, "SOURCE", changed)
    assert here != building.library_path(variant, tmp_path)


@needs_kernel
@pytest.mark.parametrize("content", [b"", b"not a library"])
def test_a_damaged_library_is_built_again(tmp_path, untried, monkeypatch, content):
    monkeypatch.setenv("BITHEP_CACHE", str(tmp_path))
    path = building.library_path(VARIANTS[0], tmp_path / "native")
    path.parent.mkdir()
    path.write_bytes(content)
    assert native.backend() == f"native ({VARIANTS[0].name})"
    assert path.stat().st_size > 10_000


@needs_kernel
def test_a_library_of_another_variant_is_refused(built, tmp_path):
    if len(VARIANTS) < 2:
        pytest.skip("this processor runs one variant only")
    path = building.build(VARIANTS[-1], tmp_path)
    with pytest.raises(OSError, match=VARIANTS[0].name):
        Kernel(path, VARIANTS[0])


def test_processors_and_their_variants():
    names = [variant.name for variant in building.usable_variants(frozenset({"avx2", "fma", "avx_vnni", "sse"}))]
    assert names == ["avx_vnni", "avx2"]
    with pytest.raises(building.BuildError, match="AVX2"):
        building.usable_variants(frozenset({"sse2"}))


def test_no_system_file_means_no_variant(monkeypatch, untried):
    monkeypatch.setattr(building, "cpu_flags", frozenset)
    with pytest.warns(native.NativeUnavailable, match="AVX2"):
        assert native.backend() == "torch"


def test_wrong_choices_list_the_allowed(untried, monkeypatch):
    with pytest.raises(ValueError, match="'cuda'; choose one of auto, native, torch"), native.use_backend("cuda"):
        pass
    monkeypatch.setenv("BITHEP_BACKEND", "fast")
    with pytest.raises(ValueError, match="BITHEP_BACKEND is 'fast'"):
        native.kernel()


def test_the_choice_ends_with_its_block(untried):
    with native.use_backend("torch"):
        assert native.backend() == "torch"
    assert native._State.choice is None
