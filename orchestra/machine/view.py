"""A view: mapped files, board and base layer, shared by all machines started from it."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from orchestra.errors import BadImage
from orchestra.io.entry import check_writable
from orchestra.io.folder import child, remove
from orchestra.io.layers import map_layers
from orchestra.io.mapping import Mapping, map_file

from ._core import (
    PAGE_BYTES,
    SHARED_EXTENT,
    Board,
    DeltaLooks,
    Layer,
)
from .delta import Delta, delta_of
from .flat import Flat, map_flat
from .layout import DTB_START, Layout, Range
from .record import NAME, Extent, ImageFile, Record, read_record
from .scheme import scheme_of
from .torn import settle_torn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestra.io.layers import LayerFile
    from orchestra.io.lock import Lock

    from .config import MachineConfig
    from .image import ImagePlan

__all__ = ["View", "open_view", "view_of_folder", "view_of_plan"]


@dataclass(slots=True, eq=False)
class View:
    """What a machine needs to exist; it lives as long as a machine that was started from it."""

    config: MachineConfig
    layout: Layout
    board: Board
    layer: Layer
    mappings: list[Mapping]
    locks: Sequence[Lock]
    deltas: list[Delta] = field(default_factory=list)
    record: Record | None = None  # of its folder
    folder: str | None = None
    plan: ImagePlan | None = None  # when there is no folder
    flats: list[Flat] = field(default_factory=list)
    temporary: Path | None = None  # a folder to delete in the end
    key: ViewKey | None = None  # when later openings may share it
    users: int = 0

    @property
    def directory(self) -> Path | None:
        """The folder it was opened from."""
        return None if self.folder is None else Path(self.folder)

    def acquire(self) -> View:
        """Count one more machine."""
        with _open.guard:
            self.users += 1
        return self

    def release(self) -> None:
        """Count one machine less; the last one unmaps and unlocks."""
        with _open.guard:
            self.users -= 1
            if self.users:
                return
            if self.key is not None:
                _open.views.pop(self.key, None)
        del self.layer, self.board
        ours = not self.locks or not self.locks[0].closed  # else this is a forked child
        _close(self.mappings, self.locks)
        if self.temporary is not None and ours:
            remove(self.temporary)


class ViewKey(NamedTuple):
    """Which folder, by which name."""

    device: int
    inode: int
    folder: str


class _Open:
    """The views that later openings may share."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Share no view that is open now."""
        self.guard = threading.Lock()
        self.views: dict[ViewKey, View] = {}

    def find(self, key: ViewKey) -> View | None:
        """Give the view of a folder, and count its new user."""
        with self.guard:
            view = self.views.get(key)
            if view is not None:
                view.users += 1
            return view

    def add(self, key: ViewKey, view: View) -> None:
        """Share a view from now on, unless another thread was first."""
        with self.guard:
            if key not in self.views:
                self.views[key] = view
                view.key = key


_open = _Open()
# a child has the mappings, but not the locks
os.register_at_fork(after_in_child=_open.forget)


def open_view(
    folder: str, lock: Lock, torn: Literal["refuse", "discard"], *, in_place: bool
) -> View:
    """Open a folder whose lock is held; all who have it open for reading share one view.

    The view closes the lock. One user is counted, who must `release` it. `in_place` says that
    stores to shared drives go to their files. Raises MachineTorn (see settle_torn) and BadImage.
    """
    if in_place or torn == "discard" or lock.mode != "shared":
        return _open_folder(folder, lock, torn, in_place=in_place).acquire()
    key = ViewKey(*lock.inode, folder)
    view = _open.find(key)
    if view is not None:
        lock.close()  # it has one of its own
        return view
    view = _open_folder(folder, lock, torn, in_place=False).acquire()
    _open.add(key, view)
    return view


def _open_folder(
    folder: str, lock: Lock, torn: Literal["refuse", "discard"], *, in_place: bool
) -> View:
    try:
        fd = lock.fileno()
        if in_place:
            check_writable(fd, folder)
        record = read_record(folder, fd)
        record = settle_torn(folder, fd, record, torn, writing=in_place)
        return view_of_folder(folder, fd, record, [lock], in_place=in_place)
    except BaseException:
        lock.close()
        raise


def _add_extents(board: Board, mapping: Mapping, offset: int, address: int, length: int) -> None:
    """Say where a part of a file is mapped, but for its holes."""
    flags = SHARED_EXTENT if mapping.mode == "shared" else 0
    for start, count in mapping.populated(offset, length):
        board.add_extent(address + start - offset, count, mapping.address + start, flags)


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
        _close(mappings.values(), [flat.lock for flat in flats])
        raise
    board = Board.like(scheme_of(plan.config, plan.tohost, plan.fromhost).board)
    for name, offset, address, length in plan.extents:
        _add_extents(board, mappings[name], offset, address, length)
    layer = Layer.build(board, None, board.reset_state(plan.entry, DTB_START))
    kept, locks = list(mappings.values()), [flat.lock for flat in flats]
    return View(plan.config, plan.layout, board, layer, kept, locks, plan=plan, flats=flats)


def _close(mappings: Iterable[Mapping], locks: Iterable[Lock]) -> None:
    for mapping in mappings:
        mapping.close()
    for lock in locks:
        lock.close()


