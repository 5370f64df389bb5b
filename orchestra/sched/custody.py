"""The machines a fleet has opened, and who uses each now: one call at a time."""

from __future__ import annotations

import weakref
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import anyio

from orchestra.errors import BadImage, MachineBusy
from orchestra.io.lock import lock
from orchestra.machine.machine import Machine
from orchestra.sched.plan import Share
from orchestra.sched.ranking import Activity
from orchestra.sched.whole import whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from orchestra.machine.machine import Storage
    from orchestra.sched.events import Journal
    from orchestra.sched.jobs import Job
    from orchestra.sched.scheduler import Scheduler

__all__ = ["Custody", "machine_name"]


@dataclass(frozen=True, slots=True)
class Hold:
    """Who uses a machine: a job, or a blocking call."""

    job: Job | None
    released: anyio.Event


class Custody:
    """Opens machines and closes them in the end; a second call on a busy one is refused."""

    def __init__(self, scheduler: Scheduler, journal: Journal) -> None:
        self.machines = 0  # open
        self._scheduler = scheduler
        self._journal = journal
        self._shares: weakref.WeakKeyDictionary[Any, Share] = weakref.WeakKeyDictionary()
        self._busy: dict[int, Hold] = {}

    def share(self, machine: Any, weight: float) -> Share:
        """Return to whom a machine's service is owed, with this weight from now on."""
        share = self._shares.get(machine)
        if share is None:
            share = self._shares[machine] = Share(machine_name(machine), weight)
        share.weight = weight
        return share

    def leave_out(self, machine: Any) -> None:
        """Rank a machine no more: somebody else speaks for it."""
        self._shares.pop(machine, None)

    def owed(self) -> Iterator[tuple[Share, Callable[[], Activity]]]:
        """Yield all machines that are open, as far as the fleet knows, to be ranked."""
        for machine, share in list(self._shares.items()):
            if not machine.closed:
                yield share, partial(self._activity, machine)

    def _activity(self, machine: Any) -> Activity:
        hold = self._busy.get(id(machine))
        if hold is not None and hold.job is None:  # a call in another thread, perhaps its close
            return Activity("machine", None, calls=True)
        return Activity("machine", machine.cycle, None if hold is None else hold.job)

    @contextmanager
    def hold(self, machine: Any, job: Job | None) -> Iterator[None]:
        """Use a machine in the body; MachineBusy when somebody else does."""
        key = id(machine)
        if key in self._busy:
            raise MachineBusy(f"{machine_name(machine)} does something else in this fleet")
        self._busy[key] = hold = Hold(job, anyio.Event())
        try:
            yield
        finally:
            del self._busy[key]
            hold.released.set()

    @asynccontextmanager
    async def keep(self, opening: Callable[[], Awaitable[Any]]) -> AsyncIterator[Any]:
        """Open a machine, and close it when the block is left, whatever still goes on with it."""
        began = self._scheduler.clock.now()
        machine = await opening()
        try:
            self.machines += 1
            self.share(machine, 1.0)
            self._log_machine("machine.opened", machine, machine.cycle, began)
            yield machine
        finally:
            self.machines -= 1
            self.leave_out(machine)
            await whole(partial(self._close, machine))

    async def _close(self, machine: Any) -> None:
        began = self._scheduler.clock.now()
        await self._release(machine)
        cycle = None if machine.closed else machine.cycle
        await self._scheduler.in_thread(partial(_end, machine))
        self._log_machine("machine.closed", machine, cycle, began)

    async def _release(self, machine: Any) -> None:
        """End what the machine does, and wait until its caller knows."""
        hold = self._busy.get(id(machine))
        if hold is not None:
            if hold.job is not None:
                await self._scheduler.cancel(hold.job)
            await hold.released.wait()

    def _log_machine(self, event: str, machine: Any, cycle: int | None, began: float) -> None:
        self._journal.info(
            event,
            machine=machine_name(machine),
            cycle=cycle,
            duration=self._scheduler.clock.now() - began,
        )

    async def open(
        self,
        directory: Path | str,
        storage: Storage = "memory",
        torn: Literal["refuse", "discard"] = "refuse",
        reserve: int = 0,
    ) -> Machine:
        """Open a folder as soon as its lock is free; see `Machine.open`."""
        path = Path(directory).absolute()  # noqa: ASYNC240 - asks for the working directory only
        try:
            held = await lock(path, "exclusive" if storage == "backing" else "shared")
        except (FileNotFoundError, NotADirectoryError):
            raise BadImage(path, "type", "no such folder", "the folder of a machine") from None
        try:
            opening = partial(Machine.open_locked, path, held, storage=storage, torn=torn)
            return await self._scheduler.in_thread(
                partial(opening, reserve=reserve), undo=Machine.close
            )
        except BaseException:
            held.close()
            raise


def machine_name(machine: Any) -> str:
    """Name a machine for people: its folder, else a number that is its own while it lives."""
    if isinstance(machine, str):
        return machine
    folder = getattr(machine, "directory", machine if hasattr(machine, "name") else None)
    return str(folder) if folder is not None else f"machine-{id(machine):x}"


def _end(machine: Any) -> None:
    """Close a machine; when it cannot be sealed, it is discarded, and the error raised."""
    with machine:
        pass
