"""A file system that fails on demand: a folder mounted again, through FUSE, by a process."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STATUS = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_ino", "st_blocks")
TIMES = ("st_mtime", "st_atime", "st_ctime")
FLAGS = os.O_RDONLY | os.O_RDWR | os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_TRUNC


@dataclass(frozen=True)
class Faulty:
    """The mounted folder, the one behind it, and the file that says what fails."""

    folder: Path
    source: Path
    control: Path

    def fail(self, name: str, what: str, start: int = 0, end: int = 1 << 62) -> None:
        """Let reads or writes of these bytes of a file fail with EIO."""
        self.control.write_text(json.dumps({"name": name, "what": what, "at": [start, end]}))

    def mend(self) -> None:
        """Let nothing fail."""
        self.control.write_text("null")


@contextlib.contextmanager
def faulty(scratch: Path) -> Iterator[Faulty]:
    """Mount, and unmount in the end."""
    found = Faulty(scratch / "faulty", scratch / "behind", scratch / "control")
    found.folder.mkdir()
    found.source.mkdir()
    found.mend()
    command = [sys.executable, "-m", "tests.faulty", found.folder, found.source, found.control]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdout is not None
        try:
            said = server.stdout.readline()
            assert said == "mounted\n", "FUSE did not start"
            yield found
        finally:
            server.kill()
            subprocess.run(["umount", "--lazy", found.folder], check=True)


def serve(folder: str, source: str, control: str) -> None:
    """Be the file system, until it is unmounted."""
    from pathlib import Path

    from mfusepy import FUSE, FuseOSError, Operations

    class Mirror(Operations):
        """Every call goes to the folder behind, but for those that are to fail."""

        use_ns = True

        def init(self, path):
            print("mounted", flush=True)

        def at(self, path):
            return Path(source + path)

        def check(self, what, path, offset, length):
            wanted = json.loads(Path(control).read_text())
            if wanted is None or wanted["what"] != what or not path.endswith(wanted["name"]):
                return
            start, end = wanted["at"]
            if offset < end and offset + length > start:
                raise FuseOSError(errno.EIO)

        def getattr(self, path, fh=None):
            status = os.lstat(self.at(path))
            names = ("mode", "nlink", "uid", "gid", "size", "mtime_ns", "atime_ns", "ctime_ns")
            found = {
                f"st_{name.removesuffix('_ns')}": getattr(status, f"st_{name}") for name in names
            }
            return found | {"st_ino": status.st_ino, "st_blocks": status.st_blocks}

        def readdir(self, path, fh):
            return [".", "..", *(entry.name for entry in self.at(path).iterdir())]

        def statfs(self, path):
            status = os.statvfs(self.at(path))
            return {name: getattr(status, name) for name in dir(status) if name.startswith("f_")}

        def open(self, path, flags):
            return os.open(self.at(path), flags & FLAGS)

        def create(self, path, mode, fi=None):
            return os.open(self.at(path), os.O_RDWR | os.O_CREAT, mode)

        def read(self, path, size, offset, fh):
            self.check("read", path, offset, size)
            return os.pread(fh, size, offset)

        def write(self, path, data, offset, fh):
            self.check("write", path, offset, len(data))
            return os.pwrite(fh, data, offset)

        def truncate(self, path, length, fh=None):
            os.truncate(self.at(path), length)

        def fsync(self, path, datasync, fh):
            self.check("write", path, 0, 1 << 62)
            os.fsync(fh)

        def release(self, path, fh):
            os.close(fh)

        def chmod(self, path, mode):
            self.at(path).chmod(mode)

        def mkdir(self, path, mode):
            self.at(path).mkdir(mode)

        def rmdir(self, path):
            self.at(path).rmdir()

        def unlink(self, path):
            self.at(path).unlink()

        def rename(self, old, new, flags=0):
            self.at(old).replace(self.at(new))

        def link(self, target, source):
            os.link(self.at(source), self.at(target))

    FUSE(Mirror(), folder, foreground=True, nothreads=True, attr_timeout=0, entry_timeout=0)


if __name__ == "__main__":
    serve(*sys.argv[1:])
