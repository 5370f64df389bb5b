"""Who holds a lock: what /proc/locks tells about an inode."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["describe"]

_LINE = re.compile(r"^\d+: FLOCK +\w+ +(\w+) (-?\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) ", re.MULTILINE)


def describe(fd: int) -> str | None:
    """Say who holds flocks on what `fd` opened, like "pid 123 (python app.py)"; None if unknown."""
    try:
        table = Path("/proc/locks").read_text()
    except OSError:
        return None
    devices, inode = _devices(fd), os.fstat(fd).st_ino
    pids = {
        int(pid)
        for _kind, pid, major, minor, number in _LINE.findall(table)
        if int(number) == inode and (int(major, 16), int(minor, 16)) in devices
    }
    return ", ".join(_process(pid) for pid in sorted(pids) if pid > 0) or None


def _devices(fd: int) -> set[tuple[int, int]]:
    """Return the device by stat, and by mount.

    A subvolume of btrfs has a device number of its own, which /proc/locks does not show.
    """
    number = os.fstat(fd).st_dev
    found = {(os.major(number), os.minor(number))}
    try:
        info = Path(f"/proc/self/fdinfo/{fd}").read_text()
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return found
    mount = re.search(r"^mnt_id:\s*(\d+)", info, re.MULTILINE)
    for fields in map(str.split, mounts):
        if mount is not None and fields[0] == mount[1]:
            major, minor = fields[2].split(":")
            found.add((int(major), int(minor)))
    return found


def _process(pid: int) -> str:
    who = f"pid {pid}"
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return who
    command = b" ".join(words).decode(errors="replace").strip()
    who = f"{who} ({command[:80]})" if command else who
    return f"{who}, this process" if pid == os.getpid() else who
