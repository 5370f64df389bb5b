"""Every unprivileged instruction with operands at its edges, in the groups of the official tests.

ui um ua uf ud uc: each instruction is done with pairs of edge values, and registers shared in any
way. Spike is the oracle for what each one did; both engines then end as the trace did. What the
groups mi and si have is in test_interrupts, test_translation and the random programs.
"""

import itertools
import random

import pytest

from tests.assembler import RAM, TABLE, Code
from tests.machine.core.small import ENGINES
from tests.machine.core.test_spike import no_timer, write
from tests.spike import compare, new_machine

DATA = RAM + 0x9000
WORDS = (
    0,
    1,
    2,
    -1,
    -2,
    31,
    63,
    0x7FFFFFFF,
    -0x80000000,
    (1 << 63) - 1,
    -(1 << 63),
    0x5555AAAA5555AAAA,
)
IMMEDIATES = (0, 1, -1, 2047, -2048, 0x555)
SHIFTS = (0, 1, 31, 32, 63)
DOUBLES = (
    0,
    1 << 63,
    0x3FF << 52,
    0xBFF8 << 48,
    1,
    1 << 52,
    0x7FEFFFFFFFFFFFFF,
    0x7FF << 52,
    0x7FF8 << 48,
    0x7FF0000000000001,
    0x43E0 << 48,
)
SINGLES = (
    0,
    1 << 31,
    0x3F800000,
    0xBFC00000,
    1,
    1 << 23,
    0x7F7FFFFF,
    0x7F800000,
    0x7FC00000,
    0x7F800001,
    0x4F000000,
)
LOADS = {"lb", "lbu", "lh", "lhu", "lw", "lwu", "ld", "flw", "fld"}
STORES = {"sb", "sh", "sw", "sd", "fsw", "fsd"}
BRANCHES = {"beq", "bne", "blt", "bge", "bltu", "bgeu"}
PRIVILEGED = {"ecall", "ebreak", "sret", "mret", "wfi", "sfence.vma", "illegal"}
OTHERS = {"fence", "fence.i", "jal", "jalr", "lui", "auipc"}


def group_of(name):
    """Name the group of an instruction."""
    operands, match, _ = TABLE[name]
    if name in PRIVILEGED or "csr" in operands:
        return "mi"
    if match & 0x7F == 0x2F:
        return "ua"
    if match & 0x7F in (0x33, 0x3B) and match >> 25 == 1:
        return "um"
    if "f" in operands:
        return "ud" if name.endswith(".d") or ".d." in name or name in ("fld", "fsd") else "uf"
    return "ui"


GROUPS = {
    group: [n for n in TABLE if group_of(n) == group] for group in ("ui", "um", "ua", "uf", "ud")
}


def start():
    """Begin a program that may compute with floats."""
    code = Code()
    no_timer(code)
    code.li("t0", 0x2000)
    code.csrw("mstatus", "t0")
    return code


def values_of(name, rng):
    """Registers and constants to try an instruction with: every pair, or some of the triples."""
    operands = TABLE[name][0]
    single = name.endswith(".s") or name == "fmv.x.w"
    floats = [0xFFFFFFFF << 32 | value for value in SINGLES] + [SINGLES[2]] if single else DOUBLES
    kinds = [
        floats if operand.startswith("fs") else WORDS
        for operand in operands.split(",")
        if operand in ("rs1", "rs2", "fs1", "fs2", "fs3")
    ]
    cases = list(itertools.product(*kinds))
    return rng.sample(cases, min(len(cases), 150))


def do(code, name, values, rng):
    """Load the operands and do it, with registers that are shared in any way."""
    operands = TABLE[name][0].split(",")
    registers, at = {}, iter(values)
    for operand in operands:
        if operand in ("rs1", "rs2"):
            registers[operand] = rng.choice((10, 11, 12, 18, 28))
            code.li(registers[operand], next(at))
        elif operand in ("fs1", "fs2", "fs3"):
            registers[operand] = rng.choice((0, 8, 10, 15, 31))
            code.li("t0", next(at))
            code.op("fmv.d.x", registers[operand], "t0")
    pool = [*registers.values(), 13, 19]
    parts = []
    for operand in operands:
        match operand:
            case "rd" | "fd":
                parts.append(rng.choice((*pool, 0) if operand == "rd" else pool))
            case "imm":
                parts.append(rng.choice(IMMEDIATES))
            case "shamt":
                parts.append(rng.choice(SHIFTS[:3] if name.endswith("w") else SHIFTS))
            case "rm":
                parts.append(rng.choice((0, 1, 2, 3, 4, 7)))
            case _:
                parts.append(registers[operand])
    code.op(name, *parts)


