"""A guest's console as a byte stream: what it prints is received, what is sent it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteStream

from orchestra.machine.stop import ConsoleOutput, Halted, Idle, Yielded

if TYPE_CHECKING:
    from orchestra.machine.machine import Machine
    from orchestra.sched.fleet import Fleet

__all__ = ["ConsoleStream"]


class ConsoleStream(ByteStream):
    """The console of one machine, which runs on its fleet while somebody waits to receive.

    Sending makes the machine not reproducible. The stream ends (EndOfStream) when the guest halts
    or waits for a request; a guest that waits for input is waited with.
    """

    def __init__(self, fleet: Fleet, machine: Machine) -> None:
        self._fleet = fleet
        self._machine = machine
        self._typed = anyio.Event()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Run the machine until it prints something, and return it: 1 to `max_bytes` bytes."""
        while not (data := self._machine.console_output(max_bytes)):
            self._typed = anyio.Event()
            stop = await self._fleet.run(self._machine, console_bytes=1)
            match stop:
                case Halted() | Yielded(kind="manual"):
                    if not (data := self._machine.console_output(max_bytes)):
                        raise anyio.EndOfStream
                    return data
                case Idle():
                    await self._typed.wait()
                case ConsoleOutput() | _:
                    pass
        await anyio.lowlevel.checkpoint()
        return data

    async def send(self, item: bytes) -> None:
        """Type at the console; the guest reads it when the machine runs next."""
        self._machine.console_input(item)
        self._typed.set()
        await anyio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """Type Ctrl-D."""
        await self.send(b"\x04")

    async def aclose(self) -> None:
        """Do nothing: the machine is its owner's to close."""
        await anyio.lowlevel.checkpoint()
