"""A request in one crossing ends as one that the host looks after at every yield."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import BackingFault, MachineBusy
from orchestra.machine import Machine
from orchestra.machine.request import Limits, Request, exchange
from orchestra.machine.stop import ReachedCycle, Yielded
from tests.guests import ledger_config, ready_ledger

PAYLOADS = [
    b"mint alice 5",
    b"burn alice 1000000",
    b"balance alice",
    b"accounts",
    b"echo ",
    b"echo " + b"x" * 5000,
    b"flood 3",
    b"flood 1200",
    b"progress 7",
    b"page 9",
    b"spin 20000",
    b"fail because",
    b"crash",
    b"halt 3",
    b"",
    b"\xff",
]


class Slow(Machine):
    """A machine that stops at every yield."""

    def exchange(self, end, request=None, **_):
        return exchange(self, end, request)


def slow_ledger():
    machine = Slow.create(ledger_config())
    machine.run()
    return machine


def drive(machine, kind, payload, limits, slice_cycles, *, discard=False):
    request = Request(machine, kind, payload, limits, discard=discard)
    events, done = [], False
    while not done:
        said, done = request.step(slice_cycles)
        events += said
    if kind == "inspect" and not request.discarded:
        machine.rollback()
    outcome = request.outcome
    return (
        events,
        outcome.status,
        outcome.outputs,
        outcome.reports,
        outcome.exception,
        outcome.cycles,
    )


@settings(max_examples=60, deadline=None)
@given(
    asked=st.lists(
        st.tuples(
            st.sampled_from(["advance", "inspect"]),
            st.sampled_from(PAYLOADS),
            st.sampled_from([None, 900, 30_000]),
            st.sampled_from([None, 0, 40, 4090]),
            st.sampled_from([700, 40_000, 1 << 40]),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_both_ways_end_in_the_same_outcome_and_state(asked):
    with ready_ledger() as quick, slow_ledger() as slow:
        quick.checkpoint()
        slow.checkpoint()
        for kind, payload, max_cycles, most, slice_cycles in asked:
            limits = Limits(max_cycles=max_cycles, max_output_bytes=most)
            options = (kind, payload, limits, slice_cycles)
            assert drive(quick, *options, discard=kind == "inspect") == drive(slow, *options)
            assert quick.digest() == slow.digest()


def test_what_fits_comes_in_one_exchange():
    with ready_ledger() as machine:
        begun = machine.cycle
        stop, said, discarded, fault = machine.exchange(1 << 40, (b"flood 3", 1))
        assert isinstance(stop, Yielded)
        assert stop.kind == "manual"
        assert [data for _, _, data in said] == [b"flood 0", b"flood 1", b"flood 2"]
        assert begun < said[0][0] < said[2][0] < stop.cycle == machine.cycle
        assert (discarded, fault) == (False, None)


def test_a_machine_is_rolled_back_in_the_same_exchange_if_asked():
    with ready_ledger() as machine:
        machine.checkpoint()
        before = machine.digest()
        stop, _, discarded, _ = machine.exchange(1 << 40, (b"page 9", 1), discard=True)
        assert discarded
        assert stop.cycle > machine.cycle
        assert machine.digest() == before
        assert not machine.exchange(machine.cycle + 10, (b"page 9", 1), discard=True).discarded


def test_an_exchange_stops_at_exactly_the_cycle_asked_for():
    with ready_ledger() as machine:
        end = machine.cycle + 500
        assert machine.exchange(end, (b"spin 1000000", 0)).stop == ReachedCycle(end)
        assert machine.exchange(end + 7).stop == ReachedCycle(end + 7)


def test_a_guest_that_waits_for_nothing_is_busy_and_left_alone():
    with Machine.create(ledger_config()) as machine:
        before = machine.digest()
        with pytest.raises(MachineBusy, match="does not wait"):
            machine.exchange(1 << 40, (b"total", 1))
        assert machine.digest() == before
        with pytest.raises(ValueError, match="rx buffer"):
            machine.exchange(1 << 40, (bytes((2 << 20) + 1), 1))


def test_a_fault_in_an_exchange_fails_the_request(tmp_path):
    with ready_ledger(tmp_path / "app") as machine:
        machine.snapshot(tmp_path / "cut")
    layer = next((tmp_path / "cut").glob("*.delta"))
    with Machine.open(tmp_path / "cut") as machine:
        length = layer.stat().st_size
        layer.chmod(0o600)
        with layer.open("r+b") as file:
            file.truncate(4096)
            outcomes = [machine.inspect(payload) for payload in (b"flood 2", b"accounts")]
            file.truncate(length)
    assert any(isinstance(outcome.error, BackingFault) for outcome in outcomes)
