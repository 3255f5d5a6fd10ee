"""The data of a training, and the mistakes in it that would otherwise pass in silence."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

Data = Dataset | Sequence[Tensor | np.ndarray]

MAX_SHARED = 0.01
"""Share of the validation rows that may also be in the training data; discrete data have a few by chance."""


def as_dataset(data: Data, name: str) -> Dataset:
    """A tuple of tensors (inputs first, label last) as a TensorDataset; a Dataset as it is.

    Raises:
        ValueError: no rows, different lengths, or a number that is not finite (with its tensor and row).
    """
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, Dataset):
        if len(data) == 0:
            raise ValueError(f"{name} has no rows")
        return data
    tensors = [torch.as_tensor(tensor) for tensor in data]
    lengths = [len(tensor) for tensor in tensors]
    if len(tensors) < 2 or len(set(lengths)) != 1:
        raise ValueError(f"{name} needs inputs and a label of equal length, not tensors of lengths {lengths}")
    if lengths[0] == 0:
        raise ValueError(f"{name} has no rows")
    for number, tensor in enumerate(tensors):
        finite = torch.isfinite(tensor).reshape(len(tensor), -1).all(1)
        if not finite.all():
            row = int((~finite).nonzero()[0])
            raise ValueError(f"{name}: tensor {number} has a number that is not finite in row {row}")
    return TensorDataset(*tensors)


def fingerprint(data: Dataset) -> str:
    """A short hash of the content: of the tensors, or what the data set itself calls its ``fingerprint``."""
    if isinstance(data, TensorDataset):
        digest = hashlib.blake2b(digest_size=8)
        for tensor in data.tensors:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()
    return str(getattr(data, "fingerprint", f"{type(data).__name__} of {len(data)} rows"))


def check_disjoint(train: Dataset, valid: Dataset) -> None:
    """Refuse a validation set that is, or shares more than `MAX_SHARED` of its rows with, the training set.

    Raises:
        ValueError: with the number of shared rows.
    """
    if fingerprint(train) == fingerprint(valid):
        raise ValueError("train and valid are the same data")
    if isinstance(train, TensorDataset) and isinstance(valid, TensorDataset):
        known = set(_rows(train))
        shared = sum(row in known for row in _rows(valid))
        if shared > MAX_SHARED * len(valid):
            raise ValueError(f"{shared} of the {len(valid)} rows of valid are also in train: split them apart")


def check_labels(data: Dataset, name: str) -> None:
    """Refuse binary labels (the last tensor) other than 0 and 1, of a wrong shape, or all alike.

    Raises:
        ValueError: with the values found.
    """
    if not isinstance(data, TensorDataset):
        return
    label = data.tensors[-1]
    if label.ndim != 1:
        raise ValueError(f"{name}: the labels have the shape {tuple(label.shape)}, not ({len(label)},)")
    found = torch.unique(label).tolist()
    if not set(found) <= {0, 1}:
        shown = ", ".join(f"{value:g}" for value in found[:5]) + (", ..." if len(found) > 5 else "")
        raise ValueError(f"{name}: labels must be 0 or 1, and there are {shown}")
    if len(found) == 1:
        raise ValueError(f"{name}: every label is {found[0]:g}, so that there is nothing to learn")


def _rows(data: TensorDataset) -> list[bytes]:
    """A hash of the inputs of each row."""
    inputs = [
        tensor.detach().cpu().contiguous().reshape(len(tensor), -1).view(torch.uint8).numpy()
        for tensor in data.tensors[:-1]
    ]
    hashes = []
    for row in range(len(data)):
        digest = hashlib.blake2b(digest_size=16)
        for tensor in inputs:
            digest.update(tensor[row])
        hashes.append(digest.digest())
    return hashes
