"""Whole random programs, that end, as ELF files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.assembler import CSR, RAM, Code, elf
from tests.random_programs import layout as at
from tests.random_programs.handlers import finish, handlers, save_area
from tests.random_programs.privileged import UNREADABLE, Privileged
from tests.random_programs.tables import PageTables

if TYPE_CHECKING:
    from random import Random

MSTATUS_RANDOM = 0x7E7FEA  # what a mode switch may set


class Program(Privileged):
    """Groups of items, each in a mode of its own."""

    def __init__(self, rng: Random, surroundings: Random) -> None:
        super().__init__(rng, surroundings)
        self.items = [
            (self.pure, 30), (self.constant, 10), (self.access, 16), (self.atomic, 5),
            (self.pair, 1), (self.float, 16), (self.rounding, 2), (self.branch, 5), (self.loop, 1),
            (self.overlap, 1), (self.jump, 2), (self.compressed, 30), (self.illegal, 2),
            (self.csr, 8), (self.system, 2), (self.wild_jump, 2), (self.entry, 1),
        ]  # fmt: skip
        self.in_machine = [(self.interrupt, 2), (self.idle, 1), (self.borrow, 4)]
        self.in_machine += [(self.again, 1), (self.patch, 2)]
        self.in_supervisor = [(self.again, 1)]

    # modes

    def enter(self, mode: str) -> None:
        """Go from M-mode to another, with everything set up at random."""
        rng, code = self.rng, self.code
        self.translated = rng.random() < 0.8
        self.window = at.U_WINDOW if mode == "U" and self.translated else RAM
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
            "satp": at.SATP if self.translated else 0,
            "mstatus": self.mstatus,
        }
        for name, value in settings.items():
            code.li(28, value)
            code.csrw(name, 28)
        code.op("sfence.vma", 0, 0)
        code.li(at.GP, at.CONSTANTS + 2048 - RAM + self.window)
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
        self.code.li(17, at.MAGIC_M)
        self.code.op("ecall")
        self.mode, self.window = "M", RAM
        self.code.li(17, 0)
        self.code.li(at.GP, at.CONSTANTS + 2048)
        self.code.op("lui", 28, at.MPRV_UPPER)
        self.code.op("csrrc", 0, "mstatus", 28)
        self.code.li(28, 0x6000)
        self.code.op("csrrs", 0, "mstatus", 28)

    def descend(self) -> None:
        """From S-mode to U-mode by sret."""
        if self.mode != "S" or self.mstatus >> 22 & 1:
            return
        code, window = self.code, at.U_WINDOW if self.translated else RAM
        target = self.label()
        code.op("csrrwi", 0, "sie", 0)
        code.la(28, target)
        code.li(29, window - RAM)
        code.op("add", 28, 28, 29)
        code.csrw("sepc", 28)
        code.li(28, 0x100)
        code.op("csrrc", 0, "sstatus", 28)
        code.li(at.GP, at.CONSTANTS + 2048 - RAM + window)
        code.op("sret")
        code.label(target)
        self.mode, self.window = "U", window

    def group(self, mode: str, items: int) -> None:
        """Some items in one mode."""
        if mode != "M":
            self.enter(mode)
        for _ in range(items):
            if self.code.here > at.BODY + at.BODY_LIMIT:
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
        code.li(2, at.SCRATCH)
        for number in range(32):
            code.op("sd", number, 8 * number, 2)
            code.op("fsd", number, 256 + 8 * number, 2)
        for name, number in CSR.items():
            if number not in UNREADABLE and name != "misa":
                code.csrr(5, name)
        finish(code)


def pads(rng: Random) -> bytes:
    """Code to be jumped to: at several places of each page an instruction, then a return to t6."""
    back = 0x8F82  # c.jr t6
    area = bytearray()
    for _ in range(at.PAD_PAGES):
        page = Code(0)
        while (immediate := rng.randrange(1, 256)) >> 3 in at.RESERVED:
            pass  # its second half is a c.addi
        straddler = 0x00010293 | immediate << 20  # addi t0, sp, ..
        page.half(straddler >> 16, back)
        page.pad(0x7FC)
        page.word(straddler)
        page.half(back, back)
        page.pad(0xFF6)
        page.half(0x0285)  # c.addi t0, 1
        page.word(straddler)
        page.half(back, straddler & 0xFFFF)
        area += page.finish()
    return bytes(area)


def image(rng: Random, body: bytes, constants: bytes) -> bytes:
    """Put a whole program together, as an ELF."""
    scratch = rng.randbytes(at.SCRATCH_PAGES * at.PAGE)
    return elf(
        [
            (RAM, handlers().finish()),
            (at.TOHOST, bytes(128)),
            (at.CONSTANTS, constants),
            (at.SAVE, save_area()),
            (at.TABLES, PageTables(rng).build()),
            (at.SCRATCH, scratch),
            (at.PADS, pads(rng)),
            (at.BODY, body),
        ],
        {
            "tohost": at.TOHOST,
            "fromhost": at.TOHOST + 64,
            "begin_signature": at.TABLES,
            "end_signature": at.PADS,
        },
    )


def random_program(
    rng: Random,
    groups: int,
    items: int,
    modes: str = "MSU",
    surroundings: Random | None = None,
) -> bytes:
    """Write a program of so many groups of so many items, each group in one of `modes`.

    Data and page tables come from `surroundings`, so that `rng` may be one that shrinks.
    """
    surroundings = surroundings or rng
    program = Program(rng, surroundings)
    for _ in range(groups):
        program.group(rng.choice(modes), items)
    program.end()
    return image(surroundings, program.code.finish(), program.constants.page())
