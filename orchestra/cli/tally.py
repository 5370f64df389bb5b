"""What a demo did, counted and timed, as a table and as JSON."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestra.cli.facts import look_at
from orchestra.cli.output import human_bytes, human_count, human_seconds
from orchestra.errors import OrchestraError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["DemoFailed", "Tally", "Timings", "quantile"]


class DemoFailed(OrchestraError):
    """A guest's answer was not what it must be."""


def quantile(values: list[float], fraction: float) -> float:
    """Return the value that this fraction of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


@dataclass(slots=True)
class Timings:
    """One kind of operation: how long each took, and how long all of them together."""

    each: list[float] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0

    @contextlib.contextmanager
    def time(self) -> Iterator[None]:
        """Time one operation that succeeds."""
        began = time.perf_counter()
        yield
        self.last = time.perf_counter()
        if not self.each:
            self.first = began
        self.each.append(self.last - began)

    @property
    def per_second(self) -> float:
        """How many there were in a second, from the first one's begin to the last one's end."""
        return len(self.each) / (self.last - self.first) if self.last > self.first else 0.0

    def as_json(self) -> dict[str, Any]:
        """Say it in numbers."""
        return {
            "count": len(self.each),
            "per_second": round(self.per_second, 1),
            "p50_seconds": round(quantile(self.each, 0.5), 6),
            "p99_seconds": round(quantile(self.each, 0.99), 6),
        }


@dataclass(slots=True)
class Tally:
    """A demo's books; `checked` counts answers that were compared with what they must be."""

    name: str
    backend: str
    workers: int
    operations: dict[str, Timings] = field(default_factory=dict)
    checked: int = 0
    cycles: int = 0
    cpu_seconds: float = 0.0
    digest: str = ""
    folders: dict[str, Path] = field(default_factory=dict)
    bytes_on_disk: dict[str, dict[str, int]] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0

    def operation(self, name: str) -> Timings:
        """Return the timings of one kind of operation."""
        return self.operations.setdefault(name, Timings())

    def check(self, asked: str, found: object, expected: object) -> None:
        """Compare an answer with what it must be; DemoFailed says both."""
        if found != expected:
            raise DemoFailed(f"asked {asked!r}, the guest answered {found!r}, not {expected!r}")
        self.checked += 1

    def finish(self) -> None:
        """Measure the folders and end the time."""
        self.seconds = time.perf_counter() - self.began
        for name, folder in self.folders.items():
            facts = look_at(folder)
            self.bytes_on_disk[name] = {
                "logical": facts.logical_bytes,
                "allocated": facts.allocated_bytes,
                "own": facts.own_bytes,
            }

    @property
    def cycles_per_second(self) -> float:
        """Guest cycles per CPU second of a worker."""
        return self.cycles / self.cpu_seconds if self.cpu_seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """Say all of it."""
        return {
            "demo": self.name,
            "ok": True,
            "backend": self.backend,
            "workers": self.workers,
            "seconds": round(self.seconds, 3),
            "checked": self.checked,
            "operations": [
                {"operation": name} | timings.as_json() for name, timings in self.operations.items()
            ],
            "cycles": self.cycles,
            "cycles_per_second": round(self.cycles_per_second),
            "digest": self.digest,
            "bytes": self.bytes_on_disk,
        }

    def print(self) -> None:
        """Print it as a table."""
        from rich.console import Console
        from rich.table import Table

        columns = ("operation", "count", "per second", "p50", "p99")
        table = Table(*columns, title=f"orchestra demo: {self.name}", title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for name, timings in self.operations.items():
            many = len(timings.each) > 1
            table.add_row(
                name,
                f"{len(timings.each):,}",
                f"{timings.per_second:,.0f}" if many else "",
                human_seconds(quantile(timings.each, 0.5)),
                human_seconds(quantile(timings.each, 0.99)) if many else "",
            )
        console = Console(highlight=False)
        console.print(table)
        speed = human_count(self.cycles_per_second)
        console.print(
            f"{self.checked:,} answers checked, all right; {self.workers} workers on "
            f"{self.backend}, {human_seconds(self.seconds)}"
        )
        console.print(f"{human_count(self.cycles)} guest cycles, {speed}/s of a worker's CPU")
        for name, size in self.bytes_on_disk.items():
            console.print(
                f"{name}: {human_bytes(size['logical'])} long, {human_bytes(size['allocated'])} "
                f"on disk, {human_bytes(size['own'])} of them its own"
            )
        console.print(f"digest of the snapshot: {self.digest}", soft_wrap=True)
