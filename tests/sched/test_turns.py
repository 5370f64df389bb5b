"""Turns come in order of arrival, whoever gives up, and end when they are closed."""

import anyio
import pytest

from orchestra.errors import MachineClosed
from orchestra.sched.turns import Turns

pytestmark = pytest.mark.anyio


async def settle():
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


async def test_turns_come_in_order_of_arrival():
    turns, order = Turns(), []

    async def work(name):
        await turns.take()
        order.append(name)
        await anyio.lowlevel.checkpoint()
        turns.leave()

    async with anyio.create_task_group() as group:
        await turns.take()
        for name in range(5):
            group.start_soon(work, name)
            await settle()
        assert turns.waiting == 5
        turns.leave()
    assert order == [0, 1, 2, 3, 4]


async def test_who_gives_up_hands_the_turn_on():
    turns, had = Turns(), []

    async def work(name):
        await turns.take()
        had.append(name)
        turns.leave()

    async with anyio.create_task_group() as group:
        await turns.take()
        scopes = [anyio.CancelScope() for _ in range(2)]

        async def give_up(scope):
            with scope:
                await work("never")

        for scope in scopes:
            group.start_soon(give_up, scope)
        group.start_soon(work, "last")
        await settle()
        scopes[1].cancel()  # while it waits
        await settle()
        turns.leave()
        scopes[0].cancel()  # while it is being woken
    assert had in (["last"], ["never", "last"])
    await turns.take()  # nobody has it


async def test_closed_turns_are_refused_to_who_waits_and_who_comes():
    turns, refused = Turns(), []

    async def work():
        try:
            await turns.take()
        except MachineClosed:
            refused.append(1)

    async with anyio.create_task_group() as group:
        await turns.take()
        for _ in range(3):
            group.start_soon(work)
        await settle()
        turns.close()
        turns.leave()
        await turns.wait_free()
        await settle()
    with pytest.raises(MachineClosed):
        await turns.take()
    assert len(refused) == 3
