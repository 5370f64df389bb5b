"""Generated code, larger than a cache and as branchy as a kernel's: thousands of random functions.

Functions stand on levels; each calls a few of the level below, so that one pass runs through most
of them. Machine code is written as it is: no compiler is needed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BIG_START", "make_big"]

BIG_START: Final = 0x8100_0000  # where the runtime in orchestra/guest/kernels calls it
DATA: Final = 0x8180_0000  # what the functions load and store
DATA_MASK: Final = 0x7F8  # an index into what a 12-bit offset reaches
LEVELS: Final = (600, 600, 600, 600, 600)
SEED: Final = 1

RA, SP, T0, S0 = 1, 2, 5, 8
WORK: Final = (10, 11, 12, 13, 14, 15)  # a0..a5: the registers that compressed forms reach as well
ADD, SUB, XOR, OR, AND, SLT = 0x33, 0x40000033, 0x4033, 0x6033, 0x7033, 0x2033
MUL, ADDW, SUBW = 0x02000033, 0x3B, 0x4000003B
ADDI, ANDI, ADDIW, SLLI, SRLI = 0x13, 0x7013, 0x1B, 0x1013, 0x5013
LD, LW, LBU, SD, SW, SB, JALR = 0x3003, 0x2003, 0x4003, 0x3023, 0x2023, 0x23, 0x67
BRANCHES: Final = (0x63, 0x1063, 0x4063, 0x5063, 0x6063, 0x7063)


def make_big(seed: int = SEED) -> bytes:
    """Return the code, for BIG_START: it is called with a number in a0 and returns another."""
    rng = random.Random(seed)  # noqa: S311 - the same code for everybody
    code = _Code()
    code.put(0x13)  # becomes a jump
    below: list[int] = []
    for level, count in enumerate(LEVELS):
        callees, below = below, []
        for _ in range(count):
            below.append(len(code.bytes))
            _function(code, rng, callees, calls=0 if level == 0 else rng.choice((1, 1, 2)))
    driver = len(code.bytes)
    _driver(code, below)
    code.patch(0, _jump(0, driver))
    return bytes(code.bytes)


class _Code:
    """Bytes that grow by instructions of two or four."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def put(self, *words: int) -> None:
        for word in words:
            self.bytes += word.to_bytes(4 if word & 3 == 3 else 2, "little")

    def patch(self, at: int, word: int) -> None:
        self.bytes[at : at + 4] = word.to_bytes(4, "little")


def _r(op: int, rd: int, rs1: int, rs2: int) -> int:
    return op | rd << 7 | rs1 << 15 | rs2 << 20


def _i(op: int, rd: int, rs1: int, imm: int) -> int:
    return op | rd << 7 | rs1 << 15 | (imm & 0xFFF) << 20


def _s(op: int, rs2: int, rs1: int, imm: int) -> int:
    return op | rs2 << 20 | rs1 << 15 | (imm & 31) << 7 | (imm >> 5 & 127) << 25


def _branch(op: int, rs1: int, rs2: int, by: int) -> int:
    low = (by >> 1 & 15) << 8 | (by >> 11 & 1) << 7
    return op | rs1 << 15 | rs2 << 20 | low | (by >> 5 & 63) << 25 | (by >> 12 & 1) << 31


def _jump(rd: int, by: int) -> int:
    high = (by >> 20 & 1) << 31 | (by >> 1 & 1023) << 21
    return 0x6F | rd << 7 | high | (by >> 11 & 1) << 20 | (by >> 12 & 255) << 12


def _addi16sp(by: int) -> int:
    return _i(ADDI, SP, SP, by)


def _short_move(rd: int, rs: int) -> int:
    return 0x8002 | rd << 7 | rs << 2


def _short_add(rd: int, rs: int) -> int:
    return 0x9002 | rd << 7 | rs << 2


def _short_addi(rd: int, imm: int) -> int:
    return 0x0001 | rd << 7 | (imm & 31) << 2 | (imm >> 5 & 1) << 12


def _short_alu(kind: int, rd: int, rs: int) -> int:  # c.sub c.xor c.or c.and
    return 0x8C01 | (rd - 8) << 7 | kind << 5 | (rs - 8) << 2


def _short_load(rd: int, offset: int) -> int:  # c.ld rd, offset(s0)
    return 0x6000 | (offset >> 3 & 7) << 10 | (offset >> 6 & 3) << 5 | (rd - 8) << 2


def _short_store(rs: int, offset: int) -> int:  # c.sd rs, offset(s0)
    return _short_load(rs, offset) | 0x8000


RETURN: Final = 0x8082


