"""Ranges of a stored machine as plain files: its images' blocks, and its layers' pages on top."""

from __future__ import annotations

import bisect
from collections import Counter
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import msgspec

from orchestra.errors import BadConfig
from orchestra.io import folder
from orchestra.io.entry import AT_CWD, write_new
from orchestra.io.reflink import clone_file, clone_range
from orchestra.io.sparse import create_sparse, set_length, write_at

from ._core import PAGE_BYTES
from .layout import align, plan_layout
from .merged import Merged, delta_parts
from .record import Extent, ImageFile
from .view import view_of_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestra.io.reflink import CloneResult

    from .layout import Layout, Range
    from .record import Record

__all__ = ["Flattening", "flattening"]

PLAIN_KINDS = ("ram", "drive")
ZEROS = bytes(PAGE_BYTES)


class Flattening:
    """A locked folder whose ranges are written into plain files."""

    def __init__(self, directory: Path, record: Record, layout: Layout, merged: Merged) -> None:
        self.directory, self.record, self.layout = directory, record, layout
        self._merged = merged
        self._numbers = merged.numbers
        self.methods: Counter[str] = Counter()  # how parts of images came into the files
        self.copied_bytes = 0

    def write_range(self, name: str, target: Path) -> int:
        """Make the file `target` of what a range holds; returns its length. BadConfig, OSError."""
        if name not in self.layout or self.layout.range(name).kind == "device":
            known = ", ".join(item.name for item in self.layout.memory)
            raise BadConfig("range", name, f"one of {known}")
        item = self.layout.range(name)
        extents = [part for part in self.record.extents if part.address in item.addresses]
        try:
            self._lay_images(item, extents, target)
            write_at(target, self._pages_of(item))
        except FileExistsError:
            raise
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return item.content_length

    def _lay_images(self, item: Range, extents: list[Extent], target: Path) -> None:
        whole = [extent for extent in extents if (extent.address, extent.offset) == (item.start, 0)]
        if whole == extents and extents:
            self._count(clone_file(folder.child(self.directory, extents[0].file), target))
            set_length(target, min(extents[0].length, item.content_length))
            set_length(target, item.content_length)
            return
        create_sparse(target, item.content_length)
        for extent in extents:
            source = folder.child(self.directory, extent.file)
            place = extent.address - item.start
            length = min(extent.length, item.content_length - place)
            self._count(clone_range(source, target, extent.offset, length, place))

    def _pages_of(self, item: Range) -> Iterator[tuple[int, bytes | memoryview]]:
        for page in self._merged.pages(self._numbers_in(item)):
            offset = page.number * PAGE_BYTES - item.start
            length = min(PAGE_BYTES, item.content_length - offset)
            yield offset, (ZEROS if page.data is None else page.data)[:length]

    def _numbers_in(self, item: Range) -> list[int]:
        low = bisect.bisect_left(self._numbers, item.start // PAGE_BYTES)
        return self._numbers[low : bisect.bisect_left(self._numbers, item.end // PAGE_BYTES)]

    def _count(self, result: CloneResult) -> None:
        self.methods[result.method] += 1
        self.copied_bytes += result.copied_bytes

    def write_folder(self, target: Path) -> Record:
        """Write all files of a machine whose RAM and drives are plain images; gives its record."""
        images, extents = [], []
        rest = dict.fromkeys(self._numbers)
        for item in self.layout.memory:
            if item.kind not in PLAIN_KINDS:
                continue
            name = f"{item.name}.img"
            length = self.write_range(item.name, target / name)
            if not item.shared:
                (target / name).chmod(0o444)
            images.append(ImageFile(name, length, item.shared))
            extents.append(Extent(name, 0, item.start, align(length, PAGE_BYTES)))
            for number in self._numbers_in(item):
                del rest[number]
        path = target / "0.delta"
        write_new(AT_CWD, str(path), [], 0o644)
        write_at(path, delta_parts(self._merged.pages(list(rest)), self._merged.state))
        path.chmod(0o444)
        return msgspec.structs.replace(
            self.record, images=tuple(images), extents=tuple(extents), deltas=(path.name,)
        )


@contextmanager
def flattening(directory: Path, fd: int, record: Record) -> Iterator[Flattening]:
    """Open the layers of a folder that the caller has locked, and open as `fd`."""
    view = view_of_folder(str(directory), fd, record, []).acquire()
    try:
        with closing(Merged(view)) as merged:
            yield Flattening(directory, record, plan_layout(record.config), merged)
    finally:
        view.release()
