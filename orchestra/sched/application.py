"""An application: one state that inputs change one after the other, asked while it goes on."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio

from orchestra.errors import BadConfig, InputConflict, OrchestraError
from orchestra.machine.request import Request
from orchestra.sched.events import Call, following
from orchestra.sched.plan import NO_DEADLINE, Share
from orchestra.sched.statistics import ApplicationStatistics, Histogram
from orchestra.sched.turns import Ticket, Turns
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
        self._share = Share(name, settings.weight)
        self._history = history
        self._log = history.log
        self._machine = machine
        self._writer = Writer(machine, history.log, pool, settings, None)
        self._turns = Turns(scheduler, settings.queue, "input")
        self._snapshot = 0
        self._statuses: dict[Status, int] = {}
        self._queued, self._served, self._committed = Histogram(), Histogram(), Histogram()

    @property
    def inputs(self) -> int:
        """How many inputs the log has; the next one gets the number after that."""
        return self._log.last

    @property
    def cycle(self) -> int:
        """The machine's cycle after the last input."""
        return self._machine.cycle

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
        work = partial(self._take, payload, limits, number, deadline, None)
        result: InputOutcome = await self._turns.ask(work, wait=wait)
        return result

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
        work = partial(self._take, payload, limits, number, deadline, call)
        async with following(call, partial(self._turns.ask, work, wait=wait)):
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
        _, outcome = await self._scheduler.in_thread(partial(self._log.outcome, number))
        return outcome

    async def snapshot(self) -> Path:
        """Store the state after the last input, and return its folder."""
        if self.settings.snapshots == "never":
            raise BadConfig("snapshots", "never", "another policy, to store one")
        path: Path = await self._turns.ask(self._store_now, wait=True, urgent=True)
        return path

    def at(self, number: int) -> AbstractAsyncContextManager[Machine]:
        """Open a machine, in memory, in the state after `number` inputs; 0: before the first."""
        if not 0 <= number <= self.inputs:
            raise KeyError(number)
        return self._history.open(number, hashes=self.settings.state_hashes)

    def statistics(self) -> ApplicationStatistics:
        """Return what it does now and did so far."""
        return ApplicationStatistics(
            name=self.name,
            inputs=self.inputs,
            cycle=self.cycle,
            waiting=self._turns.waiting,
            statuses=dict(self._statuses),
            snapshot=self._snapshot,
            replayed=self._history.replayed,
            pool=self.pool.statistics(),
            waiting_seconds=self._queued.snapshot(),
            serving_seconds=self._served.snapshot(),
            committing_seconds=self._committed.snapshot(),
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Take inputs while the body runs; `open_application` does it."""
        entries = await self._scheduler.in_thread(
            partial(self._log.entries, self.inputs, self.inputs)
        )
        self._writer.state_hash = entries[0].state_hash if entries else None
        self._statuses = await self._scheduler.in_thread(self._log.count_statuses)
        found = await self._scheduler.in_thread(self._history.snapshots.numbers)
        self._snapshot = max(number for number in found if number <= self.inputs)
        try:
            async with self._turns.serving():
                yield
        finally:
            with anyio.CancelScope(shield=True):
                await self._scheduler.in_thread(self._writer.close)

    async def _take(
        self,
        payload: bytes,
        limits: Limits | None,
        number: int | None,
        deadline: float,
        call: Call | None,
        ticket: Ticket,
    ) -> InputOutcome:
        """Carry an input out; the turns' task does it."""
        if number is not None and number != self.inputs + 1:
            return await self._answer_again(payload, number)
        self._writer.check()
        clock = self._scheduler.clock.now
        limits = limits or self.settings.limits
        request = Request(self._machine, "advance", payload, limits, clock=clock)
        hold = self._scheduler.desk.hold
        job = InputJob(self._writer, self._share, deadline, request, hold)
        if call is not None:
            job.said, job.hear = deque(), call.hear
        ticket.job = job
        began = clock()
        self._queued.add(began - ticket.began)
        if not self.settings.durable:
            job.then = partial(self._answer, ticket, began)
        try:
            result: InputOutcome = await self._scheduler.do(job)
        finally:
            if self._journal.listening:
                ticket.context.run(self._journal.ended, "advance.ended", job, clock())
        if result.number is None:
            return result
        if self.settings.durable:
            with anyio.CancelScope(shield=True):
                await self._scheduler.in_thread(self._writer.publish)
            self._answer(ticket, began, job)
        await self._store_if_due()
        await self._renew_if_worn()
        return result

    def _answer(self, ticket: Ticket, began: float, job: Job) -> None:
        """Let the caller go on, before a snapshot is stored."""
        result: InputOutcome | None = job.result
        if result is None or result.number is None:
            return  # it is the turns' task that says so
        self._served.add(result.seconds)
        self._committed.add(self._scheduler.clock.now() - began - result.seconds)
        self._statuses[result.status] = self._statuses.get(result.status, 0) + 1
        ticket.result = result
        ticket.end()

    async def _answer_again(self, payload: bytes, number: int) -> InputOutcome:
        try:
            known = await self._scheduler.in_thread(partial(self._log.outcome, number))
        except KeyError:
            raise InputConflict(number, self.inputs + 1) from None
        if known[0] != payload:
            raise InputConflict(number, self.inputs + 1)
        return known[1]

    async def _renew_if_worn(self) -> None:
        if not self._writer.is_worn:
            return
        began = self._scheduler.clock.now()
        try:
            with anyio.CancelScope(shield=True):
                self._machine = await self._scheduler.in_thread(
                    partial(self._writer.renew, self.directory)
                )
        except (OrchestraError, OSError) as error:
            self._journal.warning("renewal.failed", machine=self.name, error=str(error))
        else:
            took = self._scheduler.clock.now() - began
            self._journal.info(
                "application.renewed", machine=self.name, cycle=self.cycle, duration=took
            )

    async def _store_if_due(self) -> None:
        every = self.settings.every
        if every is None or self.inputs - self._snapshot < every:
            return
        try:
            await self._store()
        except (OrchestraError, OSError) as error:
            self._journal.warning(
                "snapshot.failed", machine=self.name, number=self.inputs, error=str(error)
            )

    async def _store_now(self, _: Ticket) -> Path:
        return await self._store()

    async def _store(self) -> Path:
        number, snapshots = self.inputs, self._history.snapshots
        began = self._scheduler.clock.now()

        def store() -> int:
            result = snapshots.store(self._machine, number, durable=self.settings.durable)
            snapshots.prune(self.settings.keep)
            return result.pages if result is not None else 0

        with anyio.CancelScope(shield=True):
            pages = await self._scheduler.in_thread(store)
        self._snapshot = number
        self._journal.info(
            "snapshot.stored",
            machine=self.name,
            number=number,
            cycle=self.cycle,
            pages=pages,
            duration=self._scheduler.clock.now() - began,
        )
        return snapshots.path(number)
