"""What Debian does in `orchestra bench cpu`: boots, and ordinary loads, one in each boot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestra.bench.programs import add_programs
from orchestra.guest.debian import BOOTARGS, applets, debian_config, fetch
from orchestra.guest.initramfs import Archive
from orchestra.io.folder import replace_file

if TYPE_CHECKING:
    from pathlib import Path

    from orchestra.machine import MachineConfig

__all__ = ["BOOT", "LOADS", "Load", "load_config"]


@dataclass(frozen=True, slots=True)
class Load:
    """One load: its row's name, and what a shell runs, which prints a line with its result.

    What `beside` takes is not counted to it; `programs` says whether Debian's are in the guest, in
    a larger initramfs, or busybox alone.
    """

    name: str
    script: str
    beside: Load | None = None
    programs: bool = False


BOOT: Final = Load("boot", "")
_PYTHON: Final = "PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3* -I -S -c"
_IDLE: Final = Load("idle", "", programs=True)
_START: Final = Load("python-start", f"echo = $({_PYTHON} 'print(1)')", programs=True)
_LOOP: Final = "t=0\nfor i in range(1000000): t = (t * 31 + i) % 1000003\nprint(t)"
_STARTS: Final = "i=0; while [ $i -lt 200 ]; do {}; i=$((i + 1)); done; echo = $i"
LOADS: Final = (
    Load("shell-loop", "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; echo = $i", BOOT),
    Load(
        "sha256sum",
        "echo = $(for i in 1 2 3 4 5 6 7 8; do cat /bin/busybox; done | sha256sum)",
        BOOT,
    ),
    Load("gzip", "echo = $(for i in 1 2 3; do cat /bin/busybox; done | gzip | md5sum)", BOOT),
    # A shell starts programs that are linked as they start, as nearly all of Debian's are: QEMU
    # does that at 45 to 57 MIPS. One that is static, and the shell itself, at 100 to 190 MIPS.
    Load(
        "fork-exec", f"/usr/bin/dash -c '{_STARTS.format('/usr/bin/true')}'", _IDLE, programs=True
    ),
    Load("fork-exec-static", _STARTS.format("/bin/true"), BOOT),
    Load("python-loop", f'echo = $({_PYTHON} "{_LOOP}")', _START, programs=True),
)
_INIT: Final = """\
#!/bin/sh
export PATH=/bin:/usr/bin
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
    initramfs = folder / f"loads{'-programs' if load.programs else ''}.cpio"
    if not initramfs.exists():
        archive = Archive()
        busybox = files.busybox.read_bytes()
        archive.file("bin/busybox", busybox, 0o755)
        for name in set(applets(busybox, files.busybox)) - {"busybox"}:
            archive.symlink(f"bin/{name}", "busybox")
        cases = "\n".join(f"{each.name}) {each.script} ;;" for each in (*LOADS, _START, _IDLE))
        archive.file("init", _INIT.format(cases=cases).encode(), 0o755)
        for name in ("dev", "proc", "tmp"):
            archive.folder(name)
        archive.device("dev/console", "char", 5, 1)
        if load.programs:
            add_programs(archive)
        replace_file(initramfs, archive.to_bytes())
    return debian_config(files, initramfs, bootargs=f"{BOOTARGS} load={load.name}")
