"""One machine, blocking: create or open it, run it, ask it, fork it, hash it, store it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from orchestra.errors import BadConfig, BadImage, MachineBusy
from orchestra.io.folder import locate, remove, temporary_name
from orchestra.io.lock import wait_lock
from orchestra.io.process import stays_behind

from ._core import ANYTHING, PAGE_BYTES, Core
from .create import create_folder
from .execution import Execution
from .image import plan_images
from .layout import RX_LENGTH, RX_START, TX_START
from .proof import PAGE_LOG2_SIZE
from .request import Exchange, Limits, Outcome, Request, RequestKind, exchange
from .state_hash import StateHash
from .store import SnapshotResult, Storage, Store
from .view import View, open_view, view_of_plan

if TYPE_CHECKING:
    from orchestra.io.lock import Lock, LockMode

    from .config import Engine, MachineConfig
    from .layout import Layout
    from .merkle import Tree
    from .proof import Proof

__all__ = ["Machine", "SnapshotResult", "Storage"]

STEP_CYCLES = 1 << 62
BUFFERS = RX_START, TX_START


class Machine(Execution):
    """A RISC-V machine for one thread at a time; MachineBusy is raised to a second one.

    Made by `create`, `open` or `fork`. Use it as a context manager, or `close` it.
    """

    def __init__(self, view: View, store: Store, core: Core, *, reproducible: bool = True) -> None:
        super().__init__(core, store, reproducible=reproducible)
        self._view = view.acquire()
        self._in_place = any(flat.in_place for flat in view.flats)
        self._can_roll_back = not self._in_place
        if self._in_place or store.storage == "backing":
            stays_behind(self)
        self._state_hash: StateHash | None = None  # until somebody asks for it

    # making one

    @classmethod
    def create(
        cls,
        config: MachineConfig,
        directory: Path | str | None = None,
        *,
        storage: Storage | None = None,
        durable: bool = False,
        reserve: int = 0,
        engine: Engine | None = None,
        link_images: bool = True,
    ) -> Self:
        """Make a machine at reset; with a directory it is a folder there, else it is in memory.

        `storage` is where the pages that change go: "backing", the folder's own files (default with
        a directory), or "memory"; for `reserve` and `engine` see `open`. The files that the config
        names become the folder's by reflink; where the file system has none by hard link, so do not
        write into them afterwards (opening the folder would say so), or forbid it with
        `link_images=False`: then they are copied.

        Raises BadConfig, BadImage, FolderExists, MachineLocked, and OSError.
        """
        plan = plan_images(config, link_images=link_images)
        if directory is not None:
            storage = storage or "backing"
            _check_reserve(storage, reserve)
            create_folder(plan, Path(directory), durable=durable)
            return cls.open(directory, storage=storage, reserve=reserve, engine=engine)
        if storage == "backing":
            raise BadConfig("storage", storage, "a directory to go with it")
        _check_reserve("memory", reserve)
        view = view_of_plan(plan).acquire()
        try:
            machine = cls(view, Store(view, "memory"), _core_of(view, engine))
        finally:
            view.release()
        for number, page in plan.pages().items():
            machine._core.write(number * PAGE_BYTES, bytes(page), virtual=False)
        machine.checkpoint()
        return machine

    @classmethod
    def open(
        cls,
        directory: Path | str,
        *,
        storage: Storage = "memory",
        wait_seconds: float | None = 0,
        torn: Literal["refuse", "discard"] = "refuse",
        reserve: int = 0,
        engine: Engine | None = None,
    ) -> Self:
        """Open a machine's folder or a snapshot.

        "memory" shares the folder with other readers and leaves it as it is; "backing" takes it
        for writing and runs in it. `wait_seconds` is how long to wait for the lock (None: no
        end). `reserve` bytes of pages that change are allocated on the disk here, and again when
        the machine goes on after a snapshot: a full disk is then an OSError before anything runs,
        not a BackingFault while it does. What is not used is given back at the seal. `engine` is
        what runs it, if not what its config says; see the attribute.

        Raises MachineLocked; MachineTorn when a writer died in it (`torn="discard"` goes back to
        the last seal); BadImage for anything in the folder that is not as it must be.
        """
        _check_reserve(storage, reserve)
        folder = os.path.abspath(directory)
        mode: LockMode = "exclusive" if storage == "backing" else "shared"
        try:
            lock = wait_lock(folder, mode, wait_seconds)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadImage(folder, "type", "no such folder", "the folder of a machine") from error
        return cls.open_locked(
            folder, lock, storage=storage, torn=torn, reserve=reserve, engine=engine
        )

    @classmethod
    def open_locked(
        cls,
        directory: Path | str,
        lock: Lock,
        *,
        storage: Storage = "memory",
        torn: Literal["refuse", "discard"] = "refuse",
        reserve: int = 0,
        engine: Engine | None = None,
    ) -> Self:
        """Open a folder whose lock the caller holds already; the machine closes it."""
        folder = os.fspath(directory)
        if not folder.startswith("/"):
            folder = os.path.abspath(folder)
        view = open_view(folder, lock, torn, in_place=storage == "backing")
        try:
            record = view.record
            assert record is not None
            store = Store(view, storage, reserve)
            core = _core_of(view, engine)
            machine = cls(view, store, core, reproducible=record.reproducible)
            if reserve:
                try:
                    store.open_top(machine._core)
                except BaseException:
                    store.forget_top()
                    machine.discard()
                    raise
            return machine
        finally:
            view.release()

    # what it is

    @property
    def config(self) -> MachineConfig:
        """Its configuration."""
        return self._view.config

    @property
    def layout(self) -> Layout:
        """Its memory map."""
        return self._view.layout

    @property
    def directory(self) -> Path | None:
        """The folder it was opened from."""
        return self._view.directory

    @property
    def storage(self) -> Storage:
        """Where its changed pages are."""
        return self._store.storage

    @property
    def engine(self) -> Engine:
        """What runs its instructions: "interpreter", "translator", or "auto" (both, as it pays).

        It may be changed between two runs: no state depends on it. Raises BadConfig for
        "translator" where the system refuses executable memory.
        """
        return self._core.engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        with self._turn:
            self._core.engine = engine

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._core.closed

    def __repr__(self) -> str:
        where = self.directory or "memory"
        return f"<Machine {where} {'closed' if self.closed else f'cycle {self.cycle}'}>"

    # requests

    def exchange(
        self,
        end: int,
        request: tuple[bytes, int] | None = None,
        *,
        most_bytes: int = ANYTHING,
        discard: bool = False,
        cpu_end: int = 0,
    ) -> Exchange:
        """Give the guest a request (payload and reason), if any, and run to cycle `end` at most.

        What it says is collected on the way, up to `most_bytes`; a BackingFault comes with it.
        With `discard` the machine is rolled back as soon as the guest has accepted or rejected.
        At `cpu_end`, if not 0, of this thread's CPU clock (`time.thread_time_ns`) it ends as well.
        MachineBusy: it does not wait for a request.
        """
        if request is not None and len(request[0]) > RX_LENGTH:
            raise ValueError(f"a request of {len(request[0])} bytes; the rx buffer has {RX_LENGTH}")
        if self._input:  # it is fed to the UART between parts of a run
            return exchange(self, end, request)
        core = self._core
        with self._turn:
            self._store.open_top(core)
            served = core.serve(end, request, BUFFERS, most_bytes, discard=discard, cpu_end=cpu_end)
            if served is None:
                raise MachineBusy("the guest does not wait for a request: run it to a manual yield")
            if core.console_length:
                self._hear()
        return Exchange(*served)

    def advance(self, payload: bytes, limits: Limits | None = None) -> Outcome:
        """Give the application an input; the machine changes only if the input is accepted."""
        return _serve(self, "advance", payload, limits)

    def inspect(self, payload: bytes, limits: Limits | None = None) -> Outcome:
        """Ask the application a question in a fork; this machine does not change."""
        with self.fork() as copy:
            return _serve(copy, "inspect", payload, limits)

    # copies

    def checkpoint(self) -> None:
        """Remember this state for `rollback`; it replaces the one remembered before.

        From the first one on, what is stored in place (a shared drive) can be undone as well; what
        was there before is kept in memory for it.
        """
        with self._turn:
            self._store.open_top(self._core)
            self._core.checkpoint()
            if not self._can_roll_back:
                self._core.keep_undo()
                self._can_roll_back = True

    def rollback(self) -> None:
        """Return to the state of the last checkpoint, fork or snapshot.

        A machine that stores to a shared drive in place needs to have made a checkpoint before.
        """
        turn = self._turn
        if not turn.acquire(False):
            raise turn.refusal()
        try:
            if not self._in_place:
                self._core.rollback()
            elif self._can_roll_back:
                self._core.rollback_in_place()
            else:
                raise MachineBusy("its shared drive cannot go back: call checkpoint before it runs")
            self._console.clear()
            self._input.clear()
        finally:
            turn.release()

    def fork(self) -> Self:
        """Return an independent copy in memory; it shares all pages until one of the two writes.

        Where a shared drive is stored to in place, the copy is made through a snapshot in a folder
        that is there as long as the copy: its drive is a reflink, or a copy, beside the original.
        """
        if self._in_place:
            return self._fork_through_files()
        with self._turn:
            core = Core(self._core.seal(), self._core.engine)
            store = self._store.fork()
            known = self._state_hash and self._state_hash.fork(core)
        copy = type(self)(self._view, store, core, reproducible=self.reproducible)
        copy._state_hash = known  # noqa: SLF001 - one of us
        if self._input:
            copy.console_input(bytes(self._input))
        return copy

    def _fork_through_files(self) -> Self:
        with self._turn:
            beside = self.directory or self._view.flats[0].lock.path
            place = beside.with_name(temporary_name(beside.name))
            self._store.snapshot(self._core, place, reproducible=self.reproducible, durable=False)
        try:
            copy = type(self).open(place, engine=self.engine)
        except BaseException:
            remove(place)
            raise
        copy._view.temporary = place  # noqa: SLF001 - one of us
        if self._input:
            copy.console_input(bytes(self._input))
        return copy

    def digest(self) -> str:
        """Hash the whole state: registers, devices and every page that is not all zeros (BLAKE2b).

        Two machines with the same digest behave the same from here on.
        """
        with self._turn:
            total = hashlib.blake2b(self._core.state, digest_size=32)
            for number, page in self._core.collect():
                total.update(number.to_bytes(8, "little"))
                total.update(page)
        return total.hexdigest()

    def root_hash(self) -> str:
        """Return the root of a Merkle tree over all memory and the state (see proof.py).

        The first call hashes everything, later ones what changed. Raises BackingFault.
        """
        with self._turn:
            return self._hashed().root.hex()

    def proof(self, address: int, log2_size: int) -> Proof:
        """Prove to whoever knows the root hash what 2**log2_size bytes of memory are.

        `address` is a multiple of that size, which is 8 bytes or more; see `Proof.verify`.
        """
        with self._turn:
            tree = self._hashed()
            page = None
            if log2_size < PAGE_LOG2_SIZE:
                found = self._core.read(address & -PAGE_BYTES, PAGE_BYTES, virtual=False)
                page = None if isinstance(found, int) else found
            return tree.proof(address, log2_size, page)

    def _hashed(self) -> Tree:
        if self._state_hash is None:
            self._state_hash = StateHash(self._core)
        return self._state_hash.refresh()

    def snapshot(self, directory: Path | str, *, durable: bool = False) -> SnapshotResult:
        """Publish the machine's state as a new folder, whole or not at all, and go on running.

        With `durable` it survives a power failure; else, like any file, when the page cache is
        written back. Raises FolderExists, BackingFault and OSError (a full disk).
        """
        with self._turn:
            return self._store.snapshot(
                self._core, directory, reproducible=self.reproducible, durable=durable
            )

    def close(self, *, durable: bool = False) -> None:
        """End it; a backing machine first seals its pages in its folder. Twice is fine.

        With `durable` they survive a power failure. When sealing fails (OSError: a full disk), the
        machine is as before: close it again when there is room, or `discard` it.
        """
        if self.closed:
            return
        with self._turn.lock:
            if self._core.closed:  # by another thread, while this one waited
                return
            try:
                self._store.close(self._core, reproducible=self.reproducible, durable=durable)
            except OSError as error:
                locate(error, self.directory or "")
                raise
            self._core.close()
            self._store.discard()
            self._view.release()

    def discard(self) -> None:
        """End it without sealing; what a backing machine did since its last seal is lost.

        Its folder is torn then, as if the process had been killed. Twice is fine.
        """
        if self.closed:
            return
        with self._turn.lock:
            if self._core.closed:
                return
            self._core.close()
            self._store.discard()
            self._view.release()

    def leave_to_parent(self) -> None:
        """Refuse all service from now on, with MachineForked: this is a forked child."""
        self._core.leave()
        self._turn.bar()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        except BaseException:
            self.discard()
            raise

    def __del__(self) -> None:
        if getattr(self, "_turn", None) is not None and not self.closed:
            self._core.close()
            self._view.release()


def _serve(machine: Machine, kind: RequestKind, payload: bytes, limits: Limits | None) -> Outcome:
    request = Request(machine, kind, payload, limits)
    while not request.step(STEP_CYCLES)[1]:
        pass
    return request.outcome


def _core_of(view: View, engine: Engine | None) -> Core:
    """Make a machine in the view's state; what its config wishes for need not be possible here."""
    core = Core(view.layer, "interpreter")  # no block of the board's is counted for its sake
    if engine is not None:
        core.engine = engine
        return core
    try:
        core.engine = view.config.engine
    except BadConfig:
        core.engine = "auto"
    return core


def _check_reserve(storage: Storage, reserve: int) -> None:
    if reserve < 0 or (reserve and storage != "backing"):
        wanted = "bytes of a machine that runs in its folder (storage='backing')"
        raise BadConfig("reserve", reserve, wanted)
