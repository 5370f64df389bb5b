"""Numbers, bytes and progress as people read them."""

import contextlib
import os
import pty

import pytest

from orchestra.cli.output import as_text, human_bytes, human_count, human_seconds, write_bytes
from orchestra.cli.progress import Steps, cycles_bar


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (4096, "4 KiB"), (1536, "1.5 KiB"), (64 << 20, "64 MiB"),
     (200 << 20, "200 MiB"), (3 << 50, "3072 TiB")],
)  # fmt: skip
def test_bytes_are_told_in_powers_of_1024(count, text):
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1500, "1.5 k"), (293_000_000, "293 M")]
)
def test_counts_are_told_in_powers_of_1000(count, text):
    assert human_count(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 µs"), (4e-5, "40 µs"), (0.0032, "3.2 ms"), (1.25, "1.25 s"), (90, "90 s")],
)
def test_times_are_told_in_a_unit_that_fits(seconds, text):
    assert human_seconds(seconds) == text


def test_bytes_become_text_or_hexadecimal():
    assert as_text("é".encode()) == "é"
    assert as_text(b"a\xff") == "a\\xff"
    assert as_text(b"a\xff", hexadecimal=True) == "61ff"


def test_what_a_guest_said_ends_its_line_and_is_else_unchanged(capfdbinary):
    for data in b"one", b"two\n", b"", b"\xff\x00":
        write_bytes(data)
    assert capfdbinary.readouterr().out == b"one\ntwo\n\xff\x00\n"


def test_off_a_terminal_a_step_is_a_line(capsys):
    with Steps() as steps:
        with steps.step("counting", 10) as update:
            update(5, "half")
        with cycles_bar("running", 0, None) as bar:
            bar(1000)
    assert capsys.readouterr().err == "counting ...\n"


@contextlib.contextmanager
def stderr_on_a_terminal(monkeypatch):
    """Give a function that says what was written to stderr, a terminal meanwhile."""

    def written():
        parts = []
        with contextlib.suppress(BlockingIOError):
            while True:
                parts.append(os.read(ours, 1 << 16))
        return b"".join(parts).decode()

    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with os.fdopen(theirs, "w", buffering=1) as stream, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        patch.setenv("TERM", "xterm")
        patch.delenv("NO_COLOR", raising=False)
        yield written
    os.close(ours)


def test_on_a_terminal_a_step_is_a_bar_that_goes_away(monkeypatch):
    with stderr_on_a_terminal(monkeypatch) as written:
        with Steps() as steps, steps.step("counting", 10) as update:
            update(5, "half")
        found = written()
    assert "counting" in found
    assert "half" in found
    assert found.endswith("\x1b[1A\x1b[2K")


def test_on_a_terminal_a_run_shows_its_cycle_unless_a_guest_prints_there(monkeypatch):
    with stderr_on_a_terminal(monkeypatch) as written:
        with cycles_bar("running", 0, 4_000_000) as bar:
            bar(2_500_000)
        assert "cycle 2.5 M" in written()
        with cycles_bar("running", 0, None, quiet=True) as bar:
            bar(1)
        assert written() == ""
