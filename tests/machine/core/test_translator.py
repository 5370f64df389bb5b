"""The translator: the same machine as with the interpreter, whatever happens while it runs."""

import os
import random
import subprocess
import sys
import threading

import pytest

from orchestra.errors import BackingFault, BadConfig
from orchestra.machine import Boot, Image, Machine, MachineConfig, Ram, ReachedCycle
from orchestra.machine._core import board
from tests.assembler import RAM, Code, encode
from tests.machine.core.small import (
    ENGINES,
    PAGE,
    bare,
    halt,
    identity_tables,
    in_every_way,
    sv39,
    until_halt,
)

FLOATS = 0x2000  # mstatus.FS
DYNAMIC = 7  # the rounding mode that frm says


def state_after(machine, cycles):
    """Everything but memory."""
    machine.run(cycles)
    return machine.cycle, machine.digest()


@pytest.fixture
def small_cache(monkeypatch):
    """A code cache that is full after a few pages, for the boards made meanwhile."""
    monkeypatch.setattr(board, "CODE_BYTES", 1 << 18)
    board.code_cache.cache_clear()
    yield
    board.code_cache.cache_clear()


def busy(seed, *, floats=True):
    """A loop over arithmetic on every register, with loads and stores of every size in between."""
    rng = random.Random(seed)
    code = Code()
    code.li("sp", RAM + 0x8000)
    code.li("t0", FLOATS)
    code.csrw("mstatus", "t0")
    for number in range(32):
        code.op("fcvt.d.l", number, 10 + number % 6, DYNAMIC)
    code.li("s11", 40)
    code.label("again")
    names = [n for n in range(1, 32) if n not in (2, 27)]
    for _ in range(150):
        rd, rs1, rs2 = (rng.choice(names) for _ in range(3))
        match rng.choice((0, 1, 2, 3, 4, 5) if floats else (0, 1, 2, 3, 5)):
            case 0:
                name = rng.choice(["sb", "sh", "sw", "sd"])
                code.op(name, rs2, rng.randrange(-2048, 2047), "sp")
            case 1:
                name = rng.choice(["lb", "lbu", "lh", "lhu", "lw", "lwu", "ld"])
                code.op(name, rd, rng.randrange(-2048, 2047), "sp")
            case 2:
                name = rng.choice(["div", "divu", "rem", "remu", "divw", "remuw", "mulhsu", "mulh"])
                code.op(name, rd, rs1, rs2)
            case 3:
                name = rng.choice(["addi", "slti", "sltiu", "xori", "ori", "andi", "addiw"])
                code.op(name, rd, rs1, rng.randrange(-2048, 2048))
            case 4:
                name = rng.choice(["fld", "fsd"])
                code.op(name, rs2, rng.randrange(-256, 255) * 8, "sp")
            case _:
                name = rng.choice(["add", "sub", "xor", "or", "and", "sll", "sra", "srlw", "addw"])
                code.op(name, rd, rs1, rs2)
    code.op("addi", "s11", "s11", -1)
    code.op("beq", "s11", "zero", 8)
    code.op("jal", "zero", "again")
    halt(code)
    return code


@pytest.mark.parametrize("seed", range(12))
def test_every_register_is_the_same_on_both_engines(seed):
    in_every_way(lambda: bare(busy(seed)), steps=(1, 97, 1000))


