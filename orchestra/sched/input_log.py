"""An application's log in SQLite: each input with what became of it, in order, whole or not."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from orchestra.errors import BadImage, LogFault, MachineClosed
from orchestra.io import folder
from orchestra.machine.request import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Entry", "InputLog", "InputOutcome"]

FORMAT = 1
Kind: TypeAlias = Literal["output", "report", "exception"]

SCHEMA = """
CREATE TABLE inputs (
    number INTEGER PRIMARY KEY,   -- from 1, or the oldest that is kept, without gaps
    payload BLOB NOT NULL,
    status TEXT NOT NULL,         -- only "accepted" changed the machine
    cycle INTEGER NOT NULL,       -- of the machine afterwards
    state_hash TEXT,              -- its root hash afterwards, if hashes are noted
    cycles INTEGER NOT NULL,      -- that the input took
    seconds REAL NOT NULL
) STRICT;
CREATE TABLE messages (
    number INTEGER NOT NULL REFERENCES inputs,
    position INTEGER NOT NULL,    -- from 0, for each kind
    kind TEXT NOT NULL,           -- output, report, exception
    data BLOB NOT NULL,
    PRIMARY KEY (number, kind, position)
) STRICT, WITHOUT ROWID;
"""
COLUMNS = "number, payload, status, cycle, state_hash, cycles, seconds"
ENOUGH_BYTES = 1 << 20
FORGOTTEN_AT_ONCE = 5000
# As many as SQLite takes with one call of malloc: appending needs no more, and 2 MiB of pages, each
# taken by whatever thread comes, would be as much again in the C heap of every one.
CACHE_PAGES = 20
LAST_INTEGER = (1 << 63) - 1  # that SQLite knows
OUTCOME_COLUMNS = "status, cycle, state_hash, cycles, seconds"


@dataclass(frozen=True, slots=True)
class InputOutcome(Outcome):
    """What became of an input: its number in the log, and cycle and root hash after it.

    `number` is None when it was not taken into the log, because the host failed: it may be tried
    again. `state_hash` is None when hashes are not noted.
    """

    number: int | None = None
    cycle: int = 0
    state_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """What replay needs of an input."""

    number: int
    payload: bytes
    status: Status
    cycle: int
    state_hash: str | None


class InputLog:
    """The log of one application, blocking; its methods may be called from any thread.

    While it is open the file is locked: other processes read it with SQLite's tools afterwards.
    Every failure of the database is a LogFault; a file that is no such log is a BadImage; a log
    that was closed is MachineClosed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal = path.with_name(f"{path.name}-wal")
        self._synced_folder = False
        self._lock = threading.Lock()
        self._closed = False
        with self._translated():
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
                self.first, self.last = self._read_bounds()
            except BaseException:
                self._connection.close()
                raise

    def append(self, payload: bytes, outcome: InputOutcome) -> None:
        """Add an input, all of it or nothing; it must be the next one."""
        number = outcome.number
        row = number, payload, outcome.status, outcome.cycle, outcome.state_hash
        with self._changing() as connection:
            assert number == self.last + 1
            connection.execute(
                f"INSERT INTO inputs ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (*row, outcome.cycles, outcome.seconds),
            )
            connection.executemany(
                "INSERT INTO messages VALUES (?, ?, ?, ?)",
                [(number, *message) for message in _messages(outcome)],
            )
        self.last = number

    def outcome(self, number: int) -> tuple[bytes, InputOutcome]:
        """Return the payload and the outcome of an input; KeyError when there is none."""
        if number > LAST_INTEGER:
            raise KeyError(number)
        with self._translated():
            row = self._connection.execute(
                f"SELECT payload, {OUTCOME_COLUMNS} FROM inputs WHERE number = ?",  # noqa: S608
                (number,),
            ).fetchone()
            if row is None:
                raise KeyError(number)
            said: dict[str, list[bytes]] = {kind: [] for kind in get_args(Kind)}
            for kind, data in self._connection.execute(
                "SELECT kind, data FROM messages WHERE number = ? ORDER BY kind, position",
                (number,),
            ):
                said[kind].append(data)
        payload, status, cycle, state_hash, cycles, seconds = row
        exception = said["exception"][0] if said["exception"] else None
        return payload, InputOutcome(
            status,
            tuple(said["output"]),
            tuple(said["report"]),
            exception,
            cycles,
            seconds,
            number=number,
            cycle=cycle,
            state_hash=state_hash,
        )

    def outcomes(self, first: int, last: int) -> list[tuple[bytes, InputOutcome]]:
        """Return some of the inputs from `first` on, at least one: not much more than a MiB."""
        found, size = [], 0
        for number in range(first, last + 1):
            payload, outcome = self.outcome(number)
            found.append((payload, outcome))
            size += len(payload) + sum(map(len, (*outcome.outputs, *outcome.reports)))
            if size > ENOUGH_BYTES:
                break
        return found

    def entries(self, first: int, last: int) -> list[Entry]:
        """Return the inputs from `first` to `last`, both included, as far as there are any."""
        with self._translated():
            rows = self._connection.execute(
                "SELECT number, payload, status, cycle, state_hash FROM inputs "
                "WHERE number BETWEEN ? AND ? ORDER BY number",
                (first, last),
            ).fetchall()
        return [Entry(*row) for row in rows]

    def forget(self, end: int) -> None:
        """Remove the oldest inputs before number `end`: some thousands at most, lest others wait.

        The file keeps its length; what comes later takes the place.
        """
        end = min(end, self.first + FORGOTTEN_AT_ONCE, self.last)
        with self._changing() as connection:
            connection.execute("DELETE FROM messages WHERE number < ?", (end,))
            connection.execute("DELETE FROM inputs WHERE number < ?", (end,))
        self.first = max(self.first, end)

    def count_statuses(self) -> dict[Status, int]:
        """Return how many of the inputs it has ended how."""
        with self._translated():
            query = "SELECT status, count(*) FROM inputs GROUP BY status"
            return dict(self._connection.execute(query).fetchall())

    def sync(self) -> None:
        """Wait until all inputs that were appended would survive a power failure; or OSError.

        They are in the write-ahead log then, which SQLite itself syncs only before it moves them
        to the database: so several inputs may share one sync, and a worker need not wait for it.
        """
        folder.sync(self._journal, data_only=True)
        if not self._synced_folder:
            folder.sync(self.path.parent)
            self._synced_folder = True

    def close(self) -> None:
        """Close the file; twice is fine."""
        with self._lock:
            self._closed = True
            self._connection.close()

    def _prepare(self) -> None:
        connection = self._connection
        # else it stores to a mapped file, for readers in other processes, and on btrfs a full disk
        # would end this process with SIGBUS
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # see `sync`
        connection.execute(f"PRAGMA cache_size = {CACHE_PAGES}")
        (form,) = connection.execute("PRAGMA user_version").fetchone()
        if form == FORMAT:
            return
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if form or tables:
            raise BadImage(self.path, "user_version", form, f"{FORMAT}, what this orchestra reads")
        connection.executescript(f"BEGIN;{SCHEMA}PRAGMA user_version = {FORMAT};COMMIT;")

    def _read_bounds(self) -> tuple[int, int]:
        query = "SELECT coalesce(min(number), 1), coalesce(max(number), 0), count(*) FROM inputs"
        first, last, count = self._connection.execute(query).fetchone()
        if last - first + 1 != count:
            expected = f"all from {first} on"
            raise BadImage(self.path, "inputs", f"{count} up to number {last}", expected)
        return first, last

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """Change it whole or not at all."""
        with self._translated():
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise MachineClosed("the application is closed")
            try:
                yield
            except sqlite3.NotSupportedError as error:
                raise BadImage(self.path, "content", str(error), "an application's log") from error
            except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
                raise LogFault(self.path, str(error)) from error
            except sqlite3.DatabaseError as error:
                raise BadImage(self.path, "content", str(error), "an application's log") from error
            except sqlite3.Error as error:
                raise LogFault(self.path, str(error)) from error


def _messages(outcome: Outcome) -> Iterator[tuple[int, Kind, bytes]]:
    for position, data in enumerate(outcome.outputs):
        yield position, "output", data
    for position, data in enumerate(outcome.reports):
        yield position, "report", data
    if outcome.exception is not None:
        yield 0, "exception", outcome.exception
