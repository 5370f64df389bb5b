"""The log has every input with what became of it, all of it or nothing, in order."""

import sqlite3

import pytest

from orchestra.errors import BadImage, LogFault, MachineClosed
from orchestra.sched.input_log import Entry, InputLog, InputOutcome


def outcome(number, status="accepted", **changes):
    fields = {
        "status": status,
        "outputs": (b"one", b"\x00two"),
        "reports": (b"said",),
        "exception": None,
        "cycles": 10,
        "seconds": 0.5,
        "number": number,
        "cycle": 100 * number,
        "state_hash": "ab" * 32,
    }
    return InputOutcome(**(fields | changes))


@pytest.fixture
def log(tmp_path):
    log = InputLog(tmp_path / "inputs.sqlite")
    yield log
    log.close()


def test_what_was_appended_is_there_in_the_next_process(log):
    kept = [
        outcome(1),
        outcome(2, "rejected", outputs=(), reports=(), state_hash=None),
        outcome(3, "exception", exception=b"why", outputs=tuple(b"%d" % n for n in range(12))),
    ]
    for n, item in enumerate(kept):
        log.append(b"payload %d" % n, item)
    log.close()
    again = InputLog(log.path)
    assert again.last == 3
    assert [again.outcome(n + 1) for n in range(3)] == [
        (b"payload %d" % n, item) for n, item in enumerate(kept)
    ]
    assert again.entries(2, 9) == [
        Entry(2, b"payload 1", "rejected", 200, None),
        Entry(3, b"payload 2", "exception", 300, "ab" * 32),
    ]
    assert again.count_statuses() == {"accepted": 1, "rejected": 1, "exception": 1}
    again.close()


def test_an_input_that_is_not_there_is_a_key_error(log):
    with pytest.raises(KeyError):
        log.outcome(1)


def test_an_input_is_taken_whole_or_not_at_all(log):
    log.append(b"a", outcome(1))
    with pytest.raises(BadImage):  # the last message is no bytes
        log.append(b"b", outcome(2, reports=(b"x", 7)))
    assert log.last == 1
    with pytest.raises(KeyError):
        log.outcome(2)
    log.append(b"b", outcome(2))
    assert log.outcome(2)[1].reports == (b"said",)


def test_a_full_disk_is_a_log_fault_and_takes_nothing(log):
    log.append(b"a", outcome(1))
    pages = log._connection.execute("PRAGMA page_count").fetchone()[0]
    log._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LogFault, match="full"):
        log.append(bytes(1 << 20), outcome(2))
    log._connection.execute("PRAGMA max_page_count = 1000000")
    log.append(bytes(1 << 20), outcome(2))
    assert log.last == 2


def test_a_closed_log_takes_nothing(log):
    log.close()
    log.close()
    with pytest.raises(MachineClosed):
        log.append(b"a", outcome(1))


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda path: path.write_bytes(b"no database" * 500), "content"),
        (lambda path: execute(path, "PRAGMA user_version = 99"), "user_version"),
        (lambda path: execute(path, "DELETE FROM inputs WHERE number = 2"), "inputs"),
        (lambda path: execute(path, "DROP TABLE inputs"), "inputs"),
    ],
)
def test_a_file_that_is_no_such_log_is_refused(tmp_path, spoil, what):
    log = InputLog(tmp_path / "inputs.sqlite")
    for n in (1, 2, 3):
        log.append(b"a", outcome(n))
    log.close()
    spoil(log.path)
    with pytest.raises((BadImage, LogFault), match=what):
        InputLog(log.path)


def execute(path, statement):
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


def test_somebody_elses_database_is_left_alone(tmp_path):
    execute(tmp_path / "other.sqlite", "CREATE TABLE mine (a)")
    with pytest.raises(BadImage, match="user_version"):
        InputLog(tmp_path / "other.sqlite")


def test_a_log_is_read_by_others_when_it_is_closed(log):
    log.append(b"a", outcome(1))
    assert not log.path.with_name(f"{log.path.name}-shm").exists()  # see _prepare
    connection = sqlite3.connect(f"file:{log.path}?mode=ro", uri=True, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        connection.execute("SELECT status FROM inputs")
    log.close()
    assert connection.execute("SELECT status FROM inputs").fetchall() == [("accepted",)]
    connection.close()
