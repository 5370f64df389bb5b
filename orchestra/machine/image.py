"""What a machine starts from: which files are mapped where, and which few bytes must be copied."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestra.errors import BadConfig

from ._core import PAGE_BYTES
from .boot import boot_facts, place_boot
from .config import MachineConfig, resolve
from .devicetree import build_devicetree
from .elf import Program, load_elf, split_pages
from .layout import DTB_START, RAM_START, Layout, align, plan_layout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .boot import BootPlan

__all__ = ["ImagePlan", "Source", "plan_images"]

FEW_BYTES = 1 << 16  # of one file: to copy them takes less than to link and map it, each time


@dataclass(frozen=True, slots=True)
class Source:
    """A file of the user's: its name in a machine's folder, and where it is now."""

    name: str
    path: Path
    shared: bool = False


@dataclass(slots=True)
class ImagePlan:
    """A machine at reset, before a byte was copied.

    `extents` are whole pages (source name, file offset, address, length); `edges` are the bytes
    that share a page with others (address, source path, file offset, length), copied once, as are
    short files.
    """

    config: MachineConfig
    layout: Layout
    entry: int
    device_tree: bytes
    sources: list[Source] = field(default_factory=list)
    extents: list[tuple[str, int, int, int]] = field(default_factory=list)
    edges: list[tuple[int, Path, int, int]] = field(default_factory=list)
    tohost: int | None = None
    fromhost: int | None = None
    link_images: bool = True  # into a folder, where they cannot be reflinked

    def put(self, source: Source, address: int, offset: int, length: int) -> None:
        """Place `length` bytes of a file at an address."""
        if length <= FEW_BYTES and not source.shared:
            self.edges.append((address, source.path, offset, length))
            return
        if source.shared:  # its last page too, however little of it the file has
            self.sources.append(source)
            self.extents.append((source.name, offset, address, align(length, PAGE_BYTES)))
            return
        plan = split_pages(address, offset, length)
        if plan.mapped and source not in self.sources:
            self.sources.append(source)
        for part in plan.mapped:
            self.extents.append((source.name, part.file_offset, part.address, part.length))
        for part in plan.copied:
            self.edges.append((part.address, source.path, part.file_offset, part.length))

    def pages(self) -> dict[int, bytearray]:
        """Make the pages of edges and of the device tree, by page number."""
        pages: dict[int, bytearray] = {}
        _lay(pages, DTB_START, self.device_tree)
        for address, path, offset, length in self.edges:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
            if len(data) != length:
                raise BadConfig(str(path), "a file that became shorter", "one that stays")
            _lay(pages, address, data)
        return {number: pages[number] for number in sorted(pages)}


def _lay(pages: dict[int, bytearray], address: int, data: bytes) -> None:
    position = 0
    while position < len(data):
        number, offset = divmod(address + position, PAGE_BYTES)
        part = data[position : position + PAGE_BYTES - offset]
        pages.setdefault(number, bytearray(PAGE_BYTES))[offset : offset + len(part)] = part
        position += len(part)


def plan_images(config: MachineConfig, *, link_images: bool = True) -> ImagePlan:
    """Look at the files a config names and say where everything goes.

    Raises BadConfig or BadImage for files that are missing, malformed, too large or overlapping.
    """
    config = resolve(config)
    layout = plan_layout(config)
    program = None
    if config.boot.elf is not None:
        ram = range(RAM_START, RAM_START + config.ram.length)
        program = load_elf(config.boot.elf, ram=ram)
    boot = place_boot(config, boot_facts(config), program)
    tree = build_devicetree(config, layout, boot.initrd)
    plan = ImagePlan(config, layout, boot.entry, tree, link_images=link_images)
    for source, address, offset, length in _placements(config, layout, boot, program):
        plan.put(source, address, offset, length)
    plan.extents.sort(key=lambda extent: extent[2])
    if program is not None:
        plan.tohost = program.symbols.get("tohost")
        plan.fromhost = program.symbols.get("fromhost")
    return plan


def _placements(
    config: MachineConfig, layout: Layout, boot: BootPlan, program: Program | None
) -> Iterator[tuple[Source, int, int, int]]:
    for placement in boot.placements:
        name = placement.field.removeprefix("boot.").replace("[", "").replace("]", "")
        source = Source(f"{name}.img", placement.path)
        yield source, placement.address, 0, placement.length
    if program is not None:
        source = Source("program.elf", program.path)
        for segment in program.segments:
            yield source, segment.address, segment.file_offset, segment.file_length
    for drive in config.drives:
        if drive.path is None:
            continue
        length = drive.path.stat().st_size
        if drive.shared:
            length = layout.range(drive.name).length
        if length:
            source = Source(f"{drive.name}.img", drive.path, shared=drive.shared)
            yield source, layout.range(drive.name).start, 0, length
