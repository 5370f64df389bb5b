"""Where a machine's layers are in files: its open top, its lineage of deltas, and publishing them.

A machine's state on disk is its images and a lineage of deltas, oldest first. Storing adds one
with the pages that changed; the newest deltas that are no larger are absorbed by it, as in a
log-structured merge tree, so that a lineage stays short however often a machine is stored.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from orchestra.errors import FolderExists
from orchestra.io import folder
from orchestra.io.arena import Arena
from orchestra.io.lock import try_lock
from orchestra.io.reflink import CloneResult, clone_file, link_file
from orchestra.io.sparse import punch_hole

from ._core import DEAD_SLOT, PAGE_BYTES, ZERO_PAGE
from .delta import delta_tail, survey_file, write_delta
from .layout import DTB_START
from .record import NAME, Extent, ImageFile, Record, write_record
from .view import make_board

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from ._core import Core
    from .image import ImagePlan
    from .view import View

__all__ = ["TOP", "SnapshotResult", "Storage", "Store", "create_folder", "unsealed"]

Storage = Literal["memory", "backing"]
TOP = "top"


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    """A published snapshot: where, at which cycle, how many pages its newest delta holds.

    `methods` counts how its other files came there: "link", "reflink", "copy_file_range", "sparse";
    `drives` says it of each shared drive's file.
    """

    directory: Path
    cycle: int
    pages: int
    methods: dict[str, int]
    drives: dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One delta of a lineage: where its file was put, which one it is, and its pages."""

    path: Path
    identity: folder.Identity
    pages: Collection[int]
    arena: Arena | None = None  # where its pages are mapped, if it was this machine's top

    @property
    def name(self) -> str:
        """Its name in every folder it is linked into."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class Image:
    """An image file and where to link or copy it from."""

    file: ImageFile
    path: Path
    ours: bool  # a read-only file of a machine's folder, which may be linked


class Store:
    """The files of one machine; only its own thread uses it."""

    def __init__(self, view: View, storage: Storage, reserve: int = 0) -> None:
        self.storage = storage
        self._reserve = reserve  # bytes of pages
        self.directory = view.directory
        self._plan = view.plan
        self._record = view.record
        self._arena: Arena | None = None  # the open top
        self._absorbed: list[Part] = []  # superseded, but still named by the folder's record
        self._recorded = True  # whether that record tells of the last seal
        self._parts: list[Part] = []
        self._images: list[Image] = []
        self._flats = {flat.name: flat for flat in view.flats}
        self._kept: tuple[Arena, ...] = ()  # that a fork's pages may be in
        self._stored_state = b""
        if view.record is not None and view.directory is not None:
            self._stored_state = view.layer.state
            for delta in view.deltas:
                self._parts.append(Part(delta.path, folder.identity_of(delta.path), delta.pages))
            self._images = [
                Image(image, view.directory / image.file, not image.shared)
                for image in view.record.images
            ]
        elif view.plan is not None:
            self._images = [
                Image(ImageFile(source.name, 0, source.shared), source.path.resolve(), ours=False)
                for source in view.plan.sources
            ]

    def fork(self) -> Store:
        """Return the store of a copy in memory, which has the same lineage so far."""
        copy: Store = object.__new__(Store)
        copy.storage = "memory"
        copy.directory = self.directory
        copy._plan, copy._record = self._plan, self._record
        copy._parts, copy._images = self._parts.copy(), self._images
        copy._flats = {name: flat.fork() for name, flat in self._flats.items()}
        copy._stored_state = self._stored_state
        copy._arena, copy._absorbed, copy._recorded, copy._reserve = None, [], True, 0
        arenas = [part.arena for part in self._parts if part.arena is not None]
        copy._kept = (*self._kept, *arenas, *([self._arena] if self._arena else []))
        return copy

    def open_top(self, core: Core) -> None:
        """Give a backing machine the file that its new pages go to, if it has none open."""
        if self._arena is not None or self.storage == "memory":
            return
        if core.closed:  # and with it the lock
            raise core.gone()
        assert self.directory is not None
        arena = Arena.on_file(self.directory / TOP, first_offset=PAGE_BYTES)
        if self._reserve:
            try:
                arena.reserve(self._reserve + _index_room(self._reserve))
            except BaseException:
                arena.close()
                (self.directory / TOP).unlink()
                raise
        core.set_arena(Arena.grow_function, arena.context)
        self._arena = arena

    def snapshot(
        self, core: Core, target: Path, *, reproducible: bool, durable: bool
    ) -> SnapshotResult:
        """Publish the machine's state as a folder; a backing machine seals its top for it."""
        methods: Counter[str] = Counter()
        drives: dict[str, str] = {}
        pages = 0
        if os.path.lexists(target):
            raise FolderExists(target)
        if self.storage == "backing":
            pages = self._seal_top(core, durable=durable)
        for flat in self._flats.values():
            if durable:
                flat.sync()
            if not flat.in_place:
                flat.take(core.unstored())
        with folder.publish(target, durable=durable) as temporary:
            images = [self._bring(image, temporary, methods) for image in self._images]
            for flat in self._flats.values():
                result = flat.copy_to(temporary / flat.name, core)
                methods[result.method] += 1
                drives[flat.name] = result.method
            if self.storage == "backing":
                parts = self._link_parts(temporary, methods)[0]
            else:
                parts, pages = self._write_part(core, temporary, methods)
            record = self._next_record(core, temporary, images, parts, reproducible=reproducible)
            write_record(temporary, record, new=True)
        if self.storage == "backing":
            self._adopt_record(record, target, durable=durable)
        else:
            self._parts = [_moved(part, temporary, target) for part in parts]
            self._images = [
                image if image.ours or image.file.shared else Image(file, target / file.file, True)
                for image, file in zip(self._images, images, strict=True)
            ]
            self._record = record
            core.mark_stored()
        self._stored_state = core.state
        return SnapshotResult(target, core.cycle, pages, dict(methods), drives)

    def close(self, core: Core, *, reproducible: bool, durable: bool) -> None:
        """Seal what a backing machine has not sealed yet, and leave its folder clean."""
        if self.storage == "memory":
            return
        assert self.directory is not None
        self._seal_top(core, durable=durable)
        if not self._recorded:
            images = [image.file for image in self._images]
            record = self._next_record(
                core, self.directory, images, self._parts, reproducible=reproducible
            )
            self._adopt_record(record, None, durable=durable)
        if durable:  # what was sealed before may not have been
            folder.sync_tree(self.directory)
            folder.sync(self.directory.parent)

    def discard(self) -> None:
        """Let go of the files; those of an open top stay, and tell that it was not sealed."""
        if self._arena is not None:
            self._arena.close()
            self._arena = None

    # a backing machine

    def _seal_top(self, core: Core, *, durable: bool) -> int:
        """Turn the open top into the newest delta without copying its pages.

        Returns how many pages it holds. When it fails the top is open as before.
        """
        if self._arena is None and core.state != self._stored_state:  # registers were set
            self.open_top(core)
        arena = self._arena
        if arena is None:
            return 0
        assert self.directory is not None
        fresh = [page for page in core.slots() if page != DEAD_SLOT]
        if not fresh and core.state == self._stored_state:
            (self.directory / TOP).unlink()
            core.mark_stored()
            self._arena = None
            return 0
        wanted, absorbed = self._absorb(fresh)
        core.adopt(sorted(wanted.difference(fresh)))
        core.checkpoint()  # from here on no page moves
        entries = core.slots()
        slots = len(entries)
        checksums, zeros = survey_file(arena.fileno(), slots)
        for slot in zeros:  # their space is given back
            if entries[slot] != DEAD_SLOT:
                entries.append(entries[slot] | ZERO_PAGE)
                entries[slot] = DEAD_SLOT
        for first, count in _runs(zeros):
            punch_hole(arena.fileno(), PAGE_BYTES * (1 + first), PAGE_BYTES * count)
        header, tail = delta_tail(entries, slots, core.state, checksums)
        arena.finish(slots * PAGE_BYTES, header, tail)
        if durable:
            arena.sync()
        path = self.directory / self._next_name()
        (self.directory / TOP).rename(path)
        core.mark_stored()
        identity = folder.identity_of(arena.fileno())
        self._parts = self._parts[: len(self._parts) - len(absorbed)]
        self._parts.append(Part(path, identity, wanted, arena))
        self._absorbed += absorbed
        self._arena = None
        self._recorded = False
        self._stored_state = core.state
        return len(wanted)

    def _adopt_record(self, record: Record, target: Path | None, *, durable: bool) -> None:
        """Make the record just published, or a new one, the machine's own folder's.

        Only then are the layers deleted that the one before needs.
        """
        assert self.directory is not None
        if target is None or not folder.link_over(target / NAME, self.directory / NAME):
            write_record(self.directory, record, new=False, durable=durable)
        elif durable:
            folder.sync(self.directory)
        self._record, self._recorded = record, True
        for part in self._absorbed:
            with suppress(OSError):
                part.path.unlink()
        self._absorbed = []

    # a machine in memory

    def _write_part(
        self, core: Core, temporary: Path, methods: Counter[str]
    ) -> tuple[list[Part], int]:
        """Link the lineage and write one delta with what it lacks."""
        fresh = core.unstored()
        for flat in self._flats.values():  # whose files have theirs
            fresh = [page for page in fresh if page not in flat.pages]
        wanted, absorbed = self._absorb(fresh)
        kept = self._parts[: len(self._parts) - len(absorbed)]
        parts, lost = self._link_parts(temporary, methods, kept)
        for part in lost:
            wanted.update(part.pages)
        state = core.state
        if not wanted and parts and not absorbed and state == self._stored_state:
            return parts, 0
        order = sorted(wanted)
        data, zeros = core.gather(core.addresses(order))
        entries = [page | ZERO_PAGE if zero else page for page, zero in zip(order, zeros)]  # noqa: B905
        path = temporary / self._next_name()
        identity = write_delta(path, entries, data, state)
        return [*parts, Part(path, identity, wanted)], len(order)

    # the lineage

    def _absorb(self, fresh: Collection[int]) -> tuple[set[int], list[Part]]:
        """Choose the newest deltas that a new one replaces, and say which pages that makes."""
        wanted, absorbed = set(fresh), []
        for part in reversed(self._parts):
            if len(part.pages) > len(wanted):
                break
            wanted.update(part.pages)
            absorbed.append(part)
        return wanted, absorbed

    def _next_name(self) -> str:
        last = max((int(part.name.split(".")[0]) for part in self._parts), default=-1)
        name = f"{last + 1}.delta"
        while self.directory is not None and os.path.lexists(self.directory / name):
            last += 1  # a delta that a dead writer had sealed, but not recorded
            name = f"{last + 1}.delta"
        return name

    def _link_parts(
        self, temporary: Path, methods: Counter[str], parts: list[Part] | None = None
    ) -> tuple[list[Part], list[Part]]:
        """Link deltas into a folder; returns those linked, and those whose files are gone."""
        linked, lost = [], []
        for part in self._parts if parts is None else parts:
            try:
                result = link_file(part.path, temporary / part.name)
            except FileNotFoundError:
                if self.storage == "backing":
                    raise
                lost.append(part)
                continue
            copy = temporary / part.name
            found = copy if result.method == "link" else part.path
            # a backing machine's are in its own folder, which it has locked
            if self.storage == "memory" and folder.identity_of(found) != part.identity:
                copy.unlink()  # another file has that name now
                lost.append(part)
                continue
            methods[result.method] += 1
            linked.append(part)
        return linked, lost

    def _bring(self, image: Image, temporary: Path, methods: Counter[str]) -> ImageFile:
        name, copy = image.file.file, temporary / image.file.file
        if image.file.shared:  # see Flat.copy_to
            return ImageFile(name, self._flats[name].length, shared=True)
        result: CloneResult = (link_file if image.ours else clone_file)(image.path, copy)
        methods[result.method] += 1
        if image.ours:
            return image.file
        copy.chmod(0o444)
        return ImageFile(name, copy.stat().st_size)

    def _next_record(
        self,
        core: Core,
        directory: Path,
        images: list[ImageFile],
        parts: list[Part],
        *,
        reproducible: bool,
    ) -> Record:
        base = self._record
        if base is None:
            assert self._plan is not None
            base = record_of_plan(self._plan, directory)
        return msgspec.structs.replace(
            base,
            id=secrets.token_hex(16),
            parent=None if self._record is None else self._record.id,
            cycle=core.cycle,
            reproducible=reproducible,
            images=tuple(images),
            deltas=tuple(part.name for part in parts),
        )


