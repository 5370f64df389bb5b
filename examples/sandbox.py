"""Run code that nobody trusts: each in a fork of its own, with limits it cannot pass.

Output:

    echo hello                accepted: hello
    flood 1000000             limit_exceeded: flood 0 ... flood 4
    spin 1000000000000        limit_exceeded after exactly 5000000 cycles
    crash                     exception: trap: mcause ...
    halt 7                    halted
    echo still here           accepted: still here
    none of them left a trace: True
"""

import anyio

from orchestra import Boot, Limits, MachineConfig, Outcome, open_fleet
from orchestra.guest import LEDGER

PROGRAMS = "echo hello", "flood 1000000", "spin 1000000000000", "crash", "halt 7", "echo still here"
LIMITS = Limits(max_cycles=5_000_000, max_output_bytes=40, max_seconds=5)


def describe(outcome: Outcome) -> str:
    """Say how a program ended, and what it said."""
    said = [data.decode() for data in outcome.reports]
    if outcome.exception is not None:
        return f"exception: {outcome.exception.decode()}"
    if said:
        return f"{outcome.status}: {' ... '.join(said[:: max(1, len(said) - 1)])}"
    if outcome.status == "limit_exceeded":
        return f"limit_exceeded after exactly {outcome.cycles} cycles"
    return outcome.status


async def main() -> None:
    """Run them all at once; none can see, stop or outlast another."""
    outcomes: dict[str, Outcome] = {}
    config = MachineConfig(boot=Boot(elf=LEDGER))
    async with open_fleet() as fleet, fleet.create(config) as machine:
        await fleet.run(machine)
        before = machine.digest()

        async def run(program: str) -> None:
            outcomes[program] = await pool.inspect(program.encode(), LIMITS, wait=True)

        async with (
            fleet.inspect_pool(machine, size=4) as pool,
            anyio.create_task_group() as group,
        ):
            for program in PROGRAMS:
                group.start_soon(run, program)
        for program in PROGRAMS:
            print(f"{program:<25} {describe(outcomes[program])}")
        print("none of them left a trace:", machine.digest() == before)


anyio.run(main)
