"""Translations follow the page tables at once, without sfence.vma, whoever changes them."""

import pytest

from tests.assembler import RAM, Code, encode
from tests.machine.core.small import PAGE, bare, halt, identity_tables, in_every_way, until_halt

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


@pytest.mark.parametrize("how", ["sd", "sw", "sh", "sb", "amoswap.d", "mapped"])
def test_a_page_that_is_mapped_elsewhere_is_seen_elsewhere(how):
    code = Program()
    code.li("s0", DATA)
    code.as_supervisor("ld", "s2", "s0")
    code.entry(place(DATA), pte(OTHER), how)
    code.as_supervisor("ld", "s3", "s0")
    code.as_supervisor("sd", "s0", "s0")
    code.entry(place(DATA), pte(DATA), how)
    code.as_supervisor("ld", "s4", "s0")
    machine = run(code)
    assert [machine.registers[name] for name in ("s2", "s3", "s4")] == [111, 222, 111]
    assert int.from_bytes(machine.read(OTHER, 8), "little") == DATA


@pytest.mark.parametrize(
    ("flags", "load", "store"),
    [(0, 13, 15), (RWXAD & ~W, 0, 15), (X | V | A, 13, 15), (RWXAD | U, 13, 15), (W | V, 13, 15)],
)
def test_a_permission_that_is_taken_away_is_gone(flags, load, store):
    code = Program()
    code.li("s0", DATA)
    code.as_supervisor("ld", "s2", "s0")
    code.as_supervisor("sd", "s2", "s0")
    code.entry(place(DATA), pte(DATA, flags))
    code.as_supervisor("ld", "s3", "s0")
    code.op("addi", "s4", "a1", 0)
    code.li("a1", 0)
    code.as_supervisor("sd", "s3", "s0")
    code.op("addi", "s5", "a1", 0)
    machine = run(code)
    assert [machine.registers[name] for name in ("s4", "s5")] == [load, store]


@pytest.mark.parametrize("level", [1, 2])
def test_upper_levels_are_followed_too(level):
    code = Program()
    code.li("s0", DATA)
    code.as_supervisor("ld", "s2", "s0")
    address = ROOT + 8 * (RAM >> 30) if level == 2 else MIDDLE
    code.entry(address, 0)
    code.as_supervisor("ld", "s3", "s0")
    code.op("addi", "s4", "a1", 0)
    leaf = pte(RAM) if level == 1 else pte(0x8000_0000)
    code.entry(address, leaf)  # now a large page
    code.as_supervisor("ld", "s5", "s0")
    machine = run(code)
    assert [machine.registers[name] for name in ("s2", "s4", "s5")] == [111, LOAD_FAULT, 111]


