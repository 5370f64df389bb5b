"""Timing: warm up, then runs that last about as long as asked, with preparation outside."""

from __future__ import annotations

import gc
import math
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["Operation", "Session", "measure_bytes", "measure_rate"]

Operation: TypeAlias = "Callable[[int], object]"  # the n-th of a run, from 0
Session: TypeAlias = "Callable[[int], AbstractContextManager[Operation]]"  # for a run of so many

GROWTH = 16  # at most, of the number of operations from one warm-up to the next
MEGABYTE = 1_000_000


def measure_rate(session: Session, seconds: float, runs: int) -> tuple[float, ...]:
    """Operations per second of wall time in each of `runs` runs of about `seconds`, warmed up.

    What a session does before its operation is there and after the last one is not timed.
    """
    count, elapsed = 1, _time(session, 1)
    while elapsed < seconds / 2:
        count = math.ceil(count * min(GROWTH, seconds / max(elapsed, 1e-9)))
        elapsed = _time(session, count)
    rates = []
    for _ in range(runs):
        count = max(1, round(count * seconds / elapsed))
        elapsed = _time(session, count)
        rates.append(count / elapsed)
    return tuple(rates)


def _time(session: Session, count: int) -> float:
    gc.collect()
    with session(count) as operate:
        began = perf_counter()
        for number in range(count):
            operate(number)
        return perf_counter() - began


def measure_bytes(
    session: Session, used: Callable[[], int], count: int, runs: int
) -> tuple[float, ...]:
    """Megabytes (10^6) that `used` grows by for each of `count` operations, in each run."""
    return tuple(_grow(session, used, count) for _ in range(runs))


def _grow(session: Session, used: Callable[[], int], count: int) -> float:
    with session(count + 1) as operate:
        operate(0)  # what only the first one brings: the parent folder, a first top
        before = used()
        for number in range(1, count + 1):
            operate(number)
        return (used() - before) / count / MEGABYTE
