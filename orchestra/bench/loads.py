"""What Debian does in `orchestra bench cpu`: boots, and ordinary loads, one in each boot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestra.guest.debian import BOOTARGS, applets, debian_config, fetch
from orchestra.guest.initramfs import Archive
from orchestra.io.folder import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from orchestra.machine import MachineConfig

__all__ = ["BOOT", "LOADS", "Load", "load_config"]


@dataclass(frozen=True, slots=True)
class Load:
    """One load: its row's name, and what a shell runs, which prints a line with its result."""

    name: str
    script: str


BOOT: Final = Load("boot", "")
LOADS: Final = (
    Load("shell-loop", "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; echo = $i"),
    Load("sha256sum", "echo = $(for i in 1 2 3 4 5 6 7 8; do cat /bin/busybox; done | sha256sum)"),
    Load("gzip", "echo = $(for i in 1 2 3; do cat /bin/busybox; done | gzip | md5sum)"),
    Load("fork-exec", "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i + 1)); done; echo = $i"),
)
_INIT: Final = """\
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
case $load in
{cases}
esac
echo "= $load is done"
exec poweroff -f
"""


def load_config(folder: Path, load: Load) -> MachineConfig:
    """Return the machine that boots Debian, runs the load and powers itself off.

    The files come from the cache that `orchestra image debian` fills, or through the host's apt.
    """
    files = fetch()
    initramfs = folder / "loads.cpio"
    if not initramfs.exists():
        archive = Archive()
        busybox = files.busybox.read_bytes()
        archive.file("bin/busybox", busybox, 0o755)
        for name in set(applets(busybox, files.busybox)) - {"busybox"}:
            archive.symlink(f"bin/{name}", "busybox")
        cases = "\n".join(f"{each.name}) {each.script} ;;" for each in LOADS)
        archive.file("init", _INIT.format(cases=cases).encode(), 0o755)
        for name in ("dev", "proc", "tmp"):
            archive.folder(name)
        archive.device("dev/console", "char", 5, 1)
        replace_file(initramfs, archive.to_bytes())
    return debian_config(files, initramfs, bootargs=f"{BOOTARGS} load={load.name}")
