"""Machines of one view on many threads: they share decoded code and must not notice."""

import threading

from orchestra.machine import Machine, Yielded
from tests.guests import ready_ledger

THREADS = 4
ROUNDS = 1500


def ask(machine, barrier, cycles, index):
    machine.send_response(b"mint alice 100")
    barrier.wait()
    for question in (None, b"history 3"):
        if question is not None:
            machine.send_response(question, 1)
        while not (isinstance(stop := machine.run(), Yielded) and stop.kind == "manual"):
            pass
    cycles[index] = machine.cycle


def test_copies_that_meet_the_same_cold_code_at_once_count_the_same_cycles():
    counts = set()
    for _ in range(ROUNDS):
        with ready_ledger() as base:  # a board of its own, on which hardly anything is decoded
            copies = [base.fork() for _ in range(THREADS)]
            barrier, cycles = threading.Barrier(THREADS), [0] * THREADS
            threads = [
                threading.Thread(target=ask, args=(copy, barrier, cycles, index))
                for index, copy in enumerate(copies)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            counts.update(cycles)
            assert len({copy.digest() for copy in copies}) == 1
            for copy in copies:
                copy.close()
    assert len(counts) == 1


def test_copies_may_be_closed_on_any_threads(tmp_path):
    """The last one to go unlocks the folder, whichever it is."""
    with ready_ledger(tmp_path / "app") as machine:
        machine.snapshot(tmp_path / "snap")
    for _ in range(50):
        base = Machine.open(tmp_path / "snap")
        copies = [base, *(base.fork() for _ in range(15))]
        threads = [threading.Thread(target=copy.close) for copy in copies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        Machine.open(tmp_path / "snap", storage="backing").close()
