"""The one module that speaks to the C extension: errno and addresses become Python values."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from orchestra.errors import MachineForked

from ._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BLOCK_FUNCTIONS",
    "CLOCK_FUNCTION",
    "GROW_FUNCTION",
    "Chunk",
    "Fault",
    "FileFacts",
    "Guard",
    "NativeArena",
    "NativeLayer",
    "NativeMap",
    "begin_draft",
    "call_guarded",
    "check_pid",
    "copy_guarded",
    "create_entry",
    "end_draft",
    "exists",
    "hold_at_fork",
    "install_handler",
    "link_all",
    "link_new",
    "lock_now",
    "map_executable",
    "map_layers",
    "open_entry",
    "open_head",
    "path_of",
    "region_count",
    "replace",
    "write_entry",
]

_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()
MODES: Final = {"read": 0, "private": 1, "shared": 2}


def _address(function: Any) -> int:
    return int(ffi.cast("uintptr_t", function))


BLOCK_FUNCTIONS: Final = tuple(  # void *(*)(uint64_t), then twice void (*)(void *, uint64_t)
    _address(ffi.addressof(lib, f"io_blocks_{name}")) for name in ("take", "give", "discard")
)
CLOCK_FUNCTION: Final = _address(ffi.addressof(lib, "io_clock"))  # uint64_t (*)(int cpu), in ns
GROW_FUNCTION: Final = _address(ffi.addressof(lib, "io_arena_grow"))
_TOUCH_FUNCTION: Final = _address(ffi.addressof(lib, "io_arena_touch"))
_COPY_FUNCTION: Final = _address(ffi.addressof(lib, "io_copy"))


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a SIGBUS came from: the mapping's owner, the byte's offset in the file, its address."""

    owner: int
    offset: int
    address: int


class Executable(NamedTuple):
    """Memory for code: a page of notes, the addresses to write and to run it at, its length."""

    notes: int
    writable: int
    executable: int
    length: int


class Chunk(NamedTuple):
    """A stretch of an arena: host address, length in bytes, offset in its file (if it had one)."""

    address: int
    length: int
    file_offset: int


def _bytes(path: str) -> bytes:
    """Do what os.fsencode does, with less around it."""
    return path.encode(_ENCODING, _ERRORS)


class FileFacts(NamedTuple):
    """What fstat(2) says of a file: lengths in bytes, the time of its last change in ns."""

    device: int
    inode: int
    length: int
    allocated: int
    modified_ns: int
    mode: int

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """Which file it is; see entry.identity_of."""
        return self.device, self.inode, self.length, self.modified_ns


_new_room: Final = ffi.new_allocator(should_clear_after_alloc=False)


def _facts(file: Any) -> FileFacts:
    return FileFacts(
        file.device, file.inode, file.length, file.allocated, file.modified_ns, file.mode
    )


def _check(result: int, path: str | None = None) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result), path)
    return result


def check_pid(pid: int) -> None:
    """Raise MachineForked unless this process is `pid`, in which shared memory was mapped."""
    if os.getpid() != pid:
        raise MachineForked(
            f"this is a fork of process {pid}, which keeps its shared files; "
            f"open the machine again, or start the new process before opening it"
        )


def path_of(fd: int) -> Path:
    """Return the path behind an open descriptor, as far as the kernel knows it."""
    return Path(f"/proc/self/fd/{fd}").readlink()


def install_handler() -> None:
    """Put our SIGBUS handler before all others, again if need be."""
    _check(lib.io_fault_install())


def call_guarded(function: int, argument: int) -> Fault | None:
    """Call `void function(void *argument)` without the GIL; a fault of ours ends and returns."""
    fault = ffi.new("struct io_fault *")
    if _check(lib.io_guarded(function, argument, fault)):
        return Fault(fault.owner, fault.offset, fault.address)
    return None


class Guard:
    """Calls C functions as `call_guarded` does, often; one thread at a time."""

    __slots__ = ("_fault",)

    def __init__(self) -> None:
        self._fault = ffi.new("struct io_fault *")

    @property
    def registers(self) -> int:
        """The address of the host's registers at the last fault."""
        return _address(self._fault) + int(ffi.offsetof("struct io_fault", "registers"))

    def __call__(self, function: int, argument: int) -> Fault | None:
        """Call `void function(void *argument)`."""
        result = lib.io_guarded(function, argument, self._fault)
        if not result:
            return None
        _check(result)
        return Fault(self._fault.owner, self._fault.offset, self._fault.address)


def copy_guarded(buffer: bytearray | bytes, address: int, *, into_memory: bool) -> Fault | None:
    """Copy all of `buffer` to or from mapped memory."""
    with ffi.from_buffer(buffer) as view:
        local = _address(view)
        target, source = (address, local) if into_memory else (local, address)
        copy = ffi.new("struct io_copy *", (target, source, len(buffer)))
        return call_guarded(_COPY_FUNCTION, _address(copy))


