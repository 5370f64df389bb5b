"""Real file systems for tests: loop-mounted from sparse images, as root, and always unmounted."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("ext4", "btrfs", "xfs", "tmpfs")
REFLINKING = ("btrfs", "xfs")

MIB = 1 << 20
SMALLEST = 320 * MIB  # mkfs.xfs refuses less than 300 MiB

_MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096"],
    "btrfs": ["mkfs.btrfs", "-q", "-K"],
    "xfs": ["mkfs.xfs", "-q", "-K"],
}


@dataclass(frozen=True)
class Filesystem:
    """A mounted file system: its kind, an empty folder on it, and its image (None for tmpfs)."""

    kind: str
    folder: Path
    image: Path | None = None

    @property
    def reflinks(self) -> bool:
        return self.kind in REFLINKING


@contextlib.contextmanager
def mounted(kind: str, scratch: Path, length: int = SMALLEST) -> Iterator[Filesystem]:
    """Make and mount a new file system of `length` bytes below the folder `scratch`."""
    if kind == "tmpfs":
        with _mount(kind, scratch, "-t", "tmpfs", "-o", f"size={length}", "tmpfs") as point:
            yield Filesystem(kind, point)
        return
    image = scratch / f"{kind}.img"
    with image.open("xb") as file:
        file.truncate(length)
    try:
        _run(*_MAKE[kind], str(image))
        with mounted_image(kind, image, scratch) as filesystem:
            yield filesystem
    finally:
        image.unlink()


@contextlib.contextmanager
def mounted_image(kind: str, image: Path, scratch: Path) -> Iterator[Filesystem]:
    """Mount an image that has a file system already, perhaps one that was never unmounted."""
    with _mount(kind, scratch, "-t", kind, "-o", "loop", str(image)) as point:
        yield Filesystem(kind, point, image)


def fill(folder: Path) -> Path:
    """Leave no free block for data on the file system of `folder`; return what to `empty`."""
    ballast = folder / "ballast"
    step = 16 * MIB
    with ballast.open("xb", buffering=0) as file:
        while step >= 4096:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), step)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                step //= 2
    return ballast


def empty(ballast: Path) -> None:
    """Make room again, at once: xfs would free the blocks of a deleted file when it has time."""
    os.truncate(ballast, 0)
    os.sync()


@functools.cache
def _sweep() -> None:
    """Unmount, once, what test runs that were killed left behind."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point = Path(line.split()[1])
        match = re.fullmatch(r"orchestra-\w+-(\d+)", point.name)
        if match and not _is_alive(match[1]):
            _run("umount", "--lazy", str(point))


def _is_alive(pid: str) -> bool:
    try:
        return Path("/proc", pid, "cmdline").read_bytes() != b""  # empty: dead, but not yet buried
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _mount(kind: str, scratch: Path, *arguments: str) -> Iterator[Path]:
    _sweep()
    point = scratch / f"orchestra-{kind}-{os.getpid()}"
    point.mkdir()
    try:
        _run("mount", *arguments, str(point))
        try:
            yield point
        finally:
            _unmount(point)
    finally:
        point.rmdir()


def _unmount(point: Path) -> None:
    """Lazily when something still uses it: a failing test must not leave a mount behind."""
    if subprocess.run(["umount", str(point)], check=False, capture_output=True).returncode:
        _run("umount", "--lazy", str(point))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
