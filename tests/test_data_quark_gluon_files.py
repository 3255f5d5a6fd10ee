"""Quark and gluon jets in files: what is read, what is refused and why, and what is downloaded."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bithep_lib.data import quark_gluon as qg
from bithep_lib.data.quark_gluon import public
from bithep_lib.data.quark_gluon.checks import check_labels, check_unique


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


def test_event_counts_of_the_sample(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    counts = qg.event_counts()
    assert list(counts.index) == ["quark", "gluon"]
    assert (counts["jets"] == 5000).all()
    assert (counts["tried"] == counts["vetoed_process"] + counts["vetoed_early"] + counts["simulated"]).all()
    write(tmp_path, only_public_arrays(arrays))
    with pytest.raises(qg.DataError, match="not a file of bithep_lib.simulate.jets"):
        qg.event_counts(tmp_path)


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
    "text labels": (assign(y=lambda a: np.full(1000, "quark")), r"y must be numbers .* got <U5 \(1000,\)"),
    "quarks only": (assign(X=lambda a: a["X"][::2], y=lambda a: a["y"][::2]), r"has no gluon jets \(y = 0\)"),
    "gluons only": (assign(X=lambda a: a["X"][1::2], y=lambda a: a["y"][1::2]), r"has no quark jets \(y = 1\)"),
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


def test_boolean_labels(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    jets = qg.load(write(tmp_path, only_public_arrays(arrays) | {"y": arrays["y"].astype(bool)}))
    np.testing.assert_array_equal(jets.label, arrays["y"])


def test_a_file_for_each_class(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    for name, rows in (("1_quark.npz", slice(0, None, 2)), ("2_gluon.npz", slice(1, None, 2))):
        write(tmp_path, {key: values[rows] for key, values in only_public_arrays(arrays).items()}, name)
    assert qg.load(tmp_path).label.sum() == 500
    with pytest.raises(qg.DataError, match=r"1_quark\.npz: has no gluon jets"):
        qg.load(tmp_path, n=100)  # the first file is enough


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
    contents = {"cut": good[: len(good) // 2], "flipped": bytes(flipped), "empty": b""}
    for name, content in contents.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(qg.DataError, match=rf"{name}\.npz: not a readable npz file, damaged or incomplete"):
            qg.load(path)
    (tmp_path / "text.npz").write_text("pt,y,phi,pid")
    with pytest.raises(qg.DataError, match=r"text\.npz: is not an npz file") as error:
        qg.load(tmp_path / "text.npz")
    assert "pickle" not in str(error.value)
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
