"""Timing: warm up, then runs that last about as long as asked, with preparation outside."""

from __future__ import annotations

import gc
import math
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["Clock", "Operation", "Session", "measure_bytes", "measure_rate"]

Operation: TypeAlias = "Callable[[int], object]"  # the n-th of a run, from 0
Clock: TypeAlias = Literal["wall", "cpu"]
Session: TypeAlias = "Callable[[int], AbstractContextManager[Operation]]"  # for a run of so many

GROWTH = 16  # at most, of the number of operations from one warm-up to the next
MEGABYTE = 1_000_000


class Elapsed(NamedTuple):
    """Seconds a run took, by either clock."""

    wall: float
    cpu: float  # of all threads of this process, in the kernel too


def measure_rate(
    session: Session, seconds: float, runs: int, clock: Clock = "wall"
) -> tuple[float, ...]:
    """Operations per second of `clock` in each of `runs` runs of about `seconds`, warmed up.

    What a session does before its operation is there and after the last one is not timed.
    """
    count, elapsed = 1, _time(session, 1)
    while elapsed.wall < seconds / 2:
        count = math.ceil(count * min(GROWTH, seconds / max(elapsed.wall, 1e-9)))
        elapsed = _time(session, count)
    rates = []
    for _ in range(runs):
        count = max(1, round(count * seconds / elapsed.wall))
        elapsed = _time(session, count)
        rates.append(count / max(getattr(elapsed, clock), 1e-9))
    return tuple(rates)


def _time(session: Session, count: int) -> Elapsed:
    gc.collect()
    with session(count) as operate:
        began = perf_counter(), process_time()
        for number in range(count):
            operate(number)
        return Elapsed(perf_counter() - began[0], process_time() - began[1])


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
