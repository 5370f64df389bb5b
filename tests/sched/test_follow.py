"""What became of inputs is read from the log by number, once it is final, and as it comes."""

import anyio
import pytest

from orchestra.errors import LogFault, MachineClosed
from orchestra.sched.fleet import open_fleet
from orchestra.sched.input_log import ENOUGH_BYTES
from orchestra.sched.settings import ApplicationSettings
from tests.guests import ledger_config
from tests.sched.test_keeper import SlowDisk, entered

pytestmark = pytest.mark.anyio

CONFIG = ledger_config()
DURABLE = [ApplicationSettings(durable=durable) for durable in (False, True)]


def opened(fleet, path, settings=DURABLE[0]):
    return fleet.application(path / "app", CONFIG, settings)


async def take(app, after, most):
    """Follow until number `most`."""
    found = []
    async for payload, outcome in app.follow(after):
        found.append((payload, outcome))
        if outcome.number == most:
            break
    return found


@pytest.mark.parametrize("settings", DURABLE)
async def test_a_consumer_that_notes_where_it_was_misses_nothing_and_sees_nothing_twice(
    tmp_path, settings
):
    given, taken = [], []
    for part in range(3):
        async with open_fleet(2) as fleet, opened(fleet, tmp_path, settings) as app:

            async def consume(app=app, part=part):
                taken.extend(await take(app, len(taken), 20 * part + 17))

            async with anyio.create_task_group() as group:
                group.start_soon(consume)
                for n in range(20):
                    payload = b"burn carol 1" if n % 3 else b"mint alice %d" % n
                    given.append((payload, await app.advance(payload)))
    assert taken == given[:57]
    assert [outcome.number for _, outcome in taken] == list(range(1, 58))


async def test_many_may_follow_each_from_where_it_likes(tmp_path):
    found = {}
    async with open_fleet(2) as fleet, opened(fleet, tmp_path) as app:

        async def consume(after):
            found[after] = [outcome.number for _, outcome in await take(app, after, 30)]

        async with anyio.create_task_group() as group:
            for after in range(10):
                group.start_soon(consume, after)
                await app.advance(b"mint alice 1")
            for _ in range(20):
                await app.advance(b"mint alice 1")
    assert found == {after: list(range(after + 1, 31)) for after in range(10)}


async def test_what_a_power_failure_could_undo_is_not_told(tmp_path):
    told = []

    async def consume(app):
        told.extend(await take(app, 1, 2))

    async def ask(app):
        told.append(await app.outcome(2))

    async with open_fleet(2) as fleet, opened(fleet, tmp_path, DURABLE[1]) as app:
        await app.advance(b"mint alice 1")
        disk = SlowDisk(app._log)
        async with anyio.create_task_group() as group:
            group.start_soon(consume, app)
            group.start_soon(app.advance, b"mint alice 2")
            await entered(disk)
            group.start_soon(ask, app)
            await anyio.wait_all_tasks_blocked()
            assert (app.inputs, told) == (2, [])
            disk.going.set()
    assert len(told) == 2


async def test_a_disk_that_fails_ends_it(tmp_path):
    async def advance(app):
        with pytest.raises(LogFault):
            await app.advance(b"mint alice 1")

    async with open_fleet(2) as fleet, opened(fleet, tmp_path, DURABLE[1]) as app:
        disk = SlowDisk(app._log)
        disk.failing = True
        disk.going.set()
        async with anyio.create_task_group() as group:
            group.start_soon(advance, app)
            with pytest.raises(LogFault):
                await take(app, 0, 1)


async def test_what_a_killed_process_left_unsynced_is_synced_before_it_is_told(
    tmp_path, monkeypatch
):
    calls = []
    async with open_fleet(1) as fleet:
        async with opened(fleet, tmp_path) as app:
            await app.advance(b"mint alice 1")
        monkeypatch.setattr("orchestra.sched.input_log.InputLog.sync", lambda _: calls.append(1))
        async with opened(fleet, tmp_path):
            assert calls == []
        async with opened(fleet, tmp_path, DURABLE[1]):
            assert len(calls) == 1


async def test_it_ends_when_the_application_closes(tmp_path):
    ended = []

    async def consume(app):
        with pytest.raises(MachineClosed):
            await take(app, 0, 9)
        ended.append(True)

    async with open_fleet(1) as fleet, anyio.create_task_group() as group:
        async with opened(fleet, tmp_path) as app:
            group.start_soon(consume, app)
            await app.advance(b"mint alice 1")
            await anyio.wait_all_tasks_blocked()
        with pytest.raises(MachineClosed):
            await take(app, 0, 1)
        with pytest.raises(MachineClosed):
            await app.outcome(1)
    assert ended == [True]


async def test_it_begins_only_where_the_log_has_been(tmp_path):
    async with open_fleet(1) as fleet, opened(fleet, tmp_path) as app:
        await app.advance(b"mint alice 1")
        for after in (-1, 2):
            with pytest.raises(KeyError):
                app.follow(after)


async def test_long_outputs_are_read_a_part_at_a_time(tmp_path):
    async with open_fleet(1) as fleet, opened(fleet, tmp_path) as app:
        for _ in range(5):
            await app.advance(b"x" * (ENOUGH_BYTES // 2))
        assert len(app._log.outcomes(1, 5)) == 2
        assert len(await take(app, 0, 5)) == 5
