"""All that the stored records say about the setups of Tables 1 to 4: results beside the paper, and what each run cost.

    >>> from bithep_lib.experiments import all_results
    >>> all_results.TABLES["Table 1"].rows["P-DAT-Bit"]
    'pdat/attention'

Nothing is computed here that is not in a record, so that the tables follow the records: a new one appears by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from bithep_lib import paper, study
from bithep_lib.models.calodream import ENERGY_SETUPS, SHAPE_SETUPS
from bithep_lib.study.tables import spread

__all__ = ["TABLES", "Metric", "Table", "costs", "hours", "panels", "runs", "table"]


@dataclass(frozen=True)
class Metric:
    """A column of one of the paper's tables.

    Attributes:
        name: of the metric in the records.
        column: of the paper's table; None where the paper has no such number.
        digits: shown.
    """

    name: str
    column: str | None
    digits: int


@dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes:
        chapter: whose records belong to it.
        rows: its setups, and those that this book trains beside them, to the variant in the records.
        metrics: by the heading that is shown.
        published: the paper's numbers.
        headline: the metric that a figure shows, and its axis.
        published_row: ours to the paper's name of a row, where they differ; ``{dataset}`` is filled in.
    """

    chapter: str
    rows: Mapping[str, str]
    metrics: Mapping[str, Metric]
    published: paper.Table
    headline: tuple[str, str]
    published_row: Mapping[str, str] = field(default_factory=dict)


_AUCS = {
    "AUC, low-level": Metric("auc_low", "AUC low-level", 3),
    "AUC, high-level": Metric("auc_high", "AUC high-level", 3),
}
_SMEFT = {"SMEFTNet": "none", "SMEFTNet-Bit": "all", "SMEFTNet-Bit70": "mlp", "SMEFTNet-Bit30": "message_passing"}
_FLOWS = ("Default", "ExchangePermutation", "NNCentral", "BlockCentral", "All")
_PAPER_SHAPES = [name for name in SHAPE_SETUPS if name in ("regular", "no_embedding", "full")]

TABLES: Mapping[str, Table] = MappingProxyType(
    {
        "Table 1": Table(
            "quark_gluon",
            {
                "P-DAT": "pdat/none",
                "P-DAT-Bit": "pdat/attention",
                "P-DAT, reduced": "pdat/none reduced",
                "P-DAT-Bit, reduced": "pdat/attention reduced",
                "particle-flow network": "pfn/none",
                "particle-flow network, all in bits": "pfn/all",
            },
            {
                "accuracy": Metric("accuracy", "accuracy", 4),
                "AUC": Metric("auc", "AUC", 4),
                "Rej50": Metric("rejection_50", "Rej50", 1),
                "Rej30": Metric("rejection_30", "Rej30", 1),
            },
            paper.TABLE_1,
            ("AUC", "AUC of quark against gluon jets"),
        ),
        "Table 2": Table(
            "smeft",
            {name: f"smeftnet/{strategy}" for name, strategy in _SMEFT.items()}
            | {f"{name}, as published": f"smeftnet/{strategy} as published" for name, strategy in _SMEFT.items()},
            {
                "<sin²>": Metric("sin2", None, 4),
                "Wasserstein": Metric("wasserstein", "Wasserstein", 3),
                "separation power": Metric("separation_published", "separation power", 3),
            },
            paper.TABLE_2,
            ("<sin²>", "mean sin² of the error of the angle (0.5: by lot)"),
            {f"{name}, as published": name for name in _SMEFT},
        ),
        "Table 3": Table(
            "caloinn",
            {name: f"caloinn/{name}" for name in _FLOWS},
            _AUCS,
            paper.TABLE_3,
            ("AUC, low-level", "AUC against Geant4, voxels (0.5: cannot be told apart)"),
            {name: f"{{dataset}} {name.removesuffix('Permutation')}" for name in _FLOWS},
        ),
        "Table 4": Table(
            "calodream",
            {
                f"energy {energy}, shape {shape.replace('_', ' ')}": f"calodream/{energy}/{shape}"
                for shape in _PAPER_SHAPES
                for energy in ENERGY_SETUPS
            },
            _AUCS,
            paper.TABLE_4,
            ("AUC, low-level", "AUC against Geant4, voxels (0.5: cannot be told apart)"),
        ),
    }
)

_GROUP = ("dataset", "scale", "n_train", "epochs")


def runs(name: str, folder: str | Path | None = None, scale: str | None = None) -> pd.DataFrame:
    """The trainings of a table's setups, one row each.

    Args:
        name: ``"Table 1"``, ...
        folder: records beside those of the package (see `study.records`).
        scale: only this one; None: all but ``"smoke"``.

    Returns:
        What `study.records` returns, with the columns ``setup`` (the table's name of it), ``dataset``, ``n_train``,
        ``epochs``. Where a setup has been trained with several sizes at a scale, those with most seeds stay.
    """
    chosen = TABLES[name]
    names = {variant: row for row, variant in chosen.rows.items()}
    every = study.records(chosen.chapter, scale, folder=folder)
    frame = every[every["variant"].isin(names) & ((every["scale"] != "smoke") | (scale == "smoke"))].copy()
    frame["setup"] = frame["variant"].map(names)
    for key in ("dataset", "n_train", "epochs"):
        frame[key] = [parameters.get(key, "") for parameters in frame["parameters"]]
    if name == "Table 2":
        frame = _with_table_2(frame, every)
    sizes = frame.groupby(["variant", *_GROUP])["seed"].transform("nunique")
    frame = frame.assign(_seeds=sizes).sort_values(["_seeds", "n_train", "epochs"], kind="stable")
    best = frame.drop_duplicates(["variant", "dataset", "scale"], keep="last").set_index(["variant", *_GROUP]).index
    frame = frame[frame.set_index(["variant", *_GROUP]).index.isin(best)]
    frame = frame.drop_duplicates(["variant", *_GROUP, "seed"], keep="last").drop(columns="_seeds")
    return frame.sort_values(["variant", "scale", "seed"]).reset_index(drop=True)


