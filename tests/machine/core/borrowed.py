"""Programs of M-mode that look at memory with S-mode's eyes, through page tables they change."""

from tests.assembler import RAM, Code
from tests.machine.core.small import PAGE, bare, halt, identity_tables, in_every_way

ROOT = RAM + 0x40000
MIDDLE, LEAF = ROOT + PAGE, ROOT + 2 * PAGE
DATA, OTHER = RAM + 0x20000, RAM + 0x30000
V, R, W, X, U, A, D = 1, 2, 4, 8, 16, 64, 128
RWXAD = V | R | W | X | A | D
MPP_S, MPRV, SUM, MXR = 0x800, 1 << 17, 1 << 18, 1 << 19
LOAD_FAULT, STORE_FAULT, FETCH_FAULT = 13, 15, 12


def pte(page, flags=RWXAD):
    return page >> 12 << 10 | flags


def place(page):
    """Where the table has the entry of a page of RAM."""
    return LEAF + 8 * ((page - RAM) // PAGE)


class Program(Code):
    """A program of M-mode that looks at memory as S-mode would; a1 is the last trap's cause."""

    def __init__(self):
        super().__init__()
        self.op("jal", "zero", "start")
        self.pad(RAM + 8)
        self.csrr("a1", "mcause")
        self.csrr("t6", "mepc")
        self.op("addi", "t6", "t6", 4)
        self.csrw("mepc", "t6")
        self.li("t6", 0x1800)
        self.op("csrrs", 0, "mstatus", "t6")
        self.op("mret")
        self.label("start")
        self.li("t0", RAM + 8)
        self.csrw("mtvec", "t0")
        self.li("t0", 8 << 60 | ROOT >> 12)
        self.csrw("satp", "t0")
        self.li("a1", 0)
        for index, register in enumerate(("s2", "s3", "s4", "s5", "s6", "s7")):
            self.li(register, index)

    def as_supervisor(self, name, value, address, status=0):
        """Load or store with S-mode's eyes; address is a register."""
        self.li("t0", MPRV | MPP_S | status)
        self.csrw("mstatus", "t0")
        self.op(name, value, 0, address)
        self.csrw("mstatus", "zero")

    def entry(self, address, value, how="sd"):
        """Change a page table entry."""
        self.li("t1", address)
        self.li("t2", value)
        if how == "amoswap.d":
            self.op(how, "zero", "t2", "t1")
        elif how == "mapped":
            self.as_supervisor("sd", "t2", "t1")
        elif how == "sd":
            self.op("sd", "t2", 0, "t1")
        else:
            step = {"sb": 1, "sh": 2, "sw": 4}[how]
            for offset in range(0, 8, step):
                self.op(how, "t2", offset, "t1")
                self.op("srli", "t2", "t2", 8 * step)


def run(code, tables=None):
    """Run it in every way, with two pages of data."""
    halt(code)
    parts = tables or identity_tables(ROOT, RWXAD)
    parts = parts | {DATA: (111).to_bytes(8, "little"), OTHER: (222).to_bytes(8, "little")}

    def make():
        return bare(code, parts)

    return in_every_way(make, steps=(1, 5))