def view_of_folder(
    folder: str, fd: int, record: Record, locks: Sequence[Lock], *, in_place: bool = False
) -> View:
    """Map a machine's folder, open as `fd`: verify its images and deltas, and stack the layers.

    `in_place` says that stores to shared drives go to their files; else the files stay as they are.
    """
    if not record.deltas:
        raise _flaw(folder, "deltas", [], "at least one")
    scheme = scheme_of(record.config, record.tohost, record.fromhost)
    board = Board.like(scheme.board)
    looks = DeltaLooks(len(record.deltas), scheme.bounds)
    images = [image for image in record.images if image.length and not image.shared]
    layers = map_layers(
        *(fd, f"{folder}/", {image.file: image.length for image in images}, record.deltas),
        head_bytes=PAGE_BYTES,
        check=looks.check,
        context=looks.context,
    )
    flats: list[Flat] = []
    drives: list[Mapping] = []
    try:
        files = {
            image.file: (_image_of(layers[number], image), False)
            for number, image in enumerate(images)
        }
        if len(images) < len(record.images):
            _map_drives(folder, record, scheme.layout, flats, drives, files, in_place=in_place)
        _place_images(board, folder, record, scheme.places, files)
        deltas, layer = _stack(board, record, layers[len(images) :], looks, scheme.bounds)
    except BaseException:
        for opened in layers:
            opened.close()
        _close(drives, [flat.lock for flat in flats])
        raise
    mappings = [opened.map() for opened in layers] + drives
    return View(
        *(record.config, scheme.layout, board, layer, mappings),
        *([*locks, *(flat.lock for flat in flats)], deltas, record, folder),
        flats=flats,
    )


def _map_drives(
    folder: str,
    record: Record,
    layout: Layout,
    flats: list[Flat],
    drives: list[Mapping],
    files: dict[str, tuple[Mapping, bool]],
    *,
    in_place: bool,
) -> None:
    for image in record.images:
        if not image.length or not image.shared:
            continue
        drive = _drive_of(folder, image, record, layout)
        place = child(folder, image.file)
        flat, mapping = map_flat(place, image.file, drive, image.length, ours=in_place)
        flats.append(flat)
        drives.append(mapping)
        files[image.file] = mapping, True


def _drive_of(folder: str, image: ImageFile, record: Record, layout: Layout) -> Range:
    """Say which drive a shared image is, from its first byte to its last."""
    extents = [extent for extent in record.extents if extent.file == image.file]
    for item in layout.memory:
        whole = Extent(image.file, 0, item.start, item.length)
        if item.shared and extents == [whole] and image.length == item.content_length:
            return item
    raise _flaw(folder, "extents", f"{image.file}, shared, in parts", "a drive at its place")


def _place_images(
    board: Board,
    folder: str,
    record: Record,
    places: tuple[tuple[int, int, bool], ...],
    files: dict[str, tuple[Mapping, bool]],
) -> None:
    end = 0
    for extent in record.extents:
        file, offset, address, length = extent.file, extent.offset, extent.address, extent.length
        if file not in files:
            raise _flaw(folder, "extents.file", file, "one of its images")
        mapping, is_shared = files[file]
        if address < end or (address | offset | length) % PAGE_BYTES:
            raise _flaw(folder, "extents.address", hex(address), "whole pages, ascending")
        if offset + length > -(-mapping.length // PAGE_BYTES) * PAGE_BYTES:
            raise _flaw(folder, "extents.length", length, f"a part of {file}")
        end = address + length
        for first, last, shared in places:
            if first <= address and end <= last and shared == is_shared:
                break
        else:
            raise _flaw(folder, "extents.address", hex(address), "a place in memory")
        _add_extents(board, mapping, offset, address, length)


def _image_of(layer: LayerFile, image: ImageFile) -> Mapping:
    path, facts = layer.path, layer.facts
    if isinstance(layer.error, FileNotFoundError):
        error = layer.error
        raise BadImage(path, "file", error.strerror, "a file in the machine's folder") from error
    if layer.error is not None:
        raise layer.error
    if layer.mapping is None:
        raise BadImage(path, "length", facts.length, f"{image.length} bytes")
    if image.link is not None:
        inode, modified_ns = image.link
        if facts.inode == inode and facts.modified_ns != modified_ns:
            expected = f"{modified_ns}: it is a hard link to a file that was written to since"
            raise BadImage(path, "time of last change", facts.modified_ns, expected)
    return layer.mapping


def _stack(
    board: Board,
    record: Record,
    files: Sequence[LayerFile],
    looks: DeltaLooks,
    bounds: Sequence[int],
) -> tuple[list[Delta], Layer]:
    """Verify the deltas, and put their pages over each other."""
    deltas: list[Delta] = []
    layer = None
    for number, name in enumerate(record.deltas):
        delta = delta_of(files[number], name, looks[number], bounds)
        deltas.append(delta)
        layer = Layer.build(board, layer, delta.look)
        layer.add_pages(delta.index, delta.first_page)
    assert layer is not None
    if delta.look.cycle != record.cycle:
        raise BadImage(delta.path, "cycle", delta.look.cycle, f"{record.cycle}, the record's")
    layer.set_stored()
    return deltas, layer


def _flaw(folder: str, field_name: str, found: object, expected: str) -> BadImage:
    return BadImage(os.path.join(folder, NAME), field_name, found, expected)
