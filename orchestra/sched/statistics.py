"""What a fleet did so far, as frozen values an operator can read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestra.machine.request import Status

__all__ = [
    "ApplicationStatistics",
    "FleetStatistics",
    "Histogram",
    "HistogramSnapshot",
    "MachineStatistics",
    "PoolStatistics",
]

BUCKETS = 40


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """Durations in buckets: `counts[n]` of them took less than 2**n microseconds, not fewer."""

    counts: tuple[int, ...]
    seconds: float

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """The mean in seconds; 0 when there is none."""
        return self.seconds / self.count if self.count else 0.0

    def quantile(self, fraction: float) -> float:
        """Return a bound in seconds that at least `fraction` of the durations stay below."""
        wanted = fraction * self.count
        seen = 0
        for power, number in enumerate(self.counts):
            seen += number
            if seen >= wanted and number:
                return float(2**power) * 1e-6
        return 0.0


class Histogram:
    """Durations by powers of two of a microsecond."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.seconds += seconds
        self.counts[min(int(seconds * 1e6).bit_length(), BUCKETS - 1)] += 1

    def snapshot(self) -> HistogramSnapshot:
        """Return the counts, without the empty end."""
        last = max((n + 1 for n, number in enumerate(self.counts) if number), default=0)
        return HistogramSnapshot(tuple(self.counts[:last]), self.seconds)


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """One inspect pool: leases at work, calls that wait for one, leases warm, calls ended.

    `answering_seconds` is from a call's being let in to its end.
    """

    name: str
    size: int
    queue: int
    running: int
    waiting: int
    warm: int
    ended: int
    refused: int
    publications: int
    answering_seconds: HistogramSnapshot


@dataclass(frozen=True, slots=True)
class MachineStatistics:
    """What a machine, an application's machine or a pool's leases do, and got of the workers.

    `number` is its own in this fleet; `kind` is machine, application or pool. `state` is running,
    waiting (for a worker), files (in a call that waits for them) or idle; `doing` is run, advance,
    inspect or call, and `priority` the class (advance, inspect, background) it does that in, or "".
    `cycle` is the machine's, or that of the state a pool answers from; None when there is none.
    `seconds` are CPU seconds in slices, `waiting_seconds` those it waited for a worker.
    """

    number: int
    name: str
    kind: str
    doing: str
    state: str
    priority: str
    weight: float
    cycle: int | None
    cycles: int
    seconds: float
    waiting_seconds: float


@dataclass(frozen=True, slots=True)
class ApplicationStatistics:
    """One application: inputs in its log and by status, the last input with a snapshot.

    `replayed` counts inputs applied again when states were opened. An input's phases:
    `waiting_seconds` for its turn, `serving_seconds` with the guest, `committing_seconds` for hash
    and log.
    """

    name: str
    inputs: int
    cycle: int
    waiting: int
    statuses: dict[Status, int]
    snapshot: int
    replayed: int
    pool: PoolStatistics
    waiting_seconds: HistogramSnapshot
    serving_seconds: HistogramSnapshot
    committing_seconds: HistogramSnapshot


@dataclass(frozen=True, slots=True)
class FleetStatistics:
    """A fleet at one moment, and what it did since it was opened.

    `runnable` counts by class (advance, inspect, background) who waits for a worker; `seconds` are
    CPU seconds of the workers inside slices. A call's phases: `waiting_seconds` until its first
    slice, `serving_seconds` from there to its end, `telling_seconds` from there to the caller.
    `busiest` are those asked for that used most CPU lately, most first; there are `others` more.
    """

    open_seconds: float
    workers: int
    machines: int
    running: int
    runnable: tuple[int, int, int]
    calls: int
    slices: int
    cycles: int
    seconds: float
    pools: tuple[PoolStatistics, ...]
    applications: tuple[ApplicationStatistics, ...]
    waiting_seconds: HistogramSnapshot
    serving_seconds: HistogramSnapshot
    telling_seconds: HistogramSnapshot
    busiest: tuple[MachineStatistics, ...]
    others: int

    @property
    def cycles_per_second(self) -> float:
        """Guest cycles per CPU second of a worker."""
        return self.cycles / self.seconds if self.seconds else 0.0
