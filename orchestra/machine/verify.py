"""Whether a machine's folder is what it says: its record, images, deltas, and all their pages."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from orchestra.errors import BackingFault, BadConfig, BadImage
from orchestra.io import folder
from orchestra.io.lock import wait_lock
from orchestra.io.regular import open_regular
from orchestra.io.sparse import allocated_bytes

from ._core import DEAD_SLOT, PAGE_BYTES, ZERO_PAGE, page_checksums, state_cycle
from .content import image_hashes
from .delta import READ_PAGES, open_delta
from .merkle import Tree
from .proof import STATE_ADDRESS, ZEROS, hash_page
from .record import NAME, read_record
from .scheme import scheme_of
from .top import TOP
from .torn import is_torn
from .view import view_of_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from .delta import Delta
    from .record import Extent, ImageFile, Record

__all__ = ["Checked", "Report", "verify_folder"]

FLAWS_OF_A_FILE = 16  # that are named; the rest are counted


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that was read: how many pages, and how many of these had a digest to compare with."""

    name: str
    kind: Literal["image", "delta"]
    pages: int
    compared: int


@dataclass(frozen=True, slots=True)
class Report:
    """What verify_folder found; `flaws` name file and field, what was found, what is expected.

    `root` is the root hash (proof.py) that the files amount to, if they are sound. `strangers` are
    files that do not belong to the machine, and do no harm.
    """

    directory: Path
    cycle: int | None
    root: str | None
    files: tuple[Checked, ...]
    flaws: tuple[BadImage, ...]
    strangers: tuple[str, ...]
    torn: bool

    @property
    def ok(self) -> bool:
        """Whether the folder can be relied on as it is."""
        return not self.flaws and not self.torn


def verify_folder(
    directory: Path | str,
    *,
    progress: Callable[[int, int], None] | None = None,
    wait_seconds: float | None = 0,
) -> Report:
    """Read all of a machine's folder and compare it with every checksum and digest in it.

    It is locked against writers meanwhile: MachineLocked when one runs in it. `progress` is told
    bytes read and to be read. Raises BadImage only when it is no folder at all.
    """
    directory = folder.located(directory)
    with wait_lock(directory, "shared", wait_seconds) as lock:
        check = _Check(directory, lock.fileno())
        done = 0
        with closing(check.steps()) as steps:
            for length in steps:
                done += length
                if progress is not None:
                    progress(done, max(done, check.total))
        return check.report()


