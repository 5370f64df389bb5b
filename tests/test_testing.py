"""The fake machine keeps the real one's contract; the fake clock moves when told."""

import threading

import pytest

from orchestra.errors import MachineBusy, MachineClosed
from orchestra.machine.stop import Interrupted, ReachedCycle, Yielded
from orchestra.testing import BOOT, FOREVER, FakeClock, FakeMachine
from tests.guests import ready_ledger


def fake():
    machine = FakeMachine(BOOT)
    machine.run()
    return machine


@pytest.fixture(params=[fake, ready_ledger], ids=["fake", "real"])
def machine(request):
    with request.param() as machine:
        yield machine


def test_at_a_manual_yield_it_stays_there(machine):
    stop = machine.run()
    assert isinstance(stop, Yielded)
    assert (stop.kind, stop.reason) == ("manual", 1)
    assert machine.run(max_cycles=5) == stop


def test_it_stops_at_exactly_the_cycle_asked_for(machine):
    machine.send_response(b"echo x")
    end = machine.cycle + 7
    assert machine.run(end) == ReachedCycle(end)
    assert machine.run(end) == ReachedCycle(end)
    assert machine.run(max_cycles=3) == ReachedCycle(end + 3)


def test_an_interrupt_before_a_run_ends_the_next_one_once(machine):
    machine.send_response(b"echo x")
    machine.interrupt()
    assert isinstance(machine.run(), Interrupted)
    assert not isinstance(machine.run(), Interrupted)


def test_a_rollback_returns_to_the_last_checkpoint_as_often_as_wanted(machine):
    machine.checkpoint()
    before = machine.digest()
    for _ in range(3):
        machine.send_response(b"echo x")
        machine.run()
        machine.rollback()
        assert machine.digest() == before


def test_a_fork_can_be_rolled_back_to_where_it_was_forked(machine):
    with machine.fork() as copy:
        assert copy.digest() == machine.digest()
        copy.send_response(b"echo x")
        copy.run()
        copy.rollback()
        assert copy.digest() == machine.digest()


def test_a_request_to_one_that_does_not_wait_is_busy(machine):
    machine.send_response(b"echo x")
    with pytest.raises(MachineBusy):
        machine.send_response(b"echo y")


def test_a_closed_machine_says_so_and_can_be_closed_again(machine):
    copy = machine.fork()
    copy.close()
    copy.close()
    with pytest.raises(MachineClosed):
        copy.run()


def test_a_fake_that_runs_refuses_a_second_thread():
    machine = FakeMachine(FOREVER, pace="host")
    thread = threading.Thread(target=machine.run)
    thread.start()
    while not machine.threads:
        pass
    with pytest.raises(MachineBusy):
        machine.fork()
    machine.interrupt()
    thread.join()


def test_work_moves_the_fake_clock_for_its_own_thread_only():
    clock = FakeClock()
    machine = FakeMachine(FOREVER, clock=clock, cycles_per_second=1000)
    thread = threading.Thread(target=machine.run, args=(500,))
    thread.start()
    thread.join()
    assert (clock.now(), clock.cpu()) == (0.5, 0.0)
    machine.run(750)
    assert (clock.now(), clock.cpu()) == (0.75, 0.25)


def test_an_interrupt_taken_back_ends_nothing():
    machine = FakeMachine(FOREVER)
    machine.interrupt()
    machine.clear_interrupt()
    assert machine.run(10) == ReachedCycle(10)
