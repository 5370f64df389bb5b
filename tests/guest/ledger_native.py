"""The ledger's own logic, compiled for this host with undefined behaviour trapped."""

import ctypes
import mmap
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from orchestra.guest import FOLDER

ADVANCE, INSPECT = 1, 2
VERDICTS = ("accepted", "rejected", "exception", "halt", "crash")
FLAGS = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
TRAPS = ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]

_EMIT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_PROGRESS = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32)


class _Host(ctypes.Structure):
    _fields_ = (
        ("context", ctypes.c_void_p),
        ("output", _EMIT),
        ("report", _EMIT),
        ("progress", _PROGRESS),
    )


class _Reply(ctypes.Structure):
    _fields_ = (
        ("verdict", ctypes.c_int),
        ("code", ctypes.c_uint32),
        ("length", ctypes.c_uint64),
        ("text", ctypes.c_void_p),
    )


@dataclass
class Answer:
    verdict: str = ""
    code: int = 0
    exception: bytes = b""
    outputs: list[bytes] = field(default_factory=list)
    reports: list[bytes] = field(default_factory=list)
    progress: list[int] = field(default_factory=list)


def build(folder: Path) -> ctypes.CDLL:
    """Compile the ledger into a shared library and load it."""
    sources = [FOLDER / "ledger/ledger.c", FOLDER / "ledger/text.c"]
    command: list[str | Path] = ["cc", *FLAGS, *TRAPS, *sources, "-o", folder / "ledger.so"]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(folder / "ledger.so"))
    library.ledger_bytes.restype = ctypes.c_uint64
    library.ledger_serve.restype = None
    return library


class Ledger:
    """One ledger in memory that is zero, as the guest's is at reset."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.memory = mmap.mmap(-1, library.ledger_bytes())
        self.state = (ctypes.c_char * len(self.memory)).from_buffer(self.memory)

    def advance(self, request: str | bytes) -> Answer:
        return self._serve(ADVANCE, request)

    def inspect(self, request: str | bytes) -> Answer:
        return self._serve(INSPECT, request)

    def _serve(self, kind: int, request: str | bytes) -> Answer:
        request = request.encode() if isinstance(request, str) else request
        exact = ctypes.create_string_buffer(request, len(request))  # nothing readable behind it
        answer, reply = Answer(), _Reply()
        host = _Host(
            None,
            _EMIT(lambda _, data, length: answer.outputs.append(ctypes.string_at(data, length))),
            _EMIT(lambda _, data, length: answer.reports.append(ctypes.string_at(data, length))),
            _PROGRESS(lambda _, permille: answer.progress.append(permille)),
        )
        self.library.ledger_serve(
            self.state,
            ctypes.byref(host),
            kind,
            exact,
            ctypes.c_size_t(len(request)),
            ctypes.byref(reply),
        )
        answer.verdict, answer.code = VERDICTS[reply.verdict], reply.code
        answer.exception = ctypes.string_at(reply.text, reply.length) if reply.text else b""
        return answer
