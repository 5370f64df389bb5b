"""A machine as the core has it: what runs, and its memory, page by page and layer by layer."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from orchestra.machine._native import ffi, lib

from .border import FOREVER, PAGE_BYTES, STATE_BYTES, need
from .hashes import HASH_BYTES, HASHING
from .layer import Layer
from .running import Running

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Core"]

COLLECT_PAGES = 16  # at a time: large buffers that come and go in many threads tear malloc's heaps
HASH_PAGES = 256  # at a time; 0.7 ms
FEW_PAGES = 64  # that are asked for at first


class Core(Running):
    """A machine as the core has it; every method may raise MachineClosed."""

    def read(self, address: int, length: int, *, virtual: bool) -> bytes | int:
        """Copy guest memory; the first bad address instead when it is not all memory."""
        data = bytearray(length)
        failure = self._access(address, ffi.from_buffer(data), length, virtual=virtual, write=False)
        return bytes(data) if failure is None else failure

    def write(self, address: int, data: bytes, *, virtual: bool) -> int | None:
        """Change guest memory; returns the first bad address, if there is one."""
        source = ffi.cast("uint8_t *", ffi.from_buffer(data))
        return self._access(address, source, len(data), virtual=virtual, write=True)

    def _access(
        self, address: int, data: Any, length: int, *, virtual: bool, write: bool
    ) -> int | None:
        call = ffi.new("access_call *")
        call.machine, call.address, call.length = self.pointer, address, length
        call.data = ffi.cast("uint8_t *", data)
        call.write, call.virtual_address = write, virtual
        self._call("machine_access", call)
        return None if call.done else int(call.failure)

    def collect(self) -> Iterable[tuple[int, memoryview]]:
        """Yield every page that is not all zeros as (number, bytes), in order of address.

        The bytes are valid until the next one is asked for.
        """
        pages = ffi.new("uint64_t[]", COLLECT_PAGES)
        data = bytearray(COLLECT_PAGES * PAGE_BYTES)
        view = memoryview(data)
        call = ffi.new("collect_call *")
        call.machine, call.capacity = self.pointer, COLLECT_PAGES
        call.pages, call.bytes = pages, ffi.cast("uint8_t *", ffi.from_buffer(data))
        while True:
            self._call("machine_collect_pages", call)
            for index in range(call.count):
                yield pages[index], view[index * PAGE_BYTES : (index + 1) * PAGE_BYTES]
            if call.count < COLLECT_PAGES:
                return

    def unstored(self) -> list[int]:
        """List the pages that differ from the newest stored layer."""
        room = FEW_PAGES
        while True:
            pages = ffi.new("uint64_t[]", room)
            count = lib.machine_unstored(self.pointer, pages, room)
            if count <= room:
                return ffi.unpack(pages, count) if count else []
            room = count

    def take_changed(self) -> set[int] | None:
        """Take the pages that may have changed since the last call; None: any may (the first time).

        Shared ranges, which are written in place, are not among them.
        """
        count = lib.machine_take_changed(self.pointer, ffi.NULL, 0)
        if count == FOREVER:
            return None
        pages = ffi.new("uint64_t[]", count)
        lib.machine_take_changed(self.pointer, pages, count)
        return set(ffi.unpack(pages, count)) if count else set()

    def hash_pages(self, pages: Iterable[int]) -> tuple[array[int], bytearray]:
        """Hash whole pages; page 0 is the state."""
        numbers = array("Q", pages)
        hashes = bytearray(len(numbers) * HASH_BYTES)
        self._call("machine_hash_pages", self._hash_call(numbers, hashes))
        return numbers, hashes

    def hash_all(self) -> Iterable[tuple[array[int], bytearray]]:
        """Hash the state and every page that is not all zeros, some hundred at a time."""
        numbers = array("Q", bytes(8 * HASH_PAGES))
        hashes = bytearray(HASH_PAGES * HASH_BYTES)
        call = self._hash_call(numbers, hashes)
        while call.count == HASH_PAGES:
            self._call("machine_hash_all", call)
            yield numbers[: call.count], hashes[: call.count * HASH_BYTES]

    def _hash_call(self, numbers: array[int], hashes: bytearray) -> Any:
        call = ffi.new("hash_call *")
        call.machine, call.kind, call.count = self.pointer, HASHING, len(numbers)
        call.pages = ffi.from_buffer("uint64_t[]", numbers)
        call.hashes = ffi.from_buffer("uint8_t[]", hashes)
        return call

    def gather(self, pages: Iterable[int]) -> tuple[array[int], bytearray]:
        """Copy whole pages together; those of zeros are left out, and marked as ZERO_PAGE."""
        index = array("Q", pages)
        data = bytearray(len(index) * PAGE_BYTES)
        call = ffi.new("gather_call *")
        numbers, room = ffi.from_buffer("uint64_t[]", index), ffi.from_buffer("uint8_t[]", data)
        call.machine, call.pages, call.count, call.bytes = (
            *(self.pointer, numbers, len(index)),
            room,
        )
        if index:
            self._call("machine_gather_pages", call)
        ffi.release(room)
        if call.written < len(data):
            del data[call.written :]
        return index, data

    def gather_delta(self, pages: Iterable[int]) -> tuple[array[int], tuple[bytearray, bytes]]:
        """Make a delta of these pages and the state: its index, and the parts of its file."""
        index = array("Q", pages)
        count = len(index)
        behind = PAGE_BYTES * (1 + count)  # in one room: page 0, the pages, the rest, checksums
        rest_bytes = STATE_BYTES + 12 * count
        room = bytearray(behind + rest_bytes + 4 * count)
        start = ffi.from_buffer("uint8_t[]", room)
        call = ffi.new("gather_call *")
        call.machine, call.count = self.pointer, count
        call.pages = ffi.from_buffer("uint64_t[]", index)
        call.page, call.bytes, call.rest = start, start + PAGE_BYTES, start + behind
        call.sums = ffi.cast("uint32_t *", start + behind + rest_bytes)
        self._call("machine_gather_delta", call)
        rest = bytes(room[behind : behind + call.rest_length])
        ffi.release(start)
        del room[PAGE_BYTES + call.written :]
        return index, (room, rest)

    def slots(self) -> list[int]:
        """List the page in every slot of the machine's own arena; DEAD_SLOT where superseded."""
        count = lib.machine_slots(self.pointer, ffi.NULL, 0)
        pages = ffi.new("uint64_t[]", count)
        lib.machine_slots(self.pointer, pages, count)
        return ffi.unpack(pages, count) if count else []

    def seal(self) -> Layer:
        """Make what the machine is now an immutable layer that others can start from."""
        return Layer(lib.layer_hold(self._seal(stored=False)))

    def checkpoint(self) -> None:
        """Make what the machine is now the state it can be rolled back to."""
        self._seal(stored=False)

    def mark_stored(self) -> None:
        """Do the same, knowing that all of it is in files."""
        self._seal(stored=True)

    def _seal(self, *, stored: bool) -> Any:
        call = ffi.new("seal_call *", {"machine": self.pointer, "stored": stored})
        self._call("machine_seal", call)
        return need(call.layer)

    def adopt(self, pages: Sequence[int]) -> None:
        """Copy these pages into the machine's own, if they are not there yet."""
        array = ffi.new("uint64_t[]", pages)
        call = ffi.new("adopt_call *")
        call.machine, call.pages, call.count = self.pointer, array, len(pages)
        self._call("machine_adopt", call)
        need(call.done)

    def rollback(self) -> None:
        """Go back to the layer that was sealed last."""
        lib.machine_rollback(self.pointer)
        self._run_call.console_length = 0

    def keep_undo(self) -> None:
        """Be able from now on, right after a seal, to undo what is stored in place."""
        lib.machine_keep_undo(self.pointer)

    def rollback_in_place(self) -> None:
        """Go back to the layer that was sealed last, where there is memory that is in place."""
        self._call("machine_rollback", self.pointer)
        self._run_call.console_length = 0

    def set_arena(self, grow: int, context: int) -> None:
        """Put new pages into the storage behind `grow` from now on; nothing may be unsealed."""
        function = ffi.cast("arena_grow", grow)
        need(lib.machine_set_arena(self.pointer, function, ffi.cast("void *", context)))

    def uses(self, context: int) -> bool:
        """Whether the storage behind that `context` of a grow function holds any of its layers."""
        return bool(lib.machine_uses(self.pointer, ffi.cast("void *", context)))

    def cool(self) -> None:
        """Free the caches of a machine that will not run for a while."""
        lib.machine_cool(self.pointer)
