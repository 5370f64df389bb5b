"""What two looks at a fleet say: rows of figures, with rates of the time between. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Row", "Sight", "compare"]

Look = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """Something at two looks, `seconds` apart; `before` is None when it was not there then."""

    key: str
    now: Mapping[str, Any]
    before: Mapping[str, Any] | None
    seconds: float

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.now["name"])

    def gained(self, *path: str) -> float | None:
        """Return by how much a count has grown; None when nobody knows."""
        if self.before is None:
            return None
        return float(max(_find(self.now, path) - (_find(self.before, path) or 0), 0))

    def rate(self, *path: str) -> float | None:
        """Return by how much a count grows in a second; None when nobody knows."""
        gained = self.gained(*path)
        return gained / self.seconds if gained is not None and self.seconds else None

    def bound(self, fraction: float, *path: str) -> float | None:
        """Return a time in seconds that this part of what ended meanwhile took less than."""
        before = _find(self.before, path) if self.before else None
        old = before["counts"] if before else ()
        counts = [
            max(new - was, 0)
            for new, was in zip_longest(_find(self.now, path)["counts"], old, fillvalue=0)
        ]
        seen = 0
        for power, count in enumerate(counts):
            seen += count
            if count and seen >= fraction * sum(counts):
                return float(2**power) * 1e-6
        return None


@dataclass(frozen=True, slots=True)
class Sight:
    """A fleet, and its machines, applications and pools; `others` are machines not told of."""

    fleet: Row
    machines: tuple[Row, ...]
    applications: tuple[Row, ...]
    pools: tuple[Row, ...]
    others: int
    memory_bytes: int
    disk_bytes: int
    free_bytes: int | None


def compare(now: Look, before: Look | None) -> Sight:
    """Put a look beside the one before; without one, or after a restart, beside the beginning."""
    fleet = now["fleet"]
    if before is not None and before["fleet"]["open_seconds"] >= fleet["open_seconds"]:
        before = None
    old = before["fleet"] if before else {}
    seconds = fleet["open_seconds"] - old.get("open_seconds", 0.0)
    disks = now["disks"]
    return Sight(
        fleet=Row("fleet", fleet, old, seconds),
        machines=tuple(_rows("busiest", fleet, old, seconds)),
        applications=tuple(
            Row(row.key, {**row.now, **disks.get(row.name, {})}, row.before, row.seconds)
            for row in _rows("applications", fleet, old, seconds)
        ),
        pools=tuple(_rows("pools", fleet, old, seconds)),
        others=fleet["others"],
        memory_bytes=now["memory_bytes"],
        disk_bytes=sum(disk["disk_bytes"] for disk in disks.values()),
        free_bytes=min((disk["free_bytes"] for disk in disks.values()), default=None),
    )


def _rows(field: str, fleet: Look, old: Look, seconds: float) -> Iterator[Row]:
    known = dict(_keyed(field, old.get(field, ())))
    for key, item in _keyed(field, fleet[field]):
        yield Row(key, item, known.get(key) if old else {}, seconds)


def _keyed(field: str, items: Any) -> Iterator[tuple[str, Look]]:
    """Name each by its number, or by its name; the second of a name is another."""
    seen: dict[str, int] = {}
    for item in items:
        name = str(item.get("number", item["name"]))
        seen[name] = nth = seen.get(name, 0) + 1
        yield f"{field} {name}" if nth == 1 else f"{field} {name} {nth}", item


def _find(item: Mapping[str, Any] | None, path: tuple[str, ...]) -> Any:
    found: Any = item
    for name in path:
        found = found.get(name) if found else None
    return found
