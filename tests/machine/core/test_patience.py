"""Whatever a guest does, somebody who wants its machine back has it soon."""

import threading
import time

import pytest

from orchestra.machine import Interrupted, ReachedCycle
from orchestra.machine._core import blocks_in_use
from tests.machine.core.harmful import HARMFUL, code_on_every_page
from tests.machine.core.small import ENGINES
from tests.machine.core.test_devices import endless

OWN_CODE_PAGES = 4096


def seconds_to_stop(machine):
    """CPU seconds that this thread runs on after an interrupt that comes at any moment."""
    clock = time.pthread_getcpuclockid(threading.get_ident())
    said = []

    def interrupt():
        said.append(time.clock_gettime(clock))
        machine.interrupt()

    timer = threading.Timer(0.02, interrupt)
    timer.start()
    stop = machine.run()
    ended = time.clock_gettime(clock)
    timer.join()
    assert isinstance(stop, Interrupted)
    return ended - said[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("make", [*HARMFUL, endless], ids=lambda make: make.__name__)
def test_an_interrupt_is_seen_within_milliseconds(make, engine):
    with make() as machine:
        machine.engine = engine
        assert min(seconds_to_stop(machine) for _ in range(3)) < 0.005


@pytest.mark.parametrize("make", HARMFUL, ids=lambda make: make.__name__)
def test_a_look_at_the_stop_flag_changes_nothing(make):
    ends = set()
    for engine in ENGINES:
        for step in (5000, 1, 997):
            with make() as machine:
                machine.engine = engine
                while machine.cycle < 5000:
                    until = min(machine.cycle + step, 5000)
                    assert machine.run(until) == ReachedCycle(until)
                ends.add(machine.digest())
    assert len(ends) == 1


@pytest.mark.parametrize("sealed", [False, True])
def test_decoded_code_takes_no_more_memory_than_it_may(sealed):
    """Pages of the machine's own are 4096 at a time, those that it shares twice as many."""
    before = blocks_in_use()["code"].used
    with code_on_every_page() as machine:
        if sealed:
            machine.checkpoint()
        machine.run(28_000)
        used = blocks_in_use()["code"].used - before
        assert OWN_CODE_PAGES / 2 < used <= OWN_CODE_PAGES * (3 if sealed else 1) + 1
        machine.checkpoint()
        machine.run(10_000)
        assert blocks_in_use()["code"].used - before <= OWN_CODE_PAGES * 3 + 1
    assert blocks_in_use()["code"].used == before
