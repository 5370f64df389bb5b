"""Which machines, applications and pools used most CPU lately, and what each does now."""

from __future__ import annotations

import math
from heapq import nlargest
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from orchestra.sched.jobs import InspectJob, Job, RunJob, State
from orchestra.sched.statistics import MachineStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestra.sched.plan import Share

__all__ = ["Activity", "Ranking"]

FADE_SECONDS = 5.0


class Activity(NamedTuple):
    """What somebody to whom service is owed does now: a job, or a blocking call, or nothing."""

    kind: str  # machine, application, pool
    cycle: int | None
    job: Job | None = None
    calls: bool = False


class Rank:
    """What the last look at a share found; the loop's, who alone reads and writes it."""

    __slots__ = ("number", "recent", "seen")

    def __init__(self, number: int) -> None:
        self.number = number
        self.seen = self.recent = 0.0  # CPU seconds


class Ranking:
    """Ranks when it is asked; until then it costs nothing.

    CPU time fades between two looks, by the time between them: how many look does not matter. The
    first look finds who used most so far.
    """

    def __init__(self) -> None:
        self._looked = 0.0
        self._numbers = count(1)

    def busiest(
        self, most: int, owed: Sequence[tuple[Share, Callable[[], Activity]]], now: float
    ) -> tuple[MachineStatistics, ...]:
        """Return the `most` of these that used most CPU lately, most first."""
        fade = math.exp((self._looked - now) / FADE_SECONDS)
        self._looked = now
        for share, _ in owed:
            rank: Rank | None = share.rank
            if rank is None:
                rank = share.rank = Rank(next(self._numbers))
            seconds = share.seconds
            rank.recent = rank.recent * fade + seconds - rank.seen
            rank.seen = seconds
        chosen = nlargest(most, owed, key=lambda item: item[0].rank.recent)
        return tuple(describe(share, activity(), now) for share, activity in chosen)


def describe(share: Share, activity: Activity, now: float) -> MachineStatistics:
    """Say what one does and did."""
    job = activity.job
    state, doing, waited = "idle", "", share.waited_seconds
    if activity.calls:
        state, doing = "files", "call"
    elif job is not None and job.state is not State.ENDED:
        doing = _name(job)
        state = "running" if job.state is State.RUNNING else "waiting"
        if state == "waiting" and job.since:
            waited += max(now - job.since, 0.0)
    return MachineStatistics(
        number=share.rank.number,
        name=share.name,
        kind=activity.kind,
        doing=doing,
        state=state,
        priority=job.priority.name.lower() if job is not None and doing else "",
        weight=share.weight,
        cycle=activity.cycle,
        cycles=share.cycles,
        seconds=share.seconds,
        waiting_seconds=waited,
    )


def _name(job: Job) -> str:
    if isinstance(job, RunJob):
        return "run"
    return "inspect" if isinstance(job, InspectJob) else "advance"
