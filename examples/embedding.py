"""A fleet inside somebody else's trio program: its nurseries, its cancellation, its deadlines.

Output:

    trio cancels a question after 50 ms: True
    meanwhile trio's own task ticked: True
    two fleets in one program: 30 and 12
    a question of another loop, from a thread that blocks: 42
"""

import time

import trio

import orchestra.sync
from orchestra import Boot, MachineConfig, open_fleet
from orchestra.guest import LEDGER

CONFIG = MachineConfig(boot=Boot(elf=LEDGER))
in_thread = trio.to_thread.run_sync


def blocking() -> str:
    """Use a fleet as a program does that knows nothing of loops."""
    with orchestra.sync.open_fleet(workers=1) as fleet, fleet.create(CONFIG) as machine:
        fleet.run(machine)
        return fleet.inspect(machine, b"echo 42").reports[0].decode()


async def main() -> None:
    """Use what trio offers."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await trio.sleep(0.001)
            ticks += 1

    async with open_fleet(workers=1) as fleet, fleet.create(CONFIG) as machine:
        await fleet.run(machine)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            began = time.perf_counter()
            with trio.move_on_after(0.05):
                await fleet.inspect(machine, b"spin 1000000000000")
            print("trio cancels a question after 50 ms:", time.perf_counter() - began < 1)
            print("meanwhile trio's own task ticked:", ticks > 5)
            nursery.cancel_scope.cancel()
        await fleet.advance(machine, b"mint alice 30")
        async with open_fleet(workers=1) as other, other.create(CONFIG) as second:
            await other.run(second)
            await other.advance(second, b"mint alice 12")
            first = (await fleet.inspect(machine, b"balance alice")).reports[0].decode()
            last = (await other.inspect(second, b"balance alice")).reports[0].decode()
            print("two fleets in one program:", first, "and", last)
    print("a question of another loop, from a thread that blocks:", await in_thread(blocking))


trio.run(main)
