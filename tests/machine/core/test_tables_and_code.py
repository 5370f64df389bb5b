"""Code that changes its own translation, and page tables that are run as code."""

from tests.assembler import RAM, encode
from tests.machine.core.borrowed import (
    DATA,
    FETCH_FAULT,
    MPP_S,
    MXR,
    OTHER,
    ROOT,
    RWXAD,
    Program,
    V,
    X,
    place,
    pte,
    run,
)
from tests.machine.core.small import PAGE, bare, halt, identity_tables, in_every_way


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
