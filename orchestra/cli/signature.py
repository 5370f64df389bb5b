"""A test program's signature: the words between two symbols, as riscof compares them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.errors import BadConfig
from orchestra.machine.elf import load_elf

if TYPE_CHECKING:
    from pathlib import Path

    from orchestra.machine.machine import Machine

__all__ = ["signature_range", "write_signature"]

SIGNATURE_BYTES = 4  # a line
READ_BYTES = 1 << 20


def signature_range(elf: Path | None) -> range:
    """Look up where an ELF says its signature is; BadConfig when it does not."""
    if elf is None:
        raise BadConfig("--signature", None, "an ELF program, whose symbols say where it is")
    symbols = load_elf(elf).symbols
    begin, end = symbols.get("begin_signature"), symbols.get("end_signature")
    if begin is None or end is None or end < begin:
        raise BadConfig("--signature", str(elf), "an ELF with begin_signature and end_signature")
    return range(begin, end)


def write_signature(machine: Machine, where: range, path: Path) -> None:
    """Write its words, little-endian in memory, with the most significant digit first."""
    with path.open("w") as file:
        for start in range(where.start, where.stop, READ_BYTES):
            data = machine.read(start, min(READ_BYTES, where.stop - start))
            for offset in range(0, len(data), SIGNATURE_BYTES):
                word = int.from_bytes(data[offset : offset + SIGNATURE_BYTES], "little")
                file.write(f"{word:08x}\n")