def _with_table_2(frame: pd.DataFrame, every: pd.DataFrame) -> pd.DataFrame:
    """With the columns of Table 2, which compare trainings with one another and have a record of their own."""
    found = {}
    for _, record in every[every["variant"] == "table 2"].iterrows():
        for strategy, columns in record["curves"].items():
            for number, seed in enumerate(columns["seed"]):
                values = {metric: columns[metric][number] for metric in ("wasserstein", "separation_published")}
                found[f"smeftnet/{strategy}", record["scale"], seed] = values
    keys = list(zip(frame["variant"], frame["scale"], frame["seed"], strict=True))
    return frame.assign(
        **{
            metric: [found.get(key, {}).get(metric, np.nan) for key in keys]
            for metric in ("wasserstein", "separation_published")
        }
    )


def table(name: str, folder: str | Path | None = None, scale: str | None = None) -> pd.DataFrame:
    """A table of the paper with the stored runs beside each number: mean and spread over seeds.

    Args as in `runs`.

    Returns:
        One row a setup and scale: seeds, training examples, epochs, quantised percentage (counted here), and for each
        metric ``paper`` and ``here`` (`study.spread`). Empty where there is no record.
    """
    chosen, frame = TABLES[name], runs(name, folder, scale)
    rows, index = [], []
    for row in chosen.rows:
        for key, group in frame[frame["setup"] == row].groupby(list(_GROUP)):
            dataset, where, n_train, epochs = key
            published = chosen.published_row.get(row, row).format(dataset=dataset)
            line = {
                ("", "trained on"): n_train,
                ("", "epochs"): epochs,
                ("", "seeds"): len(group),
                ("", "in bits (%)"): round(100 * float(group["fraction"].iloc[0]), 1),
            }
            for heading, metric in chosen.metrics.items():
                printed = chosen.published.numbers.get((published, metric.column))
                if metric.column is not None:
                    line[heading, "paper"] = "–" if printed is None else str(printed)
                values = group[metric.name].dropna() if metric.name in group else []
                line[heading, "here"] = spread(values, metric.digits) if len(values) else "–"
            rows.append(line)
            index.append((f"{dataset} {row}".strip(), where))
    columns = pd.MultiIndex.from_tuples(rows[0]) if rows else pd.MultiIndex.from_arrays([[], []])
    names = pd.MultiIndex.from_tuples(index, names=[name, "scale"]) if index else None
    return pd.DataFrame(rows, index=names, columns=columns)


def panels(
    folder: str | Path | None = None, scale: str | None = None
) -> dict[str, tuple[pd.DataFrame, str, str, dict[str, float]]]:
    """What `plots.overview.setups` draws: of each table that has trainings, its headline."""
    found = {}
    for name, chosen in TABLES.items():
        frame = runs(name, folder, scale)
        if frame.empty:
            continue
        heading, axis = chosen.headline
        metric, published = chosen.metrics[heading], {}
        order = {row: number for number, row in enumerate(chosen.rows)}
        frame = frame.sort_values("setup", key=lambda setups, order=order: setups.map(order), kind="stable")
        labels = []
        for setup, dataset, where in zip(frame["setup"], frame["dataset"], frame["scale"], strict=True):
            labels.append(f"{dataset} {setup}, {where}".strip())
            row = chosen.published_row.get(setup, setup).format(dataset=dataset)
            number = chosen.published.numbers.get((row, metric.column))
            if number is not None and number.value is not None:
                published[labels[-1]] = number.value
        found[name] = frame.assign(setup=labels), metric.name, axis, published
    return found


def costs(folder: str | Path | None = None, scale: str | None = None) -> pd.DataFrame:
    """What one training of each setup cost, with its evaluation: the median over its seeds.

    Returns:
        One row a setup and scale: ``seeds``, ``minutes``, ``ms per example`` (and epoch), ``memory [GiB]`` (the largest
        peak). The time is that of one thread, on a machine that had other things to do.
    """
    rows = {}
    for name in TABLES:
        for (setup, *key), group in runs(name, folder, scale).groupby(["setup", *_GROUP], sort=False):
            dataset, where, n_train, epochs = key
            seconds = group["wall_seconds"].median()
            rows[name, f"{dataset} {setup}".strip(), where] = {
                "seeds": len(group),
                "minutes": round(seconds / 60, 1),
                "ms per example": round(1000 * seconds / (n_train * epochs), 2),
                "memory [GiB]": round(group["peak_memory_mib"].max() / 1024, 2),
            }
    columns = ["seeds", "minutes", "ms per example", "memory [GiB]"]
    index = pd.MultiIndex.from_tuples(rows, names=["table", "setup", "scale"]) if rows else None
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def hours(folder: str | Path | None = None, scale: str | None = None) -> pd.DataFrame:
    """Core-hours of all stored runs, of every variant and control: one row a chapter and scale."""
    rows = {}
    for chapter in study.SCALES:
        for where, group in study.records(chapter, scale, folder=folder).groupby("scale", sort=False):
            if where != "smoke" or scale == "smoke":
                rows[chapter, where] = {
                    "runs": len(group),
                    "variants": group["variant"].nunique(),
                    "core-hours": round(group["wall_seconds"].sum() / 3600, 2),
                }
    index = pd.MultiIndex.from_tuples(rows, names=["chapter", "scale"]) if rows else None
    return pd.DataFrame(list(rows.values()), index=index, columns=["runs", "variants", "core-hours"])
