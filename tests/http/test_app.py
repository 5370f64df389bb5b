"""Applications are advanced and inspected over HTTP, with the statuses that operators expect."""

import base64
import json
from dataclasses import replace
from functools import partial

import anyio
import httpx
import pytest

from orchestra.http import create_app, serving_app
from orchestra.http.app import House
from orchestra.sched.fleet import open_fleet
from tests.http.conftest import SETTINGS, TOKEN, client_of, ready, running

pytestmark = pytest.mark.anyio
LEDGER = "/applications/ledger"
TEXT = {"encoding": "text"}


async def until(condition):
    while not await condition():
        await anyio.lowlevel.checkpoint()


async def state(client):
    return (await client.get(LEDGER)).json()


def events_of(text):
    """Read a text/event-stream."""
    found = []
    for block in text.strip().split("\n\n"):
        event, data = block.split("\n")
        body = json.loads(data.removeprefix("data: "))
        found.append((event.removeprefix("event: "), body))
    return found


async def test_an_input_changes_what_inspects_answer(client):
    response = await client.post(f"{LEDGER}/advance", content=b"mint bob 7", params=TEXT)
    assert response.status_code == 200
    body = response.json()
    assert (body["status"], body["outputs"], body["number"]) == ("accepted", ["2 mint bob 7"], 1)
    assert len(body["state_hash"]) == 64
    response = await client.post(f"{LEDGER}/inspect", content=b"balance bob", params=TEXT)
    assert response.json()["reports"] == ["7"]
    known = (await client.get(f"{LEDGER}/inputs/1", params=TEXT)).json()
    assert known == body | {"payload": "mint bob 7"}


@pytest.mark.parametrize(
    ("payload", "query", "status"),
    [
        (b"burn bob 1", {}, "rejected"),
        (b"fail as asked", {}, "exception"),
        (b"halt 3", {}, "halted"),
        (b"spin 1000000000000", {"max_cycles": 100_000}, "limit_exceeded"),
        (b"spin 1000000000000", {"max_seconds": 0.01}, "limit_exceeded"),
        (b"flood 9", {"max_output_bytes": 10}, "limit_exceeded"),
    ],
)
async def test_what_the_guest_says_to_a_request_is_no_error_of_http(client, payload, query, status):
    for kind in ("advance", "inspect"):
        response = await client.post(f"{LEDGER}/{kind}", content=payload, params=query)
        assert (response.status_code, response.json()["status"]) == (200, status)


async def test_bytes_are_written_as_asked(client):
    for encoding, expected in [
        ("base64", base64.b64encode(b"\xffx").decode()),
        ("hex", "0xff78"),
        ("text", "\\xffx"),
    ]:
        response = await client.post(
            f"{LEDGER}/inspect", content=b"echo \xffx", params={"encoding": encoding}
        )
        assert response.json()["reports"] == [expected]


@pytest.mark.parametrize(
    ("method", "path", "params", "status", "word"),
    [
        ("GET", "/applications/nobody", {}, 404, "NotFound"),
        ("GET", f"{LEDGER}/inputs/9", {}, 404, "NotFound"),
        ("GET", f"{LEDGER}/inputs/{1 << 63}", {}, 404, "NotFound"),
        ("POST", f"{LEDGER}/advance", {"max_cycles": "lots"}, 400, "max_cycles"),
        ("POST", f"{LEDGER}/inspect", {"max_seconds": "-1"}, 400, "max_seconds"),
        ("POST", f"{LEDGER}/inspect", {"encoding": "rot13"}, 400, "rot13"),
        ("POST", f"{LEDGER}/inspect", {"speed": "9"}, 400, "speed"),
        ("POST", f"{LEDGER}/advance", {"number": 5}, 409, "number 1"),
        ("POST", "/applications/nobody/inspect", {}, 404, "NotFound"),
        ("GET", f"{LEDGER}/advance", {}, 405, "MethodNotAllowed"),
        ("GET", "/nothing", {}, 404, "NotFound"),
    ],
)
async def test_mistakes_are_told(client, method, path, params, status, word):
    content = b"total" if method == "POST" else None
    response = await client.request(method, path, params=params, content=content)
    assert response.status_code == status
    body = response.json()
    assert body.keys() == {"error", "detail"}
    assert word in response.text


@pytest.mark.parametrize("kind", ["advance", "inspect"])
@pytest.mark.parametrize("limit", ["max_cycles", "max_seconds", "max_output_bytes"])
async def test_a_limit_may_be_larger_than_anything(client, kind, limit):
    params = {limit: 10**30}
    response = await client.post(f"{LEDGER}/{kind}", content=b"mint bob 1", params=params)
    assert response.status_code == 200