def hold_at_fork(function: int, context: int) -> None:
    """Have `void hold(void *context, int hold)` called around every fork, from C; once only."""
    hold = ffi.cast("void (*)(void *, int)", function)
    _check(lib.io_blocks_watch_fork(hold, ffi.cast("void *", context)))


def map_executable(length: int) -> Executable | None:
    """Map memory for code made at run time, for good; None where the system refuses."""
    made = ffi.new("struct io_executable *")
    if lib.io_executable_map(made, length):
        return None
    return Executable(made.notes, made.writable, made.executable, made.length)


def region_count() -> int:
    """How many stretches of files are mapped by us in this process."""
    return int(lib.io_region_count())


def begin_draft(path: str) -> int:
    """Make a folder to build in: its descriptor, which holds a lock against those who sweep."""
    return _check(lib.io_draft(_bytes(path)), path)


def end_draft(fd: int, path: str, target: str | None) -> None:
    """Rename it unless that would replace something, OSError EEXIST, and close it.

    EINVAL where the file system cannot promise it. When it fails it stays open.
    """
    _check(lib.io_draft_end(fd, _bytes(path), _bytes(target) if target else ffi.NULL), target)


def replace(folder: int, source: str, target: str) -> None:
    """Put the file `source` in the place of the file `target`, in one step, in an open folder."""
    _check(lib.io_replace(folder, _bytes(source), _bytes(target)), target)


def open_entry(folder: int, name: str, *, writable: bool) -> tuple[int, FileFacts]:
    """Open what is there, but no symlink (OSError ELOOP); its descriptor, and what it is."""
    file = ffi.new("struct io_file *")
    fd = _check(lib.io_open(folder, _bytes(name), writable, file), name)
    return fd, _facts(file)


def create_entry(folder: int, name: str, mode: int) -> tuple[int, FileFacts]:
    """Make a new, empty file (OSError EEXIST); its descriptor, for both, and what it is."""
    file = ffi.new("struct io_file *")
    fd = lib.io_create(folder, _bytes(name), mode, file)
    if fd < 0:
        _check(fd, name)
    return fd, _facts(file)


def open_head(folder: int, name: str, room: int) -> tuple[int, FileFacts, bytes]:
    """Do what open_entry does, for reading, and read the first `room` bytes of a regular file."""
    file, head, got = ffi.new("struct io_file *"), _new_room("char[]", room), ffi.new("int64_t *")
    fd = lib.io_open_head(folder, _bytes(name), file, head, room, got)
    if fd < 0:
        _check(fd, name)
    return fd, _facts(file), ffi.buffer(head, got[0])[:]


def exists(folder: int, name: str) -> bool:
    """Whether there is anything of that name in an open folder."""
    return bool(lib.io_exists(folder, _bytes(name)))


def lock_now(path: str, *, exclusive: bool) -> tuple[int, tuple[int, int]] | None:
    """Lock a folder or file: its descriptor and inode; None when that takes waiting or a look."""
    file = ffi.new("struct io_file *")
    fd = lib.io_lock(_bytes(path), exclusive, file)
    return (fd, (file.device, file.inode)) if fd >= 0 else None


def write_entry(
    folder: int, name: str, parts: Sequence[bytes | bytearray], mode: int
) -> tuple[int, int, int, int]:
    """Write a new file of at most three parts (OSError EEXIST), or nothing; its identity."""
    file = ffi.new("struct io_file *")
    first, second, third = (*parts, b"", b"", b"")[:3]
    views = [
        part if type(part) is bytes else ffi.from_buffer("char[]", part)
        for part in (first, second, third)
    ]
    result = lib.io_write_new(
        *(folder, _bytes(name), views[0], len(first), views[1], len(second)),
        *(views[2], len(third), mode, file),
    )
    if result:
        _check(result, name)
    return file.device, file.inode, file.length, file.modified_ns


def link_new(source: str, folder: int, name: str) -> tuple[int, int, int, int]:
    """Give the file at path `source` another name, in an open folder; say which file it was."""
    file = ffi.new("struct io_file *")
    result = lib.io_link(_bytes(source), folder, _bytes(name), file)
    if result:
        _check(result, source)
    return file.device, file.inode, file.length, file.modified_ns


_LINKED: Final = struct.Struct("@4QqI4xq")
assert _LINKED.size == ffi.sizeof("struct io_linked")


def link_all(
    folder: int, pairs: Sequence[tuple[str, str]]
) -> list[tuple[tuple[int, int, int, int], int]]:
    """Do link_new with each (source, name): which file it was, and errno or 0."""
    linked = ffi.new("struct io_linked[]", len(pairs))
    names = "\0".join([part for pair in pairs for part in pair])
    lib.io_link_all(folder, _bytes(names), len(pairs), linked)
    return [
        ((device, inode, length, modified_ns), -error)
        for device, inode, length, _, modified_ns, _, error in _LINKED.iter_unpack(
            ffi.buffer(linked)
        )
    ]


