"""Go back to any input, any cycle in it, any instruction, and arrive at the same state again.

Output:

    after input 1 alice has 100
    after input 2 alice has 70
    after input 3 alice has 60
    input 2 was b'transfer alice bob 30'; half of it was done at cycle ...
    core   0: 3 0x0000000080... (0x...)...
    from there to its end it comes to the state that the log says: True
"""

import tempfile
from pathlib import Path

import anyio

from orchestra import ApplicationSettings, Boot, MachineConfig, open_fleet
from orchestra.guest import LEDGER

INPUTS = [b"mint alice 100", b"transfer alice bob 30", b"burn alice 10"]
CONFIG = MachineConfig(boot=Boot(elf=LEDGER))


async def main(directory: Path) -> None:
    """Give inputs, then look at what was between them."""
    settings = ApplicationSettings(snapshots=2)  # what lies between is done again
    async with open_fleet() as fleet, fleet.application(directory, CONFIG, settings) as app:
        for payload in INPUTS:
            await app.advance(payload)

        for number in range(1, app.inputs + 1):
            async with app.at(number) as machine:
                outcome = await fleet.inspect(machine, b"balance alice")
                print(f"after input {number} alice has {outcome.reports[0].decode()}")

        payload, logged = await anext(app.follow(1))
        async with app.at(1) as machine:
            machine.send_response(payload)  # the input, and the machine stands before it
            stop = await fleet.run(machine, max_cycles=logged.cycles // 2)
            print(f"input 2 was {payload!r}; half of it was done at cycle {stop.cycle}")
            for line in machine.trace(max_cycles=1):
                print(line)
            while machine.cycle < logged.cycle:
                await fleet.run(machine)  # it stops at what the guest says, too
            same = machine.root_hash() == logged.state_hash
            print("from there to its end it comes to the state that the log says:", same)


with tempfile.TemporaryDirectory() as name:
    anyio.run(main, Path(name) / "app")
