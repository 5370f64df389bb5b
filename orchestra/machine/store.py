"""Where a machine's layers are in files: storing them in a new folder, or in the machine's own."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from orchestra.io.entry import Identity, link_new, put_in_place, write_new
from orchestra.io.folder import Draft, sync, sync_tree, temporary_name

from .create import record_of_plan
from .images import Image, bring, images_of, moved
from .lineage import Methods, Part, absorb, link_parts, next_name, parts_of
from .record import NAME, ImageFile, Record, encode_record, replace_record
from .sealing import drop_absorbed, seal_top
from .top import Published, Top
from .torn import sweep

if TYPE_CHECKING:
    from orchestra.io.arena import Arena

    from ._core import Core
    from .view import View

__all__ = ["SnapshotResult", "Storage", "Store"]

Storage = Literal["memory", "backing"]
NO_FILE: Identity = (0, 0, 0, 0)


class SnapshotResult(Struct, frozen=True, gc=False):
    """A published snapshot: where, at which cycle, how many pages its newest delta holds.

    `methods` counts how its other files came there: "link", "reflink", "copy_file_range", "sparse";
    `drives` says it of each shared drive's file.
    """

    directory: Path
    cycle: int
    pages: int
    methods: dict[str, int]
    drives: dict[str, str]


class Store:
    """The files of one machine; only its own thread uses it."""

    def __init__(self, view: View, storage: Storage, reserve: int = 0) -> None:
        self.storage = storage
        self._reserve = reserve  # bytes of pages
        self.ready = storage == "memory"  # for new pages; else open_top must be called
        self._view = view
        self._flats = {  # a view's are of all its machines
            flat.name: flat if flat.in_place else flat.fork() for flat in view.flats
        }
        self._record = view.record
        self._published, self._record_identity = "", NO_FILE  # where that record is, if not here
        self._top: Top | None = None
        self._kept: tuple[Arena, ...] = ()  # that pages of earlier tops, or of an origin, are in
        self._stored_state = b"" if view.record is None else view.layer.state
        self._sealed: list[Part] = []  # in the machine's own folder, since it was opened
        self._told = False  # whether the last snapshot's record tells of all that is sealed
        self._parts_found: list[Part] | None = None
        self._images_found: list[Image] | None = None

    @property
    def _parts(self) -> list[Part]:
        if self._parts_found is None:
            self._parts_found = [] if self._record is None else parts_of(self._view)
        return self._parts_found

    @property
    def _images(self) -> list[Image]:
        if self._images_found is None:
            self._images_found = images_of(self._view)
        return self._images_found

    def fork(self) -> Store:
        """Return the store of a copy in memory, which has the same lineage so far."""
        copy: Store = object.__new__(Store)
        copy.storage, copy._reserve, copy.ready = "memory", 0, True
        copy._view, copy._record = self._view, self._record
        copy._published, copy._record_identity = self._published, self._record_identity
        copy._flats = {name: flat.fork() for name, flat in self._flats.items()}
        copy._parts_found = None if self._parts_found is None else self._parts_found.copy()
        copy._images_found = self._images_found
        copy._stored_state = self._stored_state
        copy._top, copy._sealed, copy._told = None, [], False
        sealed = (*self._sealed, *(self._parts_found or ()))
        arenas = [part.arena for part in sealed if part.arena is not None]
        copy._kept = (*self._kept, *arenas, *([self._top.arena] if self._top else []))
        return copy

    def open_top(self, core: Core) -> None:
        """Give a backing machine the file that its new pages go to, if it has none open."""
        if self.ready:
            return
        if self._top is None:
            if core.closed:  # and with it the lock
                raise core.gone()
            view = self._view
            assert view.folder is not None
            assert view.record is not None
            self._use_top(
                core, Top(view.folder, view.locks[0].fileno(), view.record.id, self._reserve)
            )
        assert self._top is not None
        self._top.reserve()
        self.ready = True

    def _use_top(self, core: Core, top: Top) -> None:
        core.set_arena(top.arena.grow_function, top.arena.context)
        self._top = top

    def snapshot(
        self, core: Core, target: Path | str, *, reproducible: bool, durable: bool
    ) -> SnapshotResult:
        """Publish the machine's state as a folder."""
        methods: Methods = {}
        drives: dict[str, str] = {}
        path = os.fspath(target)
        if not path.startswith("/"):
            path = os.path.abspath(path)
        record_id = os.urandom(16).hex()
        sealed = 0
        draft = Draft(path, durable=durable)
        spilled = self._top is not None and self._top.arena.spilled
        if self._flats or spilled:
            draft.check()  # before what takes long
        if self._top is not None:
            if spilled:
                sealed = self._seal(core, durable=durable)
            self._top.announce(Published(path, record_id, core.cycle), durable=durable)
        for flat in self._flats.values():
            if durable:
                flat.sync()
            if not flat.in_place:
                flat.take(core.unstored())
        with draft:
            images = bring(
                *(self._images, self._view, self._flats, draft.fileno(), draft.path, methods)
            )
            for flat in self._flats.values():
                method = flat.copy_to(f"{draft.path}/{flat.name}", core).method
                methods[method] = methods.get(method, 0) + 1
                drives[flat.name] = method
            parts, pages = self._store(core, draft.fileno(), draft.path, methods)
            record = self._next_record(core, record_id, images, parts, reproducible=reproducible)
            written = write_new(draft.fileno(), NAME, (encode_record(record),))
        self._published, self._record_identity = path, written
        for part in parts:
            if part.folder == draft.path:
                part.folder = path
        self._parts_found, self._record = parts, record
        if self._view.plan is not None:  # the newest snapshot is the likeliest to stay
            self._images_found = moved(self._images, images, path)
        core.mark_stored()
        self._stored_state, self._told = core.state, True
        where = target if isinstance(target, Path) else Path(target)
        return SnapshotResult(where, core.cycle, sealed + pages, methods, drives)

    def close(self, core: Core, *, reproducible: bool, durable: bool = False) -> None:
        """Seal what a backing machine has not sealed yet, and leave its folder clean."""
        view = self._view
        if self.storage == "memory" or view.folder is None or view.record is None:
            return
        if self._top is not None and self._top.arena.spilled:
            self._seal(core, durable=durable)
        fd = view.locks[0].fileno()
        if durable:
            for flat in self._flats.values():
                flat.sync()
        old = self._at_home()
        # a snapshot may have copies of them, on another file system; no name is used twice
        before = self._parts_found = [old.get(part.name, part) for part in self._parts]
        try:
            parts, _ = self._store(core, fd, view.folder, {})
        except FileExistsError:  # of a writer that was killed at its seal
            sweep(view.folder, fd, old)
            parts, _ = self._store(core, fd, view.folder, {})
        names = tuple(part.name for part in parts)
        if self._record is not view.record or names != view.record.deltas:
            if durable:  # also what was sealed before
                sync_tree(Path(view.folder))
            nothing_new = self._told and parts[-1].identity in {part.identity for part in before}
            if not (nothing_new and self._link_record(fd, reproducible, durable=durable)):
                images = [image.file for image in self._images]
                record = self._next_record(
                    *(core, os.urandom(16).hex(), images, parts), reproducible=reproducible
                )
                self._put_record(record, fd, durable=durable)
            for name in old:
                if name not in names:
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=fd)
        elif durable:
            sync_tree(Path(view.folder))
        if self._top is not None:
            self._top.close()
        if durable:
            sync(fd)
            sync(Path(os.path.dirname(view.folder) or "/"))

    def _put_record(self, record: Record, fd: int, *, durable: bool) -> None:
        text, top = encode_record(record), self._top
        if top is not None:
            if not durable and top.settle(text, NAME, record.parent):
                return
            top.note(durable=durable)
        replace_record(fd, text, durable=durable)

    def _at_home(self) -> dict[str, Part]:
        """Give the deltas in the machine's own folder, by name."""
        return {part.name: part for part in (*parts_of(self._view), *self._sealed)}

    def _link_record(self, fd: int, reproducible: bool, *, durable: bool) -> bool:
        """Make the record of the last snapshot the folder's own; False where that cannot be."""
        record, temporary = self._record, temporary_name(NAME)
        if record is None or record.reproducible != reproducible:
            return False
        if self._top is not None:
            self._top.note(durable=durable)
        try:
            identity = link_new(f"{self._published}/{NAME}", fd, temporary)
        except OSError:
            return False
        if identity != self._record_identity:
            os.unlink(temporary, dir_fd=fd)
            return False
        put_in_place(fd, temporary, NAME, durable=durable)
        return True

    def forget_top(self) -> None:
        """Take away a top that nothing was written to."""
        if self._top is not None:
            self._top.close()

    def discard(self) -> None:
        """Let go of the files; those of an open top stay, and tell that it was not sealed."""
        self._top, self._kept, self._sealed, self._parts_found = None, (), [], []
        self.ready = False

    def _store(
        self, core: Core, folder: int, path: str, methods: Methods
    ) -> tuple[list[Part], int]:
        """Link the lineage into an open folder and write one delta with what it lacks.

        Returns the lineage as it is there, and how many pages were written.
        """
        fresh = core.unstored()
        for flat in self._flats.values():  # whose files have theirs
            fresh = [page for page in fresh if page not in flat.pages]
        state = core.state
        changed = bool(fresh) or state != self._stored_state or not self._parts
        wanted, kept = absorb(self._parts, fresh) if changed else (set(), self._parts)
        home = self._view.folder if self.storage == "backing" else None
        parts, lost = link_parts(kept, folder, path, methods, home)
        if lost and home is not None:  # with the last snapshot; but some are at home, too
            found = self._at_home() | {part.name: part for part in parts}
            again = [found.get(part.name, part) for part in kept]
            parts, lost = link_parts(again, folder, path, methods, home)
        for part in lost:
            wanted |= part.pages
            if part.arena is not None:
                self._kept = (*self._kept, part.arena)
        if not changed and not lost:
            return parts, 0
        index, file = core.gather_delta(sorted(wanted))
        name = next_name(self._parts)
        identity = write_new(folder, name, file, 0o444)
        return [*parts, Part(path, name, identity, index)], len(index)

    def _seal(self, core: Core, *, durable: bool) -> int:
        """Make a delta of a top that has grown into its file; returns how many pages it holds."""
        assert self._top is not None
        seal = seal_top(core, self._top, self._parts, durable=durable)
        core.mark_stored()
        self._stored_state, self._told = core.state, False
        self._parts_found = [*seal.kept, seal.part]
        self._use_top(core, seal.after)
        names = {part.name for part in self._parts_found}
        self._sealed = drop_absorbed(core, [*self._sealed, seal.part], names)
        self._kept = tuple(arena for arena in self._kept if core.uses(arena.context))
        self.ready = not self._reserve
        return seal.pages

    def _next_record(
        self,
        core: Core,
        record_id: str,
        images: list[ImageFile],
        parts: list[Part],
        *,
        reproducible: bool,
    ) -> Record:
        base = self._record
        if base is None:
            assert self._view.plan is not None
            base = record_of_plan(self._view.plan)
        return msgspec.structs.replace(
            base,
            id=record_id,
            parent=None if self._record is None else self._record.id,
            cycle=core.cycle,
            reproducible=reproducible,
            images=tuple(images),
            deltas=tuple([part.name for part in parts]),
        )
