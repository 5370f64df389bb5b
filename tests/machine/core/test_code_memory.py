"""The memory that translations are in: shared by forks, never writable where it runs, refusable."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra.machine import Machine, MachineConfig, Ram
from tests.assembler import RAM, Code
from tests.machine.core.small import bare, halt, until_halt
from tests.machine.core.test_translator import busy, much_code, state_after
from tests.processes import run_python

FORKS = 10_000


def code_mappings():
    """Permissions and resident KiB of the mappings of the code cache, from the kernel."""
    found, permissions = [], None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if match := re.match(r"[0-9a-f]+-[0-9a-f]+ (\S+) ", line):
            permissions = match[1] if "orchestra code" in line else None
        elif permissions and line.startswith("Rss:"):
            found.append((permissions, int(line.split()[1])))
    return sorted(found)


def warm_machine(seed=3):
    """A machine in a loop of many pages that were translated, and whose pages are immutable."""
    machine = Machine.create(MachineConfig(ram=Ram(1 << 20)), engine="translator")
    machine.write(RAM, much_code(20, seed).finish())
    machine.registers["pc"] = RAM
    machine.checkpoint()
    return machine


def test_ten_thousand_forks_share_their_translations():
    with warm_machine() as machine:
        with machine.fork() as first:
            expected = until_halt(first).digest()
        before = code_mappings()
        assert sum(kibibytes for _, kibibytes in before) > 100
        forks = [machine.fork() for _ in range(FORKS)]
        for fork in forks:
            fork.run(max_cycles=2000)
        assert {until_halt(fork).digest() for fork in forks[:: FORKS // 20]} == {expected}
        assert code_mappings() == before
        for fork in forks:
            fork.close()


def resident_after(machines):
    """KiB of the cache at first, at most and at last, while so many machines come and go."""

    def resident():
        return sum(kibibytes for _, kibibytes in code_mappings())

    with warm_machine() as machine:  # which lives on
        digest = until_halt(machine.fork()).digest()
        first = last = most = resident()
        for seed in range(machines):
            with warm_machine(seed) as other:
                until_halt(other)
            most, last = max(most, resident()), resident()
        assert until_halt(machine.fork()).digest() == digest
    return first, most, last


def test_translations_of_machines_that_are_gone_make_way_for_others():
    source = "from tests.machine.core import test_code_memory as t; print(*t.resident_after(120))"
    printed = run_python(source).stdout  # others have left translations in this one
    first, most, last = map(int, printed.split())
    assert last > first + 100
    assert most < first + 11_000  # two mappings of 4 MiB, which may be dead, and some more


def test_a_fork_that_stores_to_its_code_translates_anew_for_itself_alone():
    code = Code()
    code.li("s0", 200)
    code.label("loop")
    code.label("patched")
    code.op("addi", "a0", "a0", 1)
    code.op("addi", "s0", "s0", -1)
    code.op("bne", "s0", "zero", "loop")
    halt(code)
    with bare(code) as machine:
        machine.engine = "translator"
        machine.checkpoint()
        with machine.fork() as one, machine.fork() as other:
            until_halt(one)
            other.write(
                code.labels["patched"], (0x00350513).to_bytes(4, "little")
            )  # addi a0, a0, 3
            until_halt(other)
            with machine.fork() as third:
                until_halt(third)
                sums = [each.registers["a0"] for each in (one, other, third)]
    assert sums == [200, 600, 200]


def test_nothing_is_writable_where_it_is_executable():
    with bare(busy(5)) as machine:
        machine.engine = "translator"
        state_after(machine, 5000)
    assert {permissions for permissions, _ in code_mappings()} == {"r-xs", "rw-s"}


REFUSED = """
import resource, sys
from orchestra.errors import BadConfig
from orchestra.machine import Machine, MachineConfig, Ram
from tests.assembler import RAM
from tests.machine.core.small import until_halt
from tests.machine.core.test_translator import busy

used = {"NOFILE": 0, "AS": int(open("/proc/self/statm").read().split()[0]) * 4096 + (48 << 20)}
limit = getattr(resource, "RLIMIT_" + sys.argv[1])
resource.setrlimit(limit, (used[sys.argv[1]],) * 2)
machine = Machine.create(MachineConfig(ram=Ram(1 << 20)))
machine.write(RAM, busy(3).finish())
machine.registers["pc"], machine.registers["a1"] = RAM, 0
try:
    machine.engine = "translator"
except BadConfig:
    print(until_halt(machine).digest())
"""


@pytest.mark.parametrize("limit", ["NOFILE", "AS"])
def test_where_the_system_refuses_the_memory_everything_is_interpreted(limit):
    command = [sys.executable, "-c", REFUSED, limit]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == until_halt(bare(busy(3))).digest()
