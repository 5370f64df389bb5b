"""`orchestra top` shows what a served fleet does: once, as JSON, or until it is left."""

import os
import pty
import re
import select
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import anyio
import httpx
import pytest

from orchestra.cli.top.look import look
from orchestra.errors import MachineClosed
from tests.cli.test_serve import address_in, write

COLOUR = re.compile(rb"\x1b\[(?:[0-9]+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")


@pytest.fixture
def serving(start, app):
    """Start a server, at an address of its own or there where another was; wait until it serves."""

    def begin(*options):
        process = start("serve", write(app.parent, "asyncio"), *options)
        address = address_in(process)
        with httpx.Client(base_url=address, timeout=30) as client:
            while client.get("/ready").status_code != 200:
                pass
        return process, address

    return begin


def end(process):
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


@pytest.fixture
def served(serving):
    process, address = serving()
    with httpx.Client(base_url=address, timeout=30) as client:
        client.post("/applications/ledger/advance", content=b"mint bob 1")
        client.post("/applications/ledger/advance", content=b"burn carol 1")
        client.post("/applications/ledger/inspect", content=b"total")
    yield address
    end(process)


def test_one_look_shows_the_fleet_and_its_applications(orchestra, served, monkeypatch):
    monkeypatch.setitem(sys.modules, "textual", None)  # it takes none
    monkeypatch.setitem(sys.modules, "textual.app", None)
    shown = orchestra("top", served, "--once").out
    for word in ("workers", "machines", "applications", "pools", "ledger", "in/s", "MiB"):
        assert word in shown
    found = orchestra("top", served, "--json").json
    (ledger,) = found["fleet"]["applications"]
    assert (ledger["name"], ledger["inputs"], ledger["pool"]["ended"]) == ("ledger", 2, 1)
    assert {row["kind"] for row in found["fleet"]["busiest"]} == {"application", "pool"}
    assert found["memory_bytes"] > 1_000_000
    disk = found["disks"]["ledger"]
    assert disk["free_bytes"] > disk["disk_bytes"] > disk["log_bytes"] >= 4096


def test_as_many_machines_are_told_as_wanted(orchestra, served):
    found = orchestra("top", served, "--json", "--machines", 1).json["fleet"]
    assert (len(found["busiest"]), found["others"]) == (1, 1)
    assert "and 1 more" in orchestra("top", served, "--once", "--machines", 1).out


def test_the_live_view_says_what_it_lacks(orchestra, served, monkeypatch):
    assert "--json" in orchestra("top", served, status=2).error  # a terminal
    for stream in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name in list(sys.modules):
        if name.startswith(("textual", "orchestra.cli.top.screen")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "textual", None)
    assert "pip install 'orchestra[top]'" in orchestra("top", served, status=2).error


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_served_fleet_is_watched_across_its_restart(serving, anyio_backend):
    from orchestra.cli.top.screen import Top
    from tests.cli.test_top_screen import names, state

    async def until(condition):
        with anyio.fail_after(60):
            while not condition():
                await pilot.pause(0.01)

    process, address = serving()
    ask = partial(look, address, None, 100)
    app = Top(ask, ask(), address, 0.1)
    async with app.run_test(size=(160, 40)) as pilot, httpx.AsyncClient(base_url=address) as client:
        await until(lambda: names(app) == ["ledger", "ledger"])
        await pilot.press("2")
        await client.post("/applications/ledger/advance", content=b"mint bob 1")
        at = [column.title for column in app.table.columns].index("inputs")
        inputs = partial(cell, app, at)
        await until(lambda: inputs() == "1")
        end(process)
        await until(lambda: "no answer since" in state(app))
        assert inputs() == "1"
        process, _ = serving("--listen", address.removeprefix("http://"))
        await until(lambda: "no answer" not in state(app))
        await client.post("/applications/ledger/advance", content=b"mint bob 1")
        await until(lambda: inputs() == "2")
    end(process)


def cell(app, at):
    from tests.cli.test_top_screen import rows

    return rows(app, "applications")[0][at]


@pytest.mark.parametrize("no_color", [False, True])
def test_in_a_terminal_it_runs_until_q_and_leaves_it_as_it_was(
    start, served, no_color, monkeypatch
):
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    process = start("top", served, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = read_until(ours, b"ledger")
    os.write(ours, b"q")
    written += read_until(ours, b"\x1b[?1049l")
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert bool(COLOUR.search(written)) is not no_color


def read_until(terminal, words):
    written = b""
    while words not in written:
        assert select.select([terminal], [], [], 60)[0], written
        written += os.read(terminal, 1 << 16)
    return written


def test_a_server_that_says_nothing_is_no_fleet(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setattr("orchestra.cli.top.look.ANSWER_SECONDS", 0.1)
        with pytest.raises(MachineClosed, match="timed out"):
            look(address, None, 10)


@pytest.mark.parametrize(
    ("address", "words", "status"),
    [
        ("nowhere", "http://host:port", 2),
        ("http://host:http", "http://host:port", 2),
        ("http://127.0.0.1:1", "refused", 1),
    ],
)
def test_where_nobody_serves_is_an_error(orchestra, address, words, status):
    assert words in orchestra("top", address, "--once", status=status).error


def test_what_the_server_says_is_told(orchestra, served):
    assert "no application" in orchestra("top", f"{served}/applications", "--once", status=1).error


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-none\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n<",
        b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n[]",
    ],
)
def test_who_is_no_fleet_is_an_error(orchestra, answer):
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:

        def reply():
            client, _ = listener.accept()
            with client:
                client.recv(4096)
                client.sendall(answer)

        pool.submit(reply)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert address in orchestra("top", address, "--once", status=1).error
