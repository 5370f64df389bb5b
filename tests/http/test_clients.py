"""Clients that are slow, leave, or ask for odd things harm nobody but themselves."""

import socket

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from orchestra.http import create_app
from orchestra.http.server import listening
from orchestra.sched.fleet import open_fleet
from tests.http.conftest import SETTINGS, TOKEN, client_of, running
from tests.http.test_app import LEDGER, TEXT, state, until

pytestmark = pytest.mark.anyio


def request(kind, payload, length=None, accept="*/*"):
    head = (
        f"POST {LEDGER}/{kind}?encoding=text HTTP/1.1\r\nHost: here\r\nAccept: {accept}\r\n"
        f"Content-Length: {len(payload) if length is None else length}\r\n\r\n"
    )
    return head.encode() + payload


async def connect(client):
    return await anyio.connect_tcp(client.base_url.host, client.base_url.port)


async def read_until(stream, word):
    found = b""
    while word not in found:
        found += await stream.receive()
    return found


async def balance(client):
    response = await client.post(f"{LEDGER}/inspect", content=b"balance alice", params=TEXT)
    return response.json()["reports"]


async def test_who_sends_slowly_keeps_nobody_waiting(client):
    streams = [await connect(client) for _ in range(80)]  # more than may inspect at once
    for number, stream in enumerate(streams):
        await stream.send(request("inspect", b"echo", length=len(b"echo slow")))
        if number % 2:
            await stream.aclose()
    for _ in range(20):
        assert await balance(client) == ["100"]
    for stream in streams[::2]:
        await stream.send(b" slow")
        assert b'"reports":["slow"]' in await read_until(stream, b"}")
        await stream.aclose()


async def test_who_does_not_read_is_no_burden(client):
    streams = [await connect(client) for _ in range(4)]  # as many as there are leases
    for stream in streams:
        await stream.send(request("inspect", b"flood 50000", accept="text/event-stream"))
        await read_until(stream, b"flood 0")
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(balance, client)
        await client.post(f"{LEDGER}/advance", content=b"mint alice 1")
    for stream in streams:
        await stream.aclose()
    assert await balance(client) == ["101"]


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
async def test_who_leaves_during_an_advance_has_given_all_of_it_or_nothing(client, accept):
    async def waiting():
        return (await state(client))["waiting"]

    for _ in range(12):
        before = await state(client)
        stream = await connect(client)
        await stream.send(request("advance", b"mint alice 1", accept=accept))
        await stream.aclose()
        await client.post(f"{LEDGER}/advance", content=b"burn carol 1")
        after = await state(client)
        assert after["inputs"] - before["inputs"] in (1, 2)

    async def idle():
        return not await waiting()

    await until(idle)
    accepted = (await state(client))["statuses"].get("accepted", 0)
    assert await balance(client) == [str(100 + accepted)]


async def test_who_leaves_the_events_of_a_long_advance_takes_it_back(client):
    before = await state(client)
    stream = await connect(client)
    payload = b"spin 1000000000000"
    await stream.send(request("advance", payload, accept="text/event-stream"))
    await until(lambda: is_busy(client))
    await stream.aclose()
    answer = await client.post(f"{LEDGER}/advance", content=b"mint alice 1")
    assert answer.json()["number"] == before["inputs"] + 1


async def is_busy(client):
    """Whether an input is at work: another one must wait."""
    with anyio.move_on_after(0.05):
        await client.post(f"{LEDGER}/advance", content=b"burn carol 1", params={"number": 9})
        return False
    return True


async def test_requests_on_one_connection_are_answered_in_order(client):
    stream = await connect(client)
    asked = b"".join(request("inspect", b"echo %d" % n) for n in range(10))
    await stream.send(asked)
    found = await read_until(stream, b'"9"')
    places = [found.index(b'["%d"]' % n) for n in range(10)]
    assert places == sorted(places)
    await stream.aclose()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/health", 200),
        ("HEAD", LEDGER, 200),
        ("HEAD", f"{LEDGER}/advance", 405),
        ("OPTIONS", f"{LEDGER}/inspect", 405),
        ("DELETE", LEDGER, 405),
        ("GET", f"{LEDGER}/", 404),
        ("GET", "/applications/led%67er", 200),
        ("GET", "/applications/ledger%2Finspect", 405),
        ("GET", "/applications/%FF%00", 404),
        ("POST", f"{LEDGER}/inspect?number=1", 400),
    ],
)
async def test_odd_requests_are_answered(client, method, path, status):
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    if status == 405:
        assert "allow" in response.headers


async def test_what_nobody_foresaw_is_an_error_like_others(tmp_path, genesis):
    async with open_fleet(1) as fleet, fleet.application(tmp_path / "a", genesis, SETTINGS) as app:
        site = create_app(fleet, {"ledger": None})
        transport = httpx.ASGITransport(site, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            response = await client.get(LEDGER)
            assert response.status_code == 404
            app.statistics = None
            site = create_app(fleet, {"ledger": app})
            transport.app = site
            response = await client.get(LEDGER)
    assert (response.status_code, response.json()["error"]) == (500, "InternalError")


async def test_it_may_be_mounted_anywhere_and_the_same_doors_are_open(tmp_path, genesis):
    async with open_fleet(1) as fleet, fleet.application(tmp_path / "a", genesis, SETTINGS) as app:
        site = create_app(fleet, {"ledger": app}, token=TOKEN, public_inspect=True)
        outer = Starlette(routes=[Mount("/machines", site)])
        transport = httpx.ASGITransport(outer)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            for path, status in [("/ready", 200), ("/metrics", 401), (LEDGER, 401)]:
                assert (await client.get(f"/machines{path}")).status_code == status
            answer = await client.post(f"/machines{LEDGER}/inspect", content=b"total")
            assert answer.status_code == 200


async def test_an_application_is_replaced_under_its_name(tmp_path, genesis, anyio_backend_name):
    """Blue and green: the new one follows the old one's inputs, then takes its name."""
    async with (
        open_fleet(2) as fleet,
        fleet.application(tmp_path / "blue", genesis, SETTINGS, name="blue") as blue,
        fleet.application(tmp_path / "green", genesis, SETTINGS, name="green") as green,
    ):
        applications = {"ledger": blue}
        async with (
            running(create_app(fleet, applications), anyio_backend_name) as address,
            client_of(address) as client,
        ):
            for _ in range(5):
                await client.post(f"{LEDGER}/advance", content=b"mint alice 1")
            async for payload, outcome in blue.follow():
                again = await green.advance(payload, number=outcome.number)
                assert again.state_hash == outcome.state_hash
                if green.inputs == blue.inputs:
                    applications["ledger"] = green
                    break
            for n in range(5):
                answer = await client.post(f"{LEDGER}/advance", content=b"mint alice 1")
                assert answer.json()["number"] == 6 + n
            assert await balance(client) == ["110"]
        assert (blue.inputs, green.inputs) == (5, 10)


def test_answers_are_not_held_back_for_an_acknowledgement():
    with listening("127.0.0.1:0") as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        listener.setblocking(True)
        server, _ = listener.accept()
        with server:
            assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
