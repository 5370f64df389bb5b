"""Page tables of every level that change in any order, between accesses by way of them."""

import random

import pytest

from tests.assembler import RAM, Code
from tests.machine.core.borrowed import RWXAD, SUM, A, D, R, U, V, W, pte
from tests.machine.core.small import PAGE, bare, halt, identity_tables, in_every_way, sv39

WINDOW = 1 << 30  # the second GiB: two pieces of 2 MiB, four pages of each
ROOTS = (RAM + 0x40000, RAM + 0x50000)
MIDDLES = (RAM + 0x60000, RAM + 0x61000)
LEAVES = (RAM + 0x62000, RAM + 0x63000)
PAGES = tuple(RAM + 0x70000 + PAGE * n for n in range(4))
FLAGS = (V | R | W | A | D, V | R | A, V | R | W | U | A | D, V | R | W)
TURNS = 20


class Changes(Code):
    """A program of S-mode; its handler in M-mode goes on behind what trapped, and sums it up."""

    def __init__(self, rng):
        super().__init__()
        self.rng = rng
        self.op("jal", "zero", "start")
        self.pad(RAM + 8)
        for name in ("mcause", "mtval"):
            self.csrr("t6", name)
            self.op("add", "s3", "s3", "t6")
        self.csrr("t6", "mepc")
        self.op("addi", "t6", "t6", 4)
        self.csrw("mepc", "t6")
        self.op("bne", "a7", "zero", "end")
        self.op("mret")
        self.label("end")
        halt(self)
        self.label("start")
        self.li("t0", RAM + 8)
        self.csrw("mtvec", "t0")
        self.la("t0", "mapped")
        self.csrw("mepc", "t0")
        self.li("t0", 1 << 11)
        self.csrw("mstatus", "t0")
        sv39(self, ROOTS[0])
        self.op("mret")
        self.label("mapped")
        self.li("s0", TURNS)
        self.label("loop")

    def put(self, address, value):
        self.li("t1", address)
        self.li("t2", value)
        self.op("sd", "t2", 0, "t1")

    def entry(self, page, flags):
        return 0 if self.rng.random() < 0.15 else pte(page, flags)

    def change_root(self):
        self.put(self.rng.choice(ROOTS) + 8, self.entry(self.rng.choice(MIDDLES), V))

    def change_middle(self, *, shared):
        index = self.rng.randrange(2)
        leaf = self.rng.choice(LEAVES) if shared else LEAVES[index]
        self.put(self.rng.choice(MIDDLES) + 8 * index, self.entry(leaf, V))

    def change_leaf(self):
        value = self.entry(self.rng.choice(PAGES), self.rng.choice(FLAGS))
        self.put(self.rng.choice(LEAVES) + 8 * self.rng.randrange(4), value)

    def change_root_register(self):
        self.li("t0", 8 << 60 | self.rng.choice(ROOTS) >> 12)
        self.csrw("satp", "t0")

    def permit_user_pages(self):
        self.li("t0", SUM)
        self.op(self.rng.choice(("csrrs", "csrrc")), "zero", "sstatus", "t0")

    def fill_table(self):
        """Store so often in a row that nobody seems to use it as a table any more."""
        label = f"fill{self.here}"
        table = self.rng.choice((*LEAVES, *MIDDLES))
        self.li("t1", table + 8 * 8)
        self.op("addi", "t2", "zero", 520 if table in LEAVES else 70)
        self.label(label)
        self.op("sd", "zero", 0, "t1")
        self.op("addi", "t2", "t2", -1)
        self.op("bne", "t2", "zero", label)
        for page in range(4 if table in LEAVES else 0):
            self.put(table + 8 * page, self.entry(self.rng.choice(PAGES), FLAGS[0]))

    def touch(self):
        piece, page = self.rng.randrange(2), self.rng.randrange(4)
        self.li("t1", WINDOW + (piece << 21) + PAGE * page)
        if self.rng.random() < 0.4:
            self.op("sd", "s3", 0, "t1")
        self.op("ld", "t2", 0, "t1")
        self.op("add", "s3", "s3", "t2")

    def finish_loop(self):
        self.op("addi", "s0", "s0", -1)
        self.op("beq", "s0", "zero", "leave")
        self.op("jal", "zero", "loop")
        self.label("leave")
        self.li("a7", 93)
        self.op("ecall")


def program(seed, *, shared):
    rng = random.Random(seed)
    code = Changes(rng)
    for leaf in LEAVES:
        for page in range(4):
            code.put(leaf + 8 * page, pte(PAGES[page], FLAGS[0]))
    changes = [code.change_root, code.change_leaf, code.change_root_register]
    changes += [code.permit_user_pages, lambda: code.change_middle(shared=shared), code.fill_table]
    for _ in range(30):
        for change in rng.choices(changes, (3, 6, 3, 2, 3, 1), k=rng.randrange(1, 5)):
            change()
        for _ in range(rng.randrange(1, 9)):
            code.touch()
    code.finish_loop()
    return code


def tables():
    """Both roots map RAM by itself, and the window by way of a middle table each."""
    parts = {page: bytes([number]) * PAGE for number, page in enumerate(PAGES, 1)}
    for root, middle in zip(ROOTS, MIDDLES, strict=True):
        own = bytearray(identity_tables(root, RWXAD)[root])
        own[8:16] = pte(middle, V).to_bytes(8, "little")
        parts[root] = bytes(own)
        parts[middle] = b"".join(pte(leaf, V).to_bytes(8, "little") for leaf in LEAVES)
    return parts


@pytest.mark.parametrize("shared", [False, True], ids=["tables of one place", "of several"])
@pytest.mark.parametrize("seed", range(8))
def test_accesses_see_what_the_tables_say_at_every_moment(seed, shared):
    """The trace walks each time: so runs with TLBs are compared with one without any."""
    code, parts = program(seed, shared=shared), tables()
    machine = in_every_way(lambda: bare(code, parts), steps=(1, 7))
    assert machine.registers["s3"] != 0
