"""ELF programs: what of the file goes where in physical memory, checked before it is used."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise
from typing import IO, TYPE_CHECKING, Any

from elftools.elf.elffile import ELFFile

from orchestra.errors import BadImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["PagePlan", "Part", "Program", "Segment", "load_elf", "plan_pages", "split_pages"]

PAGE_LENGTH = 4096
MAX_END = 1 << 64
SYMBOLS = ("tohost", "fromhost", "begin_signature", "end_signature")  # riscv-tests, riscof

_SEGMENT_LENGTH, _SECTION_LENGTH = 56, 64  # of a program header, of a section header
_SYMBOL = struct.Struct("<IBBHQQ")


@dataclass(frozen=True, slots=True)
class Part:
    """`length` bytes of a file, from `file_offset`, that belong at a physical `address`."""

    address: int
    file_offset: int
    length: int


@dataclass(frozen=True, slots=True)
class PagePlan:
    """Parts that are whole pages, to be mapped from the file, and edges, to be copied."""

    mapped: tuple[Part, ...]
    copied: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A loadable segment: `file_length` bytes of the file, then zeros up to `memory_length`.

    `address` is physical (p_paddr); `flags` are p_flags: 1 execute, 2 write, 4 read.
    """

    address: int
    virtual_address: int
    file_offset: int
    file_length: int
    memory_length: int
    flags: int

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.address + self.memory_length


@dataclass(frozen=True, slots=True)
class Program:
    """A checked ELF executable; `entry` and the symbols' values are physical addresses."""

    path: Path
    entry: int
    segments: tuple[Segment, ...]
    symbols: dict[str, int] = field(default_factory=dict)


def load_elf(path: Path, *, ram: range | None = None, symbols: Iterable[str] = SYMBOLS) -> Program:
    """Read the headers of a static RV64 executable and look the given symbols up, if it has them.

    Raises BadImage naming the header's field; also when a segment is not within `ram`'s addresses.
    """
    try:
        with path.open("rb") as file:
            return _load(path, file, ram, tuple(symbols))
    except BadImage:
        raise
    except OSError as error:
        raise BadImage(path, "file", error.strerror, "a readable ELF executable") from error
    except Exception as error:  # pyelftools lets many kinds of errors out of a bad file
        raise BadImage(path, "structure", str(error), "a well-formed ELF file") from error


def plan_pages(program: Program) -> PagePlan:
    """Split what segments take from the file into what may be mapped and what must be copied."""
    plans = [
        split_pages(part.address, part.file_offset, part.file_length) for part in program.segments
    ]
    return PagePlan(
        tuple(part for plan in plans for part in plan.mapped),
        tuple(part for plan in plans for part in plan.copied),
    )