async def test_a_length_of_thousands_of_digits_is_too_long():
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": "/health", "headers": [(b"content-length", b"1" * 5000)]}
    async with open_fleet(1) as fleet:
        await create_app(fleet, {})(scope, None, send)
    assert sent[0]["status"] == 413


async def test_a_numbered_input_is_taken_once(client):
    send = {"content": b"mint bob 1", "params": {"number": 1}}
    first = await client.post(f"{LEDGER}/advance", **send)
    assert (await client.post(f"{LEDGER}/advance", **send)).json() == first.json()
    send["content"] = b"mint bob 2"
    assert (await client.post(f"{LEDGER}/advance", **send)).status_code == 409


async def test_a_body_that_is_too_long_is_refused(client):
    response = await client.post(f"{LEDGER}/inspect", content=b"x" * 10_001)
    assert (response.status_code, response.json()["error"]) == (413, "BodyTooLong")
    assert "10000 bytes" in response.text
    assert (await client.post(f"{LEDGER}/inspect", content=b"total")).status_code == 200


async def test_a_body_that_does_not_say_its_length_is_refused_when_it_is_too_long(client):
    head = b"POST %s/inspect HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with await anyio.connect_tcp(client.base_url.host, client.base_url.port) as stream:
        await stream.send(head % LEDGER.encode())
        for _ in range(11):
            await stream.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        answer = b""
        while b"}" not in answer:
            answer += await stream.receive()
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"10000 bytes" in answer


async def test_too_many_inspects_are_told_to_come_again(client):
    statuses = []

    async def ask():
        response = await client.post(f"{LEDGER}/inspect", content=b"spin 100000000000")
        statuses.append(response.status_code)

    async def full():
        found = (await state(client))["inspects"]
        return found["running"] + found["waiting"] == 64

    async with anyio.create_task_group() as group:
        for _ in range(64):
            group.start_soon(ask)
        await until(full)
        response = await client.post(f"{LEDGER}/inspect", content=b"total")
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        assert response.json()["error"] == "AtCapacity"
        streamed = await client.post(
            f"{LEDGER}/inspect", content=b"total", headers={"accept": "text/event-stream"}
        )
        assert streamed.status_code == 429
        group.cancel_scope.cancel()
    assert statuses == []

    async def empty():
        found = (await state(client))["inspects"]
        return found["running"] + found["waiting"] == 0

    await until(empty)  # who went away left nothing behind


async def test_what_a_guest_says_is_streamed_as_it_comes(client):
    headers = {"accept": "text/event-stream"}
    response = await client.post(
        f"{LEDGER}/advance", content=b"progress 2", params=TEXT, headers=headers
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    names = [(name, body.get("per_mille")) for name, body in events_of(response.text)]
    assert names == [("progress", 500), ("progress", 1000), ("outcome", None)]
    response = await client.post(
        f"{LEDGER}/inspect", content=b"flood 2", params=TEXT, headers=headers
    )
    found = events_of(response.text)
    assert [body.get("data") for _, body in found[:2]] == ["flood 0", "flood 1"]
    assert found[2][1]["status"] == "accepted"
    for path, expected in (("advance", 409), ("inspect", 200)):
        params = {"number": 9} if path == "advance" else {}
        response = await client.post(
            f"{LEDGER}/{path}", content=b"total", params=params, headers=headers
        )
        assert response.status_code == expected


async def test_a_client_that_leaves_cancels_its_inspect(client):
    async def running():
        return (await state(client))["inspects"]["running"] == 1

    async def over():
        return (await state(client))["inspects"]["running"] == 0

    for headers in ({"accept": "text/event-stream"}, {}):
        async with anyio.create_task_group() as group:
            ask = partial(client.post, content=b"spin 1000000000000", headers=headers)
            group.start_soon(ask, f"{LEDGER}/inspect")
            await until(running)
            group.cancel_scope.cancel()
        await until(over)


async def test_a_snapshot_can_be_asked_for(client):
    await client.post(f"{LEDGER}/advance", content=b"mint bob 1")
    response = await client.post(f"{LEDGER}/snapshot")
    assert response.json()["inputs"] == 1
    assert (await state(client))["snapshot"] == 1


async def test_as_many_machines_are_told_one_by_one_as_wanted(client):
    for wanted, told in [("0", 0), ("1", 1), ("1000", 2)]:
        found = (await client.get("/statistics", params={"busiest": wanted})).json()["fleet"]
        assert len(found["busiest"]) == told
    found = (await client.get("/statistics")).json()
    assert {row["kind"] for row in found["fleet"]["busiest"]} == {"application", "pool"}
    assert found["disks"]["ledger"]["disk_bytes"] > 0
    for wrong in ({"busiest": "-1"}, {"busiest": "1001"}, {"most": "1"}):
        assert (await client.get("/statistics", params=wrong)).status_code == 400


async def test_the_description_is_valid_and_complete(client):
    from openapi_spec_validator import validate

    document = (await client.get("/openapi.json")).json()
    validate(document)
    routes = {
        route.path.replace(":int", ""): route.methods - {"HEAD"} for route in House().routes()
    }
    assert routes == {
        path: {method.upper() for method in operations if method != "parameters"}
        for path, operations in document["paths"].items()
    }
    advance = document["paths"]["/applications/{name}/advance"]
    assert {"413", "429", "503"} < set(advance["post"]["responses"])
    assert {"number", "max_cycles"} < {each["name"] for each in advance["parameters"]}


async def test_a_token_is_asked_for(config, anyio_backend_name):
    from msgspec.structs import replace as changed

    config = changed(config, token=TOKEN, public_inspect=True)
    with_token = {"authorization": f"Bearer {TOKEN}"}
    async with (
        running(serving_app(config), anyio_backend_name) as address,
        client_of(address) as client,
    ):
        await until(lambda: is_ready(client))
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
            # the last is an application of that name, not a question to one
            for path in (LEDGER, "/metrics", f"{LEDGER}/advance", "/applications/inspect"):
                response = await client.get(path, headers=headers)
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.post(f"{LEDGER}/inspect", content=b"total")).status_code == 200
        advanced = await client.post(f"{LEDGER}/advance", content=b"mint a 1", headers=with_token)
        assert advanced.status_code == 200


