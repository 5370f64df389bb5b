"""A machine as something that runs: until when, why it stopped, what it said, its registers."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestra.errors import BackingFault, BadConfig, MachineClosed, MachineForked
from orchestra.io import CLOCK_FUNCTION
from orchestra.io.fault import Guard, as_error
from orchestra.machine._native import ffi, lib
from orchestra.machine.stop import (
    ConsoleOutput,
    Halted,
    Idle,
    Interrupted,
    ReachedCycle,
    Stop,
    Yielded,
    YieldKind,
)

from .border import FOREVER, need
from .commit import commits_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestra.machine.config import Engine

    from .commit import Commit
    from .layer import Layer

__all__ = ["ANYTHING", "CONSOLE_BYTES", "Running", "Served"]

CONSOLE_BYTES = 1 << 20  # of output the core holds before it must be taken
STOP_CYCLE = 3
# how often a block is interpreted before it is translated; 0: always
WARMTH: dict[Engine, int] = {"auto": 16, "interpreter": 0, "translator": 1}
SAID = struct.Struct("<QII")
SAID_BYTES = 4096  # of what a guest says, between two looks
PROGRESS = 1
ANYTHING = FOREVER

FUNCTIONS = {
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
        "machine_hash_pages",
        "machine_hash_all",
        "machine_gather_delta",
    )
}
_CLOCK = ffi.cast("host_clock", CLOCK_FUNCTION)
_RUN, _SERVE = FUNCTIONS["machine_run"], FUNCTIONS["machine_serve"]


class Served(NamedTuple):
    """What one call brought: why it ended, what the guest said, whether it was rolled back."""

    stop: Stop
    said: list[tuple[int, int, bytes | int]]  # cycle, reason, what: per mille of a progress
    discarded: bool
    fault: BackingFault | None  # that ended it


class Running:
    """A machine as something that runs; every method may raise MachineClosed."""

    def __init__(self, layer: Layer, engine: Engine = "auto") -> None:
        self._pointer = need(lib.machine_new(layer.pointer))
        self.engine = engine
        self._state_of = lib.machine_state(self._pointer)
        self._run_call = ffi.new("run_call *", {"machine": self._pointer, "clock": _CLOCK})
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
        fault = self._guard(FUNCTIONS[name], int(ffi.cast("uintptr_t", call)))
        if fault is not None:
            lib.machine_unwind(self.pointer, ffi.NULL)
            raise as_error(fault)

    def _unwind_run(self) -> None:
        """Put the machine before the access that faulted while it ran."""
        lib.machine_unwind(self._pointer, ffi.cast("const uint64_t *", self._guard.registers))

    # running

    def run(self, until: int, cycles: int, console_bytes: int, cpu_end: int = 0) -> Stop:
        """Run to cycle `until`, for at most so many cycles, or to the next stop.

        ConsoleOutput when so much of it waits; `run_on` then goes on to the same end. ReachedCycle
        before that end when this thread has used `cpu_end` nanoseconds (`time.thread_time_ns`), if
        that is not 0.
        """
        if self._pointer is None:
            raise self.gone()
        call = self._run_call
        call.until, call.cycles, call.console_bytes = until, cycles, console_bytes
        call.cpu_end = cpu_end
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
        return self.run(call.until, FOREVER, call.console_bytes, call.cpu_end)

    def serve(
        self,
        until: int,
        request: tuple[bytes, int] | None,
        buffers: tuple[int, int],
        most: int,
        *,
        discard: bool,
        cpu_end: int = 0,
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
                "serve_call *", {"machine": self._pointer, "rx": rx, "tx": tx, "clock": _CLOCK}
            )
            call.capacity, call.console_bytes = SAID_BYTES, CONSOLE_BYTES
            self._serve_address = int(ffi.cast("uintptr_t", call))
            self._said = bytearray(SAID_BYTES)
            call.said = ffi.cast("uint8_t *", ffi.from_buffer(self._said))
        call.until, call.most, call.discard = until, most, discard
        call.fresh, call.cpu_end = request is not None, cpu_end
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
                yield commits_of(commits, call.count)  # those happened
                raise
            yield commits_of(commits, call.count)
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
