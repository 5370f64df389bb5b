"""A fleet under everything at once loses nothing and ends in the predicted states."""

import random

import anyio
import pytest

from orchestra.errors import AtCapacity
from orchestra.machine.request import Limits
from orchestra.sched.fleet import open_fleet
from tests.guests import ready_ledger
from tests.sched.soak import soak

pytestmark = pytest.mark.anyio

WRITERS, READERS, ROUNDS = 4, 12, 40


@pytest.mark.parametrize("seed", range(2))
async def test_random_calls_and_cancellations_leave_the_predicted_states(seed):
    dice = random.Random(seed)
    machines = [ready_ledger() for _ in range(WRITERS)]
    twins = [ready_ledger() for _ in range(WRITERS)]
    counts = {"cancelled": 0, "answered": 0, "refused": 0, "committed": 0}

    async def write(fleet, pool, machine, twin):
        """Do on the twin, alone and blocking, what was accepted here."""
        for _ in range(ROUNDS):
            payload = dice.choice([b"mint a 1", b"burn a 9", b"spin 100000", b"crash"])
            limits = Limits(max_cycles=dice.choice([None, 2000]))
            before = machine.cycle
            outcome = None
            with anyio.move_on_after(dice.choice([None, 0.0005, 0.002]) or float("inf")):
                outcome = await fleet.advance(machine, payload, limits)
            if outcome is None and machine.cycle == before:
                counts["cancelled"] += 1
            elif outcome is None or outcome.accepted:  # cancelled when it was committed already
                counts["committed"] += 1
                assert twin.advance(payload, limits).accepted
            if dice.random() < 0.2:
                await pool.publish(machine)

    async def read(pool):
        for _ in range(ROUNDS):
            query = dice.choice([b"balance a", b"total", b"page 3", b"spin 50000", b"halt 1"])
            with anyio.move_on_after(dice.choice([None, 0.001]) or float("inf")):
                try:
                    await pool.inspect(query, wait=dice.random() < 0.5)
                    counts["answered"] += 1
                except AtCapacity:
                    counts["refused"] += 1
                    await anyio.lowlevel.checkpoint()

    async with (
        open_fleet(2) as fleet,
        fleet.inspect_pool(machines[0], size=3, queue=4) as pool,
        anyio.create_task_group() as group,
    ):
        for machine, twin in zip(machines, twins, strict=True):
            group.start_soon(write, fleet, pool, machine, twin)
        for _ in range(READERS):
            group.start_soon(read, pool)
    assert counts["committed"] > 0
    assert counts["answered"] > 0
    for machine, twin in zip(machines, twins, strict=True):
        assert machine.digest() == twin.digest()
        machine.close()
        twin.close()


async def test_everything_at_once_leaks_nothing(tmp_path, anyio_backend_name):
    """The short form of `python -m tests.sched.soak 10 trio FOLDER`."""
    tally, _, _ = await soak(tmp_path, anyio_backend_name, 1.5, round_seconds=0.7, seed=3)
    assert tally.kills >= 2
    assert {"accepted", "rejected", "exception", "asked", "snapshot"} <= set(tally.counts)
