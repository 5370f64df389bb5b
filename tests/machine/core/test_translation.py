"""Translations follow the page tables at once, without sfence.vma, whoever changes them."""

import pytest

from tests.assembler import RAM
from tests.machine.core.borrowed import (
    DATA,
    LEAF,
    LOAD_FAULT,
    MIDDLE,
    MXR,
    OTHER,
    ROOT,
    RWXAD,
    STORE_FAULT,
    SUM,
    A,
    D,
    Program,
    R,
    U,
    V,
    W,
    X,
    place,
    pte,
    run,
)
from tests.machine.core.small import PAGE, bare, halt, identity_tables, until_halt


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


SECOND = RAM + 0x60000  # a root; and a table of 2 MiB pages that moves DATA to where OTHER was
MOVED = SECOND + 3 * PAGE
SYSTEM_HALF = -(1 << 38)  # the first address of the upper half: entry 256 of a root
WINDOW = SYSTEM_HALF + DATA - RAM


def roots(second):
    """Two address spaces: both have RAM in the upper half, or the second has what is given."""
    tables = identity_tables(ROOT, RWXAD) | identity_tables(SECOND, RWXAD)
    parts = {}
    for root, entry in ((ROOT, pte(RAM)), (SECOND, second)):
        page = bytearray(tables[root])
        page[8 * 256 : 8 * 257] = entry.to_bytes(8, "little")
        parts[root] = page
    place_of_data = 2 * PAGE + 8 * ((DATA - RAM) // PAGE)
    parts[SECOND][place_of_data : place_of_data + 8] = pte(OTHER).to_bytes(8, "little")
    moved = bytearray(2 * PAGE)
    moved[:8] = pte(MOVED + PAGE, V).to_bytes(8, "little")
    index = PAGE + 8 * ((DATA - RAM) // PAGE)
    moved[index : index + 8] = pte(OTHER).to_bytes(8, "little")
    return {root: bytes(page) for root, page in parts.items()} | {MOVED: bytes(moved)}


def go_to(code, root):
    code.li("t0", 8 << 60 | root >> 12)
    code.csrw("satp", "t0")


def test_address_spaces_with_the_same_upper_half_differ_below():
    code = Program()
    code.li("s0", DATA)
    code.li("s1", WINDOW)
    for kept, data, root in (("s2", "s3", SECOND), ("s4", "s5", ROOT), ("s6", "s7", None)):
        code.as_supervisor("ld", kept, "s1")
        code.as_supervisor("ld", data, "s0")
        if root:
            go_to(code, root)
    machine = run(code, roots(pte(RAM)))
    seen = [machine.registers[f"s{number}"] for number in range(2, 8)]
    assert seen == [111, 111, 111, 222, 111, 111]


@pytest.mark.parametrize("second", [pte(MOVED, V), 0])
def test_address_spaces_with_another_upper_half_differ_there(second):
    code = Program()
    code.li("s1", WINDOW)
    code.as_supervisor("ld", "s2", "s1")
    go_to(code, SECOND)
    code.as_supervisor("ld", "s3", "s1")
    go_to(code, ROOT)
    code.as_supervisor("ld", "s4", "s1")
    machine = run(code, roots(second))
    assert [machine.registers[name] for name in ("s2", "s3", "s4")] == [
        111,
        222 if second else 1,
        111,
    ]


def test_what_was_kept_in_a_new_address_space_follows_its_own_root():
    code = Program()
    code.li("s1", WINDOW)
    code.as_supervisor("ld", "s2", "s1")
    go_to(code, SECOND)
    code.as_supervisor("ld", "s3", "s1")
    code.entry(SECOND + 8 * 256, pte(MOVED, V))
    code.as_supervisor("ld", "s4", "s1")
    go_to(code, ROOT)
    code.as_supervisor("ld", "s5", "s1")
    machine = run(code, roots(pte(RAM)))
    assert [machine.registers[f"s{number}"] for number in range(2, 6)] == [111, 111, 222, 111]


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_table_that_is_overwritten_as_data_is_forgotten_whole(level):
    """So many stores that nobody follows them any more, then one that matters."""
    table = (LEAF, MIDDLE, ROOT)[level]
    entries = {LEAF: place(DATA), MIDDLE: MIDDLE, ROOT: ROOT + 8 * (RAM >> 30)}
    code = Program()
    code.li("s0", DATA)
    code.as_supervisor("ld", "s2", "s0")
    code.li("s1", table + 8 * 300)
    code.li("s4", 100)
    code.label("again")
    code.op("sd", "s4", 0, "s1")
    code.op("addi", "s4", "s4", -1)
    code.op("bne", "s4", "zero", "again")
    code.entry(entries[table], 0)
    code.as_supervisor("ld", "s3", "s0")
    machine = run(code)
    assert [machine.registers[name] for name in ("s2", "s3", "a1")] == [111, 1, LOAD_FAULT]


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
