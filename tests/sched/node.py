"""A node that is killed: feeds an application numbered inputs, and says which were answered.

python -m tests.sched.node DIR BACKEND DURABLE [POINT WHEN NTH]

With a POINT it kills itself before or after the nth call of that function.
"""

import os
import signal
import sys
from pathlib import Path

import anyio

from orchestra.machine.machine import Machine
from orchestra.sched.fleet import open_fleet
from orchestra.sched.history import Snapshots
from orchestra.sched.input_log import InputLog
from orchestra.sched.settings import ApplicationSettings
from tests.guests import ledger_config

POINTS = {
    "append": (InputLog, "append"),
    "hash": (Machine, "root_hash"),
    "fork": (Machine, "fork"),
    "store": (Snapshots, "store"),
    "prune": (Snapshots, "prune"),
    "forget": (InputLog, "forget"),
    "open": (Machine, "open_locked"),
}
SETTINGS = ApplicationSettings(snapshots=3, keep=2, keep_inputs=4)


def payload(number):
    """Make the input of that number: every fourth is refused."""
    return b"burn nobody 1" if number % 4 == 0 else b"mint a%d %d" % (number % 5, number)


def die_at(point, when, nth):
    owner, name = POINTS[point]
    function = getattr(owner, name)
    calls = 0

    def wrapper(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == nth and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **options)
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapper)


async def main(directory, durable):
    settings = SETTINGS.replace(durable=durable == "durable")
    async with (
        open_fleet(2) as fleet,
        fleet.application(directory, ledger_config(), settings) as app,
    ):
        sys.stdout.write(f"opened {app.inputs}\n")
        sys.stdout.flush()
        while True:
            number = app.inputs + 1
            outcome = await app.advance(payload(number), number=number)
            assert outcome.number == number
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    folder, backend, durability, *point = sys.argv[1:]
    if point:
        die_at(point[0], point[1], int(point[2]))
    anyio.run(main, Path(folder), durability, backend=backend)
