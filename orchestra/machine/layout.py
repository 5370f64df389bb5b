"""The physical memory map: at which addresses a config's memory and devices are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from orchestra.errors import BadConfig
from orchestra.machine.config import PAGE_LENGTH, PMEM_GRANULE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestra.machine.config import Drive, MachineConfig

__all__ = [
    "Layout",
    "Range",
    "VirtioSlot",
    "align",
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
    def in_place(self) -> bool:
        """Whether a machine that runs in its files stores to it in a file of its own."""
        return self.shared and self.writable

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


@lru_cache(maxsize=64)
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


def align(value: int, alignment: int) -> int:
    """Round up to a multiple."""
    return -(-value // alignment) * alignment


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
        align(after, PAGE_LENGTH),
        align(length, PAGE_LENGTH),
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
        align(after, alignment),
        length,
        "drive",
        length,
        writable=not drive.read_only,
        executable=True,
        shared=drive.shared,
    )
