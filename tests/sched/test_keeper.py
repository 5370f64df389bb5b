"""Inputs that wait for the disk share its syncs; nothing is seen or answered before its own."""

import asyncio
import threading
from functools import partial

import anyio
import pytest

from orchestra.errors import LogFault
from orchestra.sched.fleet import open_fleet
from orchestra.sched.history import Snapshots
from orchestra.sched.settings import ApplicationSettings
from tests.guests import ledger_config

pytestmark = pytest.mark.anyio

CONFIG = ledger_config()


class SlowDisk:
    """Instead of a log's `sync`: waits until it is let go, and counts; may fail."""

    def __init__(self, log):
        self.calls = 0
        self.going = threading.Event()
        self.entered = threading.Event()
        self.failing = False
        log.sync = self

    def __call__(self):
        self.calls += 1
        self.entered.set()
        assert self.going.wait(10)
        if self.failing:
            raise OSError(5, "input/output error")


async def entered(disk):
    await anyio.to_thread.run_sync(partial(disk.entered.wait, 10))
    disk.entered.clear()


async def until(condition):
    while not condition():
        await anyio.lowlevel.checkpoint()


async def balance(app):
    return (await app.inspect(b"balance alice")).reports


async def test_inputs_that_come_during_a_sync_share_the_next_one(tmp_path):
    answers = []

    async def give(app):
        answers.append((await app.advance(b"mint alice 1")).number)

    async with open_fleet(2) as fleet, fleet.application(tmp_path / "app", CONFIG) as app:
        await app.advance(b"mint alice 1")
        disk = SlowDisk(app._log)
        async with anyio.create_task_group() as group:
            group.start_soon(give, app)
            await entered(disk)
            for _ in range(20):
                group.start_soon(give, app)
            await until(lambda: app.inputs == 22)  # all are in the log,
            assert answers == []  # none is on the disk,
            assert await balance(app) == (b"1",)  # or seen
            disk.going.set()
        assert disk.calls == 2
        assert sorted(answers) == list(range(2, 23))
        assert await balance(app) == (b"22",)


async def test_a_disk_that_fails_is_told_to_all_who_wait_for_it_and_who_come_later(tmp_path):
    faults = []

    async def give(app):
        with pytest.raises(LogFault) as caught:
            await app.advance(b"mint alice 1")
        faults.append(str(caught.value))

    async with open_fleet(2) as fleet:
        async with fleet.application(tmp_path / "app", CONFIG) as app:
            await app.advance(b"mint alice 1")
            disk = SlowDisk(app._log)
            disk.failing = True
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(give, app)
                await entered(disk)
                disk.going.set()
            await give(app)
            assert await balance(app) == (b"1",)  # what may be lost was never shown
        async with fleet.application(tmp_path / "app") as app:
            assert await balance(app) == (b"%d" % app.inputs,)
    assert len(faults) == 4


async def test_who_gives_up_waiting_for_the_disk_has_given_an_input_nevertheless(tmp_path):
    async with open_fleet(2) as fleet:
        async with fleet.application(tmp_path / "app", CONFIG) as app:
            await app.advance(b"mint alice 1")
            disk = SlowDisk(app._log)
            async with anyio.create_task_group() as group:
                group.start_soon(app.advance, b"mint alice 1")
                await entered(disk)
                group.cancel_scope.cancel()
            disk.going.set()
            assert app.statistics().statuses == {"accepted": 2}
        async with fleet.application(tmp_path / "app") as app:
            assert await balance(app) == (b"2",)


async def test_a_snapshot_is_stored_after_the_inputs_in_it_are_on_the_disk(tmp_path):
    settings = ApplicationSettings(snapshots=2)
    async with (
        open_fleet(2) as fleet,
        fleet.application(tmp_path / "app", CONFIG, settings) as app,
    ):
        await app.advance(b"mint alice 1")
        disk = SlowDisk(app._log)
        async with anyio.create_task_group() as group:
            group.start_soon(app.advance, b"mint alice 1")
            await entered(disk)
            assert app.statistics().snapshot == 0
            disk.going.set()
        await until(lambda: app.statistics().snapshot == 2)


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_input_whose_task_asyncio_cancels_is_in_the_log_or_has_no_effect(
    tmp_path, durable, anyio_backend
):
    settings = ApplicationSettings(durable=durable, snapshots=5)
    async with open_fleet(2) as fleet:
        async with fleet.application(tmp_path / "app", CONFIG, settings) as app:
            await app.advance(b"mint alice 1")
            for n in range(60):
                task = asyncio.ensure_future(app.advance(b"mint alice 1"))
                await asyncio.sleep(n * 2e-5)
                task.cancel()
                await asyncio.wait([task])
                if n % 6 == 0:
                    await app.advance(b"mint alice 1")
                    assert await balance(app) == (b"%d" % app.inputs,)
        async with fleet.application(tmp_path / "app") as app:
            assert await balance(app) == (b"%d" % app.inputs,)


async def test_an_outcome_is_told_when_it_is_on_the_disk(tmp_path):
    told = []

    async def ask(app):
        told.append((await app.outcome(2)).number)

    async with open_fleet(2) as fleet, fleet.application(tmp_path / "app", CONFIG) as app:
        await app.advance(b"mint alice 1")
        disk = SlowDisk(app._log)
        async with anyio.create_task_group() as group:
            group.start_soon(app.advance, b"mint alice 1")
            await entered(disk)
            group.start_soon(ask, app)
            await anyio.wait_all_tasks_blocked()
            assert app.inputs == 2
            assert told == []
            disk.going.set()
        assert told == [2]


async def test_a_snapshot_of_a_durable_application_is_durable(tmp_path, monkeypatch):
    asked = []
    store = Snapshots.store

    def note(self, machine, number, *, durable):
        asked.append((number, durable))
        return store(self, machine, number, durable=durable)

    monkeypatch.setattr(Snapshots, "store", note)
    async with open_fleet(1) as fleet:
        for durable in (True, False):
            settings = ApplicationSettings(durable=durable)
            folder = tmp_path / str(durable)
            async with fleet.application(folder, CONFIG, settings) as app:
                await app.advance(b"mint alice 1")
                await app.snapshot()
    assert asked == [(0, True), (1, True), (0, False), (1, False)]
