"""The physical memory map: where a config's memory and devices are, and what is in RAM at reset."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from orchestra.errors import BadConfig, BadImage
from orchestra.machine.config import PAGE_LENGTH, PMEM_GRANULE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orchestra.machine.config import Drive, FileFacts, MachineConfig
    from orchestra.machine.elf import Program

__all__ = [
    "BootPlan",
    "Layout",
    "Placement",
    "Range",
    "VirtioSlot",
    "image_size",
    "place_boot",
    "plan_layout",
]

# DESIGN §2.1, and the power switch that QEMU's `virt` machine has at the same address
TEST_START, TEST_LENGTH = 0x0010_0000, 0x1000
CLINT_START, CLINT_LENGTH = 0x0200_0000, 0xC_0000
UART_START, UART_LENGTH = 0x1000_0000, 0x1000
HTIF_START, HTIF_LENGTH = 0x4000_8000, 0x1000
VIRTIO_START, VIRTIO_LENGTH = 0x4001_0000, 0x1000  # slot k is k lengths further
PLIC_START, PLIC_LENGTH = 0x4010_0000, 0x40_0000
RX_START, RX_LENGTH = 0x6000_0000, 0x20_0000
TX_START, TX_LENGTH = 0x6080_0000, 0x20_0000
DTB_START, DTB_LENGTH = 0x7FF0_0000, 0x10_0000
RAM_START = 0x8000_0000
MAX_END = 1 << 44  # of all ranges, the hidden ones too

# PLIC sources; 0 means "none" to the PLIC
PLIC_SOURCES = 31
VIRTIO_IRQ = 1  # slot k has k more: 1 ... 16
UART_IRQ = 20

# What fw_jump expects, and Debian's kernel
FIRMWARE_START = RAM_START
KERNEL_START = 0x8020_0000
FIRMWARE_DTB_START = 0x8220_0000  # fw_jump copies the device tree there, below the initrd
INITRD_START = 0x8420_0000  # or higher, after the kernel
INITRD_ALIGNMENT = 0x20_0000

RangeKind = Literal["ram", "buffer", "dtb", "drive", "device"]


@dataclass(frozen=True, slots=True)
class Range:
    """A part of the physical address space; `start` and `length` are whole 4096-byte pages.

    Every kind but "device" has memory behind it. Its first `content_length` bytes are what a drive
    holds (for a disk: its capacity), the rest is padding. The permissions are the guest's; memory
    that is not `guest_visible` only devices reach. `shared` memory is a file of the user's.
    """

    name: str
    start: int
    length: int
    kind: RangeKind
    content_length: int
    readable: bool = True
    writable: bool = True
    executable: bool = False
    guest_visible: bool = True
    shared: bool = False

    @property
    def end(self) -> int:
        """The first address after it."""
        return self.start + self.length

    @property
    def addresses(self) -> range:
        """All its addresses."""
        return range(self.start, self.end)


@dataclass(frozen=True, slots=True)
class VirtioSlot:
    """A virtio-mmio device; a "blk" has its disk's content in the range called `drive`."""

    index: int
    device: Literal["blk", "rng"]
    drive: str | None = None
    read_only: bool = False

    @property
    def address(self) -> int:
        """Where its 4096 bytes of registers start."""
        return VIRTIO_START + self.index * VIRTIO_LENGTH

    @property
    def irq(self) -> int:
        """Its PLIC source."""
        return VIRTIO_IRQ + self.index


@dataclass(frozen=True, slots=True)
class Layout:
    """All ranges by rising address, none over another, and the virtio slots in order."""

    ranges: tuple[Range, ...]
    virtio: tuple[VirtioSlot, ...]

    @property
    def memory(self) -> tuple[Range, ...]:
        """The ranges with memory behind them: what a machine stores."""
        return tuple(item for item in self.ranges if item.kind != "device")

    @property
    def end(self) -> int:
        """The first address after the last range."""
        return self.ranges[-1].end

    def range(self, name: str) -> Range:
        """Give the range of that name, or raise KeyError."""
        for item in self.ranges:
            if item.name == name:
                return item
        raise KeyError(name)

    def __contains__(self, name: str) -> bool:
        return any(item.name == name for item in self.ranges)


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


def plan_layout(config: MachineConfig) -> Layout:
    """Place everything; the drives' lengths must be known (`config.resolve`).

    Raises BadConfig when the drives do not fit below 2^44.
    """
    virtio = tuple(_virtio(config))
    ranges = [*_fixed(config), *(_registers(slot) for slot in virtio)]
    ranges += _drives(config)
    ranges.sort(key=lambda item: item.start)
    layout = Layout(tuple(ranges), virtio)
    if layout.end > MAX_END:
        raise BadConfig("drives", f"an end at {layout.end:#x}", f"drives that end by {MAX_END:#x}")
    return layout


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
        spans.append((FIRMWARE_DTB_START, DTB_LENGTH, "boot.firmware"))
    _check_spans(config, spans)
    initrd = next((item for item in placements if item.field == "boot.initrd"), None)
    return BootPlan(
        placements,
        program.entry if program else RAM_START,
        range(initrd.address, initrd.address + initrd.length) if initrd else None,
    )


