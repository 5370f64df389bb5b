"""How a Python program in a guest talks to its host: one file, standard library only, as root.

import orchestra_guest as host

verdict = True
while True:
    request = host.finish(accept=verdict)     # stops the machine until the next request
    verdict = request.kind == host.INSPECT
    host.report(request.data[::-1])
"""

# ruff: noqa: INP001 - a guest imports this file alone
from __future__ import annotations

import ctypes
import mmap
import os
import platform
from typing import Any, Final, NamedTuple

__all__ = [
    "ADVANCE",
    "BUFFER_BYTES",
    "INSPECT",
    "Request",
    "exception",
    "finish",
    "halt",
    "open_host",
    "output",
    "progress",
    "putchar",
    "report",
]

ADVANCE: Final = 0  # request.kind: change your state
INSPECT: Final = 1  # request.kind: answer; the host throws this state away
BUFFER_BYTES: Final = 0x200000  # the longest request, output, report or exception

_HTIF_ADDRESS: Final = 0x4000_8000
_RX_ADDRESS: Final = 0x6000_0000
_TX_ADDRESS: Final = 0x6080_0000
_TOHOST: Final = 0
_FROMHOST: Final = 8

# A register takes one 64-bit access, and no function of Python's promises one: these two do.
_LOAD_STORE: Final = {
    "riscv64": ("03350500 67800000", "2330b500 67800000"),  # ld a0,(a0); ret    sd a1,(a0); ret
    "x86_64": ("488b07 c3", "488937 c3"),  # to try a guest program on the host, on a file
}
_RISCV_FLUSH_ICACHE: Final = 259


class Request(NamedTuple):
    """What the host asks: ADVANCE or INSPECT, and its payload."""

    kind: int
    data: bytes


class _Host:
    """The mapped registers and buffers."""

    def __init__(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | os.O_SYNC | os.O_CLOEXEC)
        try:
            self.htif = _map(fd, _HTIF_ADDRESS, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE)
            self.rx = _map(fd, _RX_ADDRESS, BUFFER_BYTES, mmap.PROT_READ)
            self.tx = _map(fd, _TX_ADDRESS, BUFFER_BYTES, mmap.PROT_READ | mmap.PROT_WRITE)
        finally:
            os.close(fd)
        self.registers = ctypes.addressof(ctypes.c_char.from_buffer(self.htif))
        self.code = mmap.mmap(
            -1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        )
        load, store = (bytes.fromhex(text) for text in _LOAD_STORE[platform.machine()])
        self.code[: len(load)] = load
        self.code[64 : 64 + len(store)] = store
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.code))
        if platform.machine() == "riscv64":
            end = ctypes.c_void_p(start + mmap.PAGESIZE)
            flags = ctypes.c_long(0)
            ctypes.CDLL(None).syscall(_RISCV_FLUSH_ICACHE, ctypes.c_void_p(start), end, flags)
        word, address = ctypes.c_uint64, ctypes.c_void_p
        self.load: Any = ctypes.CFUNCTYPE(word, address)(start)
        self.store: Any = ctypes.CFUNCTYPE(None, address, word)(start + 64)

    def tohost(self, device: int, command: int, reason: int, data: int) -> None:
        """Tell the host; the machine stops at this store, and goes on behind it."""
        self.store(self.registers + _TOHOST, device << 56 | command << 48 | reason << 32 | data)

    def emit(self, command: int, reason: int, data: bytes) -> None:
        """Yield with data in the tx buffer."""
        if len(data) > BUFFER_BYTES:
            raise ValueError(f"{len(data)} bytes are more than the host takes, {BUFFER_BYTES}")
        self.tx[: len(data)] = data
        self.tohost(2, command, reason, len(data))

    def request(self) -> Request:
        """Read the host's answer to a manual yield."""
        answer = self.load(self.registers + _FROMHOST)
        self.store(self.registers + _FROMHOST, 0)  # firmware that polls HTIF must not find it
        return Request(answer >> 32, self.rx[: answer & 0xFFFF_FFFF])


_host: _Host | None = None


def _map(fd: int, address: int, length: int, protection: int) -> mmap.mmap:
    return mmap.mmap(fd, length, mmap.MAP_SHARED, protection, offset=address)


def _opened() -> _Host:
    global _host  # noqa: PLW0603 - one machine has one host
    if _host is None:
        _host = _Host("/dev/mem")
    return _host


def open_host(path: str = "/dev/mem") -> None:
    """Map registers and buffers now, so that privileges can be dropped; else the first call does.

    Raises PermissionError when not root. A sparse file as `path` lets a program be tried anywhere.
    """
    global _host  # noqa: PLW0603
    _host = _Host(path)


def progress(permille: int) -> None:
    """Say how far the request is, in thousandths."""
    _opened().tohost(2, 0, 1, permille)


def output(data: bytes) -> None:
    """Emit a result of the new state, which the host drops when the request is rejected.

    Raises ValueError when longer than BUFFER_BYTES.
    """
    _opened().emit(0, 2, data)


def report(data: bytes) -> None:
    """Emit an answer or a diagnostic, which the host keeps whatever becomes of the request.

    Raises ValueError when longer than BUFFER_BYTES.
    """
    _opened().emit(0, 4, data)


def finish(*, accept: bool = True) -> Request:
    """End the request (the first call: "ready"), and return the host's next one."""
    _opened().tohost(2, 1, 1 if accept else 2, 0)
    return _opened().request()


def exception(data: bytes) -> Request:
    """End the request as failed; returns only when a host chooses to go on from here."""
    _opened().emit(1, 4, data[:BUFFER_BYTES])
    return _opened().request()


def halt(code: int = 0) -> None:
    """End the machine; the host sees the low 31 bits of the code."""
    _opened().tohost(0, 0, 0, (code << 1 | 1) & 0xFFFF_FFFF)


def putchar(character: bytes) -> None:
    """Print one byte on the HTIF console."""
    _opened().tohost(1, 1, 0, character[0])
