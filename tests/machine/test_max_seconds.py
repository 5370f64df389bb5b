"""A run that ends when its thread has used so much CPU, and goes on as if it had not."""

import time

import pytest

from orchestra.machine.request import Limits, Request
from orchestra.machine.stop import ReachedCycle, Yielded
from tests.guests import ready_ledger

ENGINES = ("interpreter", "translator")
SPIN, SPIN_CYCLES = b"spin 10000000", 20_000_000
SECONDS = 0.001
ENDLESS_CYCLES = 1 << 40


@pytest.fixture
def spinning():
    with ready_ledger() as machine:
        machine.send_response(SPIN)
        yield machine


def run_in_parts(machine):
    parts = 0
    while isinstance(stop := machine.run(max_seconds=SECONDS), ReachedCycle):
        parts += 1
    assert isinstance(stop, Yielded)
    return parts


@pytest.mark.parametrize("engine", ENGINES)
def test_cut_by_time_it_comes_to_the_same_state(spinning, engine):
    spinning.engine = engine
    with spinning.fork() as other:
        other.run()
        assert run_in_parts(spinning) > 2
        assert spinning.digest() == other.digest()


@pytest.mark.parametrize("engine", ENGINES)
def test_it_ends_about_when_the_time_is_up(spinning, engine):
    spinning.engine = engine
    spinning.run(max_cycles=SPIN_CYCLES // 10)  # decoded and translated
    began = time.thread_time()
    stop = spinning.run(max_seconds=SECONDS)
    assert stop == ReachedCycle(spinning.cycle)
    assert SECONDS <= time.thread_time() - began < 3 * SECONDS


def test_what_the_host_does_meanwhile_is_not_counted(spinning):
    time.sleep(0.01)
    before = spinning.cycle
    spinning.run(max_seconds=SECONDS)
    assert spinning.cycle - before > 100_000


def test_without_time_it_comes_some_way_and_the_next_run_has_no_limit(spinning):
    before = spinning.cycle
    assert isinstance(spinning.run(max_seconds=0), ReachedCycle)
    assert spinning.cycle > before
    assert isinstance(spinning.run(), Yielded)


def test_a_trace_after_it_has_no_limit(spinning):
    spinning.run(max_seconds=0)
    assert len(list(spinning.trace(max_cycles=100))) == 100


def test_the_cycle_asked_for_comes_first(spinning):
    end = spinning.cycle + 1000
    assert spinning.run(end, max_seconds=10) == ReachedCycle(end)


@pytest.mark.parametrize("payload", [SPIN, b"flood 20000"])
@pytest.mark.parametrize("kind", ["advance", "inspect"])
def test_a_request_in_parts_has_the_outcome_of_one_in_whole(kind, payload):
    with ready_ledger() as machine, machine.fork() as other:
        whole = Request(other, kind, payload)
        assert whole.step(ENDLESS_CYCLES)[1]
        request = Request(machine, kind, payload)
        steps = 1
        while not request.step(ENDLESS_CYCLES, SECONDS)[1]:
            steps += 1
        assert steps > 2
        assert request.outcome.status == "accepted"
        assert (request.outcome.reports, request.cycles) == (whole.outcome.reports, whole.cycles)
        assert machine.digest() == other.digest()


def test_a_limit_of_cycles_is_exact_in_parts_too():
    with ready_ledger() as machine:
        request = Request(machine, "advance", SPIN, Limits(max_cycles=SPIN_CYCLES // 2))
        while not request.step(ENDLESS_CYCLES, SECONDS)[1]:
            pass
        assert (request.outcome.status, request.cycles) == ("limit_exceeded", SPIN_CYCLES // 2)


def test_a_guest_that_speaks_all_the_time_has_no_more():
    with ready_ledger() as machine:
        request = Request(machine, "inspect", b"flood 1000000")
        began = time.thread_time()
        assert not request.step(ENDLESS_CYCLES, SECONDS)[1]
        assert time.thread_time() - began < 10 * SECONDS
        said = request.give_up().reports
        assert said == tuple(b"flood %d" % number for number in range(len(said)))
