"""A request is driven from payload to outcome, in any number of steps, with the same result."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import BackingFault, BadConfig, GuestError, MachineBusy
from orchestra.machine.request import (
    DEFAULT_OUTPUT_BYTES,
    MOST_PROGRESS,
    Limits,
    Output,
    Progress,
    Report,
    Request,
    note,
)
from orchestra.machine.stop import Yielded
from orchestra.testing import (
    BOOT,
    FOREVER,
    Break,
    FakeClock,
    FakeMachine,
    Say,
    Wait,
    Work,
    accept,
    report,
)
from tests.guests import ready_ledger


def booted(guest=None, **options):
    machine = FakeMachine(BOOT, **({"guest": guest} if guest else {}), **options)
    machine.run()
    return machine


def drive(request, slice_cycles=1 << 40):
    events = []
    for _ in range(10_000):
        said, done = request.step(slice_cycles)
        events += said
        if done:
            return events
    raise AssertionError("the request never ended")


def test_an_accepted_advance_changes_the_machine_and_gives_outputs_and_reports():
    machine = booted()
    request = Request(machine, "advance", b"one")
    events = drive(request)
    assert machine.memory == b"one"
    outcome = request.outcome
    assert outcome.status == "accepted"
    assert outcome.accepted
    assert (outcome.outputs, outcome.reports, outcome.cycles) == ((b"one",), (b"got one",), 200)
    assert events == [Progress(1100, 500), Report(1100, b"got one"), Output(1100, b"one")]


@pytest.mark.parametrize(
    ("payload", "status"),
    [(b"reject", "rejected"), (b"throw", "exception"), (b"halt", "halted"), (b"wait", "failed")],
)
def test_an_advance_that_is_not_accepted_leaves_no_trace_but_what_was_said(payload, status):
    machine = booted()
    before = machine.digest()
    request = Request(machine, "advance", payload)
    drive(request)
    assert request.outcome.status == status
    assert request.outcome.reports == (b"got " + payload,)
    assert request.outcome.outputs == (payload,)
    assert machine.digest() == before


def test_a_limit_keeps_the_outputs_that_came_before_it():
    request = Request(booted(), "advance", b"loop", Limits(max_cycles=1000))
    drive(request)
    assert (request.outcome.status, request.outcome.outputs) == ("limit_exceeded", (b"loop",))


def test_an_exception_carries_its_payload():
    request = Request(booted(), "advance", b"throw")
    drive(request)
    assert request.outcome.exception == b"as asked"


def test_an_inspect_collects_reports():
    request = Request(booted().fork(), "inspect", b"who")
    drive(request)
    assert request.outcome.reports == (b"who",)
    assert request.outcome.cycles == 200


@given(limit=st.integers(0, 300), slice_cycles=st.integers(1, 300))
def test_the_cycle_limit_is_exact_whatever_the_slices(limit, slice_cycles):
    machine = booted()
    before = machine.digest()
    request = Request(machine, "advance", b"one", Limits(max_cycles=limit))
    drive(request, slice_cycles)
    whole = Request(booted(), "advance", b"one", Limits(max_cycles=limit))
    drive(whole)
    assert request.outcome.status == whole.outcome.status
    assert request.outcome.reports == whole.outcome.reports
    assert request.outcome.cycles == min(limit, 200)
    if limit < 200:
        assert request.outcome.status == "limit_exceeded"
        assert machine.digest() == before


@given(slice_cycles=st.integers(1, 300))
def test_an_advance_cut_into_slices_ends_in_the_same_state(slice_cycles):
    whole, cut = booted(), booted()
    drive(Request(whole, "advance", b"one"))
    drive(Request(cut, "advance", b"one"), slice_cycles)
    assert cut.digest() == whole.digest()


def test_reports_that_fit_the_output_limit_are_kept():
    machine = booted(lambda *_: (report(b"1234"), report(b"5678"), report(b"9"), accept()))
    request = Request(machine, "inspect", b"", Limits(max_output_bytes=8))
    drive(request)
    assert request.outcome.status == "limit_exceeded"
    assert request.outcome.reports == (b"1234", b"5678")


def test_the_time_limit_counts_the_time_the_request_ran():
    clock = FakeClock()
    machine = booted(lambda *_: FOREVER, clock=clock, cycles_per_second=1000)
    request = Request(machine, "inspect", b"", Limits(max_seconds=2.0), clock=clock.now)
    assert request.step(1000) == ([], False)
    clock.advance(100)  # waiting for its turn costs nothing
    assert request.step(1000) == ([], True)
    assert request.outcome.status == "limit_exceeded"
    assert request.outcome.seconds == 2.0


@pytest.mark.parametrize("kind", ["advance", "inspect"])
def test_a_fault_of_the_host_fails_the_request_and_keeps_its_reports(kind):
    fault = BackingFault("app/top", 4096, "no space")
    machine = booted(lambda *_: (report(b"early"), Work(5), Break(fault)))
    before = machine.digest()
    request = Request(machine, kind, b"")
    drive(request)
    outcome = request.outcome
    assert (outcome.status, outcome.error, outcome.reports) == ("failed", fault, (b"early",))
    assert (machine.digest() == before) == (kind == "advance")


def test_an_error_of_ours_is_raised_and_the_advance_unmade():
    machine = booted(lambda *_: (Work(5), Break(RuntimeError("a bug"))))
    before = machine.digest()
    with pytest.raises(RuntimeError, match="a bug"):
        drive(Request(machine, "advance", b""))
    assert machine.digest() == before


@pytest.mark.parametrize(
    "action", [Say("automatic", 3), Say("manual", 3), Wait()], ids=["automatic", "manual", "idle"]
)
def test_a_guest_that_breaks_its_protocol_fails_with_a_guest_error(action):
    request = Request(booted(lambda *_: (Work(1), action)), "inspect", b"")
    drive(request)
    assert request.outcome.status == "failed"
    assert isinstance(request.outcome.error, GuestError)


def test_a_machine_that_does_not_wait_for_a_request_is_busy():
    with pytest.raises(MachineBusy):
        Request(FakeMachine(FOREVER), "advance", b"").step(1)


def test_an_interrupted_step_says_so_and_the_next_one_goes_on():
    machine = booted()
    request = Request(machine, "advance", b"one")
    machine.interrupt()
    assert request.step(1000) == ([], False)
    assert request.interrupted
    assert drive(request)
    assert not request.interrupted
    assert machine.memory == b"one"


def test_giving_up_an_advance_unmakes_it_and_keeps_its_reports():
    machine = booted(lambda *_: (report(b"early"), *FOREVER))
    before = machine.digest()
    request = Request(machine, "advance", b"")
    request.step(10)
    outcome = request.give_up()
    assert (outcome.status, outcome.reports) == ("limit_exceeded", (b"early",))
    assert machine.digest() == before
    assert request.step(10) == ([], True)


def test_giving_up_before_the_first_step_does_not_touch_the_machine():
    machine = booted()
    Request(machine, "advance", b"").give_up()
    assert machine.family.rollbacks == 0


def test_a_request_that_is_not_done_has_no_outcome():
    request = Request(booted(), "advance", b"")
    assert not request.done
    with pytest.raises(RuntimeError, match="not done"):
        _ = request.outcome


@pytest.mark.parametrize("slice_cycles", [1 << 40, 700, 97])
def test_a_guest_that_says_too_much_is_stopped_at_that_very_message(monkeypatch, slice_cycles):
    monkeypatch.setattr("orchestra.machine.request.MOST_MESSAGES", 7)
    with ready_ledger() as machine, machine.fork() as alone:
        request = Request(machine.fork(), "inspect", b"flood 1000")
        drive(request, slice_cycles)
        assert request.outcome.status == "limit_exceeded"
        assert request.outcome.reports == tuple(b"flood %d" % n for n in range(7))
        alone.send_response(b"flood 1000", reason=1)
        start = alone.cycle
        for _ in range(8):
            stop = alone.run()
        assert isinstance(stop, Yielded)
        assert request.outcome.cycles == stop.cycle - start


def test_what_a_guest_says_has_a_bound_unless_it_was_lifted():
    megabyte = bytes(1 << 20)
    machine = booted(lambda *_: (*[report(megabyte)] * 17, accept()))
    request = Request(machine.fork(), "inspect", b"")
    drive(request)
    assert request.outcome.status == "limit_exceeded"
    assert len(request.outcome.reports) == DEFAULT_OUTPUT_BYTES >> 20
    request = Request(machine, "inspect", b"", Limits(max_output_bytes=None))
    drive(request)
    assert len(request.outcome.reports) == 17


def test_of_endless_progress_the_newest_is_kept():
    events = []
    for n in range(10 * MOST_PROGRESS):
        note(events, Progress(n, n))
    note(events, Output(0, b""))
    note(events, Progress(1, 1))
    assert len(events) == MOST_PROGRESS + 2
    assert events[MOST_PROGRESS - 1] == Progress(10 * MOST_PROGRESS - 1, 10 * MOST_PROGRESS - 1)


@pytest.mark.parametrize("name", ["max_cycles", "max_output_bytes", "max_seconds"])
def test_a_limit_below_nothing_is_refused_and_a_huge_one_is_none(name):
    with pytest.raises(BadConfig, match=name):
        Limits(**{name: -1})
    with pytest.raises(BadConfig, match=name):
        Limits(**{name: float("nan")})
    with ready_ledger() as machine:
        assert machine.advance(b"mint alice 1", Limits(**{name: 1 << 70})).accepted
