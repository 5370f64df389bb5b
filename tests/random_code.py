"""Random RV64GC programs that end, in M, S and U mode, for comparison with an oracle."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.assembler import CSR, TABLE, Code, encode
from tests.random_machine import (
    BODY,
    BODY_LIMIT,
    CONSTANTS,
    COUNTER,
    GP,
    MAGIC_M,
    MPRV_UPPER,
    PAD_ENTRIES,
    PAD_PAGES,
    PADS,
    PAGE,
    RAM,
    RESERVED,
    RESUME,
    S_SAVE,
    SATP,
    SAVE,
    SCRATCH,
    SCRATCH_PAGES,
    SUPERVISOR,
    U_WINDOW,
    WILD,
    WILD_FIRST,
    WILD_LEAF,
    WILD_PAGES,
    PageTables,
    finish,
    image,
    pte,
    wild_page,
)

if TYPE_CHECKING:
    from random import Random

MEMORY = [name for name, (operands, _, _) in TABLE.items() if operands.endswith("(rs1)")]
ATOMIC = [name for name in MEMORY if name[:3] in ("amo", "lr.", "sc.")]
PLAIN = [name for name in MEMORY if name not in ATOMIC and name != "jalr"]
STORES = [name for name in PLAIN if TABLE[name][0][1:4] == "s2,"]
FLOAT = [name for name, (operands, _, _) in TABLE.items() if ",fs1" in operands]
FLOAT += [name for name, (operands, _, _) in TABLE.items() if operands[:6] == "fd,rs1"]
CSR_OPS = [name for name in TABLE if name.startswith("csrr")]
BRANCHES = [name for name, (operands, _, _) in TABLE.items() if operands == "rs1,rs2,target"]
SYSTEM = ("ecall", "ebreak", "sret", "mret", "wfi", "sfence.vma", "fence", "fence.i", "illegal")
PURE = [
    name
    for name in TABLE
    if name not in (*MEMORY, *FLOAT, *CSR_OPS, *BRANCHES, *SYSTEM, "jal", "jalr")
]
UNREADABLE = (
    0xB00,
    0xC00,
    0xC01,
    0xF12,
    0x320,
    0x30A,
    0x10A,
    0x180,
    0x142,
    0x342,
)  # differ, see tests/spike.py
UNWRITABLE = (0x301, 0x320, 0x30A)  # WARL where Spike's choice would change what it does
SKIPPED_CSRS = (*range(0x7A0, 0x7B0), 0x5A8)  # Spike has a trigger module, with no triggers
MSTATUS_RANDOM = 0x7E7FEA  # what a mode switch may set
EXTREMES = [0, 1, 2, 3, 7, 0x80, 0xFF, 0x7FFF, 0x8000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
EXTREMES += [1 << 63, (1 << 63) - 1, (1 << 64) - 1, (1 << 64) - 2, 1 << 32, 0x5555555555555555]
FLOATS32 = [0, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7FC00000]
FLOATS32 += [0x4B000000, 0x4F000000, 0x5F000000, 0x4F800000, 0x5F800000, 0x3F000000, 0x33800000]
FLOATS64 = [value << 32 | low for value in (0, 0x7FF00000, 0x3FF00000) for low in (0, 1)]
FLOATS64 += [0x000FFFFFFFFFFFFF, 0x0010000000000000, 0x7FEFFFFFFFFFFFFF, 0x7FF8000000000000]
FLOATS64 += [0x43E0000000000000, 0x41E0000000000000, 0x41EFFFFFFFE00000, 0x3CA0000000000000]
FLOATS64 += [0x380FFFFFFFFFFFFF, 0x36A0000000000000, 0x47EFFFFFF0000000, 0x3810000000000000]


class Constants:
    """The page gp points into: values to compute with, and pointers."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.values: list[int] = []
        self.integers = self._add(110, self._integer)
        self.floats = self._add(100, self._float)
        self.scratch = {window: self._add(50, self._pointer, window) for window in (RAM, U_WINDOW)}
        self.wild = self._add(110, self._wild)
        self.targets = {window: self._add(24, self._target, window) for window in (RAM, U_WINDOW)}

    def _add(self, count, make, *arguments):
        start = len(self.values)
        self.values += [make(*arguments) % (1 << 64) for _ in range(count)]
        return [8 * index - 2048 for index in range(start, len(self.values))]

    def _integer(self) -> int:
        rng = self.rng
        match rng.randrange(4):
            case 0:
                return rng.choice(EXTREMES)
            case 1:
                return rng.choice(EXTREMES) * rng.choice((1, -1)) + rng.choice((-1, 0, 1))
            case 2:
                return rng.getrandbits(rng.randrange(1, 65)) * rng.choice((1, -1))
        return rng.getrandbits(64)

    def _float(self) -> int:
        rng = self.rng
        match rng.randrange(6):
            case 0:
                return rng.choice(FLOATS32) | 0xFFFFFFFF << 32 | rng.getrandbits(1) << 31
            case 1:
                return rng.choice(FLOATS64) | rng.getrandbits(1) << 63
            case 2:
                near = rng.randrange(120, 134) << 23 | rng.getrandbits(23)
                return near | 0xFFFFFFFF << 32 | rng.getrandbits(1) << 31
            case 3:
                near = rng.randrange(1015, 1030) << 52 | rng.getrandbits(52)
                return near | rng.getrandbits(1) << 63
            case 4:
                return rng.getrandbits(32) | 0xFFFFFFFF << 32
        return rng.getrandbits(64)

    def _edge(self) -> int:
        rng = self.rng
        if rng.random() < 0.5:
            return rng.randrange(0, PAGE, 8)
        return rng.choice((0, 1, 4, 8, PAGE - 1, PAGE - 2, PAGE - 3, PAGE - 4, PAGE - 7, PAGE - 8))

    def _pointer(self, window: int) -> int:
        page = self.rng.randrange(1, SCRATCH_PAGES - 1)
        return SCRATCH - RAM + window + PAGE * page + self._edge()

    def _wild(self) -> int:
        rng = self.rng
        match rng.randrange(12):
            case 0:  # no memory, or not canonical
                bad = (0, 0x9000_0000, 1 << 38, 1 << 63, (1 << 64) - 8, 1 << 62 | RAM)
                return rng.choice(bad) + rng.randrange(8)
            case 1:  # gigapages
                return rng.choice((4 << 30, 5 << 30)) + SCRATCH - RAM + self._edge()
            case 2:  # megapages
                return WILD + rng.randrange(2, 8) * 0x200000 + 0x100000 + self._edge()
        return wild_page(rng) + self._edge()

    def _target(self, window: int) -> int:
        rng = self.rng
        entry = rng.choice(PAD_ENTRIES)
        match rng.randrange(8):
            case 0:
                bad = (0, 2, 0x9000_0000, 1 << 38, 1 << 63, (1 << 64) - 2, (1 << 38) - 2, 5 << 30)
                return rng.choice(bad)
            case 1 | 2:
                return PADS - RAM + window + PAGE * rng.randrange(PAD_PAGES - 1) + entry
        return wild_page(rng) + entry

    def page(self) -> bytes:
        """Return the page's bytes."""
        return struct.pack(f"<{len(self.values)}Q", *self.values).ljust(PAGE, b"\0")


