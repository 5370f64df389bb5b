"""The machine that storage is measured with: small RAM, a drive with data, a guest that works."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from orchestra.io.sparse import allocated_bytes, create_sparse
from orchestra.machine.config import Boot, Drive, Image, MachineConfig, Ram
from orchestra.machine.layout import RAM_START
from orchestra.machine.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["CYCLES", "DATA_BYTES", "LEAST_RAM", "Subject", "make_subject"]

CYCLES = 1000  # that each operation advances
DATA_BYTES = 60_000_000  # that the drive holds
LEAST_RAM = 32 << 20  # that the guest needs
BOOTED_CYCLES = 1_000_000  # of the snapshot that operations start from

# A booted Debian, busy, writes to 6 to 9 pages in 1000 cycles, and to 190 to 290 in 3 million. So
# does this: every 838 cycles it writes to 7 pages, and to one that moves on every 16th time.
GUEST = (
    0x00100413,  #        li   s0, 1
    0x01F41413,  #        slli s0, s0, 31       the start of RAM
    0x00001937,  #        lui  s2, 1            a page
    0x001002B7,  #        lui  t0, 0x100        a MiB
    0x00540433,  #        add  s0, s0, t0       the 7 pages
    0x005409B3,  #        add  s3, s0, t0       where the moving one starts
    0x00001A37,  #        lui  s4, 1
    0xFFFA0A13,  #        addi s4, s4, -1       it returns after 16 MiB
    0x00100493,  #        li   s1, 1
    0x00040293,  # round: mv   t0, s0
    0x00700313,  #        li   t1, 7
    0x0092B023,  # page:  sd   s1, 0(t0)
    0x012282B3,  #        add  t0, t0, s2
    0xFFF30313,  #        addi t1, t1, -1
    0xFE031AE3,  #        bnez t1, page
    0x0044D393,  #        srli t2, s1, 4
    0x0143F3B3,  #        and  t2, t2, s4
    0x00C39393,  #        slli t2, t2, 12
    0x013383B3,  #        add  t2, t2, s3
    0x0093B023,  #        sd   s1, 0(t2)
    0x00148493,  #        addi s1, s1, 1
    0x19000E13,  #        li   t3, 400
    0xFFFE0E13,  # wait:  addi t3, t3, -1
    0xFE0E1EE3,  #        bnez t3, wait
    0xFC5FF06F,  #        j    round
)


@dataclass(slots=True)
class Subject:
    """A folder with the machine's files, and places for what operations make of them."""

    folder: Path
    filesystem: str
    config: MachineConfig
    dedicated: bool  # nobody else writes to this file system
    _snapshots: dict[int, Path] = field(default_factory=dict)

    def with_ram(self, length: int | None) -> MachineConfig:
        """Give the config, perhaps with another length of RAM."""
        if length is None:
            return self.config
        return msgspec.structs.replace(self.config, ram=Ram(length=length))

    def snapshot(self, ram: int | None = None) -> Path:
        """Give the stored snapshot that operations start from."""
        config = self.with_ram(ram)
        length = config.ram.length
        if length not in self._snapshots:
            path = self.folder / f"snapshot-{length}"
            with Machine.create(config) as machine:
                machine.run(max_cycles=BOOTED_CYCLES)
                machine.snapshot(path)
            self._snapshots[length] = path
        return self._snapshots[length]

    @contextlib.contextmanager
    def room(self) -> Iterator[Path]:
        """Yield a new folder to store things in; afterwards it is gone."""
        path = self.folder / "room"
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path)

    def settle(self) -> None:
        """Write back what earlier operations left, or it would be written while we measure."""
        subprocess.run(["sync", "--file-system", str(self.folder)], check=True)

    def used_bytes(self) -> int:
        """Bytes of disk in use: as the file system counts, or of our files if others write too."""
        self.settle()
        if self.dedicated:
            return shutil.disk_usage(self.folder).used
        inodes = {path.lstat().st_ino: path for path in self.folder.rglob("*")}
        return sum(map(allocated_bytes, inodes.values()))


def make_subject(
    folder: Path, filesystem: str, ram_length: int, drive_length: int, *, dedicated: bool
) -> Subject:
    """Write the files that the machine is configured with into an empty folder."""
    guest, drive = folder / "guest.bin", folder / "drive.img"
    guest.write_bytes(b"".join(word.to_bytes(4, "little") for word in GUEST))
    create_sparse(drive, drive_length)
    with drive.open("r+b") as file:
        file.write(random.Random(0).randbytes(min(DATA_BYTES, drive_length)))  # noqa: S311
    config = MachineConfig(
        ram=Ram(length=ram_length),
        boot=Boot(images=(Image(guest, RAM_START),)),
        drives=(Drive(name="data", path=drive),),
    )
    return Subject(folder, filesystem, config, dedicated)
