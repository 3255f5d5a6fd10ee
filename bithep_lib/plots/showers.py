"""Looking at calorimeter showers: in their voxels, as profiles, and as the challenge's histograms.

Wherever samples are compared they come as a mapping from names to showers; a single set is a mapping of one.
The interactive view of one shower is :func:`bithep_lib.plots.shower_view.view`.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from bithep_lib.data.calochallenge.geometry import Geometry
from bithep_lib.data.calochallenge.showers import Showers
from bithep_lib.evaluate.separation import Comparison, compare
from bithep_lib.plots.style import OKABE_ITO, line_styles, new_figure, step_histogram

__all__ = ["compared", "gallery", "histograms", "profiles", "rings"]

Samples = Showers | Mapping[str, Showers]

REFERENCE = OKABE_ITO["grey"]
PANELS = ("E layer", "EC eta", "EC eta std", "EC r", "EC r std", "sparsity")
COLUMNS = 4
LINEAR = ("E total", "sparsity")  # groups whose histograms are shown on a linear scale
FEWEST = 5  # entries of a bin for its ratio to be shown
ARC = 96  # straight pieces of a full circle
DECADES = 5  # of energy, from the brightest voxel down


def gallery(
    generated: Samples, reference: Showers, *, layers: Iterable[int] | None = None, reference_name: str = "Geant4"
) -> Figure:
    """The challenge's features at a look: histograms of generated showers over the reference's, each with its ratio.

    Response and voxel energies, then for each layer its energy, centre and width in eta, radial centre and width, and
    sparsity. Bins and cuts are the challenge's; bands are Poisson errors; histograms are normalised to the entries in
    their range.

    Args:
        generated: one or more samples of the same data set.
        layers: numbers of layers in the challenge; None is the one with most energy in the reference.

    Raises:
        ValueError: no sample, or a layer that the data set does not have.
    """
    samples = _named(generated, "generated")
    comparisons = {name: compared(showers, reference, layers=layers) for name, showers in samples.items()}
    return histograms(comparisons, reference_name=reference_name)


def compared(generated: Showers, reference: Showers, *, layers: Iterable[int] | None = None) -> list[Comparison]:
    """What `gallery` draws for one sample: response and voxel energies, then the features of each layer in turn.

    Centres and widths in eta are left out where a layer has no angles.

    Args:
        layers: numbers of layers in the challenge; None is the one with most energy in the reference.

    Raises:
        ValueError: a layer that the data set does not have, or an empty sample.
    """
    layers = [_hottest(reference)] if layers is None else list(layers)
    found = compare(generated, reference, groups=("E total", "cell", *PANELS), layers=layers)
    whole = [c for group in ("E total", "cell") for c in found if c.group == group]
    by_key = {(c.group, c.layer): c for c in found}
    return whole + [by_key[group, layer] for layer in layers for group in PANELS if (group, layer) in by_key]


def histograms(comparisons: Mapping[str, Sequence[Comparison]], *, reference_name: str = "Geant4") -> Figure:
    """Histograms over the same ones of a reference, each with its ratio, from comparisons made elsewhere.

    Args:
        comparisons: for each sample the same histograms in the same order, with the reference's entries in each (see
            `compared`, and `evaluate.separation.from_columns` for those in a record).

    Raises:
        ValueError: no sample, or samples with other histograms.
    """
    if not comparisons:
        raise ValueError("at least one sample of showers is needed, got none")
    panels = list(zip(*comparisons.values(), strict=True))
    rows = -(-len(panels) // COLUMNS)
    heights = [3, 1, 0.55] * rows  # the third is room for the labels
    with new_figure(3 * rows, COLUMNS, figsize=(9.6, 2.75 * rows + 0.3), height_ratios=heights) as (fig, axes):
        for ax in axes[2::3].flat:
            ax.remove()
        for i in range(rows * COLUMNS):
            row, column = divmod(i, COLUMNS)
            top, bottom = axes[3 * row, column], axes[3 * row + 1, column]
            if i >= len(panels):
                top.remove()
                bottom.remove()
                continue
            _panel(top, bottom, panels[i], list(comparisons), reference_name)
        for top, bottom in zip(axes[::3, 0], axes[1::3, 0], strict=True):
            top.set_ylabel("share per unit")
            bottom.set_ylabel("ratio")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return fig


def rings(samples: Samples, *, layers: Sequence[int] | None = None) -> Figure:
    """Mean energy of each voxel, drawn where it is: rings and sectors of the layers, one row a sample.

    Give one shower (``showers[0]``) to see that shower. Radii are to scale in ds2 and ds3; in ds1, where they reach
    from 1 mm to 2 m, the radius is drawn as log(1 + r / mm), with circles at 10, 100 and 1000 mm. The colour spans five
    decades below the brightest voxel; voxels without energy stay white.

    Args:
        layers: numbers of layers in the challenge; None takes all, but no more than eight.

    Raises:
        ValueError: no sample, samples of different data sets, no shower, or an unknown layer.
    """
    samples = _named(samples, "")
    one = _same_geometry(samples)
    chosen = np.unique(np.linspace(0, one.n_layers - 1, min(8, one.n_layers)).astype(int))
    positions = list(chosen) if layers is None else [one.position(layer) for layer in layers]
    means = {name: showers.voxels.mean(0, dtype=np.float64) for name, showers in samples.items()}
    brightest = max(mean.max() for mean in means.values())
    if not brightest > 0:
        raise ValueError("the showers have no energy in any voxel: nothing to draw")
    norm = LogNorm(brightest / 10**DECADES, brightest)
    size = (1.3 * len(positions) + 0.9, 1.3 * len(samples) + 0.4)
    with new_figure(len(samples), len(positions), figsize=size, squeeze=False) as (fig, axes):
        for row, (name, mean) in zip(axes, means.items(), strict=True):
            for ax, position in zip(row, positions, strict=True):
                _disc(ax, one, position, mean[one.slice(position)], norm)
            row[0].set_ylabel(name)
        for ax, position in zip(axes[0], positions, strict=True):
            ax.set_title(f"layer {one.layers[position].id}", fontsize="small")
        label = "energy [MeV]" if all(len(s) == 1 for s in samples.values()) else "mean energy [MeV]"
        fig.colorbar(ScalarMappable(norm, "viridis"), ax=axes, label=label, aspect=12 * len(samples))
        if one.uniform:
            axes[-1, 0].set_xlabel(f"radius {one.layers[0].r_edges[-1]:g} mm", fontsize="small")
        else:
            axes[-1, 0].set_xlabel("circles: 10, 100, 1000 mm", fontsize="small")
    return fig


def profiles(samples: Samples, *, layer: int | None = None) -> Figure:
    """Where showers leave their energy along the axis and away from it, with ratios to the first of several samples.

    Left, the mean of layer energy / incident energy; right, the mean energy / incident energy per mm^2 of each ring.
    Bands are the standard error of the mean.

    Args:
        layer: the right panel shows this layer; None is all layers together for ds2 and ds3, and the layer with most
            energy for ds1, whose layers have different rings.

    Raises:
        ValueError: no sample, samples of different data sets, no shower, or an unknown layer.
    """
    named, samples = samples, _named(samples, "showers")
    one = _same_geometry(samples)
    if layer is None and not one.uniform:
        layer = _hottest(next(iter(samples.values())))
    position = None if layer is None else one.position(layer)
    panels = (
        {"nrows": 2, "height_ratios": [3, 1], "figsize": (9.2, 4.4)} if len(samples) > 1 else {"figsize": (9.2, 3.4)}
    )
    with new_figure(ncols=2, sharex="col", squeeze=False, **panels) as (fig, axes):
        curves = {name: (_along(showers), _across(showers, position)) for name, showers in samples.items()}
        first = next(iter(curves.values()))
        radii = np.array(one.layers[position or 0].r_edges)
        edges = (np.arange(one.n_layers + 1) - 0.5, radii)
        for (name, curve), line in zip(curves.items(), line_styles(len(curves)), strict=True):
            for column, (mean, error) in enumerate(curve):
                step_histogram(axes[0, column], mean, edges[column], error, label=name, baseline=None, **line)
                if len(samples) > 1:
                    base = np.where(first[column][0] > 0, first[column][0], np.nan)
                    step_histogram(axes[1, column], mean / base, edges[column], error / base, baseline=None, **line)
                    axes[1, column].set(ylim=(0.5, 1.5))
        axes[0, 0].set(ylabel=r"mean $E_l / E_\mathrm{inc}$", ylim=(0, None))
        axes[0, 1].set(ylabel=r"mean $E / E_\mathrm{inc}$ [1/mm$^2$]", yscale="log")
        if not one.uniform:
            axes[-1, 0].set_xticks(range(one.n_layers), [str(one_layer.id) for one_layer in one.layers])
            axes[0, 1].set(xscale="log", xlim=(radii[1] / 2, None))
        depth = f", {one.layer_depth:g} radiation lengths each" if one.layer_depth else ""
        where = "all layers" if position is None else f"layer {one.layers[position].id}"
        axes[-1, 0].set(xlabel=f"layer{depth}")
        axes[-1, 1].set(xlabel=f"radius in {where} [mm]")
        if len(samples) > 1:
            axes[1, 0].set(ylabel="ratio")
        if not isinstance(named, Showers):
            axes[0, 1].legend()
    return fig


def _panel(top: Axes, bottom: Axes, compared: Sequence[Comparison], names: Sequence[str], reference_name: str) -> None:
    first = compared[0]
    widths = np.diff(first.edges)
    base, base_error = _normalised(first.reference)
    top.stairs(base / widths, first.edges, fill=True, color=REFERENCE, alpha=0.35, label=reference_name)
    spread = _where_known(base_error, base, first.reference)
    bottom.stairs(1 + spread, first.edges, baseline=1 - spread, fill=True, color=REFERENCE, alpha=0.35)
    for comparison, name, line in zip(compared, names, line_styles(len(names)), strict=True):
        line |= {"linewidth": 1.1}
        share, error = _normalised(comparison.generated)
        fewest = np.minimum(first.reference, comparison.generated)
        ratio, ratio_error = (_where_known(values, base, fewest) for values in (share, error))
        step_histogram(top, share / widths, first.edges, error / widths, label=name, **line)
        step_histogram(bottom, ratio, first.edges, ratio_error, baseline=None, **line)
    if first.logarithmic:
        top.set_xscale("log")
        bottom.set_xscale("log")
    top.set(yscale="linear" if first.group in LINEAR else "log", xlim=_range(compared))
    bottom.set(xlabel=first.label, ylim=(0.4, 1.6), xlim=_range(compared))
    top.tick_params(labelbottom=False)
    bottom.axhline(1, color=REFERENCE, linewidth=0.8)
    for ax in (top, bottom):
        ax.tick_params(labelsize="small")


def _normalised(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total = max(counts.sum(), 1)
    return counts / total, np.sqrt(counts) / total


def _where_known(values: np.ndarray, base: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """values / base where there are entries enough for a ratio, NaN elsewhere."""
    return np.divide(values, base, out=np.full_like(base, np.nan), where=entries >= FEWEST)


def _range(compared: Sequence[Comparison]) -> tuple[float, float]:
    """The bins that have entries, with one more on each side."""
    edges = compared[0].edges
    seen = np.flatnonzero(sum(c.reference + c.generated for c in compared))
    if not len(seen):
        return edges[0], edges[-1]
    return edges[max(seen[0] - 1, 0)], edges[min(seen[-1] + 2, len(edges) - 1)]


def _disc(ax: Axes, one: Geometry, position: int, values: np.ndarray, norm: LogNorm) -> None:
    n_alpha, n_r = one.shape(position)
    pieces = max(1, ARC // n_alpha)  # of each sector, so that its edges are round
    alpha = np.linspace(-np.pi, np.pi, n_alpha * pieces + 1)
    r = _drawn(one, np.array(one.layers[position].r_edges))
    x, y = r[:, None] * np.cos(alpha), r[:, None] * np.sin(alpha)
    colours = np.repeat(values.reshape(n_alpha, n_r).T, pieces, axis=1)
    ax.pcolormesh(x, y, np.ma.masked_less_equal(colours, 0), norm=norm, cmap="viridis", rasterized=True)
    ax.plot(r[-1] * np.cos(alpha), r[-1] * np.sin(alpha), color=REFERENCE, linewidth=0.6)
    full = _drawn(one, np.array([max(layer.r_edges[-1] for layer in one.layers)]))[0]
    if not one.uniform:
        for radius in _drawn(one, np.array([10.0, 100.0, 1000.0])):
            if radius < r[-1]:
                ax.plot(radius * np.cos(alpha), radius * np.sin(alpha), color="white", linewidth=0.5, alpha=0.6)
    ax.set(aspect="equal", xlim=(-full, full), ylim=(-full, full), xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _drawn(one: Geometry, r: np.ndarray) -> np.ndarray:
    return r if one.uniform else np.log10(1 + r)


def _along(showers: Showers) -> tuple[np.ndarray, np.ndarray]:
    energy = np.add.reduceat(showers.voxels, showers.geometry.offsets[:-1], axis=1, dtype=np.float64)
    return _mean(energy / showers.incident[:, None])


def _across(showers: Showers, position: int | None) -> tuple[np.ndarray, np.ndarray]:
    one = showers.geometry
    n_alpha, n_r = one.shape(position or 0)
    voxels = showers.voxels if position is None else showers.voxels[:, one.slice(position)]
    energy = voxels.reshape(len(showers), -1, n_r).sum(1, dtype=np.float64)
    area = np.pi * np.diff(np.square(one.layers[position or 0].r_edges))
    return _mean(energy / area / showers.incident[:, None])


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(0), values.std(0, ddof=min(1, len(values) - 1)) / np.sqrt(len(values))


def _hottest(showers: Showers) -> int:
    """Number of the layer with most energy."""
    one = showers.geometry
    energy = np.add.reduceat(showers.voxels.sum(0, dtype=np.float64), one.offsets[:-1])
    return one.layers[int(energy.argmax())].id


def _named(samples: Samples, name: str) -> dict[str, Showers]:
    found = {name: samples} if isinstance(samples, Showers) else dict(samples)
    if not found:
        raise ValueError("at least one sample of showers is needed, got none")
    if empty := [key for key, showers in found.items() if not len(showers)]:
        raise ValueError(f"there are no showers in sample {empty[0]!r}")
    return found


def _same_geometry(samples: Mapping[str, Showers]) -> Geometry:
    if len(datasets := {showers.dataset for showers in samples.values()}) > 1:
        raise ValueError(f"samples of one data set are needed, got {', '.join(sorted(datasets))}")
    return next(iter(samples.values())).geometry
