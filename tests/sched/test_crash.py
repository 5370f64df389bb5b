"""A node that is killed at any moment resumes exactly where it was."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra.sched.fleet import open_fleet
from tests.guests import ready_ledger
from tests.sched.node import SETTINGS, payload

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]


def start(directory, backend, *point, durable="quick"):
    command = [sys.executable, "-m", "tests.sched.node", str(directory), backend, durable, *point]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def last_answered(output):
    """The number of the last input that the node said was answered, and where it began."""
    lines = output.splitlines()
    if not lines:
        return None
    began = int(lines[0].removeprefix("opened "))
    numbers = [int(line) for line in lines[1:]]
    assert numbers == list(range(began + 1, began + 1 + len(numbers)))
    return began, began + len(numbers)


async def check(directory, answered):
    """Whether the folder stands behind an input answered last, or the one in work then."""
    async with (
        open_fleet(1) as fleet,
        fleet.application(directory, settings=SETTINGS.replace(durable=False)) as app,
    ):
        assert answered <= app.inputs <= answered + 1
        with ready_ledger() as twin:
            for number in range(1, app.inputs + 1):
                twin.advance(payload(number))
            assert app.cycle == twin.cycle
            assert app.inputs == 0 or app.state_hash == twin.root_hash()
            assert app._writer.machine.digest() == twin.digest()
        return app.inputs


async def test_a_node_killed_at_random_moments_resumes_where_it_was(tmp_path, anyio_backend_name):
    dice = random.Random(8)
    answered = 0
    for _ in range(6):
        node = start(tmp_path / "app", anyio_backend_name)
        first = node.stdout.readline()
        for _ in range(dice.randrange(60)):
            first += node.stdout.readline()
        node.send_signal(signal.SIGKILL)
        began, last = last_answered(first + node.communicate()[0])
        assert answered <= began <= answered + 1
        answered = last
    assert await check(tmp_path / "app", answered) > 20


POINTS = [
    ("append", "before", "5"),
    ("append", "after", "5"),
    ("hash", "before", "4"),
    ("fork", "before", "3"),
    ("fork", "after", "3"),
    ("store", "before", "2"),
    ("store", "after", "2"),
    ("prune", "after", "4"),
    ("forget", "before", "2"),
    ("forget", "after", "2"),
    ("store", "before", "1"),  # of the genesis
    ("store", "after", "1"),
    ("open", "after", "1"),
]


@pytest.mark.parametrize("point", POINTS, ids="-".join)
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_node_that_dies_at_the_worst_moment_resumes_where_it_was(
    tmp_path, anyio_backend, point
):
    node = start(tmp_path / "app", anyio_backend, *point)
    answered = last_answered(node.communicate(timeout=60)[0])
    assert node.returncode == -signal.SIGKILL
    if answered is None:  # it died before it had a state: another makes it
        node = start(tmp_path / "app", anyio_backend, "append", "after", "2")
        answered = last_answered(node.communicate(timeout=60)[0])
    await check(tmp_path / "app", answered[1])


async def test_a_durable_node_does_the_same(tmp_path):
    node = start(tmp_path / "app", "asyncio", "append", "after", "9", durable="durable")
    _, answered = last_answered(node.communicate(timeout=60)[0])
    assert answered == 8
    assert await check(tmp_path / "app", answered) == 9
