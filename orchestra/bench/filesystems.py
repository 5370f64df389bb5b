"""Real file systems to measure and test on: loop-mounted from sparse images, as root."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "KINDS",
    "MIB",
    "REFLINKING",
    "SMALLEST",
    "Filesystem",
    "kind_of",
    "mounted",
    "mounted_image",
]

KINDS = ("ext4", "btrfs", "xfs", "tmpfs")
REFLINKING = ("btrfs", "xfs")

MIB = 1 << 20
SMALLEST = 320 * MIB  # mkfs.xfs refuses less than 300 MiB

_MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096"],
    "btrfs": ["mkfs.btrfs", "-q", "-K"],
    "xfs": ["mkfs.xfs", "-q", "-K"],
}
# or a thread of the kernel would do it while we measure
_MAKE["ext4"] += ["-E", "lazy_itable_init=0,lazy_journal_init=0"]


@dataclass(frozen=True)
class Filesystem:
    """A mounted file system: its kind, an empty folder on it, and its image (None for tmpfs)."""

    kind: str
    folder: Path
    image: Path | None = None

    @property
    def reflinks(self) -> bool:
        """Whether it can copy a file without copying its bytes."""
        return self.kind in REFLINKING


@contextlib.contextmanager
def mounted(kind: str, scratch: Path, length: int = SMALLEST) -> Iterator[Filesystem]:
    """Make and mount a new file system of `length` bytes below the folder `scratch`.

    Raises OSError with what mkfs or mount said.
    """
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


def kind_of(folder: Path) -> str:
    """Name the kind of file system that a folder is on, as mount(8) does."""
    best, kind = "", "unknown"
    path = str(folder.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        point, found = (_unescape(field) for field in line.split()[1:3])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, found
    return kind


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


@functools.cache
def _sweep() -> None:
    """Unmount, once, what runs that were killed left behind."""
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
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
