"""Standard input, output and error as commands may rely on them, whatever the shell gave us."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

from orchestra.cli.attend import Stopped

__all__ = ["STANDARD_OUTPUT", "give_up_output", "mend_streams"]

STANDARD_OUTPUT = "standard output"


class Output(io.FileIO):
    """The descriptor of standard output; an error says that it was there.

    When nobody reads it any more, that is as if SIGPIPE had stopped us, as it does other programs.
    """

    def write(self, data: Any, /) -> Any:
        """Write what fits."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise Stopped(signal.SIGPIPE) from None
        except OSError as error:
            raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from error


def mend_streams() -> None:
    """Let there be all three, when one was closed, and let output bear every name and unit."""
    for name in ("stdin", "stdout", "stderr"):  # a file that is opened gets the lowest number
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for good
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        utf8 = codecs.lookup(stream.encoding).name == "utf-8"
        stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
        if stream is sys.__stdout__:  # which it stays, and keeps the descriptor open
            sys.stdout = _named(stream)


def _named(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return the stream once more, with errors that name it; itself when it is no descriptor."""
    raw: Any = getattr(stream.buffer, "raw", stream.buffer)
    if type(raw) is not io.FileIO:
        return stream
    stream.flush()
    output: Any = Output(raw.fileno(), "w", closefd=False)
    unbuffered = raw is stream.buffer  # python -u
    return io.TextIOWrapper(
        output if unbuffered else io.BufferedWriter(output),
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=unbuffered,
    )


def give_up_output() -> None:
    """Write nothing more: what is still to be written would fail at the interpreter's end."""
    try:
        sys.stdout.flush()
    except (OSError, Stopped):
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())