def create_folder(plan: ImagePlan, target: Path, *, durable: bool) -> None:
    """Publish the folder of a machine at reset: its images, and one delta with the rest."""
    with folder.publish(target, durable=durable) as temporary:
        for source in plan.sources:
            if source.shared:
                with try_lock(source.path.resolve(), "shared") as held:
                    clone_file(held.fileno(), temporary / source.name)
                continue
            clone_file(source.path.resolve(), temporary / source.name)
            (temporary / source.name).chmod(0o444)
        pages = plan.pages()
        board = make_board(plan.config, plan.layout, (), plan.tohost, plan.fromhost)
        state = board.reset_state(plan.entry, DTB_START)
        write_delta(temporary / "0.delta", list(pages), b"".join(pages.values()), state)
        record = msgspec.structs.replace(record_of_plan(plan, temporary), deltas=("0.delta",))
        write_record(temporary, record, new=True)


def record_of_plan(plan: ImagePlan, directory: Path) -> Record:
    """Say what a folder holds into which the plan's files were just copied."""
    return Record(
        id=secrets.token_hex(16),
        parent=None,
        cycle=0,
        reproducible=True,
        config=plan.config.detached(),
        images=tuple(
            ImageFile(source.name, (directory / source.name).stat().st_size, source.shared)
            for source in plan.sources
        ),
        extents=tuple(Extent(*extent) for extent in plan.extents),
        deltas=(),
        tohost=plan.tohost,
        fromhost=plan.fromhost,
    )


def _index_room(length: int) -> int:
    """Say how much a delta has behind this many bytes of pages, at most."""
    return PAGE_BYTES + -(-length // PAGE_BYTES) * 12


def unsealed(directory: Path, record: Record) -> list[Path]:
    """List what a writer left in its folder that died while it ran, or sealed, there.

    A delta that the record does not name yet is the last one's successor.
    """
    last = max((int(name.split(".")[0]) for name in record.deltas), default=-1)
    found = [directory / TOP] if os.path.lexists(directory / TOP) else []
    while os.path.lexists(directory / f"{last + 1}.delta"):
        last += 1
        found.append(directory / f"{last}.delta")
    return found


def _runs(slots: list[int]) -> Iterator[tuple[int, int]]:
    """Join ascending numbers into runs: (first, count)."""
    first = count = 0
    for slot in slots:
        if count and slot == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = slot, 1
    if count:
        yield first, count


def _moved(part: Part, temporary: Path, target: Path) -> Part:
    """Say of a delta written into the temporary folder that it is in the published one."""
    if part.path.parent != temporary:
        return part
    return Part(target / part.name, part.identity, part.pages, part.arena)
