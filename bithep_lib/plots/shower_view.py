"""One shower to turn around with the mouse, in a page without network; where scripts do not run, its picture.

Voxels are drawn as what they are, sectors of rings, in the middle of their layer. In a notebook the last line of a cell

    view(showers[0])

shows it: a small canvas with its own script in HTML (built books, Jupyter, Colab), a picture in PDF and on GitHub.
"""

import base64
import io
import json
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from string import Template

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap, LogNorm, to_hex
from matplotlib.figure import Figure
from PIL import Image

from bithep_lib.data.calochallenge.geometry import Geometry
from bithep_lib.data.calochallenge.showers import Showers
from bithep_lib.plots.style import new_figure

__all__ = ["ShowerView", "view"]

TEMPLATE = Path(__file__).with_suffix(".html")
MOST = 6000  # voxels; the brightest are drawn
DECADES = 4  # of energy between the brightest voxel and the faintest colour
THIN = {"color": "0.6", "linewidth": 0.7, "zorder": 0.5}
YAW, PITCH = 0.75, 0.35  # rad, of the first view
WIDTH, HEIGHT = 700, 400  # pixels of the canvas
COLOURS = [to_hex(colour) for colour in mpl.colormaps["magma_r"](np.linspace(0.12, 0.95, 64))]


def view(shower: Showers) -> "ShowerView":
    """Show one shower (a set of one, ``showers[i]``) in three dimensions.

    ds2 and ds3 are drawn to scale. The layers of ds1 stand at equal distances, and their radius is drawn as
    log(1 + r / mm).

    Raises:
        ValueError: not exactly one shower, or a shower without energy.
    """
    if len(shower) != 1:
        raise ValueError(f"view shows one shower, showers[i], got {len(shower)}")
    if not shower.voxels.max() > 0:
        raise ValueError("the shower has no energy in any voxel: nothing to draw")
    return ShowerView(shower)


