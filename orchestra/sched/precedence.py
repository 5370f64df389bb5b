"""Quick writers go first: while one needs the interpreter inspects make way, but not for ever."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from orchestra.sched.plan import Priority

if TYPE_CHECKING:
    from orchestra.sched.jobs import Job

__all__ = ["PASSES", "PATIENCE_SECONDS", "Precedence"]

PATIENCE_SECONDS = 5e-3  # after so long without a pick others may go on
PASSES = 16  # for so many picks


class Precedence:
    """Who makes way for whom; called under the desk's lock, `held` may be read without."""

    def __init__(self) -> None:
        self.held = 0  # writers that need the interpreter
        self._last = 0.0  # when somebody else was picked, or might have been
        self._met = -math.inf  # when an inspect was
        self._passes = 0

    def hold(self, job: Job) -> None:
        """Let others make way until this job is over."""
        if not job.holds:
            job.holds = True
            self.held += 1

    def end(self, job: Job) -> bool:
        """End a job's hold, if it has one; whether others may go on that could not before."""
        if not job.holds:
            return False
        job.holds = False
        self.held -= 1
        return not self.held

    def is_contended(self, now: float) -> bool:
        """Whether there are inspects about: at work, or being told to their callers."""
        return now - self._met < PATIENCE_SECONDS

    def only_writers(self, now: float) -> bool:
        """Whether nobody else is to be picked now."""
        if not self.held or self._passes:
            return False
        if now - self._last < PATIENCE_SECONDS:
            return True
        self._passes = PASSES
        return False

    def picked(self, job: Job, now: float) -> None:
        """Note who was picked."""
        if job.priority is not Priority.ADVANCE:
            self._last = self._met = now
            self._passes -= bool(self._passes)
