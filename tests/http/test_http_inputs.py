"""The log is followed over HTTP: from a number on, as inputs come, until somebody has enough."""

import json
import re
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest
from msgspec.structs import replace

from orchestra.http.config import DRAIN_SECONDS
from orchestra.http.server import address_of, listening, serve_applications
from tests.http.conftest import client_of, ready, serve

pytestmark = pytest.mark.anyio
LEDGER = "/applications/ledger"
TEXT = {"encoding": "text"}
EVENT = re.compile(rb"event: input\nid: (?P<id>[0-9]+)\ndata: (?P<data>.*)\n\n")


async def advance(client, *payloads):
    for payload in payloads:
        assert (await client.post(f"{LEDGER}/advance", content=payload)).status_code == 200


class Tail:
    """A connection that follows the log."""

    def __init__(self, stream):
        self.stream = stream
        self.read = b""

    async def one(self):
        """Return the next input; None at an end in order."""
        while not (found := EVENT.search(self.read)):
            if self.read.endswith(b"\r\n0\r\n\r\n"):
                return None
            self.read += await self.stream.receive()
        self.read = self.read[found.end() :]
        body = json.loads(found["data"])
        assert body["number"] == int(found["id"])
        return body


@asynccontextmanager
async def tail(client, after=0, headers=""):
    host, port = client.base_url.host, client.base_url.port
    async with await anyio.connect_tcp(host, port) as stream:
        path = f"{LEDGER}/inputs?encoding=text&after={after}"
        await stream.send(f"GET {path} HTTP/1.1\r\nHost: here\r\n{headers}\r\n".encode())
        yield Tail(stream)


async def test_inputs_come_with_what_became_of_them_old_ones_and_new_ones(client):
    await advance(client, b"mint bob 1", b"burn carol 1")
    async with tail(client) as log:
        first, second = await log.one(), await log.one()
        assert (first["payload"], first["outputs"]) == ("mint bob 1", ["2 mint bob 1"])
        assert (second["status"], second["number"]) == ("rejected", 2)
        await advance(client, b"mint bob 3")
        assert (await log.one())["payload"] == "mint bob 3"
    known = (await client.get(f"{LEDGER}/inputs/1", params=TEXT)).json()
    assert known == first


async def test_who_was_cut_off_goes_on_where_it_was(client):
    await advance(client, *(b"mint bob %d" % n for n in range(1, 6)))
    async with tail(client, 3) as log:
        assert (await log.one())["number"] == 4
    async with tail(client, 3, "Last-Event-ID: 4\r\n") as log:
        assert (await log.one())["number"] == 5


@pytest.mark.parametrize(
    ("params", "headers", "status"),
    [
        ({"after": 1}, {}, 404),
        ({"after": -1}, {}, 400),
        ({}, {"last-event-id": "one"}, 400),
        ({}, {"last-event-id": "-1"}, 404),
        ({"number": 1}, {}, 400),
    ],
)
async def test_where_it_cannot_begin_is_told(client, params, headers, status):
    response = await client.get(f"{LEDGER}/inputs", params=params, headers=headers)
    assert response.status_code == status
    assert response.json().keys() == {"error", "detail"}


@asynccontextmanager
async def stoppable(config, backend):
    """Serve, and yield a client and what stops the server."""
    stop = anyio.Event()
    with listening("127.0.0.1:0") as listener:
        async with anyio.create_task_group() as group:
            server = partial(serve_applications, serve(backend))
            group.start_soon(server, config, listener, stop.wait)
            async with client_of(address_of(listener)) as client:
                while (await ready(client)).status_code != 200:
                    await anyio.lowlevel.checkpoint()
                yield client, stop


async def test_a_sign_of_life_is_sent_while_no_input_comes(client, monkeypatch):
    monkeypatch.setattr("orchestra.http.stream.BEAT_SECONDS", 0.01)
    async with tail(client) as log:
        while log.read.count(b"\n:\n\n") < 3:
            log.read += await log.stream.receive()
        await advance(client, b"mint bob 1")
        assert (await log.one())["number"] == 1


async def test_a_server_that_stops_ends_what_has_no_end(config, anyio_backend_name):
    async with stoppable(config, anyio_backend_name) as (client, stop):
        await advance(client, b"mint bob 1")
        with anyio.fail_after(DRAIN_SECONDS / 2):
            async with tail(client) as log:
                assert (await log.one())["number"] == 1
                stop.set()
                assert await log.one() is None  # in order, not by a cut


async def test_a_server_that_stops_tells_those_it_does_not_wait_for(config, anyio_backend_name):
    config = replace(config, drain_seconds=0.1)
    answers = []

    async def ask(client, kind):
        response = await client.post(f"{LEDGER}/{kind}", content=b"spin 1000000000000")
        answers.append((response.status_code, response.headers["retry-after"]))

    async with (
        stoppable(config, anyio_backend_name) as (client, stop),
        anyio.create_task_group() as group,
    ):
        for kind in ("advance", "inspect"):
            group.start_soon(ask, client, kind)
        while (await client.get(LEDGER)).json()["inspects"]["running"] < 1:
            await anyio.lowlevel.checkpoint()
        stop.set()
    assert answers == [(503, "5")] * 2
    async with stoppable(config, anyio_backend_name) as (client, stop):
        assert (await client.get(LEDGER)).json()["inputs"] == 0  # it was undone
        stop.set()
