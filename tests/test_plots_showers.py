"""Figures of showers hold the numbers they claim to show; the view in three dimensions needs no network."""

import base64
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from browser import Browser, browser_required, find_browser
from matplotlib.collections import QuadMesh
from test_calochallenge import make

from bithep_lib.data.calochallenge import Showers, geometry
from bithep_lib.evaluate.separation import compare
from bithep_lib.plots.shower_view import _corners, _project, view
from bithep_lib.plots.showers import gallery, profiles, rings


@pytest.fixture(scope="module")
def photons() -> Showers:
    return make("ds1-photons", 500)


@pytest.fixture(scope="module")
def electrons() -> Showers:
    return make("ds2", 60)


def heights(ax) -> list[np.ndarray]:
    """Values of the step histograms of a panel, lines only."""
    return [p.get_data().values for p in ax.patches if hasattr(p, "get_data") and not p.get_fill()]


def test_gallery_shows_the_challenges_histograms(photons: Showers) -> None:
    other = make("ds1-photons", 400, seed=2)
    figure = gallery({"first": other, "itself": photons}, photons, layers=[2, 12])
    figure.canvas.draw()
    tops, ratios = [ax for ax in figure.axes if not ax.get_xlabel()], [ax for ax in figure.axes if ax.get_xlabel()]
    labels = [ax.get_xlabel() for ax in ratios]
    # Response, voxels; all six of layer 2; energy, radial centre and width, sparsity of layer 12, which has no angles.
    assert len(labels) == len(tops) == 2 + 6 + 4
    assert "sparsity of layer 12" in labels
    assert "voxel energy [MeV]" in labels
    by_label = {c.label: c for c in compare(other, photons)}
    for top, ratio in zip(tops, ratios, strict=True):
        expected = by_label[ratio.get_xlabel()]
        share = expected.generated / expected.generated.sum()
        drawn, itself = heights(top)
        assert drawn == pytest.approx(share / np.diff(expected.edges))
        known = ~np.isnan(heights(ratio)[1])
        assert known.any()
        assert heights(ratio)[1][known] == pytest.approx(1)  # the reference over itself
        assert itself.sum() > 0
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["Geant4", "first", "itself"]
    assert not plt.get_fignums()


def test_gallery_chooses_the_layer_with_most_energy(electrons: Showers) -> None:
    voxels = np.ones_like(electrons.voxels)
    voxels[:, geometry("ds2").slice(17)] *= 5
    flat = Showers(electrons.incident, voxels, "ds2")
    figure = gallery(electrons, flat, reference_name="flat")
    assert sum("17" in ax.get_xlabel() for ax in figure.axes) == 6
    with pytest.raises(ValueError, match="at least one sample of showers is needed"):
        gallery({}, flat)
    with pytest.raises(ValueError, match="ds2 has no layer 45"):
        gallery(electrons, flat, layers=[45])


def test_rings_put_energy_where_the_voxel_is() -> None:
    one = geometry("ds2")
    voxels = np.zeros((1, one.n_voxels), np.float32)
    voxel = one.index(layer=6, angle=11, ring=4)
    voxels[0, voxel] = 7
    figure = rings({"one": Showers(np.array([1000.0]), voxels, "ds2")}, layers=[6, 7])
    figure.canvas.draw()
    here, there = ([c for c in ax.collections if isinstance(c, QuadMesh)][0] for ax in figure.axes[:2])
    assert there.get_array().count() == 0
    corners, lit = here.get_coordinates(), ~np.ma.getmaskarray(here.get_array())
    centres = (corners[1:, 1:] + corners[:-1, :-1])[lit] / 2
    x, y = centres.mean(axis=0)
    assert (x, y) == pytest.approx((one.eta[voxel], one.phi[voxel]), rel=0.03)
    assert here.get_array().max() == 7
    # The area that is painted is the voxel's.
    a, b = corners[1:, 1:] - corners[:-1, :-1], corners[1:, :-1] - corners[:-1, 1:]
    painted = np.abs(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])[lit].sum() / 2
    assert painted == pytest.approx(one.area[voxel], rel=0.01)


def test_rings_of_ds1_and_of_samples(photons: Showers) -> None:
    figure = rings({"all": photons, "one": photons[0]})
    figure.canvas.draw()
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["layer 0", "layer 1", "layer 2", "layer 3", "layer 12"]
    assert [figure.axes[i].get_ylabel() for i in (0, 5)] == ["all", "one"]
    mesh = figure.axes[0].collections[0]
    assert mesh.get_coordinates()[-1, 0, 0] == pytest.approx(-np.log10(601))
    with pytest.raises(ValueError, match="no energy in any voxel: nothing to draw"):
        rings(Showers(photons.incident, 0 * photons.voxels, "ds1-photons"))
    with pytest.raises(ValueError, match="samples of one data set are needed, got ds1-photons, ds2"):
        rings({"a": photons, "b": make("ds2", 1)})
    with pytest.raises(ValueError, match="there are no showers in sample 'b'"):
        rings({"a": photons, "b": photons[:0]})


