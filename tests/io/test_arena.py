"""Storage that grows: orchestra/io/arena.py."""

import errno
from pathlib import Path

import pytest
from filesystems import MIB, Filesystem, mounted
from programs import RunPython, open_descriptors

from orchestra.errors import BackingFault, MachineClosed
from orchestra.io import PAGE, Arena, allocated_bytes, fault
from orchestra.io._os import copy_guarded, region_count

KIB = 1 << 10


def store(address: int, data: bytes) -> None:
    """Store where a machine would."""
    found = copy_guarded(data, address, into_memory=True)
    if found is not None:
        raise fault.as_error(found)


def load(address: int, length: int) -> bytes:
    buffer = bytearray(length)
    assert copy_guarded(buffer, address, into_memory=False) is None
    return bytes(buffer)


def grow(arena: Arena, wanted: int = PAGE) -> tuple[int, int]:
    got = arena.grow(wanted)
    assert got is not None
    return got


@pytest.fixture(params=["anonymous", "file"])
def arena(request: pytest.FixtureRequest, tmp_path: Path) -> Arena:
    return Arena.anonymous() if request.param == "anonymous" else Arena.on_file(tmp_path / "top")


def test_chunks_double_from_64_kib_to_16_mib(arena: Arena) -> None:
    with arena:
        lengths = [grow(arena)[1] // KIB for _ in range(11)]
        assert lengths == [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 16384, 16384]
        assert arena.length == sum(lengths) * KIB


def test_a_chunk_is_as_long_as_wanted(arena: Arena) -> None:
    with arena:
        address, length = grow(arena, 40 * MIB)
        assert length == 40 * MIB
        store(address + length - 4, b"last")
        assert load(address + length - 4, 4) == b"last"
        assert grow(arena)[1] == 128 * KIB


@pytest.mark.parametrize("wanted", [0, 1, PAGE + 1])
def test_what_is_no_number_of_pages_is_refused(arena: Arena, wanted: int) -> None:
    with arena:
        assert arena.grow(wanted) is None
        assert arena.length == 0


def test_memory_is_page_aligned_does_not_move_and_is_zero_in_a_file(arena: Arena) -> None:
    with arena:
        chunks = [grow(arena) for _ in range(6)]
        for number, (address, length) in enumerate(chunks):
            assert address % PAGE == 0
            assert arena.path is None or load(address, length) == bytes(length)
            store(address, bytes([number]) * length)
        for number, (address, length) in enumerate(chunks):
            assert load(address, length) == bytes([number]) * length


def test_page_n_is_at_the_first_offset_plus_n_pages(filesystem: Filesystem) -> None:
    path = filesystem.folder / "top"
    page = 0
    with Arena.on_file(path, first_offset=3 * PAGE) as arena:
        for _ in range(4):
            address, length = grow(arena)
            for start in range(0, length, PAGE):
                assert arena.file_offset_of(address + start + 9) == (3 + page) * PAGE + 9
                store(address + start, page.to_bytes(8, "little"))
                page += 1
    data = path.read_bytes()
    assert len(data) == (3 + page) * PAGE
    for number in range(page):
        offset = (3 + number) * PAGE
        assert int.from_bytes(data[offset : offset + 8], "little") == number


def test_the_first_offset_need_not_be_that_of_a_page(tmp_path: Path) -> None:
    with Arena.on_file(tmp_path / "top", first_offset=512) as arena:
        address, _ = grow(arena)
        store(address, b"first")
        assert arena.file_offset_of(address) == 512
    assert (tmp_path / "top").read_bytes()[512:517] == b"first"


def test_the_file_costs_only_the_pages_touched(filesystem: Filesystem) -> None:
    path = filesystem.folder / "top"
    with Arena.on_file(path) as arena:
        address, _ = grow(arena, 64 * MIB)
        for page in range(8):
            store(address + page * PAGE, b"dirty")
        arena.sync()
        assert 8 * PAGE <= allocated_bytes(path) <= 64 * PAGE


def test_chunks_are_listed_in_the_order_of_the_file(arena: Arena) -> None:
    with arena:
        grown = [grow(arena) for _ in range(3)]
        chunks = arena.chunks()
        assert [(chunk.address, chunk.length) for chunk in chunks] == grown
        starts = [chunk.file_offset - chunks[0].file_offset for chunk in chunks]
        assert starts == [0, 64 * KIB, 192 * KIB]


def test_an_address_of_something_else_has_no_offset(arena: Arena) -> None:
    with arena:
        address, length = grow(arena)
        for other in (0, address - 1, address + length):
            with pytest.raises(ValueError, match="not in this arena"):
                arena.file_offset_of(other)


def test_an_existing_file_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "top").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        Arena.on_file(tmp_path / "top")
    assert (tmp_path / "top").read_bytes() == b"precious"


