"""Random code whose meaning depends on the mode: CSRs, traps, interrupts, page tables."""

from __future__ import annotations

from tests.assembler import CSR, RAM, encode
from tests.random_programs import layout as at
from tests.random_programs.handlers import SUPERVISOR
from tests.random_programs.items import CSR_OPS, PLAIN, PURE, STORES, Items
from tests.random_programs.layout import pte
from tests.random_programs.tables import PageTables

# differ, see tests/spike.py
UNREADABLE = (0xB00, 0xC00, 0xC01, 0xF12, 0x320, 0x30A, 0x10A, 0x180, 0x142, 0x342)
UNWRITABLE = (0x301, 0x320, 0x30A)  # WARL where Spike's choice would change what it does
SKIPPED_CSRS = (*range(0x7A0, 0x7B0), 0x5A8)  # Spike has a trigger module, with no triggers


class Privileged(Items):
    """Writes items for the mode the program is in."""

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
        values = {"mtvec": RAM + 8, "mscratch": at.SAVE, "sscratch": at.S_SAVE, "mideleg": 0}
        values |= {"medeleg": 0, "satp": at.SATP if self.translated else 0}
        values["stvec"] = SUPERVISOR
        for name, value in values.items():
            if number != CSR[name] or (name[0] == "m" and self.mode != "M") or self.mode == "U":
                continue
            if name == "satp" and self.mode != "M":
                continue
            self.code.li(28, value)
            self.code.csrw(name, 28)
        if number == CSR["mstatus"] and self.mode == "M":
            self.code.op("lui", 28, at.MPRV_UPPER)
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
        self.code.la(at.RESUME, target)
        register = self.base()
        self.code.op("ld", register, self.rng.choice(self.constants.targets[self.window]), at.GP)
        self.code.op("jalr", self.rd(), 0, register)
        self.code.label(target)

    def entry(self) -> None:
        """Change a page table entry."""
        if self.mode == "U" or (self.mode == "S" and self.mstatus >> 20 & 1):
            return
        place = at.WILD_LEAF + 8 * (at.WILD_FIRST + self.rng.randrange(at.WILD_PAGES))
        flags, page = PageTables(self.rng).random_entry()
        self.code.li(28, place)
        self.code.li(29, pte(page, flags))
        self.code.op("sd", 29, 0, 28)
        self.code.op("sfence.vma", 0, 0)

    # items of M-mode

    def interrupt(self) -> None:
        """Let software interrupts happen, or not."""
        for name in ("mideleg", "mie", "mip"):
            self.code.op("ld", 28, self.rng.choice(self.constants.integers), at.GP)
            self.code.csrw(name, 28)
        self.code.op(self.rng.choice(("csrrsi", "csrrci")), 0, "mstatus", 8)

    def patch(self) -> None:
        """Store an instruction over the next one, or one a little later."""
        target, name = self.label(), self.rng.choice(PURE)
        self.code.la(28, target)
        self.code.li(29, encode(name, *self.operands(name)))
        if self.rng.random() < 0.5:
            self.code.op("sw", 29, 0, 28)
        else:
            self.code.op("amoswap.w", 0, 29, 28)
            self.code.op("sh", 29, 0, 28)
        self.code.op("fence.i")
        if self.rng.random() < 0.5:
            self.some(1, 4)
        self.code.label(target)
        self.pure()

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
        status = at.MPRV_UPPER << 12 | rng.choice((0, 0x800, 0x1800)) | rng.getrandbits(2) << 18
        code.op("ld", base, rng.choice(self.constants.wild), at.GP)
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
        code.op("lui", 28, at.MPRV_UPPER)
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
