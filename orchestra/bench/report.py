"""What a benchmark says: rows with their lines, as one JSON document and as a table."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestra.errors import BadConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

__all__ = ["RATES", "Report", "Row", "check_rows", "describe_host", "is_wanted", "print_tables"]

UNLIMITED = 10_000  # columns
RATES = {"wall": "op/s", "cpu": "op/cpu-s"}  # by the clock they are counted with


def check_rows(patterns: Sequence[str], names: Sequence[str]) -> None:
    """Raise BadConfig if a glob pattern is of no row."""
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise BadConfig("--rows", pattern, f"a pattern of {', '.join(names)}")


def is_wanted(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the glob patterns is of this row."""
    return any(fnmatch(name, pattern) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a benchmark: a value per run, and the line that their median should be at.

    `at_most` is the line where less is better; a row without either is for information.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    filesystem: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def value(self) -> float:
        """The median of the runs."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The worst and the best run, the smaller number first."""
        return min(self.values), max(self.values)

    @property
    def ok(self) -> bool:
        """Whether it is at its line; True when there is none."""
        if self.at_least is not None and self.value < self.at_least:
            return False
        return self.at_most is None or self.value <= self.at_most

    def as_json(self) -> dict[str, Any]:
        """Return the row of DESIGN §7."""
        document: dict[str, Any] = {"name": self.name}
        if self.filesystem is not None:
            document["filesystem"] = self.filesystem
        document |= {"value": self.value, "unit": self.unit, "spread": list(self.spread)}
        document["runs"] = len(self.values)
        for line in ("at_least", "at_most"):
            if getattr(self, line) is not None:
                document[line] = getattr(self, line)
        return document | {"ok": self.ok}


@dataclass(frozen=True, slots=True)
class Report:
    """A whole benchmark: its name, where it ran, and what it found."""

    benchmark: str
    host: dict[str, Any]
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether every row is at its line."""
        return all(row.ok for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Return the document that `--json` prints."""
        rows = [row.as_json() for row in self.rows]
        return {"benchmark": self.benchmark, "host": self.host, "rows": rows, "ok": self.ok}


def describe_host() -> dict[str, Any]:
    """Say what the figures depend on: processor, memory, kernel, Python and orchestra."""
    try:
        version = importlib.metadata.version("orchestra")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        version = None
    return {
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "orchestra": version,
        "load": os.getloadavg()[0],  # before it began: of others
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def print_tables(report: Report, console: Console) -> None:
    """Print a column for each file system, in one table if it is not too wide."""
    filesystems = list(dict.fromkeys(row.filesystem for row in report.rows))
    table = _make_table(report, filesystems)
    wide = console.options.update_width(UNLIMITED)
    if console.measure(table, options=wide).maximum <= console.width:
        console.print(table)
        return
    for filesystem in filesystems:
        console.print(_make_table(report, [filesystem]))


def _make_table(report: Report, filesystems: Sequence[str | None]) -> Table:
    from rich.table import Table

    table = Table(title=f"{report.benchmark}: median (spread)", title_justify="left")
    table.add_column("row", overflow="fold")
    table.add_column("unit")
    for filesystem in filesystems:
        table.add_column(filesystem or "", justify="right", overflow="fold")
        table.add_column("line", justify="right")
    by_place = {(row.name, row.filesystem): row for row in report.rows}
    for name, unit in dict.fromkeys((row.name, row.unit) for row in report.rows):
        cells = [_cells(by_place.get((name, filesystem))) for filesystem in filesystems]
        table.add_row(name, unit, *(text for pair in cells for text in pair))
    return table


def _cells(row: Row | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    low, high = row.spread
    value = f"{_number(row.value)} [dim]({_number(low)}–{_number(high)})[/dim]"  # noqa: RUF001
    line = row.at_least if row.at_least is not None else row.at_most
    if line is None:
        return value, ""
    sign = "≥" if row.at_least is not None else "≤"
    color, mark = ("green", "✓") if row.ok else ("red", "✗")
    return value, f"[{color}]{sign} {_number(line)} {mark}[/{color}]"


def _number(value: float) -> str:
    if value and abs(value) < 10:
        return f"{value:.3g}"
    return f"{value:,.0f}"
