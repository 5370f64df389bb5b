"""Timing with a clock of our own: what counts, how runs adapt, and what a session sees."""

from contextlib import contextmanager

import pytest

from orchestra.bench import measure
from orchestra.bench.measure import measure_bytes, measure_rate


class Clocks:
    """Time passes when something takes it."""

    def __init__(self):
        self.wall = self.cpu = 0.0

    def take(self, wall, cpu=0.0):
        self.wall += wall
        self.cpu += cpu


@pytest.fixture
def clocks(monkeypatch):
    clocks = Clocks()
    monkeypatch.setattr(measure, "perf_counter", lambda: clocks.wall)
    monkeypatch.setattr(measure, "process_time", lambda: clocks.cpu)
    return clocks


def session_of(clocks, seconds, counts, cpu=0.0):
    @contextmanager
    def session(count):
        counts.append(count)
        clocks.take(100, 100)
        yield lambda _: clocks.take(seconds, cpu)
        clocks.take(100, 100)

    return session


def test_only_the_operations_of_a_session_are_timed(clocks):
    rates = measure_rate(session_of(clocks, 0.001, []), 0.1, 5)
    assert rates == pytest.approx([1000.0] * 5)


def test_processor_time_is_counted_where_asked_for(clocks):
    rates = measure_rate(session_of(clocks, 0.001, [], cpu=0.0001), 0.1, 5, "cpu")
    assert rates == pytest.approx([10_000.0] * 5)


@pytest.mark.parametrize("seconds", [1e-6, 1e-4, 1e-2])
def test_runs_take_about_the_time_asked_for_however_fast_the_operation_is(clocks, seconds):
    counts = []
    measure_rate(session_of(clocks, seconds, counts), 0.25, 5)
    assert [count * seconds for count in counts[-5:]] == pytest.approx([0.25] * 5, rel=0.05)
    assert counts[0] == 1, "a slow operation must not be warmed up by many"


def test_an_operation_slower_than_a_run_is_done_once_in_each(clocks):
    counts = []
    assert len(measure_rate(session_of(clocks, 3.0, counts), 0.25, 5)) == 5
    assert counts == [1] * 6


def test_an_operation_that_becomes_slower_gets_fewer_turns(clocks):
    counts = []

    @contextmanager
    def session(count):
        counts.append(count)
        cost = 0.001 * len(counts)
        yield lambda _: clocks.take(cost)

    measure_rate(session, 0.1, 5)
    assert counts[-1] < counts[-5]


def test_operations_are_numbered_from_zero_in_each_run(clocks):
    runs = []

    @contextmanager
    def session(_):
        runs.append([])

        def operate(number):
            runs[-1].append(number)
            clocks.take(0.01)

        yield operate

    measure_rate(session, 0.1, 2)
    assert all(numbers == list(range(len(numbers))) for numbers in runs)


def test_bytes_are_those_of_all_operations_but_the_first():
    stored = []

    @contextmanager
    def session(_):
        stored.clear()
        yield lambda number: stored.append(50_000 if number else 7_000_000)

    found = measure_bytes(session, lambda: sum(stored), 100, 3)
    assert found == pytest.approx([0.05] * 3)
