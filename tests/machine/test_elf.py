"""A good ELF gives its segments and symbols by physical address; a bad one is a BadImage."""

import random
import struct
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestra.errors import BadImage
from orchestra.machine.elf import Program, Segment, load_elf, plan_pages, split_pages

RAM = range(0x8000_0000, 0x8040_0000)
GUESTS = Path(__file__).resolve().parents[2] / "orchestra" / "guest"
EXEC, DYN, RISCV = 2, 3, 243


def segment(address, data, memory_length=None, *, virtual=None, flags=5, kind=1):
    memory_length = len(data) if memory_length is None else memory_length
    return (kind, flags, address if virtual is None else virtual, address, data, memory_length)


def make_elf(segments, *, entry=0x8000_0000, symbols=(), kind=EXEC, first_offset=0x1000):
    """Write an executable: headers, segments' data, then symbol table, strings and sections."""
    body, headers, at = b"", b"", first_offset
    for number, flags, virtual, address, data, memory in segments:
        at += (address - at) % 16
        body = body.ljust(at - first_offset, b"\0") + data
        headers += struct.pack(
            "<IIQQQQQQ", number, flags, at, virtual, address, len(data), memory, 16
        )
        at += len(data)
    strings = b"\0" + b"".join(name.encode() + b"\0" for name, _, _ in symbols)
    table = bytes(24)
    for name, value, info in symbols:
        offset = strings.index(b"\0" + name.encode() + b"\0") + 1
        table += struct.pack("<IBBHQQ", offset, info, 0, 1, value, 8)
    table_at, strings_at = at, at + len(table)
    sections_at = strings_at + len(strings)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, table_at, len(table), 2, 1, 8, 24)
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, strings_at, len(strings), 0, 0, 1, 0)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    fields = (kind, RISCV, 1, entry, 64, sections_at, 0, 64, 56, len(segments), 64, 3, 0)
    header = ident + struct.pack("<HHIQQQIHHHHHH", *fields)
    start = (header + headers).ljust(first_offset, b"\0")
    return start + body + table + strings + sections


CODE, DATA = bytes(range(40)), b"data" * 9
SYMBOLS = (
    ("my_tohost", 0x8000_0004, 0x10),
    ("tohost", 0x8000_1008, 0x00),
    ("tohost", 0x8000_1010, 0x10),
    ("end_signature", 0x8000_1100, 0x10),
    ("begin_signature", 0x9000_0000, 0x10),
)
GOOD = make_elf(
    [segment(0x8000_0000, CODE), segment(0x8000_1000, DATA, 0x100, flags=6)], symbols=SYMBOLS
)
SMALL = make_elf(
    [segment(0x8000_0000, CODE), segment(0x8000_1000, DATA, 0x100, flags=6)],
    symbols=SYMBOLS,
    first_offset=0x100,
)


@pytest.fixture
def load(tmp_path):
    def load_bytes(data, ram=RAM, **options):
        path = tmp_path / "guest.elf"
        path.write_bytes(data)
        return load_elf(path, ram=ram, **options)

    return load_bytes


def test_a_good_elf_gives_its_segments_entry_and_symbols(load, tmp_path):
    assert load(GOOD) == Program(
        tmp_path / "guest.elf",
        0x8000_0000,
        (
            Segment(0x8000_0000, 0x8000_0000, 0x1000, 40, 40, 5),
            Segment(0x8000_1000, 0x8000_1000, 0x1030, 36, 0x100, 6),
        ),
        {"tohost": 0x8000_1010, "end_signature": 0x8000_1100},
    )
    assert load(GOOD, symbols=["my_tohost"]).symbols == {"my_tohost": 0x8000_0004}
    assert load(GOOD, ram=None).symbols == load(GOOD).symbols


def test_addresses_are_physical_whatever_the_program_was_linked_for(load):
    high = 0xFFFF_FFFF_8000_0000
    elf = make_elf(
        [segment(0x8020_0000, CODE, virtual=high)],
        entry=high + 2,
        symbols=[("tohost", high + 8, 0x10)],
    )
    program = load(elf)
    assert program.entry == 0x8020_0002
    assert program.symbols == {"tohost": 0x8020_0008}


def test_segments_that_load_nothing_are_left_out(load):
    note = segment(0, b"note", kind=4)
    empty = segment(0x8000_1000, b"", 0)
    assert len(load(make_elf([note, segment(0x8000_0000, CODE), empty])).segments) == 1


@pytest.mark.parametrize("name", ["ledger", "hello"])
def test_our_own_guests_are_good(name):
    path = GUESTS / name / f"{name}.elf"
    program = load_elf(path, ram=range(0x8000_0000, 0x8800_0000))
    assert program.entry == 0x8000_0000
    data = path.read_bytes()
    first = program.segments[0]
    assert any(data[first.file_offset : first.file_offset + first.file_length])


def patched(offset, form, value):
    data = bytearray(GOOD)
    struct.pack_into("<" + form, data, offset, value)
    return bytes(data)


