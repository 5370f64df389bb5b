"""Interrupts come at their cycle, to the right mode, in the right order; WFI waits for them."""

import pytest

from orchestra.machine import Halted, Idle, ReachedCycle
from tests.assembler import RAM, Code
from tests.machine.core.small import CYCLES_PER_TICK, MTIMECMP, bare, halt, in_every_way, until_halt

MSIP, MTIME = 0x200_0000, 0x200_BFF8
SSI, MSI, STI, MTI, SEI, MEI = 1, 3, 5, 7, 9, 11
MIE, SIE, MPIE, MPP_S = 8, 2, 0x80, 0x800
INTERRUPT = 1 << 63


def timer_program(tick, padding):
    """A loop of `padding` and four instructions that the timer ends; a0 counts turns."""
    code = Code()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("t0", MTIMECMP)
    code.li("t1", tick)
    code.op("sd", "t1", 0, "t0")
    code.li("t0", 1 << MTI)
    code.csrw("mie", "t0")
    code.op("csrrsi", 0, "mstatus", MIE)
    code.label("loop")
    for _ in range(padding):
        code.op("add", "a2", "a2", "a0")
    code.op("addi", "a0", "a0", 1)
    code.half(0x0585)  # c.addi a1, 1
    code.op("sd", "a0", -8, "sp")
    code.op("jal", "zero", "loop")
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    code.csrr("s0", "mcycle")
    code.csrr("s1", "mepc")
    code.csrr("s2", "minstret")
    halt(code)
    return code


@pytest.mark.parametrize("padding", [*range(9), 300])
@pytest.mark.parametrize("tick", [1, 2, 7])
def test_the_timer_interrupts_at_its_cycle_wherever_the_loop_is(padding, tick):
    def make():
        machine = bare(timer_program(tick, padding))
        machine.registers["sp"] = RAM + 0x10000
        return machine

    machine = in_every_way(make, steps=(1, 3, 99))
    assert machine.registers["mcause"] == INTERRUPT | MTI
    assert machine.registers["s0"] == tick * CYCLES_PER_TICK
    assert machine.registers["s2"] == tick * CYCLES_PER_TICK + 2
    start = bare(timer_program(tick, padding))
    start.registers["sp"] = RAM + 0x10000
    start.run(tick * CYCLES_PER_TICK)
    assert start.registers["pc"] == machine.registers["s1"]


def test_the_timer_may_be_set_to_every_cycle_of_a_loop():
    """The clock starts anywhere within a tick, so that the tick's end meets every instruction."""
    code = timer_program(2, 3)
    seen = set()
    for skipped in range(40):
        before = Code(RAM + 0x8000)
        for _ in range(skipped):
            before.op("addi", 0, 0, 0)
        before.op("jal", "zero", RAM - before.here)
        with bare(code, {before.address: before.finish()}) as machine:
            machine.registers["sp"] = RAM + 0x10000
            machine.registers["pc"] = before.address
            until_halt(machine)
            assert machine.registers["s0"] == 2 * CYCLES_PER_TICK
            seen.add(machine.registers["s1"])
    assert len(seen) == 7


def wait_program(enable, status, before=0):
    """Wait for the timer at tick 5, then stop; a0 and a1 are the clock before and after."""
    code = Code()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("t0", MTIMECMP)
    code.li("t1", 5)
    code.op("sd", "t1", 0, "t0")
    code.li("t0", enable)
    code.csrw("mie", "t0")
    code.csrr("s1", "minstret")
    for _ in range(before):
        code.op("addi", 0, 0, 0)
    code.op("csrrsi", 0, "mstatus", status)
    code.csrr("a0", "mcycle")
    code.op("wfi")
    code.csrr("a1", "mcycle")
    code.csrr("s2", "minstret")
    halt(code)
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    code.csrr("a2", "mcycle")
    code.csrr("a3", "mepc")
    halt(code)
    return code


def test_wfi_jumps_to_the_timer_and_goes_on_when_interrupts_are_off():
    machine = in_every_way(lambda: bare(wait_program(1 << MTI, 0)), steps=(1, 7, 100))
    assert machine.registers["a1"] == 5 * CYCLES_PER_TICK
    assert machine.registers["s2"] - machine.registers["s1"] == 5  # waiting retires nothing
    assert machine.registers["a2"] == 0


