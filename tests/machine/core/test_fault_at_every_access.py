"""A fault at every memory access: both engines stand before it, and go on as if it had not been."""

import os

import pytest

from orchestra.errors import BackingFault
from orchestra.machine import Drive, Halted, Machine, MachineConfig, Ram
from tests.assembler import RAM, Code
from tests.machine.core.small import ENGINES, PAGE, halt

PMEM = 2 << 20  # a drive's least length
LOADS = ("lb", "lbu", "lh", "lhu", "lw", "lwu", "ld", "flw", "fld")
STORES = ("sb", "sh", "sw", "sd", "fsw", "fsd")
ATOMICS = ("lr.w", "sc.w", "lr.d", "sc.d", "amoadd.w", "amoswap.d", "amomax.w", "amominu.d")
GROUPS = ("loads", "stores", "loads across", "stores across")
ACCESSES = (*LOADS, *STORES, *ATOMICS, *GROUPS)
WARM = 20  # turns, before anything is amiss


def access(code, name):
    """Do it on the page that s0 points to; a0 counts, and the registers around it are all alive."""
    if name in LOADS + STORES:
        code.op(name, "fa1" if name[0] == "f" else "a1", 40, "s0")
    elif name in GROUPS:
        place = -8 if "across" in name else 8  # the group's first is on the page before
        for index, register in enumerate(("a2", "a3", "a4", "a5")):
            code.op("ld" if "loads" in name else "sd", register, place + 8 * index, "s0")
    elif name.startswith("lr"):
        code.op(name, "a1", "s0")
    elif name.startswith("sc"):
        code.op(
            name.replace("sc", "lr"), "a1", "s1"
        )  # of a page in RAM: it fails, and touches nothing
        code.op("lr" + name[2:], "a1", "s0")
        code.op(name, "a1", "a0", "s0")
    else:
        code.op(name, "a1", "a0", "s0")
    code.op("addi", "a0", "a0", 1)
    code.op("fadd.d", "fa0", "fa2", "fa1", 0)


def program(start, turns):
    """Go over the pages from `start` on, one for each access, so many times."""
    code = Code()
    code.li("t0", 0x6000)
    code.csrw("mstatus", "t0")
    code.li("a0", 3)
    code.op("fcvt.d.l", "fa0", "a0", 0)
    code.op("fdiv.d", "fa2", "fa0", "fa0", 0)
    code.li("s1", RAM + 0x8000)
    code.li("s2", PAGE)
    code.li("s3", turns)
    code.label("loop")
    code.li("s0", start)
    code.csrw("fflags", "zero")
    for name in ACCESSES:
        access(code, name)
        code.op("add", "s0", "s0", "s2")
    code.op("addi", "s3", "s3", -1)
    code.op("bne", "s3", "zero", "loop")
    halt(code)
    return code.finish()


class World:
    """A machine whose program walks over a file of the test's, in place."""

    def __init__(self, path, engine):
        self.path = path
        path.write_bytes(bytes(range(1, 251)) * (PMEM // 250) + bytes(PMEM % 250))
        drive = Drive("pages", kind="pmem", path=path, shared=True)
        config = MachineConfig(ram=Ram(1 << 20), drives=(drive,))
        self.machine = Machine.create(config, engine=engine)
        start = self.machine.layout.range("pages").start
        self.machine.write(RAM, program(start, WARM + 2))
        self.machine.registers["pc"] = RAM

    def end(self):
        """Run to the end: all that can be told."""
        assert isinstance(self.machine.run(), Halted)
        return self.machine.cycle, self.machine.digest()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """How it ends, and at which cycles the last two turns begin."""
    begins = []
    with World(tmp_path_factory.mktemp("steps") / "pages", "interpreter").machine as machine:
        while len(begins) < 2:
            machine.run(max_cycles=1)
            if machine.registers["s3"] == 2 - len(begins):
                begins.append(machine.cycle)
    world = World(tmp_path_factory.mktemp("whole") / "pages", "interpreter")
    with world.machine:
        return world.end(), begins


@pytest.mark.parametrize("place", range(len(ACCESSES)), ids=ACCESSES)
def test_a_fault_is_met_before_the_access_and_is_made_up_for(tmp_path, whole, place):
    """Once translated and in the TLB; once more when all of that was forgotten."""
    expected, begins = whole
    stands = []
    for engine in ENGINES:
        world = World(tmp_path / engine, engine)
        with world.machine as machine:
            for begin in begins:
                machine.run(begin)
                kept = world.path.read_bytes()[place * PAGE :]
                os.truncate(world.path, place * PAGE)
                for _ in range(2):  # again, and nothing has happened
                    with pytest.raises(BackingFault) as caught:
                        machine.run()
                    assert caught.value.offset // PAGE == place
                    stands.append((machine.cycle, machine.registers["pc"], machine._core.state))
                with world.path.open("r+b") as file:
                    file.seek(place * PAGE)
                    file.write(kept)
            assert world.end() == expected
    first, again, second, _ = stands[:4]
    assert first == again
    assert begins[0] < first[0] < begins[1] < second[0]
    assert stands[:4] == stands[4:]
