"""What we execute, register by register and store by store, is what Spike executes."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.assembler import CSR, RAM, TABLE, Code, elf
from tests.random_programs.program import random_program
from tests.spike import DIFFERENCES, Line, compare, explain, new_machine, run_spike

TOHOST = RAM + 0x8000
SLICES = (1, 2, 3, 5, 8, 100, 1000)
TRAPPING = {"ecall", "ebreak", "illegal"}


def write(path, code):
    """Make an ELF of code, with an end."""
    code.li("t0", TOHOST)
    code.li("t1", 1)
    code.op("sd", "t1", 0, "t0")
    code.op("jal", "zero", 0)
    symbols = {"tohost": TOHOST, "fromhost": TOHOST + 64}
    path.write_bytes(elf([(RAM, code.finish()), (TOHOST, bytes(128))], symbols))
    return path


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("modes", ["M", "S", "U", "MSU"])
def test_random_programs_do_the_same_on_spike(tmp_path, modes, seed):
    program = tmp_path / "program.elf"
    program.write_bytes(random_program(random.Random(f"{modes}{seed}"), 12, 100, modes))
    found = compare(program, slices=SLICES)
    assert found.mismatch is None, found.mismatch
    assert found.lines > 1000


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.randoms(use_true_random=False), st.sampled_from("MSU"), st.integers(1, 12), st.integers(0, 9)
)
def test_small_programs_do_the_same_on_spike(tmp_path_factory, rng, mode, items, seed):
    program = tmp_path_factory.mktemp("small") / "program.elf"
    program.write_bytes(random_program(rng, 1, items, mode, random.Random(seed)))
    found = compare(program)
    assert found.mismatch is None, found.mismatch


def test_every_instruction_of_the_table_retires_in_random_programs(tmp_path):
    program = tmp_path / "program.elf"
    missing = set(TABLE) - TRAPPING
    for seed in range(30):
        program.write_bytes(random_program(random.Random(f"MSU{seed}"), 12, 100))
        with new_machine(program) as machine:
            words = {int(line[32:].split(")")[0], 16) for line in machine.trace()}
        for word in words:
            if word & 3 == 3:
                missing -= {name for name in missing if word & TABLE[name][2] == TABLE[name][1]}
        if not missing:
            break
    assert not missing


def no_timer(code):
    """Spike's timer is due at reset."""
    code.li("t0", 0x2004000)
    code.li("t1", -1)
    code.op("sd", "t1", 0, "t0")


def csr_program():
    """Write and read every CSR there is, with zeros, ones and everything in between."""
    code = Code()
    code.li("t0", 0x2000)
    code.csrw("mstatus", "t0")
    code.csrw("minstret", "zero")
    no_timer(code)
    for name, number in CSR.items():
        readable_only = number >> 10 == 3 or name in ("misa", "mcountinhibit", "mtvec", "satp")
        for value in (0,) if readable_only else (0, -1, 0x5555555555555555, 0xF0F0F0F0F0F0F0, 2):
            code.csrr("a0", name)
            if not readable_only:
                code.li("a1", value)
                code.op("csrrw", "a2", name, "a1")
                code.op("csrrs", "a3", name, "a1")
                code.op("csrrci", "a4", name, 31)
        if name == "mstatus":
            code.csrw("mstatus", "zero")
            code.li("t0", 0x2000)
            code.csrw("mstatus", "t0")
        elif name in ("mie", "medeleg", "mideleg", "minstret"):
            code.csrw(name, "zero")
    return code


def test_every_csr_keeps_the_bits_that_spike_keeps(tmp_path):
    found = compare(write(tmp_path / "csr.elf", csr_program()))
    assert found.mismatch is None, found.mismatch
    assert found.lines > 10 * len(CSR)


def differences_program():
    """Do what is known to differ, once each."""
    code = Code()
    code.op("jal", "zero", "start")
    code.pad(RAM + 8)
    code.csrr("a0", "mcause")
    code.csrr("a1", "mepc")
    code.op("addi", "a1", "a1", 4)
    code.csrw("mepc", "a1")
    code.op("mret")
    code.label("start")
    code.li("t0", RAM + 8)
    code.csrw("mtvec", "t0")
    no_timer(code)
    code.csrr("a0", "marchid")
    code.op("csrrsi", "a0", "mip", 2)
    code.li("t0", 0xFF << 44)
    code.csrw("satp", "t0")
    code.li("t0", -1)
    code.csrw("medeleg", "t0")
    code.csrw("medeleg", "zero")
    code.li("t1", RAM + 2)
    code.op("lr.w", "zero", "t1")
    return code


def test_every_difference_in_the_table_is_there(tmp_path):
    """So that none stays in the table when it is no more."""
    program = write(tmp_path / "differences.elf", differences_program())
    with new_machine(program) as machine:
        ours = list(machine.trace())
    theirs = run_spike(program).log
    reasons = {explain(a, b) for a, b in zip(ours, theirs, strict=False) if a != b}
    assert reasons == set(DIFFERENCES)


def test_lines_that_differ_otherwise_are_not_explained():
    ours = "core   0: 3 0x0000000080000000 (0x00150513) x10 0x0000000000000001"
    for spike in (ours[:-1] + "2", ours.replace("x10", "x11"), ours.replace(": 3", ": 1")):
        assert explain(ours, spike) is None
    read = "core   0: 3 0x0000000080000000 (0x342025f3) x11 0x000000000000000"
    assert explain(read + "6", read + "7") is not None
    assert explain(read + "6", read + "5") is None
    assert Line.parse(read + "6").csr == CSR["mcause"]
