"""Growing storage for a machine's top: anonymous memory, or a file that lengthens."""

from __future__ import annotations

import bisect
import os
from pathlib import Path
from typing import Final, Self

from orchestra.errors import MachineClosed

from . import fault
from ._os import GROW_FUNCTION, Chunk, FileFacts, NativeArena, check_pid
from .entry import AT_CWD, create_file, facts_of

__all__ = ["Arena", "Chunk"]

READ_ONLY: Final = 0o444


class Arena:
    """Storage that a machine's core grows by itself, in chunks of 64 KiB doubling up to 16 MiB.

    The core calls `void *grow(void *context, uint64_t wanted_bytes, uint64_t *got_bytes)` at the
    address `Arena.grow_function`; NULL means no memory, or a file that cannot grow.
    Chunk k follows chunk k-1 in the file without a gap. One thread at a time may grow it.
    """

    grow_function: int = GROW_FUNCTION

    def __init__(
        self,
        fd: int = -1,
        path: str | None = None,
        facts: FileFacts | None = None,
        first_offset: int = 0,
        anonymous_bytes: int = 0,
    ) -> None:
        self._path, self.first_offset = path, first_offset
        self._fd, self._pid, self._owner = fd, os.getpid(), 0
        if path is not None:
            facts = facts or facts_of(fd)
            self._owner = fault.new_owner()
            fault.register(self._owner, fault.Backing(path, facts.device, facts.inode, True, fd))
        self._native: NativeArena | None = NativeArena(
            fd, first_offset, self._owner, anonymous_bytes
        )

    @classmethod
    def anonymous(cls) -> Arena:
        """Memory only; it survives a fork, each process then having its own."""
        return cls()

    @classmethod
    def on_file(
        cls,
        path: Path | str,
        *,
        folder: int = AT_CWD,
        first_offset: int = 4096,
        anonymous_bytes: int = 0,
    ) -> Arena:
        """Make a new file (or raise FileExistsError) with its storage from `first_offset` on.

        `folder` is the descriptor of the folder it is in, if that is open. At most the first
        `anonymous_bytes` of it stay in memory until `fill_file`.
        """
        path = os.fspath(path)
        name = path if folder == AT_CWD else path.rpartition("/")[2]
        fd, facts = create_file(folder, name, path)
        try:
            return cls(fd, path, facts, first_offset, anonymous_bytes)
        except BaseException:
            os.close(fd)
            os.unlink(path)
            raise

    @property
    def path(self) -> Path | None:
        """One of the names its file has had, the one that it keeps; None for memory."""
        return None if self._path is None else Path(self._path)

    @property
    def context(self) -> int:
        """The address the core passes to the grow function; valid until close."""
        return self._open().context

    @property
    def length(self) -> int:
        """Bytes handed out so far."""
        return self._open().length

    @property
    def spilled(self) -> bool:
        """Whether any of its storage is in the file, not only in memory."""
        return self._native is not None and self._native.spilled

    @property
    def closed(self) -> bool:
        """Whether close was called."""
        return self._native is None

    def grow(self, wanted: int) -> tuple[int, int] | None:
        """Do what the core does from C: (address, bytes) of `wanted` or more bytes, or None."""
        return self._open().grow(wanted)

    def chunks(self) -> list[Chunk]:
        """Every chunk so far, in the order of the file."""
        return self._open().chunks()

    def file_offset_of(self, address: int) -> int:
        """Return where in the file the byte at host `address` is; ValueError if nowhere."""
        chunks = sorted(self.chunks(), key=lambda chunk: chunk.address)
        index = bisect.bisect_right(chunks, address, key=lambda chunk: chunk.address) - 1
        if index < 0 or address >= chunks[index].address + chunks[index].length:
            raise ValueError(f"{address:#x} is not in this arena")
        return chunks[index].file_offset + address - chunks[index].address

    def reserve(self, length: int) -> None:
        """Allocate blocks for the first `length` bytes of storage now.

        OSError says ENOSPC instead of a BackingFault later; anonymous memory reserves nothing.
        """
        native = self._open()
        try:
            native.reserve(length)
        except OSError as error:
            error.filename = self._path
            raise

    def fill_file(self) -> None:
        """Write what is in memory to its place in the file; OSError ENOSPC leaves it as it was."""
        self._open().fill()

    def finish(self, length: int, header: bytes, tail: bytes) -> None:
        """Put `tail` behind the first `length` bytes of storage, `header` in front, and end there.

        It grows no more, its file is read-only for others, and it must not be touched behind
        `length`. When it fails (OSError: a full disk) it is as before.
        """
        self.write_file(self.first_offset + length, tail)
        self.write_file(0, header)
        self._open().finish(self.first_offset + length + len(tail))
        os.fchmod(self._fd, facts_of(self._fd).mode & READ_ONLY)

    def resume(self) -> None:
        """Take `finish` back, whether or not it came to its end: the storage grows again."""
        self._open().resume()

    def call(self, path: str) -> None:
        """Say which of its names the file keeps, for errors."""
        self._path = path
        fault.rename(self._owner, path)

    def fileno(self) -> int:
        """Return the descriptor of the file; ValueError for anonymous memory."""
        self._open()
        if self._fd < 0:
            raise ValueError("an anonymous arena has no file")
        return self._fd

    def write_file(self, offset: int, data: bytes) -> None:
        """Write all of `data` at byte `offset` of the file: a header, an index behind its pages."""
        fd, view = self.fileno(), memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            offset, view = offset + written, view[written:]

    def sync(self) -> None:
        """Bring what was stored and written to the disk (fdatasync); OSError EIO or ENOSPC.

        The kernel tells once of a page that it could not write, and takes it for written from then
        on. So after a failure all of it is made dirty again.
        """
        try:
            os.fdatasync(self.fileno())
        except OSError:
            self._open().touch()
            raise

    def close(self) -> None:
        """Unmap every chunk and close the file; twice is fine. The core must be done with it."""
        native, self._native = self._native, None
        if native is None:
            return
        native.free()
        if self._fd >= 0:
            os.close(self._fd)
            fault.forget(self._owner)

    def _open(self) -> NativeArena:
        if self._native is None:
            raise MachineClosed(f"the arena {self._path or 'in memory'} is closed")
        if self._fd >= 0:
            check_pid(self._pid)
        return self._native

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_native", None) is not None:
            self.close()

    def __repr__(self) -> str:
        what = "anonymous" if self._path is None else repr(self._path)
        state = "closed" if self._native is None else f"{self._native.length} bytes"
        return f"<Arena {what} {state}>"
