"""The only module that speaks to the C core: numbers and pointers in, our values and errors out."""

from __future__ import annotations

import struct
from array import array
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestra.errors import BackingFault, BadConfig, MachineClosed, MachineForked
from orchestra.io import map_executable
from orchestra.io.fault import Guard, as_error

from ._native import ffi, lib
from .stop import (
    ConsoleOutput,
    Halted,
    Idle,
    Interrupted,
    ReachedCycle,
    Stop,
    Yielded,
    YieldKind,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .config import Engine

__all__ = [
    "CONSOLE_BYTES",
    "PAGE_BYTES",
    "STATE_BYTES",
    "Board",
    "Commit",
    "Core",
    "Layer",
    "disassemble",
]

PAGE_BYTES = 4096
STATE_BYTES = ffi.sizeof("state")
FOREVER = (1 << 64) - 1
NOT_WATCHED = FOREVER
ZERO_PAGE = 1 << 63  # in an index of pages: all zeros, and nothing stored
DEAD_SLOT = FOREVER  # in an index of pages: nothing of interest
COLLECT_PAGES = 256
FEW_PAGES = 64  # that are asked for at first
CONSOLE_BYTES = 1 << 20  # of output the core holds before it must be taken
DEVICES = {"uart": 1, "htif": 2, "syscon": 4, "cmio": 8}
READ, WRITE, EXECUTE, GUEST = 1, 2, 4, 8
SHARED_EXTENT = 1
BLOCK, RANDOM = 1, 2
STOP_CYCLE = 3
CODE_BYTES = 64 << 20  # of translations, for all machines of the process
# how often a block is interpreted before it is translated; 0: always
WARMTH: dict[Engine, int] = {"auto": 16, "interpreter": 0, "translator": 1}

ABI_NAMES = [
    "zero",
    "ra",
    "sp",
    "gp",
    "tp",
    "t0",
    "t1",
    "t2",
    "s0",
    "s1",
    "a0",
    "a1",
    "a2",
    "a3",
    "a4",
    "a5",
    "a6",
    "a7",
    "s2",
    "s3",
    "s4",
    "s5",
    "s6",
    "s7",
    "s8",
    "s9",
    "s10",
    "s11",
    "t3",
    "t4",
    "t5",
    "t6",
]
FLOAT_NAMES = [
    "ft0",
    "ft1",
    "ft2",
    "ft3",
    "ft4",
    "ft5",
    "ft6",
    "ft7",
    "fs0",
    "fs1",
    "fa0",
    "fa1",
    "fa2",
    "fa3",
    "fa4",
    "fa5",
    "fa6",
    "fa7",
    "fs2",
    "fs3",
    "fs4",
    "fs5",
    "fs6",
    "fs7",
    "fs8",
    "fs9",
    "fs10",
    "fs11",
    "ft8",
    "ft9",
    "ft10",
    "ft11",
]


def _register_numbers() -> dict[str, int]:
    numbers = {f"x{index}": index for index in range(32)}
    numbers |= {name: index for index, name in enumerate(ABI_NAMES)}
    numbers |= {"fp": 8} | {f"f{index}": 32 + index for index in range(32)}
    numbers |= {name: 32 + index for index, name in enumerate(FLOAT_NAMES)}
    numbers |= {"pc": 64, "privilege": 65}
    for number in range(0x1000):
        name = lib.machine_csr_name(number)
        if name != ffi.NULL:
            numbers[ffi.string(name).decode()] = 0x1000 + number
    return numbers


REGISTERS = _register_numbers()
_new_room = ffi.new_allocator(should_clear_after_alloc=False)

_FUNCTIONS = {
    name: int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))
    for name in (
        "machine_run",
        "machine_trace",
        "machine_seal",
        "machine_adopt",
        "machine_access",
        "machine_serve",
        "machine_rollback",
        "machine_collect_pages",
        "machine_gather_pages",
        "machine_gather_delta",
    )
}
_RUN, _SERVE = _FUNCTIONS["machine_run"], _FUNCTIONS["machine_serve"]


