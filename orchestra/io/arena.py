"""Growing storage for a machine's top: anonymous memory, or a file that lengthens as pages are touched."""

from __future__ import annotations

import bisect
import os
from pathlib import Path

from orchestra.errors import MachineClosed

from . import fault
from ._os import GROW_FUNCTION, Chunk, NativeArena, check_pid

__all__ = ["Arena", "Chunk"]


class Arena:
    """Storage that a machine's core grows by itself, in chunks of 64 KiB doubling up to 16 MiB.

    The core calls `void *grow(void *context, uint64_t wanted_bytes, uint64_t *got_bytes)` at the address
    `Arena.grow_function` with `context`; NULL means no memory, no address space, or a file that cannot grow.
    Chunk k follows chunk k-1 in the file without a gap. One thread at a time may grow it.
    """

    grow_function: int = GROW_FUNCTION

    def __init__(self, fd: int = -1, path: Path | None = None, first_offset: int = 0) -> None:
        self.path, self.first_offset = path, first_offset
        self._fd, self._pid, self._owner = fd, os.getpid(), 0
        if path is not None:
            backing = fault.Backing.of(path, os.fstat(fd), written=True)
            self._owner = fault.register(backing)
        self._native: NativeArena | None = NativeArena(fd, first_offset, self._owner)

    @classmethod
    def anonymous(cls) -> Arena:
        """Memory only; it survives a fork, each process then having its own."""
        return cls()

    @classmethod
    def on_file(cls, path: Path | str, *, first_offset: int = 4096) -> Arena:
        """A new file (FileExistsError if there is one), whose storage begins at byte `first_offset`."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            return cls(fd, Path(path), first_offset)
        except BaseException:
            os.close(fd)
            os.unlink(path)
            raise

    @property
    def context(self) -> int:
        """The address the core passes to the grow function; valid until close."""
        return self._open().context

    @property
    def length(self) -> int:
        """Bytes handed out so far."""
        return self._open().length

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        return self._native is None

    def grow(self, wanted: int) -> tuple[int, int] | None:
        """What the core does from C: (address, length in bytes) of at least `wanted` bytes more, or None."""
        return self._open().grow(wanted)

    def chunks(self) -> list[Chunk]:
        """Every chunk so far, in the order of the file."""
        return self._open().chunks()

    def file_offset_of(self, address: int) -> int:
        """Where in the file the byte at host `address` is; ValueError for an address not of this arena."""
        chunks = sorted(self.chunks(), key=lambda chunk: chunk.address)
        index = bisect.bisect_right(chunks, address, key=lambda chunk: chunk.address) - 1
        if index < 0 or address >= chunks[index].address + chunks[index].length:
            raise ValueError(f"{address:#x} is not in this arena")
        return chunks[index].file_offset + address - chunks[index].address

    def reserve(self, length: int) -> None:
        """Allocate the file's blocks for the first `length` bytes of storage now: OSError ENOSPC instead of
        BackingFault later. Anonymous memory has nothing to reserve.
        """  # noqa: D205 - one sentence
        native = self._open()
        try:
            native.reserve(length)
        except OSError as error:
            error.filename = None if self.path is None else str(self.path)
            raise

    def trim(self, length: int) -> None:
        """Cut the file after its first `length` bytes of storage; it grows no more, and must not be touched
        behind that. For a top that is about to become a delta.
        """  # noqa: D205 - one sentence
        self._open().trim(length)

    def fileno(self) -> int:
        """The descriptor of the file; ValueError for anonymous memory."""
        self._open()
        if self._fd < 0:
            raise ValueError("an anonymous arena has no file")
        return self._fd

    def write_file(self, offset: int, data: bytes) -> None:
        """Write all of `data` at byte `offset` of the file: a header, or an index behind the pages."""
        fd, view = self.fileno(), memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            offset, view = offset + written, view[written:]

    def sync(self) -> None:
        """Bring what was stored and written to the disk (fdatasync); OSError EIO or ENOSPC."""
        os.fdatasync(self.fileno())

    def close(self) -> None:
        """Unmap every chunk and close the file; closing twice is fine. The core must have stopped using it."""
        native, self._native = self._native, None
        if native is None:
            return
        native.free()
        if self._fd >= 0:
            os.close(self._fd)
            fault.forget(self._owner)

    def _open(self) -> NativeArena:
        if self._native is None:
            raise MachineClosed(f"the arena {self.path or 'in memory'} is closed")
        if self._fd >= 0:
            check_pid(self._pid)
        return self._native

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_native", None) is not None:
            self.close()

    def __repr__(self) -> str:
        what = "anonymous" if self.path is None else repr(str(self.path))
        state = "closed" if self._native is None else f"{self._native.length} bytes"
        return f"<Arena {what} {state}>"