class _Check:
    """A folder while it is read."""

    def __init__(self, directory: Path, fd: int) -> None:
        self.directory, self.fd = directory, fd
        self.record: Record | None = None
        self.flaws: list[BadImage] = []
        self.files: list[Checked] = []
        self.tree: Tree | None = None  # of what was read; None when it would mean nothing
        self.total = 0  # bytes to read, about

    def report(self) -> Report:
        """Say what came of it."""
        return Report(
            self.directory,
            None if self.record is None else self.record.cycle,
            None if self.flaws or self.tree is None else self.tree.root.hex(),
            tuple(self.files),
            tuple(self.flaws),
            () if self.record is None else self.strangers(self.record),
            self.record is not None and is_torn(str(self.directory), self.record, self.fd),
        )

    def steps(self) -> Generator[int]:
        """Check everything; yields now and then how many bytes were read since."""
        with self.noting(self.directory / NAME):
            self.record = read_record(self.directory, self.fd)
        if self.record is not None:
            yield from self.check(self.record)

    def check(self, record: Record) -> Generator[int]:
        """Check what the record names, and whether it fits together."""
        path = self.directory / NAME
        bounds: tuple[int, ...] = ()
        with self.noting(path):
            bounds = scheme_of(record.config, record.tohost, record.fromhost).bounds
            view_of_folder(str(self.directory), self.fd, record, []).acquire().release()
            self.tree = Tree.empty()
        self.total = sum(self.length_of(image.file) for image in record.images)
        self.total += sum(self.length_of(name) for name in record.deltas)
        for image in record.images:
            if image.length:
                yield from self.check_image(image, record.extents)
        state = None
        for name in record.deltas:
            state = yield from self.check_delta(name, bounds)
        if state is None or self.flaws or self.tree is None:
            return
        self.tree = self.tree.update({STATE_ADDRESS // PAGE_BYTES: state})
        root = self.tree.root.hex()
        if state_cycle(state) != record.cycle:
            self.note(BadImage(path, "cycle", record.cycle, f"{state_cycle(state)}, the state's"))
        if record.root not in (None, root):
            self.note(BadImage(path, "root", record.root, f"{root}, that of the files"))

    def check_image(self, image: ImageFile, extents: tuple[Extent, ...]) -> Generator[int]:
        """Read an image where it has data; compare its digest, if there is one."""
        with self.noting(self.directory / image.file):
            path = folder.child(self.directory, image.file)
            tree, pages = Tree.empty(), 0
            with open_regular(path, image.length) as file:
                for hashes in image_hashes(file):
                    pages += len(hashes)
                    if image.digest is not None:
                        tree = tree.update_hashes(hashes)
                    for extent in extents:
                        if extent.file == image.file:
                            self.put(_moved(hashes, extent))
                    yield len(hashes) * PAGE_BYTES
            if image.digest not in (None, tree.root.hex()):
                raise BadImage(path, "digest", tree.root.hex(), f"{image.digest}, the record's")
            compared = 0 if image.digest is None else pages
            self.files.append(Checked(image.file, "image", pages, compared))

    def check_delta(self, name: str, bounds: Sequence[int]) -> Generator[int, None, bytes | None]:
        """Read a delta and compare all checksums; returns its state, if it can be told."""
        state = None
        with self.noting(self.directory / name):
            delta = open_delta(self.fd, name, str(self.directory / name), bounds)
            state = delta.state
            try:
                yield from self.check_pages(delta)
            finally:
                delta.mapping.close()
        return state

    def check_pages(self, delta: Delta) -> Generator[int]:
        """Read the pages of a delta."""
        checksums = delta.read_checksums()
        if any(delta.mapping.read(delta.header_end, PAGE_BYTES - delta.header_end)):
            raise BadImage(delta.path, "header", "something behind what it says", "zeros")
        if len(set(delta.pages)) != len(delta.pages):
            raise BadImage(delta.path, "index", "a page twice", "every page once")
        slots = [entry for entry in delta.index if entry == DEAD_SLOT or not entry & ZERO_PAGE]
        self.put(dict.fromkeys(set(delta.pages).difference(slots), ZEROS[0]))
        bad = 0
        for first in range(0, len(slots), READ_PAGES):
            batch = slots[first : first + READ_PAGES]
            data = delta.mapping.read(PAGE_BYTES * (1 + first), PAGE_BYTES * len(batch))
            view, hashes = memoryview(data), {}
            sums = memoryview(page_checksums(data)).cast("I")
            for slot, number in enumerate(batch, first):
                start = PAGE_BYTES * (slot - first)
                page = view[start : start + PAGE_BYTES]
                if number == DEAD_SLOT:
                    continue
                hashes[number] = hash_page(page)
                found = sums[slot - first]
                if checksums is None or found == checksums[slot]:
                    continue
                bad += 1
                if bad <= FLAWS_OF_A_FILE:
                    field = f"page {number:#x} at offset {PAGE_BYTES * (1 + slot):#x}"
                    expected = f"checksum {checksums[slot]:08x}"
                    self.note(BadImage(delta.path, field, f"{found:08x}", expected))
            self.put(hashes)
            yield len(data)
        if bad > FLAWS_OF_A_FILE:
            more = f"{bad - FLAWS_OF_A_FILE} more that differ"
            self.note(BadImage(delta.path, "pages", more, "their checksums"))
        live = len(slots) - slots.count(DEAD_SLOT)
        compared = 0 if checksums is None else live
        self.files.append(Checked(delta.name, "delta", live, compared))

    def put(self, hashes: dict[int, bytes]) -> None:
        """Lay pages over what was read before."""
        if self.tree is not None:
            self.tree = self.tree.update_hashes(hashes)

    def length_of(self, name: str) -> int:
        """Bytes of a file that are to be read, about; flaws are found later."""
        try:
            path = folder.child(self.directory, name)
            return min(path.stat().st_size, allocated_bytes(path))
        except (BadImage, OSError):
            return 0

    def strangers(self, record: Record) -> tuple[str, ...]:
        """List what the record does not name."""
        known = {NAME, *record.deltas, *(image.file for image in record.images)}
        known.add(TOP)
        return tuple(sorted({path.name for path in self.directory.iterdir()} - known))

    @contextmanager
    def noting(self, path: Path) -> Iterator[None]:
        """Make a flaw of the error that ends a part of the work."""
        try:
            yield
        except BadImage as error:
            self.note(error)
        except BackingFault as error:
            self.note(BadImage(error.path, f"offset {error.offset:#x}", error.reason, "readable"))
        except BadConfig as error:
            self.note(BadImage(path, f"config {error.field}", error.found, error.expected))
        except OSError as error:
            self.note(BadImage(path, "file", error.strerror, "a file that can be read"))

    def note(self, flaw: BadImage) -> None:
        """Remember a flaw, once."""
        if str(flaw) not in map(str, self.flaws):
            self.flaws.append(flaw)


def _moved(hashes: dict[int, bytes], extent: Extent) -> dict[int, bytes]:
    """Say which pages of memory the pages of a file are, as far as the extent has them."""
    first = extent.offset // PAGE_BYTES
    shift = extent.address // PAGE_BYTES - first
    pages = range(first, first + extent.length // PAGE_BYTES)
    return {number + shift: value for number, value in hashes.items() if number in pages}
