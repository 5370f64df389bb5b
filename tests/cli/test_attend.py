"""An attendant lets a machine run, ticks, and stops it at a signal, at once and anywhere."""

import os
import signal
import threading
import time

import pytest

from orchestra.cli.attend import Attendant, Stopped
from orchestra.errors import GuestError
from orchestra.machine import Event, Halted, Interrupted, Limits, Machine, Progress, ReachedCycle
from tests.cli.programs import LOOP, assemble, halt
from tests.guests import bare_config, ready_ledger


@pytest.fixture
def machine(tmp_path):
    def make(words):
        (tmp_path / "code").write_bytes(assemble(words))
        return Machine.create(bare_config(tmp_path / "code"))

    return make


def test_a_run_ends_as_it_does_without_an_attendant(machine):
    with Attendant() as attendant:
        assert attendant.run(machine(halt(3))) == Halted(3, 3)
        assert attendant.run(machine([LOOP]), 1000) == ReachedCycle(1000)
        assert 0 < attendant.seconds < 10


def test_ticks_come_while_the_machine_runs_and_change_nothing(machine):
    looping, same = machine([LOOP]), machine([LOOP])
    cycles = []
    with Attendant() as attendant:
        attendant.on_tick = lambda: cycles.append(looping.cycle)
        attendant.run(looping, 100_000_000)
    assert len(cycles) > 1
    assert cycles == sorted(cycles)
    same.run(100_000_000)
    assert looping.digest() == same.digest()


def test_a_signal_stops_a_run_within_ten_milliseconds(machine):
    delays = []
    for _ in range(5):
        with Attendant() as attendant:
            sent: list[float] = []

            def send(sent=sent):
                if not sent:
                    sent.append(time.perf_counter())
                    os.kill(os.getpid(), signal.SIGINT)

            timer = threading.Timer(0.03, send)
            timer.start()
            stop = attendant.run(machine([LOOP]))
            delays.append(time.perf_counter() - sent[0])
            timer.join()
            assert isinstance(stop, Interrupted)
            assert attendant.signal == signal.SIGINT
    assert min(delays) < 0.01


def test_an_interrupted_machine_goes_on_as_if_nothing_had_happened(machine):
    looping, same = machine([LOOP]), machine([LOOP])
    with Attendant() as attendant:
        attendant.on_tick = lambda: os.kill(os.getpid(), signal.SIGTERM)
        stop = attendant.run(looping)
    assert isinstance(stop, Interrupted)
    end = looping.cycle + 1000
    with Attendant() as attendant:
        attendant.run(looping, end)
    same.run(end)
    assert looping.digest() == same.digest()


def test_signals_have_their_old_meaning_afterwards():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Attendant():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_signal_does_not_wait():
    with Attendant() as attendant:
        os.kill(os.getpid(), signal.SIGINT)
        assert attendant.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_undoes_an_advance():
    ledger = ready_ledger()
    before = ledger.digest()
    with Attendant() as attendant:
        attendant.on_tick = lambda: os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped, match="SIGINT"):
            attendant.serve(ledger, "advance", b"spin 100000000000", None, lambda _: None)
    assert ledger.digest() == before
    assert ledger.advance(b"mint a 1").accepted


def test_a_request_brings_its_events_and_its_outcome():
    ledger = ready_ledger()
    events: list[Event] = []
    with Attendant() as attendant:
        outcome = attendant.serve(ledger, "advance", b"progress 4", None, events.append)
        assert outcome.accepted
        assert [event.per_mille for event in events if isinstance(event, Progress)] == [
            250,
            500,
            750,
            1000,
        ]
        limits = Limits(max_cycles=10_000)
        outcome = attendant.serve(ledger, "advance", b"spin 1000000", limits, events.append)
    assert (outcome.status, outcome.cycles) == ("limit_exceeded", 10_000)


def test_an_error_of_the_machine_is_raised_where_it_was_called(machine):
    with Attendant() as attendant:
        with pytest.raises(GuestError, match="halted at cycle 3 with code 3"):
            attendant.wake(machine(halt(3)))
        assert attendant.wake(ready_ledger()) == 0


def test_an_attendant_in_another_thread_leaves_signals_alone(machine):
    before = signal.getsignal(signal.SIGINT)
    stops = []

    def work():
        with Attendant() as attendant:
            assert signal.getsignal(signal.SIGINT) == before
            stops.append(attendant.run(machine([LOOP]), 1000))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert stops == [ReachedCycle(1000)]
