"""Inspect pools: queries answered by copies of one state, while the original goes on."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from orchestra.errors import AtCapacity, MachineClosed
from orchestra.sched.events import Call, following
from orchestra.sched.jobs import InspectJob, Job
from orchestra.sched.leases import Leases
from orchestra.sched.limits import Room
from orchestra.sched.plan import NO_DEADLINE
from orchestra.sched.ranking import Activity
from orchestra.sched.statistics import Histogram, PoolStatistics
from orchestra.sched.whole import whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from orchestra.machine.request import Limits, Outcome
    from orchestra.sched.events import Journal
    from orchestra.sched.jobs import MachineLike
    from orchestra.sched.plan import Share
    from orchestra.sched.scheduler import Scheduler

__all__ = ["InspectPool"]


class InspectPool:
    """Answers queries; made by `fleet.inspect_pool`, used on the fleet's loop.

    No query sees what another one did: each begins in the template's state.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        journal: Journal,
        make_leases: Callable[[Any], Awaitable[Leases]],
        share: Share,
        size: int,
        queue: int,
    ) -> None:
        self.name = share.name
        self._scheduler = scheduler
        self._journal = journal
        self._make_leases = make_leases
        self.share = share
        self._room = Room(size, queue)
        self._running = 0
        self._waiting: deque[InspectJob] = deque()
        self._jobs: set[InspectJob] = set()
        self._ended = self._refused = self._publications = 0
        self._answering = Histogram()
        self._began = scheduler.clock.now()
        self._leases: Leases | None = None
        self._retired: list[Leases] = []  # replaced, perhaps not yet closed

    async def inspect(
        self,
        query: bytes,
        limits: Limits | None = None,
        *,
        wait: bool = False,
        deadline: float = NO_DEADLINE,
    ) -> Outcome:
        """Ask a query and return all it was answered.

        Over capacity raises AtCapacity at once, or waits for room if `wait`. MachineBusy is raised
        when the template does not wait for a request, MachineClosed when the pool closes meanwhile.
        """
        job = await self._admit(query, limits, wait=wait, deadline=deadline)
        return await self._finish(job)

    async def inspect_until(
        self,
        gone: Callable[[], Awaitable[object]],
        query: bytes,
        limits: Limits | None = None,
        *,
        wait: bool = False,
        deadline: float = NO_DEADLINE,
    ) -> Outcome:
        """Ask a query as `inspect` does for somebody who may go: MachineClosed when `gone` returns.

        That takes no task: what waits here is `gone`, which the end of the query cancels.
        """
        job = await self._admit(query, limits, wait=wait, deadline=deadline)
        with anyio.CancelScope() as waiting:

            def then(job: Job) -> None:
                self._left(job)
                waiting.cancel()

            job.then = then
            try:
                await gone()
            finally:
                if not job.waiter.is_set():
                    await self._scheduler.cancel(job)
        return await self._finish(job)

    @asynccontextmanager
    async def inspecting(
        self,
        query: bytes,
        limits: Limits | None = None,
        *,
        wait: bool = False,
        deadline: float = NO_DEADLINE,
    ) -> AsyncIterator[Call]:
        """Ask a query, and iterate over what the guest says meanwhile; leaving early cancels."""
        call = Call()
        job = await self._admit(query, limits, wait=wait, deadline=deadline, call=call)
        async with following(call, lambda: self._finish(job)):
            yield call

    async def publish(self, template: MachineLike | Path | str) -> None:
        """Answer from another state from now on; queries that run finish on the old one."""
        began = self._scheduler.clock.now()
        new = await self._make_leases(template)
        old, self._leases = self._leases, new
        self._publications += 1
        self._journal.info(
            "pool.published",
            machine=self.name,
            cycle=new.template.cycle,
            duration=self._scheduler.clock.now() - began,
        )
        if self._room.closed:  # it was closed meanwhile
            self._leases, old = None, new
        if old is not None:
            await whole(partial(self._scheduler.in_thread, old.retire))
            self._retired = [leases for leases in (*self._retired, old) if not leases.closed]
        if self._leases is None:
            raise MachineClosed("the pool is closed")

    def swap(self, template: MachineLike) -> None:
        """Publish a machine that is the pool's from now on; blocking, callable from any thread.

        Calls must not overlap one another, `publish`, or the end of the pool.
        """
        old, self._leases = self._leases, Leases(template)
        self._publications += 1
        if old is not None:
            old.retire()
            self._retired = [leases for leases in (*self._retired, old) if not leases.closed]

    async def open(self, template: MachineLike | Path | str) -> None:
        """Make ready; the fleet does it."""
        self._leases = await self._make_leases(template)
        self._journal.info(
            "pool.opened", machine=self.name, size=self._room.size, queue=self._room.queue
        )

    async def aclose(self) -> None:
        """End all queries and close all leases; the fleet does it."""
        self._room.close()
        for job in list(self._jobs):
            await self._scheduler.cancel(job)
        last, self._leases = self._leases, None
        if last is not None:
            await self._scheduler.in_thread(last.retire)
            self._retired.append(last)
        for leases in self._retired:
            await self._scheduler.in_thread(leases.wait_closed)
        self._journal.info(
            "pool.closed",
            machine=self.name,
            duration=self._scheduler.clock.now() - self._began,
            calls=self._ended,
        )

    def statistics(self) -> PoolStatistics:
        """Return what the pool does now and did so far."""
        return PoolStatistics(
            name=self.name,
            size=self._room.size,
            queue=self._room.queue,
            running=self._running,
            waiting=self._room.inside - self._running + self._room.outside,
            warm=self._leases.warm if self._leases is not None else 0,
            ended=self._ended,
            refused=self._refused,
            publications=self._publications,
            answering_seconds=self._answering.snapshot(),
        )

    def activity(self) -> Activity:
        """Return what its leases do now."""
        cycle = None if self._leases is None else self._leases.cycle
        job = self._scheduler.desk.running_job(self.share) or next(iter(self._jobs), None)
        return Activity("pool", cycle, job)

    def current_leases(self) -> Leases:
        """Return what to lease from; workers call it."""
        leases = self._leases
        if leases is None:
            raise MachineClosed("the pool is closed")
        return leases

    async def _admit(
        self,
        query: bytes,
        limits: Limits | None,
        *,
        wait: bool,
        deadline: float,
        call: Call | None = None,
    ) -> InspectJob:
        try:
            if wait:
                await self._room.enter()
            else:
                self._room.enter_now()
        except AtCapacity:
            self._refused += 1
            self._journal.info(
                "pool.refused", machine=self.name, size=self._room.size, queue=self._room.queue
            )
            raise
        now = self._scheduler.clock.now
        job = InspectJob(self.current_leases, self.share, deadline, query, limits, now)
        job.admitted = now()
        if call is not None:
            job.said, job.hear = deque(), call.hear
        job.then = self._left
        self._jobs.add(job)
        self._scheduler.prepare(job)
        if self._running >= self._room.size:
            self._waiting.append(job)
        elif not self._start(job):
            raise MachineClosed("the fleet is closed")
        return job

    async def _finish(self, job: InspectJob) -> Outcome:
        try:
            outcome: Outcome = await self._scheduler.finish(job)
            return outcome
        finally:
            if self._journal.listening:
                self._journal.ended("inspect.ended", job, self._scheduler.clock.now())

    def _start(self, job: InspectJob) -> bool:
        """Hand a query in; False when the fleet takes no more."""
        try:
            self._scheduler.desk.submit(job)
        except MachineClosed as error:
            job.error, job.over = error, True
            self._scheduler.told(job)
            return False
        job.leased = True
        self._running += 1
        return True

    def _left(self, job: Job) -> None:
        """Let the next query run; called when one has ended, however it did."""
        assert isinstance(job, InspectJob)
        self._jobs.discard(job)
        self._room.leave()
        self._ended += 1
        if job.leased:
            self._answering.add(job.ended - job.admitted)
            self._running -= 1
            while self._waiting:
                waiting = self._waiting.popleft()
                if not waiting.over and self._start(waiting):
                    break
