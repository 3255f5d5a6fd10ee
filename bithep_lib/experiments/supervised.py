"""What the runs of chapters 2 and 3 share: jets with a known answer, and how a network is trained on them."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from bithep_lib.experiments import driver
from bithep_lib.experiments.variants import Variant
from bithep_lib.quantize import QuantReport, quantize_
from bithep_lib.train import FitResult, fit
from bithep_lib.train.supervised import SupervisedTask

Inputs = tuple[Tensor, ...]
"""What a network is called with."""


class Campaign(driver.Campaign):
    """Trainings on the same jets, the learning rate falling with a cosine.

    Attributes:
        task: what is learned.
        answer: the attribute of `jets` that holds it.
        jets: those to train on, to choose the epoch on and to judge with, by name.
    """

    variants: ClassVar[Mapping[str, Variant]]
    task: ClassVar[type[SupervisedTask]]
    answer: ClassVar[str]
    jets: dict[str, Any]

    @abstractmethod
    def inputs_of(self, variant: Variant) -> dict[str, Inputs]:
        """What a variant's network sees of each part of the jets (more parts than those to train on are welcome)."""

    def fit(self, name: str, seed: int) -> tuple[nn.Module, dict[str, Inputs], FitResult]:
        """The network, from the last finished epoch on; with the inputs it was given for each part of the jets."""
        variant = self.variants[name]
        trained = self.variants[variant.after or name]
        inputs = self.inputs_of(trained)
        model, _ = trained.build(seed)
        task = self.task(
            model,
            learning_rate=self.run.learning_rate,
            weight_decay=self.run.weight_decay,
            schedule=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=self.run.epochs),
        )
        shuffle = np.random.default_rng(seed).permutation if trained.shuffled else np.asarray
        answers = {part: shuffle(getattr(self.jets[part], self.answer)) for part in ("train", "valid")}
        result = fit(
            task,
            *((*inputs[part], torch.from_numpy(answer)) for part, answer in answers.items()),
            epochs=self.run.epochs,
            batch_size=self.run.batch_size,
            seed=seed,
            checkpoint=self.path(variant.after or name, seed, "checkpoints", "ckpt"),
            device=self.run.device,
            max_minutes=self.run.minutes_left(),
            progress=sys.stderr.isatty(),
        )
        if variant.after is not None and not result.stopped_early:
            quantize_(model, model.strategies[variant.strategy], variant.spec)
        return model, inputs, result


def network(outcome: driver.Outcome, report: QuantReport) -> dict[str, float]:
    """What a record says of every network, beyond how good it is."""
    return {
        "valid_loss": outcome.valid_loss[outcome.best_epoch - 1],
        "best_epoch": outcome.best_epoch,
        "parameters": report.parameters,
        "fraction": report.fraction,
        "bytes_float32": report.bytes.float32,
        "bytes_two_bit": report.bytes.two_bit,
    }
