"""Many machines of a booted Debian open in one process, each asked once, and what they take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import anyio

from orchestra.bench.loops import run_on
from orchestra.sched.fleet import open_fleet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestra.machine.config import MachineConfig

__all__ = ["DebianDensity", "boot_debian", "measure_debian"]

BOOT_CYCLES = 2_000_000_000
IN_FLIGHT = 64


class DebianDensity(NamedTuple):
    """Machines open, right answers, the most memory meanwhile, and how long the answers took."""

    machines: int
    answered: int
    memory_bytes: int
    seconds: float


def boot_debian(scratch: Path) -> Path:
    """Make the snapshot of a Debian whose agent waits for its first question; downloads once."""
    from orchestra.guest.debian import debian_config, fetch, make_initramfs

    files = fetch()
    config = debian_config(files, make_initramfs(files, scratch / "initramfs.cpio"))
    run_on("asyncio", _boot, config, scratch / "booted")
    return scratch / "booted"


async def _boot(config: MachineConfig, snapshot: Path) -> None:
    async with open_fleet(1) as fleet, fleet.create(config) as machine:
        await fleet.run(machine, max_cycles=BOOT_CYCLES)
        await fleet.snapshot(machine, snapshot)


def measure_debian(scratch: Path, machines: int, workers: int) -> DebianDensity:
    """Open so many in a new process and ask each of them."""
    snapshot = scratch / "booted"
    if not snapshot.exists():
        boot_debian(scratch)
    command = [sys.executable, "-m", __name__, str(snapshot), str(machines), str(workers)]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths}
    # in a group of its own: Ctrl-C is for us, and we kill it
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, env=environment, process_group=0
    )
    return DebianDensity(*json.loads(done.stdout))


async def _ask_each(snapshot: Path, count: int, workers: int) -> DebianDensity:
    answered = 0
    most = anyio.Semaphore(IN_FLIGHT)

    async with open_fleet(workers) as fleet, fleet.open(snapshot) as first:
        machines = [first, *(first.fork() for _ in range(count - 1))]

        async def ask(number: int) -> None:
            nonlocal answered
            async with most:
                outcome = await fleet.inspect(machines[number], b"echo $((%d + 1))" % number)
                answered += b"".join(outcome.reports).strip() == b"%d" % (number + 1)

        began = perf_counter()
        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(ask, number)
        seconds = perf_counter() - began
        memory = _peak_bytes()
        for machine in machines[1:]:
            machine.close()
    return DebianDensity(count, answered, memory, seconds)


def _peak_bytes() -> int:
    """Return the most that this process has had resident."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def main(arguments: Sequence[str]) -> None:
    """Print what was found as a JSON list."""
    snapshot, count, workers = arguments
    found = anyio.run(_ask_each, Path(snapshot), int(count), int(workers))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
