"""Every network of the book with an input to run it on, for the tables of sizes and speeds in chapter 6."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from bithep_lib.data import quark_gluon, wz
from bithep_lib.experiments import smeft
from bithep_lib.experiments.variants import VARIANTS

__all__ = ["Network", "networks"]

QUARK_GLUON = ("pfn/hidden", "pfn/all", "pdat/attention", "pdat/all", "pdat/attention as published")
"""The networks of chapter 2 that are listed: each model with the paper's strategy, and with everything in bits."""

SMEFT = ("smeftnet/message_passing", "smeftnet/all")
"""The networks of chapter 3 that are listed."""


class Network(NamedTuple):
    """A network of the book, with initial weights (sizes and speeds do not depend on training)."""

    chapter: str
    name: str
    model: nn.Module
    example: tuple[Any, ...]
    """Inputs of one batch."""


def networks(jets: quark_gluon.Jets, seed: int = 1) -> Iterator[Network]:
    """The networks of all chapters.

    Args:
        jets: the batch that the taggers run on; the other networks get batches of the same size.
        seed: of the weights.
    """
    for name in QUARK_GLUON:
        model, _ = VARIANTS[name].build(seed)
        if VARIANTS[name].model == "pfn":
            example = quark_gluon.features(jets, max_constituents=jets.constituents.shape[1])
        else:
            example = (jets.constituents,)
        yield Network("2, quark or gluon", name, model.eval(), tuple(torch.from_numpy(part) for part in example))
    example = smeft.tensors(wz.load("sample", n=len(jets)))
    for name in SMEFT:
        model, _ = smeft.VARIANTS[name].build(seed)
        yield Network("3, angle of a decay", name, model.eval(), example)
