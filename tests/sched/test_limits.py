"""Room lets in as many as fit, in order."""

from functools import partial

import anyio
import pytest

from orchestra.errors import AtCapacity, MachineClosed
from orchestra.sched.limits import Room

pytestmark = pytest.mark.anyio


def test_as_many_come_in_as_work_and_queue():
    room = Room(2, 1)
    for _ in range(3):
        room.enter_now()
    with pytest.raises(AtCapacity, match=r"2 inspect\(s\) at work and 1 that wait"):
        room.enter_now()
    room.leave()
    room.enter_now()


async def test_those_who_wait_are_let_in_in_order():
    room, order = Room(1, 0), []
    room.enter_now()

    async def visit(n):
        await room.enter()
        order.append(n)
        room.leave()

    async with anyio.create_task_group() as group:
        for n in range(5):
            group.start_soon(visit, n)
            await anyio.wait_all_tasks_blocked()
        assert room.outside == 5
        with pytest.raises(AtCapacity):
            room.enter_now()
        room.leave()
    assert order == list(range(5))
    assert room.inside == 0


async def test_who_is_cancelled_while_waiting_leaves_no_gap():
    room = Room(1, 0)
    room.enter_now()
    with anyio.move_on_after(0):
        await room.enter()
    assert room.outside == 0
    room.leave()
    room.enter_now()


async def test_who_is_cancelled_when_just_let_in_passes_the_place_on():
    room = Room(1, 0)
    room.enter_now()
    async with anyio.create_task_group() as group:
        group.start_soon(room.enter)
        await anyio.wait_all_tasks_blocked()
        room.leave()
        group.cancel_scope.cancel()
    assert room.inside in (0, 1)  # whether it was let in before or after, the place is not lost
    if room.inside:
        room.leave()
    room.enter_now()


async def test_closing_refuses_those_who_wait_and_those_who_come():
    room, refused = Room(1, 0), []
    room.enter_now()

    async def visit():
        with pytest.raises(MachineClosed):
            await room.enter()
        refused.append(True)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(partial(visit))
        await anyio.wait_all_tasks_blocked()
        room.close()
    assert len(refused) == 3
    with pytest.raises(MachineClosed):
        room.enter_now()
    room.leave()
    assert room.inside == 0
