"""The workers: threads that pick jobs up at the desk, run a slice of each, and bring them back.

A worker runs slices back to back: it settles the slice it did and picks the next without going
through the loop. What has ended goes back in batches (see outbox.py), a writer's answer at once.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

from orchestra.errors import MachineClosed
from orchestra.sched.jobs import Job, State
from orchestra.sched.outbox import Batch
from orchestra.sched.plan import Priority

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestra.sched.desk import Desk

__all__ = ["Clock", "HostClock", "Worker"]

LEAVE_SECONDS = 100e-6
SHORT_SHIFT = 3


class Clock(Protocol):
    """Two ways to see time pass."""

    def now(self) -> float:
        """Seconds on the wall, from an arbitrary start."""

    def cpu(self) -> float:
        """CPU seconds of the calling thread."""


class HostClock:
    """The host's clocks."""

    now = staticmethod(time.perf_counter)
    cpu = staticmethod(time.thread_time)


class Worker:
    """One thread's place at the desk."""

    def __init__(self, desk: Desk) -> None:
        self.job: Job | None = None  # in a slice now; the desk's
        self.wake = threading.Lock()  # released to wake it
        self.wake.acquire()
        self._desk = desk
        self._batch = Batch()
        self._untidy: Job | None = None

    def work(self) -> None:
        """Serve until the fleet stops; the body of a thread."""
        desk, outbox, batch = self._desk, self._desk.outbox, self._batch
        while True:
            if batch.pending and not outbox.lent and outbox.is_late(batch, desk.clock.now()):
                outbox.flush(batch)
                self._let_others_in(outbox.wait_for_loop)
            job = desk.take(self)
            if batch.pending and not (job is not None and (job.brief or job.holds)):
                outbox.flush(batch)
            if self._untidy is not None:
                self._tidy()
            if job is None:
                if desk.stopping:
                    return
                desk.park(self)
            elif job.state is State.ENDED:
                self._end(job)
                self._tell(job)
            else:
                self.serve(job)

    def sweep(self) -> None:
        """End what is left at the desk, in place of workers that are gone."""
        while (job := self._desk.take(self)) is not None:
            self._end(job)
            self._tell(job)
        self._tidy()
        self._desk.outbox.flush(self._batch)

    def serve(self, job: Job) -> None:
        """Give one slice."""
        desk = self._desk
        cpu, now = desk.clock.cpu, desk.clock.now
        budget = desk.planner.slice_cycles(job)
        if job.brief:
            budget = max(budget >> SHORT_SHIFT, 1)  # it may be the long one among brief ones
        else:
            desk.share_work()  # nobody may have been woken for it, since we were there
        cycles, started, began = job.cycles, now(), cpu()
        try:
            done = not job.cancelled and job.step(budget, desk.planner.slice_seconds)
        except BaseException as error:  # noqa: BLE001 - it belongs to the job's caller
            job.error, done = error, True
        seconds, ended = cpu() - began, now()
        job.share.note(seconds, ended - started)
        if desk.settle(self, seconds, job.cycles - cycles, ended, done=done):
            if not done:
                self._end(job)
            elif job.interrupting:
                guard(job, job.take_back_interrupt)
            self._tell(job)
        elif job.said:
            self._put_aside(job)

    def _end(self, job: Job) -> None:
        """Let a job give up that has no result."""
        guard(job, job.abandon)
        guard(job, job.take_back_interrupt)
        if job.error is None:
            job.error = MachineClosed("closed before the call ended")

    def _tell(self, job: Job) -> None:
        """Put a job aside that has ended, a writer's before everybody goes on."""
        self._tidy()
        self._untidy = job
        job.ended = self._desk.clock.now()
        job.over = True
        if job.lent is not None:
            self._desk.outbox.lent = False
            job.lent.release()  # the loop waits for just this
        else:
            self._put_aside(job)
        if job.holds:
            if self._desk.has_work():
                self._let_others_in(self._desk.outbox.wait_for_writer)
            self._desk.release(job)

    def _put_aside(self, job: Job) -> None:
        self._batch.put(job, self._desk.clock.now())
        if job.priority is Priority.ADVANCE:  # a writer waits for nobody
            self._desk.outbox.flush(self._batch)

    def _tidy(self) -> None:
        """Clean up after a job, now that it was told."""
        job, self._untidy = self._untidy, None
        if job is not None:
            job.tidy()

    def _let_others_in(self, wait: Callable[[Batch], None]) -> None:
        wait(self._batch)
        if self._desk.writer_runs():
            time.sleep(LEAVE_SECONDS)  # its guest may have ended: it would wait for us up to 5 ms


def guard(job: Job, call: Callable[[], None]) -> None:
    """Call, and let what it raises be the job's error unless there is one."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - it belongs to the job's caller
        if job.error is None:
            job.error = error
