"""The classifier of the CaloChallenge's test: its network, its split, and its settings at every scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

__all__ = ["CLASSIFIER", "ClassifierSettings", "classifier", "split_sizes"]

CHALLENGE_SPLITS = {
    121_000: (80_000, 20_000, 21_000),
    120_800: (80_000, 20_000, 20_800),
    100_000: (60_000, 20_000, 20_000),
}
"""Showers of each class to train, select and judge on, for the sizes of the official files."""
PROPORTIONS = (0.6, 0.2)
"""Shares to train and to select on for any other size, as in the official split of 100 000; the rest is judged."""


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """One way to run the test; `CLASSIFIER` has them by name.

    Attributes:
        name: what a record calls it.
        width: nodes of each of the three hidden layers.
        epochs: passes over the training part.
        batch_size: rows per step.
        learning_rate: of Adam.
        repetitions: independent runs, each with its own split and initialisation.
        standardise: bring each input to mean 0 and standard deviation 1 over the training part. The challenge does not.
        precision: ``"float32"`` or ``"float64"``, of inputs, weights and arithmetic. The challenge uses float64.
    """

    name: str
    width: int
    epochs: int
    batch_size: int
    learning_rate: float
    repetitions: int
    standardise: bool
    precision: Literal["float32", "float64"] = "float32"


CLASSIFIER: dict[str, ClassifierSettings] = {
    settings.name: settings
    for settings in (
        ClassifierSettings(
            name="challenge",
            width=2048,
            epochs=50,
            batch_size=1000,
            learning_rate=2e-4,
            repetitions=10,
            standardise=False,
        ),
        ClassifierSettings(
            name="laptop", width=512, epochs=30, batch_size=500, learning_rate=5e-4, repetitions=5, standardise=True
        ),
        ClassifierSettings(
            name="book", width=128, epochs=15, batch_size=200, learning_rate=1e-3, repetitions=3, standardise=True
        ),
        ClassifierSettings(
            name="smoke", width=32, epochs=4, batch_size=100, learning_rate=3e-3, repetitions=2, standardise=True
        ),
    )
}
"""``"challenge"`` is the published test (in float32; ``dataclasses.replace(..., precision="float64")`` is the original
to the letter). The others are narrower, shorter and standardise their inputs, so that a laptop can run them; their
power is measured against the full one in the chapter on showers."""


def classifier(n_inputs: int, settings: ClassifierSettings) -> nn.Sequential:
    """The network: three weight layers of `width` nodes and the logit.

    ``classifier(369, CLASSIFIER["challenge"])`` has the 9 152 513 parameters of the challenge's low-level test of
    dataset 1, photons. (Its options call this "2 hidden layers"; its dropout of 0 has no effect and is left out.)
    """
    layers: list[nn.Module] = []
    for fan_in in (n_inputs, settings.width, settings.width):
        layers += [nn.Linear(fan_in, settings.width), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers, nn.Linear(settings.width, 1))


def split_sizes(n: int) -> tuple[int, int, int]:
    """How many of `n` rows of each class train, select and judge.

    >>> split_sizes(121_000), split_sizes(1000)
    ((80000, 20000, 21000), (600, 200, 200))
    """
    if n in CHALLENGE_SPLITS:
        return CHALLENGE_SPLITS[n]
    train, select = (int(share * n) for share in PROPORTIONS)
    return train, select, n - train - select
