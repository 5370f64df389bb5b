"""Memory is given back with the last one who could see it: counted in blocks, not by the system."""

import gc
import hashlib
import os
import random
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestra.machine import Boot, Machine, MachineConfig, Ram
from orchestra.machine._core import blocks_in_use
from tests.guests import HELLO, ready_ledger

RAM = 0x8000_0000
PAGE = 4096
PAGES = 150  # that are written to
AT_HAND = 16  # pages that a machine keeps ready
SPARE = 64  # nodes that it keeps, at most


def idle(length=1 << 20, directory=None):
    """Make a machine that only the host writes to."""
    return Machine.create(MachineConfig(ram=Ram(length), boot=Boot(elf=HELLO)), directory)


def used():
    return {kind: blocks.used for kind, blocks in blocks_in_use().items()}


def used_at_rest():
    gc.collect()
    return used()


def fill(machine, page, version):
    machine.write(RAM + page * PAGE, version.to_bytes(8, "little") * 2)


class State:
    """What a layer holds, in the model: the version of each page, and what is below."""

    def __init__(self, pages, parent, stored):
        self.pages, self.parent, self.stored = pages, parent, stored
        self.height = 0 if parent is None else parent.height + 1


class Modelled:
    """A machine and what it should be."""

    def __init__(self, machine, base):
        self.machine, self.base, self.pages = machine, base, dict(base.pages)

    def write(self, page, version):
        fill(self.machine, page, version)
        self.pages[page] = version

    def seal(self, *, stored=False):
        if self.pages != self.base.pages or stored > self.base.stored:
            self.base = State(dict(self.pages), self.base, stored)

    def digest(self, first):
        """Hash it as the machine does, from the model's pages and those it began with."""
        pages = dict(first)
        for page, version in self.pages.items():
            if version < 0:  # as at the beginning
                continue
            text = bytearray(pages.get(RAM // PAGE + page, bytes(PAGE)))
            text[:16] = version.to_bytes(8, "little") * 2
            pages[RAM // PAGE + page] = text
        total = hashlib.blake2b(self.machine._core.state, digest_size=32)
        for number in sorted(pages):
            total.update(number.to_bytes(8, "little") + pages[number])
        return total.hexdigest()


def versions_kept(machines, root):
    """Say which versions of pages somebody can reach: a machine, or several from one state."""
    heirs = {}
    held = {root, *(item.base for item in machines)}
    for top in held:
        state = top
        while state.parent is not None and state not in heirs.get(state.parent, ()):
            heirs.setdefault(state.parent, set()).add(state)
            state = state.parent

    kept = held | {state for state, above in heirs.items() if len(above) > 1}
    for state in sorted(heirs.keys() - kept, key=lambda state: -state.height):
        above = state  # the only one that is on top of it and stays, which it is merged into
        while above not in kept:
            (above,) = heirs[above]
        if state.stored and not above.stored:  # or not: it alone is in files
            kept.add(state)
    versions = {version for state in kept for version in state.pages.values()}
    return versions | {version for item in machines for version in item.pages.values()}


@pytest.mark.parametrize("seed", range(6))
def test_pages_in_use_are_those_that_somebody_can_reach_in_whatever_order_forks_end(seed, tmp_path):
    dice, before = random.Random(seed), used_at_rest()
    with idle() as first:
        text = {number: bytes(page) for number, page in first._core.collect()}
        own = [number - RAM // PAGE for number in first._core.unstored()]
        root = State({}, None, stored=False)  # what is mapped
        begun = State({page: -1 - index for index, page in enumerate(own)}, root, stored=False)
        machines, version = [Modelled(first, begun)], 0
        for step in range(500):
            item = dice.choice(machines)
            action = dice.randrange(12)
            if action < 5:
                for _ in range(dice.choice([1, 3, 20])):
                    version += 1
                    item.write(dice.randrange(1, PAGES), version)
            elif action < 6:
                item.machine.checkpoint()
                item.seal()
            elif action < 8:
                copy = item.machine.fork()
                item.seal()
                machines.append(Modelled(copy, item.base))
            elif action < 10 and item.machine is not first:
                item.machine.close()
                machines.remove(item)
            elif action < 11:
                item.machine.rollback()
                item.pages = dict(item.base.pages)
            elif dice.random() < 0.3:
                item.machine.snapshot(tmp_path / str(step))
                item.seal(stored=True)
            assert item.machine.closed or item.machine.digest() == item.digest(text)
            kept = len(versions_kept(machines, root))
            found = used()["page"] - before["page"]
            assert kept <= found <= kept + AT_HAND * len(machines), step
        dice.shuffle(machines)
        for item in machines:
            assert item.machine.digest() == item.digest(text)
            item.machine.close()
    assert used_at_rest() == before


@pytest.mark.parametrize("storage", ["memory", "backing"])
def test_states_that_are_published_one_after_the_other_need_no_more_than_the_last(
    storage, tmp_path
):
    before = used_at_rest()
    directory = tmp_path / "machine" if storage == "backing" else None
    with idle(4 << 20, directory) as writer:
        for page in range(200, 600):  # more than stays in memory
            fill(writer, page, page)
        lease, most, length = writer.fork(), [], []
        for n in range(1200):
            for page in range(n * 5, n * 5 + 30):
                fill(writer, 1 + page % (PAGES - 1), n)
            following = writer.fork()
            lease.close()
            lease = following
            most.append(used()["page"] + used()["node"])
            top = tmp_path / "machine" / "top"
            length.append(top.stat().st_size if top.exists() else 0)
        lease.close()
        assert max(most[600:]) <= max(most[:600])
        assert max(length) <= max(length[:300])
        assert (max(length) > 0) == (storage == "backing")
    assert used_at_rest() == before


@pytest.mark.parametrize("order", ["oldest first", "newest first", "any"])
def test_forks_that_end_in_this_order_leave_only_what_the_machine_holds(order):
    before = used_at_rest()
    with idle() as machine:
        forks = []
        for n in range(300):
            for page in range(n, n + 3):
                fill(machine, 1 + page % (PAGES - 1), n)
            forks.append(machine.fork())
        if order == "newest first":
            forks.reverse()
        elif order == "any":
            random.Random(5).shuffle(forks)
        assert used()["page"] - before["page"] > 300
        for fork in forks:
            fork.close()
        now = used()
        assert now["page"] - before["page"] <= PAGES + 1 + AT_HAND
        assert now["node"] - before["node"] <= 10 + SPARE
        assert now["layer"] - before["layer"] <= 3
    assert used_at_rest() == before


def test_a_machine_that_goes_on_as_its_own_fork_holds_no_more_than_the_last_one():
    before = used_at_rest()
    machine = idle()
    for n in range(500):
        fill(machine, 1 + n % 50, n)
        following = machine.fork()
        machine.close()
        machine = following
    now = used()
    assert now["page"] - before["page"] <= 51 + AT_HAND
    assert now["layer"] - before["layer"] <= 3
    machine.close()
    assert used_at_rest() == before


def test_memory_that_is_not_needed_goes_back_to_the_system():
    with idle(96 << 20) as machine:
        for page in range(1, 16000):
            fill(machine, page, page)
        held = blocks_in_use()["page"]
        assert held.used >= 16000 - 1
        resident = resident_bytes()
        machine.rollback()
        after = blocks_in_use()["page"]
        assert after.warm <= 2 * (8 << 20) // PAGE + after.used
        assert resident - resident_bytes() > 30 << 20
        for page in range(1, 16000):  # what was discarded comes back as good as new
            fill(machine, page, page + 1)
        for page in range(100, 16000, 97):
            expected = (page + 1).to_bytes(8, "little") * 2
            assert machine.read(RAM + page * PAGE, PAGE) == expected.ljust(PAGE, b"\0")


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_code_that_ran_in_states_that_are_gone_is_gone_as_well():
    before = used_at_rest()
    with ready_ledger() as machine:
        for n in range(60):
            assert machine.advance(b"mint alice 1").accepted
            with machine.fork() as copy:
                assert copy.inspect(b"balance alice").reports == (b"%d" % (n + 1),)
            if n == 20:
                early = used()
        assert used()["code"] <= early["code"] + 2
        assert used()["page"] <= early["page"] + AT_HAND
    assert used_at_rest() == before


def test_threads_that_end_forks_and_ask_them_leave_nothing_behind():
    """As an application's workers do, while its writer goes on."""
    before = used_at_rest()
    with ready_ledger() as machine, ExitStack() as stack:
        forks, wrong, going = [], [], True

        def serve():
            while going or forks:
                try:
                    copy, expected = forks.pop()
                except IndexError:
                    continue
                with copy, copy.fork() as lease:
                    if lease.inspect(b"balance alice").reports != (expected,):
                        wrong.append(expected)

        threads = [threading.Thread(target=serve) for _ in range(3)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        for n in range(400):
            assert machine.advance(b"mint alice 1").accepted
            forks.append((machine.fork(), b"%d" % (n + 1)))
        going = False
    assert not wrong
    assert used_at_rest() == before


FORKING = """
import os, threading
from tests.machine.test_memory_in_use import fill, idle
machine, going = idle(), True
def work():
    with idle() as mine:
        while going:
            fill(mine, 3, 1)
            mine.fork().close()
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for n in range(150):
    child = os.fork()
    if child == 0:
        fill(machine, 1, n)
        machine.fork().close()
        machine.close()
        idle().close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
going = False
"""


def test_a_forked_process_finds_no_lock_that_another_thread_held():
    run = [sys.executable, "-c", FORKING]
    done = subprocess.run(run, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