def _function(code: _Code, rng: random.Random, callees: list[int], calls: int) -> None:
    """Blocks of a few operations between branches forward; calls stand between blocks."""
    if calls:
        code.put(_addi16sp(-16), _s(SD, RA, SP, 8))
    blocks = rng.randint(7, 14)
    calling = set(rng.sample(range(blocks), calls))
    waiting: list[tuple[int, int, int]] = []  # branches: where, past which block, their word
    for block in range(blocks):
        for _ in range(rng.randint(2, 6)):
            rng.choices(*_MENU)[0](code, rng)
        if block in calling:
            at = len(code.bytes)
            code.put(_jump(RA, rng.choice(callees) - at))
        waiting.append((len(code.bytes), min(blocks, block + rng.choice((1, 1, 1, 2))), block))
        _condition(code, rng)
        for branch in [one for one in waiting if one[1] == block]:
            waiting.remove(branch)
            _land(code, branch[0])
    for branch in waiting:
        _land(code, branch[0])
    if calls:
        code.put(_i(LD, RA, SP, 8), _addi16sp(16))
    code.put(RETURN)


def _condition(code: _Code, rng: random.Random) -> None:
    """Most branches go the same way each time, as in any program; some depend on the data."""
    kind = rng.random()
    if kind < 0.35:  # never: the stack is not 0
        code.put(_branch(BRANCHES[0], SP, 0, 0))
    elif kind < 0.55:  # always: the data is not at 0
        code.put(_branch(BRANCHES[1], S0, 0, 0))
    else:
        code.put(_branch(rng.choice(BRANCHES), rng.choice(WORK), rng.choice(WORK), 0))


def _land(code: _Code, at: int) -> None:
    word = int.from_bytes(code.bytes[at : at + 4], "little")
    by = len(code.bytes) - at
    code.patch(at, word | _branch(0, 0, 0, by))


def _arithmetic(code: _Code, rng: random.Random) -> None:
    op = rng.choice((ADD, SUB, XOR, OR, AND, SLT, MUL, ADDW, SUBW))
    code.put(_r(op, rng.choice(WORK), rng.choice(WORK), rng.choice(WORK)))


def _immediate(code: _Code, rng: random.Random) -> None:
    op = rng.choice((ADDI, ADDI, ANDI, ADDIW, SLLI, SRLI))
    imm = rng.randint(1, 31) if op in (SLLI, SRLI) else rng.randint(-2048, 2047)
    code.put(_i(op, rng.choice(WORK), rng.choice(WORK), imm))


def _short(code: _Code, rng: random.Random) -> None:
    rd, rs = rng.choice(WORK), rng.choice(WORK)
    kind = rng.randrange(4)
    if kind == 0:
        code.put(_short_move(rd, rs))
    elif kind == 1:
        code.put(_short_add(rd, rs))
    elif kind == 2:
        code.put(_short_addi(rd, rng.randint(1, 31)))
    else:
        code.put(_short_alu(rng.randrange(4), rd, rs))


def _load(code: _Code, rng: random.Random) -> None:
    rd = rng.choice(WORK)
    if rng.random() < 0.5:
        code.put(_short_load(rd, 8 * rng.randrange(32)))
    else:
        code.put(_i(rng.choice((LD, LW, LBU)), rd, S0, 8 * rng.randrange(255)))


def _store(code: _Code, rng: random.Random) -> None:
    rs = rng.choice(WORK)
    if rng.random() < 0.5:
        code.put(_short_store(rs, 8 * rng.randrange(32)))
    else:
        code.put(_s(rng.choice((SD, SW, SB)), rs, S0, 8 * rng.randrange(255)))


def _indexed(code: _Code, rng: random.Random) -> None:
    """Load from where the data says."""
    rd, rs = rng.choice(WORK), rng.choice(WORK)
    code.put(_i(ANDI, T0, rs, DATA_MASK), _short_add(T0, S0), _i(LD, rd, T0, 0))


_MENU: Final[tuple[list[Callable[[_Code, random.Random], None]], list[int]]] = (
    [_arithmetic, _immediate, _short, _load, _store, _indexed],
    [20, 18, 30, 18, 12, 4],
)


def _driver(code: _Code, functions: list[int]) -> None:
    """Set s0 to the data and call every function of the highest level."""
    code.put(_addi16sp(-16), _s(SD, RA, SP, 8), _s(SD, S0, SP, 0))
    code.put(_i(ADDI, S0, 0, DATA >> 21), _i(SLLI, S0, S0, 21))
    for function in functions:
        code.put(_jump(RA, function - len(code.bytes)))
    code.put(_i(LD, S0, SP, 0), _i(LD, RA, SP, 8), _addi16sp(16), RETURN)
