"""Whose turn it is: weighted fair, by class, by deadline, nobody forgotten. No clock, no await.

The rules, from the outside in:

1. Classes: advance before inspect before background. A class that was passed over PATIENCE times
   in a row while it had work goes first once: every class gets at least one pick in PATIENCE + 2.
2. Inside a class the earliest deadline goes first, but after `STREAK` such picks in a row one goes
   to the fair order; those without a deadline get at least one pick in STREAK + 1.
3. The fair order: each share (a machine, a pool, an application) has a virtual time that grows by
   seconds used / weight, and the least goes first; inside a share the same between its entries.
   Who comes back after a pause starts at the class's virtual time, which always moves, so that an
   endless stream of newcomers passes nobody for ever.

Service is charged in seconds measured by the caller, not in cycles: a guest that sleeps in WFI
passes millions of cycles in no time. Slices are given in cycles, from the share's measured speed.
"""

from __future__ import annotations

import math
from enum import IntEnum
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import Any

__all__ = ["NO_DEADLINE", "PATIENCE", "STREAK", "Entry", "Planner", "Priority", "Share"]

NO_DEADLINE = math.inf
PATIENCE = 16
STREAK = 4

LAG = 8  # virtual time of a class moves at least at 1/LAG of the fair rate
LEAST_SECONDS = 1e-6  # no slice is free: this is less than picking costs
LEAST_CYCLES = 1_000
MOST_CYCLES = 50_000_000
FIRST_CYCLES_PER_SECOND = 50e6  # a cold machine, decoding everything for the first time
PLAUSIBLE_CYCLES_PER_SECOND = 10e9  # more than that is a leap over idle time, not speed
BRIEF_SECONDS = 100e-6
LONG_SECONDS = 1e-3
GROWTH = 4.0  # a slice is lengthened in a few steps and shortened at once


class Priority(IntEnum):
    """The classes, the first served first."""

    ADVANCE = 0
    INSPECT = 1
    BACKGROUND = 2


class Flow:
    """A share's entries in one class."""

    __slots__ = ("counted_weight", "entries", "listed", "now", "runnable", "share", "virtual")

    def __init__(self, share: Share) -> None:
        self.share = share
        self.virtual = 0.0  # service got in this class, in seconds / weight
        self.now = 0.0  # where a new entry starts inside this flow
        self.runnable = 0
        self.listed = False  # whether the class's heap holds this flow
        self.counted_weight = 0.0
        self.entries: list[tuple[float, int, Entry]] = []


class Share:
    """One to whom service is owed: a machine, a pool or an application."""

    __slots__ = (
        "brief",
        "cpu_seconds",
        "cycles",
        "cycles_per_second",
        "flows",
        "late",
        "name",
        "quick",
        "rank",
        "seconds",
        "waited_seconds",
        "weight",
    )

    def __init__(self, name: str = "", weight: float = 1.0) -> None:
        if not 0 < weight < math.inf:
            raise ValueError(f"weight must be positive and finite, not {weight!r}")
        self.name = name
        self.weight = weight
        self.cycles_per_second = FIRST_CYCLES_PER_SECOND
        self.cpu_seconds = LONG_SECONDS  # moving average of a slice's
        self.late = 0.5  # moving average: how many slices were longer than LONG_SECONDS
        self.brief = self.quick = False
        self.cycles = 0  # so far, and the CPU seconds they took
        self.seconds = 0.0
        self.waited_seconds = 0.0  # so far, for a worker; the caller's to count
        self.rank: Any = None  # see ranking.py
        self.flows = tuple(Flow(self) for _ in Priority)

    def note(self, cpu_seconds: float, seconds: float) -> None:
        """Learn from a slice whether the next one will be brief: in CPU, and not waiting long.

        Most of the last ones decide: one that the host delayed says little about the next.
        """
        self.cpu_seconds += (cpu_seconds - self.cpu_seconds) / 8
        self.late += ((seconds >= LONG_SECONDS) - self.late) / 8
        self.quick = self.late < 0.5
        self.brief = self.quick and self.cpu_seconds < BRIEF_SECONDS


class Entry:
    """Something that can be given a slice."""

    __slots__ = ("deadline", "order", "owed", "priority", "share", "virtual")

    def __init__(
        self,
        share: Share,
        priority: Priority = Priority.INSPECT,
        deadline: float = NO_DEADLINE,
    ) -> None:
        self.share = share
        self.priority = priority
        self.deadline = deadline
        self.virtual = 0.0
        self.order = 0  # the number of its place in the queues; 0 = not queued
        self.owed = False  # picked because its class had waited too long: not to be preempted


class Level:
    """One class: its flows in fair order, its deadlines in order."""

    __slots__ = ("flows", "now", "passed", "runnable", "streak", "urgent", "weight")

    def __init__(self) -> None:
        self.flows: list[tuple[float, int, Flow]] = []
        self.urgent: list[tuple[float, int, Entry]] = []
        self.now = 0.0
        self.weight = 0.0
        self.runnable = 0
        self.passed = 0
        self.streak = 0


