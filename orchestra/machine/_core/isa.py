"""The tables of the core: registers by name, instructions, and what an instruction set decodes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from orchestra.machine._native import ffi, lib

from .border import need

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .board import Board

__all__ = [
    "ABI_NAMES",
    "FLOAT_NAMES",
    "REGISTERS",
    "decoder_of",
    "disassemble",
    "instructions",
]

ABI_NAMES = [
    "zero",
    "ra",
    "sp",
    "gp",
    "tp",
    "t0",
    "t1",
    "t2",
    "s0",
    "s1",
    "a0",
    "a1",
    "a2",
    "a3",
    "a4",
    "a5",
    "a6",
    "a7",
    "s2",
    "s3",
    "s4",
    "s5",
    "s6",
    "s7",
    "s8",
    "s9",
    "s10",
    "s11",
    "t3",
    "t4",
    "t5",
    "t6",
]
FLOAT_NAMES = [
    "ft0",
    "ft1",
    "ft2",
    "ft3",
    "ft4",
    "ft5",
    "ft6",
    "ft7",
    "fs0",
    "fs1",
    "fa0",
    "fa1",
    "fa2",
    "fa3",
    "fa4",
    "fa5",
    "fa6",
    "fa7",
    "fs2",
    "fs3",
    "fs4",
    "fs5",
    "fs6",
    "fs7",
    "fs8",
    "fs9",
    "fs10",
    "fs11",
    "ft8",
    "ft9",
    "ft10",
    "ft11",
]


def _register_numbers() -> dict[str, int]:
    numbers = {f"x{index}": index for index in range(32)}
    numbers |= {name: index for index, name in enumerate(ABI_NAMES)}
    numbers |= {"fp": 8} | {f"f{index}": 32 + index for index in range(32)}
    numbers |= {name: 32 + index for index, name in enumerate(FLOAT_NAMES)}
    numbers |= {"pc": 64, "privilege": 65}
    for number in range(0x1000):
        name = lib.machine_csr_name(number)
        if name != ffi.NULL:
            numbers[ffi.string(name).decode()] = 0x1000 + number
    return numbers


REGISTERS = _register_numbers()


def decoder_of(extensions: Iterable[str]) -> Any:
    """Return the decoder of an instruction set; it never changes and is as good as a constant."""
    return _decoder(_bits_of(extensions))


@cache
def _decoder(bits: int) -> Any:
    return ffi.gc(need(lib.decoder_new(bits)), lib.decoder_free)


def _bits_of(names: Iterable[str]) -> int:
    bits = {name: int(lib.extension_bit(name.encode())) for name in names}
    assert all(bits.values()), bits
    return sum(bits.values())


def disassemble(board: Board, raw: int, pc: int) -> str:
    """Write one instruction as an assembler would."""
    text = ffi.new("char[]", 96)
    lib.disassemble(board.pointer, raw, pc, text, 96)
    return str(ffi.string(text).decode())


def instructions(extensions: Iterable[str] = ()) -> list[tuple[str, str, int, int]]:
    """List the instructions of RV64GC and these extensions: name, operands, match, mask."""
    table, index, bits = [], -1, _bits_of(extensions)
    while (name := lib.instruction_name(index := index + 1)) != ffi.NULL:
        if lib.instruction_extension(index) & ~bits:
            continue
        operands = ffi.string(lib.instruction_operands(index)).decode()
        match, mask = lib.instruction_match(index), lib.instruction_mask(index)
        table.append((ffi.string(name).decode().replace("_", "."), operands, match, mask))
    return table
