"""A program that blocks has the same fleet, from any of its threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestra.errors import InputConflict, MachineClosed
from orchestra.machine import Halted, Output
from orchestra.sched.settings import ApplicationSettings
from orchestra.sync import open_fleet
from tests.guests import HELLO, ledger_config

QUICK = ApplicationSettings(durable=False)


@pytest.fixture(params=["asyncio", "trio"])
def fleet(request):
    with open_fleet(2, backend=request.param) as fleet:
        yield fleet


def test_a_machine_is_run_advanced_inspected_and_stored(fleet, tmp_path):
    with fleet.create(ledger_config()) as machine:
        fleet.run(machine)
        assert fleet.advance(machine, b"mint alice 5").accepted
        assert fleet.inspect(machine, b"balance alice").reports == (b"5",)
        fleet.snapshot(machine, tmp_path / "one")
    with fleet.open(tmp_path / "one") as again:
        assert fleet.inspect(again, b"balance alice").reports == (b"5",)
    assert fleet.statistics().machines == 0


def test_a_program_runs_to_its_end(fleet):
    from orchestra.machine import Boot, MachineConfig

    with fleet.create(MachineConfig(boot=Boot(elf=HELLO))) as machine:
        assert isinstance(fleet.run(machine), Halted)


def test_many_threads_ask_one_pool(fleet):
    with fleet.create(ledger_config()) as machine:
        fleet.run(machine)
        fleet.advance(machine, b"mint alice 5")
        with fleet.inspect_pool(machine, size=2) as pool, ThreadPoolExecutor(8) as threads:
            outcomes = list(threads.map(lambda _: pool.inspect(b"balance alice"), range(100)))
            assert {outcome.reports for outcome in outcomes} == {(b"5",)}
            fleet.advance(machine, b"mint alice 1")
            pool.publish(machine)
            assert pool.inspect(b"balance alice").reports == (b"6",)
            assert pool.statistics().ended == 101
            kinds = [row.kind for row in fleet.statistics(busiest=9).busiest]
            assert sorted(kinds) == ["machine", "pool"]
            with pool.inspecting(b"flood 3") as call:
                assert [event.data for event in call] == [b"flood 0", b"flood 1", b"flood 2"]
                assert call.outcome().accepted


def test_an_application_is_kept(fleet, tmp_path):
    with fleet.application(tmp_path / "app", ledger_config(), QUICK) as app:
        assert app.advance(b"mint alice 1", number=1).number == 1
        with app.advancing(b"mint alice 2") as call:
            assert [type(event) for event in call] == [Output]
            assert call.outcome().accepted
        told = app.follow(1)
        assert [next(told)[0] for _ in range(app.inputs - 1)] == [b"mint alice 2"]
        with pytest.raises(InputConflict):
            app.advance(b"mint alice 1", number=9)
        assert app.inspect(b"balance alice").reports == (b"3",)
        assert app.outcome(2).outputs == (b"2 mint alice 2",)
        with app.at(1) as machine:
            assert machine.inspect(b"balance alice").reports == (b"1",)
        assert app.snapshot().is_dir()
        assert app.statistics().snapshot == app.inputs == 2
        assert len(app.state_hash) == 64
    with fleet.application(tmp_path / "app") as app:
        assert app.inputs == 2
        assert app.statistics().replayed == 0


def test_errors_come_out_as_they_are():
    with pytest.raises(ZeroDivisionError), open_fleet(1):
        raise ZeroDivisionError


def test_no_thread_stays_behind():
    before = set(threading.enumerate())
    with open_fleet(2) as fleet, fleet.create(ledger_config()) as machine:
        fleet.run(machine)
    for thread in set(threading.enumerate()) - before:  # told to end, perhaps not there yet
        thread.join(10)
    assert set(threading.enumerate()) <= before
    with pytest.raises((MachineClosed, RuntimeError)):
        fleet.run(machine)
