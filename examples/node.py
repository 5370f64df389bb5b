"""A toy rollup node: inputs in a log, outputs taken once each, and a crash that forgets nothing.

Output:

    3 inputs in the log, alice has 70
    the node is killed while it works on number 4
    another one: 3 inputs in the log, 2 of them applied again
    number 3 sent once more is answered from the log: True
    number 4 is accepted, alice has 60
    taken: 1 mint alice 100, 2 transfer alice bob 30, 3 burn alice 10
"""

import os
import signal
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import anyio

from orchestra import Application, Boot, MachineConfig, open_fleet
from orchestra.guest import LEDGER

INPUTS = [b"mint alice 100", b"transfer alice bob 30", b"burn carol 1", b"burn alice 10"]
CONFIG = MachineConfig(boot=Boot(elf=LEDGER))


async def balance(app: Application) -> int:
    """Ask what alice has."""
    return int((await app.inspect(b"balance alice")).reports[0])


async def consume(app: Application, folder: Path, until: int) -> list[str]:
    """Take each output once: with it goes the input's number, which says where to go on."""
    with closing(sqlite3.connect(folder / "taken.sqlite")) as taken:
        taken.execute("CREATE TABLE IF NOT EXISTS outputs (number INTEGER, output TEXT)")
        (after,) = taken.execute("SELECT coalesce(max(number), 0) FROM outputs").fetchone()
        async for _, outcome in app.follow(after):
            with taken:  # all outputs of an input, or none
                rows = [(outcome.number, data.decode()) for data in outcome.outputs]
                taken.executemany("INSERT INTO outputs VALUES (?, ?)", rows)
            if outcome.number == until:
                break
        return [output for (output,) in taken.execute("SELECT output FROM outputs")]


async def first_node(folder: Path) -> None:
    """Take three inputs, and die within the fourth."""
    async with open_fleet() as fleet, fleet.application(folder / "app", CONFIG) as app:
        async with anyio.create_task_group() as group:
            group.start_soon(consume, app, folder, 3)
            for number, payload in enumerate(INPUTS[:3], 1):
                await app.advance(payload, number=number)
        print(f"{app.inputs} inputs in the log, alice has {await balance(app)}")
        print("the node is killed while it works on number 4", flush=True)
        async with app.advancing(b"spin 1000000000000", number=4):
            os.kill(os.getpid(), signal.SIGKILL)


async def second_node(folder: Path) -> None:
    """Go on where the first one was."""
    async with open_fleet() as fleet, fleet.application(folder / "app") as app:
        again = app.statistics().replayed  # the third was refused
        print(f"another one: {app.inputs} inputs in the log, {again} of them applied again")
        same = await app.advance(INPUTS[2], number=3) == await app.outcome(3)
        print("number 3 sent once more is answered from the log:", same)
        outcome = await app.advance(INPUTS[3], number=4)
        print(f"number 4 is {outcome.status}, alice has {await balance(app)}")
        print("taken:", ", ".join(await consume(app, folder, 4)))


with tempfile.TemporaryDirectory() as name:
    if (child := os.fork()) == 0:
        anyio.run(first_node, Path(name))
    os.waitpid(child, 0)
    anyio.run(second_node, Path(name))
