"""How long slices last, in CPU: as planned, and no longer where a guest is slower than it was."""

import anyio
import pytest

from orchestra.bench.fleet_load import ENDLESS, ledger, running, spinners
from orchestra.sched.fleet import open_fleet
from orchestra.sched.plan import MOST_CYCLES, Planner, Share

pytestmark = pytest.mark.anyio

MACHINES = 60
ROUNDS = 8
SLICE_SECONDS = 0.005


@pytest.fixture
def slices(monkeypatch):
    """The CPU seconds of each slice, as workers tell them."""
    taken = []

    def note(share, cpu_seconds, seconds, note=Share.note):
        taken.append(cpu_seconds)
        note(share, cpu_seconds, seconds)

    monkeypatch.setattr(Share, "note", note)
    return taken


async def has(slices, count):
    while len(slices) < count:  # noqa: ASYNC110 - nobody tells of slices
        await anyio.sleep(0.01)


def part_longer(taken):
    """Return how many of them last longer than a slice may."""
    return sum(seconds > SLICE_SECONDS for seconds in taken) / len(taken)


@pytest.mark.parametrize("engine", ["interpreter", "auto"])
async def test_slices_are_as_long_as_they_should_be(slices, engine):
    with ledger() as template, spinners(template, MACHINES) as machines:
        for machine in machines:
            machine.engine = engine
        async with open_fleet(2) as fleet, running(fleet, machines):
            await has(slices, ROUNDS * MACHINES)
            full = sorted(slices[4 * MACHINES :])
    assert full[len(full) // 2] > SLICE_SECONDS / 2  # few changes
    assert part_longer(full) < 0.1  # those that the host delayed


async def test_a_guest_that_turns_slow_has_no_longer_a_slice(slices, monkeypatch):
    """Whatever the planner thinks: it would be 50 ms or more each time."""
    monkeypatch.setattr(Planner, "slice_cycles", lambda *_: MOST_CYCLES)
    with ledger() as template, spinners(template, 4) as machines:
        for machine in machines:
            machine.engine = "interpreter"
        async with open_fleet(2) as fleet, running(fleet, machines):
            await has(slices, 100)
    assert part_longer(slices) < 0.1


async def test_so_has_a_request(slices, monkeypatch):
    monkeypatch.setattr(Planner, "slice_cycles", lambda *_: MOST_CYCLES)
    with ledger() as machine:
        machine.engine = "interpreter"
        async with open_fleet(1) as fleet:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(fleet.advance, machine, ENDLESS)
                    await has(slices, 50)
                    scope.cancel()
    assert part_longer(slices) < 0.1