def test_wfi_ends_in_the_handler_when_interrupts_are_on():
    machine = in_every_way(lambda: bare(wait_program(1 << MTI, MIE)), steps=(1, 7, 100))
    assert machine.registers["a2"] == 5 * CYCLES_PER_TICK
    assert machine.registers["a1"] == 0
    assert machine.registers["a3"] > RAM


def test_wfi_after_the_timer_does_not_wait():
    machine = in_every_way(lambda: bare(wait_program(1 << MTI, 0, before=600)), steps=(1, 7))
    assert machine.registers["a1"] == machine.registers["a0"] + 2


def test_wfi_without_anything_to_wait_for_is_idle():
    with bare(wait_program(1 << MSI, 0)) as machine:
        stop = machine.run()
        assert stop == Idle(stop.cycle)
        assert machine.run() == stop
        assert machine.run(stop.cycle + 10) == stop
        machine.registers["mie"] = 1 << MTI  # now there is
        assert isinstance(machine.run(), Halted)


def test_a_waiting_machine_stops_at_the_cycle_it_is_told():
    with bare(wait_program(1 << MTI, 0)) as machine:
        assert machine.run(300) == ReachedCycle(300)
        assert machine.run(301) == ReachedCycle(301)
        assert isinstance(machine.run(), Halted)
        assert machine.registers["a1"] == 5 * CYCLES_PER_TICK


def test_a_wait_of_a_year_takes_no_time():
    ticks = 365 * 86400 * 10_000_000
    code = Code()
    code.li("t0", 1 << MTI)
    code.csrw("mie", "t0")
    code.li("t0", MTIMECMP)
    code.li("t1", ticks)
    code.op("sd", "t1", 0, "t0")
    code.op("wfi")
    halt(code)
    with bare(code) as machine:
        until_halt(machine, max_cycles=1 << 60)
        assert machine.cycle > ticks * CYCLES_PER_TICK


@pytest.mark.parametrize("bit", [SSI, STI, SEI])
@pytest.mark.parametrize("delegated", [False, True])
@pytest.mark.parametrize("mode", [3, 1, 0])
@pytest.mark.parametrize("enabled", [False, True])
def test_software_interrupts_go_to_the_mode_they_are_for(bit, delegated, mode, enabled):
    code = Code()
    for name, label in (("mtvec", "machine"), ("stvec", "supervisor")):
        code.la("t0", label)
        code.csrw(name, "t0")
    code.li("t0", 1 << bit)
    if delegated:
        code.csrw("mideleg", "t0")
    code.csrw("mie", "t0")
    code.csrw("mip", "t0")
    code.la("t0", "body")
    code.csrw("mepc", "t0")
    code.li("t0", mode << 11 | (MPIE | SIE if enabled else 0))
    code.csrw("mstatus", "t0")
    code.op("mret")
    code.label("body")
    code.op("addi", "a0", "zero", 1)
    halt(code)
    for name, found in (("machine", 3), ("supervisor", 1)):
        code.pad(code.here + -code.here % 4)
        code.label(name)
        code.op("addi", "a1", "zero", found)
        halt(code)
    machine = in_every_way(lambda: bare(code))
    if delegated:
        expected = 1 if mode == 0 or (mode == 1 and enabled) else 0
        cause = machine.registers["scause"]
    else:
        expected = 3 if mode < 3 or enabled else 0
        cause = machine.registers["mcause"]
    assert (machine.registers["a0"], machine.registers["a1"]) == (not expected, expected)
    assert cause == (INTERRUPT | bit if expected else 0)


