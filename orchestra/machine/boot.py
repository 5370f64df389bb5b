"""What is in RAM at reset: where firmware, kernel, initrd and raw images go, if they fit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from orchestra.errors import BadConfig, BadImage
from orchestra.machine.config import PAGE_LENGTH
from orchestra.machine.layout import DTB_LENGTH, RAM_START, align

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orchestra.machine.config import MachineConfig
    from orchestra.machine.elf import Program

__all__ = ["BootPlan", "FileFacts", "Placement", "boot_facts", "image_size", "place_boot"]

# What fw_jump expects, and Debian's kernel
FIRMWARE_START = RAM_START
KERNEL_START = 0x8020_0000
FIRMWARE_DTB_START = 0x8220_0000  # fw_jump copies the device tree there, below the initrd
INITRD_START = 0x8420_0000  # or higher, after the kernel
INITRD_ALIGNMENT = 0x20_0000
HEADER_LENGTH = 64  # of a RISC-V Linux Image


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What must be known of a file to place it: its length in bytes and its first 64 bytes."""

    length: int
    header: bytes = b""


@dataclass(frozen=True, slots=True)
class Placement:
    """A file to be put into RAM: `length` bytes at `address`, where it uses `memory_length`."""

    field: str
    path: Path
    address: int
    length: int
    memory_length: int


@dataclass(frozen=True, slots=True)
class BootPlan:
    """RAM at reset: files as they are (an ELF comes in addition), pc, and where the initrd is."""

    placements: tuple[Placement, ...]
    entry: int
    initrd: range | None = None


def boot_facts(config: MachineConfig) -> dict[Path, FileFacts]:
    """Look at the files that go into RAM as they are: all of `boot`, but not its ELF."""
    boot = config.boot
    fields = {"firmware": boot.firmware, "kernel": boot.kernel, "initrd": boot.initrd}
    fields |= {f"images[{index}].path": image.path for index, image in enumerate(boot.images)}
    return {path: _facts(path, f"boot.{name}") for name, path in fields.items() if path}


def place_boot(
    config: MachineConfig, facts: Mapping[Path, FileFacts], program: Program | None = None
) -> BootPlan:
    """Say where the files of `config.boot` go, given their facts, and its ELF once it is loaded.

    Raises BadConfig when RAM is too short, and says how long it must be, or when files overlap.
    """
    placements = tuple(_placements(config, facts))
    spans = [(item.address, item.memory_length, item.field) for item in placements]
    if program is not None:
        spans += [(part.address, part.memory_length, "boot.elf") for part in program.segments]
    if config.boot.kernel is not None:
        spans.append((FIRMWARE_DTB_START, DTB_LENGTH, "the firmware's copy of the device tree"))
    _check_spans(config, spans)
    initrd = next((item for item in placements if item.field == "boot.initrd"), None)
    return BootPlan(
        placements,
        program.entry if program else RAM_START,
        range(initrd.address, initrd.address + initrd.length) if initrd else None,
    )


def image_size(path: Path, facts: FileFacts) -> int:
    """How many bytes of RAM a kernel uses, by its header; else the length of its file.

    Raises BadImage for compressed kernels. Source: Documentation/arch/riscv/boot-image-header.rst.
    """
    header = facts.header
    if header[:2] == b"\x1f\x8b" or header[4:8] == b"zimg":
        raise BadImage(path, "header", "a compressed kernel", "an uncompressed Image")
    if header[56:60] != b"RSC\x05":
        return facts.length
    return max(facts.length, int.from_bytes(header[16:24], "little"))


def _facts(path: Path, field: str) -> FileFacts:
    if not path.is_file():  # and never wait for a pipe
        raise BadConfig(field, str(path), "a file that exists")
    try:
        with path.open("rb") as file:
            facts = FileFacts(path.stat().st_size, file.read(HEADER_LENGTH))
    except OSError as error:
        wanted = f"a file that can be read ({error.strerror})"
        raise BadConfig(field, str(path), wanted) from error
    if not facts.length:
        raise BadConfig(field, str(path), "a file that is not empty")
    return facts


def _placements(config: MachineConfig, facts: Mapping[Path, FileFacts]) -> Iterator[Placement]:
    boot = config.boot
    if boot.firmware is not None:
        length = facts[boot.firmware].length
        yield Placement("boot.firmware", boot.firmware, FIRMWARE_START, length, length)
    if boot.kernel is not None:
        length, memory = facts[boot.kernel].length, image_size(boot.kernel, facts[boot.kernel])
        yield Placement("boot.kernel", boot.kernel, KERNEL_START, length, memory)
        if boot.initrd is not None:
            start = align(max(INITRD_START, KERNEL_START + memory), INITRD_ALIGNMENT)
            length = facts[boot.initrd].length
            yield Placement("boot.initrd", boot.initrd, start, length, length)
    for index, image in enumerate(boot.images):
        length = facts[image.path].length
        yield Placement(f"boot.images[{index}]", image.path, image.address, length, length)


def _check_spans(config: MachineConfig, spans: list[tuple[int, int, str]]) -> None:
    spans = sorted(span for span in spans if span[1])
    if spans and spans[0][0] < RAM_START:
        start, _, field = spans[0]
        raise BadConfig(field, f"{start:#x}", f"an address in RAM, from {RAM_START:#x}")
    end, field = max(((start + length, field) for start, length, field in spans), default=(0, ""))
    needed = align(end - RAM_START, PAGE_LENGTH)
    if needed > config.ram.length:
        wanted = f"at least {needed} ({-(-needed >> 20)} MiB), to hold {field}"
        raise BadConfig("ram.length", config.ram.length, wanted)
    for (start, length, low), (other, _, high) in pairwise(spans):
        if start + length > other:
            raise BadConfig(
                high, f"{other:#x}", f"an address after {low}, from {start + length:#x}"
            )
