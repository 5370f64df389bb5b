"""One executed instruction of a trace, as the core notes it."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from orchestra.machine._native import ffi

__all__ = ["Commit", "commits_of"]


class Commit(NamedTuple):
    """One executed instruction of a trace, field by field as the core has it."""

    pc: int
    address: int  # of the memory access
    stored: int
    value: int  # of the destination register
    raw: int
    privilege: int
    memory: int  # 0 none, 1 load, 2 store
    size: int  # bytes of the access
    rd: int
    destination: int  # 0 none, 1 x, 2 f
    trapped: int
    csr: int  # number of the CSR written, or 0
    csr_value: int
    behind: int  # of the M-mode register that sstatus, sie or sip shows
    mstatus: int  # its value, if it changed by itself
    fflags: int  # before the instruction
    fflags_raised: int


COMMIT = struct.Struct("<4QI6BH4x3Q2I")
assert COMMIT.size == ffi.sizeof("commit")


def commits_of(array: Any, count: int) -> list[Commit]:
    """Copy the first of an array that C has filled."""
    data = bytes(ffi.buffer(array, count * COMMIT.size))
    return [Commit._make(fields) for fields in COMMIT.iter_unpack(data)]
