"""Random code that any mode may run: arithmetic, memory, jumps, compressed and illegal words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.assembler import RAM, TABLE, Code, encode
from tests.random_programs import layout as at
from tests.random_programs.constants import Constants

if TYPE_CHECKING:
    from random import Random

MEMORY = [name for name, (operands, _, _) in TABLE.items() if operands.endswith("(rs1)")]
ATOMIC = [name for name in MEMORY if name[:3] in ("amo", "lr.", "sc.")]
PLAIN = [name for name in MEMORY if name not in ATOMIC and name != "jalr"]
STORES = [name for name in PLAIN if TABLE[name][0][1:4] == "s2,"]
FLOAT: list[str] = [name for name, (operands, _, _) in TABLE.items() if ",fs1" in operands]
FLOAT += [name for name, (operands, _, _) in TABLE.items() if operands[:6] == "fd,rs1"]
CSR_OPS = [name for name in TABLE if name.startswith("csrr")]
BRANCHES = [name for name, (operands, _, _) in TABLE.items() if operands == "rs1,rs2,target"]
SYSTEM = ("ecall", "ebreak", "sret", "mret", "wfi", "sfence.vma", "fence", "fence.i", "illegal")
PURE = [
    name
    for name in TABLE
    if name not in (*MEMORY, *FLOAT, *CSR_OPS, *BRANCHES, *SYSTEM, "jal", "jalr")
]


class Items:
    """Writes items: each is a few instructions that leave the registers with a role alone."""

    def __init__(self, rng: Random, surroundings: Random) -> None:
        self.rng = rng
        self.code = Code(at.BODY)
        self.constants = Constants(surroundings)
        self.mode = "M"
        self.translated = False
        self.window = RAM
        self.mstatus = 0
        self.count = 0

    # operands

    def rd(self) -> int:
        """A register that may be written."""
        while True:
            number = self.rng.randrange(32)
            if number not in at.RESERVED:
                return number

    def rs(self) -> int:
        """A register to read."""
        return self.rng.randrange(32)

    def immediate(self, bits: int = 12) -> int:
        """A signed immediate, often at an edge."""
        half = 1 << (bits - 1)
        if self.rng.random() < 0.3:
            return self.rng.choice((-half, -1, 0, 1, half - 1))
        return self.rng.randrange(-half, half)

    def label(self) -> str:
        """A new label."""
        self.count += 1
        return f"l{self.count}"

    def pointer(self, rd: int) -> bool:
        """Put an address into rd; is it one that may be refused?"""
        wild = 0.5 if self.translated and self.mode != "M" else 0.05
        pool = self.constants.scratch[self.window]
        if refused := self.rng.random() < wild:
            pool = self.constants.wild
        self.code.op("ld", rd, self.rng.choice(pool), at.GP)
        return refused

    def operands(self, name: str) -> list[int]:
        """Random operands of an instruction."""
        values = []
        for operand in TABLE[name][0].replace("(", ",").replace(")", "").split(","):
            match operand:
                case "rd":
                    values.append(self.rd())
                case "rs1" | "rs2":
                    values.append(self.rs())
                case "imm":
                    values.append(self.immediate())
                case "u20":
                    values.append(self.rng.getrandbits(20))
                case "shamt":
                    values.append(self.rng.randrange(32 if name[-1] == "w" else 64))
                case "rm":
                    values.append(self.rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7)))
                case "":
                    pass
                case _:
                    values.append(self.rng.randrange(32))
        return values

    # items: each is a few instructions that leave the registers with a role alone

    def pure(self) -> None:
        """Integer arithmetic."""
        name = self.rng.choice(PURE)
        self.code.op(name, *self.operands(name))

    def constant(self) -> None:
        """Load an interesting value."""
        if self.rng.random() < 0.5:
            self.code.op("ld", self.rd(), self.rng.choice(self.constants.integers), at.GP)
        else:
            self.code.op("fld", self.rs(), self.rng.choice(self.constants.floats), at.GP)

    def free(self) -> int:
        """A register that may be written, but x0."""
        while not (number := self.rd()):
            pass
        return number

    def base(self) -> int:
        """A register with an address."""
        number = self.free()
        self.pointer(number)
        return number

    def access(self) -> None:
        """Load or store."""
        base = self.free()
        refused = self.pointer(base)
        name = self.rng.choice(PLAIN)
        offset = self.immediate(self.rng.choice((4, 7, 12)))
        value = self.rd()
        self.code.op(name, value, offset, base)
        if refused:
            self.wipe(name, offset, base)

    def wipe(self, name: str, offset: int, base: int) -> None:
        """Clear what a store left in the first of two pages when the second refused it.

        Spike has written it, we have not; the specification allows both.
        """
        if name in STORES:
            self.code.op("addi", base, base, offset)
            self.code.op("andi", base, base, -8)
            self.code.op("sd", 0, 0, base)

    def atomic(self) -> None:
        """One atomic operation."""
        base = self.base()
        if self.rng.random() < 0.9:
            self.code.op("andi", base, base, -8)
        name = self.rng.choice(ATOMIC)
        values = (self.rd(), base) if name[0] == "l" else (self.rd(), self.rs(), base)
        if name[0] == "s":  # no reservation survives here: Spike's may be lost in a trap
            self.code.op("sc.d", 0, 0, at.GP)
        aqrl = self.rng.getrandbits(2) << 25
        self.code.word(encode(name, *values) | aqrl)

    def pair(self) -> None:
        """LR and SC, perhaps to the same place."""
        base = self.base()
        self.code.op("andi", base, base, -8)
        loaded = self.rng.choice([number for number in (0, 5, 6, 7, 28, 29) if number != base])
        self.code.op(self.rng.choice(("lr.w", "lr.d")), loaded, base)
        if self.rng.random() < 0.3:
            self.pure()
        self.code.op(self.rng.choice(("sc.w", "sc.d")), self.rd(), self.rs(), base)

    def float(self) -> None:
        """Arithmetic of F and D."""
        if self.rng.random() < 0.1:
            self.code.li(28, 0x2000)
            self.code.op("csrrs", 0, "mstatus" if self.mode == "M" else "sstatus", 28)
        for _ in range(self.rng.randrange(1, 4)):
            name = self.rng.choice(FLOAT)
            self.code.op(name, *self.operands(name))

    def rounding(self) -> None:
        """Set the rounding mode, or the flags."""
        name = self.rng.choice(("csrrwi", "csrrsi", "csrrci", "csrrw"))
        self.code.op(name, self.rd(), self.rng.choice((1, 2, 2, 2, 3)), self.rs())

    def some(self, low: int, high: int) -> None:
        """A few simple items."""
        for _ in range(self.rng.randrange(low, high)):
            item = self.rng.choice((self.pure, self.constant, self.access, self.float))
            item()

    def branch(self) -> None:
        """Branch forward, or not."""
        target = self.label()
        if self.rng.random() < 0.7:
            self.code.op(self.rng.choice(BRANCHES), self.rs(), self.rs(), target)
            self.some(1, 6)
        else:
            start = len(self.code.data)
            self.code.half(0)
            self.some(1, 3)
            self._compressed_branch(start)
        self.code.label(target)

    def _compressed_branch(self, start: int) -> None:
        distance = len(self.code.data) - start
        if distance >= 256:
            self.code.data[start : start + 2] = b"\x01\x00"
            return
        kind = self.rng.choice((0xC001, 0xE001, 0xA001))
        if kind == 0xA001:  # c.j
            half = kind | (distance >> 4 & 1) << 11 | (distance >> 8 & 3) << 9
            half |= (distance >> 6 & 1) << 7 | (distance >> 7 & 1) << 6
            half |= (distance >> 1 & 7) << 3 | (distance >> 5 & 1) << 2
        else:
            half = kind | self.rng.randrange(8) << 7 | (distance >> 3 & 3) << 10
            half |= (distance >> 6 & 3) << 5 | (distance >> 1 & 3) << 3 | (distance >> 5 & 1) << 2
        self.code.data[start : start + 2] = half.to_bytes(2, "little")

    def loop(self) -> None:
        """Repeat something."""
        start = self.label()
        self.code.li(at.COUNTER, self.rng.randrange(1, 6))
        self.code.label(start)
        self.some(1, 5)
        self.code.op("addi", at.COUNTER, at.COUNTER, -1)
        self.code.op("bne", at.COUNTER, 0, self.code.labels[start] - self.code.here)

    def overlap(self) -> None:
        """Jump into the middle of an instruction, whose second half is one itself."""
        rd = self.rng.choice((5, 6, 7, 10, 12))
        half = self.rng.choice(
            (0x0505, 0x157D, 0x0001, 0x8DAA, 0x4529)
        )  # c.addi, c.nop, c.mv, c.li
        self.code.op(self.rng.choice(BRANCHES), self.rs(), self.rs(), 6)
        self.code.op("lui", rd, half << 4 | self.rng.getrandbits(4))

    def jump(self) -> None:
        """Jump forward over bytes of any kind."""
        target = self.label()
        filler = self.rng.randrange(0, 12)
        if self.rng.random() < 0.5:
            self.code.op("jal", self.rd(), target)
        else:
            register = self.base()
            self.code.la(register, target)
            if self.rng.random() < 0.5:
                self.code.op("jalr", self.rd(), self.rng.choice((0, 1)), register)
            else:
                self.code.half(0x8002 | register << 7 | self.rng.getrandbits(1) << 12)
        self.code.half(*(self.rng.getrandbits(16) for _ in range(filler)))
        self.code.label(target)

    def compressed(self) -> None:
        """Any 16-bit instruction that is no jump."""
        half = self.rng.getrandbits(16)
        quadrant, function, rd = half & 3, half >> 13, half >> 7 & 31
        if quadrant == 0 and function not in (0, 4):
            if self.pointer(8 + (rd & 7)):
                self.code.op("andi", 8 + (rd & 7), 8 + (rd & 7), -8)
        elif quadrant == 1 and (function >= 5 or (function < 4 and rd in at.RESERVED)):
            return
        elif quadrant == 2:
            if function in (0, 2, 3, 4) and rd in at.RESERVED:
                return
            if function == 4 and half >> 2 & 31 == 0 and rd:
                return  # c.jr, c.jalr
            if function not in (0, 4):
                self.pointer(2)
                self.code.op("andi", 2, 2, -8)
        elif quadrant == 3:
            return
        self.code.half(half)

    def illegal(self) -> None:
        """A word near a real instruction, but none."""
        while True:
            _, match, mask = TABLE[self.rng.choice(list(TABLE))]
            word = match | self.rng.getrandbits(32) & ~mask | 3
            for _ in range(self.rng.randrange(1, 4)):
                word ^= 1 << self.rng.randrange(2, 32)
            if not any(mask and word & mask == match for _, match, mask in TABLE.values()):
                self.code.word(word)
                return