@pytest.mark.parametrize("name", ["ld", "sd", "lw", "sb", "fld", "fsd", "amoadd.d", "lr.d"])
def test_a_fault_in_translated_code_is_as_precise_as_in_interpreted_code(tmp_path, name):
    """An image became shorter; a hot loop full of live registers goes through its pages."""
    code = Code()
    code.li("t0", FLOATS)
    code.csrw("mstatus", "t0")
    code.li("s0", RAM + 0x100000)
    code.li("s1", PAGE)
    code.op("fcvt.d.l", "fa0", "s1", DYNAMIC)
    code.op("fcvt.d.l", "fa1", "s0", DYNAMIC)
    code.label("loop")
    for register in ("a0", "a1", "a2", "a3", "a4", "a5", "ra", "t1", "s2", "s11"):
        code.op("addi", register, register, 3)
    code.op("fmul.d", "fa1", "fa1", "fa0", DYNAMIC)
    code.op("fdiv.d", "fa2", "fa1", "fa0", DYNAMIC)
    code.op("fadd.d", "fs11", "fs11", "fa0", DYNAMIC)
    if name.startswith("amo"):
        code.op(name, "a2", "a1", "s0")
    elif name.startswith("lr"):
        code.op(name, "a2", "s0")
    else:
        code.op(name, 12, 8, "s0")
    code.op("add", "a3", "a3", "a2")
    code.op("addi", "t2", "t2", 1)
    code.op("andi", "t3", "t2", 63)
    code.op("bne", "t3", "zero", "loop")
    code.op("add", "s0", "s0", "s1")
    code.op("jal", "zero", "loop")
    (tmp_path / "code").write_bytes(code.finish())
    (tmp_path / "data").write_bytes(random.Random(0).randbytes(20 * PAGE))
    images = Image(tmp_path / "code", RAM), Image(tmp_path / "data", RAM + 0x100000)
    config = MachineConfig(ram=Ram(4 << 20), boot=Boot(images=images))
    whole = (tmp_path / "data").read_bytes()
    ends = []
    for engine in ENGINES:
        with Machine.create(config, engine=engine) as machine:
            machine.run(2000)
            os.truncate(tmp_path / "data", 8 * PAGE)
            while True:
                try:
                    stop = machine.run(30_000)
                except BackingFault as fault:
                    at = machine.cycle, fault.offset, machine._core.state
                    (tmp_path / "data").write_bytes(whole)
                else:
                    break
            ends.append((at, stop, machine.digest()))
    assert ends[0] == ends[1]
    assert ends[0][0][1] // PAGE == 8


def test_an_access_group_that_lies_on_two_pages_is_done_in_order():
    def make():
        code = Code()
        code.li("s0", 200)
        code.li("s1", RAM + 0x10000 - 20)
        code.label("loop")
        for offset in range(0, 48, 8):
            code.op("sd", "a0", offset, "s1")
            code.op("addi", "a0", "a0", 7)
        for register, offset in (("a1", 0), ("a2", 9), ("a3", 18), ("a4", 27), ("t4", 36)):
            code.op("ld", register, offset, "s1")
        for register, offset in (("a1", 50), ("a2", 40), ("a3", 30), ("t4", 20)):
            code.op("sd", register, offset, "s1")
        code.op("lbu", "s1", 55, "s1")  # the last of a group may change its base
        code.op("lui", "t0", (RAM + 0x10000) >> 12 & 0xFFFFF)
        code.op("slli", "t0", "t0", 32)
        code.op("srli", "t0", "t0", 32)
        code.op("addi", "s1", "t0", -20)
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "loop")
        halt(code)
        return bare(code)

    in_every_way(make, steps=(1, 5, 131))


def test_code_in_an_access_group_may_store_to_itself():
    def make():
        code = Code()
        code.li("s0", 5)
        code.li("t2", encode("addi", "a0", "a0", 100))
        code.label("loop")
        code.la("s1", "target")
        code.op("sw", "t2", -4, "s1")
        code.op("sw", "t2", 0, "s1")
        code.op("sw", "t2", 4, "s1")
        code.word(*[encode("addi", "a0", "a0", 1)] * 3)
        code.labels["target"] = code.here - 8
        code.op("addi", "t2", "t2", 0)
        code.op("xori", "t2", "t2", 0)
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "loop")
        halt(code)
        return bare(code)

    in_every_way(make, steps=(1, 4))


