"""Every request has a number, a line in the log with what became of it, and a span."""

import re
import subprocess
import sys

import anyio
import httpx
import pytest
import structlog
from structlog.contextvars import merge_contextvars
from structlog.testing import LogCapture

from orchestra.http import serving_app
from orchestra.http.access import HTTP_EVENTS
from orchestra.sched.events import EVENT_NAMES
from tests.http.conftest import client_of, ready, running
from tests.http.test_app import LEDGER, until
from tests.observability import table

pytestmark = pytest.mark.anyio


@pytest.fixture
def capture():
    return LogCapture()


@pytest.fixture
async def client(config, anyio_backend_name, capture):
    logger = structlog.wrap_logger(None, processors=[merge_contextvars, capture])
    app = serving_app(config, logger=logger)
    async with running(app, anyio_backend_name) as address, client_of(address) as client:
        while (await ready(client)).status_code != 200:
            await anyio.lowlevel.checkpoint()
        yield client


def test_the_document_has_every_event_with_its_fields():
    documented = {name: tuple(fields.split()) for name, (_, fields, _) in table("Events").items()}
    assert documented == {**EVENT_NAMES, **HTTP_EVENTS}


async def logged(capture, path):
    """Return the line of the one request for a path, once it is there."""

    async def there():
        return any(log.get("path") == path for log in capture.entries)

    await until(there)
    (line,) = [log for log in capture.entries if log.get("path") == path]
    return line


async def test_a_request_is_a_line(client, capture):
    response = await client.post(f"{LEDGER}/advance", content=b"mint bob 1")
    line = await logged(capture, f"{LEDGER}/advance")
    assert set(HTTP_EVENTS["request.ended"]) <= set(line)
    assert (line["event"], line["log_level"]) == ("request.ended", "info")
    assert (line["method"], line["status"], line["client"]) == ("POST", 200, "127.0.0.1")
    assert (line["received_bytes"], line["sent_bytes"]) == (10, len(response.content))
    assert 0 < line["duration"] < 60
    assert line["request_id"] == response.headers["x-request-id"]


async def test_what_happens_meanwhile_has_the_requests_number(client, capture):
    await client.post(f"{LEDGER}/advance", content=b"mint bob 1", headers={"x-request-id": "a-1"})
    await logged(capture, f"{LEDGER}/advance")
    (advance,) = [log for log in capture.entries if log["event"] == "advance.ended"]
    assert advance["request_id"] == "a-1"
    (opened,) = [log for log in capture.entries if log["event"] == "application.opened"]
    assert "request_id" not in opened


async def test_a_clients_number_is_kept_if_it_can_be_one(client):
    for given in ("a-1", "x" * 128, "4bf9:2f/3="):
        response = await client.get("/health", headers={"x-request-id": given})
        assert response.headers.get_list("x-request-id") == [given]
    made = set()
    for given in ("", "x" * 129, "two words", 'a"b'):
        response = await client.get("/health", headers={"x-request-id": given})
        made.add(response.headers["x-request-id"])
    assert len(made) == 4
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in made)


async def test_who_is_refused_and_who_goes_away_is_a_line_as_well(client, capture):
    await client.get("/applications/nobody")
    assert (await logged(capture, "/applications/nobody"))["status"] == 404
    with pytest.raises(httpx.ReadTimeout):
        await client.post(f"{LEDGER}/inspect", content=b"spin 1000000000000", timeout=0.2)
    assert (await logged(capture, f"{LEDGER}/inspect"))["status"] == 499


async def test_what_machines_poll_is_logged_for_who_debugs(client, capture):
    await client.get("/metrics")
    assert (await logged(capture, "/metrics"))["log_level"] == "debug"


# A provider is the process's, and can be set up once: hence a process for it.
PROGRAM = """
import sys
from functools import partial
from pathlib import Path
import anyio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

from orchestra.http import serving_app
from orchestra.http.config import ApplicationConfig, ServeConfig
from tests.guests import ready_ledger
from tests.http.conftest import SETTINGS, client_of, ready, running
from tests.http.test_app import LEDGER

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

async def main(folder, backend):
    with ready_ledger() as machine:
        machine.snapshot(folder / "genesis")
    ledger = ApplicationConfig(folder / "app", folder / "genesis", SETTINGS)
    app = serving_app(ServeConfig(applications={"ledger": ledger}))
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
    async with running(app, backend) as address, client_of(address) as client:
        while (await ready(client)).status_code != 200:
            await anyio.sleep(0.01)
        exporter.clear()
        await client.post(f"{LEDGER}/advance", content=b"mint a 1", headers=headers)
        events = {**headers, "accept": "text/event-stream"}
        await client.post(f"{LEDGER}/inspect", content=b"total", headers=events)
        await client.get("/applications/nobody")
    spans = exporter.get_finished_spans()
    names = {span.context.span_id: span.name for span in spans}
    for span in sorted(spans, key=lambda span: span.start_time):
        parent = span.parent and names.get(span.parent.span_id, f"{span.parent.span_id:016x}")
        if span.attributes.get("http.route") != "/ready":
            code = span.attributes.get("http.response.status_code")
            ours = f"{span.context.trace_id:032x}" == TRACE
            print(span.name, span.kind.name, parent, ours, code, sep=", ")

anyio.run(main, Path(sys.argv[1]), sys.argv[2], backend=sys.argv[2])
"""


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_calls_are_spans_inside_the_requests_inside_the_clients(tmp_path, anyio_backend):
    done = await anyio.run_process(
        [sys.executable, "-c", PROGRAM, str(tmp_path), anyio_backend],
        stderr=subprocess.PIPE,
        check=False,
    )
    assert done.stderr.decode() == ""
    advance, inspect = (f"POST /applications/{{name}}/{kind}" for kind in ("advance", "inspect"))
    assert done.stdout.decode().splitlines() == [
        f"{advance}, SERVER, 00f067aa0ba902b7, True, 200",
        f"orchestra advance, INTERNAL, {advance}, True, None",
        f"{inspect}, SERVER, 00f067aa0ba902b7, True, 200",
        f"orchestra inspect, INTERNAL, {inspect}, True, None",
        "GET /applications/{name}, SERVER, None, False, 404",
    ]
