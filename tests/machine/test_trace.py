"""Traces have the form of Spike's commit log, and change nothing.

The expected lines are Spike's own; tests/machine/core/test_spike.py compares millions more.
"""

import pytest

from orchestra.errors import BackingFault, MachineBusy
from orchestra.machine import Drive, Halted, Idle, Machine, MachineConfig
from tests.assembler import RAM, Code
from tests.machine.core.small import MTIMECMP, bare, halt, until_halt

DATA = RAM + 0x1000
AMO_STORE = " mem 0x0000000080001000 0x92346678"


def traced(build, cycles=100):
    """The lines of a program's trace, from the privilege on."""
    code = Code()
    build(code)
    machine = bare(code, {DATA: (0x3FF0000012345678).to_bytes(8, "little")})
    return [line.removeprefix("core   0: ") for line in machine.trace(max_cycles=cycles)]


@pytest.mark.parametrize(
    ("instruction", "line"),
    [
        (("addi", "t0", "zero", 1), "(0x00100293) x5  0x0000000000000001"),
        (("addi", "s2", "zero", -1), "(0xfff00913) x18 0xffffffffffffffff"),
        (("addi", "zero", "zero", 1), "(0x00100013)"),
        (("fence",), "(0x0ff0000f)"),
        (("lw", "t0", 0, "s0"),
         "(0x00042283) x5  0x0000000012345678 mem 0x0000000080001000"),
        (("lb", "zero", 1, "s0"), "(0x00140003) mem 0x0000000080001001"),
        (("sb", "s0", 3, "s0"), "(0x008401a3) mem 0x0000000080001003 0x00"),
        (("sh", "s0", 3, "s0"), "(0x008411a3) mem 0x0000000080001003 0x1000"),
        (("sd", "s0", 0, "s0"),
         "(0x00843023) mem 0x0000000080001000 0x0000000080001000"),
        (("amoadd.w", "t0", "s0", "s0"),
         "(0x008422af) x5  0x0000000012345678 mem 0x0000000080001000" + AMO_STORE),
        (("lr.d", "t0", "s0"),
         "(0x100432af) x5  0x3ff0000012345678 mem 0x0000000080001000"),
        (("sc.d", "t0", "s0", "s0"), "(0x188432af) x5  0x0000000000000001"),
        (("csrrw", "t0", "mscratch", "s0"),
         "(0x340412f3) x5  0x0000000000000000 c832_mscratch 0x0000000080001000"),
        (("csrrs", "t0", "mscratch", "zero"), "(0x340022f3) x5  0x0000000000000000"),
        (("csrrw", "zero", "fcsr", "s0"),
         "(0x00341073) c1_fflags 0x0000000000000000 c2_frm 0x0000000000000000"),
        (("csrrw", "zero", "sie", "s0"),
         "(0x10441073) c260_sie 0x0000000000000000 c772_mie 0x0000000000000000"),
        (("csrrw", "zero", "mhpmcounter3", "s0"), "(0xb0341073)"),
        (("csrrw", "zero", "mhpmevent3", "s0"),
         "(0x32341073) c803_mhpmevent3 0x0000000000000000"),
        (("fld", "fa0", 0, "s0"),
         "(0x00043507) f10 0x3ff0000012345678 mem 0x0000000080001000"),
        (("flw", "f0", 0, "s0"),
         "(0x00042007) f0  0xffffffff12345678 mem 0x0000000080001000"),
        (("fdiv.d", "f3", "f1", "f2", 0),
         "(0x1a2081d3) c1_fflags 0x0000000000000010 f3  0x7ff8000000000000"),
        (("fadd.d", "f0", "f1", "f2", 0), "(0x02208053) f0  0x0000000000000000"),
        (("feq.s", "a0", "f1", "f2"), "(0xa020a553) x10 0x0000000000000000"),
    ],
)  # fmt: skip
def test_a_line_shows_what_an_instruction_wrote(instruction, line):
    numbers = {"mhpmcounter3": 0xB03, "mhpmevent3": 0x323}

    def build(code):
        code.li("s0", 0x6000)
        code.csrw("mstatus", "s0")
        code.la("s0", DATA)
        code.op(*(numbers.get(part, part) for part in instruction))

    assert traced(build, cycles=6)[-1] == f"3 0x{RAM + 18 - 2:016x} {line}"


def test_compressed_instructions_are_shown_as_they_are():
    lines = traced(lambda code: code.half(0x4285, 0x0001), cycles=2)
    assert lines[0] == "3 0x0000000080000000 (0x4285) x5  0x0000000000000001"
    assert lines[1] == "3 0x0000000080000002 (0x0001)"


