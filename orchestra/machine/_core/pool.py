"""The pool that the memory of all machines of the process is from, and what of it is used."""

from __future__ import annotations

from typing import Any, NamedTuple

from orchestra.io import BLOCK_FUNCTIONS, hold_at_fork
from orchestra.machine._native import ffi, lib

from .border import need

__all__ = ["POOL", "Blocks", "blocks_in_use"]

BLOCK_KINDS = ("page", "node", "layer", "code", "engine", "hashes")


def _make_pool() -> Any:
    kinds = "block_take", "block_give", "block_give"
    calls = [ffi.cast(kind, call) for kind, call in zip(kinds, BLOCK_FUNCTIONS, strict=True)]
    pool = need(lib.pool_new(*calls))
    hold = int(ffi.cast("uintptr_t", ffi.addressof(lib, "pool_hold")))
    hold_at_fork(hold, int(ffi.cast("uintptr_t", pool)))
    return pool


POOL = _make_pool()  # any thread takes from it and gives back


class Blocks(NamedTuple):
    """Blocks of one size: how many are used, how many free ones hold memory; bytes of them all."""

    used: int
    warm: int
    length: int


def blocks_in_use() -> dict[str, Blocks]:
    """Say what the machines of this process use of pages and of what goes with them."""
    counts = ffi.new("uint64_t[3]")
    found = {}
    for kind, name in enumerate(BLOCK_KINDS):
        lib.pool_count(POOL, kind, counts)
        found[name] = Blocks(*counts)
    return found