def split_pages(address: int, file_offset: int, length: int) -> PagePlan:
    """Split bytes of a file that belong at `address` into one run of whole pages and its edges."""
    start = -(-address // PAGE_LENGTH) * PAGE_LENGTH
    end = (address + length) // PAGE_LENGTH * PAGE_LENGTH
    if (address - file_offset) % PAGE_LENGTH or start >= end:
        start = end = address + length  # nothing can be mapped: all of it is the first edge
    bounds = [address, start, end, address + length]
    head, body, tail = (
        Part(low, file_offset + low - address, high - low) for low, high in pairwise(bounds)
    )
    return PagePlan(
        tuple(part for part in [body] if part.length),
        tuple(part for part in [head, tail] if part.length),
    )


def _load(path: Path, file: IO[bytes], ram: range | None, names: tuple[str, ...]) -> Program:
    if file.read(4) != b"\x7fELF":
        raise BadImage(path, "e_ident", "other magic", "an ELF file")
    elf = ELFFile(file)
    _check_header(path, elf)
    segments = tuple(_segments(path, elf))
    _check_segments(path, segments, ram)
    entry = _physical(segments, elf.header["e_entry"])
    if entry is None or entry % 2:
        found = f"{elf.header['e_entry']:#x}"
        raise BadImage(path, "e_entry", found, "an even address in a segment")
    values = _find_symbols(path, elf, names)
    # a symbol may stand at the end of a segment: end_signature does
    symbols = {name: _physical(segments, value, slack=1) for name, value in values.items()}
    inside = {name: value for name, value in symbols.items() if value is not None}
    return Program(path, entry, segments, inside)


def _check_header(path: Path, elf: Any) -> None:
    header = elf.header
    wanted = {
        "EI_CLASS": "ELFCLASS64",
        "EI_DATA": "ELFDATA2LSB",
        "e_type": "ET_EXEC",
        "e_machine": "EM_RISCV",
    }
    for name, value in wanted.items():
        found = header["e_ident"][name] if name.startswith("EI_") else header[name]
        if found != value:
            hint = " (link it without -pie)" if found == "ET_DYN" else ""
            raise BadImage(path, name, found, value + hint)
    _check_table(path, elf, "ph", _SEGMENT_LENGTH)
    if header["e_shoff"]:
        _check_table(path, elf, "sh", _SECTION_LENGTH)


def _check_table(path: Path, elf: Any, kind: str, entry_length: int) -> None:
    header = elf.header
    count, length = header[f"e_{kind}num"], header[f"e_{kind}entsize"]
    if count and length != entry_length:
        raise BadImage(path, f"e_{kind}entsize", length, str(entry_length))
    if count == 0xFFFF:
        raise BadImage(path, f"e_{kind}num", count, "fewer")
    _check_inside(path, elf, f"e_{kind}off", header[f"e_{kind}off"], count * entry_length)


def _check_inside(path: Path, elf: Any, name: str, offset: int, length: int) -> None:
    if offset + length > elf.stream_len:
        found = f"{length} bytes from {offset:#x}"
        raise BadImage(path, name, found, f"bytes within the file's {elf.stream_len}")


def _segments(path: Path, elf: Any) -> Iterator[Segment]:
    for index in range(elf.header["e_phnum"]):
        header = elf.get_segment(index).header
        if header["p_type"] != "PT_LOAD" or not header["p_memsz"]:
            continue
        where = f"segment {index} "
        offset, length, memory = header["p_offset"], header["p_filesz"], header["p_memsz"]
        _check_inside(path, elf, where + "p_filesz", offset, length)
        if length > memory:
            raise BadImage(path, where + "p_filesz", length, f"at most p_memsz, {memory}")
        address, virtual = header["p_paddr"], header["p_vaddr"]
        for name, start in ("p_paddr", address), ("p_vaddr", virtual):
            if start + memory > MAX_END:
                raise BadImage(path, where + name, f"{start:#x}", "an end within 64 bits")
        yield Segment(address, virtual, offset, length, memory, header["p_flags"])


def _check_segments(path: Path, segments: tuple[Segment, ...], ram: range | None) -> None:
    if not segments:
        raise BadImage(path, "e_phnum", "nothing to load", "a PT_LOAD segment")
    for segment in segments:
        if ram is not None and not ram.start <= segment.address <= segment.end <= ram.stop:
            found = f"{segment.address:#x} to {segment.end:#x}"
            raise BadImage(path, "p_paddr", found, f"RAM, {ram.start:#x} to {ram.stop:#x}")
    for low, high in pairwise(sorted(segments, key=lambda segment: segment.address)):
        if low.end > high.address:
            found = f"{high.address:#x}"
            raise BadImage(path, "p_paddr", found, f"{low.end:#x} or more: segments overlap")


def _physical(segments: tuple[Segment, ...], virtual: int, *, slack: int = 0) -> int | None:
    """Translate as the program headers say; `slack` bytes after a segment count as its own."""
    for beyond in (0, slack):
        for segment in segments:
            distance = virtual - segment.virtual_address
            if 0 <= distance < segment.memory_length + beyond:
                return segment.address + distance
    return None


def _find_symbols(path: Path, elf: Any, names: tuple[str, ...]) -> dict[str, int]:
    """Look names up without parsing every symbol: find the strings, then what points at them."""
    count = elf.header["e_shnum"] if elf.header["e_shoff"] else 0
    sections = [elf._get_section_header(index) for index in range(count)]  # noqa: SLF001
    header = next((item for item in sections if item["sh_type"] == "SHT_SYMTAB"), None)
    if header is None:
        return {}
    if header["sh_link"] >= count:
        raise BadImage(path, "sh_link", header["sh_link"], f"a section, below {count}")
    strings = _section(path, elf, sections[header["sh_link"]])
    table = _section(path, elf, header)
    offsets = {offset: name for name in names for offset in _occurrences(strings, name)}
    values: dict[str, int] = {}
    whole = len(table) // _SYMBOL.size * _SYMBOL.size
    for name_offset, info, _, section, value, _ in _SYMBOL.iter_unpack(table[:whole]):
        name = offsets.get(name_offset)
        if section and name and (info >> 4 or name not in values):  # global symbols win over local
            values[name] = value
    return values


def _section(path: Path, elf: Any, header: Any) -> bytes:
    offset, length = header["sh_offset"], header["sh_size"]
    _check_inside(path, elf, "sh_size", offset, length)
    elf.stream.seek(offset)
    data: bytes = elf.stream.read(length)
    return data


def _occurrences(strings: bytes, name: str) -> Iterator[int]:
    """Give every offset in a string table at which the name starts; it may end a longer one."""
    wanted = name.encode() + b"\0"
    found = strings.find(wanted)
    while found >= 0:
        yield found
        found = strings.find(wanted, found + 1)
