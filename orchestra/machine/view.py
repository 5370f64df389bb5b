"""A view: mapped files, board and base layer, shared by all machines started from it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestra.errors import BadImage
from orchestra.io import folder
from orchestra.io.mapping import Mapping, map_file

from ._core import (
    BLOCK,
    EXECUTE,
    GUEST,
    PAGE_BYTES,
    RANDOM,
    READ,
    SHARED_EXTENT,
    WRITE,
    Board,
    Layer,
    state_cycle,
)
from .delta import Delta, map_part, open_delta
from .flat import Flat, map_flat
from .layout import DTB_START, Layout, plan_layout
from .record import Extent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from orchestra.io.lock import Lock

    from .config import MachineConfig
    from .image import ImagePlan
    from .layout import Range
    from .record import ImageFile, Record

__all__ = ["View", "view_of_folder", "view_of_plan"]


@dataclass(slots=True)
class View:
    """What a machine needs to exist; it lives as long as a machine that was started from it."""

    config: MachineConfig
    layout: Layout
    board: Board
    layer: Layer
    mappings: list[Mapping]
    locks: list[Lock]
    deltas: list[Delta] = field(default_factory=list)
    record: Record | None = None  # of its folder
    directory: Path | None = None
    plan: ImagePlan | None = None  # when there is no folder
    flats: list[Flat] = field(default_factory=list)
    temporary: Path | None = None  # a folder to delete in the end
    users: int = 0
    counting: threading.Lock = field(default_factory=threading.Lock)

    def acquire(self) -> View:
        """Count one more machine."""
        with self.counting:
            self.users += 1
        return self

    def release(self) -> None:
        """Count one machine less; the last one unmaps and unlocks."""
        with self.counting:
            self.users -= 1
            if self.users:
                return
        del self.layer, self.board
        _close(self.mappings, self.locks)
        if self.temporary is not None:
            folder.remove(self.temporary)


def make_board(
    config: MachineConfig,
    layout: Layout,
    extents: Sequence[tuple[int, int, int, bool]],
    tohost: int | None,
    fromhost: int | None,
) -> Board:
    """Build the core's board; `extents` are (address, length, host address, shared), ascending."""
    devices = config.devices
    names = ["syscon"]
    names += [name for name in ("uart", "htif", "cmio") if getattr(devices, name)]
    board = Board(
        cycles_per_tick=config.processor.cycles_per_tick,
        devices=names,
        extensions=config.processor.extensions,
        watched=tohost,
        watched_fromhost=fromhost,
    )
    for item in layout.memory:
        flags = READ * item.readable | WRITE * (item.writable and item.name != "rx")
        flags |= EXECUTE * item.executable | GUEST * item.guest_visible
        board.add_range(item.start, item.length, flags)
    for address, length, host, shared in extents:
        board.add_extent(address, length, host, SHARED_EXTENT if shared else 0)
    for slot in layout.virtio:
        if slot.drive is None:
            seed = (config.seed * 0x9E3779B97F4A7C15 + slot.index + 1) & (1 << 64) - 1
            board.set_virtio(slot.index, RANDOM, 0, 0, read_only=False, seed=seed)
        else:
            content = layout.range(slot.drive)
            board.set_virtio(
                slot.index,
                BLOCK,
                content.start,
                content.content_length,
                read_only=slot.read_only,
                seed=0,
            )
    return board


def _mapped(
    mapping: Mapping, offset: int, address: int, length: int, *, shared: bool
) -> list[tuple[int, int, int, bool]]:
    """Give the extents of a part of a file; holes need none."""
    return [
        (address + start - offset, count, mapping.address + start, shared)
        for start, count in mapping.populated(offset, length)
    ]


def view_of_plan(plan: ImagePlan) -> View:
    """Map the user's own files; nothing is copied but the edges of pages."""
    mappings: dict[str, Mapping] = {}
    flats: list[Flat] = []
    try:
        for source in plan.sources:
            path = source.path.resolve()
            if not source.shared:
                mappings[source.name] = map_file(path)
                continue
            place = plan.layout.range(source.name.removesuffix(".img"))
            flat, mapping = map_flat(path, source.name, place, place.content_length, ours=True)
            flats.append(flat)
            mappings[source.name] = mapping
    except BaseException:
        _close([*mappings.values()], [flat.lock for flat in flats])
        raise
    shared_names = {flat.name for flat in flats if flat.in_place}
    extents = [
        part
        for name, offset, address, length in plan.extents
        for part in _mapped(mappings[name], offset, address, length, shared=name in shared_names)
    ]
    board = make_board(plan.config, plan.layout, extents, plan.tohost, plan.fromhost)
    layer = Layer.build(board, None, board.reset_state(plan.entry, DTB_START))
    kept, locks = list(mappings.values()), [flat.lock for flat in flats]
    return View(plan.config, plan.layout, board, layer, kept, locks, plan=plan, flats=flats)


