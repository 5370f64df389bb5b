"""A small assembler made from the core's instruction table, and a writer of ELF executables."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestra.machine._core import ABI_NAMES, FLOAT_NAMES, REGISTERS, instructions
from orchestra.machine.config import EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

RAM = 0x8000_0000
X = {name: number for number, name in enumerate(ABI_NAMES)} | {f"x{n}": n for n in range(32)}
F = {name: number for number, name in enumerate(FLOAT_NAMES)} | {f"f{n}": n for n in range(32)}
CSR = {name: number - 0x1000 for name, number in REGISTERS.items() if number >= 0x1000}
STIMECMP = CSR.pop("stimecmp")  # not of the base
TABLE = {name: (operands, match, mask) for name, operands, match, mask in instructions()}
EXTRA = {name: (operands, match, mask) for name, operands, match, mask in instructions(EXTENSIONS)}
PLACES = {"rd": 7, "fd": 7, "rs1": 15, "fs1": 15, "rs2": 20, "fs2": 20, "fs3": 27, "rm": 12}
PLACES |= {"csr": 20, "zimm": 15, "shamt": 20}
WORD = (1 << 64) - 1


def register(value: str | int) -> int:
    """Return the number of a register, which may be given by name."""
    return value if isinstance(value, int) else X[value] if value in X else F[value]


def place_immediate(operands: str, value: int) -> int:
    """Put an immediate where an instruction with these operands has it."""
    if "u20" in operands:
        return (value & 0xFFFFF) << 12
    if operands == "rd,target":
        top, middle = (value >> 20 & 1) << 31, (value >> 12 & 0xFF) << 12
        return top | (value >> 1 & 0x3FF) << 21 | (value >> 11 & 1) << 20 | middle
    if "target" in operands:
        high, low = (value >> 12 & 1) << 31 | (value >> 5 & 63) << 25, (value >> 1 & 15) << 8
        return high | low | (value >> 11 & 1) << 7
    if operands.split(",", maxsplit=1)[0] in ("rs2", "fs2"):
        return (value >> 5 & 0x7F) << 25 | (value & 31) << 7
    return (value & 0xFFF) << 20


def encode(name: str, *values: str | int) -> int:
    """Encode one instruction; operands are in the order in which an assembler has them."""
    operands, word, _ = EXTRA[name]
    names = re.findall(r"\w+", operands)
    if name == "fence" or len(names) != len(values):
        assert not values, f"{name} takes {operands or 'nothing'}"
        return 0x0FF0000F if name == "fence" else word
    for operand, value in zip(names, values, strict=True):
        if operand in ("imm", "u20", "target"):
            word |= place_immediate(operands, int(value))
        elif operand == "csr":
            word |= (CSR[value] if isinstance(value, str) else value) << 20
        else:
            word |= register(value) << PLACES[operand]
    return word


@dataclass
class Code:
    """Bytes of a program that grow at the end, from `address` on, with labels."""

    address: int = RAM
    data: bytearray = field(default_factory=bytearray)
    labels: dict[str, int] = field(default_factory=dict)
    fixups: list[tuple[int, str, str]] = field(default_factory=list)  # offset, operands, label

    @property
    def here(self) -> int:
        """The address of what comes next."""
        return self.address + len(self.data)

    def label(self, name: str) -> None:
        """Name this place."""
        self.labels[name] = self.here

    def op(self, name: str, *values: str | int) -> None:
        """Add an instruction; a branch's or jump's target may be a label or an offset."""
        operands = EXTRA[name][0]
        if operands.endswith("target") and isinstance(values[-1], str):
            self.fixups.append((len(self.data), operands, values[-1]))
            values = (*values[:-1], 0)
        self.word(encode(name, *values))

    def word(self, *words: int) -> None:
        """Add 32-bit words."""
        for word in words:
            self.data += word.to_bytes(4, "little")

    def half(self, *halves: int) -> None:
        """Add 16-bit words."""
        for half in halves:
            self.data += half.to_bytes(2, "little")

    def pad(self, address: int, filling: bytes = b"\x01\x00") -> None:
        """Fill up to `address` with c.nop."""
        assert address >= self.here
        missing = address - self.here
        self.data += (filling * (missing // len(filling) + 1))[:missing]

    def li(self, rd: str | int, value: int) -> None:
        """Load a constant of 64 bits."""
        value = (value & WORD) - (1 << 64 if value & 1 << 63 else 0)
        if -2048 <= value < 2048:
            self.op("addi", rd, 0, value)
            return
        low = (value & 0xFFF) - (4096 if value & 0x800 else 0)
        rest = value - low
        if -(1 << 31) <= value < (1 << 31) - 2048:
            self.op("lui", rd, rest >> 12)
            if low:
                self.op("addiw", rd, rd, low)
            return
        shift = 12
        while not rest >> shift & 1:
            shift += 1
        self.li(rd, rest >> shift)
        self.op("slli", rd, rd, shift)
        if low:
            self.op("addi", rd, rd, low)

    def la(self, rd: str | int, target: str | int) -> None:
        """Load the address of a label, or an address, relative to pc."""
        if isinstance(target, str):
            self.fixups.append((len(self.data), "pcrel", target))
            target = self.here
        offset = target - self.here
        self.op("auipc", rd, (offset + 0x800) >> 12)
        self.op("addi", rd, rd, offset - ((offset + 0x800) >> 12 << 12))

    def csrw(self, csr: str | int, rs1: str | int) -> None:
        """Write a CSR."""
        self.op("csrrw", 0, csr, rs1)

    def csrr(self, rd: str | int, csr: str | int) -> None:
        """Read a CSR."""
        self.op("csrrs", rd, csr, 0)

    def finish(self) -> bytes:
        """Resolve the labels."""
        for offset, operands, label in self.fixups:
            distance = self.labels[label] - (self.address + offset)
            word = int.from_bytes(self.data[offset : offset + 4], "little")
            if operands == "pcrel":
                high = (distance + 0x800) >> 12
                word = word & 0xFFF | (high & 0xFFFFF) << 12
                second = int.from_bytes(self.data[offset + 4 : offset + 8], "little")
                second = second & 0xFFFFF | (distance - (high << 12) & 0xFFF) << 20
                self.data[offset + 4 : offset + 8] = second.to_bytes(4, "little")
            else:
                word |= place_immediate(operands, distance)
            self.data[offset : offset + 4] = word.to_bytes(4, "little")
        self.fixups.clear()
        return bytes(self.data)


def elf(
    segments: Iterable[tuple[int, bytes]],
    symbols: dict[str, int] | None = None,
    *,
    entry: int = RAM,
) -> bytes:
    """Write an executable of read-write-execute segments (address, bytes) and global symbols."""
    segments = sorted(segments)
    body, headers, start = bytearray(), b"", 4096
    for address, data in segments:
        body += bytes(-len(body) % 4096)
        sizes = (start + len(body), address, address, len(data), len(data), 4096)
        headers += struct.pack("<IIQQQQQQ", 1, 7, *sizes)
        body += data
    names, table = b"\0", bytes(24)
    for name, value in (symbols or {}).items():
        table += struct.pack("<IBBHQQ", len(names), 0x10, 0, 0xFFF1, value, 8)
        names += name.encode() + b"\0"
    section_names = b"\0.symtab\0.strtab\0.shstrtab\0"
    at = start + len(body)
    sections = bytes(64)
    for name_at, kind, data, extra in (
        (1, 2, table, (2, 1, 8, 24)),
        (9, 3, names, (0, 0, 1, 0)),
        (17, 3, section_names, (0, 0, 1, 0)),
    ):
        sections += struct.pack("<IIQQQQIIQQ", name_at, kind, 0, 0, at, len(data), *extra)
        body += data
        at += len(data)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    fields = (2, 243, 1, entry, 64, at, 5, 64, 56, len(segments), 64, 4, 3)
    header = ident + struct.pack("<HHIQQQIHHHHHH", *fields)
    return (header + headers).ljust(start, b"\0") + bytes(body) + sections
