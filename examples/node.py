"""A toy rollup node: inputs in a log, questions meanwhile, and a crash that forgets nothing.

Output:

    3 inputs in the log, alice has 70
    the node is killed while it works on number 4
    another one: 3 inputs in the log, 2 of them applied again
    number 3 sent once more is answered from the log: True
    number 4 is accepted, alice has 60
    after input 1 alice had 100
"""

import os
import signal
import tempfile
from pathlib import Path

import anyio

from orchestra import Application, Boot, MachineConfig, open_fleet
from orchestra.guest import LEDGER

INPUTS = [b"mint alice 100", b"transfer alice bob 30", b"burn carol 1", b"burn alice 10"]
CONFIG = MachineConfig(boot=Boot(elf=LEDGER))


async def balance(app: Application) -> int:
    """Ask what alice has."""
    return int((await app.inspect(b"balance alice")).reports[0])


async def first_node(directory: Path) -> None:
    """Take three inputs, and die within the fourth."""
    async with open_fleet() as fleet, fleet.application(directory, CONFIG) as app:
        for number, payload in enumerate(INPUTS[:3], 1):
            await app.advance(payload, number=number)
        print(f"{app.inputs} inputs in the log, alice has {await balance(app)}")
        print("the node is killed while it works on number 4", flush=True)
        async with app.advancing(b"spin 1000000000000", number=4):
            os.kill(os.getpid(), signal.SIGKILL)


async def second_node(directory: Path) -> None:
    """Go on where the first one was."""
    async with open_fleet() as fleet, fleet.application(directory) as app:
        again = app.statistics().replayed  # the third was refused
        print(f"another one: {app.inputs} inputs in the log, {again} of them applied again")
        same = await app.advance(INPUTS[2], number=3) == await app.outcome(3)
        print("number 3 sent once more is answered from the log:", same)
        outcome = await app.advance(INPUTS[3], number=4)
        print(f"number 4 is {outcome.status}, alice has {await balance(app)}")
        async with app.at(1) as machine:
            print("after input 1 alice had", machine.inspect(b"balance alice").reports[0].decode())


with tempfile.TemporaryDirectory() as name:
    if (child := os.fork()) == 0:
        anyio.run(first_node, Path(name) / "app")
    os.waitpid(child, 0)
    anyio.run(second_node, Path(name) / "app")