def test_a_page_of_data_may_become_a_table():
    """Stores through a mapping that was there before are seen by the walk."""
    table = RAM + 0x50000
    code = Program()
    code.li("s0", DATA)
    code.li("s1", table + 8 * ((DATA - RAM) // PAGE))
    code.li("t2", pte(DATA))
    code.as_supervisor("sd", "t2", "s1")  # now it may be written without asking
    code.entry(MIDDLE, pte(table, V))
    code.as_supervisor("ld", "s2", "s0")
    code.entry(MIDDLE, pte(LEAF, V))
    code.as_supervisor("ld", "s3", "s0")
    code.li("t2", pte(OTHER))
    code.as_supervisor("sd", "t2", "s1")
    code.entry(MIDDLE, pte(table, V))
    code.as_supervisor("ld", "s4", "s0")
    machine = run(code)
    assert [machine.registers[name] for name in ("s2", "s3", "s4")] == [111, 111, 222]


def test_a_table_seen_through_its_own_mapping_changes_what_it_maps():
    table = RAM + 0x50000
    tables = identity_tables(ROOT, RWXAD)
    leaves = bytearray(tables[ROOT])
    leaves[PAGE + 8 : PAGE + 16] = pte(table, V).to_bytes(8, "little")
    extra = bytearray(PAGE)
    extra[0:8], extra[8:16] = (pte(page).to_bytes(8, "little") for page in (DATA, table))
    code = Program()
    code.li("s0", RAM + 0x200000)
    code.li("s1", RAM + 0x200000 + PAGE)  # the table
    code.as_supervisor("ld", "s2", "s1")
    code.as_supervisor("ld", "s3", "s0")
    code.li("t2", pte(OTHER))
    code.as_supervisor("sd", "t2", "s1")
    code.as_supervisor("ld", "s4", "s0")
    machine = run(code, {ROOT: bytes(leaves), table: bytes(extra)})
    assert [machine.registers[name] for name in ("s2", "s3", "s4")] == [pte(DATA), 111, 222]


def test_a_table_may_be_changed_very_often():
    code = Program()
    code.li("s0", DATA)
    code.li("s1", place(DATA))
    code.li("s2", pte(DATA))
    code.li("s3", pte(DATA) ^ pte(OTHER))
    code.li("s4", 200)
    code.li("s6", 0)
    code.label("loop")
    code.op("xor", "s2", "s2", "s3")
    for _ in range(3):
        code.op("sd", "s2", 0, "s1")
    code.as_supervisor("ld", "s5", "s0")
    code.op("add", "s6", "s6", "s5")
    code.op("addi", "s4", "s4", -1)
    code.op("bne", "s4", "zero", "loop")
    machine = run(code)
    assert machine.registers["s6"] == 100 * 333


@pytest.mark.parametrize(
    ("bit", "flags", "kind", "denied"),
    [(MXR, X | V | A, "ld", LOAD_FAULT), (SUM, RWXAD | U, "ld", LOAD_FAULT),
     (SUM, RWXAD | U, "sd", STORE_FAULT)],
)  # fmt: skip
def test_what_mstatus_allows_it_forbids_again(bit, flags, kind, denied):
    code = Program()
    code.li("s0", DATA)
    code.entry(place(DATA), pte(DATA, flags))
    for register, status in (("s2", 0), ("s3", bit), ("s4", 0), ("s5", bit)):
        code.li("a1", 0)
        code.as_supervisor(kind, "s6", "s0", status)
        code.op("addi", register, "a1", 0)
    machine = run(code)
    causes = [machine.registers[name] for name in ("s2", "s3", "s4", "s5")]
    assert causes == [denied, 0, denied, 0]


def test_accessed_and_dirty_are_set_when_due_and_set_again_after_they_were_cleared():
    code = Program()
    code.li("s0", DATA)
    code.li("s1", place(DATA))
    code.entry(place(DATA), pte(DATA, V | R | W))
    for access, register in (("ld", "s2"), ("sd", "s3")):
        code.as_supervisor(access, "t2", "s0")
        code.op("ld", register, 0, "s1")
    code.entry(place(DATA), pte(DATA, V | R | W | D))
    code.as_supervisor("ld", "t2", "s0")
    code.op("ld", "s4", 0, "s1")
    code.entry(place(DATA), pte(DATA, V | R | W))
    code.as_supervisor("sd", "t2", "s0")
    code.op("ld", "s5", 0, "s1")
    machine = run(code)
    flags = [machine.registers[name] & 0xFF for name in ("s2", "s3", "s4", "s5")]
    assert flags == [V | R | W | A, V | R | W | A | D, V | R | W | A | D, V | R | W | A | D]


def test_an_access_that_is_denied_sets_nothing():
    code = Program()
    code.li("s0", DATA)
    code.entry(place(DATA), pte(DATA, V | X))
    code.as_supervisor("ld", "t2", "s0")
    code.as_supervisor("sd", "t2", "s0")
    code.li("s1", place(DATA))
    code.op("ld", "s2", 0, "s1")
    machine = run(code)
    assert machine.registers["s2"] == pte(DATA, V | X)


def test_a_new_satp_is_another_world():
    other = RAM + 0x60000
    tables = identity_tables(ROOT, RWXAD) | identity_tables(other, RWXAD)
    page = bytearray(tables[other])
    at = 2 * PAGE + 8 * ((DATA - RAM) // PAGE)
    page[at : at + 8] = pte(OTHER).to_bytes(8, "little")
    code = Program()
    code.li("s0", DATA)
    code.as_supervisor("ld", "s2", "s0")
    for register, root in (("s3", other), ("s4", ROOT)):
        code.li("t0", 8 << 60 | root >> 12)
        code.csrw("satp", "t0")
        code.as_supervisor("ld", register, "s0")
    machine = run(code, tables | {other: bytes(page)})
    assert [machine.registers[name] for name in ("s2", "s3", "s4")] == [111, 222, 111]


def supervisor_program():
    """A loop of S-mode at DATA that counts in a0 and stores t2 to the address in s1."""
    code = Program()
    code.li("t0", 0x800)
    code.csrw("mstatus", "t0")
    code.li("t0", DATA)
    code.csrw("mepc", "t0")
    code.li("s1", place(DATA))
    return code


def test_code_that_unmaps_itself_faults_at_the_next_instruction():
    code = supervisor_program()
    code.li("t2", 0)
    code.la("t0", "end")
    code.csrw("mtvec", "t0")
    code.op("mret")
    code.pad(code.here + -code.here % 4)
    code.label("end")
    halt(code)
    words = (encode("addi", "a0", "a0", 1), encode("sd", "t2", 0, "s1"))
    body = b"".join(word.to_bytes(4, "little") for word in (*words, words[0]))

    def make():
        return bare(code, identity_tables(ROOT, RWXAD) | {DATA: body})

    machine = in_every_way(make)
    assert machine.registers["mcause"] == FETCH_FAULT
    assert machine.registers["mepc"] == machine.registers["mtval"] == DATA + 8
    assert machine.registers["a0"] == 1


def test_code_that_maps_itself_elsewhere_goes_on_there():
    code = supervisor_program()
    code.li("t2", pte(OTHER))
    code.la("t0", "end")
    code.csrw("mtvec", "t0")
    code.op("mret")
    code.pad(code.here + -code.here % 4)
    code.label("end")
    halt(code)
    one, many = encode("addi", "a0", "a0", 1), encode("addi", "a0", "a0", 100)
    here = (one, encode("sd", "t2", 0, "s1"), one, encode("ebreak"))
    there = (0, 0, many, encode("ebreak"))

    def make():
        pages = {DATA: here, OTHER: there}
        data = {
            page: b"".join(word.to_bytes(4, "little") for word in words)
            for page, words in pages.items()
        }
        return bare(code, identity_tables(ROOT, RWXAD) | data)

    machine = in_every_way(make)
    assert machine.registers["a0"] == 101


def test_the_host_may_change_a_table_between_two_runs():
    code = Program()
    code.li("s0", DATA)
    code.label("loop")
    code.as_supervisor("ld", "s2", "s0")
    code.op("jal", "zero", "loop")
    with bare(code, identity_tables(ROOT, RWXAD) | {OTHER: b"\x07"}) as machine:
        machine.run(200)
        machine.write(place(DATA), pte(OTHER).to_bytes(8, "little"))
        machine.run(400)
        assert machine.registers["s2"] == 7


def test_tables_outside_memory_are_an_access_fault():
    code = Program()
    code.li("t0", 8 << 60 | 0x1_0000)
    code.csrw("satp", "t0")
    code.li("s0", DATA)
    code.as_supervisor("ld", "s2", "s0")
    halt(code)
    machine = until_halt(bare(code))
    assert machine.registers["a1"] == 5


@pytest.mark.parametrize("address", [1 << 38, (1 << 39) - 8, (1 << 63) | DATA, -(1 << 38) - 8])
def test_addresses_must_be_sign_extended(address):
    code = Program()
    code.li("s0", address)
    code.as_supervisor("ld", "s2", "s0")
    machine = run(code)
    assert machine.registers["a1"] == LOAD_FAULT


def test_a_store_whose_second_page_is_refused_writes_nothing():
    code = Program()
    code.li("s0", DATA + PAGE - 4)
    code.op("ld", "s2", 0, "s0")
    code.entry(place(DATA + PAGE), pte(DATA + PAGE, RWXAD & ~W))
    code.as_supervisor("sd", "s0", "s0")
    code.op("ld", "s3", 0, "s0")
    machine = run(code)
    assert machine.registers["a1"] == STORE_FAULT
    assert machine.registers["mtval"] == DATA + PAGE
    assert machine.registers["s3"] == machine.registers["s2"]


def test_a_store_that_clears_the_entry_of_its_own_second_page_is_whole():
    leaves = bytearray(identity_tables(ROOT, RWXAD)[ROOT])
    window = RAM + 511 * PAGE  # its entry is the last of the table, which is seen just below it
    leaves[2 * PAGE + 8 * 510 : 2 * PAGE + 8 * 511] = pte(LEAF).to_bytes(8, "little")
    leaves[2 * PAGE + 8 * 511 : 2 * PAGE + 8 * 512] = pte(DATA).to_bytes(8, "little")
    code = Program()
    code.li("s0", window - 5)
    code.li("t2", 0x77 << 40)
    code.as_supervisor("sd", "t2", "s0")
    code.as_supervisor("sd", "t2", "s0")
    machine = run(code, {ROOT: bytes(leaves)})
    assert (
        machine.registers["a1"] == 7
    )  # an access fault of the second store: half an entry is left
    assert machine.read(DATA, 3) == b"\x77\0\0"
    assert machine.read(LEAF + PAGE - 5, 5) == bytes(5)


def test_an_accessed_bit_that_is_set_in_code_changes_the_code():
    """An entry that is run as code too: c.addi a0, 2, and with A set c.addi a0, 18; then a trap."""
    page = RAM + 0x81000
    tables = bytearray(identity_tables(ROOT, RWXAD)[ROOT])
    at = 2 * PAGE + 8 * 0x81
    tables[at : at + 8] = pte(page, V | X | 0x100).to_bytes(8, "little")
    code = Program()
    code.la("t0", "handler")
    code.csrw("mtvec", "t0")
    code.li("a0", 0)
    code.li("s1", ROOT + at)
    code.li("s2", page)
    code.op("jal", "zero", "enter")
    code.pad(code.here + -code.here % 4)
    code.label("handler")
    code.op("addi", "a2", "a2", 1)
    code.li("t0", 3)
    code.op("beq", "a2", "t0", "end")
    code.as_supervisor("ld", "t2", "s2", MXR)
    code.label("enter")
    code.csrw("mepc", "s1")
    code.li("t0", MPP_S)
    code.csrw("mstatus", "t0")
    code.op("mret")
    code.label("end")
    machine = run(code, {ROOT: bytes(tables)})
    assert machine.registers["a0"] == 2 + 18 + 18