@cache
def _decoder(extensions: int) -> Any:
    """Return the decoder of an instruction set; it never changes and is as good as a constant."""
    return ffi.gc(_need(lib.decoder_new(extensions)), lib.decoder_free)


def _extension_bits(names: Iterable[str]) -> int:
    bits = {name: int(lib.extension_bit(name.encode())) for name in names}
    assert all(bits.values()), bits
    return sum(bits.values())


@cache
def _code_cache() -> Any:
    memory = map_executable(CODE_BYTES)
    if memory is None:
        return ffi.NULL
    notes = ffi.cast("void *", memory.notes)
    return lib.codecache_start(notes, memory.writable, memory.executable, memory.length)


def _need(pointer: Any) -> Any:
    if pointer == ffi.NULL or pointer is False:
        raise MemoryError("the host is out of memory")
    return pointer


def _words(numbers: Sequence[int]) -> Any:
    """Give 64-bit numbers to C: where they are, if they are an array."""
    return ffi.from_buffer("uint64_t[]", numbers) if isinstance(numbers, array) else numbers


def first_outside(entries: array[int], bounds: Sequence[int]) -> int | None:
    """Return the first entry of an index that is in no range of pages; see DeltaLook."""
    count, slots = len(entries), ffi.new("uint64_t *")
    bad = lib.index_check(_words(entries), count, _words(bounds), len(bounds) // 2, slots)
    return None if bad == count else entries[bad]


FLAWS = (  # as machine.h has them
    *("", "short", "magic", "version", "own sum", "units", "sums", "length", "known sum"),
    *("state", "index", "slots"),
)


class DeltaLooks:
    """What is wrong with some deltas, by their first pages, which io.map_layers gives to `check`.

    `bounds` are the first page and the end of each range of memory, in turn.
    """

    check: int = int(ffi.cast("uintptr_t", ffi.addressof(lib, "delta_open_one")))

    def __init__(self, count: int, bounds: Sequence[int]) -> None:
        self._looks = ffi.new("delta_look[]", count)
        self._bounds = ffi.from_buffer("uint64_t[]", array("Q", bounds))
        self._call = ffi.new("delta_looks *", (self._looks, self._bounds, len(bounds) // 2))
        self.context = int(ffi.cast("uintptr_t", self._call))

    def __getitem__(self, number: int) -> DeltaLook:
        """Tell of one of them."""
        return DeltaLook(self, self._looks + number)

    def check_known(self, look: Any, known: bytes) -> None:
        """Verify state and index of one in whose first page they do not stand."""
        lib.delta_check(look, known, self._bounds, self._call.ranges)


class DeltaLook:
    """What is wrong with one delta, and its state."""

    __slots__ = ("_all", "_look")

    def __init__(self, looks: DeltaLooks, look: Any) -> None:
        self._all, self._look = looks, look

    def check(self, known: bytes) -> None:
        """Verify state and index, which do not stand in the first page (`fits`)."""
        self._all.check_known(self._look, known)

    @property
    def flaw(self) -> str:
        """What is wrong; empty when nothing is."""
        return FLAWS[self._look.flaw]

    @property
    def found(self) -> int:
        """Say what was found instead of what the header says."""
        return int(self._look.found)

    @property
    def state_field(self) -> str:
        """Name the field of the state that is wrong, if that is what is."""
        field = self._look.field
        return "" if field == ffi.NULL else str(ffi.string(field).decode())

    @property
    def pointer(self) -> Any:
        """Where its state is."""
        return ffi.cast("uint8_t *", ffi.addressof(self._look, "state"))

    @property
    def cycle(self) -> int:
        """The cycle that its state stands at."""
        return int(self._look.header.cycle)

    @property
    def state(self) -> bytes:
        """Its state, whole."""
        return bytes(ffi.buffer(ffi.addressof(self._look, "state")))

    @property
    def fits(self) -> bool:
        """Whether page 0 has all but the pages."""
        return bool(self._look.fits)


def delta_head(
    pages: Sequence[int], slots: int, state: bytes, sums: bytes | None
) -> tuple[bytes, bytes]:
    """Make page 0 of a delta, and what stands behind the last slot when it does not fit there."""
    page = bytearray(PAGE_BYTES)
    rest = _new_room("uint8_t[]", STATE_BYTES + 8 * len(pages) + 4 * slots)
    index = pages if isinstance(pages, array) else array("Q", pages)
    length = lib.delta_head(
        ffi.from_buffer("state *", state),
        *(_words(index), len(index), slots),
        ffi.NULL if sums is None else ffi.from_buffer("uint32_t[]", sums),
        *(ffi.from_buffer("uint8_t[]", page), rest),
    )
    return bytes(page), ffi.buffer(rest, length)[:]


def checksum(data: bytes) -> int:
    """Make the CRC-32C of some bytes."""
    return int(lib.checksum(data, len(data)))


class Board:
    """What machines of one kind share: memory map, devices, mapped images, decoded code."""

    def __init__(
        self,
        *,
        cycles_per_tick: int,
        devices: Iterable[str],
        extensions: Iterable[str] = (),
        watched: int | None = None,
        watched_fromhost: int | None = None,
    ) -> None:
        bits = sum(DEVICES[name] for name in devices)
        self.pointer = _need(
            lib.board_new(
                _decoder(_extension_bits(extensions)),
                cycles_per_tick,
                bits,
                NOT_WATCHED if watched is None else watched,
                NOT_WATCHED if watched_fromhost is None else watched_fromhost,
            )
        )
        lib.board_set_cache(self.pointer, _code_cache())

    @classmethod
    def like(cls, other: Board) -> Board:
        """Make a board with the memory and devices of another, and no extents."""
        board: Board = object.__new__(cls)
        board.pointer = _need(lib.board_like(other.pointer))
        lib.board_set_cache(board.pointer, _code_cache())  # this process's
        return board

    def add_range(self, start: int, length: int, flags: int) -> None:
        """Declare memory; ranges come in ascending order, before the first machine."""
        _need(lib.board_add_range(self.pointer, start, length, flags))

    def add_extent(self, start: int, length: int, host: int, flags: int = 0) -> None:
        """Say where a run of pages is mapped; extents come in ascending order."""
        _need(lib.board_add_extent(self.pointer, start, length, host, flags))

    def set_virtio(
        self, slot: int, kind: int, start: int, length: int, *, read_only: bool, seed: int
    ) -> None:
        """Fill a virtio slot."""
        lib.board_set_virtio(self.pointer, slot, kind, start, length, read_only, seed)

    def reset_state(self, pc: int, device_tree: int) -> bytes:
        """Return the state of a machine at reset."""
        state = ffi.new("state *")
        lib.state_reset(state, self.pointer, pc, device_tree)
        return bytes(ffi.buffer(state))

    def __del__(self) -> None:
        if getattr(self, "pointer", None) is not None:
            lib.board_release(self.pointer)


def page_checksums(data: bytes | bytearray | memoryview, *, by_hand: bool = False) -> bytes:
    """Make the CRC-32C of each page of some that are one after the other, 4 bytes a page.

    `by_hand` does it as on a processor that has no instruction for it. Source: RFC 3720.
    """
    count = len(data) // PAGE_BYTES
    sums = ffi.new("uint32_t[]", count)
    lib.page_checksums(ffi.from_buffer("uint8_t[]", data), count, sums, by_hand)
    return bytes(ffi.buffer(sums))


def state_cycle(state: bytes) -> int:
    """Return the cycle a stored state stands at."""
    return int(ffi.from_buffer("state *", state).cycle)


class Layer:
    """An immutable memory and the state that goes with it; machines are made on one."""

    def __init__(self, pointer: Any) -> None:
        self.pointer = pointer

    @classmethod
    def build(cls, board: Board, parent: Layer | None, state: bytes | DeltaLook) -> Layer:
        """Start a layer on `parent` that holds `state`."""
        below = ffi.NULL if parent is None else parent.pointer
        source = state.pointer if isinstance(state, DeltaLook) else state
        return cls(_need(lib.layer_new(board.pointer, below, source)))

    def add_pages(self, pages: Sequence[int] | memoryview, host: int) -> None:
        """Put pages into it: page number n of the list is at host + 4096 n (see ZERO_PAGE)."""
        entries = pages if isinstance(pages, array) else array("Q", pages)
        numbers = ffi.from_buffer("uint64_t[]", entries)
        _need(lib.layer_add_pages(self.pointer, numbers, host, len(entries)))

    def set_stored(self) -> None:
        """Say that all of it, and below it, is in files."""
        lib.layer_set_stored(self.pointer)

    @property
    def state(self) -> bytes:
        """The state that goes with it."""
        return bytes(ffi.buffer(lib.layer_state(self.pointer)))

    def __del__(self) -> None:
        if getattr(self, "pointer", None) is not None:
            lib.layer_release(self.pointer)


class Commit(NamedTuple):
    """One executed instruction of a trace, field by field as the core has it."""

    pc: int
    address: int  # of the memory access
    stored: int
    value: int  # of the destination register
    raw: int
    privilege: int
    memory: int  # 0 none, 1 load, 2 store
    size: int  # bytes of the access
    rd: int
    destination: int  # 0 none, 1 x, 2 f
    trapped: int
    csr: int  # number of the CSR written, or 0
    csr_value: int
    behind: int  # of the M-mode register that sstatus, sie or sip shows
    mstatus: int  # its value, if it changed by itself
    fflags: int  # before the instruction
    fflags_raised: int


COMMIT = struct.Struct("<4QI6BH4x3Q2I")
assert COMMIT.size == ffi.sizeof("commit")


def _commits(array: Any, count: int) -> list[Commit]:
    data = bytes(ffi.buffer(array, count * COMMIT.size))
    return [Commit._make(fields) for fields in COMMIT.iter_unpack(data)]


SAID = struct.Struct("<QII")
SAID_BYTES = 4096  # of what a guest says, between two looks
PROGRESS = 1
ANYTHING = FOREVER


class Served(NamedTuple):
    """What one call brought: why it ended, what the guest said, whether it was rolled back."""

    stop: Stop
    said: list[tuple[int, int, bytes | int]]  # cycle, reason, what: per mille of a progress
    discarded: bool
    fault: BackingFault | None  # that ended it


class Core:
    """A machine as the core has it; every method may raise MachineClosed."""

    def __init__(self, layer: Layer, engine: Engine = "auto") -> None:
        self._pointer = _need(lib.machine_new(layer.pointer))
        self.engine = engine
        self._state_of = lib.machine_state(self._pointer)
        self._run_call = ffi.new("run_call *", {"machine": self._pointer})
        self._run_address = int(ffi.cast("uintptr_t", self._run_call))
        self._guard = Guard()
        self._forked = False
        self._serve_call: Any = None  # most machines serve nobody

    @property
    def engine(self) -> Engine:
        """What runs the guest's instructions; no guest can tell."""
        return self._engine

    @engine.setter
    def engine(self, engine: Engine) -> None:
        if engine not in WARMTH:
            raise BadConfig("engine", engine, "one of " + ", ".join(WARMTH))
        possible = lib.machine_translate(self.pointer, WARMTH[engine])
        if engine == "translator" and not possible:
            raise BadConfig("engine", engine, '"auto": this system lets nobody make code to run')
        self._engine = engine

    @property
    def pointer(self) -> Any:
        """The C machine."""
        if self._pointer is None:
            raise self.gone()
        return self._pointer

    def leave(self) -> None:
        """Forget the C machine, not free it: its memory went with the parent of this process."""
        self._pointer, self._forked = None, True

    def gone(self) -> Exception:
        """Say why there is no machine any more."""
        if not self._forked:
            return MachineClosed("this machine is closed")
        return MachineForked(
            "this machine runs in files that belong to the process this one was forked from; open "
            "it here, or make processes by multiprocessing's spawn"
        )

    @property
    def closed(self) -> bool:
        """Whether it was freed."""
        return self._pointer is None

    def close(self) -> None:
        """Free it; closing twice is fine."""
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            lib.machine_free(pointer)

    def _call(self, name: str, call: Any) -> None:
        fault = self._guard(_FUNCTIONS[name], int(ffi.cast("uintptr_t", call)))
        if fault is not None:
            lib.machine_unwind(self.pointer, ffi.NULL)
            raise as_error(fault)

    def _unwind_run(self) -> None:
        """Put the machine before the access that faulted while it ran."""
        lib.machine_unwind(self._pointer, ffi.cast("const uint64_t *", self._guard.registers))

    # running

    def run(self, until: int, cycles: int, console_bytes: int) -> Stop:
        """Run to cycle `until`, for at most so many cycles, or to the next stop.

        ConsoleOutput when so much of it waits; `run_on` then goes on to the same end.
        """
        if self._pointer is None:
            raise self.gone()
        call = self._run_call
        call.until, call.cycles, call.console_bytes = until, cycles, console_bytes
        fault = self._guard(_RUN, self._run_address)
        if fault is not None:
            self._unwind_run()
            raise as_error(fault)
        state = self._state_of
        if call.stop == STOP_CYCLE:  # the most frequent
            return ReachedCycle(state.cycle)
        return _stop(call.stop, state.cycle, state.stop_data)

    def run_on(self) -> Stop:
        """Run on after output of the console was taken."""
        call = self._run_call
        return self.run(call.until, FOREVER, call.console_bytes)

    def serve(
        self,
        until: int,
        request: tuple[bytes, int] | None,
        buffers: tuple[int, int],
        most: int,
        *,
        discard: bool,
    ) -> Served | None:
        """Give a request (payload, reason), if there is one, and run until the host must look.

        None: the guest waits for no request. With `discard` a machine whose guest accepted or
        rejected is rolled back.
        """
        if self._pointer is None:
            raise self.gone()
        call = self._serve_call
        if call is None:
            rx, tx = buffers
            call = self._serve_call = ffi.new(
                "serve_call *", {"machine": self._pointer, "rx": rx, "tx": tx}
            )
            call.capacity, call.console_bytes = SAID_BYTES, CONSOLE_BYTES
            self._serve_address = int(ffi.cast("uintptr_t", call))
            self._said = bytearray(SAID_BYTES)
            call.said = ffi.cast("uint8_t *", ffi.from_buffer(self._said))
        call.until, call.most, call.discard = until, most, discard
        call.fresh = request is not None
        if request is not None:
            payload, reason = request
            call.payload = ffi.from_buffer("uint8_t[]", payload)  # alive until we return
            call.fromhost = reason << 32 | len(payload)
        fault = self._guard(_SERVE, self._serve_address)
        if fault is not None:
            self._unwind_run()
        if call.refused:
            return None
        said = self._what_was_said(call.used) if call.used else []
        if fault is not None:
            error = as_error(fault)
            return Served(ReachedCycle(self.cycle), said, discarded=False, fault=error)
        self._run_call.console_length = call.console_length
        return Served(
            _stop(call.stop, call.cycle, call.stop_data), said, call.discarded, fault=None
        )

    def _what_was_said(self, used: int) -> list[tuple[int, int, bytes | int]]:
        said: list[tuple[int, int, bytes | int]] = []
        at, data = 0, self._said
        while at < used:
            cycle, reason, value = SAID.unpack_from(data, at)
            at += SAID.size
            if reason == PROGRESS:
                said.append((cycle, reason, value))
            else:
                said.append((cycle, reason, bytes(data[at : at + value])))
                at += -(-value // 8) * 8
        return said

    @property
    def console_length(self) -> int:
        """How much output waited when the last run ended."""
        return int(self._run_call.console_length)

    def trace(self, until: int, capacity: int = 4096) -> Iterator[list[Commit]]:
        """Run instruction by instruction to `until` or the next stop; yield what `capacity` did."""
        commits = ffi.new("commit[]", capacity)
        call = ffi.new(
            "trace_call *",
            {"machine": self.pointer, "until": until, "commits": commits, "capacity": capacity},
        )
        stop: Stop | None = None
        while stop is None or (isinstance(stop, ReachedCycle) and stop.cycle < until):
            call.machine, call.count = self.pointer, 0
            try:
                self._call("machine_trace", call)
            except BackingFault:
                yield _commits(commits, call.count)  # those happened
                raise
            yield _commits(commits, call.count)
            stop = _stop(call.stop, self._state_of.cycle, self._state_of.stop_data)

    def interrupt(self) -> None:
        """Make the run in progress, or the next one, return; callable from any thread."""
        lib.machine_interrupt(self.pointer)

    def clear_interrupt(self) -> None:
        """Forget an interrupt that nobody has met yet."""
        lib.machine_clear_interrupt(self.pointer)

    @property
    def _state(self) -> Any:
        if self._pointer is None:
            raise self.gone()
        return self._state_of

    @property
    def cycle(self) -> int:
        """The machine's clock."""
        return int(self._state.cycle)

    @property
    def yielded(self) -> bool:
        """Whether the guest waits for a response."""
        return bool(self._state.yielded)

    @property
    def yield_length(self) -> int:
        """How many bytes the last yield left in the tx buffer."""
        return int(self._state.stop_data) & 0xFFFFFFFF

    @property
    def state(self) -> bytes:
        """All of the machine except its memory."""
        return bytes(ffi.buffer(self._state))

    def answer(self, fromhost: int) -> bool:
        """Let a machine that waits at a manual yield go on; False when it does not wait."""
        return bool(lib.machine_answer(self.pointer, fromhost))

    # registers

    def register(self, number: int) -> int:
        """Read a register by the core's number."""
        value = ffi.new("uint64_t *")
        if not lib.machine_register(self.pointer, number, value):
            raise KeyError(number)
        return int(value[0])

    def set_register(self, number: int, value: int) -> bool:
        """Write a register; False when it cannot have that value."""
        return bool(lib.machine_set_register(self.pointer, number, value))

    # memory

    def read(self, address: int, length: int, *, virtual: bool) -> bytes | int:
        """Copy guest memory; the first bad address instead when it is not all memory."""
        data = bytearray(length)
        failure = self._access(address, ffi.from_buffer(data), length, virtual=virtual, write=False)
        return bytes(data) if failure is None else failure

    def write(self, address: int, data: bytes, *, virtual: bool) -> int | None:
        """Change guest memory; returns the first bad address, if there is one."""
        source = ffi.cast("uint8_t *", ffi.from_buffer(data))
        return self._access(address, source, len(data), virtual=virtual, write=True)

    def _access(
        self, address: int, data: Any, length: int, *, virtual: bool, write: bool
    ) -> int | None:
        call = ffi.new("access_call *")
        call.machine, call.address, call.length = self.pointer, address, length
        call.data = ffi.cast("uint8_t *", data)
        call.write, call.virtual_address = write, virtual
        self._call("machine_access", call)
        return None if call.done else int(call.failure)

    def collect(self) -> Iterable[tuple[int, memoryview]]:
        """Yield every page that is not all zeros as (number, bytes), in order of address.

        The bytes are valid until the next one is asked for.
        """
        pages = ffi.new("uint64_t[]", COLLECT_PAGES)
        data = bytearray(COLLECT_PAGES * PAGE_BYTES)
        view = memoryview(data)
        call = ffi.new("collect_call *")
        call.machine, call.capacity = self.pointer, COLLECT_PAGES
        call.pages, call.bytes = pages, ffi.cast("uint8_t *", ffi.from_buffer(data))
        while True:
            self._call("machine_collect_pages", call)
            for index in range(call.count):
                yield pages[index], view[index * PAGE_BYTES : (index + 1) * PAGE_BYTES]
            if call.count < COLLECT_PAGES:
                return

    def unstored(self) -> list[int]:
        """List the pages that differ from the newest stored layer."""
        room = FEW_PAGES
        while True:
            pages = ffi.new("uint64_t[]", room)
            count = lib.machine_unstored(self.pointer, pages, room)
            if count <= room:
                return ffi.unpack(pages, count) if count else []
            room = count

    def take_changed(self) -> set[int] | None:
        """Take the pages that may have changed since the last call; None: any may (the first time).

        Shared ranges, which are written in place, are not among them.
        """
        count = lib.machine_take_changed(self.pointer, ffi.NULL, 0)
        if count == FOREVER:
            return None
        pages = ffi.new("uint64_t[]", count)
        lib.machine_take_changed(self.pointer, pages, count)
        return set(ffi.unpack(pages, count)) if count else set()

    def gather(self, pages: Iterable[int]) -> tuple[array[int], bytearray]:
        """Copy whole pages together; those of zeros are left out, and marked as ZERO_PAGE."""
        index = array("Q", pages)
        data = bytearray(len(index) * PAGE_BYTES)
        call = ffi.new("gather_call *")
        numbers, room = ffi.from_buffer("uint64_t[]", index), ffi.from_buffer("uint8_t[]", data)
        call.machine, call.pages, call.count, call.bytes = (
            *(self.pointer, numbers, len(index)),
            room,
        )
        if index:
            self._call("machine_gather_pages", call)
        ffi.release(room)
        if call.written < len(data):
            del data[call.written :]
        return index, data

    def gather_delta(self, pages: Iterable[int]) -> tuple[array[int], Sequence[bytearray]]:
        """Make a delta of these pages and the state: its index, and the parts of its file."""
        index, page = array("Q", pages), bytearray(PAGE_BYTES)
        count = len(index)
        data, rest = bytearray(count * PAGE_BYTES), bytearray(STATE_BYTES + 12 * count)
        views = [ffi.from_buffer("uint8_t[]", part) for part in (data, page, rest)]
        call = ffi.new("gather_call *")
        call.machine, call.count = self.pointer, count
        call.pages = ffi.from_buffer("uint64_t[]", index)
        call.bytes, call.page, call.rest = views
        sums = _new_room("uint32_t[]", count)
        call.sums = sums
        self._call("machine_gather_delta", call)
        for view in views:
            ffi.release(view)
        if call.written < len(data):
            del data[call.written :]
        del rest[call.rest_length :]
        return index, (page, data, rest)

    def slots(self) -> list[int]:
        """List the page in every slot of the machine's own arena; DEAD_SLOT where superseded."""
        count = lib.machine_slots(self.pointer, ffi.NULL, 0)
        pages = ffi.new("uint64_t[]", count)
        lib.machine_slots(self.pointer, pages, count)
        return ffi.unpack(pages, count) if count else []

    def seal(self) -> Layer:
        """Make what the machine is now an immutable layer that others can start from."""
        return Layer(lib.layer_hold(self._seal(stored=False)))

    def checkpoint(self) -> None:
        """Make what the machine is now the state it can be rolled back to."""
        self._seal(stored=False)

    def mark_stored(self) -> None:
        """Do the same, knowing that all of it is in files; let go of layers that hold nothing."""
        self._seal(stored=True)
        lib.machine_collapse(self.pointer)

    def _seal(self, *, stored: bool) -> Any:
        call = ffi.new("seal_call *", {"machine": self.pointer, "stored": stored})
        self._call("machine_seal", call)
        return _need(call.layer)

    def adopt(self, pages: Sequence[int]) -> None:
        """Copy these pages into the machine's own, if they are not there yet."""
        array = ffi.new("uint64_t[]", pages)
        call = ffi.new("adopt_call *")
        call.machine, call.pages, call.count = self.pointer, array, len(pages)
        self._call("machine_adopt", call)
        _need(call.done)

    def rollback(self) -> None:
        """Go back to the layer that was sealed last."""
        lib.machine_rollback(self.pointer)
        self._run_call.console_length = 0

    def keep_undo(self) -> None:
        """Be able from now on, right after a seal, to undo what is stored in place."""
        lib.machine_keep_undo(self.pointer)

    def rollback_in_place(self) -> None:
        """Go back to the layer that was sealed last, where there is memory that is in place."""
        self._call("machine_rollback", self.pointer)
        self._run_call.console_length = 0

    def set_arena(self, grow: int, context: int) -> None:
        """Put new pages into the storage behind `grow` from now on; nothing may be unsealed."""
        function = ffi.cast("arena_grow", grow)
        _need(lib.machine_set_arena(self.pointer, function, ffi.cast("void *", context)))

    def uses(self, context: int) -> bool:
        """Whether the storage behind that `context` of a grow function holds any of its layers."""
        return bool(lib.machine_uses(self.pointer, ffi.cast("void *", context)))

    def cool(self) -> None:
        """Free the caches of a machine that will not run for a while."""
        lib.machine_cool(self.pointer)

    # console

    def console_output(self) -> bytes:
        """Take what the guest printed."""
        length = lib.machine_console_length(self.pointer)
        if not length:
            return b""
        data = bytearray(length)
        lib.machine_console_output(self.pointer, ffi.from_buffer(data), length)
        return bytes(data)

    def console_input(self, data: bytes) -> int:
        """Offer input to the UART; returns how many bytes it had room for."""
        return int(lib.machine_console_input(self.pointer, data, len(data)))


def _stop(stop: int, cycle: int, data: int) -> Stop:
    if stop == STOP_CYCLE:  # the most frequent
        return ReachedCycle(cycle)
    match stop:
        case 1:
            return Halted(cycle, data)
        case 2:
            kind: YieldKind = "manual" if data >> 56 else "automatic"
            return Yielded(cycle, kind, data >> 32 & 0xFFFF, data & 0xFFFFFFFF)
        case 4:
            return Interrupted(cycle)
        case 5:
            return Idle(cycle)
        case 6:
            return ConsoleOutput(cycle)
    raise MemoryError(f"no memory for the pages of the machine at cycle {cycle}")


def disassemble(board: Board, raw: int, pc: int) -> str:
    """Write one instruction as an assembler would."""
    text = ffi.new("char[]", 96)
    lib.disassemble(board.pointer, raw, pc, text, 96)
    return str(ffi.string(text).decode())


def instructions(extensions: Iterable[str] = ()) -> list[tuple[str, str, int, int]]:
    """List the instructions of RV64GC and these extensions: name, operands, match, mask."""
    table, index, bits = [], -1, _extension_bits(extensions)
    while (name := lib.instruction_name(index := index + 1)) != ffi.NULL:
        if lib.instruction_extension(index) & ~bits:
            continue
        operands = ffi.string(lib.instruction_operands(index)).decode()
        match, mask = lib.instruction_match(index), lib.instruction_mask(index)
        table.append((ffi.string(name).decode().replace("_", "."), operands, match, mask))
    return table
