r"""Can a classifier tell two samples apart? The classifier two-sample test with the rules of the CaloChallenge.

A network is trained to tell generated showers (label 0) from simulated ones (label 1) and judged on showers that it has
not seen. An AUC of 0.5 means that it could not; 1 means that a single shower gives the generator away. Nothing here
knows about calorimeters: the inputs are two arrays. `evaluate.classifier_test` makes them from showers.

The rules are those of the public evaluation script (arXiv:2410.21611, section 4):

1. Each sample is cut into a part to train on, one to select on and one to judge on, by `split_sizes`.
2. Three layers of `width` nodes with LeakyReLU(0.01) between them and one logit at the end.
3. Adam, cross-entropy; after every epoch the accuracy on the selection part, and the weights of the epoch with the
   strictly highest one are kept. An accuracy of 1 ends the training.
4. An isotonic regression from network output to label, fitted on the selection part and limited to [1e-6, 1 - 1e-6].
5. On the judging part: AUC of the calibrated output, and the Jensen-Shannon divergence
   :math:`\mathrm{JSD} = (\ln 2 - \mathrm{BCE}) / \ln 2` from its cross-entropy, 0 for equal samples, 1 for disjoint
   ones.
6. All of this several times, with a new split and a new initialisation; mean and standard deviation (ddof 0).

Example:
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> a, b = rng.normal(0, 1, (900, 2)), rng.normal(3, 1, (900, 2))
    >>> result = two_sample_test(a, b, settings=CLASSIFIER["smoke"], progress=False)
    >>> result.mean > 0.95
    True
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from bithep_lib.evaluate.tagging import auc_error
from bithep_lib.train import fit, predict

__all__ = [
    "CLASSIFIER",
    "ClassifierResult",
    "ClassifierSettings",
    "Uncertainty",
    "classifier",
    "split_sizes",
    "two_sample_test",
    "uncertainty",
]

CHALLENGE_SPLITS = {
    121_000: (80_000, 20_000, 21_000),
    120_800: (80_000, 20_000, 20_800),
    100_000: (60_000, 20_000, 20_000),
}
"""Showers of each class to train, select and judge on, for the sizes of the official files."""
PROPORTIONS = (0.6, 0.2)
"""Shares to train and to select on for any other size, as in the official split of 100 000; the rest is judged."""
LIMIT = 1e-6


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


@dataclass(frozen=True)
class ClassifierResult:
    """What the test found, repetition by repetition; all arrays have shape (R,).

    Attributes:
        settings: how it was run.
        inputs: what the classifier saw, for instance ``"high"``.
        n: rows of each class (trained, selected and judged on together).
        auc: AUC of the calibrated output, the challenge's number.
        auc_raw: AUC of the network's output. Calibration can only tie rows together, so it is never far above `auc`.
        jsd: Jensen-Shannon divergence in units of ln 2, from the calibrated output; can be slightly negative.
        accuracy: on the judging part, before calibration.
        sampling_error: of each `auc_raw`, from the finite judging part (DeLong, DeLong and Clarke-Pearson 1988).
        best_epoch: the epoch whose weights were kept, counted from 1.
    """

    settings: ClassifierSettings
    inputs: str
    n: int
    auc: NDArray[np.float64]
    auc_raw: NDArray[np.float64]
    jsd: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    sampling_error: NDArray[np.float64]
    best_epoch: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Mean AUC over the repetitions."""
        return float(self.auc.mean())

    @property
    def std(self) -> float:
        """Standard deviation over the repetitions (ddof 0): the challenge's error, and the classifier's luck only."""
        return float(self.auc.std(ddof=0))

    @property
    def sample(self) -> float:
        """Error of the mean from the finite number of showers judged: what to compare two results with.

        Each repetition judges another part of the same showers. Two of them share a fraction f of it on average, so
        that averaging R repetitions reduces the error of one by sqrt((1 + (R - 1) f) / R), and never to nothing.
        """
        repetitions, shared = len(self.sampling_error), split_sizes(self.n)[2] / self.n
        return float(self.sampling_error.mean() * math.sqrt((1 + (repetitions - 1) * shared) / repetitions))

    def excess(self, floor: ClassifierResult) -> tuple[float, float]:
        """How far this lies above the floor: difference of the means, and its error from both finite samples."""
        return self.mean - floor.mean, math.hypot(self.sample, floor.sample)

    def table(self) -> pd.DataFrame:
        """One row a repetition, then mean and standard deviation."""
        columns = ("auc", "auc_raw", "jsd", "accuracy", "sampling_error", "best_epoch")
        frame = pd.DataFrame({name: getattr(self, name) for name in columns})
        frame.index = [str(number) for number in range(1, len(frame) + 1)]
        return pd.concat([frame, frame.agg(["mean", lambda values: values.std(ddof=0)]).set_axis(["mean", "std"])])

    def metrics(self) -> dict[str, float]:
        """Flat numbers for `study.record`."""
        return {
            "auc": self.mean,
            "auc_std": self.std,
            "auc_sample": self.sample,
            "auc_raw": float(self.auc_raw.mean()),
            "jsd": float(self.jsd.mean()),
        }

    def curve(self) -> dict[str, NDArray[Any]]:
        """The repetitions as columns for `study.record`."""
        return {"repetition": np.arange(1, len(self.auc) + 1)} | {
            name: getattr(self, name) for name in ("auc", "auc_raw", "jsd", "accuracy", "best_epoch")
        }

    def __str__(self) -> str:
        return f"AUC {self.mean:.3f} ± {self.std:.3f} (repetitions) ± {self.sample:.3f} (showers), {self.inputs}-level"


