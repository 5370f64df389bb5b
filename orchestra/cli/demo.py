"""`orchestra demo`: a machine that runs from its files, and a fleet of copies that answers."""

import contextlib
import os
import tempfile
from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer
from anyio.abc import TaskStatus

from orchestra.cli.attend import SIGNALS, Stopped
from orchestra.cli.options import Json, examples
from orchestra.cli.output import emit
from orchestra.cli.progress import Steps
from orchestra.cli.tally import Tally

__all__ = ["EXAMPLES", "demo"]

EXAMPLES = examples(
    "orchestra demo                        a small ledger, in a temporary folder",
    "orchestra demo --dir here             keep the machine and its snapshot in ./here",
    "orchestra demo --linux                the same with Debian, downloaded through apt once",
    "orchestra demo --inspects 10000 --loop trio --json",
)
LEDGER_INSPECTS = 1000
LINUX_INSPECTS = 100


class Backend(StrEnum):
    """Which event loop."""

    ASYNCIO = "asyncio"
    TRIO = "trio"


def demo(
    linux: Annotated[bool, typer.Option("--linux", help="Boot Debian, and ask that.")] = False,
    inspects: Annotated[
        int | None,
        typer.Option(
            help=f"How many questions (default: {LEDGER_INSPECTS}, Debian {LINUX_INSPECTS}).",
            metavar="N",
            min=1,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Threads that run machines (default: one per CPU).", metavar="N", min=1),
    ] = None,
    loop: Annotated[Backend, typer.Option(help="Whose event loop.")] = Backend.ASYNCIO,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", help="Work in this folder, and leave it.", metavar="DIR"),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(help="A mirror of Debian (default: that of the host's apt).", metavar="URI"),
    ] = None,
    json: Json = False,
) -> None:
    """See all of it at work, in a few seconds; every answer of the guest is checked.

    Makes a machine that runs from its own files, gives it inputs, snapshots it, and lets a fleet of
    copies of the snapshot answer questions while the machine goes on. Then it prints a table.

    With --linux the machine is a Debian that boots first, the questions are shell commands, each in
    a copy of its own, and a second process asks the snapshot as well.
    """
    with contextlib.ExitStack() as stack:
        if directory is None:
            temporary = tempfile.TemporaryDirectory(prefix="orchestra-demo-")
            directory = Path(stack.enter_context(temporary))
        else:
            directory.mkdir(parents=True, exist_ok=True)
        count = inspects or (LINUX_INSPECTS if linux else LEDGER_INSPECTS)
        tally = Tally("Debian" if linux else "ledger", loop.value, workers or os.cpu_count() or 1)
        steps = stack.enter_context(Steps())
        _run(directory, tally, steps, linux=linux, count=count, mirror=mirror)
        tally.finish()
    if json:
        emit(tally.as_json())
    else:
        tally.print()


def _run(
    directory: Path, tally: Tally, steps: Steps, *, linux: bool, count: int, mirror: str | None
) -> None:
    if linux:
        from orchestra.cli.demo_linux import linux_demo

        work = partial(linux_demo, directory, tally, steps, count, mirror)
    else:
        from orchestra.cli.demo_ledger import ledger_demo

        work = partial(ledger_demo, directory, tally, steps, count)
    anyio.run(_until_signal, work, backend=tally.backend)


async def _until_signal(work: Callable[[], Awaitable[None]]) -> None:
    """Do the work; a signal cancels it, which closes and seals all machines, and is Stopped."""
    caught: list[int] = []

    async def watch(*, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                caught.append(number)
                group.cancel_scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            await group.start(watch)
            await work()
            group.cancel_scope.cancel()
    finally:
        if caught:
            raise Stopped(caught[0])
