"""Stores to code are seen at once, without fence.i, however the code was reached and stored to."""

import pytest

from orchestra.machine import ReachedCycle
from tests.assembler import RAM, Code, encode
from tests.machine.core.small import (
    PAGE,
    bare,
    halt,
    identity_tables,
    in_every_way,
    sv39,
)

OLD, NEW = encode("addi", "a0", "a0", 1), encode("addi", "a0", "a0", 100)
OLD_HALF, NEW_HALF = 0x0505, 0x0575  # c.addi a0, 1 and c.addi a0, 29
ALIAS = 0x4000_0000
DATA = RAM + 0x20000
pytestmark = pytest.mark.parametrize("sealed", [False, True], ids=["own", "sealed"])


def patched(build, sealed):
    """Run a program in every way; a0 says which instructions ran."""

    def make():
        code = Code()
        build(code)
        halt(code)
        return bare(code, sealed=sealed)

    machine = in_every_way(make)
    return machine.registers["a0"]


@pytest.mark.parametrize("distance", [0, 1, 2, 40, 300])
@pytest.mark.parametrize("name", ["sw", "sd", "fsw", "amoswap.w", "sc.w"])
def test_the_next_instruction_may_be_stored_just_before_it_runs(sealed, name, distance):
    def build(code):
        code.li("t0", 0x2000)
        code.csrw("mstatus", "t0")
        code.li("t1", NEW | OLD << 32 if name == "sd" else NEW)
        code.op("fmv.w.x", "fa0", "t1")
        code.la("t0", "target")
        code.op("andi", "t2", "t0", 7)
        code.op("jal", "zero", "go")
        code.pad(code.here + -code.here % 8)
        code.label("go")
        if name == "sc.w":
            code.op("lr.w", "zero", "t0")
        if name in ("sw", "sd"):
            code.op(name, "t1", 0, "t0")
        elif name == "fsw":
            code.op("fsw", "fa0", 0, "t0")
        else:
            code.op(name, "t2", "t1", "t0")
        for _ in range(distance):
            code.op("addi", "a1", "a1", 1)
        code.label("target")
        code.word(OLD, OLD)

    assert patched(build, sealed) == 101


@pytest.mark.parametrize(("size", "name"), [(1, "sb"), (2, "sh"), (4, "sw"), (8, "sd")])
def test_any_part_of_an_instruction_may_be_stored(sealed, size, name):
    def build(code):
        code.li("s0", 2)
        code.la("t0", "target")
        code.label("loop")
        code.label("target")
        code.word(OLD)  # the second time: NEW
        code.half(OLD_HALF, OLD_HALF)
        code.li("t1", NEW >> 16 if size < 4 else NEW | (OLD_HALF * 0x10001) << 32)
        code.op(name, "t1", 2 if size < 4 else 0, "t0")
        if size == 1:
            code.op("srli", "t1", "t1", 8)
            code.op(name, "t1", 3, "t0")
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "loop")

    assert patched(build, sealed) == 1 + 100 + 4


def test_a_loop_may_patch_itself_on_every_turn(sealed):
    def build(code):
        code.li("s0", 150)  # more stores than a page is watched for
        code.la("t0", "target")
        code.li("t1", OLD)
        code.li("t2", NEW ^ OLD)
        code.label("loop")
        code.op("xor", "t1", "t1", "t2")
        code.op("sw", "t1", 0, "t0")
        code.label("target")
        code.word(OLD)
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "loop")

    assert patched(build, sealed) == 75 * 101


def test_code_after_many_stores_to_its_page_is_what_was_stored_last(sealed):
    def build(code):
        code.la("t0", "target")
        code.li("t1", OLD)
        code.li("s0", 200)
        code.op("jal", "ra", "target")
        code.label("loop")
        code.op("sw", "s0", 64, "t0")  # data beside the code
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "loop")
        code.op("jal", "ra", "target")
        code.li("t1", NEW)
        code.op("sw", "t1", 0, "t0")
        code.op("jal", "ra", "target")
        code.op("jal", "zero", "end")
        code.pad(RAM + 2 * PAGE)
        code.label("target")
        code.word(OLD)
        code.op("jalr", "zero", 0, "ra")
        code.pad(RAM + 3 * PAGE)
        code.label("end")

    assert patched(build, sealed) == 1 + 1 + 100


