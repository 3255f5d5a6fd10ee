"""Records as tables: mean and spread over trainings, honestly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

MIN_SEEDS = 5
"""With fewer trainings than this a spread over seeds is not an error; they are shown as points."""


def spread(values: Iterable[float], digits: int = 4) -> str:
    """Mean ± standard deviation over trainings (ddof 1) from five of them on, the single values otherwise.

    >>> spread([0.9, 0.91, 0.92, 0.93, 0.94], digits=3)
    '0.920 ± 0.016'
    >>> spread([0.9, 0.91], digits=3)
    '0.900, 0.910'
    """
    numbers = np.asarray([value for value in values if not math.isnan(value)], dtype=float)
    if len(numbers) >= MIN_SEEDS:
        return f"{numbers.mean():.{digits}f} ± {numbers.std(ddof=1):.{digits}f}"
    return ", ".join(f"{value:.{digits}f}" for value in numbers) if len(numbers) else "not run"


def summarise(
    frame: pd.DataFrame, metrics: Mapping[str, int], by: Sequence[str] = ("variant", "scale")
) -> pd.DataFrame:
    """Records as a table of `spread` strings: one row a group, one column a metric, and the number of seeds.

    Args:
        frame: what `records` returned.
        metrics: metric to the digits shown.
        by: the columns that make a group.
    """
    groups = {
        key: {"seeds": len(group)} | {name: spread(group[name], digits) for name, digits in metrics.items()}
        for key, group in frame.groupby(list(by), sort=False)
    }
    index = pd.MultiIndex.from_tuples(groups, names=list(by)) if groups else pd.MultiIndex.from_arrays([[]] * len(by))
    return pd.DataFrame(list(groups.values()), index=index, columns=["seeds", *metrics])
