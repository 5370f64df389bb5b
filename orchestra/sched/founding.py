"""Opening an application: its lock, its log, its state; or founding one where there is none."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.errors import BadConfig, BadImage, GuestError, MachineLocked
from orchestra.io.folder import remove
from orchestra.io.lock import lock
from orchestra.machine.config import MachineConfig
from orchestra.machine.machine import Machine
from orchestra.machine.stop import Yielded
from orchestra.sched.application import Application
from orchestra.sched.history import History, Snapshots
from orchestra.sched.input_log import InputLog
from orchestra.sched.plan import Priority, Share
from orchestra.sched.whole import whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from orchestra.sched.events import Journal
    from orchestra.sched.fleet import Fleet
    from orchestra.sched.scheduler import Scheduler
    from orchestra.sched.settings import ApplicationSettings

__all__ = ["Genesis", "open_application"]

Genesis = Machine | MachineConfig | Path | str
LOG = "inputs.sqlite"


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
    await scheduler.in_thread(partial(_make_folder, path, genesis))
    with await lock(path, "exclusive"):
        await scheduler.in_thread(partial(_remove_lives, path))
        log = await scheduler.in_thread(partial(InputLog, path / LOG), undo=InputLog.close)
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
            await whole(partial(scheduler.in_thread, log.close))


def _make_folder(path: Path, genesis: Genesis | None) -> None:
    if genesis is not None:
        path.mkdir(parents=True, exist_ok=True)
        if isinstance(genesis, Path | str) and path.samefile(genesis):
            raise BadConfig("genesis", str(genesis), "a machine in another folder than its own")
    elif not path.is_dir():
        raise BadImage(path, "type", "no such folder", "an application's, or a genesis to make it")


def _remove_lives(directory: Path) -> None:
    """Remove the folders that machines of processes before this one ran in."""
    for path in directory.glob("live*"):
        with suppress(MachineLocked, OSError):
            remove(path)


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
