"""Packed networks: the bits of the trained network, two bits a weight, and files that notice every damage."""

import copy
import json
import pickle
import shutil
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from bithep_lib import BitLinear, QuantSpec, native, quantize_
from bithep_lib.bitlinear import weight_codes
from bithep_lib.codes import from_bytes, pack_codes, to_bytes, unpack_codes
from bithep_lib.packed import PackedBitLinear, PackedSequential, pack
from bithep_lib.packed_files import PackedFileError, load_packed, save_packed

BACKENDS = ["auto", "torch"]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def codes_of(n: int, k: int, kind: str, seed: int = 0) -> torch.Tensor:
    return weight_codes(random(n, k, seed=seed), QuantSpec(kind))[0]


class Tagger(nn.Module):
    """A network with everything: float layers, a Sequential, a shared layer, a layer in a list, a normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(7, 20)
        self.norm = nn.BatchNorm1d(20)
        self.body = nn.Sequential(
            nn.Linear(20, 33), nn.ReLU(), nn.Dropout(0.5), nn.Linear(33, 20), nn.SiLU(), nn.Linear(20, 20), nn.ReLU()
        )
        self.blocks = nn.ModuleList([nn.Linear(20, 20, bias=False)] * 2)
        self.head = nn.Linear(20, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.norm(self.embed(x)))
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def quantised_tagger(spec: QuantSpec = QuantSpec(), seed: int = 0) -> Tagger:  # noqa: B008
    torch.manual_seed(seed)
    model = Tagger()
    quantize_(model, lambda name, linear: name != "head" and name != "embed", spec)
    model(random(50, 7))  # batch statistics
    return model.eval()


# --- codes as bytes ---------------------------------------------

sizes = st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**31))


@given(sizes, st.sampled_from(["ternary", "binary"]))
def test_packing_codes_is_invertible(size, kind):
    n, k, seed = size
    t = codes_of(n, k, kind, seed)
    assert torch.equal(unpack_codes(pack_codes(t), n, k), t)
    assert torch.equal(from_bytes(to_bytes(t, kind), kind, n, k), t)


def test_sizes_are_those_of_the_claim():
    t = codes_of(480, 480, "ternary")
    assert pack_codes(t).numel() == t.numel() / 4
    assert to_bytes(t, "ternary").numel() == t.numel() / 5
    assert to_bytes(t.abs() * 2 - 1, "binary").numel() == t.numel() / 8


def test_the_layout_is_that_of_the_kernel():
    kernel = native.kernel()
    if kernel is None:
        pytest.skip("no kernel here")
    for n, k in [(1, 1), (16, 16), (33, 50), (100, 480)]:
        weight = random(n, k)
        t, beta = weight_codes(weight)
        assert torch.equal(kernel.quantise_weights(weight, beta), pack_codes(t))


def test_stored_codes_are_checked():
    stored = to_bytes(codes_of(10, 10, "ternary"), "ternary")
    with pytest.raises(ValueError, match=r"ternary codes of shape \(10, 11\) take 22 bytes, not 20"):
        from_bytes(stored, "ternary", 10, 11)
    stored[3] = 250
    with pytest.raises(ValueError, match="250 is no byte of five ternary codes"):
        from_bytes(stored, "ternary", 10, 10)


# --- packed layers ----------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "spec",
    [
        QuantSpec(),
        QuantSpec("binary"),
        QuantSpec("int8"),
        QuantSpec(activation_bits=4),
        QuantSpec(activation_bits=12),
        QuantSpec(activation_bits=None),
        QuantSpec.paper(),
        QuantSpec(activation_scale="static_po2", activation_exponent=4),
    ],
    ids=repr,
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_equals_the_trained_one(backend, spec, bias):
    layer, x = BitLinear(37, 21, bias, spec=spec), random(4, 5, 37)
    with native.use_backend(backend), torch.no_grad():
        packed = pack(layer)
        assert isinstance(packed, PackedBitLinear)
        for tokens in (x, x[0], x[0, 0], x.transpose(0, 1), x[:0]):
            assert torch.equal(packed(tokens), layer(tokens))
    assert not list(packed.parameters())
    assert "37, 21" in repr(packed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes(dtype):
    layer, x = BitLinear(37, 21).to(dtype), random(5, 37).to(dtype)
    with torch.no_grad():
        assert torch.equal(pack(layer)(x), layer(x))
        # moving a packed layer to a shorter type does not round its scale
        if dtype != torch.float64:
            layer = BitLinear(37, 21)
            layer.bias = None
            expected = pack(layer)(x.float())
            assert torch.equal(pack(layer).to(dtype)(x.float()), expected)


def test_backends_agree_on_a_packed_layer():
    packed, x = pack(BitLinear(300, 50)), random(70, 300)
    with native.use_backend("torch"):
        expected = packed(x)
    assert torch.equal(packed(x), expected)


def test_two_bits_a_weight():
    packed = pack(BitLinear(1024, 512, bias=False))
    assert sum(tensor.nbytes for tensor in packed.state_dict().values()) == 1024 * 512 / 4 + 4


def test_wrong_inputs_are_refused():
    packed = pack(BitLinear(8, 4))
    for backend in BACKENDS:
        with native.use_backend(backend), pytest.raises(ValueError, match="takes 8 features, but the input has 9"):
            packed(random(3, 9))
    with pytest.raises(RuntimeError, match="no gradient"):
        packed(random(3, 8).requires_grad_())
    with torch.no_grad():
        packed(random(3, 8).requires_grad_())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_torch_compile_keeps_the_bits():
    packed, x = pack(nn.Sequential(BitLinear(20, 40), nn.ReLU(), BitLinear(40, 5))), random(30, 20)
    assert torch.equal(torch.compile(packed, fullgraph=True)(x), packed(x))


# --- packed networks --------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_packed_network_equals_the_trained_one(backend):
    model, x = quantised_tagger(), random(11, 7)
    before = copy.deepcopy(model.state_dict())
    with native.use_backend(backend), torch.no_grad():
        packed = pack(model)
        assert torch.equal(packed(x), model(x))
        assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
        # each copy of a packed network owns what it calls
        twin = pickle.loads(pickle.dumps(copy.deepcopy(packed)))
        expected = packed(x)
        packed.body[0].codes.zero_()
        assert torch.equal(twin(x), expected)
        assert not torch.equal(packed(x), expected)
    assert packed.blocks[0] is packed.blocks[1]
    assert type(packed.body) is PackedSequential
    assert isinstance(packed.embed, nn.Linear)
    assert not any(isinstance(module, BitLinear) for module in packed.modules())
    assert not any(p.requires_grad for p in packed.parameters())
    assert pack(packed)(x).shape == (11, 1)  # packing again copies


def test_a_sequential_runs_in_as_few_calls_as_it_can():
    model = nn.Sequential(
        BitLinear(5, 6), nn.ReLU(), nn.Dropout(), BitLinear(6, 7), nn.ReLU(), nn.ReLU(), BitLinear(7, 2)
    )
    if native.kernel() is None:
        pytest.skip("no kernel here")
    packed = pack(model)
    assert len(packed._group()) == 1
    assert len(pack(quantised_tagger()).body._group()) == 3  # packed layers, SiLU, packed layer
    odd = pack(nn.Sequential(nn.ReLU(), BitLinear(5, 6, spec=QuantSpec("int8")), nn.ReLU(), BitLinear(6, 2)))
    assert [type(step).__name__ for step in odd._group()] == ["ReLU", "PackedBitLinear", "ReLU", "function"]
    for network, width in ((packed, 5), (odd, 5)):
        x = random(9, width)
        with native.use_backend("torch"):
            expected = network(x)
        assert torch.equal(network(x), expected)


def test_loading_values_reaches_the_kernel():
    a, b = pack(nn.Sequential(BitLinear(5, 6), nn.ReLU())), pack(nn.Sequential(BitLinear(5, 6), nn.ReLU()))
    x = random(3, 5)
    assert not torch.equal(a(x), b(x))
    for assign in (False, True):
        a[0].codes.zero_()
        a.load_state_dict(b.state_dict(), assign=assign)
        assert torch.equal(a(x), b(x))


def test_nothing_to_pack_is_an_error():
    with pytest.raises(ValueError, match="Linear has no BitLinear layer"):
        pack(nn.Linear(3, 4))
    with pytest.raises(ValueError, match="no BitLinear layer"):
        pack(BitLinear(3, 4, spec=QuantSpec(None)))


# --- files ------------------------------------------------------


@pytest.mark.parametrize("spec", [QuantSpec(), QuantSpec("binary"), QuantSpec("int8"), QuantSpec.paper()], ids=repr)
def test_a_file_gives_the_same_bits(tmp_path, spec):
    model, x = quantised_tagger(spec), random(11, 7)
    path = save_packed(model, tmp_path / "tagger.safetensors")
    loaded = load_packed(path, Tagger())
    with torch.no_grad():
        assert torch.equal(loaded(x), pack(model)(x))
    assert loaded.body[0].spec == spec
    assert not loaded.training
    # from the packed network, and into a model that is quantised already or has no memory
    assert save_packed(loaded, tmp_path / "again").read_bytes() == path.read_bytes()
    for template in (quantised_tagger(seed=1), _meta_tagger()):
        with torch.no_grad():
            assert torch.equal(load_packed(path, template)(x), pack(model)(x))


def _meta_tagger() -> Tagger:
    with torch.device("meta"):
        return Tagger()


def test_a_file_is_as_small_as_promised(tmp_path):
    model = nn.Sequential(BitLinear(500, 500, bias=False))
    size = save_packed(model, tmp_path / "a").stat().st_size
    assert 500 * 500 / 5 < size < 500 * 500 / 5 + 800
    quantize_(model[0], None)
    model[0].spec = QuantSpec("binary")
    assert save_packed(model, tmp_path / "b").stat().st_size < 500 * 500 / 8 + 800


def test_float_layers_can_be_stored_in_half_precision(tmp_path):
    model, x = quantised_tagger(), random(11, 7)
    full, half = save_packed(model, tmp_path / "a"), save_packed(model, tmp_path / "b", floats=torch.float16)
    assert half.stat().st_size < full.stat().st_size
    loaded = load_packed(half, Tagger())
    assert loaded.embed.weight.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), pack(model)(x), rtol=0.05, atol=0.05)


def test_a_single_layer_and_a_bare_sequential(tmp_path):
    x = random(3, 6)
    for model, template in [
        (BitLinear(6, 4), nn.Linear(6, 4)),
        (nn.Sequential(BitLinear(6, 4)), nn.Sequential(nn.Linear(6, 4))),
    ]:
        path = save_packed(model, tmp_path / "file")
        assert torch.equal(load_packed(path, template)(x), pack(model)(x))


@pytest.fixture
def stored(tmp_path):
    return save_packed(quantised_tagger(), tmp_path / "tagger.safetensors")


def test_every_flipped_byte_is_noticed(stored):
    content = bytearray(stored.read_bytes())
    start = 8 + struct.unpack("<Q", content[:8])[0]
    for position in [*range(0, start, 97), *range(start, len(content), 101), len(content) - 1]:
        content[position] ^= 0x10
        stored.write_bytes(content)
        with pytest.raises(PackedFileError, match=r"tagger.safetensors"):
            load_packed(stored, Tagger())
        content[position] ^= 0x10
    stored.write_bytes(content)
    load_packed(stored, Tagger())


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_truncated_files_are_refused(stored, length):
    stored.write_bytes(stored.read_bytes()[:length])
    with pytest.raises(PackedFileError, match="no safetensors file, or a truncated one"):
        load_packed(stored, Tagger())


def test_foreign_files_are_refused(tmp_path, stored):
    foreign = tmp_path / "foreign"
    save_file({"weight": torch.ones(3)}, foreign)
    with pytest.raises(PackedFileError, match="not a packed network"):
        load_packed(foreign, Tagger())
    foreign.write_text("hello, this is a text file of some length")
    with pytest.raises(PackedFileError, match="no safetensors file"):
        load_packed(foreign, Tagger())
    with pytest.raises(FileNotFoundError):
        load_packed(tmp_path / "missing", Tagger())
    content = stored.read_bytes()
    written, changed = rb"\"version\": \"1\"", rb"\"version\": \"9\""
    assert content.count(written) == 1
    foreign.write_bytes(content.replace(written, changed))
    with pytest.raises(PackedFileError, match="version '9' of the format; this library reads '1'"):
        load_packed(foreign, Tagger())


def test_files_of_other_networks_are_refused(stored):
    with pytest.raises(PackedFileError, match="no linear layer 'body.0' in the model; it has 0"):
        load_packed(stored, nn.Sequential(nn.Linear(3, 4)))
    other = Tagger()
    other.body[0] = nn.Linear(20, 34)
    with pytest.raises(PackedFileError, match=r"'body.0' has the shape \(33, 20\), the model's \(34, 20\)"):
        load_packed(stored, other)
    other = Tagger()
    other.extra = nn.Linear(2, 2)
    with pytest.raises(PackedFileError, match="it lacks .*extra.bias"):
        load_packed(stored, other)
    other = Tagger()
    other.head = nn.Linear(20, 2)
    with pytest.raises(PackedFileError, match="'head.weight' has the shape"):
        load_packed(stored, other)


def test_the_header_is_readable_without_the_library(stored):
    content = stored.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    assert json.loads(header["__metadata__"]["bithep"])["layers"]["body.0"]["shape"] == [33, 20]
    assert header["body.0.codes"]["dtype"] == "U8"


def test_a_failing_write_keeps_the_old_file(stored, monkeypatch):
    before = stored.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk is full"):
        save_packed(quantised_tagger(seed=3), stored)
    assert stored.read_bytes() == before
