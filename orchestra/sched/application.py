"""An application: one state that inputs change one after the other, asked while it goes on."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from orchestra.errors import BadConfig, InputConflict
from orchestra.machine.request import Request
from orchestra.sched.beside import beside
from orchestra.sched.events import Call, following
from orchestra.sched.follower import Follower
from orchestra.sched.keeper import Keeper
from orchestra.sched.limits import Room
from orchestra.sched.plan import NO_DEADLINE, Share
from orchestra.sched.ranking import Activity
from orchestra.sched.statistics import ApplicationStatistics, Histogram
from orchestra.sched.turns import Turns
from orchestra.sched.whole import whole
from orchestra.sched.writer import InputJob, Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from orchestra.machine.machine import Machine
    from orchestra.machine.request import Limits, Outcome, Status
    from orchestra.sched.events import Journal
    from orchestra.sched.history import History
    from orchestra.sched.input_log import InputOutcome
    from orchestra.sched.inspection import InspectPool
    from orchestra.sched.jobs import Job
    from orchestra.sched.scheduler import Scheduler
    from orchestra.sched.settings import ApplicationSettings

__all__ = ["Application"]


class Application:
    """Advanced by one input after the other, inspected by many; made by `fleet.application`.

    An input that was answered is in the log, with its outcome: whatever happens to the process
    afterwards, the next one to open the folder stands behind that input.
    """

    def __init__(
        self,
        name: str,
        settings: ApplicationSettings,
        scheduler: Scheduler,
        journal: Journal,
        history: History,
        machine: Machine,
        pool: InspectPool,
    ) -> None:
        self.name = name
        self.directory = history.directory
        self.settings = settings
        self.pool = pool
        self._scheduler = scheduler
        self._journal = journal
        self.share = Share(name, settings.weight)
        self._history = history
        self._log = history.log
        self._room = Room(1, settings.queue, "input")
        self._turns = Turns()
        self._job: InputJob | None = None  # whose turn it is
        self._writer = Writer(machine, history.log, pool, settings)
        self._keeper = Keeper(
            name, settings, scheduler, journal, history, self._writer, self._turns
        )
        self._statuses: dict[Status, int] = {}
        self._queued, self._served, self._committed = Histogram(), Histogram(), Histogram()

    @property
    def inputs(self) -> int:
        """The number of the last input; the next one gets the number after that."""
        return self._log.last

    @property
    def first_input(self) -> int:
        """The number of the oldest input that the log has, or of the next one when it is empty."""
        return self._log.first

    @property
    def cycle(self) -> int:
        """The machine's cycle after the last input."""
        return self._writer.machine.cycle

    @property
    def machine(self) -> Machine:
        """The machine, which is the application's alone to use: for who counts machines."""
        return self._writer.machine

    @property
    def state_hash(self) -> str | None:
        """The root hash after the last input; None when hashes are not noted."""
        return self._writer.state_hash

    async def advance(
        self,
        payload: bytes,
        limits: Limits | None = None,
        *,
        number: int | None = None,
        wait: bool = True,
        deadline: float = NO_DEADLINE,
    ) -> InputOutcome:
        """Give an input; when this returns it is in the log, and inspects see what it did.

        Inputs are taken in the order of the calls. More than `settings.queue` that wait raise
        AtCapacity unless `wait`. A cancelled input is undone, unless its guest had accepted it
        already: then it counts. With `number` an input is taken once however often it is sent: one
        that the log has under that number is answered from there; InputConflict is raised when the
        payload is another, or the number not the next one. LogFault means that it was undone.
        """
        return await self._advance(payload, limits, number, deadline, None, wait=wait)

    @asynccontextmanager
    async def advancing(
        self,
        payload: bytes,
        limits: Limits | None = None,
        *,
        number: int | None = None,
        wait: bool = True,
        deadline: float = NO_DEADLINE,
    ) -> AsyncIterator[Call]:
        """Advance, and iterate over what the guest says while it does; leaving early cancels.

        What it says counts once `outcome()` says that the input was accepted.
        """
        call = Call()
        work = partial(self._advance, payload, limits, number, deadline, call, wait=wait)
        async with following(call, work):
            yield call

    async def inspect(
        self,
        query: bytes,
        limits: Limits | None = None,
        *,
        wait: bool = False,
        deadline: float = NO_DEADLINE,
    ) -> Outcome:
        """Ask the state after the last input; see `InspectPool.inspect`."""
        limits = limits or self.settings.inspect_limits
        return await self.pool.inspect(query, limits, wait=wait, deadline=deadline)

    def inspecting(
        self,
        query: bytes,
        limits: Limits | None = None,
        *,
        wait: bool = False,
        deadline: float = NO_DEADLINE,
    ) -> AbstractAsyncContextManager[Call]:
        """Ask, and iterate over what the guest says meanwhile; see `InspectPool.inspecting`."""
        limits = limits or self.settings.inspect_limits
        return self.pool.inspecting(query, limits, wait=wait, deadline=deadline)

    async def outcome(self, number: int) -> InputOutcome:
        """Return what became of an input, from the log; KeyError when there is none."""
        if number <= self.inputs:
            await self._keeper.reached(number)
        _, outcome = await self._scheduler.in_thread(partial(self._log.outcome, number))
        return outcome

    def follow(self, after: int = 0) -> AsyncIterator[tuple[bytes, InputOutcome]]:
        """Iterate over the inputs after number `after`, each with its outcome, and wait for more.

        An input comes once its outcome is final. A consumer that notes, with what it makes of an
        outcome, the number of it, and begins after that the next time, misses none and sees none
        twice. MachineClosed ends it when the application closes; KeyError: there is no such number;
        InputConflict: inputs that it had not come to were forgotten (`keep_inputs`).
        """
        if not self.first_input - 1 <= after <= self.inputs:
            raise KeyError(after)
        return Follower(self._scheduler, self._log, self._keeper, after)

    async def snapshot(self) -> Path:
        """Store the state after the last input, and return its folder."""
        if self.settings.snapshots == "never":
            raise BadConfig("snapshots", "never", "another policy, to store one")
        self._room.enter_anyway()
        try:
            await self._turns.take()
            return await self._keeper.store()
        finally:
            self._room.leave()

    def at(self, number: int) -> AbstractAsyncContextManager[Machine]:
        """Open a machine, in memory, in the state after `number` inputs; 0: before the first.

        KeyError, now or when it is entered, for a state that is not there yet, or no more.
        """
        if not 0 <= number <= self.inputs:
            raise KeyError(number)
        return self._history.open(number, hashes=self.settings.state_hashes)

    def statistics(self) -> ApplicationStatistics:
        """Return what it does now and did so far."""
        return ApplicationStatistics(
            name=self.name,
            inputs=self.inputs,
            cycle=self.cycle,
            waiting=self._turns.waiting + self._room.outside,
            statuses=dict(self._statuses),
            snapshot=self._keeper.snapshot,
            replayed=self._history.replayed,
            pool=self.pool.statistics(),
            waiting_seconds=self._queued.snapshot(),
            serving_seconds=self._served.snapshot(),
            committing_seconds=self._committed.snapshot(),
        )

    def activity(self) -> Activity:
        """Return what its machine does now."""
        return Activity("application", self.cycle, self._job, calls=self._keeper.storing)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Take inputs while the body runs; `open_application` does it."""
        self._statuses = await self._scheduler.in_thread(self._log.count_statuses)
        await self._keeper.begin()
        try:
            async with beside(self._keeper.keep, end=self._keeper.stop):
                try:
                    yield
                finally:
                    await whole(self._close)
        finally:
            await whole(partial(self._scheduler.in_thread, self._writer.close))

    async def _close(self) -> None:
        """Take no more inputs; the one in progress is taken back."""
        self._room.close()
        self._turns.close()
        if self._job is not None:
            self._scheduler.cancel_soon(self._job)
        await self._turns.wait_free()

    async def _advance(
        self,
        payload: bytes,
        limits: Limits | None,
        number: int | None,
        deadline: float,
        call: Call | None,
        *,
        wait: bool,
    ) -> InputOutcome:
        asked = self._scheduler.clock.now()
        if wait:
            await self._room.enter()
        else:
            self._room.enter_now()
        try:
            await self._turns.take()
            try:
                if number is None or number == self.inputs + 1:
                    self._writer.check()
                    job = self._make_job(payload, limits, deadline, call, asked)
                    result = await self._carry_out(job)
                else:
                    result = await self._answer_again(payload, number)
            finally:
                self._keeper.end_turn()
            if self.settings.durable and result.number is not None:
                await self._keeper.published(result.number)
            return result
        finally:
            self._room.leave()

    def _make_job(
        self,
        payload: bytes,
        limits: Limits | None,
        deadline: float,
        call: Call | None,
        asked: float,
    ) -> InputJob:
        clock, hold = self._scheduler.clock.now, self._scheduler.desk.hold
        limits = limits or self.settings.limits
        request = Request(self._writer.machine, "advance", payload, limits, clock=clock)
        job = InputJob(self._writer, self.share, deadline, request, hold)
        if call is not None:
            job.said, job.hear = deque(), call.hear
        job.then = self._count
        self._queued.add(clock() - asked)
        return job

    async def _carry_out(self, job: InputJob) -> InputOutcome:
        self._job = job
        try:
            result: InputOutcome = await self._scheduler.do(job)
            return result
        finally:
            self._job = None
            self._journal.ended("advance.ended", job, self._scheduler.clock.now())

    def _count(self, job: Job) -> None:
        """Count an input that is in the log, whatever becomes of its caller."""
        result: InputOutcome | None = job.result
        if result is not None and result.number is not None:
            self._served.add(result.seconds)
            self._committed.add(max(job.ended - job.started - result.seconds, 0.0))
            self._statuses[result.status] = self._statuses.get(result.status, 0) + 1
            if not self.settings.durable:
                self._keeper.tell()

    async def _answer_again(self, payload: bytes, number: int) -> InputOutcome:
        try:
            known = await self._scheduler.in_thread(partial(self._log.outcome, number))
        except KeyError:
            gone = number < self.first_input
            raise InputConflict(number, self.inputs + 1, gone=gone) from None
        if known[0] != payload:
            raise InputConflict(number, self.inputs + 1)
        return known[1]
