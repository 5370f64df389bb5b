"""An application's states: the snapshots in its folder, and replay of its log from one of them."""

from __future__ import annotations

import re
import shutil
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from orchestra.errors import (
    BackingFault,
    BadImage,
    MachineLocked,
    OrchestraError,
    StateDiverged,
)
from orchestra.io import folder
from orchestra.machine.clone import clone_machine
from orchestra.machine.request import Request
from orchestra.sched.jobs import RequestJob
from orchestra.sched.plan import NO_DEADLINE, Priority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from orchestra.machine.machine import Machine, SnapshotResult
    from orchestra.sched.events import Journal
    from orchestra.sched.fleet import Fleet
    from orchestra.sched.input_log import Entry, InputLog
    from orchestra.sched.plan import Share
    from orchestra.sched.scheduler import Scheduler

__all__ = ["History", "Snapshots"]

BATCH = 64
NAME = re.compile(r"[0-9]{12}")


class Snapshots:
    """The folders of an application's states, each named by the inputs it has seen; blocking."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def numbers(self) -> list[int]:
        """List the states that are there, the oldest first."""
        if not self.directory.is_dir():
            return []
        names = [path.name for path in self.directory.iterdir()]
        return sorted(int(name) for name in names if NAME.fullmatch(name))

    def path(self, number: int) -> Path:
        """Return the folder of the state after so many inputs."""
        return self.directory / f"{number:012}"

    def store(self, machine: Machine, number: int, *, durable: bool) -> SnapshotResult | None:
        """Store a state; None when it is there already."""
        if self.path(number).exists():
            return None
        self.directory.mkdir(exist_ok=True)
        return machine.snapshot(self.path(number), durable=durable)

    def prune(self, keep: int) -> None:
        """Remove the oldest but `keep`, the first of all, and those in use."""
        for number in self.numbers()[:-keep]:
            if number:
                self.remove(number)

    def remove(self, number: int) -> None:
        """Remove one, unless it is in use."""
        with suppress(MachineLocked, FileNotFoundError):
            folder.remove(self.path(number))

    def make_live(self, number: int, live: Path) -> None:
        """Replace the folder that the machine runs in by one in the state of a snapshot."""
        if live.is_dir():
            shutil.rmtree(live)  # what a process left that is gone: the application's lock is ours
        clone_machine(self.path(number), live)


class History:
    """Snapshots and log together: any state that was."""

    def __init__(
        self,
        directory: Path,
        log: InputLog,
        fleet: Fleet,
        scheduler: Scheduler,
        journal: Journal,
        share: Share,
    ) -> None:
        self.directory = directory
        self.snapshots = Snapshots(directory / "snapshots")
        self.log = log
        self._fleet = fleet
        self._scheduler = scheduler
        self._journal = journal
        self._share = share
        self.replayed = 0

    @asynccontextmanager
    async def open(
        self, number: int, *, backing: bool = False, hashes: bool = True
    ) -> AsyncIterator[Machine]:
        """Open the state after so many inputs: the newest good snapshot before it, and replay.

        Raises StateDiverged when what comes out is not what the log says; BadImage when no
        snapshot is good.
        """
        found = await self._scheduler.in_thread(self.snapshots.numbers)
        starts = [start for start in found if self.log.first - 1 <= start <= number]
        if not starts and number < self.log.last:
            raise KeyError(number)  # no longer
        for start in reversed(starts):
            async with AsyncExitStack() as stack:
                try:
                    machine = await stack.enter_async_context(self._open(start, backing=backing))
                except (BadImage, BackingFault) as error:
                    self._complain(start, error)
                    continue
                try:
                    await self._check(machine, start, hashes=hashes)
                except (StateDiverged, BackingFault) as error:
                    self._complain(start, error)
                    continue
                await self._replay(machine, start, number, hashes=hashes)
                yield machine
                return
        raise BadImage(self.snapshots.directory, "snapshots", starts, "one that can be opened")

    def forget(self, keep: int, keep_inputs: int) -> None:
        """Remove inputs that none of the newest `keep` snapshots needs, and the first snapshot.

        A snapshot needs the entry of its own input, and all after it. So many inputs stay anyway.
        Blocking.
        """
        needed = [number for number in self.snapshots.numbers()[-keep:] if number]
        end = min([*needed, self.log.last + 1 - keep_inputs])
        if end > self.log.first:
            self.log.forget(end)
            self.snapshots.remove(0)

    @asynccontextmanager
    async def _open(self, number: int, *, backing: bool) -> AsyncIterator[Machine]:
        if not backing:
            async with self._fleet.open(self.snapshots.path(number)) as machine:
                yield machine
            return
        live = self.directory / "live"
        await self._scheduler.in_thread(partial(self.snapshots.make_live, number, live))
        async with self._fleet.open(live, storage="backing") as machine:
            yield machine

    async def _replay(self, machine: Machine, start: int, end: int, *, hashes: bool) -> None:
        for first in range(start + 1, end + 1, BATCH):
            last = min(first + BATCH - 1, end)
            entries = await self._scheduler.in_thread(partial(self.log.entries, first, last))
            for entry in entries:
                if entry.status == "accepted":
                    await self._advance(machine, entry)
                    await self._compare(machine, entry, hashes=hashes)
                    self.replayed += 1

    async def _advance(self, machine: Machine, entry: Entry) -> None:
        request = Request(
            machine, "advance", entry.payload, clock=self._scheduler.clock.now
        )  # the limits it had did not end it
        job = RequestJob(machine, self._share, Priority.ADVANCE, NO_DEADLINE, request)
        outcome = await self._scheduler.do(job)
        if outcome.error is not None:
            raise outcome.error
        if not outcome.accepted:
            raise StateDiverged(self.log.path, entry.number, outcome.status, "accepted")

    async def _check(self, machine: Machine, number: int, *, hashes: bool) -> None:
        """Compare a snapshot with what the log says of it."""
        if number:
            entries = await self._scheduler.in_thread(partial(self.log.entries, number, number))
            if not entries:
                raise StateDiverged(self.log.path, number, "a snapshot", "no such input")
            await self._compare(machine, entries[0], hashes=hashes)

    async def _compare(self, machine: Machine, entry: Entry, *, hashes: bool) -> None:
        path = self.log.path
        if machine.cycle != entry.cycle:
            raise StateDiverged(
                path, entry.number, f"cycle {machine.cycle}", f"cycle {entry.cycle}"
            )
        if hashes and entry.state_hash is not None:
            found = await self._scheduler.in_thread(machine.root_hash)
            if found != entry.state_hash:
                raise StateDiverged(path, entry.number, f"root hash {found}", entry.state_hash)

    def _complain(self, number: int, error: OrchestraError) -> None:
        self._journal.warning(
            "snapshot.unusable", machine=str(self.directory), number=number, error=str(error)
        )
