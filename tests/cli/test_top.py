"""`orchestra top` shows what a served fleet does."""

import io
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from orchestra.cli.top import _page
from tests.cli.test_serve import address_in, write


@pytest.fixture
def served(start, app):
    process = start("serve", write(app.parent, "asyncio"))
    address = address_in(process)
    with httpx.Client(base_url=address, timeout=30) as client:
        while client.get("/ready").status_code != 200:
            pass
        client.post("/applications/ledger/advance", content=b"mint bob 1")
        client.post("/applications/ledger/advance", content=b"burn carol 1")
        client.post("/applications/ledger/inspect", content=b"total")
    yield address
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def test_one_look_shows_the_fleet_and_its_applications(orchestra, served):
    shown = orchestra("top", served, "--once").out
    for word in ("fleet", "workers", "ledger", "inputs", "MB"):
        assert word in shown
    found = orchestra("top", served, "--json").json
    (ledger,) = found["fleet"]["applications"]
    assert (ledger["name"], ledger["inputs"], ledger["pool"]["ended"]) == ("ledger", 2, 1)
    assert found["memory_bytes"] > 1_000_000
    assert found["disk_bytes"]["ledger"] > 4096


def test_rates_are_of_the_time_between_two_looks(orchestra, served):
    from rich.console import Console

    before = orchestra("top", served, "--json").json
    with httpx.Client(base_url=served) as client:
        for _ in range(20):
            client.post("/applications/ledger/inspect", content=b"total")
    page = io.StringIO()
    Console(width=160, file=page).print(_page(orchestra("top", served, "--json").json, before, 2.0))
    row = next(line for line in page.getvalue().splitlines() if "ledger" in line)
    assert [cell.strip() for cell in row.split("│")][7:9] == ["21", "10"]


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