def punch(fd: int, offset: int, length: int) -> bool:
    """Give back a part of a file's blocks; False where the file system cannot."""
    return int(lib.io_punch(fd, offset, length)) == 0


class NativeMap:
    """A mapping of a file; `address` is that of the byte at the offset asked for."""

    __slots__ = ("_length", "_slot", "address")

    def __init__(self, address: int, length: int, slot: int) -> None:
        self.address, self._length, self._slot = address, length, slot

    @classmethod
    def of_file(cls, fd: int, offset: int, length: int, mode: str, owner: int) -> NativeMap:
        """Map a part of an open file."""
        made = ffi.new("struct io_map *")
        _check(lib.io_map_file(made, fd, offset, length, MODES[mode], owner))
        return cls(made.address, length, made.slot)

    def unmap(self) -> None:
        """Give the addresses back, once."""
        lib.io_unmap_at(self.address, self._length, self._slot)

    def forget(self) -> None:
        """Strike it from the registry only: the kernel unmapped it at the fork."""
        lib.io_region_remove(self._slot)


class NativeLayer(NamedTuple):
    """A file as map_layers found it: open where `fd` is not -1, mapped where there is a `map`."""

    facts: FileFacts
    map: NativeMap | None
    head: bytes
    fd: int
    error: int  # what openat(2) or mmap(2) said, or 0


_LAYER: Final = struct.Struct("@4QqI4xQqqii")
assert _LAYER.size == ffi.sizeof("struct io_layer")


def map_layers(
    folder: int,
    images: dict[str, int],
    others: Sequence[str],
    owner: int,
    *,
    head_bytes: int,
    check: int,
    context: int,
) -> list[NativeLayer]:
    """Open, look at and map files of an open folder, up to the first that cannot be.

    Images have the length that goes with their name, in bytes; of the others the first
    `head_bytes` are read, and `check` says at that address with this context whether to map them.
    Owners are numbered from `owner` on.
    """
    names = [*images, *others]
    count = len(names)
    layers = ffi.new("struct io_layer[]", count)
    heads = _new_room("char[]", head_bytes * len(others) or 1)
    done = lib.io_map_layers(
        *(folder, _bytes("\0".join(names)), list(images.values()), len(images), count, owner),
        *(heads, head_bytes, check, context, layers),
    )
    found, start = [], -head_bytes * len(images)
    for fields in _LAYER.iter_unpack(ffi.buffer(layers, done * _LAYER.size)):
        address, slot, got, fd, error = fields[6:]
        facts = FileFacts._make(fields[:6])
        mapped = NativeMap(address, facts.length, slot) if address else None
        head = ffi.buffer(heads + start, got)[:] if got > 0 else b""
        found.append(NativeLayer(facts, mapped, head, fd, -error))
        start += head_bytes
    return found


class NativeArena:
    """The C half of an arena, which the core grows without asking Python."""

    __slots__ = ("_arena",)

    def __init__(self, fd: int, first_offset: int, owner: int, anonymous_bytes: int) -> None:
        self._arena = lib.io_arena_new(fd, first_offset, owner, anonymous_bytes)
        if self._arena == ffi.NULL:
            raise MemoryError

    @property
    def context(self) -> int:
        """The first argument of the grow function."""
        return _address(self._arena)

    @property
    def length(self) -> int:
        """Bytes given out so far."""
        return int(lib.io_arena_length(self._arena))

    def grow(self, wanted: int) -> tuple[int, int] | None:
        """Do what the core does: (address, length in bytes) of a new chunk, or None."""
        got = ffi.new("uint64_t *")
        address = _address(lib.io_arena_grow(self._arena, wanted, got))
        return (address, int(got[0])) if address else None

    def chunks(self) -> list[Chunk]:
        """Every chunk, in the order of the file."""
        room = int(lib.io_arena_chunks(self._arena, ffi.NULL, 0))
        found = ffi.new("struct io_chunk[]", room)
        count = min(room, int(lib.io_arena_chunks(self._arena, found, room)))
        return [Chunk(c.address, c.length, c.file_offset) for c in found[0:count]]

    def touch(self) -> None:
        """Make all of it dirty, as far as it can be read."""
        call_guarded(_TOUCH_FUNCTION, _address(self._arena))

    def reserve(self, length: int) -> None:
        """Allocate storage for the first `length` bytes."""
        _check(lib.io_arena_reserve(self._arena, length))

    @property
    def spilled(self) -> bool:
        """Whether any of it is in the file."""
        return bool(lib.io_arena_spilled(self._arena))

    def fill(self) -> None:
        """Write what is in memory to its place in the file."""
        _check(lib.io_arena_fill(self._arena))

    def finish(self, file_length: int) -> None:
        """End the file at that byte, for good."""
        _check(lib.io_arena_finish(self._arena, file_length))

    def resume(self) -> None:
        """Take a finish back."""
        _check(lib.io_arena_resume(self._arena))

    def free(self) -> None:
        """Unmap everything; twice is fine."""
        lib.io_arena_free(self._arena)
        self._arena = ffi.NULL
