"""Stops are values."""

import pytest

from orchestra.machine.stop import (
    ConsoleOutput,
    Halted,
    Idle,
    Interrupted,
    ReachedCycle,
    Yielded,
)

STOPS = [
    Halted(7, 3),
    Yielded(7, "manual", 1, 0),
    ReachedCycle(7),
    Interrupted(7),
    Idle(7),
    ConsoleOutput(7),
]


@pytest.mark.parametrize("stop", STOPS)
def test_every_stop_carries_its_cycle(stop):
    assert stop.cycle == 7


@pytest.mark.parametrize("stop", STOPS)
def test_a_stop_cannot_be_changed(stop):
    with pytest.raises(AttributeError):
        stop.cycle = 8


def test_stops_of_different_kinds_differ_and_equal_ones_are_equal():
    assert len(set(STOPS)) == len(STOPS)
    assert Halted(7, 3) == Halted(7, 3)


def test_a_stop_can_be_matched():
    match Yielded(9, "manual", 2, 4):
        case Yielded(kind="manual", reason=reason):
            assert reason == 2
        case _:
            pytest.fail("no match")
