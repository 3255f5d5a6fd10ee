"""What the study costs at the sizes of the publication: operations counted, times extrapolated from stored runs.

A training of E epochs on N examples takes 3 N E times the multiply-adds of one forward pass (the backward pass takes
two more products of the same size for each of the forward's). On a core, the time is that of a stored run times the
ratio of these numbers. For a GPU it is assumed, not measured, that a training reaches the same share of the GPU's peak
as it did of the core's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from bithep_lib import study
from bithep_lib.costs import multiply_adds
from bithep_lib.data import quark_gluon, wz
from bithep_lib.experiments import all_results, smeft
from bithep_lib.models import PDAT, CaloDREAM, CaloINN, SMEFTNet

__all__ = ["NETWORKS", "PASSES", "Network", "estimate", "operations", "scaling"]

PASSES = 3
"""Forward passes that one training step is worth."""
_JETS = 64  # over which operations that depend on the number of particles are averaged


@dataclass(frozen=True)
class Network:
    """A network of the paper, and how its operations are counted.

    Attributes:
        table: whose setups are trainings of it.
        settings: of the chapter at scale ``"paper"``, where they are not the default.
        forward: multiply-adds of one forward pass for one example, by the name of the part, from settings (the sizes
            of the network) and a seed for its weights; with the epochs in which that part is trained.
        setups: how many the paper trains.
    """

    table: str
    settings: Mapping[str, Any]
    forward: Callable[[Any, int], dict[str, tuple[float, int]]]
    setups: int


def _pdat(settings: Any, seed: int) -> dict[str, tuple[float, int]]:
    jets = torch.from_numpy(quark_gluon.load("sample", n=_JETS).constituents)
    return {"network": (_macs(PDAT, (jets,), seed) / _JETS, settings.epochs)}


def _smeftnet(settings: Any, seed: int) -> dict[str, tuple[float, int]]:
    jets = smeft.tensors(wz.load("sample", n=_JETS))
    return {"network": (_macs(SMEFTNet, jets, seed) / _JETS, settings.epochs)}


def _macs(model: type, example: tuple[Tensor, ...], seed: int) -> int:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return multiply_adds(model().eval(), example)


def _caloinn(settings: Any, seed: int) -> dict[str, tuple[float, int]]:
    with torch.device("meta"):  # 271 million parameters need no memory to be counted
        sizes = {name: getattr(settings, name) for name in ("n_blocks", "hidden", "bins")}
        flow = CaloINN(settings.dataset, seed=seed, **sizes).eval()
        example = torch.zeros(1, flow.features), torch.zeros(1, 1)
        return {"flow": (multiply_adds(flow, example), settings.epochs)}


def _calodream(settings: Any, seed: int) -> dict[str, tuple[float, int]]:
    energy = {
        "width": settings.energy_width,
        "depth": settings.energy_depth,
        "feedforward": settings.energy_feedforward,
        "velocity_width": settings.velocity_width,
    }
    shape = {"width": settings.shape_width, "depth": settings.shape_depth}
    with torch.device("meta"):
        model = CaloDREAM(energy=energy, shape=shape, seed=seed).eval()
        layers, voxels = model.geometry.n_layers, model.geometry.n_voxels
        one = torch.zeros(1, layers), torch.zeros(1, layers), torch.zeros(1, layers), torch.zeros(1, 1)
        two = torch.zeros(1, voxels), torch.zeros(1), torch.zeros(1, layers + 1)
        return {
            "energy": (multiply_adds(model.energy, one), settings.energy_epochs),
            "shape": (multiply_adds(model.shape, two), settings.epochs),
        }


NETWORKS: Mapping[str, Network] = MappingProxyType(
    {
        "P-DAT": Network("Table 1", {}, _pdat, 2),
        "SMEFTNet": Network("Table 2", {}, _smeftnet, 4),
        "CaloINN, ds1-photons": Network("Table 3", {"dataset": "ds1-photons"}, _caloinn, 5),
        "CaloINN, ds1-pions": Network("Table 3", {"dataset": "ds1-pions"}, _caloinn, 5),
        "CaloINN, ds2": Network("Table 3", {"dataset": "ds2", "n_blocks": 14}, _caloinn, 5),
        "CaloDREAM": Network("Table 4", {}, _calodream, 6),
    }
)


def operations(seed: int = 1) -> pd.DataFrame:
    """Operations of the trainings at scale ``"paper"``, counted.

    Args:
        seed: of the weights.

    Returns:
        One row a network: ``forward [MMAC]`` (multiply-adds of one forward pass for one example, in millions),
        ``examples``, ``epochs``, ``training [PFLOP]`` (two operations a multiply-add), ``trainings`` (setups of the
        paper times the scale's seeds).
    """
    rows = {}
    for name, network in NETWORKS.items():
        settings = study.resolve(all_results.TABLES[network.table].chapter, "paper", dict(network.settings))
        parts = network.forward(settings, seed)
        rows[name] = {
            "forward [MMAC]": round(sum(macs for macs, _ in parts.values()) / 1e6, 2),
            "examples": settings.n_train,
            "epochs": " + ".join(str(epochs) for _, epochs in parts.values()),
            "training [PFLOP]": float(f"{2e-15 * _training(parts, settings.n_train):.3g}"),
            "trainings": network.setups * settings.n_seeds,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")


def _training(parts: Mapping[str, tuple[float, int]], n_train: int) -> float:
    """Multiply-adds of a training."""
    return PASSES * n_train * sum(macs * epochs for macs, epochs in parts.values())


def scaling(folder: str | Path | None = None, scale: str | None = None, seed: int = 1) -> pd.DataFrame:
    """Stored trainings of the networks: multiply-adds beside seconds.

    Returns:
        One row a training: ``network`` (key of `NETWORKS`), ``setup``, ``scale``, ``seed``, ``macs`` (of the whole
        training), ``seconds`` and ``rate`` (multiply-adds a second). The seconds are those of one thread, with the
        evaluation, so that the rate is a lower limit. Runs that share a network with others, as those of CaloDREAM do,
        are left out.
    """
    rows, counted = [], {}
    for name, network in NETWORKS.items():
        chosen = all_results.TABLES[network.table]
        frame = all_results.runs(network.table, folder, scale)
        for _, run in frame[frame["variant"].isin(_of_the_paper(chosen))].iterrows():
            if run["dataset"] not in ("", network.settings.get("dataset", run["dataset"])):
                continue
            if "shared" in run["parameters"]:  # its networks were trained in another run: this time is not theirs
                continue
            known = vars(study.SCALES[chosen.chapter][run["scale"]])
            settings = study.resolve(
                chosen.chapter, run["scale"], {key: run["parameters"][key] for key in known if key in run["parameters"]}
            )
            sizes = name, repr(settings)
            if sizes not in counted:
                counted[sizes] = _training(network.forward(settings, seed), settings.n_train)
            rows.append(
                {
                    "network": name,
                    "setup": run["setup"],
                    "scale": run["scale"],
                    "seed": run["seed"],
                    "macs": counted[sizes],
                    "seconds": run["wall_seconds"],
                    "rate": counted[sizes] / run["wall_seconds"],
                }
            )
    return pd.DataFrame(rows, columns=["network", "setup", "scale", "seed", "macs", "seconds", "rate"])


def _of_the_paper(table: all_results.Table) -> list[str]:
    """The variants that are networks of the paper, not our smaller ones or those of another kind."""
    rows = table.published.rows
    return [
        variant for row, variant in table.rows.items() if row in rows or "{dataset}" in table.published_row.get(row, "")
    ]


def estimate(
    counted: pd.DataFrame, measured: pd.DataFrame, *, core_gflops: float, gpu_tflops: float, n_gpus: int
) -> pd.DataFrame:
    """Hours of the whole study at scale ``"paper"``.

    Args:
        counted: from `operations`.
        measured: from `scaling`. A network without stored runs takes the median rate of the others of its table; where
            there are none either, there is no estimate.
        core_gflops: what the core of the stored runs reaches in a large matrix product, 10^9 operations a second.
        gpu_tflops: the same for one GPU, 10^12 operations a second.
        n_gpus: of a cluster; each training has one for itself.

    Returns:
        One row a network and one for the sum of those that have an estimate: ``trainings``, ``core-hours at peak`` and
        ``GPU-hours at peak`` (lower limits), ``stored runs``, ``share of peak`` (of the core, in the stored runs),
        ``core-hours``, ``GPU-hours`` and ``hours on the cluster`` (of all: at least the longest training).
    """
    rates = {name: group["rate"].median() for name, group in measured.groupby("network")}
    tables = measured["network"].map(lambda name: NETWORKS[name].table)
    of_tables = {name: group["rate"].median() for name, group in measured.groupby(tables)}
    rows = {}
    for name, row in counted.iterrows():
        flop = 1e15 * row["training [PFLOP]"] * row["trainings"]
        rate = rates.get(name, of_tables.get(NETWORKS[name].table, float("nan")))
        share = 2 * rate / (1e9 * core_gflops)
        gpu = flop / (1e12 * gpu_tflops * share) / 3600
        rows[name] = {
            "trainings": row["trainings"],
            "core-hours at peak": flop / (1e9 * core_gflops) / 3600,
            "GPU-hours at peak": flop / (1e12 * gpu_tflops) / 3600,
            "stored runs": int((measured["network"] == name).sum()),
            "share of peak": share,
            "core-hours": flop / 2 / rate / 3600,
            "GPU-hours": gpu,
            "hours on the cluster": gpu / row["trainings"] * -(-row["trainings"] // n_gpus),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("network")
    longest = (table["GPU-hours"] / table["trainings"]).max()
    table.loc["all"] = table.drop(columns="share of peak").sum()
    table.loc["all", "hours on the cluster"] = max(table.loc["all", "GPU-hours"] / n_gpus, longest)
    return table.astype({"trainings": int, "stored runs": int})
