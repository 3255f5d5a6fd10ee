"""Rows of a data set that came from several files: where one stands, which is there twice, and how many are wanted."""

import operator
from collections.abc import Mapping, Sequence

import numpy as np

from bithep_lib.data.errors import DataError

__all__ = ["asked_for", "counts_of", "place", "refuse_repeated"]


def place(row: int, rows_of: Mapping[str, int]) -> str:
    """File and row in it of a row of the whole.

    Args:
        row: counted over all files.
        rows_of: number of rows of each file, in order.

    Raises:
        IndexError: there are not so many rows.

    >>> place(5, {"a.h5": 3, "b.h5": 4})
    'b.h5 row 2'
    """
    for file, count in rows_of.items():
        if row < count:
            return f"{file} row {row}"
        row -= count
    raise IndexError(row)


def refuse_repeated(keys: np.ndarray, rows_of: Mapping[str, int], what: str) -> None:
    """No row may come twice: the same file under two names would put training examples into the test set.

    Args:
        keys: (N, M), what tells rows apart, compared byte by byte.
        rows_of: number of rows of each file, in the order of ``keys``.
        what: name of an example, for the message.

    Raises:
        DataError: naming both places.
    """
    keys = np.ascontiguousarray(keys)
    rows = keys.view(np.dtype((np.void, keys.dtype.itemsize * keys.shape[1]))).ravel()
    _, first, inverse = np.unique(rows, return_index=True, return_inverse=True)
    again = first[inverse] != np.arange(len(rows))
    if again.any():
        row = int(np.argmax(again))
        places = " and ".join(place(int(i), rows_of) for i in (first[inverse[row]], row))
        raise DataError(f"the same {what} is in {places}: the same file twice?")


def asked_for(n: int | None, have: int, source: object, what: str) -> None:
    """There must be as many examples as were asked for.

    Raises:
        ValueError: naming the parameters of a chapter that ask for less.
    """
    if n is not None and have < n:
        raise ValueError(
            f"n = {n} {what} asked for, but {source} has {have}: lower n (in a chapter it is n_train + n_valid + "
            "n_test: lower these, or choose a smaller scale, down to scale=smoke)"
        )


def counts_of(sizes: Sequence[int], available: int, what: str) -> list[int]:
    """The sizes of disjoint subsets, checked.

    Raises:
        ValueError: no sizes, a size that is no integer (fractions are not understood) or negative, or more in all than
            are available.
    """
    try:
        counts = [operator.index(size) for size in sizes]
    except TypeError:
        counts = []
    if not counts or min(counts) < 0 or sum(counts) > available:
        raise ValueError(
            f"sizes must be one or more numbers of {what}, non-negative integers that add up to at most "
            f"{available} {what}, got {sizes!r}"
        )
    return counts