class Writer:
    """Writes random code; knows the mode it will run in."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.code = Code(BODY)
        self.constants = Constants(rng)
        self.mode = "M"
        self.translated = False
        self.window = RAM
        self.mstatus = 0
        self.count = 0
        self.items = [
            (self.pure, 30), (self.constant, 10), (self.access, 16), (self.atomic, 5),
            (self.pair, 1), (self.float, 16), (self.rounding, 2), (self.branch, 5), (self.loop, 1),
            (self.overlap, 1), (self.jump, 2), (self.compressed, 30), (self.illegal, 2),
            (self.csr, 8), (self.system, 2), (self.wild_jump, 2), (self.entry, 1),
        ]  # fmt: skip
        self.in_machine = [(self.interrupt, 2), (self.idle, 1), (self.borrow, 4), (self.again, 1)]
        self.in_supervisor = [(self.again, 1)]

    # operands

    def rd(self) -> int:
        """A register that may be written."""
        while True:
            number = self.rng.randrange(32)
            if number not in RESERVED:
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
        self.code.op("ld", rd, self.rng.choice(pool), GP)
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
            self.code.op("ld", self.rd(), self.rng.choice(self.constants.integers), GP)
        else:
            self.code.op("fld", self.rs(), self.rng.choice(self.constants.floats), GP)

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
            self.code.op("sc.d", 0, 0, GP)
        aqrl = self.rng.getrandbits(2) << 25
        self.code.word(encode(name, *values) | aqrl)

    def pair(self) -> None:
        """LR and SC, perhaps to the same place."""
        base = self.base()
        self.code.op("andi", base, base, -8)
        self.code.op(self.rng.choice(("lr.w", "lr.d")), self.rd(), base)
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
        self.code.li(COUNTER, self.rng.randrange(1, 6))
        self.code.label(start)
        self.some(1, 5)
        self.code.op("addi", COUNTER, COUNTER, -1)
        self.code.op("bne", COUNTER, 0, self.code.labels[start] - self.code.here)

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
        elif quadrant == 1 and (function >= 5 or (function < 4 and rd in RESERVED)):
            return
        elif quadrant == 2:
            if function in (0, 2, 3, 4) and rd in RESERVED:
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

    def csr(self) -> None:
        """Access a control and status register, or a number that is none."""
        rng = self.rng
        number = rng.choice(list(CSR.values())) if rng.random() < 0.9 else rng.randrange(4096)
        name, rd, rs1 = rng.choice(CSR_OPS), self.rd(), self.rs()
        if number in UNWRITABLE or (number == 0x180 and self.mode == "S"):
            name, rs1 = rng.choice(("csrrs", "csrrc", "csrrsi", "csrrci")), 0
        if number in SKIPPED_CSRS:
            return
        self.code.op(name, rd, number, rs1)
        if number in UNREADABLE and rd:
            self.code.op("addi", rd, 0, 0)
        self.restore(number)

    def restore(self, number: int) -> None:
        """Undo a write that would lead the program astray."""
        values = {"mtvec": RAM + 8, "mscratch": SAVE, "sscratch": S_SAVE, "mideleg": 0}
        values |= {"medeleg": 0, "satp": SATP if self.translated else 0}
        values["stvec"] = SUPERVISOR
        for name, value in values.items():
            if number != CSR[name] or (name[0] == "m" and self.mode != "M") or self.mode == "U":
                continue
            if name == "satp" and self.mode != "M":
                continue
            self.code.li(28, value)
            self.code.csrw(name, 28)
        if number == CSR["mstatus"] and self.mode == "M":
            self.code.op("lui", 28, MPRV_UPPER)
            self.code.op("csrrc", 0, "mstatus", 28)

    def system(self) -> None:
        """Instructions that trap, fence, or may not be used in this mode."""
        allowed = ["ebreak", "ecall", "fence", "fence.i"]
        if self.mode == "U":
            allowed += ["mret", "sret", "wfi"]
        if self.mode == "S":
            allowed += ["mret"] + ["wfi"] * (self.mstatus >> 21 & 1)
            allowed += ["sret"] * (self.mstatus >> 22 & 1)
        if self.rng.random() < 0.2:
            self.code.op("sfence.vma", self.rs(), self.rs())
        elif self.rng.random() < 0.1:
            self.code.half(0x9002)  # c.ebreak
        else:
            name = self.rng.choice(allowed)
            if name == "ecall":
                self.code.li(17, self.rng.randrange(16))
            self.code.op(name)

    def wild_jump(self) -> None:
        """Jump to a page that may be executable."""
        self.code.op("fence.i")
        target = self.label()
        self.code.la(RESUME, target)
        register = self.base()
        self.code.op("ld", register, self.rng.choice(self.constants.targets[self.window]), GP)
        self.code.op("jalr", self.rd(), 0, register)
        self.code.label(target)

    def entry(self) -> None:
        """Change a page table entry."""
        if self.mode == "U" or (self.mode == "S" and self.mstatus >> 20 & 1):
            return
        place = WILD_LEAF + 8 * (WILD_FIRST + self.rng.randrange(WILD_PAGES))
        flags, page = PageTables(self.rng).random_entry()
        self.code.li(28, place)
        self.code.li(29, pte(page, flags))
        self.code.op("sd", 29, 0, 28)
        self.code.op("sfence.vma", 0, 0)

    # items of M-mode

    def interrupt(self) -> None:
        """Let software interrupts happen, or not."""
        for name in ("mideleg", "mie", "mip"):
            self.code.op("ld", 28, self.rng.choice(self.constants.integers), GP)
            if name == "mideleg":
                self.code.li(28, 0)
            self.code.csrw(name, 28)
        self.code.op(self.rng.choice(("csrrsi", "csrrci")), 0, "mstatus", 8)

    def idle(self) -> None:
        """Wait for an interrupt that is pending."""
        self.code.op("csrrci", 0, "mstatus", 8)
        self.code.op("csrrwi", 0, "mip", 2)
        self.code.op("csrrwi", 0, "mie", 2)
        self.code.op("wfi")
        self.code.csrw("mie", 0)

    def borrow(self) -> None:
        """Access memory with another mode's privilege."""
        rng, code = self.rng, self.code
        base = rng.choice((5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
        status = MPRV_UPPER << 12 | rng.choice((0, 0x800, 0x1800)) | rng.getrandbits(2) << 18
        code.op("ld", base, rng.choice(self.constants.wild), GP)
        self._borrow(status)
        if rng.random() < 0.8:
            name, offset = rng.choice(PLAIN), self.immediate(4)
            code.op(name, 0 if name in STORES else self.rd(), offset, base)
            if name in STORES:
                self._borrow(status)  # after a trap MPP is U
                self.wipe(name, offset, base)
        else:
            code.op("lr.d", self.rd(), base)
            code.op("sc.d", self.rd(), self.rs(), base)
        code.op("lui", 28, MPRV_UPPER)
        code.op("csrrc", 0, "mstatus", 28)

    def _borrow(self, status: int) -> None:
        self.code.li(29, 0x1800 | 3 << 18)
        self.code.op("csrrc", 0, "mstatus", 29)
        self.code.li(28, status)
        self.code.op("csrrs", 0, "mstatus", 28)

    def again(self) -> None:
        """Return from a trap that never was, into the same mode."""
        target = self.label()
        self.code.la(28, target)
        if self.mode == "M":
            self.code.csrw("mepc", 28)
            self.code.li(28, 0x1800)
            self.code.op("csrrs", 0, "mstatus", 28)
            self.code.op("mret")
        elif not self.mstatus >> 22 & 1:
            self.code.csrw("sepc", 28)
            self.code.op("csrrwi", 0, "sie", 0)
            self.code.li(28, 0x100)
            self.code.op("csrrs", 0, "sstatus", 28)
            self.code.op("sret")
        self.code.label(target)

    # modes

    def enter(self, mode: str) -> None:
        """Go from M-mode to another, with everything set up at random."""
        rng, code = self.rng, self.code
        self.translated = rng.random() < 0.8
        self.window = U_WINDOW if mode == "U" and self.translated else RAM
        self.mstatus = rng.getrandbits(23) & MSTATUS_RANDOM & ~0x1808 | (mode == "S") << 11
        self.mstatus |= 0x2000
        if rng.random() < 0.7:
            self.mstatus &= ~(7 << 20)
        if mode == "S" and rng.random() < 0.5:
            self.mstatus &= ~(1 << 20)
        trapped = self.mstatus >> 22 & 1
        settings = {
            "mie": 0,
            "mip": rng.choice((0, rng.getrandbits(12))),
            "medeleg": 0 if trapped else self._delegated(),
            "mideleg": 0 if trapped else rng.getrandbits(12),
            "mcounteren": rng.getrandbits(3),
            "scounteren": rng.getrandbits(3),
            "satp": SATP if self.translated else 0,
            "mstatus": self.mstatus,
        }
        for name, value in settings.items():
            code.li(28, value)
            code.csrw(name, 28)
        code.op("sfence.vma", 0, 0)
        code.li(GP, CONSTANTS + 2048 - RAM + self.window)
        target = self.label()
        code.la(28, target)
        if self.window != RAM:
            code.li(29, self.window - RAM)
            code.op("add", 28, 28, 29)
        code.csrw("mepc", 28)
        if rng.random() < 0.3:
            code.li(28, rng.getrandbits(12))
            code.csrw("mie", 28)
        code.op("mret")
        code.label(target)
        self.mode = mode

    def _delegated(self) -> int:
        causes = self.rng.getrandbits(16) & ~0x300
        for low, high in ((4, 5), (6, 7)):  # which of the two is raised differs
            causes = causes & ~(1 << high) | (causes >> low & 1) << high
        return causes

    def leave(self) -> None:
        """Go back to M-mode."""
        self.code.li(17, MAGIC_M)
        self.code.op("ecall")
        self.mode, self.window = "M", RAM
        self.code.li(17, 0)
        self.code.li(GP, CONSTANTS + 2048)
        self.code.op("lui", 28, MPRV_UPPER)
        self.code.op("csrrc", 0, "mstatus", 28)
        self.code.li(28, 0x6000)
        self.code.op("csrrs", 0, "mstatus", 28)

    def descend(self) -> None:
        """From S-mode to U-mode by sret."""
        if self.mode != "S" or self.mstatus >> 22 & 1:
            return
        code, window = self.code, U_WINDOW if self.translated else RAM
        target = self.label()
        code.op("csrrwi", 0, "sie", 0)
        code.la(28, target)
        code.li(29, window - RAM)
        code.op("add", 28, 28, 29)
        code.csrw("sepc", 28)
        code.li(28, 0x100)
        code.op("csrrc", 0, "sstatus", 28)
        code.li(GP, CONSTANTS + 2048 - RAM + window)
        code.op("sret")
        code.label(target)
        self.mode, self.window = "U", window

    def group(self, mode: str, items: int) -> None:
        """Some items in one mode."""
        if mode != "M":
            self.enter(mode)
        for _ in range(items):
            if self.code.here > BODY + BODY_LIMIT:
                break
            pool = list(self.items)
            if self.mode == "M":
                pool += self.in_machine
            if self.mode == "S":
                pool += self.in_supervisor
            self.rng.choices([item for item, _ in pool], [weight for _, weight in pool])[0]()
            if self.mode == "S" and self.rng.random() < 0.003:
                self.descend()
        if self.mode != "M":
            self.leave()

    def end(self) -> None:
        """Show all registers, and stop."""
        code = self.code
        code.csrw("mie", 0)
        code.li(2, SCRATCH)
        for number in range(32):
            code.op("sd", number, 8 * number, 2)
            code.op("fsd", number, 256 + 8 * number, 2)
        for name, number in CSR.items():
            if number not in UNREADABLE and name != "misa":
                code.csrr(5, name)
        finish(code)


def random_program(rng: Random, groups: int, items: int, modes: str = "MSU") -> bytes:
    """Write a program of so many groups of so many items, each group in one of `modes`."""
    writer = Writer(rng)
    for _ in range(groups):
        writer.group(rng.choice(modes), items)
    writer.end()
    return image(rng, writer.code.finish(), writer.constants.page())
