"""A folder's layers merged into one, in place, whole or not at all; the machine stays the same."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from orchestra.errors import BadImage
from orchestra.io import folder
from orchestra.io.entry import AT_CWD, write_new
from orchestra.io.lock import wait_lock
from orchestra.io.sparse import allocated_bytes, write_at

from .lineage import LAST_NUMBER
from .merged import Merged, delta_parts
from .record import NAME, Record, encode_record, read_record, replace_record
from .torn import settle_torn, sweep
from .view import view_of_folder

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CompactSummary", "compact_machine"]


@dataclass(frozen=True, slots=True)
class CompactSummary:
    """A folder that was compacted: how many layers it had, and what its layers occupy now.

    `pages` are those of its one layer. Layers that other folders link stay there.
    """

    directory: Path
    cycle: int
    layers: int
    pages: int
    layer_bytes: int
    before_bytes: int


def compact_machine(directory: Path | str, *, wait_seconds: float | None = 0) -> CompactSummary:
    """Merge the layers of a machine that does not run, or a snapshot that nobody reads, into one.

    Every page is compared with its checksum on the way. What is left of a process that was killed
    meanwhile does no harm and goes at the next call. Since it takes the place of what may have been
    made durable, the new layer is synced before the old ones go.

    Raises MachineLocked, MachineTorn, BadImage, BackingFault and OSError; all is as before then.
    """
    directory = folder.located(directory)
    with wait_lock(directory, "exclusive", wait_seconds) as lock:
        fd = lock.fileno()
        record = read_record(directory, fd)
        settle_torn(str(directory), fd, record, "refuse", writing=True)
        before = _layer_bytes(directory, record.deltas)
        compacted, pages = record, 0
        sweep(str(directory), fd, record.deltas)
        if len(record.deltas) > 1:
            compacted, pages = _merge(directory, fd, record)
            sweep(str(directory), fd, compacted.deltas)
        after = _layer_bytes(directory, compacted.deltas)
    return CompactSummary(directory, record.cycle, len(record.deltas), pages, after, before)


def _merge(directory: Path, fd: int, record: Record) -> tuple[Record, int]:
    path = directory / merged_name(record.deltas)
    view = view_of_folder(str(directory), fd, record, []).acquire()
    try:
        with closing(Merged(view)) as merged:
            numbers = merged.numbers
            _write_layer(path, merged, numbers)
    finally:
        view.release()
    folder.sync(directory)
    compacted = msgspec.structs.replace(record, deltas=(path.name,))
    replace_record(fd, encode_record(compacted), durable=True)
    return compacted, len(numbers)


def _write_layer(path: Path, merged: Merged, numbers: list[int]) -> None:
    write_new(AT_CWD, str(path), [], 0o644)
    try:
        write_at(path, delta_parts(merged.pages(numbers), merged.state))
        path.chmod(0o444)
        folder.sync(path)
    except BaseException:
        path.unlink()
        raise


def merged_name(deltas: tuple[str, ...]) -> str:
    """Name the layer that these become: like the newest, with a 0 before it.

    No machine that is stored makes such a name, so what a killed process left is never mistaken.
    """
    if len(deltas[-1]) > len(f"{LAST_NUMBER}.delta"):
        raise BadImage(NAME, "deltas", deltas[-1], f"a number up to {LAST_NUMBER}")
    return f"0{deltas[-1]}"


def _layer_bytes(directory: Path, deltas: tuple[str, ...]) -> int:
    return sum(allocated_bytes(folder.child(directory, name)) for name in deltas)