def test_a_status_register_may_be_written_in_a_loop_while_the_timer_is_due():
    def make():
        code = Code()
        code.la("t0", "handler")
        code.csrw("mtvec", "t0")
        code.li("t0", 0x200_4000)
        code.li("t1", 7)
        code.op("sd", "t1", 0, "t0")
        code.li("t0", 1 << 7)
        code.csrw("mie", "t0")
        code.label("loop")
        code.op("addi", "a0", "a0", 1)
        code.op("csrrsi", "a1", "mstatus", 8)
        code.op("addi", "a2", "a2", 1)
        code.op("csrrci", "a3", "mstatus", 8)
        code.csrr("a4", "mcycle")
        code.op("add", "a5", "a5", "a4")
        code.op("jal", "zero", "loop")
        code.pad(code.here + -code.here % 4)
        code.label("handler")
        code.csrr("s0", "mepc")
        halt(code)
        return bare(code)

    in_every_way(make, steps=(1, 3, 50))


@pytest.mark.parametrize("frm", range(5))
def test_floats_round_and_raise_flags_as_frm_says_when_it_changes_under_way(frm):
    def make():
        code = Code()
        code.li("t0", FLOATS)
        code.csrw("mstatus", "t0")
        for number, value in enumerate((1, 3, 1 << 62, 0x7FF0000000000000, -1, 10)):
            code.li("t1", value)
            if number == 3:
                code.op("fmv.d.x", number, "t1")
            else:
                code.op("fcvt.d.l", number, "t1", DYNAMIC)
        code.li("s0", 60)
        code.label("loop")
        code.op("andi", "t0", "s0", 7)
        code.li("t1", frm)
        code.op("bne", "t0", "zero", 8)
        code.csrw("frm", "t1")
        code.op("bne", "t0", "zero", 8)
        code.csrw("fflags", "zero")
        for name, rd, rs1, rs2 in (
            ("fdiv.d", 8, 0, 1),
            ("fadd.d", 9, 2, 8),
            ("fmul.d", 10, 9, 2),
            ("fsub.d", 11, 3, 3),
            ("fdiv.d", 12, 0, 13),
        ):
            code.op(name, rd, rs1, rs2, DYNAMIC)
        code.op("fsqrt.d", 14, 4, DYNAMIC)
        code.op("feq.d", "a0", 11, 11)
        code.op("flt.d", "a1", 8, 9)
        code.csrr("a2", "fcsr")
        code.op("add", "a3", "a3", "a2")
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "loop")
        halt(code)
        return bare(code)

    in_every_way(make, steps=(1, 11))


def test_pages_are_remapped_under_translated_code():
    """Two pages of different code take turns at one address, through the page table."""
    root = RAM + 0x40000
    window = RAM + 0x3000

    def make():
        code = Code()
        code.li("s2", root + 2 * PAGE + 8 * 3)  # the window's entry
        code.li("s3", (RAM + 0x3000) >> 12 << 10 | 0xCF)
        code.li("s4", (RAM + 0x4000) >> 12 << 10 | 0xCF)
        code.li("s5", window)
        code.la("t0", "mapped")
        code.csrw("mepc", "t0")
        code.li("t0", 1 << 11)
        code.op("csrrs", 0, "mstatus", "t0")
        sv39(code, root)
        code.op("mret")
        code.label("mapped")
        code.li("s0", 40)
        code.label("loop")
        for entry in ("s3", "s4"):
            code.op("sd", entry, 0, "s2")
            code.op("sfence.vma", 0, 0)
            for _ in range(3):
                code.op("jalr", "ra", 0, "s5")
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", "loop")
        code.op("ecall")
        code.pad(RAM + 0x3000)
        code.op("addi", "a0", "a0", 1)
        code.op("jalr", "zero", 0, "ra")
        code.pad(RAM + 0x4000)
        code.op("addi", "a0", "a0", 1000 - 1)
        code.op("jalr", "zero", 0, "ra")
        return bare(code, identity_tables(root))

    ends = []
    for engine in ENGINES:
        with make() as machine:
            machine.engine = engine
            ends.append(state_after(machine, 3000))
            assert machine.registers["a0"] == 40 * 3 * 1000
    assert ends[0] == ends[1]


