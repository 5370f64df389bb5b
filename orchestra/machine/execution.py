"""A machine as it executes: its registers, memory and console, runs and requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.errors import GuestError, MachineBusy

from ._core import CONSOLE_BYTES, FOREVER
from .layout import RX_LENGTH, RX_START, TX_LENGTH, TX_START
from .registers import Registers
from .stop import ConsoleOutput, ReachedCycle
from .turn import Turn, cpu_after

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._core import Core
    from .stop import Stop
    from .store import Store

__all__ = ["Execution"]

CONSOLE_KEPT = 16 << 20  # bytes of output
CONSOLE_SLICE = 1_000_000  # cycles between two looks at waiting console input


class Execution:
    """What of a machine has nothing to do with where it came from and where it will be stored.

    One thread at a time: MachineBusy is raised to a second one.
    """

    def __init__(self, core: Core, store: Store, *, reproducible: bool) -> None:
        self._core = core
        self._store = store
        self._turn = Turn(core)
        self._console = bytearray()
        self._input = bytearray()
        self.reproducible = reproducible
        self.registers = Registers(core)

    @property
    def cycle(self) -> int:
        """Cycles since reset."""
        return self._core.cycle

    # running

    def run(
        self,
        until: int | None = None,
        *,
        max_cycles: int | None = None,
        console_bytes: int | None = None,
        max_seconds: float | None = None,
    ) -> Stop:
        """Run to cycle `until`, for at most `max_cycles`, or until the machine stops for a reason.

        With `console_bytes` that much output at the console is a reason too (ConsoleOutput). After
        about `max_seconds` of this thread's CPU it returns as if that cycle were the one asked for.
        Raises BackingFault when a page of a file cannot be read or written; the machine then stands
        before that access, and the next `run` tries it again.
        """
        end = FOREVER if until is None else until
        cycles = FOREVER if max_cycles is None else max_cycles
        turn, core = self._turn, self._core
        if not turn.acquire(False):
            raise turn.refusal()
        try:
            if not self._store.ready:
                self._store.open_top(core)
            if self._input:
                end, cycles = min(end, core.cycle + cycles), FOREVER
                stop = self._type(end, console_bytes)
                if stop is not None:
                    return stop
            cpu_end = cpu_after(max_seconds)
            stop = core.run(end, cycles, console_bytes or CONSOLE_BYTES, cpu_end)
            while core.console_length:
                self._hear()
                if console_bytes is not None or not isinstance(stop, ConsoleOutput):
                    break
                stop = core.run_on()
            return stop
        finally:
            turn.release()

    def _type(self, end: int, console_bytes: int | None) -> Stop | None:
        """Run while there is input for the console; None when it was all taken before the end."""
        core = self._core
        while self._input:
            del self._input[: core.console_input(bytes(self._input))]
            if not self._input:
                break
            stop = core.run(end, CONSOLE_SLICE, console_bytes or CONSOLE_BYTES)
            self._hear()
            waits = isinstance(stop, ConsoleOutput) and console_bytes is None
            if not waits and (core.cycle == end or not isinstance(stop, ReachedCycle)):
                return stop
        return None

    def interrupt(self) -> None:
        """Make the run in progress, or the next one, return Interrupted; from any thread."""
        self._core.interrupt()

    def clear_interrupt(self) -> None:
        """Forget an `interrupt` that came too late to stop anything."""
        self._core.clear_interrupt()

    def trace(self, until: int | None = None, *, max_cycles: int | None = None) -> Iterator[str]:
        """Run instruction by instruction; yield a line for each, like Spike's commit log."""
        from .trace import lines

        end = FOREVER if until is None else until
        if max_cycles is not None:
            end = min(end, self.cycle + max_cycles)
        with self._turn:
            self._store.open_top(self._core)
            for line in lines(self._core, end):
                self._hear()
                yield line

    # requests

    def receive_request(self) -> bytes:
        """Return what the guest left in its tx buffer at its last yield."""
        length = self._core.yield_length
        if length > TX_LENGTH:
            raise GuestError(f"a yield says it left {length} bytes in {TX_LENGTH} bytes of buffer")
        return self.read(TX_START, length)

    def send_response(self, data: bytes, reason: int = 0) -> None:
        """Put `data` into the rx buffer of a guest that waits at a manual yield; let it go on."""
        if len(data) > RX_LENGTH:
            raise ValueError(f"a response of {len(data)} bytes; the rx buffer holds {RX_LENGTH}")
        with self._turn:
            if not self._core.yielded:
                raise MachineBusy("the guest does not wait for a request: run it to a manual yield")
            self._store.open_top(self._core)
            self._core.write(RX_START, data, virtual=False)
            self._core.answer(reason << 32 | len(data))

    # memory and console

    def read(self, address: int, length: int) -> bytes:
        """Copy guest-physical memory; ValueError names the first address that is none."""
        return self._read(address, length, virtual=False)

    def write(self, address: int, data: bytes) -> None:
        """Change guest-physical memory."""
        self._write(address, data, virtual=False)

    def read_virtual(self, address: int, length: int) -> bytes:
        """Copy memory through the present translation, whatever its permissions."""
        return self._read(address, length, virtual=True)

    def write_virtual(self, address: int, data: bytes) -> None:
        """Change memory through the present translation, whatever its permissions."""
        self._write(address, data, virtual=True)

    def _read(self, address: int, length: int, *, virtual: bool) -> bytes:
        with self._turn:
            result = self._core.read(address, length, virtual=virtual)
        if isinstance(result, int):
            raise ValueError(f"{result:#x} is not memory of this machine")  # noqa: TRY004
        return result

    def _write(self, address: int, data: bytes, *, virtual: bool) -> None:
        with self._turn:
            self._store.open_top(self._core)
            failure = self._core.write(address, data, virtual=virtual)
        if failure is not None:
            raise ValueError(f"{failure:#x} is not writable memory of this machine")

    def console_output(self, max_bytes: int | None = None) -> bytes:
        """Take what the guest printed since the last call, or the first part of it.

        Of what nobody takes the last CONSOLE_KEPT bytes are kept.
        """
        data = bytes(self._console[:max_bytes])
        del self._console[: len(data)]
        return data

    def _hear(self) -> None:
        self._console += self._core.console_output()
        del self._console[:-CONSOLE_KEPT]

    def console_input(self, data: bytes) -> None:
        """Type at the guest's console; from now on the machine is not reproducible."""
        self.reproducible = False
        self._input += data
