"""Map-reduce over forks of one booted Debian: each counts a part, and none boots again.

Output:

    booted once, Debian answers: Linux
    8 parts counted in forks: 1 to 1000 has 168 primes
    a fork's files are its own: 8 answers, none in the snapshot: True
"""

import tempfile
from pathlib import Path

import anyio

from orchestra import InspectPool, Machine, open_fleet
from orchestra.guest.debian import debian_config, fetch, make_initramfs

PRIMES = """n={0}; k=0; while [ $n -lt {1} ]; do
p=1; d=2; while [ $((d * d)) -le $n ]; do [ $((n % d)) -eq 0 ] && p=0 && break; d=$((d + 1)); done
[ $n -gt 1 ] && k=$((k + p)); n=$((n + 1)); done; echo $k"""


def boot(folder: Path) -> Path:
    """Boot Debian once and keep the moment when its agent waits for a command."""
    files = fetch()
    config = debian_config(files, make_initramfs(files, folder / "initramfs.cpio"))
    with Machine.create(config) as machine:
        machine.run(max_cycles=2_000_000_000)
        machine.snapshot(folder / "booted")
    return folder / "booted"


async def ask(pool: InspectPool, command: str) -> str:
    """Run a command in a fork and return what it printed."""
    outcome = await pool.inspect(command.encode(), wait=True)
    return b"".join(outcome.reports).decode().strip()


async def main(booted: Path) -> None:
    """Map, then reduce."""
    counts: dict[int, int] = {}
    marks: set[str] = set()
    async with open_fleet() as fleet, fleet.inspect_pool(booted, size=8) as pool:
        print("booted once, Debian answers:", await ask(pool, "uname"))

        async def count(part: int) -> None:
            bounds = 1 + 125 * part, 1 + 125 * (part + 1)
            counts[part] = int(await ask(pool, PRIMES.format(*bounds)))
            marks.add(await ask(pool, f"echo part {part} >> /tmp/mark; cat /tmp/mark"))

        async with anyio.create_task_group() as group:
            for part in range(8):
                group.start_soon(count, part)
        print(f"8 parts counted in forks: 1 to 1000 has {sum(counts.values())} primes")
        clean = not await ask(pool, "cat /tmp/mark 2>/dev/null; true")
        print(f"a fork's files are its own: {len(marks)} answers, none in the snapshot: {clean}")


with tempfile.TemporaryDirectory() as name:
    anyio.run(main, boot(Path(name)))