@pytest.mark.parametrize("offset", [-6, -4, -3, -2, -1, 0])
@pytest.mark.parametrize("target", [-4, -2, 0])
def test_stores_and_instructions_may_straddle_pages(sealed, offset, target):
    def build(code):
        end = RAM + 2 * PAGE
        code.li("s0", 3)
        code.li("t0", end)
        code.li("t1", int.from_bytes(NEW_HALF.to_bytes(2, "little") * 4, "little"))
        if offset % 2:
            code.op("slli", "t1", "t1", 8)
        code.op("jal", "zero", "loop")
        code.pad(end - 16)
        code.label("loop")
        while code.here < end + target:
            code.half(OLD_HALF)
        code.word(OLD)
        while code.here < end + 16:
            code.half(OLD_HALF)
        code.op("sd", "t1", offset, "t0")
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "loop")

    assert patched(build, sealed) > 15 + 2 * 29  # some were new; the trace, which always reads
    # anew, has said that all else is the same


def alias_tables(root, pages):
    """Identity, and the same pages again at ALIAS."""
    tables = identity_tables(root)
    table = bytearray(tables[root])
    table[8 * (ALIAS >> 30) : 8 * (ALIAS >> 30) + 8] = table[8 * (RAM >> 30) : 8 * (RAM >> 30) + 8]
    for page, target in pages.items():
        place = 2 * PAGE + 8 * page
        table[place : place + 8] = (target >> 12 << 10 | 0xCF).to_bytes(8, "little")
    return {root: bytes(table)}


def test_code_may_be_stored_through_another_mapping(sealed):
    root, shown = RAM + 0x40000, RAM + 0x10000

    def make():
        code = Code()
        sv39(code, root)
        code.li("t0", 0x800)  # S-mode
        code.csrw("mstatus", "t0")
        code.la("t0", "supervisor")
        code.csrw("mepc", "t0")
        code.op("mret")
        code.label("supervisor")
        code.li("s1", shown)
        code.li("s2", ALIAS + 0x30000)  # the same page
        code.li("s0", 5)
        code.li("t1", OLD)
        code.li("t2", NEW ^ OLD)
        code.label("loop")
        code.op("xor", "t1", "t1", "t2")
        code.op("sw", "t1", 0, "s2")
        code.op("jalr", "ra", 0, "s1")
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "loop")
        code.li("t0", ALIAS + RAM % PAGE)
        code.op("jal", "zero", 0)
        function = OLD.to_bytes(4, "little") + encode("jalr", 0, 0, "ra").to_bytes(4, "little")
        data = alias_tables(root, {0x30: shown}) | {shown: function}
        return bare(code, data, sealed=sealed)

    whole = make()
    assert whole.run(200) == ReachedCycle(200)
    assert whole.registers["a0"] == 3 * 100 + 2
    for step in (1, 2, 5, 33):
        machine = make()
        while machine.cycle < 200:
            machine.run(min(200, machine.cycle + step))
        assert machine.digest() == whole.digest()


def test_the_host_may_change_code_between_two_runs(sealed):
    code = Code()
    code.label("loop")
    code.word(OLD)
    code.op("jal", "zero", "loop")
    with bare(code, sealed=sealed) as machine:
        machine.run(10)
        machine.write(RAM, NEW.to_bytes(4, "little"))
        machine.run(20)
        assert machine.registers["a0"] == 5 + 500


