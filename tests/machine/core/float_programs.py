"""Guest programs that do every instruction of F and D, with operands from the formats' edges."""

from __future__ import annotations

import random
import struct

from tests.assembler import RAM, TABLE, Code
from tests.machine.core.small import halt

OPERANDS, RESULTS = RAM + 0x40000, RAM + 0x60000
CASES = 60
FLOATS = 0x2000  # mstatus.FS
DYNAMIC = 7
MEMORY = {"flw", "fld", "fsw", "fsd"}
NAMES = [n for n, (operands, *_) in TABLE.items() if "f" in operands and n not in MEMORY]
SLOT = 16  # bytes of results of one instruction: the value, and fflags


def _single(value: float) -> int:
    """Round to the nearest binary32."""
    try:
        return int.from_bytes(struct.pack("<f", value), "little")
    except OverflowError:
        return 0x7F800000


def _double(value: float) -> int:
    return int.from_bytes(struct.pack("<d", value), "little")


def pattern(rng: random.Random, exponent_bits: int, fraction_bits: int, other: int) -> int:
    """Any pattern; exponents often meet `other`'s at an edge, fractions are often at one."""
    largest = (1 << exponent_bits) - 1
    bias, previous = largest >> 1, other >> fraction_bits & largest
    near = rng.randrange(-3, 4)
    exponents = (0, 1, largest, largest - 1, bias + near, previous + near, bias - previous + near)
    more = (
        previous - bias + near,
        bias + fraction_bits + near,
        bias + rng.choice((31, 32, 63, 64)),
    )
    exponent = rng.choice((*exponents, *more, rng.randrange(largest + 1)))
    exponent = min(max(exponent, 0), largest)
    mask = (1 << fraction_bits) - 1
    few = rng.getrandbits(5) << fraction_bits - 5
    fraction = rng.choice(
        (0, 1, mask, mask ^ 1, 1 << fraction_bits - 1, few, rng.getrandbits(fraction_bits))
    )
    sign = rng.getrandbits(1)
    return (sign << exponent_bits | exponent) << fraction_bits | fraction


def barely_normal(rng: random.Random) -> tuple[int, int, int, int]:
    """Operands in both formats whose product is next to the smallest normal number."""
    x = 1 + rng.random()
    double = _double(x * 2.0**-600), _double(1 / x * 2.0 ** (-1022 + 600))
    y = struct.unpack("<f", struct.pack("<f", x))[0]
    return *double, _single(y * 2.0**-60), _single(1 / y * 2.0 ** (-126 + 60))


def operands(rng: random.Random) -> list[int]:
    """Make a case: a, b, c as doubles and as boxed singles (mostly), an integer."""
    a = pattern(rng, 11, 52, rng.getrandbits(64))
    b = pattern(rng, 11, 52, a)
    c = pattern(rng, 11, 52, (a + b - (1023 << 52)) % (1 << 64))
    sa = pattern(rng, 8, 23, rng.getrandbits(32))
    sb = pattern(rng, 8, 23, sa)
    sc = pattern(rng, 8, 23, (sa + sb - (127 << 23)) % (1 << 32))
    kind = rng.randrange(8)
    if kind == 0:
        a, b, sa, sb = barely_normal(rng)
        c, sc = rng.choice((0, 1 << 63, 1, c)), rng.choice((0, 1 << 31, 1, sc))
    elif kind == 1:  # the smallest normal number less something, and what narrows to about it
        c, sc = 1 << 52, 1 << 23
        a = rng.choice(
            (_double(-(2.0**-540)), _double(2.0**-126 * (1 - 2.0 ** -rng.randrange(20, 34))))
        )
        b, sa, sb = _double(2.0**-540), _single(-(2.0**-80)), _single(2.0**-80)
    elif kind == 2:
        b, sb, c, sc = a ^ 1 << 63, sa ^ 1 << 31, a, sa
    boxes = (0xFFFFFFFF << 32 if rng.randrange(12) else rng.getrandbits(32) << 32 for _ in range(3))
    singles = [box | value for box, value in zip(boxes, (sa, sb, sc), strict=True)]
    integer = rng.getrandbits(64) >> rng.randrange(64)
    return [a, b, c, *singles, rng.choice((integer, -integer % (1 << 64))), 0]


def _one(code: Code, rng: random.Random, name: str, at: int, *, accrue: bool) -> None:
    """Load its operands, do it, and store what came of it."""
    names = TABLE[name][0].split(",")
    single = name.endswith(".s") or name == "fmv.x.w"
    sources = rng.sample(range(32), 3)
    for k, register in enumerate(sources):
        code.op("fld", register, 8 * (k + 3 * single), "s0")
    values: list[str | int] = []
    integers = rng.choice((10, 11, 14, 15, 28, 29)), rng.choice((12, 13, 30, 7))
    result = rng.choice((rng.randrange(32), sources[0]))
    code.op("ld", integers[0], 48, "s0")
    for operand in names:
        match operand:
            case "rd":
                values.append(integers[1])
            case "rs1":
                values.append(integers[0])
            case "fd":
                values.append(result)
            case "rm":
                static = name.startswith(("fcvt.w", "fcvt.l"))
                values.append(
                    rng.choice((0, 1, 2, 3, 4, 7, 1)) if static else rng.choice((0, *[7] * 9, 1))
                )
            case _:
                values.append(sources[int(operand[2]) - 1])
    if rng.randrange(6) == 0 and "fs2" in names:
        values[names.index("fs2")] = sources[0]
    if not accrue:
        code.csrw("fflags", "zero")
    code.op(name, *values)
    if names[0] == "fd":
        code.op("fsd", result, at, "s1")
    else:
        code.op("sd", integers[1], at, "s1")
    if not accrue:
        code.csrr("t0", "fflags")
        code.op("sb", "t0", at + 8, "s1")


def float_program(seed: int, *, accrue: bool) -> tuple[Code, dict[int, bytes]]:
    """Do everything for all cases; `accrue`: flags are read once a case, and blocks are long."""
    rng = random.Random(seed)
    code = Code()
    code.li("t0", FLOATS)
    code.csrw("mstatus", "t0")
    code.li("s0", OPERANDS)
    code.li("s1", RESULTS)
    code.li("s2", CASES)
    names = rng.sample(NAMES, len(NAMES))
    code.label("case")
    code.csrw("fflags", "zero")
    for index, name in enumerate(names):
        _one(code, rng, name, SLOT * index, accrue=accrue)
    code.csrr("t0", "fflags")
    code.op("sb", "t0", 9, "s1")
    code.op("addi", "s0", "s0", 64)
    code.op("addi", "s1", "s1", SLOT * len(names))
    code.op("addi", "s2", "s2", -1)
    code.op("beq", "s2", "zero", 8)
    code.op("jal", "zero", "case")
    halt(code)
    cases = [word for _ in range(CASES) for word in operands(rng)]
    return code, {OPERANDS: struct.pack(f"<{len(cases)}Q", *cases)}
