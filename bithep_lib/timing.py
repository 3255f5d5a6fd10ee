"""Timing that survives a busy machine: alternatives take turns, and what is reported is the ratio of their times.

A clock time says as much about the machine's other users as about the code. Here each round times every alternative
once, one after the other, so that a disturbance meets all of them alike; ratios are taken within a round, and their
median and quartiles over the rounds are reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pandas as pd
import torch

__all__ = ["interleaved", "ratios"]


def interleaved(
    actions: Mapping[str, Callable[[], object]], *, rounds: int = 15, seconds: float = 0.02
) -> pd.DataFrame:
    """Seconds per call of each action, one row a round.

    With one thread (`torch.get_num_threads`) it is the CPU time of this process, which other processes disturb least;
    with more it is wall time.

    Args:
        actions: name to function without arguments.
        rounds: how often each is timed.
        seconds: an action is repeated to take about this long each time, because clocks tick and caches warm up.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    repeats = {}
    for name, action in actions.items():
        action()
        start = time.perf_counter()
        action()
        repeats[name] = max(1, int(seconds / max(time.perf_counter() - start, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            start = clock()
            for _ in range(repeats[name]):
                action()
            times[name].append((clock() - start) / repeats[name])
    return pd.DataFrame(times)


def ratios(times: pd.DataFrame, base: str, *, inverse: bool = False) -> pd.DataFrame:
    """Median and quartiles, over the rounds, of each column's time divided by that of ``base``.

    Args:
        times: from `interleaved`.
        base: the column to compare with.
        inverse: divide the other way round, which gives speed-ups.

    Returns:
        One row an action, with the columns ``median``, ``low`` and ``high``.
    """
    quotients = times.rdiv(times[base], axis=0) if inverse else times.div(times[base], axis=0)
    return quotients.quantile([0.5, 0.25, 0.75]).T.set_axis(["median", "low", "high"], axis=1)