SEGMENT_0, SEGMENT_1 = 64, 64 + 56
SECTIONS = len(GOOD) - 3 * 64


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "e_ident"),
        (b"#!/bin/sh\n", "e_ident"),
        (GOOD[:20], "structure"),
        (GOOD[:-1], "e_shoff"),
        (patched(4, "B", 1), "EI_CLASS"),
        (patched(5, "B", 2), "EI_DATA"),
        (patched(16, "H", DYN), "e_type"),
        (patched(16, "H", 1), "e_type"),
        (patched(18, "H", 62), "e_machine"),
        (patched(24, "Q", 0x8000_0001), "e_entry"),
        (patched(24, "Q", 0x1000), "e_entry"),
        (patched(24, "Q", 0x8000_1100), "e_entry"),
        (patched(32, "Q", 1 << 63), "e_phoff"),
        (patched(40, "Q", 1 << 63), "e_shoff"),
        (patched(54, "H", 32), "e_phentsize"),
        (patched(56, "H", 0), "e_phnum"),
        (patched(56, "H", 0xFFFF), "e_phnum"),
        (patched(58, "H", 40), "e_shentsize"),
        (patched(60, "H", 0xFF00), "e_shoff"),
        (patched(SEGMENT_0 + 8, "Q", 1 << 40), "segment 0 p_filesz"),
        (patched(SEGMENT_1 + 32, "Q", 1 << 60), "segment 1 p_filesz"),
        (patched(SEGMENT_1 + 40, "Q", 1), "segment 1 p_filesz"),
        (patched(SEGMENT_1 + 40, "Q", (1 << 64) - 1), "segment 1 p_paddr"),
        (patched(SEGMENT_1 + 16, "Q", (1 << 64) - 8), "segment 1 p_vaddr"),
        (patched(SEGMENT_1 + 24, "Q", 0x8000_0010), "p_paddr"),
        (patched(SEGMENT_1 + 24, "Q", 0x7FFF_F000), "p_paddr"),
        (patched(SEGMENT_1 + 24, "Q", 0x8040_0000), "p_paddr"),
        (patched(SEGMENT_1 + 40, "Q", 0x40_0000), "p_paddr"),
        (patched(SECTIONS + 64 + 40, "I", 9), "sh_link"),
        (patched(SECTIONS + 64 + 32, "Q", 1 << 62), "sh_size"),
        (patched(SECTIONS + 128 + 24, "Q", 1 << 62), "sh_size"),
    ],
)
def test_a_bad_elf_is_refused_by_the_name_of_its_field(load, data, field):
    with pytest.raises(BadImage) as caught:
        load(data)
    assert caught.value.field == field
    assert "guest.elf" in str(caught.value)


def test_a_missing_file_is_a_bad_image(tmp_path):
    with pytest.raises(BadImage, match="No such file"):
        load_elf(tmp_path / "none.elf")


def test_sections_are_optional(load):
    assert load(patched(40, "Q", 0)).symbols == {}
    assert load(patched(60, "H", 0)).symbols == {}


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=6))
@example([(60, 0)])
def test_no_mutation_gets_anything_but_a_program_or_bad_image(tmp_path_factory, changes):
    data = bytearray(SMALL)
    for offset, value in changes:
        data[offset] = value
    check(tmp_path_factory, bytes(data))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([(at, "Q") for at in range(24, 48, 8)] + [(at, "H") for at in range(48, 64, 2)])
    | st.tuples(st.integers(0, len(SMALL) - 8), st.sampled_from("BHIQ")),
    st.sampled_from([0, 1, 0x7F, 0xFF, 0xFFFF, 0xFFFF_FFFF, 1 << 31, 1 << 63, (1 << 64) - 1]),
    st.integers(0, len(SMALL)),
)
def test_no_extreme_field_or_cut_gets_anything_else_either(tmp_path_factory, where, value, length):
    data = bytearray(SMALL)
    size = struct.calcsize("<" + where[1])
    struct.pack_into("<" + where[1], data, where[0], value & ((1 << 8 * size) - 1))
    check(tmp_path_factory, bytes(data))
    check(tmp_path_factory, bytes(data[:length]))


def check(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "mutant.elf"
    path.write_bytes(data)
    try:
        program = load_elf(path, ram=RAM)
    except BadImage:
        return
    assert any(program.entry in range(part.address, part.end) for part in program.segments)
    for part in program.segments:
        assert RAM.start <= part.address <= part.end <= RAM.stop
        assert 0 <= part.file_length <= part.memory_length
        assert part.file_offset + part.file_length <= len(data)
    plan = plan_pages(program)
    mapped = sum(part.length for part in plan.mapped + plan.copied)
    assert mapped == sum(part.file_length for part in program.segments)


@given(st.integers(0, 9000), st.integers(0, 9000), st.integers(0, 20_000), st.booleans())
def test_mapped_pages_and_copied_edges_make_the_memory_of_a_plain_copy(
    address, file_offset, length, congruent
):
    if congruent:
        file_offset += (address - file_offset) % 4096
    file = random.Random(0).randbytes(file_offset + length)
    memory = bytearray(40_000)
    plan = split_pages(address, file_offset, length)
    for part in plan.mapped:
        assert part.address % 4096 == part.file_offset % 4096 == part.length % 4096 == 0
    for part in plan.mapped + plan.copied:
        data = file[part.file_offset : part.file_offset + part.length]
        assert not any(memory[part.address : part.address + part.length])
        memory[part.address : part.address + part.length] = data
    expected = bytes(address) + file[file_offset:]
    assert memory == expected.ljust(40_000, b"\0")
    if (address - file_offset) % 4096 == 0:
        assert all(part.length < 8192 for part in plan.copied)
        whole = (address + length) // 4096 - -(-address // 4096)
        assert sum(part.length for part in plan.mapped) == max(whole, 0) * 4096
    else:
        assert plan.mapped == ()


def test_a_program_is_planned_segment_by_segment(load):
    code = random.Random(1).randbytes(10_000)
    program = load(make_elf([segment(0x8000_0000, code), segment(0x8000_3000, DATA, 0x2000)]))
    plan = plan_pages(program)
    assert [(part.address, part.length) for part in plan.mapped] == [(0x8000_0000, 8192)]
    assert [(part.address, part.length) for part in plan.copied] == [
        (0x8000_2000, 10_000 - 8192),
        (0x8000_3000, len(DATA)),
    ]
