"""The demo with Debian: boot it from its files, snapshot it, run commands in copies of it."""

from __future__ import annotations

import hashlib
import sys
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from orchestra.cli.image import make_debian
from orchestra.cli.output import human_count
from orchestra.cli.tally import DemoFailed
from orchestra.machine.stop import ReachedCycle, Yielded
from orchestra.sched.fleet import open_fleet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestra.cli.progress import Steps
    from orchestra.cli.tally import Tally
    from orchestra.machine.machine import Machine
    from orchestra.sched.fleet import Fleet
    from orchestra.sched.inspection import InspectPool

__all__ = ["linux_demo"]

BOOT_CYCLES = 293_000_000  # about: what the bar calls all of it
PART_CYCLES = 5_000_000  # between two looks at the bar
MOST_CYCLES = 10 * BOOT_CYCLES


async def linux_demo(
    directory: Path, tally: Tally, steps: Steps, inspects: int, mirror: str | None
) -> None:
    """Make the image, boot it, snapshot it, ask copies of it, ask from another process."""
    app, snapshot = directory / "debian", directory / "booted"
    with tally.operation("image").time():
        await anyio.to_thread.run_sync(partial(make_debian, app, steps, mirror=mirror))
    async with open_fleet(workers=tally.workers) as fleet:
        async with fleet.open(app, storage="backing") as machine:
            with tally.operation("boot").time():
                await _boot(fleet, machine, steps)
            with tally.operation("snapshot").time():
                await fleet.snapshot(machine, snapshot)
            tally.digest = await fleet.call(machine, machine.digest)
            await _serve(fleet, machine, snapshot, tally, steps, inspects)
        with steps.step("asking the snapshot from a second process"):
            await _ask_elsewhere(snapshot, tally)
        statistics = fleet.statistics()
        tally.cycles, tally.cpu_seconds = statistics.cycles, statistics.seconds
    tally.folders = {"machine": app, "snapshot": snapshot}


async def _boot(fleet: Fleet, machine: Machine, steps: Steps) -> None:
    with steps.step("booting Debian", BOOT_CYCLES) as update:
        while machine.cycle < MOST_CYCLES:
            stop = await fleet.run(machine, max_cycles=PART_CYCLES)
            update(machine.cycle, f"{human_count(machine.cycle)} cycles")
            if isinstance(stop, Yielded) and stop.kind == "manual":
                return
            if not isinstance(stop, ReachedCycle | Yielded):
                break
    printed = machine.console_output().decode(errors="replace").strip().splitlines()
    raise DemoFailed(f"Debian did not boot: {stop}; it printed last {printed[-1:]}")


async def _serve(
    fleet: Fleet, machine: Machine, snapshot: Path, tally: Tally, steps: Steps, inspects: int
) -> None:
    lines = 0

    async def write() -> None:
        nonlocal lines
        while True:
            with anyio.CancelScope(shield=True), tally.operation("advance").time():
                outcome = await fleet.advance(machine, b"echo a line >> log; wc -l < log")
            lines += 1
            found = outcome.status, b"".join(outcome.outputs)
            tally.check("wc -l", found, ("accepted", b"%d\n" % lines))
            await anyio.lowlevel.checkpoint()

    with steps.step(f"running {inspects} commands in copies of it", inspects) as update:
        async with (
            fleet.inspect_pool(snapshot, size=inspects, queue=0) as pool,
            anyio.create_task_group() as writers,
        ):
            writers.start_soon(write)
            async with anyio.create_task_group() as group:
                for number in range(inspects):
                    group.start_soon(_ask, pool, number, tally, update)
            writers.cancel_scope.cancel()
    outcome = await fleet.inspect(machine, b"wc -l < log")
    tally.check("wc -l", b"".join(outcome.reports), b"%d\n" % lines)


async def _ask(
    pool: InspectPool, number: int, tally: Tally, update: Callable[[float, str], None]
) -> None:
    """Let a real program compute what we can check; and none sees the others' file, or a log."""
    timings = tally.operation("inspect")
    command = f"cat log mine 2>&-; echo {number} > mine; sha256sum < mine; uname -m"
    digest = hashlib.sha256(b"%d\n" % number).hexdigest()
    with timings.time():
        outcome = await pool.inspect(command.encode())
    found = outcome.status, b"".join(outcome.reports).decode()
    tally.check(command, found, ("accepted", f"{digest}  -\nriscv64\n"))
    update(len(timings.each), "")


async def _ask_elsewhere(snapshot: Path, tally: Tally) -> None:
    question = "uname -s"
    command = [sys.executable, "-m", "orchestra.cli", "inspect", str(snapshot), question, "--json"]
    with tally.operation("second process").time():
        answer = await anyio.run_process(command, check=False)
    if answer.returncode:
        raise DemoFailed(f"the second process failed: {answer.stderr.decode(errors='replace')}")
    results = msgspec.json.decode(answer.stdout)["results"]
    tally.check(question, results[0]["reports"], ["Linux\n"])
