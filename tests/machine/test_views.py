"""Machines of one view, on many threads: they share files and decoded code and must not notice."""

import threading
from pathlib import Path

import pytest

from orchestra.errors import MachineLocked
from orchestra.machine import Machine, Yielded
from tests.guests import ready_ledger, write_image

THREADS = 4
ROUNDS = 1500


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


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


def test_all_who_read_a_snapshot_share_its_files_and_its_lock(tmp_path):
    from orchestra.io._os import region_count

    with ready_ledger(tmp_path / "app", write_image(tmp_path / "image")) as machine:
        machine.advance(b"mint alice 100")
        machine.snapshot(tmp_path / "snap")
    before = region_count(), descriptors()
    first = Machine.open(tmp_path / "snap")
    once = region_count(), descriptors()
    others = [Machine.open(tmp_path / "snap") for _ in range(20)]
    assert (region_count(), descriptors()) == once
    others[0].advance(b"burn alice 1")
    assert others[1].inspect(b"balance alice").reports == (b"100",)
    first.close()
    for other in others[1:]:
        other.close()
    with pytest.raises(MachineLocked):
        Machine.open(tmp_path / "snap", storage="backing")
    assert others[0].inspect(b"balance alice").reports == (b"99",)
    others[0].close()
    assert (region_count(), descriptors()) == before
    Machine.open(tmp_path / "snap", storage="backing").close()


def test_threads_that_open_and_close_one_snapshot_never_see_half_of_it(tmp_path):
    with ready_ledger(tmp_path / "app") as machine:
        machine.snapshot(tmp_path / "snap")
        expected = machine.digest()
    found = []

    def work():
        for _ in range(150):
            with Machine.open(tmp_path / "snap") as copy:
                found.append(copy.digest() == expected)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 600


def test_a_machine_of_a_folder_that_was_replaced_is_another(tmp_path):
    for name, amount in ("old", b"1"), ("new", b"2"):
        with ready_ledger(tmp_path / name) as machine:
            machine.advance(b"mint alice " + amount)
    with Machine.open(tmp_path / "old") as old:
        (tmp_path / "old").rename(tmp_path / "away")
        (tmp_path / "new").rename(tmp_path / "old")
        with Machine.open(tmp_path / "old") as new:
            assert new.inspect(b"balance alice").reports == (b"2",)
        assert old.inspect(b"balance alice").reports == (b"1",)


def test_a_machine_that_several_threads_close_lets_go_of_its_view_once(tmp_path):
    ready_ledger(tmp_path / "app").close()
    with Machine.open(tmp_path / "app") as sibling:
        expected = sibling.digest()
        machine = Machine.open(tmp_path / "app")
        ends = [machine.close, machine.discard, machine.close, machine.discard]
        threads = [threading.Thread(target=end) for end in ends]
        with machine._turn:  # all of them wait for it
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(MachineLocked):
            Machine.open(tmp_path / "app", storage="backing")
        assert sibling.digest() == expected
        assert sibling.advance(b"mint alice 1").status == "accepted"
