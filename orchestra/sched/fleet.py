"""The face of the scheduler: `async with open_fleet(workers=2) as fleet`, and what a fleet does."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from orchestra.machine.machine import Machine, SnapshotResult
from orchestra.machine.request import Limits, Outcome, Request
from orchestra.sched.beside import beside
from orchestra.sched.custody import Custody, machine_name
from orchestra.sched.events import Call, Journal, Logger, following
from orchestra.sched.founding import Genesis, open_application
from orchestra.sched.inspection import InspectPool
from orchestra.sched.jobs import Job, MachineLike, RequestJob, RunJob
from orchestra.sched.leases import Leases
from orchestra.sched.overview import Overview
from orchestra.sched.plan import NO_DEADLINE, Priority, Share
from orchestra.sched.scheduler import Scheduler
from orchestra.sched.settings import ApplicationSettings
from orchestra.sched.tracing import find_tracer
from orchestra.sched.whole import whole
from orchestra.sched.worker import Clock, HostClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from orchestra.machine.config import MachineConfig
    from orchestra.machine.machine import Storage
    from orchestra.machine.stop import Stop
    from orchestra.sched.application import Application
    from orchestra.sched.statistics import FleetStatistics

__all__ = ["Fleet", "open_fleet"]

T = TypeVar("T")
M = TypeVar("M", bound=MachineLike)


class Fleet:
    """Many machines on a few workers; made by `open_fleet`, used on the loop that made it.

    A machine does one thing at a time: a second call on it raises MachineBusy. Every wait can be
    cancelled; then the machine has stopped before the cancellation goes on, an advance is unmade,
    and a run stands where it was stopped.
    """

    def __init__(self, scheduler: Scheduler, journal: Journal) -> None:
        self._scheduler = scheduler
        self._journal = journal
        self._custody = Custody(scheduler, journal)
        self._overview = Overview(scheduler, self._custody)

    @asynccontextmanager
    async def open(
        self,
        directory: Path | str,
        *,
        storage: Storage = "memory",
        torn: Literal["refuse", "discard"] = "refuse",
        reserve: int = 0,
    ) -> AsyncIterator[Machine]:
        """Open a machine's folder or a snapshot, waiting in turn for its lock; close it at the end.

        See `Machine.open` for `storage`, `torn`, `reserve` and errors; to give up waiting use
        `anyio.fail_after`.
        """
        async with self._custody.keep(
            partial(self._custody.open, directory, storage, torn, reserve)
        ) as machine:
            yield machine

    @asynccontextmanager
    async def create(
        self,
        config: MachineConfig,
        directory: Path | str | None = None,
        *,
        storage: Storage | None = None,
        durable: bool = False,
    ) -> AsyncIterator[Machine]:
        """Make a machine at reset, in a new folder if one is named; close it at the end.

        See `Machine.create` for the rest.
        """
        make = partial(Machine.create, config, directory, storage=storage, durable=durable)
        opening = partial(self._scheduler.in_thread, make, undo=Machine.close)
        async with self._custody.keep(opening) as machine:
            yield machine

    async def run(
        self,
        machine: MachineLike,
        until: int | None = None,
        *,
        max_cycles: int | None = None,
        console_bytes: int | None = None,
        weight: float = 1.0,
        priority: Priority = Priority.INSPECT,
        deadline: float = NO_DEADLINE,
    ) -> Stop:
        """Run a machine as `Machine.run` does, in slices among the others.

        `until` is a cycle, `max_cycles` counts from here, `console_bytes` of output at the console
        are a reason to stop; `deadline` is a time of
        `anyio.current_time()` and only orders: to stop at a time use `anyio.fail_after`.
        """
        if max_cycles is not None:
            end = machine.cycle + max_cycles
            until = end if until is None else min(until, end)
        options = {} if console_bytes is None else {"console_bytes": console_bytes}
        share = self._custody.share(machine, weight)
        job = RunJob(machine, share, priority, deadline, until, options)
        with self._custody.hold(machine, job):
            stop: Stop = await self._do("run.ended", job)
            return stop

    async def advance(
        self,
        machine: MachineLike,
        payload: bytes,
        limits: Limits | None = None,
        *,
        weight: float = 1.0,
        deadline: float = NO_DEADLINE,
    ) -> Outcome:
        """Give a guest an input; the machine changes only if the guest accepts it.

        Raises MachineBusy when the guest does not wait for an input.
        """
        job = self._advance_job(machine, payload, limits, weight, deadline)
        with self._custody.hold(machine, job):
            outcome: Outcome = await self._do("advance.ended", job)
            return outcome

    @asynccontextmanager
    async def advancing(
        self,
        machine: MachineLike,
        payload: bytes,
        limits: Limits | None = None,
        *,
        weight: float = 1.0,
        deadline: float = NO_DEADLINE,
    ) -> AsyncIterator[Call]:
        """Advance, and iterate over what the guest says while it does; leaving early cancels."""
        job = self._advance_job(machine, payload, limits, weight, deadline)
        job.said = deque()
        call = Call()
        job.hear = call.hear
        with self._custody.hold(machine, job):
            async with following(call, partial(self._do, "advance.ended", job)):
                yield call

    @asynccontextmanager
    async def application(
        self,
        directory: Path | str,
        genesis: Genesis | None = None,
        settings: ApplicationSettings | None = None,
        *,
        name: str = "",
    ) -> AsyncIterator[Application]:
        """Open the application in a folder, behind the last input of its log.

        `genesis` makes one where there is none: a config, a machine or the folder of one, run until
        it waits for its first input. One process at a time: others wait for the folder's lock; to
        give up waiting use `anyio.fail_after`. Raises BadImage, StateDiverged, LogFault.
        """
        opening = open_application(
            self,
            self._scheduler,
            self._journal,
            directory,
            genesis,
            settings or ApplicationSettings(),
            name,
        )
        async with opening as app:
            self._custody.leave_out(app.machine)
            self._overview.applications.append(app)
            try:
                yield app
            finally:
                self._overview.applications.remove(app)

    @asynccontextmanager
    async def inspect_pool(
        self,
        template: MachineLike | Path | str,
        *,
        size: int = 64,
        queue: int = 1024,
        weight: float = 1.0,
        name: str = "",
    ) -> AsyncIterator[InspectPool]:
        """Answer inspects from copies of a machine, or of the one stored in a directory.

        At most `size` leases are out at once and `queue` more calls wait for one. A machine is
        forked at once and may go on; it keeps being the caller's.
        """
        name = name or machine_name(template)
        pool = InspectPool(
            self._scheduler, self._journal, self._make_leases, Share(name, weight), size, queue
        )
        await pool.open(template)
        self._overview.pools.append(pool)
        try:
            yield pool
        finally:
            self._overview.pools.remove(pool)
            await whole(pool.aclose)

    async def inspect(
        self, machine: MachineLike, payload: bytes, limits: Limits | None = None
    ) -> Outcome:
        """Ask one question to a fork of a machine; for many open an `inspect_pool`."""
        async with self.inspect_pool(machine, size=1, queue=0) as pool:
            return await pool.inspect(payload, limits)

    async def call(self, machine: Any, function: Callable[..., T], *args: Any) -> T:
        """Call a blocking function that uses a machine nobody else uses meanwhile, in a thread.

        It cannot be interrupted: a cancellation goes on when it has returned.
        """
        return await self._call(machine, partial(function, *args))

    async def _call(
        self, machine: Any, function: partial[T], undo: Callable[[T], object] | None = None
    ) -> T:
        began = self._scheduler.clock.now()
        with self._custody.hold(machine, None):
            result = await self._scheduler.in_thread(function, undo)
        self._journal.info(
            "machine.called",
            machine=machine_name(machine),
            cycle=machine.cycle,
            duration=self._scheduler.clock.now() - began,
            call=getattr(function.func, "__name__", repr(function.func)),
        )
        return result

    async def fork(self, machine: M) -> M:
        """Return a copy of a machine; close it when done."""
        return await self._call(machine, partial(machine.fork), undo=_close)

    async def snapshot(
        self, machine: Machine, directory: Path | str, *, durable: bool = False
    ) -> SnapshotResult:
        """Store a machine's state as a folder of its own, whole or not at all."""
        return await self.call(machine, partial(machine.snapshot, directory, durable=durable))

    def statistics(self, *, busiest: int = 0) -> FleetStatistics:
        """Return what the fleet does now and did so far.

        With `busiest`, as many machines, applications and pools one by one: those that used most
        CPU lately. That takes a look at each there is, of about a microsecond.
        """
        return self._overview.look(busiest)

    async def _do(self, name: str, job: Job) -> Any:
        try:
            return await self._scheduler.do(job)
        finally:
            self._journal.ended(name, job, self._scheduler.clock.now())

    def _advance_job(
        self,
        machine: MachineLike,
        payload: bytes,
        limits: Limits | None,
        weight: float,
        deadline: float,
    ) -> RequestJob:
        request = Request(machine, "advance", payload, limits, clock=self._scheduler.clock.now)
        share = self._custody.share(machine, weight)
        return RequestJob(machine, share, Priority.ADVANCE, deadline, request)

    async def _make_leases(self, template: Any) -> Leases:
        """Make what a pool leases from."""
        if hasattr(template, "fork"):
            return Leases(await self.fork(template))
        return Leases(await self._custody.open(template))

    def summary(self) -> dict[str, Any]:
        """Return what the fleet did, for its last event."""
        desk = self._scheduler.desk
        return {
            "duration": self._overview.open_seconds,
            "calls": self._scheduler.calls,
            "slices": desk.slices,
            "cycles": desk.cycles,
        }


@asynccontextmanager
async def open_fleet(
    workers: int = 2,
    *,
    clock: Clock | None = None,
    logger: Logger | None = None,
    slice_seconds: float = 0.004,
) -> AsyncIterator[Fleet]:
    """Open a fleet of `workers` threads that live until the block is left, whatever the reason.

    `logger` is a structlog logger (see `orchestra.sched.events.EVENT_NAMES`); without one the fleet
    is silent. Calls are spans of OpenTelemetry if a provider was set up before. Leaving stops every
    machine within 10 ms; calls in other tasks raise MachineClosed.
    """
    journal = Journal(logger, find_tracer())
    scheduler = Scheduler(workers, clock or HostClock(), slice_seconds)
    fleet = Fleet(scheduler, journal)
    try:
        async with beside(scheduler.employ, end=scheduler.stop):
            journal.info("fleet.opened", workers=workers)
            yield fleet
    finally:
        scheduler.sweep()
        journal.info("fleet.closed", **fleet.summary())


def _close(machine: MachineLike) -> None:
    machine.close()
