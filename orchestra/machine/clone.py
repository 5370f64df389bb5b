"""A machine's folder copied by links and reflinks: a second machine in the same state."""

from __future__ import annotations

import secrets
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from orchestra.errors import BadImage
from orchestra.io import folder
from orchestra.io.entry import write_new
from orchestra.io.folder import Draft
from orchestra.io.lock import wait_lock
from orchestra.io.reflink import CloneResult, clone_file, link_file

from .flatten import flattening
from .record import NAME, encode_record, read_record
from .torn import settle_torn

if TYPE_CHECKING:
    from .record import Record

__all__ = ["CloneSummary", "clone_machine", "export_range"]


@dataclass(frozen=True, slots=True)
class CloneSummary:
    """A cloned folder, or file: where, at which cycle, how it came there, bytes copied for it.

    `methods` counts files, or parts of images, by "link", "reflink", "copy_file_range", "sparse".
    """

    directory: Path
    cycle: int
    methods: dict[str, int]
    copied_bytes: int


def clone_machine(
    source: Path | str,
    target: Path | str,
    *,
    durable: bool = False,
    wait_seconds: float | None = 0,
    torn: Literal["refuse", "discard"] = "refuse",
    flatten: bool = False,
) -> CloneSummary:
    """Copy a machine that does not run, or a snapshot, to a new folder: whole or not at all.

    Layers are read-only and are linked; what is written in place is reflinked, or copied where the
    file system cannot. With `flatten` the copy's RAM and drives are plain images, made of reflinks
    of the images and the layers' pages, each compared with its checksum.

    Raises MachineLocked, MachineTorn, FolderExists, BadImage, BackingFault and OSError.
    """
    source, target = folder.located(source), Path(target)
    with wait_lock(source, "shared", wait_seconds) as lock:
        record = read_record(source, lock.fileno())
        settle_torn(str(source), lock.fileno(), record, torn, writing=False)
        draft = Draft(target, durable=durable)
        draft.check()
        with draft:
            made = Path(draft.path)
            if flatten:
                new, methods, copied = _flattened(source, lock.fileno(), made, record)
            else:
                new, methods, copied = _linked(source, made, record)
            new = msgspec.structs.replace(new, id=secrets.token_hex(16), parent=record.id)
            write_new(draft.fileno(), NAME, (encode_record(new),))
    return CloneSummary(target, record.cycle, dict(methods), copied)


def export_range(
    source: Path | str, name: str, target: Path | str, *, wait_seconds: float | None = 0
) -> CloneSummary:
    """Make a plain file of a range of a machine that does not run, or of a snapshot.

    A drive, by its name, can then be mounted on the host. The layers' pages are laid over a reflink
    of the image below, each compared with its checksum. Raises what clone_machine does, BadConfig
    for a range that there is not, and FileExistsError.
    """
    source, target = folder.located(source), Path(target)
    with wait_lock(source, "shared", wait_seconds) as lock:
        record = read_record(source, lock.fileno())
        settle_torn(str(source), lock.fileno(), record, "refuse", writing=False)
        with flattening(source, lock.fileno(), record) as flat:
            flat.write_range(name, target)
            return CloneSummary(target, record.cycle, dict(flat.methods), flat.copied_bytes)


def _linked(source: Path, target: Path, record: Record) -> tuple[Record, Counter[str], int]:
    results = [_copy(source, target, name, own=own) for name, own in _files(record)]
    copied = sum(result.copied_bytes for result in results)
    return record, Counter(result.method for result in results), copied


def _flattened(
    source: Path, fd: int, target: Path, record: Record
) -> tuple[Record, Counter[str], int]:
    with flattening(source, fd, record) as flat:
        new = flat.write_folder(target)
        return new, flat.methods, flat.copied_bytes


def _files(record: Record) -> list[tuple[str, bool]]:
    """List a folder's files besides machine.json, and whether each machine needs its own."""
    images = [(image.file, image.shared) for image in record.images]
    return images + [(name, False) for name in record.deltas]


def _copy(source: Path, target: Path, name: str, *, own: bool) -> CloneResult:
    path = folder.child(source, name)
    try:
        result = clone_file(path, target / name) if own else link_file(path, target / name)
    except FileNotFoundError as error:
        raise BadImage(path, "file", "no such file", "a file of this machine") from error
    if result.method != "link":
        mode = stat.S_IMODE(path.stat().st_mode)
        (target / name).chmod(mode if own else mode & 0o444)
    return result
