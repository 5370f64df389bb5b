"""A thousand questions to copies of a machine, while the machine itself goes on; here on trio.

Output:

    1000 questions, answers: {'100'}
    the machine went on meanwhile: alice has more than 100: True
    a question that takes too long: limit_exceeded, and it said: flood 0
"""

import anyio

from orchestra import Boot, InspectPool, Limits, MachineConfig, open_fleet
from orchestra.guest import LEDGER


async def main() -> None:
    """Ask and advance at once."""
    answers: set[str] = set()

    async def ask(pool: InspectPool) -> None:
        outcome = await pool.inspect(b"balance alice", wait=True)
        answers.add(outcome.reports[0].decode())

    async with (
        open_fleet(workers=2) as fleet,
        fleet.create(MachineConfig(boot=Boot(elf=LEDGER))) as machine,
    ):
        await fleet.run(machine)
        await fleet.advance(machine, b"mint alice 100")

        async with fleet.inspect_pool(machine, size=16) as pool:
            async with anyio.create_task_group() as group:
                for _ in range(1000):
                    group.start_soon(ask, pool)
                for _ in range(10):
                    await fleet.advance(machine, b"mint alice 1")
            print("1000 questions, answers:", answers)

            outcome = await fleet.inspect(machine, b"balance alice")
            more = int(outcome.reports[0]) > 100
            print("the machine went on meanwhile: alice has more than 100:", more)

            limits = Limits(max_cycles=1_000_000, max_output_bytes=7)
            outcome = await pool.inspect(b"flood 1000", limits)
            said = outcome.reports[0].decode()
            print(f"a question that takes too long: {outcome.status}, and it said: {said}")


anyio.run(main, backend="trio")
