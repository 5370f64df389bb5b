"""A log that keeps the newest inputs only: what is left is whole, what is gone is said to be."""

import pytest

from orchestra.errors import InputConflict
from orchestra.sched.fleet import open_fleet
from orchestra.sched.history import Snapshots
from orchestra.sched.input_log import InputLog
from orchestra.sched.settings import ApplicationSettings
from tests.guests import ledger_config, ready_ledger
from tests.sched.node import payload
from tests.sched.test_application import until
from tests.sched.test_input_log import outcome

pytestmark = pytest.mark.anyio
SETTINGS = ApplicationSettings(durable=False, snapshots=3, keep=2, keep_inputs=8)
LAST = 40


async def filled(app):
    """Give inputs, some of which are rejected, until the last snapshot is stored."""
    for number in range(1, LAST + 1):
        await app.advance(payload(number))
    await until(lambda: app.statistics().snapshot == 39)


def twin_after(number):
    twin = ready_ledger()
    for earlier in range(1, number + 1):
        twin.advance(payload(earlier))
    return twin


async def check(app):
    """Whether all is there from some input on, and nothing before it."""
    assert (app.first_input, app.inputs) == (32, LAST)
    assert app._history.snapshots.numbers() == [0, 36, 39]  # the first is in use
    for number in (0, 1, 31, 35):
        with pytest.raises(KeyError):
            async with app.at(number):
                pass
    with pytest.raises(KeyError):
        await app.outcome(31)
    with pytest.raises(KeyError):
        app.follow(30)
    assert (await anext(app.follow(31)))[0] == payload(32)
    for number in range(36, LAST + 1):
        async with app.at(number) as machine:
            assert machine.root_hash() == twin_after(number).root_hash()
    with pytest.raises(InputConflict, match="31 was taken, and is no longer in the log"):
        await app.advance(payload(31), number=31)
    assert (await app.advance(payload(32), number=32)).number == 32  # which it knows
    assert app.inputs == LAST


async def test_inputs_that_no_snapshot_needs_are_forgotten(tmp_path):
    async with open_fleet(2) as fleet:
        async with fleet.application(tmp_path, ledger_config(), SETTINGS) as app:
            await filled(app)
            await check(app)
        async with fleet.application(tmp_path, ledger_config(), SETTINGS) as app:
            await check(app)
            assert app._writer.machine.digest() == twin_after(LAST).digest()
            for number in (LAST + 1, LAST + 2):
                await app.advance(payload(number))
            await until(lambda: app.statistics().snapshot == LAST + 2)
            assert app.first_input == 35
            assert app._history.snapshots.numbers() == [39, 42]


async def test_what_a_snapshot_needs_stays(tmp_path):
    settings = SETTINGS.replace(keep=4, keep_inputs=1)
    async with (
        open_fleet(2) as fleet,
        fleet.application(tmp_path, ledger_config(), settings) as app,
    ):
        await filled(app)
        assert app.first_input == 30
        assert app._history.snapshots.numbers() == [0, 30, 33, 36, 39]


async def test_a_snapshot_before_the_first_input_forgets_nothing(tmp_path):
    async with (
        open_fleet(2) as fleet,
        fleet.application(tmp_path, ledger_config(), SETTINGS) as app,
    ):
        await app.snapshot()
        assert (app.first_input, app.inputs) == (1, 0)
        assert (await app.advance(payload(1))).number == 1


async def test_all_stays_unless_asked_otherwise(tmp_path):
    async with (
        open_fleet(2) as fleet,
        fleet.application(tmp_path, ledger_config(), SETTINGS.replace(keep_inputs="all")) as app,
    ):
        await filled(app)
        assert app.first_input == 1
        async with app.at(2) as machine:
            assert machine.digest() == twin_after(2).digest()


async def test_a_node_that_died_before_the_first_snapshot_went_does_not_replay_from_it(
    tmp_path, monkeypatch
):
    async with open_fleet(2) as fleet:
        with monkeypatch.context() as patch:
            patch.setattr(Snapshots, "remove", lambda *_: None)  # those that should go stay, too
            async with fleet.application(tmp_path, ledger_config(), SETTINGS) as app:
                await app.advance(payload(1))
                await filled(app)
                app._log.forget(32)
        async with fleet.application(tmp_path, settings=SETTINGS) as app:
            assert app._history.snapshots.numbers()[0] == 0
            with pytest.raises(KeyError):
                async with app.at(2):
                    pass
            async with app.at(36) as machine:
                assert machine.root_hash() == (await app.outcome(36)).state_hash


def test_a_log_takes_the_place_of_what_it_forgot(tmp_path):
    log = InputLog(tmp_path / "inputs.sqlite")
    for number in range(1, 301):
        log.append(bytes(10_000), outcome(number, reports=(bytes(5000),)))
        log.forget(number - 20)
    log.close()
    assert log.path.stat().st_size < 1 << 20
    log = InputLog(log.path)
    assert (log.first, log.last) == (280, 300)
    log.close()


def test_the_last_input_is_never_forgotten_nor_too_many_at_once(tmp_path):
    log = InputLog(tmp_path / "inputs.sqlite")
    log.forget(5)
    assert (log.first, log.last) == (1, 0)
    for number in range(1, 5101):
        log.append(b"", outcome(number))
    log.forget(9999)
    assert log.first == 5001
    log.forget(9999)
    assert (log.first, log.last, len(log.entries(1, 9999))) == (5100, 5100, 1)
    log.close()


async def test_who_follows_too_slowly_is_told_what_was_missed(tmp_path):
    async with (
        open_fleet(2) as fleet,
        fleet.application(tmp_path, ledger_config(), SETTINGS) as app,
    ):
        following = app.follow()
        await filled(app)
        with pytest.raises(InputConflict, match="1 was taken, and is no longer in the log"):
            await anext(following)
