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
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from bithep_lib.evaluate.classifier_result import ClassifierResult, Uncertainty, uncertainty
from bithep_lib.evaluate.classifier_settings import CLASSIFIER, ClassifierSettings, classifier, split_sizes
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

LIMIT = 1e-6
"""Calibrated probabilities stay this far from 0 and 1."""


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
