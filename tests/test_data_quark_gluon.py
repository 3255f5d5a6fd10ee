"""Quark and gluon jets: the bundled sample, the loader's complaints, angles, observables and network inputs."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bithep_lib.data import quark_gluon as qg
from bithep_lib.data.quark_gluon import files, public
from bithep_lib.data.quark_gluon.checks import check_labels, check_unique

ANGLES = st.floats(-50, 50, allow_nan=False)


@pytest.fixture(scope="module")
def sample() -> qg.Jets:
    return qg.load("sample")


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """The first 1000 jets of the first bundled file, with its truth columns."""
    with np.load(sorted(qg.SAMPLE.glob("*.npz"))[0]) as file:
        return {key: file[key] if key == "meta" else file[key][:1000] for key in file}


def write(folder: Path, arrays: dict[str, np.ndarray], name: str = "jets.npz") -> Path:
    np.savez_compressed(folder / name, **arrays)
    return folder / name


def only_public_arrays(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"X": arrays["X"].astype(np.float64), "y": arrays["y"].astype(np.float64)}


# The bundled sample ---------------------------------------------------------------------------------------------------


def test_sample_agrees_with_the_published_numbers(sample: qg.Jets) -> None:
    table = qg.closure(sample)
    assert list(table.index) == list(qg.PUBLISHED)
    assert (table["difference"].abs() < 4).all(), table
    # A wrong sample would be many errors away: one of only quark jets, say, or with inverted labels.
    inverted = qg.closure(replace(sample, label=(1 - sample.label).astype(np.int8)))
    assert (inverted["difference"].abs() > 10).all(), inverted


def test_sample_is_the_stated_selection(sample: qg.Jets) -> None:
    assert len(sample) == 10_000
    assert sample.constituents.dtype == np.float32
    np.testing.assert_array_equal(sample.label, np.tile([1, 0], 5000))
    pid = sample.constituents[..., 3][sample.constituents[..., 0] > 0]
    assert set(np.unique(pid).astype(int)) <= set(qg.PDG_IDS)
    assert len(qg.PDG_IDS) == 14
    axis = qg.jet_momentum(sample.constituents)
    assert (axis["pt"] > 499.99).all()
    assert (axis["pt"] < 550.01).all()
    assert (np.abs(axis["y"]) < 1.7001).all()
    np.testing.assert_allclose(axis["m"], sample.truth["jet_m"], atol=1e-3)
    assert np.abs(qg.wrap_phi(axis["phi"] - sample.truth["jet_phi"])).max() < 1e-5
    assert set(sample.truth) == set(qg.TRUTH)


def test_sample_does_not_change_unnoticed(sample: qg.Jets) -> None:
    assert sample.fingerprint == "e3086e225eee97660de05b09dccca148b593392decb9c13061c7055cc86964ba"


def test_fingerprint_is_of_the_content(sample: qg.Jets) -> None:
    few = sample[:50]
    wide = replace(few, constituents=np.pad(few.constituents, ((0, 0), (0, 9), (0, 0))), source="elsewhere")
    assert wide.fingerprint == few.fingerprint
    label, constituents = few.label.copy(), few.constituents.copy()
    label[3] = 1 - label[3]
    constituents[7, 0, 1] += 1e-3
    prints = [
        few.fingerprint,
        *(replace(few, **change).fingerprint for change in ({"label": label}, {"constituents": constituents})),
    ]
    assert len({*prints, few[::-1].fingerprint}) == 4


def test_n_takes_a_balanced_beginning(sample: qg.Jets) -> None:
    few = qg.load("sample", n=3001)
    assert len(few) == 3001
    assert few.label.sum() == 1501
    np.testing.assert_array_equal(few.constituents, sample.constituents[:3001])
    with pytest.raises(ValueError, match=r"n = 20000 .* has 10000"):
        qg.load("sample", n=20_000)
    with pytest.raises(ValueError, match="n must be a positive number"):
        qg.load("sample", n=0)


def test_event_counts_of_the_sample(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    counts = qg.event_counts()
    assert list(counts.index) == ["quark", "gluon"]
    assert (counts["jets"] == 5000).all()
    assert (counts["tried"] == counts["vetoed_process"] + counts["vetoed_early"] + counts["simulated"]).all()
    write(tmp_path, only_public_arrays(arrays))
    with pytest.raises(qg.DataError, match="not a file of bithep_lib.simulate.jets"):
        qg.event_counts(tmp_path)


def test_indexing(sample: qg.Jets) -> None:
    assert len(sample[4]) == 1
    assert sample[4].truth["jet_pt"][0] == sample.truth["jet_pt"][4]
    np.testing.assert_array_equal(sample[np.array([5, 3])].label, sample.label[[5, 3]])
    assert len(sample[sample.label == 1]) == 5000
    assert repr(sample).startswith("Jets(10000: 5000 quark, 5000 gluon; at most 139 particles; sample;")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), sizes=st.lists(st.integers(0, 300), min_size=1, max_size=3))
def test_split_is_disjoint_balanced_and_repeatable(sample: qg.Jets, seed: int, sizes: list[int]) -> None:
    jets = sample[:900]
    parts = qg.split(jets, sizes, seed)
    assert [len(part) for part in parts] == sizes
    keys = np.concatenate([part.truth["jet_m"] + part.truth["jet_phi"] for part in parts])
    assert len(np.unique(keys)) == sum(sizes)
    for part, again in zip(parts, qg.split(jets, sizes, seed), strict=True):
        assert abs(part.label.sum() - len(part) / 2) <= 1
        np.testing.assert_array_equal(part.constituents, again.constituents)


def test_split_refuses_and_depends_on_the_seed(sample: qg.Jets) -> None:
    with pytest.raises(ValueError, match="at most 100 jets"):
        qg.split(sample[:100], (90, 11), seed=1)
    with pytest.raises(ValueError, match="non-negative"):
        qg.split(sample[:100], (90, -1), seed=1)
    first, second = (qg.split(sample[:100], (100,), seed=seed)[0] for seed in (1, 2))
    assert first.fingerprint != second.fingerprint


# Broken and mistaken files --------------------------------------------------------------------------------------------


def test_public_layout_is_read_sorted_and_unwrapped(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    x = arrays["X"].astype(np.float64)
    mixed = np.random.default_rng(1).permuted(np.arange(x.shape[1]))
    moved = x[:, mixed]
    moved[..., 2] = np.where(moved[..., 0] > 0, moved[..., 2] % (2 * np.pi), 0)  # jets at phi = 0 are torn apart
    jets = qg.load(write(tmp_path, {"X": moved, "y": arrays["y"].astype(np.float64)}))
    assert jets.truth == {}
    np.testing.assert_array_equal(jets.constituents[..., [0, 1, 3]], arrays["X"][..., [0, 1, 3]])
    spread = np.ptp(
        np.where(jets.constituents[..., 0] > 0, jets.constituents[..., 2], jets.constituents[:, :1, 2]), axis=1
    )
    assert spread.max() < 1.5
    assert np.abs(qg.wrap_phi(jets.constituents[..., 2] - arrays["X"][..., 2])).max() < 1e-5


def put(key: str, place: tuple[int, ...] | int, value: float) -> object:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[key] = arrays[key].astype(np.float64)
        arrays[key][place] = value

    return change


def exchange(first: int, second: int) -> object:
    def change(arrays: dict[str, np.ndarray]) -> None:
        columns = np.arange(4)
        columns[[first, second]] = second, first
        arrays["X"] = arrays["X"][..., columns]

    return change


def scale(column: int, factor: float) -> object:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["X"][..., column] *= factor

    return change


def assign(**columns: object) -> object:
    return lambda arrays: arrays.update({key: make(arrays) for key, make in columns.items()})


def permuted(values: np.ndarray) -> np.ndarray:
    return np.random.default_rng(1).permutation(values)


def halves_exchanged(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Odd particles of each jet come from the next jet."""
    x = arrays["X"].copy()
    x[:, 1::2] = np.where(x[:, 1::2, :1] > 0, np.roll(x, 1, axis=0)[:, 1::2], 0)
    return x


