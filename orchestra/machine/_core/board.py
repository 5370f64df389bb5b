"""What machines of one kind share, and the code cache that all machines of the process do."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from orchestra.io import map_executable
from orchestra.machine._native import ffi, lib

from .border import FOREVER, need
from .isa import decoder_of
from .pool import POOL

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BLOCK", "EXECUTE", "GUEST", "RANDOM", "READ", "SHARED_EXTENT", "WRITE", "Board"]

DEVICES = {"uart": 1, "htif": 2, "syscon": 4, "cmio": 8}
READ, WRITE, EXECUTE, GUEST = 1, 2, 4, 8
SHARED_EXTENT = 1
BLOCK, RANDOM = 1, 2
NOT_WATCHED = FOREVER
CODE_BYTES = 64 << 20  # of translations, for all machines of the process


@cache
def code_cache() -> Any:
    """Give the process its code cache; NULL where the system lets nobody make code to run."""
    memory = map_executable(CODE_BYTES)
    if memory is None:
        return ffi.NULL
    notes = ffi.cast("void *", memory.notes)
    return lib.codecache_start(notes, memory.writable, memory.executable, memory.length)


class Board:
    """What machines of one kind share: memory map, devices, mapped images, decoded code."""

    def __init__(
        self,
        *,
        cycles_per_tick: int,
        devices: Iterable[str],
        extensions: Iterable[str] = (),
        watched: int | None = None,
        watched_fromhost: int | None = None,
    ) -> None:
        bits = sum(DEVICES[name] for name in devices)
        self.pointer = need(
            lib.board_new(
                decoder_of(extensions),
                POOL,
                cycles_per_tick,
                bits,
                NOT_WATCHED if watched is None else watched,
                NOT_WATCHED if watched_fromhost is None else watched_fromhost,
            )
        )
        lib.board_set_cache(self.pointer, code_cache())

    @classmethod
    def like(cls, other: Board) -> Board:
        """Make a board with the memory and devices of another, and no extents."""
        board: Board = object.__new__(cls)
        board.pointer = need(lib.board_like(other.pointer))
        lib.board_set_cache(board.pointer, code_cache())  # this process's
        return board

    def add_range(self, start: int, length: int, flags: int) -> None:
        """Declare memory; ranges come in ascending order, before the first machine."""
        need(lib.board_add_range(self.pointer, start, length, flags))

    def add_extent(self, start: int, length: int, host: int, flags: int = 0) -> None:
        """Say where a run of pages is mapped; extents come in ascending order."""
        need(lib.board_add_extent(self.pointer, start, length, host, flags))

    def set_virtio(
        self, slot: int, kind: int, start: int, length: int, *, read_only: bool, seed: int
    ) -> None:
        """Fill a virtio slot."""
        lib.board_set_virtio(self.pointer, slot, kind, start, length, read_only, seed)

    def reset_state(self, pc: int, device_tree: int) -> bytes:
        """Return the state of a machine at reset."""
        state = ffi.new("state *")
        lib.state_reset(state, self.pointer, pc, device_tree)
        return bytes(ffi.buffer(state))

    def __del__(self) -> None:
        if getattr(self, "pointer", None) is not None:
            lib.board_release(self.pointer)