def access(code, name, rng):
    """Load or store at each offset of 16 bytes, near and far from the base."""
    for offset, far in itertools.product(range(16), (0, 2032, -2048)):
        code.li("s0", DATA + offset - far)
        value = rng.getrandbits(64)
        code.li("a1", value)
        code.op("fmv.d.x", "fa1", "a1")
        code.op(name, 11, far, "s0")
        if name in STORES:
            code.op("ld", "a2", far & ~7, "s0")


def atomics(code, name, rng):
    """Do an atomic with every pair of values in memory and register."""
    for old, new in itertools.product(WORDS, WORDS):
        code.li("s0", DATA)
        code.li("a1", old)
        code.li("a2", new)
        code.op("sd", "a1", 0, "s0")
        if name.startswith("lr"):
            code.op(name, "a3", "s0")
            continue
        if name.startswith("sc") and rng.random() < 0.7:
            code.op(name.replace("sc", "lr"), "a4", "s0")
        code.op(name, rng.choice((13, 12, 0)), "a2", "s0")
        code.op("ld", "a4", 0, "s0")


def other(code, name, rng):
    """Do one of those that have no values to try: constants, jumps, fences."""
    for value in (0, 1, 0x80000, 0xFFFFF, 0x7FFFF):
        if name in ("lui", "auipc"):
            code.op(name, rng.choice((10, 0)), value)
        elif name == "jal":
            code.op("jal", rng.choice((1, 0)), 8)
            code.op("addi", "a0", "a0", 1)
        elif name == "jalr":
            code.la("s0", code.here + 16 - 4 * (value & 1))
            code.op("jalr", rng.choice((1, 8, 0)), rng.choice((4, 5)) if value & 1 else 0, "s0")
            code.op("addi", "a0", "a0", 1)
        else:
            code.op(name)


def add_instruction(code, name, rng):
    """Add all that is tried of one instruction."""
    if name in LOADS | STORES:
        access(code, name, rng)
    elif group_of(name) == "ua":
        atomics(code, name, rng)
    elif name in OTHERS:
        other(code, name, rng)
    elif name in BRANCHES:
        for pair in itertools.product(WORDS, WORDS):
            code.li("a1", pair[0])
            code.li("a2", pair[1])
            code.op(name, "a1", "a2", 8)
            code.op("addi", "a0", "a0", 1)
    else:
        for values in values_of(name, rng):
            do(code, name, values, rng)


def check(program):
    """Compare with Spike, instruction by instruction, and the engines with each other."""
    found = compare(program, slices=(1, 100, 1000))
    assert found.mismatch is None, found.mismatch
    ends = []
    for engine in ENGINES:
        with new_machine(program) as machine:
            machine.engine = engine
            machine.run(found.lines)
            ends.append((machine.cycle, machine.digest()))
    assert ends[0] == ends[1]
    return found.lines


@pytest.mark.parametrize("name", [name for names in GROUPS.values() for name in names])
def test_an_instruction_at_its_edges(tmp_path, name):
    code = start()
    add_instruction(code, name, random.Random(name))
    assert check(write(tmp_path / "program.elf", code)) > 10


def test_no_instruction_is_in_no_group():
    grouped = {name for names in GROUPS.values() for name in names}
    assert {name for name in TABLE if group_of(name) == "mi"} == set(TABLE) - grouped


JUMPS = {(1, 5): 0xA011, (1, 6): 0xC011, (1, 7): 0xE011}  # c.j, c.beqz, c.bnez, over 4 bytes


def compressed_half(rng, quadrant, funct3):
    """Any half of that kind, that goes nowhere but a little forward."""
    half = rng.getrandbits(16) & 0x1FFC | funct3 << 13 | quadrant
    if (quadrant, funct3) in JUMPS:
        return JUMPS[quadrant, funct3] | (half & 0x380 if funct3 > 5 else 0)
    jumps = (quadrant, funct3) == (2, 4) and not half >> 2 & 31
    return half | 4 if jumps else half  # c.jr, c.jalr, c.ebreak become c.mv, c.add


@pytest.mark.parametrize("funct3", range(8))
@pytest.mark.parametrize("quadrant", range(3))
def test_compressed_instructions_at_random(tmp_path, quadrant, funct3):
    """Those that are illegal trap, and the handler goes on behind them."""
    rng = random.Random(f"{quadrant}{funct3}")
    code = start()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.op("jal", "zero", "begin")
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    code.csrr("t6", "mepc")
    code.op("addi", "t6", "t6", 2)
    code.csrw("mepc", "t6")
    code.op("mret")
    code.label("begin")
    for _ in range(150):
        for register in (2, *range(8, 16)):
            code.li(register, DATA + 8 * rng.randrange(64))
        value = rng.choice(WORDS)
        code.li(rng.randrange(10, 16), value if quadrant == 1 else DATA)
        code.op("fmv.d.x", rng.randrange(8, 16), "s0")
        code.half(compressed_half(rng, quadrant, funct3), 1, 1)
    assert check(write(tmp_path / "program.elf", code)) > 1000