def test_the_most_urgent_interrupt_comes_first():
    code = Code()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    for address, value in ((MSIP, 1), (MTIMECMP, 0)):
        code.li("t0", address)
        code.li("t1", value)
        code.op("sw", "t1", 0, "t0")
    code.li("t1", 0)
    code.op("sw", "t1", 4, "t0")
    code.li("t0", 1 << SSI | 1 << STI | 1 << SEI)
    code.csrw("mip", "t0")
    code.li("s0", RAM + 0x8000)
    code.li("t0", 0xAAA)
    code.csrw("mie", "t0")
    code.op("csrrsi", 0, "mstatus", MIE)
    halt(code)
    code.pad(code.here + -code.here % 4)
    code.label("handler")  # note the cause, and mask it
    code.csrr("t0", "mcause")
    code.op("sb", "t0", 0, "s0")
    code.op("addi", "s0", "s0", 1)
    code.li("t1", 1)
    code.op("sll", "t1", "t1", "t0")
    code.op("csrrc", 0, "mie", "t1")
    code.op("mret")
    machine = in_every_way(lambda: bare(code))
    assert list(machine.read(RAM + 0x8000, 6)) == [MSI, MTI, SEI, SSI, STI, 0]


@pytest.mark.parametrize("vectored", [False, True])
def test_vectored_handlers_are_for_interrupts_only(vectored):
    code = Code()
    code.la("t0", "table")
    code.op("ori", "t0", "t0", int(vectored))
    code.csrw("mtvec", "t0")
    code.op("csrrsi", 0, "mip", 2)
    code.op("csrrsi", 0, "mie", 2)
    code.op("ecall")
    code.pad(RAM + 0x100)
    code.label("table")
    for index in range(12):
        code.op("jal", "zero", f"entry{index}")
    for index in range(12):
        code.label(f"entry{index}")
        code.op("addi", "a0", "zero", index + 1)
        if index == 0:
            code.csrr("a1", "mcause")
            code.op("blt", "a1", "zero", "end")
            code.la("t0", "again")
            code.csrw("mepc", "t0")
            code.op("addi", "s0", "a0", 0)
            code.li("t0", 0x1880)
            code.csrw("mstatus", "t0")
            code.op("mret")
            code.label("again")
            code.op("addi", 0, 0, 0)
        code.op("jal", "zero", "end")
    code.label("end")
    halt(code)
    machine = in_every_way(lambda: bare(code))
    assert machine.registers["s0"] == 1
    assert machine.registers["a0"] == (2 if vectored else 1)
    assert machine.registers["mcause"] == INTERRUPT | SSI


def test_writing_mtime_moves_the_clock():
    code = Code()
    code.li("t0", MTIME)
    code.li("t1", 1_000_000)
    code.op("sd", "t1", 0, "t0")
    code.op("ld", "a0", 0, "t0")
    code.csrr("a1", "time")
    code.op("lw", "a2", 4, "t0")
    halt(code)
    machine = in_every_way(lambda: bare(code))
    names = ("a0", "a1", "a2")
    assert [machine.registers[name] for name in names] == [1_000_000, 1_000_000, 0]


@pytest.mark.parametrize("time", [0, 2, (1 << 64) - 4])
def test_the_timer_comes_when_the_clock_was_set(time):
    """Also back, to before the ticks that have passed already."""
    code = timer_program(time + 3, 1)
    before = Code(RAM + 0x8000)
    for _ in range(650):
        before.op("addi", 0, 0, 0)
    before.li("t0", MTIME)
    before.li("t1", time)
    before.op("sd", "t1", 0, "t0")
    before.op("jal", 0, RAM - before.here)
    data = {before.address: before.finish()}

    def make():
        machine = bare(code, data)
        machine.registers["sp"] = RAM + 0x10000
        machine.registers["pc"] = before.address
        return machine

    machine = in_every_way(make, steps=(1, 7))
    assert machine.registers["mcause"] == INTERRUPT | MTI
    assert machine.registers["s0"] == (6 + 3) * CYCLES_PER_TICK


def test_counters_that_are_written_go_on_from_there():
    code = Code()
    code.li("t0", 1000)
    code.csrw("minstret", "t0")
    code.csrr("a0", "minstret")
    code.csrr("a1", "minstret")
    code.csrw("mcycle", "t0")
    code.csrr("a2", "mcycle")
    code.op("csrrw", "a3", "mcycle", "t0")
    code.csrr("a4", "cycle")
    halt(code)
    machine = in_every_way(lambda: bare(code))
    found = [machine.registers[f"a{index}"] for index in range(5)]
    assert found == [1000, 1001, 1000, 1001, 1000]
