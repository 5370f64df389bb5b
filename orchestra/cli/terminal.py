"""The guest's console on the user's: output as it comes, and input typed or piped."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from orchestra.machine.machine import Machine

__all__ = ["Terminal"]

READ_BYTES = 4096  # at a tick: the guest is slower than a pipe
WAIT_SECONDS = 0.05


class Terminal:
    """Prints what a guest prints; with `feed` types standard input at it.

    A terminal is put into cbreak mode meanwhile: keys reach the guest at once and unechoed, all but
    Ctrl-C, which stops the machine.
    """

    def __init__(self, output: TextIO, *, feed: bool = False) -> None:
        self.feeding = feed
        self._output = output
        self._modes: list[object] | None = None

    def __enter__(self) -> Self:
        if self.feeding and sys.stdin.isatty():
            self._modes = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
        return self

    def __exit__(self, *_: object) -> None:
        if self._modes is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._modes)  # type: ignore[arg-type]

    def pump(self, machine: Machine) -> None:
        """Move what there is, in both directions."""
        if data := machine.console_output():
            self._output.flush()
            self._output.buffer.write(data)
            self._output.buffer.flush()
        if self.feeding and self._readable(0) and (data := self._read()):
            machine.console_input(data)

    def wait_for_input(self) -> bool:
        """Wait a moment for input, or its end; False when there is none yet, or no more."""
        return self.feeding and self._readable(WAIT_SECONDS)

    def _readable(self, seconds: float) -> bool:
        return bool(select.select([sys.stdin], [], [], seconds)[0])

    def _read(self) -> bytes:
        """Read once, without waiting for more than there is."""
        data = os.read(sys.stdin.fileno(), READ_BYTES)
        self.feeding = bool(data)
        return data