@dataclass(frozen=True)
class Uncertainty:
    """An AUC of a generator that was trained several times, its three uncertainties kept apart.

    Attributes:
        mean: over trainings and repetitions.
        repetitions: standard deviation over the classifier's repetitions (ddof 0), the error the challenge quotes.
        sample: error from the finite number of showers judged.
        trainings: standard deviation over trainings of the generator, without what the repetitions contribute; None
            for a single training, about which one test says nothing.
        n_trainings: how many.
    """

    mean: float
    repetitions: float
    sample: float
    trainings: float | None
    n_trainings: int

    def __str__(self) -> str:
        trained = "one training" if self.trainings is None else f"{self.trainings:.3f} ({self.n_trainings} trainings)"
        return f"{self.mean:.3f} ± {self.repetitions:.3f} (repetitions) ± {self.sample:.3f} (showers) ± {trained}"


def uncertainty(results: Sequence[ClassifierResult]) -> Uncertainty:
    """Mean and uncertainties of the same generator trained ``len(results)`` times.

    The spread of the trainings' means holds 1/R of the variance over repetitions; it is taken off (one-way analysis of
    variance) and the rest never falls below 0.
    """
    if not results:
        raise ValueError("uncertainty needs at least one result")
    means = np.array([result.mean for result in results])
    within = float(np.mean([result.auc.var(ddof=0) for result in results]))
    trainings = None
    if len(results) > 1:
        # var(ddof=1) / R, written with the ddof=0 variance of R repetitions.
        noise = np.mean([result.auc.var(ddof=0) / max(1, len(result.auc) - 1) for result in results])
        trainings = math.sqrt(max(0.0, float(means.var(ddof=1) - noise)))
    sample = float(np.mean([result.sample for result in results]))
    return Uncertainty(float(means.mean()), math.sqrt(within), sample, trainings, len(results))