def test_the_first_float_makes_mstatus_dirty_and_mret_changes_it():
    def build(code):
        code.li("t0", 0x2000)
        code.csrw("mstatus", "t0")
        code.op("fmv.w.x", "f1", "zero")
        code.op("fmv.w.x", "f1", "zero")
        code.op("mret")

    lines = traced(build, cycles=5)
    assert lines[1].endswith("c768_mstatus 0x0000000a00002000")
    assert lines[2].endswith("f1  0xffffffff00000000 c768_mstatus 0x8000000a00006000")
    assert lines[3].endswith("f1  0xffffffff00000000")
    assert lines[4].endswith("(0x30200073) c768_mstatus 0x8000000a00006080")


def test_flags_that_were_there_already_are_shown_when_raised_again():
    def build(code):
        code.li("t0", 0x6000)
        code.csrw("mstatus", "t0")
        code.op("csrrwi", "zero", "fflags", 1)
        code.op("fdiv.d", "f1", "f2", "f2", 0)
        code.op("fdiv.d", "f1", "f2", "f2", 0)
        code.op("fadd.d", "f1", "f1", "f2", 0)
        code.csrr("t0", "fflags")

    lines = traced(build, cycles=8)
    assert "c1_fflags 0x0000000000000011" in lines[3]
    assert "c1_fflags 0x0000000000000011" in lines[4]
    assert "fflags" not in lines[5]
    assert lines[6].endswith("x5  0x0000000000000011")


def test_an_instruction_that_traps_has_no_line():
    def build(code):
        code.la("t0", "handler")
        code.csrw("mtvec", "t0")
        code.op("ecall")
        code.pad(RAM + 0x40)
        code.label("handler")
        code.csrr("t1", "mcause")

    lines = traced(build, cycles=5)
    assert [line[2:20] for line in lines] == [
        f"0x{RAM + offset:016x}" for offset in (0, 4, 8, 0x40)
    ]
    assert lines[-1].endswith("x6  0x000000000000000b")


def test_waiting_has_no_lines_and_takes_no_time():
    code = Code()
    code.li("t0", 0x80)
    code.csrw("mie", "t0")
    code.li("t0", MTIMECMP)
    code.li("t1", 1 << 40)
    code.op("sd", "t1", 0, "t0")
    code.op("wfi")
    halt(code)
    with bare(code) as machine:
        lines = list(machine.trace())
        assert isinstance(machine.run(), Halted)
        assert machine.cycle > 100 << 40
    assert len(lines) < 20


def test_a_trace_ends_where_a_run_would():
    code = Code()
    code.op("addi", "a0", "a0", 1)
    code.op("wfi")
    with bare(code) as machine:
        assert len(list(machine.trace())) == 2
        assert isinstance(machine.run(), Idle)
        assert list(machine.trace()) == []
    halted = Code()
    halt(halted)
    with bare(halted) as machine:
        until_halt(machine)
        digest = machine.digest()
        assert list(machine.trace()) == []
        assert machine.digest() == digest


def test_a_trace_until_a_cycle_stops_there():
    code = Code()
    code.op("jal", 0, 0)
    with bare(code) as machine:
        assert len(list(machine.trace(until=10_000))) == 10_000
        assert machine.cycle == 10_000
        assert len(list(machine.trace(max_cycles=5))) == 5
        assert len(list(machine.trace(until=7))) == 0


def test_a_machine_is_busy_while_it_is_traced():
    code = Code()
    code.op("jal", 0, 0)
    with bare(code) as machine:
        lines = machine.trace()
        next(lines)
        with pytest.raises(MachineBusy):
            machine.run(100)
        lines.close()
        machine.run(10**6)


def test_lines_up_to_a_fault_of_the_files_are_given(tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 21))
    config = MachineConfig(drives=(Drive("d", kind="pmem", path=disk, shared=True),))
    code = Code()
    with Machine.create(config) as machine:
        start = next(item.start for item in machine.layout.ranges if item.name == "d")
        code.li("s0", start)
        code.op("ld", "a0", 0, "s0")
        code.op("addi", "a1", "a0", 7)
        code.op("ld", "a2", 0, "s0")
        machine.write(RAM, code.finish())
        with disk.open("r+b") as file:
            file.truncate(0)
        lines = []
        with pytest.raises(BackingFault):
            lines.extend(machine.trace())  # keeps what came before the fault
        assert len(lines) == (code.here - 12 - RAM) // 4
        with disk.open("r+b") as file:
            file.truncate(1 << 21)
        assert machine.registers["pc"] == code.here - 12
        again = list(machine.trace(max_cycles=3))
        assert again[1].endswith("x11 0x0000000000000007")
