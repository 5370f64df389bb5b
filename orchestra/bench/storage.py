"""`orchestra bench storage`: its rows, the lines they should be at, and where they are measured."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestra.errors import BadConfig

from .density import INSTANCES, measure_density
from .filesystems import kind_of, mounted
from .measure import measure_bytes, measure_rate
from .operations import LARGE, ROLL, SESSIONS
from .report import RATES, Report, Row, check_rows, describe_host, is_wanted
from .subject import LEAST_RAM, Subject, make_subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from .measure import Clock

    Announce = Callable[[str], AbstractContextManager[object]]

__all__ = ["StorageOptions", "bench_storage", "row_names"]

FILESYSTEM_BYTES = 8 << 30  # a machine of 1 TB must not need more
STORED = 100  # snapshots whose bytes are counted together: small ones share blocks of inodes
STORED_WHOLE = 4  # where each may be a copy of everything
LARGE_PART = 0.75  # of the ordinary machine's speed
BYTES = "mb-per-snapshot/"

AT_LEAST: Final = {
    "load-config/memory/discard": 2000.0,
    "load-config/backing/store": 1000.0,
    "load-snapshot/memory/discard": 8000.0,
    "load-snapshot/memory/store": 2500.0,
    "load-snapshot/backing/discard": 4000.0,
    "load-snapshot/backing/store": 2500.0,
    "roll-snapshot/memory/discard": 200_000.0,
    "roll-snapshot/memory/store": 6000.0,
    "roll-snapshot/backing/discard": 200_000.0,
    ROLL: 6000.0,
    "lease": 50_000.0,
    "density/instances": float(INSTANCES),
}
AT_LEAST_BTRFS: Final = {"roll-snapshot/memory/store": 3000.0, ROLL: 3000.0}
AT_MOST: Final = {
    f"{BYTES}roll-snapshot/memory/store": 0.05,
    f"{BYTES}{ROLL}": 0.05,
    f"{BYTES}{ROLL}/1tb": 0.05,
    "density/descriptors": 0.0,
    "density/bytes": 16384.0,
}
COUNTED: Final = tuple(name for name in SESSIONS if name.endswith(("/store", f"{ROLL}/1tb")))
DENSITY: Final = {
    "density/instances": "machines",
    "density/descriptors": "fd",
    "density/bytes": "B",
}


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """How the machine is, how long each run takes, and which rows are wanted (glob patterns)."""

    ram_length: int = 64 << 20
    drive_length: int = 512 << 20
    seconds: float = 0.25
    runs: int = 5
    clock: Clock = "wall"
    rows: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        if self.ram_length < LEAST_RAM:
            raise BadConfig("--ram", self.ram_length, f"at least {LEAST_RAM}, for the guest")
        check_rows(self.rows, row_names())

    def wants(self, name: str) -> bool:
        """Whether this row was asked for."""
        return is_wanted(name, self.rows)


def row_names() -> list[str]:
    """Name every row, in order."""
    return [*SESSIONS, *(BYTES + name for name in COUNTED), *DENSITY]


def bench_storage(
    directory: Path,
    options: StorageOptions,
    announce: Announce,
    filesystems: Sequence[str] = (),
) -> Report:
    """Measure in a folder that is made in `directory`, and gone afterwards.

    With `filesystems` each of them is made there in a sparse image and mounted, which takes root.
    `announce` is entered with a line of text for each row. Raises BadConfig and OSError.
    """
    host = describe_host()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="orchestra-bench-", dir=directory) as name:
        scratch = Path(name)
        if not filesystems:
            rows += _measure(scratch, kind_of(scratch), options, announce, dedicated=False)
        for kind in filesystems:
            with mounted(kind, scratch, FILESYSTEM_BYTES) as filesystem:
                folder = filesystem.folder / "bench"
                folder.mkdir()
                rows += _measure(folder, kind, options, announce, dedicated=True)
    return Report("storage", host, tuple(rows))


def _measure(
    folder: Path, kind: str, options: StorageOptions, announce: Announce, *, dedicated: bool
) -> Iterator[Row]:
    with announce(f"{kind}: files of the machine"):
        lengths = options.ram_length, options.drive_length
        subject = make_subject(folder, kind, *lengths, dedicated=dedicated)
    found: dict[str, float] = {}
    for name in row_names():
        if not options.wants(name) or name in found:
            continue
        with announce(f"{kind}: {name}"):
            rows = _rows(name, subject, options, found)
        found |= {row.name: row.value for row in rows}
        yield from (row for row in rows if options.wants(row.name))


def _rows(
    name: str, subject: Subject, options: StorageOptions, found: dict[str, float]
) -> list[Row]:
    kind, runs = subject.filesystem, options.runs
    if name in DENSITY:
        densities = [measure_density(subject.snapshot()) for _ in range(runs)]
        columns = zip(*densities, strict=True)
        return [
            Row(name, unit, tuple(map(float, column)), kind, *_lines(name, kind, found))
            for (name, unit), column in zip(DENSITY.items(), columns, strict=True)
        ]
    if name in SESSIONS:
        rates = measure_rate(SESSIONS[name](subject), options.seconds, runs, options.clock)
        return [Row(name, RATES[options.clock], rates, kind, *_lines(name, kind, found))]
    session = SESSIONS[name.removeprefix(BYTES)](subject)
    count = STORED_WHOLE if "/load-config/" in name else STORED
    grown = measure_bytes(session, subject.used_bytes, count, runs)
    return [Row(name, "MB", grown, kind, *_lines(name, kind, found))]


def _lines(name: str, kind: str, found: dict[str, float]) -> tuple[float | None, float | None]:
    """At least, at most; the largest machine's line is drawn by the ordinary one."""
    if name == f"{ROLL}/{max(LARGE, key=LARGE.__getitem__)}":
        return (LARGE_PART * found[ROLL] if ROLL in found else None), None
    at_least = AT_LEAST | AT_LEAST_BTRFS if kind == "btrfs" else AT_LEAST
    return at_least.get(name), AT_MOST.get(name)
