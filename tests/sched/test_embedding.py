"""A fleet is a guest in somebody else's program: it leaves that as it was."""

import anyio
import pytest

from orchestra.sched.fleet import open_fleet
from tests.guests import ready_ledger
from tests.processes import run_python

pytestmark = pytest.mark.anyio

PROGRAM = """
import asyncio, atexit, os, signal, sys, threading

def looks():
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    names = [thread.name for thread in threading.enumerate()]  # the loops' own end when idle
    threads = [name for name in names if not name.startswith(("Trio", "AnyIO"))]
    return handlers, atexit._ncallbacks(), threads, dict(os.environ), sys.excepthook

import anyio, trio  # their own habits are not ours
from orchestra import Boot, MachineConfig, open_fleet
from orchestra.guest import LEDGER
before = looks()

async def main():
    async with open_fleet(2) as fleet, fleet.create(MachineConfig(boot=Boot(elf=LEDGER))) as app:
        assert {n: signal.getsignal(n) for n in before[0] if n != signal.SIGINT} == {
            n: handler for n, handler in before[0].items() if n != signal.SIGINT}  # the loop's own
        await fleet.run(app)
        async with fleet.inspect_pool(app) as pool:
            assert (await pool.inspect(b"total")).reports == (b"0",)

anyio.run(main, backend=sys.argv[1])
after = looks()
for old, new in zip(before, after):
    assert old == new, (old, new)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_signals_exits_threads_and_environment_stay_as_they_were(backend):
    run_python(PROGRAM, backend)


async def test_fleets_of_one_program_do_not_know_each_other():
    async with open_fleet(1) as outer:
        async with open_fleet(2) as inner:
            with ready_ledger() as one, ready_ledger() as other:
                async with anyio.create_task_group() as group:
                    group.start_soon(outer.advance, one, b"mint alice 1")
                    group.start_soon(inner.advance, other, b"mint alice 2")
                assert one.digest() != other.digest()
                assert (outer.statistics().calls, inner.statistics().calls) == (1, 1)
        assert outer.statistics().workers == 1
        with ready_ledger() as again:
            assert (await outer.advance(again, b"mint alice 3")).accepted