MISTAKES = {
    "no X": (lambda a: a.pop("X"), r"a jet file has arrays 'X' .* this one has \['y'\]"),
    "X flat": (assign(X=lambda a: a["X"][..., 0]), r"X must be numbers \(N, M, 4\)"),
    "five columns": (assign(X=lambda a: np.pad(a["X"], ((0, 0), (0, 0), (0, 1)))), r"X must be numbers \(N, M, 4\)"),
    "no jets": (assign(X=lambda a: a["X"][:0], y=lambda a: a["y"][:0]), r"X must be numbers \(N, M, 4\)"),
    "labels too short": (assign(y=lambda a: a["y"][:-1]), r"y must be numbers of shape \(1000,\)"),
    "text labels": (assign(y=lambda a: np.full(1000, "quark")), r"y must be numbers of shape \(1000,\)"),
    "NaN": (put("X", (17, 2, 1), np.nan), r"X row 17, particle 2, column y = nan is not finite"),
    "infinity": (put("X", (5, 0, 0), np.inf), r"X row 5, particle 0, column pt = inf is not finite"),
    "NaN label": (put("y", 8, np.nan), r"y row 8 = nan is not finite"),
    "label 2": (put("y", 12, 2), r"y row 12 = 2 is no label"),
    "negative pt": (put("X", (9, 3, 0), -1), r"X row 9, particle 3, column pt = -1 is negative"),
    "empty jet": (put("X", 33, 0), r"X row 33 has no particle"),
    "half a padding": (put("X", (4, 138, 1), 0.5), r"X row 4, particle 138, column pt = 0 is zero, but"),
    "unknown particle": (put("X", (2, 1, 3), 310), r"X row 2, particle 1, column pid = 310 is not the PDG id"),
    "antiphoton": (put("X", (2, 1, 3), -22), r"column pid = -22 is not the PDG id"),
    "no integer": (put("X", (2, 1, 3), 211.5), r"column pid = 211.5 is not the PDG id"),
    "huge id": (put("X", (2, 1, 3), 1e30), r"column pid = 1e\+30 is not the PDG id"),
    "MeV": (scale(0, 1e3), r"jet of pt 5.*e\+05 GeV, .*: is this in MeV\? Momenta must be in GeV"),
    "TeV": (scale(0, 1e-3), r"jet of pt 0\.5.* GeV, .*: is this in TeV\? Momenta must be in GeV"),
    "degrees": (scale(2, 180 / np.pi), r"column phi reaches .* must be in radians"),
    "pt and y": (exchange(0, 1), r"column pt = .* is negative: columns are \(pt, y, phi, pid\)"),
    "y and phi": (exchange(1, 2), r"columns y and phi exchanged"),
    "phi and pid": (exchange(2, 3), r"column pid = .* is not the PDG id"),
    "pt and pid": (exchange(0, 3), r"column pt = .* is negative"),
    "particles of several jets": (assign(X=halves_exchanged), r"from the jet axis"),
    "shuffled labels": (assign(y=lambda a: permuted(a["y"])), r"labels look shuffled against the jets"),
    "inverted labels": (assign(y=lambda a: 1 - a["y"]), r"labels look inverted \(1 must be quark\)"),
    "the same jet again": (assign(X=lambda a: a["X"][[*range(999), 7]]), r"the same jet is in .* row 7 and .* row 999"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name: str, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    change, message = MISTAKES[name]
    changed = {key: values.copy() for key, values in only_public_arrays(arrays).items()}
    change(changed)
    path = write(tmp_path, changed)
    with pytest.raises(qg.DataError, match=message) as error:
        qg.load(path)
    assert str(path) in str(error.value)


TRUTH_MISTAKES = {
    "labels": (assign(y=lambda a: permuted(a["y"])), r"y row \d+ is [01], but parton_id is"),
    "one label": (put("y", 6, 0), r"y row 6 is 0, but parton_id is -?[123]"),
    "jets": (assign(X=lambda a: a["X"][::-1]), r"jet_pt row 0 is .* but its particles give"),
    "mass in MeV": (assign(jet_m=lambda a: a["jet_m"] * 1000), r"jet_m row 0 is .* but its particles give"),
    "short truth": (assign(pthat=lambda a: a["pthat"][:10]), r"pthat must be numbers of shape \(1000,\)"),
    "order": (assign(X=lambda a: a["X"][:, [1, 0, *range(2, 139)]]), r"row 0, particle 0, column pt = .* is above"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRUTH_MISTAKES)
def test_simulated_files_are_held_against_their_truth(name: str, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    change, message = TRUTH_MISTAKES[name]
    changed = {key: values.copy() for key, values in arrays.items()}
    change(changed)
    path = write(tmp_path, changed)
    with pytest.raises(qg.DataError, match=message) as error:
        qg.load(path)
    assert str(path) in str(error.value)


def test_own_selection_is_possible(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    harder, forward = ({key: values.copy() for key, values in only_public_arrays(arrays).items()} for _ in range(2))
    harder["X"][..., 0] *= 1.2
    forward["X"][..., 1] += 0.5 * (forward["X"][..., 0] > 0)
    for name, changed, message in (("harder", harder, "GeV, outside 500-550"), ("forward", forward, "beyond 1.7")):
        path = write(tmp_path, changed, f"{name}.npz")
        assert len(qg.load(path)) == 1000
        with pytest.raises(qg.DataError, match=rf"{name}\.npz: X row .*{message}"):
            qg.read(path, standard=True)


def test_partly_shuffled_labels_of_standard_jets(sample: qg.Jets) -> None:
    label = sample.label.copy()
    label[:6000] = permuted(label[:6000])
    with pytest.raises(qg.DataError, match=r"sample: .* the labels look shuffled"):
        check_labels(replace(sample, label=label), "sample", standard=True)
    check_labels(sample, "sample", standard=True)


def test_few_jets_say_nothing_about_labels(sample: qg.Jets) -> None:
    few = sample[:300]
    check_labels(replace(few, label=(1 - few.label).astype(np.int8)), "few", standard=True)


def test_the_same_file_twice(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    for name in ("a_1.npz", "a_10.npz"):
        write(tmp_path, arrays, name)
    with pytest.raises(qg.DataError, match=r"a_1\.npz row 0 and .*a_10\.npz row 0: the same file twice"):
        qg.load(tmp_path)
    check_unique(qg.read(tmp_path / "a_1.npz"), {"a": 1000})


def test_unreadable_files(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    good = write(tmp_path, arrays).read_bytes()
    flipped = bytearray(good)
    flipped[5000] ^= 0xFF
    contents = {"cut": good[: len(good) // 2], "flipped": bytes(flipped), "text": b"not numpy", "empty": b""}
    for name, content in contents.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(qg.DataError, match=rf"{name}\.npz: not a readable npz file, damaged or incomplete"):
            qg.load(path)
    np.savez(tmp_path / "object.npz", X=np.array([None]), y=np.zeros(1))
    with pytest.raises(qg.DataError, match=r"object\.npz: not a readable npz file"):
        qg.load(tmp_path / "object.npz")
    np.save(tmp_path / "single.npy", arrays["X"])
    with pytest.raises(qg.DataError, match="a single array, not an npz file"):
        qg.load(tmp_path / "single.npy")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no npz files in"):
        qg.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="'sample', 'simulate', 'public' or an existing path, got 'samples'"):
        qg.load("samples")
    with pytest.raises(ValueError, match="n must be given for source='simulate'"):
        qg.load("simulate")


# Angles and momenta ---------------------------------------------------------------------------------------------------


@given(ANGLES)
def test_wrap_phi_is_the_same_direction_in_the_half_open_interval(phi: float) -> None:
    wrapped = float(qg.wrap_phi(np.array(phi)))
    assert -np.pi <= wrapped < np.pi
    assert np.isclose(np.cos(wrapped - phi), 1.0, atol=1e-9)


@given(ANGLES, ANGLES)
def test_wrapped_difference_is_the_shorter_way(first: float, second: float) -> None:
    there, back = (float(qg.wrap_phi(np.array(d))) for d in (first - second, second - first))
    assert abs(abs(there) - abs(back)) < 1e-9
    assert np.isclose(np.cos(there), np.cos(first - second), atol=1e-9)


def test_wrap_phi_at_the_seam() -> None:
    np.testing.assert_allclose(qg.wrap_phi(np.array([np.pi, -np.pi, 3 * np.pi])), -np.pi)
    assert abs(float(qg.wrap_phi(np.array(0.05 - 6.25)))) == pytest.approx(0.083185, abs=1e-6)
    single = qg.wrap_phi(np.nextafter(np.float32(-np.pi), np.float32(-4), dtype=np.float32))
    assert single.dtype == np.float32
    assert -np.pi <= single < np.pi


def test_two_photons_by_hand() -> None:
    # m^2 = 2 pa pb (cosh dy - cos dphi) = 10000 (1.0453385 - 0.9210610)
    pair = np.array([[[100, 0.0, 0.0, 22], [50, 0.3, 0.4, 22], [0, 0, 0, 0]]], np.float32)
    jet = qg.jet_momentum(pair)
    assert jet["m"][0] ** 2 == pytest.approx(1242.775, rel=1e-5)
    assert jet["pt"][0] == pytest.approx(np.hypot(100 + 50 * np.cos(0.4), 50 * np.sin(0.4)))
    assert jet["phi"][0] == pytest.approx(np.arctan2(50 * np.sin(0.4), 100 + 50 * np.cos(0.4)))
    single = qg.jet_momentum(np.array([[[10, 0.7, 1.0, 2212]]], np.float32))
    assert single["m"][0] == pytest.approx(0.93827, abs=1e-5)
    assert single["y"][0] == pytest.approx(0.7, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(turn=ANGLES, extra=st.integers(0, 3))
def test_observables_do_not_depend_on_azimuth_padding_or_order(sample: qg.Jets, turn: float, extra: int) -> None:
    few = sample[:20]
    x = np.pad(few.constituents, ((0, 0), (0, extra), (0, 0)))
    x[..., 2] = np.where(x[..., 0] > 0, x[..., 2] + turn, 0)
    x = x[:, ::-1]
    turned = qg.observables(replace(few, constituents=x))
    np.testing.assert_allclose(turned, qg.observables(few), rtol=1e-4, atol=1e-4)


def test_observables_by_hand() -> None:
    jet = np.zeros((1, 5, 4), np.float32)
    jet[0, :3] = [[60, 0.1, 0.0, 211], [30, -0.2, 0.0, 22], [0.5, 0.0, 0.0, -11]]
    table = qg.observables(qg.Jets(jet, np.zeros(1, np.int8)))
    assert list(table) == list(qg.OBSERVABLES)
    row = table.iloc[0]
    z = np.array([60, 30, 0.5]) / 90.5
    y = float(qg.jet_momentum(jet)["y"][0])
    theta = np.abs(np.array([0.1, -0.2, 0.0]) - y) / 0.4
    expected = {"multiplicity": 3, "charged_multiplicity": 2, "girth": z @ theta, "ptd": np.sqrt(z @ z), "z_max": z[0]}
    expected |= {"lha": z @ np.sqrt(theta), "thrust": z @ theta**2, "photons": 1, "hard_particles": 2}
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-5), name


def test_particle_classes() -> None:
    names = {i: qg.CLASSES[int(qg.particle_class(np.array(i)))] for i in qg.PDG_IDS}
    assert {abs(i) for i, name in names.items() if name == "charged hadron"} == {211, 321, 2212}
    assert {abs(i) for i, name in names.items() if name == "neutral hadron"} == {130, 2112}
    assert names[11] == names[-11] == "electron"
    assert names[13] == "muon"
    assert names[22] == "photon"
    assert qg.particle_class(np.array([0, 310, 5000, 1e30])).tolist() == [-1] * 4
    ids = np.array([11, -11, 13, 211, -211, 2212, -2212, 2112, 22, 130, 0])
    assert qg.charge(ids).tolist() == [-1, 1, -1, 1, -1, 1, -1, 0, 0, 0, 0]


def test_features(sample: qg.Jets) -> None:
    few = sample[:200]
    x, mask = qg.features(few, 30)
    assert x.shape == (200, 30, len(qg.FEATURES))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(mask.sum(1), np.minimum(few.multiplicity, 30))
    assert (x[~mask] == 0).all()
    np.testing.assert_array_equal(x[..., 4:9].sum(-1), mask)
    pid = few.constituents[:, :30, 3]
    np.testing.assert_array_equal(x[..., 9], qg.charge(pid))
    np.testing.assert_array_equal(x[..., 8], pid == 22)
    z = few.constituents[..., 0] / few.constituents[..., 0].sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(5 * (x[..., 0][mask] - 1)), z[:, :30][mask], rtol=1e-4)
    np.testing.assert_allclose(np.hypot(x[..., 1], x[..., 2]), x[..., 3], atol=1e-5)
    assert 0.1 < x[mask].std(0)[:4].min() < x[mask].std(0)[:4].max() < 1
    wide, mask = qg.features(few, 200)
    assert wide.shape[1] == 200
    np.testing.assert_array_equal(mask.sum(1), few.multiplicity)
    np.testing.assert_array_equal(wide[:, :30], x)
    with pytest.raises(ValueError, match="max_constituents must be positive, got 0"):
        qg.features(few, 0)


# Downloads ------------------------------------------------------------------------------------------------------------


class Flaky(http.server.BaseHTTPRequestHandler):
    """Serves one file with ranges, but hangs up after half of what is asked for the first time."""

    content = b""
    requests: list[str]
    hang_ups = 1

    def do_GET(self) -> None:
        cls = type(self)
        wanted = self.headers.get("Range", "bytes=0-")
        cls.requests.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        body = cls.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cls.hang_ups:
            cls.hang_ups -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def zenodo(arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Flaky]]:
    content = write(tmp_path, only_public_arrays(arrays)).read_bytes()
    handler = type("Handler", (Flaky,), {"content": content, "requests": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("BITHEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(public, "BASE_URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(public, "FILES", {"QG_jets.npz": hashlib.sha256(content).hexdigest()})
    yield handler
    server.shutdown()
    server.server_close()


def test_download_resumes_and_is_kept(zenodo: type[Flaky], tmp_path: Path) -> None:
    jets = qg.load("public", n=500)
    assert len(jets) == 500
    first, second = (int(wanted.removeprefix("bytes=")[:-1]) for wanted in zenodo.requests)
    assert first == 0
    half = len(zenodo.content) // 2
    assert half - public.BLOCK <= second <= half
    qg.load("public", n=500)
    assert len(zenodo.requests) == 2
    assert [path.name for path in (tmp_path / "cache/quark_gluon/public").iterdir()] == ["QG_jets.npz"]


def test_wrong_download_is_refused(zenodo: type[Flaky], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public, "RETRIES", 0)
    monkeypatch.setattr(zenodo, "hang_ups", 0)
    monkeypatch.setattr(public, "FILES", {"QG_jets.npz": "0" * 64})
    with pytest.raises(ValueError, match="hash"):
        qg.load("public", n=500)


def test_public_file_table() -> None:
    assert len(public.FILES) == len(set(public.FILES.values())) == 20
    assert list(public.FILES)[:2] == ["QG_jets.npz", "QG_jets_1.npz"]
    assert all(len(sha256) == 64 for sha256 in public.FILES.values())
    with pytest.raises(ValueError, match="there are 20 public files"):
        public.fetch(21)
    assert files.SAMPLE.is_dir()
