"""What storage is timed at: sessions of operations, each of which advances a machine."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from orchestra.machine.clone import clone_machine
from orchestra.machine.machine import Machine

from .subject import CYCLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .measure import Operation, Session
    from .subject import Subject

__all__ = ["LARGE", "ROLL", "SESSIONS"]

Storage = Literal["memory", "backing"]
Fate = Literal["discard", "store"]

ROLL: Final = "roll-snapshot/backing/store"
LARGE: Final = {"256gb": 256 << 30, "1tb": 1 << 40}


def load_config(subject: Subject, storage: Storage, fate: Fate, ram: int | None = None) -> Session:
    """Make a machine of a config and the files it names."""
    config = subject.with_ram(ram)

    @contextlib.contextmanager
    def session(_: int) -> Iterator[Operation]:
        with subject.room() as room:

            def operate(number: int) -> None:
                path = f"{room}/{number}"
                directory = path if storage == "backing" else None
                machine = Machine.create(config, directory, storage=storage)
                machine.run(max_cycles=CYCLES)
                if fate == "discard":
                    machine.rollback()
                elif storage == "memory":
                    machine.snapshot(path)
                machine.close()  # which stores a backing machine, in its own folder

            subject.settle()
            yield operate

    return session


def load_snapshot(
    subject: Subject, storage: Storage, fate: Fate, ram: int | None = None
) -> Session:
    """Open a snapshot of which nothing is open yet: each time a cold view."""
    snapshot = subject.snapshot(ram)

    @contextlib.contextmanager
    def session(count: int) -> Iterator[Operation]:
        with subject.room() as room:
            sources = [snapshot]
            if storage == "backing" and fate == "store":  # the folder goes on to the new state
                sources = [room / str(number) for number in range(count)]
                for source in sources:
                    clone_machine(snapshot, source)

            def operate(number: int) -> None:
                machine = Machine.open(sources[number % len(sources)], storage=storage)
                machine.run(max_cycles=CYCLES)
                if fate == "discard":
                    machine.rollback()
                elif storage == "memory":
                    machine.snapshot(f"{room}/{number}")
                machine.close()  # which stores a backing machine, in its own folder

            subject.settle()
            yield operate

    return session


@contextlib.contextmanager
def _live(subject: Subject, storage: Storage, room: Path, ram: int | None) -> Iterator[Machine]:
    source = subject.snapshot(ram)
    if storage == "backing":
        clone_machine(source, room / "live")
        source = room / "live"
    with Machine.open(source, storage=storage) as machine:
        machine.run(max_cycles=CYCLES)
        machine.checkpoint()
        subject.settle()
        yield machine


def roll_snapshot(
    subject: Subject,
    storage: Storage,
    fate: Fate,
    ram: int | None = None,
    *,
    durable: bool = False,
) -> Session:
    """Let a live machine go on: back to where it was, or to a new snapshot."""

    @contextlib.contextmanager
    def session(_: int) -> Iterator[Operation]:
        with subject.room() as room, _live(subject, storage, room, ram) as machine:

            def discard(_: int) -> None:
                machine.run(max_cycles=CYCLES)
                machine.rollback()

            def store(number: int) -> None:
                machine.run(max_cycles=CYCLES)
                machine.snapshot(f"{room}/{number}", durable=durable)

            yield discard if fate == "discard" else store

    return session


def lease(subject: Subject) -> Session:
    """Take an instance of an open view, run it, give it back."""

    @contextlib.contextmanager
    def session(_: int) -> Iterator[Operation]:
        with Machine.open(subject.snapshot()) as view:

            def operate(_: int) -> None:
                instance = view.fork()
                instance.run(max_cycles=CYCLES)
                instance.close()

            yield operate

    return session


def fork(subject: Subject) -> Session:
    """Let a live machine of a folder run, and fork it as it is then."""

    @contextlib.contextmanager
    def session(_: int) -> Iterator[Operation]:
        with subject.room() as room, _live(subject, "backing", room, None) as machine:

            def operate(_: int) -> None:
                machine.run(max_cycles=CYCLES)
                machine.fork().close()

            yield operate

    return session


def reflink_clone(subject: Subject) -> Session:
    """Clone the folder of a snapshot."""
    snapshot = subject.snapshot()

    @contextlib.contextmanager
    def session(_: int) -> Iterator[Operation]:
        with subject.room() as room:
            subject.settle()
            yield lambda number: clone_machine(snapshot, f"{room}/{number}")

    return session


def floor(subject: Subject) -> Session:
    """Do with plain system calls what storing a rolled machine takes of the file system."""
    snapshot = subject.snapshot()
    files = [path.name for path in snapshot.iterdir() if path.name != "machine.json"]
    new = {"new.delta": bytes(9 * 4096), "machine.json": bytes(900)}

    @contextlib.contextmanager
    def session(_: int) -> Iterator[Operation]:
        with subject.room() as room:

            def operate(number: int) -> None:
                path = f"{room}/.{number}.tmp"
                os.mkdir(path)
                folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
                for name in files:
                    os.link(f"{snapshot}/{name}", name, dst_dir_fd=folder)
                for name, data in new.items():
                    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=folder)
                    os.write(file, data)
                    os.close(file)
                os.close(folder)
                os.rename(path, f"{room}/{number}")

            subject.settle()
            yield operate

    return session


def _sessions() -> dict[str, Callable[[Subject], Session]]:
    makers = (
        ("load-config", load_config),
        ("load-snapshot", load_snapshot),
        ("roll-snapshot", roll_snapshot),
    )
    storages: tuple[Storage, ...] = ("memory", "backing")
    fates: tuple[Fate, ...] = ("discard", "store")
    found: dict[str, Callable[[Subject], Session]] = {
        f"{kind}/{storage}/{fate}": partial(make, storage=storage, fate=fate)
        for kind, make in makers
        for storage in storages
        for fate in fates
    }
    roll = partial(roll_snapshot, storage="backing", fate="store")
    found[f"{ROLL}-durable"] = partial(roll, durable=True)
    found |= {"lease": lease, "fork": fork, "reflink-clone": reflink_clone, "floor/publish": floor}
    for size, ram in LARGE.items():
        found |= {
            f"load-config/backing/store/{size}": partial(
                load_config, storage="backing", fate="store", ram=ram
            ),
            f"load-snapshot/memory/discard/{size}": partial(
                load_snapshot, storage="memory", fate="discard", ram=ram
            ),
            f"{ROLL}/{size}": partial(roll, ram=ram),
        }
    return found


SESSIONS: Final = _sessions()