def test_a_header_and_an_index_are_written_beside_the_pages(tmp_path: Path) -> None:
    path = tmp_path / "top"
    with Arena.on_file(path) as arena:
        address, _ = grow(arena)
        store(address, b"page" * (PAGE // 4))
        arena.finish(PAGE, b"header", b"index")
        arena.sync()
        assert arena.grow(PAGE) is None
        assert load(address, 4) == b"page"
    assert path.read_bytes() == b"header".ljust(PAGE, b"\0") + b"page" * (PAGE // 4) + b"index"


def test_a_full_disk_is_a_fault_and_storing_succeeds_once_there_is_room(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path, MIB) as small:
        (small.folder / "ballast").write_bytes(bytes(MIB // 2))
        path = small.folder / "top"
        with Arena.on_file(path) as arena:
            address, length = grow(arena, MIB)
            done = 0

            def store_everywhere() -> None:
                nonlocal done
                for start in range(0, length, PAGE):
                    store(address + start, b"dirty")
                    done = start + PAGE

            with pytest.raises(BackingFault) as caught:
                store_everywhere()
            error = caught.value
            assert (error.path, error.offset, error.reason) == (path, PAGE + done, "no space")
            assert done > 0
            (small.folder / "ballast").unlink()
            for start in range(0, MIB - 64 * KIB, PAGE):
                store(address + start, b"dirty")


def test_reserving_says_beforehand_that_the_disk_is_full(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path, MIB) as small:
        path = small.folder / "top"
        with Arena.on_file(path) as arena:
            with pytest.raises(OSError, match="top") as caught:
                arena.reserve(2 * MIB)
            assert caught.value.errno == errno.ENOSPC


def test_reserved_storage_is_there_when_the_disk_fills(tmp_path: Path) -> None:
    with (
        mounted("tmpfs", tmp_path, MIB) as small,
        Arena.on_file(small.folder / "top") as arena,
    ):
        arena.reserve(MIB // 2)
        with pytest.raises(OSError, match="No space"):
            (small.folder / "ballast").write_bytes(bytes(MIB))
        address, length = grow(arena, MIB // 2)
        store(address, b"x" * length)
        assert (small.folder / "top").stat().st_size == PAGE + MIB // 2


def test_anonymous_memory_has_nothing_to_reserve_and_no_file() -> None:
    with Arena.anonymous() as arena:
        arena.reserve(MIB)
        with pytest.raises(ValueError, match="no file"):
            arena.fileno()


def test_closing_twice_is_fine_and_everything_is_given_back(tmp_path: Path) -> None:
    before, descriptors = region_count(), open_descriptors()
    arena = Arena.on_file(tmp_path / "top")
    for _ in range(3):
        grow(arena)
    assert region_count() == before + 3
    arena.close()
    arena.close()
    assert arena.closed
    assert region_count() == before
    assert open_descriptors() == descriptors
    with pytest.raises(MachineClosed):
        arena.grow(PAGE)


def test_a_file_that_may_not_grow_changes_nothing(tmp_path: Path, run_python: RunPython) -> None:
    source = """
import resource, sys
from orchestra.io import Arena
arena = Arena.on_file(sys.argv[1])
first = arena.grow(4096)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
print(arena.grow(4096), arena.length, len(arena.chunks()))
resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))
print(Arena.anonymous().grow(1 << 30))
"""
    result = run_python(source, tmp_path / "top")
    assert result.stdout == f"None {64 * KIB} 1\nNone\n", result.stderr
    assert (tmp_path / "top").stat().st_size == PAGE + 64 * KIB


FORKER = """
import os, sys
from orchestra.errors import MachineForked
from orchestra.io import Arena
from orchestra.io._os import copy_guarded
arena = Arena.on_file(sys.argv[1]) if sys.argv[1] else Arena.anonymous()
address, length = arena.grow(4096)
copy_guarded(b"parent", address, into_memory=True)
child = os.fork()
if child == 0:
    if sys.argv[1] in open("/proc/self/maps").read() and sys.argv[1]:
        print("still mapped", flush=True)
    try:
        arena.grow(4096)
        copy_guarded(b"child!", address, into_memory=True)
        print("stored", flush=True)
    except MachineForked:
        print("forked", arena._native.grow(4096), flush=True)  # what the core would be told
    arena.close()
    os._exit(0)
status = os.waitpid(child, 0)[1]
buffer = bytearray(6)
copy_guarded(buffer, address, into_memory=False)
print(status, buffer.decode())
"""


def test_anonymous_memory_survives_a_fork_in_both(run_python: RunPython) -> None:
    assert run_python(FORKER, "").stdout == "stored\n0 parent\n"


def test_a_file_stays_with_the_parent_of_a_fork(tmp_path: Path, run_python: RunPython) -> None:
    assert run_python(FORKER, tmp_path / "top").stdout == "forked None\n0 parent\n"
