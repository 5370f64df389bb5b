"""Where random programs live, and the registers with a role.

No random instruction writes those: gp points at a page of constants, t5 counts loops, t6 is where
to go on after a jump that could not be fetched.
"""

from __future__ import annotations

from tests.assembler import RAM

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

PAD_ENTRIES = (0, 2, 0x7FC, 0x800, 0xFF6, 0xFF8, 0xFFC, 0xFFE)  # see program.pads


def pte(physical: int, flags: int) -> int:
    """Make a page table entry."""
    return physical >> 12 << 10 | flags
