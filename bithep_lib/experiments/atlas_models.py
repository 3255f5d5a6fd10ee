"""The networks of the atlas: small ones of all four models, their blocks, their data and their losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bithep_lib.data import calochallenge, quark_gluon, wz
from bithep_lib.experiments import smeft
from bithep_lib.experiments.variants import REDUCED
from bithep_lib.models import PDAT, CaloDREAM, CaloINN, SMEFTNet
from bithep_lib.quantize import Select
from bithep_lib.train import AngleTask, ClassificationTask, FlowTask, MatchingTask, predict, sin2_loss

__all__ = ["MODELS", "Model", "Parts"]

Parts = dict[str, tuple[Tensor, ...]]
"""``"train"``, ``"valid"``, ``"test"`` to tensors as `train.fit` takes them."""
_BATCH = 100


@dataclass(frozen=True)
class Model:
    """A small network of the atlas.

    Attributes:
        blocks: what becomes bits, one at a time: name to the choice of layers.
        data: the parts of the bundled sample, of given sizes, drawn with a seed; and its fingerprint.
        build: the network, with weights drawn from a seed; the training data set its constants.
        task: how it is trained.
        loss: its mean loss on a part, with all randomness drawn from a fixed seed.
        chance: the loss of having learned nothing; None: that of the untrained network. (SMEFTNet is the moment axis
            before it is trained, so that it has to be told what nothing is.)
    """

    blocks: Mapping[str, Select]
    data: Callable[[Mapping[str, int], int], tuple[Parts, str]]
    build: Callable[[int, tuple[Tensor, ...]], nn.Module]
    task: Callable[[nn.Module], pl.LightningModule]
    loss: Callable[[nn.Module, tuple[Tensor, ...]], float]
    chance: float | None = None


def _starts(*prefixes: str) -> Select:
    return lambda name, linear: name.startswith(prefixes)


def _holds(*words: str) -> Select:
    return lambda name, linear: any(word in name for word in words)


def _seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return make()


def _jets(sizes: Mapping[str, int], seed: int) -> tuple[Parts, str]:
    jets = quark_gluon.load("sample", n=sum(sizes.values()))
    parts = quark_gluon.split(jets, tuple(sizes.values()), seed=seed)
    found = {
        name: (torch.from_numpy(part.constituents), torch.from_numpy(part.label))
        for name, part in zip(sizes, parts, strict=True)
    }
    return found, jets.fingerprint


def _cross_entropy(model: nn.Module, part: tuple[Tensor, ...]) -> float:
    logits = predict(model, part[:-1], batch_size=_BATCH)
    return F.binary_cross_entropy_with_logits(logits, part[-1].float()).item()


def _wz(sizes: Mapping[str, int], seed: int) -> tuple[Parts, str]:
    jets = wz.load("sample", n=sum(sizes.values()))
    parts = wz.split(jets, tuple(sizes.values()), seed=seed)
    found = {
        name: (*smeft.tensors(part), torch.from_numpy(part.phi_decay)) for name, part in zip(sizes, parts, strict=True)
    }
    return found, jets.fingerprint


def _sin2(model: nn.Module, part: tuple[Tensor, ...]) -> float:
    return sin2_loss(predict(model, part[:-1], batch_size=_BATCH), part[-1]).mean().item()


def _showers(dataset: str) -> Callable[[Mapping[str, int], int], tuple[Parts, str]]:
    def data(sizes: Mapping[str, int], seed: int) -> tuple[Parts, str]:
        showers = calochallenge.load("sample", dataset, sum(sizes.values()))
        parts = calochallenge.split(showers, dict(sizes), seed=seed)
        found = {
            name: (torch.from_numpy(part.voxels), torch.from_numpy(part.incident).float())
            for name, part in parts.items()
        }
        return found, showers.fingerprint

    return data


def _flow(seed: int, train: tuple[Tensor, ...]) -> CaloINN:
    flow = CaloINN("ds1-photons", n_blocks=6, hidden=32, bins=6, seed=seed)
    noise = torch.rand(len(train[0]), flow.features, generator=torch.Generator().manual_seed(seed))
    flow.initialise(*flow.encode(*train, noise=noise))
    return flow


@torch.inference_mode()
def _nats(flow: CaloINN, part: tuple[Tensor, ...]) -> float:
    """Minus the log-likelihood of a number of a shower, on average."""
    flow.eval()
    noise = torch.rand(len(part[0]), flow.features, generator=torch.Generator().manual_seed(0))
    x, condition = flow.encode(*part, noise=noise)
    pairs = zip(x.split(_BATCH), condition.split(_BATCH), strict=True)
    found = torch.cat([flow.log_prob(*pair) for pair in pairs]).mean().item()
    return -found / flow.features if math.isfinite(found) else math.inf


def _dream(seed: int, train: tuple[Tensor, ...]) -> CaloDREAM:
    energy = {"width": 48, "depth": 1, "feedforward": 64, "velocity_width": 64}
    model = CaloDREAM(energy=energy, shape={"width": 48, "depth": 2}, seed=seed)
    model.initialise(*train)
    return model


def _velocity(part: str) -> Callable[[CaloDREAM, tuple[Tensor, ...]], float]:
    @torch.inference_mode()
    def loss(model: CaloDREAM, showers: tuple[Tensor, ...]) -> float:
        model.eval()
        generator, found = torch.Generator().manual_seed(0), []
        for voxels, incident in zip(*(x.split(_BATCH) for x in showers), strict=True):
            u, fractions, condition = model.encode(voxels, incident)
            if part == "energy":
                value = model.energy.loss(u, condition, generator=generator)
            else:
                value = model.shape.loss(fractions, torch.cat([condition, u], dim=1), generator=generator)
            found.append(len(voxels) * value.item())
        return sum(found) / len(showers[0])

    return loss


def _matching(part: str, blocks: Mapping[str, Select]) -> Model:
    return Model(
        blocks,
        _showers("ds2"),
        _dream,
        lambda model: MatchingTask(model, part, learning_rate=2e-3),
        _velocity(part),
    )


def _classification(model: nn.Module) -> pl.LightningModule:
    return ClassificationTask(model, learning_rate=2e-3)


def _angle(model: nn.Module) -> pl.LightningModule:
    return AngleTask(model, learning_rate=3e-3)


def _density(model: nn.Module) -> pl.LightningModule:
    return FlowTask(model, learning_rate=2e-3)


def _pdat(seed: int, train: Any) -> nn.Module:
    return _seeded(lambda: PDAT(**REDUCED), seed)


def _smeftnet(seed: int, train: Any) -> nn.Module:
    return _seeded(SMEFTNet, seed)


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "pdat": Model(
            {
                "EdgeConv": _starts("edge_conv"),
                "particle attention": _starts("particle_attention"),
                "channel attention": _starts("channel_attention"),
                "convolution": _starts("convolution"),
                "classifier": _starts("classifier"),
            },
            _jets,
            _pdat,
            _classification,
            _cross_entropy,
        ),
        "smeftnet": Model(
            {
                "messages 1": _starts("message_passing.0"),
                "messages 2": _starts("message_passing.1"),
                "read-out": _starts("mlp."),
            },
            _wz,
            _smeftnet,
            _angle,
            _sin2,
            chance=0.5,  # an angle by lot
        ),
        "caloinn": Model(
            {
                "first blocks": _starts("first."),
                "central blocks": _starts("inner."),
                "last blocks": _starts("last."),
                "hidden layers": _holds(".hidden."),
            },
            _showers("ds1-photons"),
            _flow,
            _density,
            _nats,
        ),
        "energy": _matching(
            "energy",
            {
                "transformer": _starts("energy.transformer"),
                "velocity": _starts("energy.velocity.hidden"),
                "first and last": _starts("energy.velocity.first", "energy.velocity.last"),
            },
        ),
        "shape": _matching(
            "shape",
            {
                "embeddings": _holds("shape.x_embedding", "shape.time_embedding", "shape.condition_embedding"),
                "attention": _holds(".qkv", ".projection"),
                "perceptrons": _holds(".fc1", ".fc2"),
                "modulation": _holds("modulation"),
                "last layer": _starts("shape.last"),
            },
        ),
    }
)
"""P-DAT, SMEFTNet, CaloINN, and the two networks of CaloDREAM."""
