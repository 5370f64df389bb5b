"""The tables of `orchestra top`: what each column says, how it is written, what it is sorted by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestra.cli.output import human_bytes, human_count, human_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orchestra.cli.top.figures import Row, Sight

__all__ = ["TABLES", "Column", "Table", "chosen", "summary"]

CLASSES = ("advance", "inspect", "background")
MEDIAN, MOST = 0.5, 0.99


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, what it means, its value in a row, and how that is written."""

    title: str
    meaning: str
    value: Callable[[Row], Any]
    write: Callable[[Any], str] = str

    @property
    def is_text(self) -> bool:
        """Whether it has words in it, which are aligned to the left and looked for by a filter."""
        return self.write is str

    def text(self, row: Row) -> str:
        """Write its cell in a row; empty when there is no value."""
        value = self.value(row)
        return "" if value is None else self.write(value)


@dataclass(frozen=True, slots=True)
class Table:
    """A table: which rows, its columns, the one it is sorted by at first, what a minute shows."""

    name: str
    rows: Callable[[Sight], Sequence[Row]]
    columns: tuple[Column, ...]
    sorted_by: str
    pulse: Column

    def matches(self, row: Row, words: str) -> bool:
        """Whether all words are somewhere in a row's texts."""
        text = " ".join(column.text(row) for column in self.columns if column.is_text).lower()
        return all(word in text for word in words.lower().split())


def chosen(
    table: Table, rows: Iterable[Row], words: str, column: Column, *, descending: bool
) -> list[Row]:
    """Return the rows that match, in order; those without a value come last."""
    found = [row for row in rows if table.matches(row, words)]
    valued = [row for row in found if column.value(row) is not None]
    valued.sort(key=column.value, reverse=descending)
    return valued + [row for row in found if column.value(row) is None]


def summary(sight: Sight) -> dict[str, str]:
    """Say what the fleet as a whole does: a short text under each title."""
    fleet = sight.fleet
    used, waiting = fleet.rate("seconds"), zip(CLASSES, fleet.now["runnable"], strict=True)
    texts = {
        "up": _duration(fleet.now["open_seconds"]),
        "workers": str(fleet.now["workers"]),
        "busy": "" if used is None else f"{100 * used / fleet.now['workers']:.0f} %",
        "running": str(fleet.now["running"]),
        "waiting": " ".join(f"{count} {name}" for name, count in waiting if count) or "nobody",
        "cycles/s": _optional(fleet.rate("cycles"), _speed),
        "calls/s": _optional(fleet.rate("calls"), _speed),
        "served in": _bounds(fleet, "serving_seconds"),
        "after": _bounds(fleet, "waiting_seconds"),
        "machines": str(fleet.now["machines"]),
        "memory": human_bytes(sight.memory_bytes),
        "disk": human_bytes(sight.disk_bytes),
        "free": _optional(sight.free_bytes, human_bytes),
    }
    return {title: text for title, text in texts.items() if text}


def _bounds(row: Row, field: str) -> str:
    median, most = row.bound(MEDIAN, field), row.bound(MOST, field)
    if median is None or most is None:
        return ""
    return f"{human_seconds(median)}, 99 % {human_seconds(most)}"


def _optional(value: float | None, write: Callable[[float], str]) -> str:
    return "" if value is None else write(value)


def _duration(seconds: float) -> str:
    minutes, hours = seconds // 60, seconds // 3600
    if not minutes:
        return f"{seconds:.0f} s"
    return f"{hours:.0f}:{minutes % 60:02.0f}:{seconds % 60:02.0f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _speed(value: float) -> str:
    return human_count(value) if value >= 10 else f"{value:.1f}".removesuffix(".0")


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _now(*path: str) -> Callable[[Row], Any]:
    def value(row: Row) -> Any:
        found: Any = row.now
        for name in path:
            found = found.get(name) if found else None
        return found

    return value


def _rate(*path: str) -> Callable[[Row], Any]:
    return lambda row: row.rate(*path)


def _bound(fraction: float, *path: str) -> Callable[[Row], Any]:
    return lambda row: row.bound(fraction, *path)


def _times(initial: str, meaning: str, *path: str) -> tuple[Column, Column]:
    return (
        Column(f"{initial}50", meaning, _bound(MEDIAN, *path), human_seconds),
        Column(f"{initial}99", meaning, _bound(MOST, *path), human_seconds),
    )


def _refused(row: Row) -> int:
    statuses = row.now["statuses"]
    return sum(count for status, count in statuses.items() if status != "accepted")


NAME = Column("name", "folder or name", _now("name"))
CPU = Column("cpu %", "CPU time of workers, 100 is one", _rate("seconds"), _percent)
INPUTS = Column("in/s", "inputs a second", _rate("inputs"), _speed)
ANSWERS = Column("/s", "inspects a second", _rate("ended"), _speed)

TABLES = (
    Table(
        "machines",
        lambda sight: sight.machines,
        (
            Column("#", "its number in this fleet", _now("number"), _count),
            NAME,
            Column("kind", "machine, application or pool", _now("kind")),
            Column("does", "run, advance, inspect or call", _now("doing")),
            Column("state", "running, waiting for a worker, files or idle", _now("state")),
            Column("class", "advance before inspect before background", _now("priority")),
            Column("weight", "its share beside others", _now("weight"), "{:g}".format),
            Column("cycle", "its clock", _now("cycle"), _count),
            Column("cycles/s", "cycles passed a second", _rate("cycles"), _speed),
            CPU,
            Column("wait %", "time waited for a worker", _rate("waiting_seconds"), _percent),
            Column("cpu time", "CPU time so far", _now("seconds"), human_seconds),
        ),
        "cpu %",
        CPU,
    ),
    Table(
        "applications",
        lambda sight: sight.applications,
        (
            NAME,
            Column("inputs", "inputs in the log", _now("inputs"), _count),
            INPUTS,
            Column("refused", "inputs not accepted", _refused, _count),
            Column("queue", "inputs that wait for their turn", _now("waiting"), _count),
            *_times("p", "of inputs with the guest", "serving_seconds"),
            Column("asked/s", "inspects a second", _rate("pool", "ended"), _speed),
            Column("asking", "inspects that wait", _now("pool", "waiting"), _count),
            *_times("a", "of inspects", "pool", "answering_seconds"),
            Column("cycle", "its clock", _now("cycle"), _count),
            Column("snapshot", "the last input with one", _now("snapshot"), _count),
            Column("log", "bytes of its log", _now("log_bytes"), human_bytes),
            Column("disk", "bytes of its folder", _now("disk_bytes"), human_bytes),
            Column("free", "bytes free there", _now("free_bytes"), human_bytes),
        ),
        "name",
        INPUTS,
    ),
    Table(
        "pools",
        lambda sight: sight.pools,
        (
            NAME,
            Column("size", "leases at most", _now("size"), _count),
            Column("running", "leases at work", _now("running"), _count),
            Column("warm", "leases ready", _now("warm"), _count),
            Column("waiting", "inspects that wait for a lease", _now("waiting"), _count),
            Column("queue", "inspects that may wait", _now("queue"), _count),
            Column("ended", "inspects so far", _now("ended"), _count),
            ANSWERS,
            *_times("p", "of inspects", "answering_seconds"),
            Column("refused", "inspects there was no room for", _now("refused"), _count),
            Column("states", "states published", _now("publications"), _count),
        ),
        "/s",
        ANSWERS,
    ),
)