def much_code(pages, seed):
    """A different short loop on every page, and twice through all of them."""
    rng = random.Random(seed)
    code = Code()
    code.li("s2", 2)
    code.label("again")
    for page in range(pages):
        code.pad(RAM + page * PAGE + 64 if page else code.here)
        code.li("s0", 3)
        start = code.here
        for _ in range(rng.randrange(200, 400)):
            code.op("addi", rng.randrange(10, 18), rng.randrange(10, 18), rng.randrange(-9, 9))
            if rng.random() < 0.2:
                code.op("bne", 10, 11, 8)
        code.op("add", "a0", "a0", "a1")
        code.op("add", "a0", "a0", "a1")
        code.op("addi", "s0", "s0", -1)
        code.op("bne", "s0", "zero", start - code.here)
        if page + 1 < pages:
            code.op("jal", "zero", RAM + (page + 1) * PAGE + 64 - code.here)
    code.op("addi", "s2", "s2", -1)
    code.op("beq", "s2", "zero", 16)
    code.la("t0", "again")
    code.op("jalr", "zero", 0, "t0")
    halt(code)
    return code


@pytest.mark.usefixtures("small_cache")
def test_a_full_cache_is_emptied_and_filled_again():
    in_every_way(lambda: bare(much_code(100, 1)), steps=(1000, 77_777))


@pytest.mark.usefixtures("small_cache")
def test_threads_that_fill_one_cache_agree():
    with Machine.create(MachineConfig(ram=Ram(1 << 20)), engine="translator") as machine:
        machine.write(RAM, much_code(100, 2).finish())
        machine.registers["pc"] = RAM
        machine.checkpoint()
        expected = until_halt(machine.fork()).digest()
        ends = []

        def run(fork):
            while isinstance(fork.run(max_cycles=5000), ReachedCycle):
                pass
            ends.append(fork.digest())

        threads = [threading.Thread(target=run, args=(machine.fork(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ends == [expected] * 4


def test_the_engine_may_be_changed_at_any_cycle_and_is_not_part_of_the_machine():
    expected = until_halt(bare(busy(99)))
    rng = random.Random(5)
    with bare(busy(99)) as machine:
        while isinstance(machine.run(max_cycles=rng.randrange(1, 300)), ReachedCycle):
            machine.engine = rng.choice(["auto", *ENGINES])
        assert (machine.cycle, machine.digest()) == (expected.cycle, expected.digest())


def test_where_nothing_may_be_executed_everything_is_interpreted(monkeypatch):
    expected = until_halt(bare(busy(3))).digest()
    monkeypatch.setattr(board, "map_executable", lambda _: None)
    board.code_cache.cache_clear()
    try:
        with bare(busy(3)) as machine:
            assert until_halt(machine).digest() == expected
            with pytest.raises(BadConfig, match="lets nobody make code"):
                machine.engine = "translator"
            assert machine.engine == "auto"
    finally:
        board.code_cache.cache_clear()


FORKED = """
import os, sys
from tests.machine.core.small import bare, until_halt
from tests.machine.core.test_translator import busy
machine = bare(busy(7))
machine.engine = "translator"
machine.run(max_cycles=3000)
read, write = os.pipe()
child = os.fork()
if not child:
    os.write(write, until_halt(machine).digest().encode())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert os.read(read, 100).decode() == until_halt(machine).digest()
"""


def test_a_forked_child_goes_on_without_its_parents_translations():
    subprocess.run([sys.executable, "-c", FORKED], check=True)


def test_an_endless_loop_hears_the_stop_flag():
    code = Code()
    code.label("loop")
    code.op("addi", "a0", "a0", 1)
    code.op("jal", "zero", "loop")
    with bare(code) as machine:
        machine.engine = "translator"
        machine.run(max_cycles=1000)
        timer = threading.Timer(0.05, machine.interrupt)
        timer.start()
        stop = machine.run()
        timer.join()
        assert type(stop).__name__ == "Interrupted"
        assert machine.registers["a0"] == (stop.cycle + 1) // 2
