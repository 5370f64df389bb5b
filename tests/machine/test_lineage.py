"""Lineages: short however often a machine is stored, and little is written twice."""

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import BadImage
from orchestra.machine import Machine
from orchestra.machine._core import (
    DEAD_SLOT,
    PAGE_BYTES,
    ZERO_PAGE,
    delta_head,
    page_checksums,
)
from orchestra.machine.compact import merged_name
from orchestra.machine.delta import HEADER
from orchestra.machine.lineage import DEEPEST, LAST_NUMBER, WRITTEN_AGAIN, Part, absorb, next_name
from orchestra.machine.record import read_record
from tests.guests import ready_ledger


def part(number, pages):
    return Part("folder", f"{number}.delta", (0, number, 0, 0), array("Q", pages))


def stored(rounds):
    """Store these sets of pages one after the other; the lineage, and pages written for each."""
    parts, written = [], []
    for fresh in rounds:
        wanted, kept = absorb(parts, fresh)
        parts = [*kept, part(int(next_name(parts).split(".")[0]), sorted(wanted))]
        written.append(len(wanted))
    return parts, written


@given(st.lists(st.sets(st.integers(0, 200), max_size=20), max_size=80))
def test_a_lineage_has_every_page_and_names_that_rise(rounds):
    parts, _ = stored(rounds)
    assert set().union(*(item.pages for item in parts)) == set().union(*rounds)
    numbers = [int(item.name.split(".")[0]) for item in parts]
    assert numbers == sorted(set(numbers))
    assert len(parts) <= DEEPEST + 1


@pytest.mark.parametrize("size", [1, 8, 50])
def test_new_pages_each_time_are_written_again_a_logarithm_of_times(size):
    rounds = [range(number * size, (number + 1) * size) for number in range(500)]
    parts, written = stored(rounds)
    assert len(parts) <= 6
    assert sum(written) / sum(map(len, rounds)) < 14


def test_the_same_pages_each_time_are_one_layer():
    parts, written = stored([range(8)] * 100)
    assert len(parts) == 1
    assert set(written) == {8}


def test_a_few_hot_pages_and_one_that_moves_cost_little_more_than_themselves():
    rounds = [[*range(7), 100 + number // 13] for number in range(2000)]
    parts, written = stored([range(84), *rounds])
    assert len(parts) <= 6
    assert sum(written[1:]) / len(rounds) < 9


def test_nested_sets_cannot_pile_up():
    parts, _ = stored([range(number) for number in range(200, 0, -1)])
    assert len(parts) <= DEEPEST + 1


def test_pages_of_a_top_stay_where_they_are_unless_all_is_copied():
    top = part(3, range(100))
    top.arena = object()
    assert absorb([part(0, range(5)), top], range(100))[1][-1] is top
    assert absorb([part(0, range(5)), top], range(100), copying=True)[1] == []


def test_dead_slots_are_no_pages_and_pages_of_zeros_are():
    assert part(0, [5, DEAD_SLOT, 7 | ZERO_PAGE]).pages == {5, 7}


def test_a_machine_that_is_stored_a_hundred_times_opens_as_what_it_is(tmp_path):
    chance = random.Random(1)
    with ready_ledger(tmp_path / "app") as machine:
        for number in range(100):
            for _ in range(chance.randrange(4)):
                machine.write(0x8200_0000 + 4096 * chance.randrange(60), bytes([number]) * 9)
            machine.snapshot(tmp_path / str(number))
            if number % 9 == 0:
                machine.advance(b"mint alice 1")
        expected = machine.digest()
    assert len(read_record(tmp_path / "app").deltas) <= DEEPEST + 1
    with Machine.open(tmp_path / "app") as machine:
        assert machine.digest() == expected


def test_a_layer_whose_file_is_gone_or_another_is_written_again(tmp_path):
    with ready_ledger(tmp_path / "app") as machine:
        machine.advance(b"fill 600 7")
        machine.snapshot(tmp_path / "first")
        machine.advance(b"mint alice 1")
        machine.snapshot(tmp_path / "second")
        expected = machine.digest()
        for number, name in enumerate(sorted(read_record(tmp_path / "second").deltas)):
            path = tmp_path / "second" / name
            path.unlink()
            if number:
                path.write_bytes(b"another")
        machine.snapshot(tmp_path / "third")
    for folder in ("third", "app"):
        with Machine.open(tmp_path / folder) as machine:
            assert machine.digest() == expected
    with pytest.raises(BadImage):
        Machine.open(tmp_path / "second")


def test_checksums_are_crc_32c_with_and_without_the_instruction():
    """RFC 3720, B.4 gives those of 32 bytes; a page is long, so the oracle is the definition."""

    def crc(data):
        sum_ = 0xFFFFFFFF
        for byte in data:
            sum_ ^= byte
            for _ in range(8):
                sum_ = sum_ >> 1 ^ (0x82F63B78 if sum_ & 1 else 0)
        return sum_ ^ 0xFFFFFFFF

    assert crc(bytes(32)) == 0x8A9136AA
    assert crc(b"\xff" * 32) == 0x62A8AB43
    pages = random.Random(2).randbytes(3 * PAGE_BYTES)
    expected = b"".join(
        crc(pages[start : start + PAGE_BYTES]).to_bytes(4, "little")
        for start in range(0, len(pages), PAGE_BYTES)
    )
    assert page_checksums(pages) == page_checksums(pages, by_hand=True) == expected


@pytest.mark.parametrize("last", [0, 1, 8, 4095])
def test_a_state_is_stored_without_the_zeros_at_its_end(last):
    state = bytearray(4096)
    state[last] = 1
    page, _ = delta_head([], 0, bytes(state), None)
    assert HEADER.unpack_from(page)[6] == (last // 8 + 1) * 8
    page, _ = delta_head([], 0, bytes(4096), None)
    assert HEADER.unpack_from(page)[6] == 0


def test_layers_have_numbers_that_a_record_can_name_even_compacted():
    def numbered(number):
        return [Part("app", f"{number}.delta", (0, 0, 0, 0), array("Q"))]

    assert next_name(numbered(LAST_NUMBER - 1)) == f"{LAST_NUMBER}.delta"
    assert len(merged_name((f"{LAST_NUMBER}.delta",)).removesuffix(".delta")) == 18
    with pytest.raises(BadImage, match="number"):
        next_name(numbered(LAST_NUMBER))
    with pytest.raises(BadImage, match="deltas"):
        merged_name((f"{LAST_NUMBER + 1}.delta",))


@given(
    pages=st.lists(st.sets(st.integers(0, 60)), max_size=6),
    fresh=st.sets(st.integers(0, 60), min_size=1),
)
def test_what_a_delta_absorbs_does_not_depend_on_the_short_cut(pages, fresh):
    parts = [
        Part("app", f"{number}.delta", (0, 0, 0, 0), array("Q", sorted(held)))
        for number, held in enumerate(pages)
    ]
    wanted, kept = set(fresh), list(parts)
    while kept:  # the rule as it is written
        common = len(wanted & kept[-1].pages)
        if len(kept[-1].pages) - common > WRITTEN_AGAIN * (len(wanted) - common):
            break
        wanted |= kept.pop().pages
    assert absorb(parts, fresh) == (wanted, kept)