def _close(mappings: list[Mapping], locks: list[Lock]) -> None:
    for mapping in mappings:
        mapping.close()
    for lock in locks:
        lock.close()


def view_of_folder(
    directory: Path, record: Record, locks: list[Lock], *, in_place: bool = False
) -> View:
    """Map a machine's folder: verify its images and deltas, and stack the layers.

    `in_place` says that stores to shared drives go to their files; else the files stay as they are.
    """
    layout = plan_layout(record.config)
    mappings: list[Mapping] = []
    flats: list[Flat] = []
    try:
        board = _board_of(directory, record, layout, mappings, flats, in_place=in_place)
        deltas = _open_deltas(directory, record, layout, mappings)
    except BaseException:
        _close(mappings, [flat.lock for flat in flats])
        raise
    layer = None
    for delta in deltas:
        layer = Layer.build(board, layer, delta.state)
        layer.add_pages(delta.index, delta.first_page)
    assert layer is not None
    layer.set_stored()
    locks = [*locks, *(flat.lock for flat in flats)]
    view = View(record.config, layout, board, layer, mappings, locks, deltas, record, directory)
    view.flats = flats
    return view


def _board_of(
    directory: Path,
    record: Record,
    layout: Layout,
    mappings: list[Mapping],
    flats: list[Flat],
    *,
    in_place: bool,
) -> Board:
    path = directory / "machine.json"
    files: dict[str, tuple[Mapping, bool]] = {}
    for image in record.images:
        if not image.length:
            continue
        place = folder.child(directory, image.file)
        if image.shared:
            drive = _drive_of(path, image, record, layout)
            flat, mapping = map_flat(place, image.file, drive, image.length, ours=in_place)
            flats.append(flat)
        else:
            mapping = map_part(place, expected_length=image.length)
        mappings.append(mapping)
        files[image.file] = mapping, image.shared
    extents = []
    end = 0
    for extent in record.extents:
        if extent.file not in files:
            raise BadImage(path, "extents.file", extent.file, "one of its images")
        mapping, shared = files[extent.file]
        if extent.address < end or (extent.address | extent.offset | extent.length) % PAGE_BYTES:
            raise BadImage(path, "extents.address", hex(extent.address), "whole pages, ascending")
        if extent.offset + extent.length > -(-mapping.length // PAGE_BYTES) * PAGE_BYTES:
            raise BadImage(path, "extents.length", extent.length, f"a part of {extent.file}")
        end = extent.address + extent.length
        if not any(
            item.start <= extent.address and end <= item.end and item.shared == shared
            for item in layout.memory
        ):
            raise BadImage(path, "extents.address", hex(extent.address), "a place in memory")
        shared = shared and mapping.writable
        extents += _mapped(mapping, extent.offset, extent.address, extent.length, shared=shared)
    return make_board(record.config, layout, extents, record.tohost, record.fromhost)


def _drive_of(path: Path, image: ImageFile, record: Record, layout: Layout) -> Range:
    """Say which drive a shared image is, from its first byte to its last."""
    extents = [extent for extent in record.extents if extent.file == image.file]
    for item in layout.memory:
        whole = Extent(image.file, 0, item.start, item.length)
        if item.shared and extents == [whole] and image.length == item.content_length:
            return item
    raise BadImage(path, "extents", f"{image.file}, shared, in parts", "a drive at its place")


def _open_deltas(
    directory: Path, record: Record, layout: Layout, mappings: list[Mapping]
) -> list[Delta]:
    if not record.deltas:
        raise BadImage(directory / "machine.json", "deltas", [], "at least one")
    pages = [range(item.start // PAGE_BYTES, item.end // PAGE_BYTES) for item in layout.memory]
    deltas = []
    for name in record.deltas:
        deltas.append(open_delta(folder.child(directory, name), is_memory=pages))
        mappings.append(deltas[-1].mapping)
    if (cycle := state_cycle(deltas[-1].state)) != record.cycle:
        raise BadImage(deltas[-1].path, "cycle", cycle, f"{record.cycle}, the record's")
    return deltas