def _fixed(config: MachineConfig) -> Iterator[Range]:
    yield _device("test", TEST_START, TEST_LENGTH)
    yield _device("clint", CLINT_START, CLINT_LENGTH)
    yield _device("plic", PLIC_START, PLIC_LENGTH)
    if config.devices.uart:
        yield _device("uart", UART_START, UART_LENGTH)
    if config.devices.htif:
        yield _device("htif", HTIF_START, HTIF_LENGTH)
    if config.devices.cmio:
        yield Range("rx", RX_START, RX_LENGTH, "buffer", RX_LENGTH)
        yield Range("tx", TX_START, TX_LENGTH, "buffer", TX_LENGTH)
    yield Range("dtb", DTB_START, DTB_LENGTH, "dtb", DTB_LENGTH)
    length = config.ram.length
    yield Range("ram", RAM_START, length, "ram", length, executable=True)


def _device(name: str, start: int, length: int) -> Range:
    return Range(name, start, length, "device", length)


def _registers(slot: VirtioSlot) -> Range:
    return _device(f"virtio{slot.index}", slot.address, VIRTIO_LENGTH)


def _virtio(config: MachineConfig) -> Iterator[VirtioSlot]:
    disks = [drive for drive in config.drives if drive.kind == "virtio-blk"]
    for index, drive in enumerate(disks):
        yield VirtioSlot(index, "blk", drive.name, drive.read_only)
    if config.devices.rng:
        yield VirtioSlot(len(disks), "rng")


def _drives(config: MachineConfig) -> Iterator[Range]:
    """Pmem, then nvram, then the contents of the disks, which the guest does not see."""
    end = RAM_START + config.ram.length
    for kind in ("pmem", "nvram", "virtio-blk"):
        for index, drive in enumerate(config.drives):
            if drive.kind != kind:
                continue
            if drive.length is None:
                raise BadConfig(f"drives[{index}].length", None, "a length; resolve the config")
            item = _hidden(drive, end, drive.length) if kind == "virtio-blk" else None
            item = item or _visible(drive, end, drive.length)
            yield item
            end = item.end


def _hidden(drive: Drive, after: int, length: int) -> Range:
    return Range(
        drive.name,
        _align(after, PAGE_LENGTH),
        _align(length, PAGE_LENGTH),
        "drive",
        length,
        writable=not drive.read_only,
        guest_visible=False,
        shared=drive.shared,
    )


def _visible(drive: Drive, after: int, length: int) -> Range:
    alignment = max(PMEM_GRANULE, 1 << (length - 1).bit_length())
    return Range(
        drive.name,
        _align(after, alignment),
        length,
        "drive",
        length,
        writable=not drive.read_only,
        executable=True,
        shared=drive.shared,
    )


def _placements(config: MachineConfig, facts: Mapping[Path, FileFacts]) -> Iterator[Placement]:
    boot = config.boot
    if boot.firmware is not None:
        length = facts[boot.firmware].length
        yield Placement("boot.firmware", boot.firmware, FIRMWARE_START, length, length)
    if boot.kernel is not None:
        length, memory = facts[boot.kernel].length, image_size(boot.kernel, facts[boot.kernel])
        yield Placement("boot.kernel", boot.kernel, KERNEL_START, length, memory)
        if boot.initrd is not None:
            start = _align(max(INITRD_START, KERNEL_START + memory), INITRD_ALIGNMENT)
            length = facts[boot.initrd].length
            yield Placement("boot.initrd", boot.initrd, start, length, length)
    for index, image in enumerate(boot.images):
        length = facts[image.path].length
        yield Placement(f"boot.images[{index}]", image.path, image.address, length, length)


def _check_spans(config: MachineConfig, spans: list[tuple[int, int, str]]) -> None:
    spans = sorted(span for span in spans if span[1])
    for start, length, field in spans:
        if start < RAM_START:
            raise BadConfig(field, f"{start:#x}", f"an address in RAM, from {RAM_START:#x}")
        needed = start + length - RAM_START
        if needed > config.ram.length:
            wanted = f"at least {_align(needed, PAGE_LENGTH)} ({-(-needed >> 20)} MiB) for {field}"
            raise BadConfig("ram.length", config.ram.length, wanted)
    for (start, length, low), (other, _, high) in pairwise(spans):
        if start + length > other:
            raise BadConfig(
                high, f"{other:#x}", f"an address after {low}, from {start + length:#x}"
            )


def _align(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