def test_profiles_are_means(electrons: Showers, photons: Showers) -> None:
    figure = profiles({"a": electrons, "b": electrons[:30]})
    figure.canvas.draw()
    along, across, ratio, _ = figure.axes
    share = electrons.voxels.reshape(60, 45, 144).sum(2) / electrons.incident[:, None]
    assert heights(along)[0] == pytest.approx(share.mean(0), rel=1e-5)
    assert heights(ratio)[1] == pytest.approx(share[:30].mean(0) / share.mean(0), rel=1e-4)
    area = np.pi * np.diff(np.square(4.65 * np.arange(10)))
    ring = electrons.voxels.reshape(60, -1, 9).sum(1) / electrons.incident[:, None] / area
    assert heights(across)[1] == pytest.approx(ring[:30].mean(0), rel=1e-4)
    figure = profiles(photons, layer=12)
    assert len(figure.axes) == 2  # one sample has no ratio
    assert figure.axes[1].get_xlabel() == "radius in layer 12 [mm]"
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["0", "1", "2", "3", "12"]
    with pytest.raises(ValueError, match="ds1-photons has no layer 5"):
        profiles(photons, layer=5)


# The interactive view -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["ds1-photons", "ds1-pions", "ds2", "ds3"])
def test_view_is_small_and_complete_in_itself(dataset: str) -> None:
    seen = view(make(dataset, 1))
    bundle = seen._repr_mimebundle_()
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert len(bundle["text/html"]) < 200_000
    assert not re.search(r"https?://|//cdn|@import|<link|src=\"(?!data:)", bundle["text/html"])
    assert bundle["image/png"] in bundle["text/html"]  # what is there before, or without, the script
    assert "$" not in re.sub(r"\$\{", "", bundle["text/html"])  # no name of the template is left
    assert bundle["text/html"] == view(make(dataset, 1)).html  # the same bytes again
    assert not plt.get_fignums()


def test_view_draws_the_brightest() -> None:
    showers = make("ds3", 1)
    dense = Showers(showers.incident, showers.voxels + np.float32(1e-3), "ds3")
    seen = view(dense)
    assert len(seen.voxels) == 6000
    assert dense.voxels[0, seen.voxels].min() >= np.sort(dense.voxels[0])[-6000]
    assert "the brightest 6000 of 40500 voxels with energy" in seen.title
    with pytest.raises(ValueError, match=r"view shows one shower, showers\[i\], got 2"):
        view(make("ds2", 2))
    with pytest.raises(ValueError, match="no energy in any voxel"):
        view(Showers(showers.incident, 0 * showers.voxels, "ds3"))


@pytest.mark.parametrize("dataset", ["ds1-pions", "ds2"])
def test_outlines_are_those_of_the_voxels(dataset: str) -> None:
    one = geometry(dataset)
    voxels = np.arange(0, one.n_voxels, 7)
    corners = _corners(one, voxels)
    r = np.hypot(corners[..., 0], corners[..., 1])
    r = r if one.uniform else 10**r - 1
    half = corners.shape[1] // 2
    assert (r[:, 0] + r[:, -1]) / 2 == pytest.approx(one.r[voxels])
    middle = corners[:, half // 2] if half % 2 else (corners[:, half // 2 - 1] + corners[:, half // 2]) / 2
    angle = np.arctan2(middle[:, 1], middle[:, 0])
    sectors = np.array([layer.n_alpha for layer in one.layers])[one.layer[voxels]]
    assert angle[sectors > 1] == pytest.approx(one.alpha[voxels][sectors > 1])


@pytest.mark.browser
def test_view_turns_in_a_browser_without_network(tmp_path) -> None:
    if not (program := find_browser()):
        message = "no Chromium on this machine: the shower was not turned"
        pytest.fail(message) if browser_required() else pytest.skip(message)
    one = geometry("ds2")
    voxels = np.zeros((1, one.n_voxels), np.float32)
    lit = one.index(layer=3, angle=12, ring=8)
    voxels[0, lit], voxels[0, one.index(layer=40, angle=4, ring=8)] = 100, 1
    seen = view(Showers(np.array([1000.0]), voxels, "ds2"))
    (tmp_path / "view.html").write_text(f"<!doctype html><meta charset=utf-8>{seen.html}", encoding="utf-8")
    with Browser(program) as tab:
        tab.resize(800, 700)
        tab.open(f"file://{tmp_path}/view.html")
        canvas = "document.querySelector('canvas')"
        assert tab.evaluate(f"{canvas}.offsetWidth > 600 && document.querySelector('img') === null")
        picture = f"{canvas}.toDataURL()"
        first = tab.evaluate(picture)
        # The centre of the brighter voxel is painted dark where the figure has it.
        across, up, _ = _project(*_corners(one, np.array([lit]))[0].mean(0))
        scale = float(re.search(r'"scale":([\d.]+)', seen.html)[1])
        place = f"{350 + scale * across:.0f}, {200 - scale * up:.0f}, 1, 1"
        pixel = tab.evaluate(f"Array.from({canvas}.getContext('2d').getImageData({place}).data)")
        assert pixel[3] > 150
        assert sum(pixel[:3]) < 300
        key = f"{canvas}.dispatchEvent(new KeyboardEvent('keydown', {{key: 'ArrowRight'}}))"
        tab.evaluate(key)
        assert tab.wait_for(f"{picture} !== {first!r}")
        tab.evaluate(f"{canvas}.dispatchEvent(new MouseEvent('dblclick'))")
        assert tab.wait_for(f"{picture} === {first!r}")
        tab.evaluate("(s => { s.value = 200; s.dispatchEvent(new Event('input')); })(document.querySelector('input'))")
        assert tab.wait_for("Number(document.querySelector('output').textContent) > 1")
        assert tab.complaints == []
        assert [address for address in tab.requested if not address.startswith(("file:", "data:"))] == []
