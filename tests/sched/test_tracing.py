"""Calls are spans for whoever set up a provider, under the span they were made in."""

import subprocess
import sys

import pytest

from orchestra.sched.events import EVENT_NAMES
from orchestra.sched.tracing import SPAN_NAMES, find_tracer
from tests.observability import table

# A provider is the process's, and can be set up once: hence a process for it.
PROGRAM = """
import sys, anyio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from orchestra import ApplicationSettings, BackingFault, open_fleet
from orchestra.testing import BOOT, FOREVER, Break, FakeMachine
from tests.guests import ledger_config

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

async def main(folder):
    machine = FakeMachine(BOOT)
    settings = ApplicationSettings(durable=False, snapshots="on_demand")
    async with open_fleet(1) as fleet:
        with trace.get_tracer("test").start_as_current_span("mine"):
            await fleet.run(machine)
            await fleet.inspect(machine, b"x")
            async with fleet.application(folder, ledger_config(), settings, name="app") as app:
                exporter.clear()
                await app.advance(b"mint a 1")
                await app.snapshot()
                async with fleet.create(ledger_config()) as mine:
                    await fleet.fork(mine)
                async with fleet.inspect_pool(machine) as pool:
                    await pool.publish(machine)
                    async with pool.inspecting(b"x") as call:
                        await call.outcome()
        with anyio.move_on_after(0.001):
            await fleet.run(FakeMachine(FOREVER, pace="host"))
        try:
            await fleet.run(FakeMachine([Break(BackingFault("top", 0, "full"))]))
        except BackingFault:
            pass
    mine = next(span for span in exporter.get_finished_spans() if span.name == "mine")
    for span in exporter.get_finished_spans():
        inside = span.parent is not None and span.parent.span_id == mine.context.span_id
        events = [event.name for event in span.events]
        assert all(span.start_time <= event.timestamp <= span.end_time for event in span.events)
        assert span.end_time > span.start_time
        shown = [span.attributes.get(f"orchestra.{name}") for name in ("status", "cancelled")]
        print(span.name, inside, *shown, span.status.status_code.name, *events)
        for event in span.events:
            if event.name == "exception":
                print(event.attributes["exception.type"], span.status.description)

anyio.run(main, sys.argv[1], backend=sys.argv[2])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_calls_are_spans_inside_the_callers(tmp_path, backend):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "app"), backend],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("orchestra snapshot")] == [
        "orchestra advance True accepted None UNSET orchestra started",
        "orchestra open True None None UNSET",
        "orchestra call True None None UNSET",
        "orchestra call True None None UNSET",  # the pool's forks
        "orchestra call True None None UNSET",
        "orchestra publish True None None UNSET",
        "orchestra inspect True accepted None UNSET orchestra started",
        "mine False None None UNSET",
        "orchestra run False None True UNSET orchestra started",
        "orchestra run False None None ERROR orchestra started exception",
        "orchestra.errors.BackingFault top: offset 0x0: full; mend the storage and run again",
    ]
    assert "orchestra snapshot True None None UNSET" in lines


def test_the_document_has_every_span_and_no_other():
    documented = {event.strip("`"): name for name, (event,) in table("Spans").items()}
    assert documented == SPAN_NAMES
    assert set(SPAN_NAMES) <= set(EVENT_NAMES)


def test_without_a_provider_nobody_is_told():
    assert find_tracer() is None


def test_without_the_package_nobody_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert find_tracer() is None
