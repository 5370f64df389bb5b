"""Where random programs live: memory map, page tables, trap handlers that survive anything.

Registers no random instruction writes: gp points at a page of constants, t5 counts loops, t6 is
where to go on after a jump that could not be fetched.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.assembler import RAM, Code, elf

if TYPE_CHECKING:
    from random import Random

GP, COUNTER, RESUME = 3, 30, 31
RESERVED = (GP, COUNTER, RESUME)
PAGE = 4096
TOHOST, CONSTANTS, SAVE = RAM + 0x1000, RAM + 0x2000, RAM + 0x3000
S_SAVE = SAVE + 0x100
TABLES = RAM + 0x10000
ROOT, S_MIDDLE, S_LEAF, U_MIDDLE, U_LEAF, WILD_MIDDLE, WILD_LEAF = (
    TABLES + PAGE * index for index in range(7)
)  # WILD_LEAF has two pages
SCRATCH, SCRATCH_PAGES = RAM + 0x40000, 16
PADS, PAD_PAGES = RAM + 0x60000, 8
BODY, BODY_LIMIT = RAM + 0x100000, 0xF0000
U_WINDOW = 0x5000_0000  # the same 2 MiB as at RAM, for U-mode
WILD, WILD_PAGES, WILD_FIRST = 0xC000_0000, 96, 464  # with random PTEs, in two tables
SATP = 8 << 60 | ROOT >> 12
V, R, W, X, U, G, A, D = (1 << bit for bit in range(8))

MAGIC_M, MAGIC_SKIP = 0x6D61676963204D21, 0x736B697020697421  # in a7: what an ecall asks for
TRAP_LIMIT = 20_000
SAVED = {"count": 24, "limit": 32, "body": 40, "magic": 48, "skip": 56}  # after t0, t1, t2
MPP_M, MPRV_UPPER = 0x1800, 0x20  # MPRV as lui loads it


def pte(physical: int, flags: int) -> int:
    """Make a page table entry."""
    return physical >> 12 << 10 | flags


def handlers() -> Code:
    """Write what runs at reset and on traps."""
    code = Code(RAM)
    code.op("jal", 0, "start")
    code.pad(RAM + 8)
    _machine_handler(code)
    _supervisor_handler(code)
    code.label("start")
    code.li("t0", 0x2004000)  # mtimecmp
    code.li("t1", -1)
    code.op("sd", "t1", 0, "t0")
    for name, value in (("mtvec", RAM + 8), ("mscratch", SAVE), ("sscratch", S_SAVE)):
        code.li("t0", value)
        code.csrw(name, "t0")
    code.la("t0", "supervisor")
    code.csrw("stvec", "t0")
    code.li("t0", 1 << 61)
    code.csrw("menvcfg", "t0")  # ADUE: Spike shall set A and D too
    code.csrw("minstret", "zero")
    code.li("t0", 0x6000)
    code.csrw("mstatus", "t0")
    for number in range(32):
        code.op("fmv.d.x", number, 0)
    for number in range(1, 32):
        code.op("addi", number, 0, 0)
    code.li("gp", CONSTANTS + 2048)
    code.la("ra", BODY)
    code.op("jalr", 0, 0, "ra")
    code.finish()
    assert len(code.data) <= PAGE
    return code


def _machine_handler(code: Code) -> None:
    code.op("csrrw", "sp", "mscratch", "sp")
    for index in range(3):
        code.op("sd", f"t{index}", 8 * index, "sp")
    code.op("ld", "t0", SAVED["count"], "sp")
    code.op("addi", "t0", "t0", 1)
    code.op("sd", "t0", SAVED["count"], "sp")
    code.op("ld", "t1", SAVED["limit"], "sp")
    code.op("bgeu", "t0", "t1", "finish")
    for rd, name in (("t1", "mtval"), ("t1", "mstatus"), ("t0", "mcause"), ("t1", "mepc")):
        code.csrr(rd, name)
    code.op("blt", "t0", "zero", "interrupt")
    for cause in (8, 9):
        code.li("t2", cause)
        code.op("beq", "t0", "t2", "ecall")
    code.op("jal", 0, "normal")
    code.label("ecall")
    code.op("ld", "t2", SAVED["magic"], "sp")
    code.op("beq", "t2", "a7", "go_to_m")
    code.op("ld", "t2", SAVED["skip"], "sp")
    code.op("beq", "t2", "a7", "skip_for_s")
    code.label("normal")
    _skip(code, "m")
    code.csrw("mepc", "t1")
    code.label("back")
    for index in range(3):
        code.op("ld", f"t{index}", 8 * index, "sp")
    code.op("csrrw", "sp", "mscratch", "sp")
    code.op("mret")
    code.label("interrupt")
    code.csrw("mie", "zero")
    code.op("jal", 0, "back")
    code.label("go_to_m")
    code.li("t2", MPP_M)
    code.op("csrrs", 0, "mstatus", "t2")
    _body_address(code)
    code.op("addi", "t2", "t2", 4)
    code.csrw("mepc", "t2")
    code.op("jal", 0, "back")
    code.label("skip_for_s")
    code.csrr("t0", "scause")
    code.csrr("t1", "sepc")
    code.op("blt", "t0", "zero", "interrupt_of_s")
    _skip(code, "s")
    code.csrw("sepc", "t1")
    code.label("skipped")
    code.csrr("t1", "mepc")
    code.op("addi", "t1", "t1", 4)
    code.csrw("mepc", "t1")
    code.op("jal", 0, "back")
    code.label("interrupt_of_s")
    code.csrw("mie", "zero")
    code.op("jal", 0, "skipped")
    code.label("finish")
    finish(code)


def _body_address(code: Code) -> None:
    """t2: where in the body t1 is, physically."""
    code.op("slli", "t2", "t1", 44)
    code.op("srli", "t2", "t2", 44)
    code.op("ld", "t0", SAVED["body"], "sp")
    code.op("add", "t2", "t2", "t0")


def _skip(code: Code, suffix: str) -> None:
    """t1: where to go on after the exception t0 at t1.

    t0 may differ from the oracle's, so nothing is computed from it.
    """
    for cause in (1, 12):
        code.li("t2", cause)
        code.op("beq", "t0", "t2", f"resume_{suffix}")
    _body_address(code)
    code.op("lhu", "t2", 0, "t2")
    code.op("xori", "t2", "t2", -1)
    code.op("andi", "t2", "t2", 3)
    code.op("addi", "t1", "t1", 2)
    code.op("bne", "t2", "zero", f"skipped_{suffix}")
    code.op("addi", "t1", "t1", 2)
    code.op("jal", 0, f"skipped_{suffix}")
    code.label(f"resume_{suffix}")
    code.op("addi", "t1", "t6", 0)
    code.label(f"skipped_{suffix}")


def _supervisor_handler(code: Code) -> None:
    code.pad(code.here + -code.here % 4)
    code.label("supervisor")
    code.op("csrrw", "sp", "sscratch", "sp")
    code.op("sd", "a7", 0, "sp")
    for name in ("scause", "stval", "sstatus", "sepc"):
        code.csrr("a7", name)
    code.li("a7", MAGIC_SKIP)
    code.op("ecall")
    code.op("ld", "a7", 0, "sp")
    code.op("csrrw", "sp", "sscratch", "sp")
    code.op("sret")


def finish(code: Code) -> None:
    """End the program: tell the host, and wait to be believed."""
    code.li("t0", TOHOST)
    code.li("t1", 1)
    code.op("sd", "t1", 0, "t0")
    code.op("jal", 0, 0)


def save_area() -> bytes:
    """What the handlers find in SAVE."""
    values = {"limit": TRAP_LIMIT, "body": BODY, "magic": MAGIC_M, "skip": MAGIC_SKIP}
    area = bytearray(PAGE)
    for name, value in values.items():
        area[SAVED[name] : SAVED[name] + 8] = value.to_bytes(8, "little")
    return bytes(area)


def pads(rng: Random) -> bytes:
    """Code to be jumped to: at several places of each page an instruction, then a return to t6."""
    back = 0x8F82  # c.jr t6
    area = bytearray()
    for _ in range(PAD_PAGES):
        page = Code(0)
        while (immediate := rng.randrange(1, 256)) >> 3 in RESERVED:
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


SUPERVISOR = handlers().labels["supervisor"]
PAD_ENTRIES = (0, 2, 0x7FC, 0x800, 0xFF6, 0xFF8, 0xFFC, 0xFFE)


@dataclass
class PageTables:
    """Sv39 tables: fixed windows for S and U, and a wild part."""

    rng: Random
    pages: bytearray = field(default_factory=lambda: bytearray(8 * PAGE))

    def put(self, place: int, entry: int) -> None:
        """Write an entry at its physical address."""
        self.pages[place - TABLES : place - TABLES + 8] = entry.to_bytes(8, "little")

    def random_entry(self) -> tuple[int, int]:
        """Return flags and page for a wild leaf: never both writable and executable code."""
        rng = self.rng
        flags = rng.getrandbits(10) | (V if rng.random() < 0.9 else 0)
        if rng.random() < 0.5:
            flags |= R | A
        if flags & (R | W | X) == R | W | X:
            flags &= ~(W if rng.random() < 0.5 else X)
        area = (PADS, PAD_PAGES) if flags & X else (SCRATCH, SCRATCH_PAGES)
        page = area[0] + PAGE * rng.randrange(area[1])
        if rng.random() < 0.03:
            page = rng.choice((0x9000_0000, 0x1_0000_0000, 0, (1 << 56) - PAGE))
        if rng.random() < 0.03:
            flags |= 1 << rng.randrange(54, 64)
        return flags, page

    def build(self) -> bytes:
        """Fill them."""
        rng = self.rng
        for index, table in ((RAM >> 30, S_MIDDLE), (U_WINDOW >> 30, U_MIDDLE)):
            self.put(ROOT + 8 * index, pte(table, V))
        self.put(S_MIDDLE + 8 * (RAM >> 21 & 511), pte(S_LEAF, V))
        self.put(U_MIDDLE + 8 * (U_WINDOW >> 21 & 511), pte(U_LEAF, V))
        for start, count, flags in (
            (RAM, 1, R | X), (CONSTANTS, 1, R | W), (SAVE, 1, R | W), (TABLES, 8, R | W),
            (SCRATCH, SCRATCH_PAGES, R | W), (PADS, PAD_PAGES, R | X), (BODY, 240, X),
        ):  # fmt: skip
            for number in range(count):
                page = start + PAGE * number
                lucky = rng.choice((0, A, A | D, A | D | G)) | V
                self.put(S_LEAF + 8 * (page >> 12 & 511), pte(page, flags | lucky))
                if start not in (RAM, SAVE, TABLES):
                    self.put(U_LEAF + 8 * (page >> 12 & 511), pte(page, flags | lucky | U))
        self._wild()
        return bytes(self.pages)

    def _wild(self) -> None:
        rng = self.rng
        self.put(ROOT + 8 * 3, pte(WILD_MIDDLE, V))
        self.put(ROOT + 8 * 511, pte(WILD_MIDDLE, V | rng.choice((0, 0, A, U, D, G))))
        for index in (4, 5):  # of 1 GiB: all of RAM, but its code may not be written through them
            flags = self.random_entry()[0] & ~X
            self.put(ROOT + 8 * index, pte(RAM + (rng.random() < 0.3) * PAGE, flags))
        for index in range(2):
            self.put(WILD_MIDDLE + 8 * index, pte(WILD_LEAF + PAGE * index, V))
        for index in range(2, 8):
            flags, _ = self.random_entry()
            page = RAM + 0x200000 * (1 + index % 3) + (rng.random() < 0.2) * PAGE
            self.put(WILD_MIDDLE + 8 * index, pte(page, flags & ~X))
        for number in range(WILD_PAGES):
            flags, page = self.random_entry()
            self.put(WILD_LEAF + 8 * (WILD_FIRST + number), pte(page, flags))


def wild_page(rng: Random) -> int:
    """A virtual page of the wild part."""
    page = WILD + PAGE * (WILD_FIRST + rng.randrange(WILD_PAGES))
    return page if rng.random() < 0.9 else page | (1 << 64) - (1 << 32)


def image(rng: Random, body: bytes, constants: bytes) -> bytes:
    """Put a whole program together, as an ELF."""
    scratch = rng.randbytes(SCRATCH_PAGES * PAGE)
    return elf(
        [
            (RAM, handlers().finish()),
            (TOHOST, bytes(128)),
            (CONSTANTS, constants),
            (SAVE, save_area()),
            (TABLES, PageTables(rng).build()),
            (SCRATCH, scratch),
            (PADS, pads(rng)),
            (BODY, body),
        ],
        {
            "tohost": TOHOST,
            "fromhost": TOHOST + 64,
            "begin_signature": TABLES,
            "end_signature": PADS,
        },
    )