class Planner:
    """Decide who goes next and for how long; the caller carries out and says what it took."""

    def __init__(self, *, slice_seconds: float = 0.004) -> None:
        self.slice_seconds = slice_seconds
        self.runnable = 0
        self._levels = tuple(Level() for _ in Priority)
        self._orders = count(1)

    def __len__(self) -> int:
        return self.runnable

    def lengths(self) -> tuple[int, ...]:
        """Return how many entries wait in each class."""
        return tuple(level.runnable for level in self._levels)

    def add(self, entry: Entry) -> None:
        """Let a newcomer wait for its turn."""
        flow = entry.share.flows[entry.priority]
        if not flow.runnable:
            flow.virtual = max(flow.virtual, self._levels[entry.priority].now)
        entry.virtual = max(entry.virtual, flow.now)
        self.put_back(entry)

    def put_back(self, entry: Entry) -> None:
        """Let an entry whose slice is over wait for its next turn."""
        if entry.order:
            raise ValueError("the entry waits already")
        level = self._levels[entry.priority]
        flow = entry.share.flows[entry.priority]
        entry.order = order = next(self._orders)
        entry.owed = False
        if not flow.runnable:
            flow.counted_weight = flow.share.weight
            level.weight += flow.counted_weight
        flow.runnable += 1
        level.runnable += 1
        self.runnable += 1
        push(flow.entries, (entry.virtual, order, entry), flow.runnable)
        if entry.deadline != NO_DEADLINE:
            push(level.urgent, (entry.deadline, order, entry), level.runnable)
        if not flow.listed:
            flow.listed = True
            heappush(level.flows, (flow.virtual, order, flow))

    def remove(self, entry: Entry) -> bool:
        """Take a waiting entry out of the queues; False when it was not waiting."""
        if not entry.order:
            return False
        self._leave(entry)
        return True

    def pick(self) -> Entry | None:
        """Return who goes next, no longer waiting, or None."""
        level = self._choose_level()
        if level is None:
            return None
        entry = self._earliest(level) if level.urgent else None
        if entry is None:
            entry = self._fairest(level)
        entry.owed = level.passed >= PATIENCE
        level.passed = 0
        self._leave(entry)
        return entry

    def slice_cycles(self, entry: Entry) -> int:
        """Return how many cycles fill a slice of this entry."""
        cycles = int(entry.share.cycles_per_second * self.slice_seconds)
        return min(max(cycles, LEAST_CYCLES), MOST_CYCLES)

    def charge(self, entry: Entry, seconds: float, cycles: int) -> None:
        """Account for a slice that took `seconds` and passed `cycles`; call it before put_back."""
        used = max(seconds, LEAST_SECONDS)
        share, level = entry.share, self._levels[entry.priority]
        share.seconds += seconds
        share.cycles += cycles
        flow = share.flows[entry.priority]
        flow.virtual += used / share.weight
        entry.virtual += used
        flow.now += used / (LAG * (flow.runnable + 1))
        level.now += used / (LAG * (level.weight + share.weight))
        known, wanted = share.cycles_per_second, self.slice_seconds
        full = cycles * 2 >= known * wanted  # else it says more about what ended it
        if seconds > wanted or (seconds > 0 and full):
            speed = cycles / seconds
            if speed < known:
                share.cycles_per_second = speed
            elif speed < PLAUSIBLE_CYCLES_PER_SECOND:
                share.cycles_per_second = min(speed, known * GROWTH)

    def _choose_level(self) -> Level | None:
        chosen = None
        for level in self._levels:
            if level.runnable == self.runnable:  # the only one, as mostly
                return level if level.runnable else None
            if level.runnable and (chosen is None or level.passed >= PATIENCE > chosen.passed):
                chosen = level
        for level in self._levels:
            if level is not chosen and level.runnable:
                level.passed += 1
        return chosen

    def _earliest(self, level: Level) -> Entry | None:
        while level.urgent and level.urgent[0][2].order != level.urgent[0][1]:
            heappop(level.urgent)
        if not level.urgent:
            return None
        if level.streak >= STREAK:
            level.streak = 0
            return None
        level.streak += 1
        return level.urgent[0][2]

    def _fairest(self, level: Level) -> Entry:
        flows = level.flows
        while True:
            key, _, flow = flows[0]
            if not flow.runnable:
                heappop(flows)
                flow.listed = False
            elif key != flow.virtual:  # it was served since it was put here
                heapreplace(flows, (flow.virtual, next(self._orders), flow))
            else:
                break
        level.now = max(level.now, flow.virtual)
        entries = flow.entries
        while entries[0][2].order != entries[0][1]:
            heappop(entries)
        entry = heappop(entries)[2]
        flow.now = max(flow.now, entry.virtual)
        return entry

    def _leave(self, entry: Entry) -> None:
        """Forget a waiting entry; what the heaps still hold of it is recognised by its number."""
        level = self._levels[entry.priority]
        flow = entry.share.flows[entry.priority]
        entry.order = 0
        flow.runnable -= 1
        level.runnable -= 1
        self.runnable -= 1
        if not flow.runnable:
            level.weight -= flow.counted_weight
            flow.entries.clear()
        if not level.runnable:
            level.passed = 0
            level.weight = 0.0  # no drift
            level.urgent.clear()


def push(
    heap: list[tuple[float, int, Entry]], item: tuple[float, int, Entry], runnable: int
) -> None:
    """Push, and throw out what is stale when it is most of the heap."""
    heappush(heap, item)
    if len(heap) > 2 * runnable + 64:
        heap[:] = [(key, order, entry) for key, order, entry in heap if entry.order == order]
        heapify(heap)
