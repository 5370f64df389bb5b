"""An immutable memory with its state, as the core has it."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from orchestra.machine._native import ffi, lib

from .border import need
from .delta import DeltaLook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .board import Board

__all__ = ["Layer"]


class Layer:
    """An immutable memory and the state that goes with it; machines are made on one."""

    def __init__(self, pointer: Any) -> None:
        self.pointer = pointer

    @classmethod
    def build(cls, board: Board, parent: Layer | None, state: bytes | DeltaLook) -> Layer:
        """Start a layer on `parent` that holds `state`."""
        below = ffi.NULL if parent is None else parent.pointer
        source = state.pointer if isinstance(state, DeltaLook) else state
        return cls(need(lib.layer_new(board.pointer, below, source)))

    def add_pages(self, pages: Sequence[int] | memoryview, host: int) -> None:
        """Put pages into it: page number n of the list is at host + 4096 n (see ZERO_PAGE)."""
        entries = pages if isinstance(pages, array) else array("Q", pages)
        numbers = ffi.from_buffer("uint64_t[]", entries)
        need(lib.layer_add_pages(self.pointer, numbers, host, len(entries)))

    def set_stored(self) -> None:
        """Say that all of it, and below it, is in files."""
        lib.layer_set_stored(self.pointer)

    @property
    def state(self) -> bytes:
        """The state that goes with it."""
        return bytes(ffi.buffer(lib.layer_state(self.pointer)))

    def __del__(self) -> None:
        if getattr(self, "pointer", None) is not None:
            lib.layer_release(self.pointer)