@dataclass(frozen=True, eq=False, repr=False)
class ShowerView:
    """What a notebook displays for one shower; :attr:`html` and :meth:`figure` give the two forms."""

    shower: Showers

    @cached_property
    def voxels(self) -> np.ndarray:
        """Numbers of the voxels that are drawn: those with energy, or the 6000 brightest of them."""
        energy = self.shower.voxels[0]
        brightest = np.argsort(-energy, kind="stable")[:MOST]
        return np.sort(brightest[energy[brightest] > 0])

    @property
    def range(self) -> tuple[float, float]:
        """Energies of the two ends of the colour scale, MeV."""
        high = float(self.shower.voxels.max())
        return max(high / 10**DECADES, float(self.shower.voxels[0, self.voxels].min())), high

    @property
    def title(self) -> str:
        """One line on the shower."""
        one, energy = self.shower.geometry, self.shower.voxels[0]
        share = energy[self.voxels].sum(dtype=np.float64) / self.shower.incident[0]
        hit = np.count_nonzero(energy)
        drawn = f"{hit}" if len(self.voxels) == hit else f"the brightest {len(self.voxels)} of {hit}"
        return (
            f"{one.particle} of {self.shower.incident[0] / 1e3:.3g} GeV in {one.name}: {drawn} voxels with energy, "
            f"{share:.1%} of the incident energy"
        )

    @cached_property
    def html(self) -> str:
        """The interactive view, complete in itself; at most about 150 kB."""
        one, (low, high) = self.shower.geometry, self.range
        z = _depths(one)
        data = {
            "voxel": _base64(self.voxels.astype("<u2")),
            "level": _base64(self._levels()),
            "layers": [
                {"z": round(z[i], 3), "r": np.round(_radii(one, i), 4).tolist(), "angles": layer.n_alpha}
                | {"offset": int(one.offsets[i]), "label": _label(one, i)}
                for i, layer in enumerate(one.layers)
            ],
            "pieces": _pieces(one),
            "scale": _scale(one),
            "before": float(_before(one)),
            "colours": COLOURS,
            "yaw": YAW,
            "pitch": PITCH,
            "low": low,
            "high": high,
        }
        return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
            id=f"shower-{self.shower.fingerprint[:12]}",
            title=escape(self.title),
            alt=escape(f"A shower in three dimensions: {self.title}", quote=True),
            png=self.png,
            low=_short(low),
            high=_short(high),
            data=json.dumps(data, separators=(",", ":")),
        )

    @cached_property
    def png(self) -> str:
        """:meth:`figure` in base64, in 256 colours: half of the size."""
        full, small = io.BytesIO(), io.BytesIO()
        self.figure().savefig(full, format="png", dpi=100)
        Image.open(full).convert("RGB").quantize(256).save(small, format="png", optimize=True)
        return base64.b64encode(small.getvalue()).decode()

    def figure(self) -> Figure:
        """The first view as a figure."""
        one = self.shower.geometry
        corners = _corners(one, self.voxels)
        across, up, away = _project(*np.moveaxis(corners, -1, 0))
        order = np.argsort(-away[:, 0], kind="stable")
        level = self._levels()
        colours = mpl.colors.to_rgba_array(COLOURS)[level.astype(int) * len(COLOURS) // 256]
        colours[:, 3] = 0.05 + 0.85 * (level / 255) ** 3
        with new_figure(figsize=(WIDTH / 100, HEIGHT / 100)) as (fig, ax):
            z, turn = _depths(one), np.linspace(0, 2 * np.pi, 65)
            axis = np.array([z[0] - _before(one), z[-1]])
            ax.plot(*_project(0 * axis, 0 * axis, axis)[:2], **THIN)
            for i in range(one.n_layers):
                if label := _label(one, i):
                    r = _radii(one, i)[-1]
                    ax.plot(
                        *_project(r * np.cos(turn), r * np.sin(turn), np.full_like(turn, z[i]))[:2],
                        **THIN,
                    )
                    x, y, _ = _project(0.0, -r, z[i])
                    ax.annotate(label, (x, y), (0, -12), textcoords="offset points", ha="center", fontsize=8)
            vertices = np.stack((across, up), axis=-1)[order]
            ax.add_collection(PolyCollection(vertices, facecolors=colours[order], edgecolors="none", rasterized=True))
            half = np.array([WIDTH, HEIGHT]) / 2 / _scale(one)
            ax.set(xlim=(-half[0], half[0]), ylim=(-half[1], half[1]), aspect="equal")
            ax.axis("off")
            ax.set_title(self.title, fontsize=9)
            scale = ScalarMappable(LogNorm(*self.range), ListedColormap(COLOURS))
            fig.colorbar(scale, ax=ax, label="energy [MeV]", shrink=0.6)
        return fig

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {"text/html": self.html, "image/png": self.png, "text/plain": self.title}

    def _levels(self) -> np.ndarray:
        low, high = self.range
        energy = np.clip(self.shower.voxels[0, self.voxels].astype(np.float64), low, high)
        return np.rint(255 * np.log(energy / low) / max(np.log(high / low), 1e-12)).astype(np.uint8)


def _depths(one: Geometry) -> np.ndarray:
    """Position of the middle of each layer along the axis, around 0: mm, or 1.6 units of log radius between layers."""
    return (np.arange(one.n_layers) - (one.n_layers - 1) / 2) * (one.layer_thickness or 1.6)


def _before(one: Geometry) -> float:
    """How much of the incoming particle's path is drawn."""
    return 0.15 * (_depths(one)[-1] - _depths(one)[0])


def _radii(one: Geometry, position: int) -> np.ndarray:
    edges = np.array(one.layers[position].r_edges)
    return edges if one.uniform else np.log10(1 + edges)


def _label(one: Geometry, position: int) -> str:
    """All layers of ds1 have their names, of the others just the ends."""
    if not one.uniform:
        return one.layers[position].name
    if position not in (0, one.n_layers - 1):
        return ""
    return f"layer {one.layers[position].id}"


def _pieces(one: Geometry) -> int:
    """Straight pieces of an arc, the same for all voxels: enough for the widest."""
    return max(2, 48 // min(layer.n_alpha for layer in one.layers))


def _scale(one: Geometry) -> float:
    """Pixels per unit so that the cylinder fits into the canvas however it is turned, up to its outermost corners."""
    r = max(_radii(one, i)[-1] for i in range(one.n_layers))
    reach = float(np.hypot(_depths(one)[-1] + _before(one) / 2, r))
    return round(0.95 * min(WIDTH / (2 * reach), HEIGHT / (2 * (0.4 * reach + 0.6 * r))), 4)


def _corners(one: Geometry, voxels: np.ndarray) -> np.ndarray:
    """Outlines of voxels: (n, 2 (pieces + 1), 3), along the outer arc and back along the inner one."""
    position, pieces = one.layer[voxels], _pieces(one)
    n_alpha, n_r = (np.array(values)[position] for values in zip(*map(one.shape, range(one.n_layers)), strict=True))
    angle, ring = np.divmod(voxels - one.offsets[position], n_r)
    table = np.zeros((one.n_layers, n_r.max() + 1))
    for i in range(one.n_layers):
        table[i, : one.shape(i)[1] + 1] = _radii(one, i)[: n_r.max() + 1]
    inner, outer = table[position, ring], table[position, ring + 1]
    steps = np.linspace(0, 1, pieces + 1)
    alpha = -np.pi + 2 * np.pi * (angle[:, None] + steps) / n_alpha[:, None]
    alpha = np.concatenate((alpha, alpha[:, ::-1]), axis=1)
    r = np.repeat(np.stack((outer, inner), axis=1), pieces + 1, axis=1)
    z = np.broadcast_to(_depths(one)[position][:, None], r.shape)
    return np.stack((r * np.cos(alpha), r * np.sin(alpha), z), axis=-1)


def _project(x, y, z) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # noqa: ANN001
    """Across and up on the page, and the distance behind it, in the first view; the script does the same."""
    sideways = x * np.cos(YAW) - z * np.sin(YAW)
    up = y * np.cos(PITCH) - sideways * np.sin(PITCH)
    return z * np.cos(YAW) + x * np.sin(YAW), up, sideways * np.cos(PITCH) + y * np.sin(PITCH)


def _short(value: float) -> str:
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()
