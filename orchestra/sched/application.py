"""An application: one state that inputs change one after the other, asked while it goes on."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from orchestra.errors import BadConfig, BadImage, GuestError, InputConflict, OrchestraError
from orchestra.io.lock import lock
from orchestra.machine.config import MachineConfig
from orchestra.machine.machine import Machine
from orchestra.machine.request import Limits, Outcome, Request
from orchestra.machine.stop import Yielded
from orchestra.sched.events import Call, following
from orchestra.sched.history import History, Snapshots
from orchestra.sched.input_log import InputLog, InputOutcome
from orchestra.sched.jobs import RequestJob
from orchestra.sched.plan import NO_DEADLINE, Priority, Share
from orchestra.sched.statistics import ApplicationStatistics, Histogram
from orchestra.sched.turns import Ticket, Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from orchestra.machine.request import Status
    from orchestra.sched.events import Journal
    from orchestra.sched.fleet import Fleet
    from orchestra.sched.inspection import InspectPool
    from orchestra.sched.scheduler import Scheduler
    from orchestra.sched.settings import ApplicationSettings

__all__ = ["Application", "Genesis", "open_application"]

Genesis = Machine | MachineConfig | Path | str
LOG = "inputs.sqlite"


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
        self._turns = Turns(scheduler, settings.queue, "input")
        self._state_hash: str | None = None
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
        return self._state_hash

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
        self._state_hash = entries[0].state_hash if entries else None
        self._statuses = await self._scheduler.in_thread(self._log.count_statuses)
        found = await self._scheduler.in_thread(self._history.snapshots.numbers)
        self._snapshot = max(number for number in found if number <= self.inputs)
        async with self._turns.serving():
            yield

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
        clock = self._scheduler.clock.now
        limits = limits or self.settings.limits
        request = Request(self._machine, "advance", payload, limits, clock=clock)
        job = RequestJob(self._machine, self._share, Priority.ADVANCE, deadline, request)
        if call is not None:
            job.said, job.hear = deque(), call.hear
        ticket.job = job
        began = clock()
        self._queued.add(began - ticket.began)
        try:
            outcome: Outcome = await self._scheduler.do(job)
        finally:
            self._journal.ended("advance.ended", job, clock())
        if outcome.status == "failed":
            return InputOutcome(**_fields(outcome), cycle=self.cycle)
        served = clock()
        with anyio.CancelScope(shield=True):
            result = await self._scheduler.in_thread(partial(self._commit, payload, outcome))
        committed = clock()
        self._served.add(served - began)
        self._committed.add(committed - served)
        self._statuses[result.status] = self._statuses.get(result.status, 0) + 1
        ticket.result = result
        ticket.end()  # the answer need not wait for a snapshot
        await self._store_if_due()
        return result

    async def _answer_again(self, payload: bytes, number: int) -> InputOutcome:
        try:
            known = await self._scheduler.in_thread(partial(self._log.outcome, number))
        except KeyError:
            raise InputConflict(number, self.inputs + 1) from None
        if known[0] != payload:
            raise InputConflict(number, self.inputs + 1)
        return known[1]

    def _commit(self, payload: bytes, outcome: Outcome) -> InputOutcome:
        """Take an input into the log and publish the state behind it, or undo it."""
        state_hash = self._state_hash
        try:
            if self.settings.state_hashes and (outcome.accepted or state_hash is None):
                state_hash = self._machine.root_hash()
            result = InputOutcome(
                **_fields(outcome),
                number=self._log.last + 1,
                cycle=self._machine.cycle,
                state_hash=state_hash,
            )
            self._log.append(payload, result)
        except BaseException:
            if outcome.accepted:
                self._machine.rollback()
            raise
        self._state_hash = state_hash
        if outcome.accepted:
            self.pool.swap(self._machine.fork())
        return result

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


def _fields(outcome: Outcome) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in Outcome.__dataclass_fields__}


@asynccontextmanager
async def open_application(
    fleet: Fleet,
    scheduler: Scheduler,
    journal: Journal,
    directory: Path | str,
    genesis: Genesis | None,
    settings: ApplicationSettings,
    name: str,
) -> AsyncIterator[Application]:
    """Open the application in a folder, or make it of `genesis`; `fleet.application` does it."""
    path = Path(directory).absolute()  # noqa: ASYNC240 - asks for the working directory only
    name = name or str(path)
    began = scheduler.clock.now()
    await scheduler.in_thread(partial(_make_folder, path, create=genesis is not None))
    with await lock(path, "exclusive"):
        log = await scheduler.in_thread(partial(InputLog, path / LOG, durable=settings.durable))
        try:
            share = Share(name, settings.weight)
            history = History(path, log, fleet, scheduler, journal, share)
            if genesis is not None and not history.snapshots.numbers() and not log.last:
                await _found(fleet, scheduler, history.snapshots, genesis, settings)
            backing = settings.storage == "backing"
            async with (
                history.open(log.last, backing=backing, hashes=settings.state_hashes) as machine,
                fleet.inspect_pool(
                    machine,
                    size=settings.inspect_size,
                    queue=settings.inspect_queue,
                    weight=settings.weight,
                    name=name,
                ) as pool,
            ):
                app = Application(name, settings, scheduler, journal, history, machine, pool)
                fields = {"machine": name, "inputs": app.inputs, "cycle": app.cycle}
                took = scheduler.clock.now() - began
                replayed = history.replayed
                journal.info("application.opened", **fields, replayed=replayed, duration=took)
                async with app.serving():
                    yield app
            journal.info(
                "application.closed",
                machine=name,
                inputs=log.last,
                duration=scheduler.clock.now() - began,
            )
        finally:
            with anyio.CancelScope(shield=True):
                await scheduler.in_thread(log.close)


def _make_folder(path: Path, *, create: bool) -> None:
    if create:
        path.mkdir(parents=True, exist_ok=True)
    elif not path.is_dir():
        raise BadImage(path, "type", "no such folder", "an application's, or a genesis to make it")


async def _found(
    fleet: Fleet,
    scheduler: Scheduler,
    snapshots: Snapshots,
    genesis: Genesis,
    settings: ApplicationSettings,
) -> None:
    """Store the first state: the genesis, run until it waits for its first input."""
    opening: AbstractAsyncContextManager[Machine]
    if isinstance(genesis, Machine):
        opening = _forked(fleet, genesis)
    elif isinstance(genesis, MachineConfig):
        opening = fleet.create(genesis)
    else:
        opening = fleet.open(genesis)
    async with opening as machine:
        stop = await fleet.run(machine, priority=Priority.ADVANCE)
        if not isinstance(stop, Yielded) or stop.kind != "manual":
            raise GuestError(f"the genesis does not wait for an input, but: {stop}")
        store = partial(snapshots.store, machine, 0, durable=settings.durable)
        await scheduler.in_thread(store)


@asynccontextmanager
async def _forked(fleet: Fleet, machine: Machine) -> AsyncIterator[Machine]:
    copy: Machine = await fleet.fork(machine)
    with copy:
        yield copy