def two_sample_test(
    generated: ArrayLike,
    reference: ArrayLike,
    *,
    settings: ClassifierSettings = CLASSIFIER["book"],
    seed: int = 1,
    paired: bool = False,
    inputs: str = "given",
    device: str | torch.device = "auto",
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> ClassifierResult:
    """Train classifiers to tell the rows of two arrays apart, and judge them on rows they have not seen.

    Args:
        generated: (N, d), label 0.
        reference: (N, d), label 1.
        settings: one of `CLASSIFIER`, or your own.
        seed: of splits, initialisations and orders; repetition r draws from (seed, r).
        paired: row i of both was made for the same conditions. Both then fall into the same part; otherwise a
            classifier could learn in training that *this* incident energy was the generated one, and be wrong about its
            partner in judging, which pushes AUCs below 0.5.
        inputs: what the rows are, for the result.
        device: where the networks run.
        checkpoint: a folder; a test that was stopped goes on from there. None: nothing is stored.
        progress: show a progress bar.

    Raises:
        ValueError: arrays of other shapes, numbers that are not finite, or too few rows for the split.
    """
    a, b = (_matrix(values, name) for values, name in ((generated, "generated"), (reference, "reference")))
    if a.shape != b.shape:
        raise ValueError(
            f"generated and reference must have the same shape, got {a.shape} and {b.shape}: generate one shower for "
            "each of the reference, or judge against fewer"
        )
    n, width = a.shape
    sizes = split_sizes(n)
    if min(sizes) < 10:
        raise ValueError(f"{n} rows of each class make parts of {sizes}: each needs 10, so give at least 50 rows")
    dtype = getattr(torch, settings.precision)
    pool = torch.from_numpy(np.concatenate([a, b]).astype(settings.precision, copy=False))
    label = torch.cat([torch.zeros(n, dtype=dtype), torch.ones(n, dtype=dtype)])
    digest = hashlib.blake2b(pool.numpy().data, digest_size=8).hexdigest()
    found = []
    for repetition in range(settings.repetitions):
        split_seed, init_seed, order_seed = _seeds(seed, repetition)
        rng = np.random.default_rng(split_seed)
        first = rng.permutation(n)
        second = first if paired else rng.permutation(n)
        ends = np.cumsum(sizes)[:2]
        parts = [
            torch.from_numpy(np.concatenate([rows, n + partners]))
            for rows, partners in zip(np.split(first, ends), np.split(second, ends), strict=True)
        ]
        scaled = _standardised(pool, parts[0]) if settings.standardise else pool
        model = _initialised(width, settings, init_seed).to(dtype)
        outcome = fit(
            _Judge(model, settings.learning_rate),
            *(_Rows(scaled, label, rows, digest) for rows in parts[:2]),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            seed=order_seed,
            precision="64-true" if settings.precision == "float64" else "32-true",
            device=device,
            checkpoint=None if checkpoint is None else Path(checkpoint) / f"{inputs}-repetition-{repetition + 1}.ckpt",
            progress=progress,
        )
        place = next(model.parameters()).device
        scored = []
        for rows in parts[1:]:
            logit = predict(model, (scaled[rows],), device=place).squeeze(-1)
            scored += [label[rows].numpy(), expit(logit.numpy().astype(np.float64))]
        found.append(_judged(*scored) | {"best_epoch": outcome.best_epoch})
    return ClassifierResult(
        settings, inputs, n, **{name: np.array([each[name] for each in found]) for name in found[0]}
    )


class _Rows(Dataset):
    """Some rows of the pool, without a copy of them."""

    def __init__(self, pool: Tensor, label: Tensor, rows: Tensor, digest: str) -> None:
        self.pool, self.label, self.rows = pool, label, rows
        self.fingerprint = f"{digest} {hashlib.blake2b(rows.numpy().data, digest_size=8).hexdigest()}"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.rows[index]
        return self.pool[rows], self.label[rows]


class _Judge(pl.LightningModule):
    """Cross-entropy and Adam; what `fit` selects on is the share of wrong answers, so the most accurate epoch stays."""

    def __init__(self, model: nn.Module, learning_rate: float) -> None:
        super().__init__()
        self.model = model
        self.save_hyperparameters({"learning_rate": learning_rate})

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, label = batch
        return F.binary_cross_entropy_with_logits(self.model(inputs).squeeze(-1), label)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        inputs, label = batch
        wrong = ((self.model(inputs).squeeze(-1) > 0) != (label > 0)).to(torch.float64).mean()
        self.log("valid_loss", wrong, batch_size=len(label), sync_dist=True)

    def on_train_epoch_end(self) -> None:
        if self.trainer.callback_metrics["valid_loss"] == 0:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams["learning_rate"])


def _judged(
    select_label: NDArray, select: NDArray[np.float64], label: NDArray, probability: NDArray[np.float64]
) -> dict[str, float]:
    """Step 4 and 5: calibrate on the selection part, judge on the judging part."""
    isotonic = IsotonicRegression(out_of_bounds="clip", y_min=LIMIT, y_max=1 - LIMIT).fit(select, select_label)
    calibrated = isotonic.predict(probability)
    return {
        "auc": float(roc_auc_score(label, calibrated)),
        "auc_raw": float(roc_auc_score(label, probability)),
        "jsd": 1 - log_loss(label, calibrated) / math.log(2),
        "accuracy": float(np.mean((probability > 0.5) == label)),
        "sampling_error": auc_error(label, probability),
    }


def _matrix(values: ArrayLike, name: str) -> NDArray:
    array = np.asarray(values)
    if array.ndim != 2:
        raise ValueError(f"{name} must have the shape (N, d), got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: row {int(np.argwhere(~np.isfinite(array))[0, 0])} has a number that is not finite")
    return array


def _standardised(pool: Tensor, rows: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over `rows`; a column that is constant there is only shifted."""
    std, mean = torch.std_mean(pool[rows], dim=0, correction=0)
    return (pool - mean) / torch.where(std > 0, std, torch.ones_like(std))


def _initialised(n_inputs: int, settings: ClassifierSettings, seed: int) -> nn.Sequential:
    """PyTorch's own initialisation, in float32 for either precision, from a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return classifier(n_inputs, settings)


def _seeds(seed: int, repetition: int) -> list[int]:
    """Unrelated seeds of split, initialisation and order."""
    return [int(word) >> 1 for word in np.random.SeedSequence([seed, repetition]).generate_state(3, np.uint64)]