def test_a_fork_that_changes_its_code_leaves_the_other_alone(sealed):
    code = Code()
    code.li("a1", 0)
    code.la("t0", "loop")
    code.label("loop")
    code.word(OLD)
    code.op("beq", "a1", "zero", "loop")
    code.op("sw", "a1", 0, "t0")
    code.li("a1", 0)
    code.op("jal", "zero", "loop")
    with bare(code, sealed=sealed) as machine:
        machine.run(100)
        with machine.fork() as fork, machine.fork() as other:
            for one in (fork, other):
                one.registers["a1"] = NEW
            fork.run(max_cycles=300)
            machine.run(max_cycles=300)
            other.run(max_cycles=300)
            assert machine.registers["a0"] < 200
            assert fork.registers["a0"] > 100 * 100
            assert fork.digest() == other.digest()
            with fork.fork() as third:
                third.run(max_cycles=2)
                assert third.registers["a0"] - fork.registers["a0"] == 100


def test_rollback_brings_the_old_code_back(sealed):
    code = Code()
    code.li("t1", NEW)
    code.la("t0", "target")
    code.op("jal", "zero", "target")
    code.label("target")
    code.word(OLD)
    code.op("sw", "t1", 0, "t0")
    code.op("jal", "zero", "target")
    with bare(code, sealed=sealed) as machine:
        machine.run(4)
        machine.checkpoint()
        before = machine.digest()
        for _ in range(3):
            machine.run(max_cycles=30)
            assert machine.registers["a0"] > 900
            machine.rollback()
            assert machine.digest() == before


def test_code_of_a_machine_that_is_gone_is_gone(sealed):
    """Its pages may be given to another machine, with other code."""
    code = Code()
    code.word(OLD)
    code.op("jal", "zero", 0)
    with bare(code, sealed=sealed) as machine:
        for count in range(100):
            with machine.fork() as fork:
                fork.write(RAM, encode("addi", "a0", "a0", count).to_bytes(4, "little"))
                fork.checkpoint()
                fork.run(10)
                assert fork.registers["a0"] == count
                with fork.fork() as other:
                    other.registers["pc"] = RAM
                    other.run(20)
                    assert other.registers["a0"] == 2 * count


def test_stores_after_a_fork_are_not_seen_in_it(sealed):
    code = Code()
    code.li("s0", DATA)
    code.label("loop")
    code.op("addi", "a0", "a0", 1)
    code.op("sd", "a0", 0, "s0")
    code.op("jal", "zero", "loop")
    with bare(code, sealed=sealed) as machine:
        forks = []
        for cycle in range(10, 200, 10):
            machine.run(cycle)
            fork = machine.fork()
            forks.append((fork, fork.digest()))
        for fork, digest in forks:
            assert fork.digest() == digest
            fork.run(200)
            fork.run(203)
        machine.run(203)
        assert {fork.digest() for fork, _ in forks} == {machine.digest()}
        for fork, _ in forks:
            fork.close()


def test_a_store_that_writes_what_is_there_changes_nothing(sealed):
    def build(code):
        code.la("t0", "target")
        code.op("lw", "t1", 0, "t0")
        code.li("s0", 100)
        code.label("loop")
        code.op("sw", "t1", 0, "t0")
        code.label("target")
        code.word(OLD)
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "loop")

    assert patched(build, sealed) == 100


def test_programs_may_be_copied_and_run(sealed):
    def build(code):
        code.la("s0", "function")
        code.li("s1", DATA)
        code.li("s2", 20)
        code.label("again")
        for offset in (0, 4, 8):
            code.op("lw", "t0", offset, "s0")
            code.op("sw", "t0", offset, "s1")
        code.op("jalr", "ra", 0, "s1")
        code.op("addi", "s1", "s1", 1022)  # pages end in between
        code.op("addi", "s2", "s2", -1)
        code.op("bne", "s2", "zero", "again")
        code.op("jal", "zero", "end")
        code.label("function")
        code.word(OLD, NEW)
        code.op("jalr", "zero", 0, "ra")
        code.label("end")

    assert patched(build, sealed) == 20 * 101
