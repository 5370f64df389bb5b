"""Every structlog event is in the table, with its fields; a call hands its events on."""

import anyio
import pytest
import structlog
from structlog.testing import capture_logs

from orchestra.errors import AtCapacity, BackingFault
from orchestra.machine.request import Report
from orchestra.sched.events import EVENT_NAMES, Call
from orchestra.sched.fleet import open_fleet
from orchestra.sched.settings import ApplicationSettings
from orchestra.testing import BOOT, FOREVER, Break, FakeMachine, Halt, report
from tests.guests import ledger_config
from tests.observability import table

pytestmark = pytest.mark.anyio


def booted(**options):
    machine = FakeMachine(BOOT, **options)
    machine.run()
    return machine


async def live(fleet, path):
    """Have an application store snapshots, fail to, and pass over a bad one."""
    settings = ApplicationSettings(durable=False, snapshots=1)
    async with fleet.application(path / "app", ledger_config(), settings) as app:
        folder = path / "app" / "snapshots"
        await app.advance(b"mint alice 1")
        await app.snapshot()
        await app.advance(b"mint alice 1")
        folder.rename(path / "away")
        folder.write_bytes(b"in the way")
        await app.advance(b"mint alice 1")
        with pytest.raises(OSError, match="exists"):
            await app.snapshot()
        while app._keeper._has_turn:  # it was due as well, and is tried once more
            await anyio.lowlevel.checkpoint()
        folder.unlink()
        (path / "away").rename(folder)
    (max(folder.iterdir()) / "machine.json").write_bytes(b"{}")
    async with fleet.application(path / "app"):
        pass


async def test_every_event_is_in_the_table_and_carries_what_it_says(tmp_path):
    fault = BackingFault("app/top", 0, "no space")
    with capture_logs() as logs:
        async with open_fleet(1, logger=structlog.get_logger()) as fleet:
            machine = booted()
            await fleet.run(FakeMachine([Halt()]))
            await fleet.advance(machine, b"x")
            await fleet.fork(machine)
            async with fleet.create(ledger_config()):
                pass
            with pytest.raises(BackingFault):
                await fleet.run(FakeMachine([Break(fault)]))
            with anyio.move_on_after(0.001):
                await fleet.run(FakeMachine(FOREVER, pace="host"))
            await live(fleet, tmp_path)
            async with fleet.inspect_pool(machine, size=1, queue=0) as pool:
                await pool.inspect(b"x")
                await pool.publish(machine)
            endless = booted(guest=lambda *_: FOREVER, pace="host")
            async with (
                fleet.inspect_pool(endless, size=1, queue=0) as pool,
                anyio.create_task_group() as group,
            ):
                group.start_soon(pool.inspect, b"x")
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(AtCapacity):
                    await pool.inspect(b"x")
                group.cancel_scope.cancel()
    names = {log["event"] for log in logs}
    assert names == set(EVENT_NAMES)
    for log in logs:
        assert set(EVENT_NAMES[log["event"]]) <= set(log), log
        assert table("Events")[log["event"]][0] == log["log_level"]


async def test_without_a_logger_a_fleet_is_silent(capfd):
    async with open_fleet(1) as fleet:
        await fleet.run(FakeMachine([Halt()]))
    assert capfd.readouterr() == ("", "")


async def test_a_failed_outcome_is_logged_with_its_error():
    machine = booted(guest=lambda *_: (report(b"x"), Break(BackingFault("top", 0, "full"))))
    with capture_logs() as logs:
        async with open_fleet(1, logger=structlog.get_logger()) as fleet:
            await fleet.advance(machine, b"x")
    (log,) = [log for log in logs if log["event"] == "call.failed"]
    assert log["log_level"] == "warning"
    assert "full" in log["error"]


async def test_what_a_call_raises_is_raised_by_its_outcome():
    call = Call()

    async def work():
        raise BackingFault("top", 0, "full")

    await call.follow(work)
    assert [event async for event in call] == []
    with pytest.raises(BackingFault):
        await call.outcome()


async def test_an_iteration_that_starts_late_misses_nothing():
    machine = booted()
    async with open_fleet(1) as fleet, fleet.advancing(machine, b"x") as call:
        await call.outcome()
        heard = [event async for event in call]
    assert Report(1100, b"got x") in heard
    assert len(heard) == 3
