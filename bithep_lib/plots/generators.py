"""What the chapters on generators share: the paper's table beside ours, differences, quality against size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from bithep_lib import paper
from bithep_lib.plots.style import OKABE_ITO, line_styles, new_figure
from bithep_lib.study.tables import MIN_SEEDS, spread

__all__ = ["Contrast", "auc_table", "contrasts", "differences", "quality_against_size"]

LEVELS = "low", "high"


@dataclass(frozen=True)
class Contrast:
    """A difference between two generators.

    Attributes:
        value: of the stored runs.
        error: its error; None where there are too few trainings for one.
        seeds: the difference of each pair of trainings.
        paper: the published difference, None where there is none at hand.
    """

    value: float
    error: float | None = None
    seeds: Sequence[float] = ()
    paper: float | None = None


def auc_table(
    table: paper.Table,
    rows: Mapping[str, tuple[str, str]],
    records: pd.DataFrame,
    live: Mapping[str, Mapping[str, str]] | None = None,
) -> pd.DataFrame:
    """AUCs as in Tables 3 and 4: the paper's, the stored runs', and those of this execution where there are any.

    Args:
        table: of `bithep_lib.paper`, with the columns "quantised (%)", "AUC low-level" and "AUC high-level".
        rows: label to (row of the paper's table, variant of the records).
        records: what `study.records` returned, of one scale and data set, with the variant ``"floor"``.
        live: variant to level ("low", "high") to what was found just now.

    Returns:
        One row a label and one for Geant4 against Geant4; stored runs as mean ± spread over trainings from five of
        them on, as single values below that.
    """
    live = live or {}

    def ours(variant: str, level: str) -> dict[tuple[str, str], str]:
        stored = records.loc[records["variant"] == variant, f"auc_{level}"]
        values = (float(stored.iloc[0]),) if variant == "floor" and len(stored) else stored
        found = {("stored runs", f"AUC {level}"): spread(values, 3)}
        if live:
            found["this execution", f"AUC {level}"] = live.get(variant, {}).get(level, "")
        return found

    frame = {}
    for label, (row, variant) in rows.items():
        frame[label] = {
            ("paper", "bits [%]"): str(table[row, "quantised (%)"]) if (row, "quantised (%)") in table.numbers else "–"
        }
        frame[label] |= {("paper", f"AUC {level}"): str(table[row, f"AUC {level}-level"]) for level in LEVELS}
        for level in LEVELS:
            frame[label] |= ours(variant, level)
    frame["Geant4 against Geant4"] = ours("floor", "low") | ours("floor", "high")
    found = pd.DataFrame.from_dict(frame, orient="index").fillna("")
    return found[sorted(found.columns, key=lambda column: ("paper", "stored runs", "this execution").index(column[0]))]


def contrasts(
    records: pd.DataFrame,
    first: str,
    rows: Mapping[str, str],
    metric: str,
    published: Mapping[str, float] | None = None,
) -> dict[str, Contrast]:
    """Differences to one variant from the records that ``--compare`` wrote; variants without one are left out.

    Args:
        records: what `study.records` returned, of one scale and data set.
        first: the variant that is subtracted.
        rows: label to variant.
        metric: for instance ``"auc_low"``.
        published: label to the paper's difference.
    """
    found = {}
    for label, variant in rows.items():
        stored = records[records["variant"] == f"{variant} - {first}"]
        if not len(stored):
            continue
        row = stored.iloc[-1]
        seeds = row["curves"]["seeds"][metric]
        error = row.get(f"{metric}_difference_error")
        found[label] = Contrast(
            value=float(row[f"{metric}_difference"]),
            error=float(error) if len(seeds) >= MIN_SEEDS else None,
            seeds=seeds,
            paper=(published or {}).get(label),
        )
    return found


def differences(panels: Mapping[str, Mapping[str, Contrast]], *, xlabels: Mapping[str, str] | None = None) -> Figure:
    """Differences to one generator in rows, a panel for each way of measuring them.

    A point with a bar is the mean with its error, open circles are the pairs of trainings, a diamond is the paper's.

    Args:
        panels: title to row label to the difference; all panels have the same rows.
        xlabels: title to the label of its axis, where it is not the title.

    Raises:
        ValueError: panels with different rows.
    """
    rows = list(next(iter(panels.values())))
    if any(list(panel) != rows for panel in panels.values()):
        raise ValueError("differences needs the same rows in each panel")
    size = (2.5 * len(panels) + 1.7, 0.34 * len(rows) + 1.2)
    with new_figure(1, len(panels), figsize=size, sharey=True, squeeze=False) as (fig, axes):
        for ax, (title, panel) in zip(axes[0], panels.items(), strict=True):
            for row, contrast in enumerate(panel.values()):
                _row(ax, row, contrast)
            ax.axvline(0, color=OKABE_ITO["black"], linewidth=0.8)
            ax.set(xlabel=(xlabels or {}).get(title, title), ylim=(len(rows) - 0.5, -0.5))
        axes[0, 0].set_yticks(range(len(rows)), rows)
        handles, labels = {}, ("our runs", "one pair of trainings", "paper")
        for ax in axes[0]:
            handles |= {h.get_label(): h for h in ax.containers + ax.lines if h.get_label() in labels}
        fig.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=len(handles))
    return fig


def quality_against_size(
    points: Mapping[str, tuple[float, Sequence[float]]], *, ylabel: str, floor: tuple[float, float] | None = None
) -> Figure:
    """A generator's quality against the bytes of its weights: a point a training, labelled by its setup.

    Args:
        points: label to (bytes, values of the trainings).
        ylabel: what the values are.
        floor: value and error of Geant4 against Geant4, drawn as a band.
    """
    with new_figure(figsize=(5.8, 3.4)) as (fig, ax):
        if floor is not None:
            low, high = floor[0] - floor[1], floor[0] + floor[1]
            ax.axhspan(low, high, color=OKABE_ITO["grey"], alpha=0.25, label="Geant4 against Geant4", linewidth=0)
        markers = "os^Dv<>Pph*X"
        for i, ((name, (size, values)), line) in enumerate(zip(points.items(), line_styles(len(points)), strict=True)):
            at = np.full(len(values), size / 1e6)
            ax.plot(at, values, markers[i % len(markers)], color=line["color"], label=name, markersize=5, alpha=0.8)
        ax.set(xscale="log", xlabel="size of the weights [MB]", ylabel=ylabel)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
    return fig


def _row(ax: Axes, row: int, contrast: Contrast) -> None:
    if len(contrast.seeds):
        height = np.full(len(contrast.seeds), row + 0.2)
        label = "one pair of trainings"
        ax.plot(contrast.seeds, height, "o", mfc="none", ms=3.5, color=OKABE_ITO["grey"], label=label, linestyle="none")
    error = contrast.error or 0.0
    ax.errorbar(contrast.value, row, xerr=error, fmt="o", color=OKABE_ITO["blue"], capsize=2, label="our runs")
    if contrast.paper is not None:
        ax.plot(contrast.paper, row - 0.2, "D", ms=5, color=OKABE_ITO["vermilion"], label="paper")
