"""Run shell scripts that nobody trusts: each in a fork of a booted Debian, with limits.

Output:

    echo hello                     accepted: hello
    yes                            limit_exceeded after ... cycles
    while :; do :; done            limit_exceeded after 100000000 cycles
    :(){ :|:& };:                  limit_exceeded after ... cycles
    rm -rf /bin                    accepted
    dd if=/dev/zero of=/dev/mem    ...
    poweroff -f                    halted
    exit 7                         rejected
    ls /bin | grep rm$             accepted: rm
    none of them left a trace: True
"""

import tempfile
from pathlib import Path

import anyio

from orchestra import Limits, Outcome, open_fleet
from orchestra.guest.debian import debian_config, fetch, make_initramfs

LIMITS = Limits(max_cycles=100_000_000, max_output_bytes=1000, max_seconds=30)
SCRIPTS = ["echo hello", "yes", "while :; do :; done", ":(){ :|:& };:", "rm -rf /bin"]
SCRIPTS += ["dd if=/dev/zero of=/dev/mem", "poweroff -f", "exit 7", "ls /bin | grep rm$"]


def describe(outcome: Outcome) -> str:
    """Say how a script ended, and what it said."""
    if outcome.status == "limit_exceeded":
        return f"limit_exceeded after {outcome.cycles} cycles"
    return ": ".join([outcome.status, *(data.decode().strip() for data in outcome.reports)])


async def main(folder: Path) -> None:
    """Run them all at once; none can see, stop or outlast another."""
    outcomes: dict[str, Outcome] = {}
    files = fetch()
    config = debian_config(files, make_initramfs(files, folder / "initramfs.cpio"))
    async with open_fleet() as fleet, fleet.create(config) as machine:
        await fleet.run(machine)  # boots, until its agent waits for a script
        before = machine.digest()
        async with fleet.inspect_pool(machine, size=4) as pool:

            async def run(script: str) -> None:
                outcomes[script] = await pool.inspect(script.encode(), LIMITS, wait=True)

            async with anyio.create_task_group() as group:
                for script in SCRIPTS:
                    group.start_soon(run, script)
        for script in SCRIPTS:
            print(f"{script:<30} {describe(outcomes[script])}")
        print("none of them left a trace:", machine.digest() == before)


with tempfile.TemporaryDirectory() as name:
    anyio.run(main, Path(name))