async def is_ready(client):
    return (await ready(client)).status_code == 200


async def test_an_application_survives_its_server(config, anyio_backend_name):
    for n in range(2):
        async with (
            running(serving_app(config), anyio_backend_name) as address,
            client_of(address) as client,
        ):
            await until(lambda client=client: is_ready(client))
            assert (await state(client))["inputs"] == n
            await client.post(f"{LEDGER}/advance", content=b"mint a 1")


async def test_a_fleet_of_ones_own_can_be_served(tmp_path, genesis, anyio_backend_name):
    async with (
        open_fleet(2) as fleet,
        fleet.application(tmp_path / "app", genesis, SETTINGS) as app,
        running(create_app(fleet, {"mine": app}), anyio_backend_name) as address,
        client_of(address) as client,
    ):
        response = await client.post("/applications/mine/inspect", content=b"total", params=TEXT)
        assert response.json()["reports"] == ["100"]
        assert (await client.get("/ready")).json()["applications"] == ["mine"]


async def test_without_applications_it_is_alive_but_not_ready(config):
    app = serving_app(config)  # whose lifespan nobody runs
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://here"
    ) as client:
        assert (await client.get("/health")).status_code == 200
        for path in ("/ready", "/metrics", LEDGER):
            response = await client.get(path)
            assert (response.status_code, response.headers["retry-after"]) == (503, "5")


async def test_a_load_of_readers_and_a_writer_lose_nothing(client):
    counts = {"read": 0, "written": 0}

    async def read(n):
        for _ in range(20):
            response = await client.post(
                f"{LEDGER}/inspect", content=b"echo %d" % n, params=TEXT | {"wait": "true"}
            )
            assert response.json()["reports"] == [str(n)]
            counts["read"] += 1

    async def write():
        for n in range(30):
            body = (await client.post(f"{LEDGER}/advance", content=b"mint bob 1")).json()
            assert body["number"] == n + 1
            counts["written"] += 1

    async with anyio.create_task_group() as group:
        for n in range(20):
            group.start_soon(read, n)
        group.start_soon(write)
    assert counts == {"read": 400, "written": 30}
    response = await client.post(f"{LEDGER}/inspect", content=b"balance bob", params=TEXT)
    assert response.json()["reports"] == ["30"]


def test_limits_of_a_request_replace_the_usual_ones():
    from orchestra.http.wire import Inspecting
    from orchestra.machine.request import Limits

    usual = Limits(max_cycles=5, max_seconds=1.0, max_output_bytes=9)
    assert Inspecting.read({}).limits(usual) == usual
    assert Inspecting.read({"max_cycles": "7"}).limits(usual) == replace(usual, max_cycles=7)
