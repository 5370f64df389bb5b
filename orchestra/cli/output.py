"""What commands print: one JSON document, sizes and times people can read, bytes as text."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["as_text", "emit", "human_bytes", "human_count", "human_seconds", "note", "write_bytes"]

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_DECIMAL = ("", "k", "M", "G", "T")
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def emit(document: Mapping[str, Any]) -> None:
    """Print the one JSON document of a command that was given --json."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Tell the user something that is no result."""
    sys.stdout.flush()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def write_bytes(data: bytes) -> None:
    """Write what a guest said to standard output, and end the line if it did not."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data if data.endswith(b"\n") or not data else data + b"\n")
    sys.stdout.buffer.flush()


def as_text(data: bytes, *, hexadecimal: bool = False) -> str:
    r"""Say bytes in JSON: as UTF-8 with `\xNN` for what is none, or in hexadecimal."""
    return data.hex() if hexadecimal else data.decode(errors="backslashreplace")


def human_bytes(count: float) -> str:
    """Write a number of bytes: 512 B, 64 MiB, 1.5 GiB."""
    return _scaled(count, 1024, _BINARY)


def human_count(count: float) -> str:
    """Write a large number: 293 M."""
    return _scaled(count, 1000, _DECIMAL).rstrip()


def human_seconds(seconds: float) -> str:
    """Write a time: 1.25 s, 3.2 ms, 40 µs."""
    scale, unit = next((item for item in _SECONDS if seconds >= item[0]), _SECONDS[-1])
    return f"{seconds / scale:.3g} {unit}"


def _scaled(count: float, step: int, units: tuple[str, ...]) -> str:
    power = 0
    while abs(count) >= step and power < len(units) - 1:
        count, power = count / step, power + 1
    text = f"{count:.1f}" if power and count < 100 else f"{count:.0f}"
    return f"{text.removesuffix('.0')} {units[power]}"
