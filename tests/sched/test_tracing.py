"""Calls are spans for whoever set up a provider, under the span they were made in."""

import subprocess
import sys

import pytest

from orchestra.sched.tracing import find_tracer

# A provider is the process's, and can be set up once: hence a process for it.
PROGRAM = """
import sys, anyio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from orchestra import ApplicationSettings, BackingFault, open_fleet
from orchestra.testing import BOOT, Break, FakeMachine
from tests.guests import ledger_config

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)

async def main(folder):
    machine = FakeMachine(BOOT)
    settings = ApplicationSettings(durable=False)
    async with open_fleet(1) as fleet:
        with trace.get_tracer("test").start_as_current_span("mine"):
            await fleet.run(machine)
            await fleet.inspect(machine, b"x")
            async with fleet.application(folder, ledger_config(), settings, name="app") as app:
                exporter.clear()
                await app.advance(b"mint a 1")
        try:
            await fleet.run(FakeMachine([Break(BackingFault("top", 0, "full"))]))
        except BackingFault:
            pass
    mine = next(span for span in exporter.get_finished_spans() if span.name == "mine")
    for span in exporter.get_finished_spans():
        inside = span.parent is not None and span.parent.span_id == mine.context.span_id
        status = span.attributes.get("orchestra.status")
        took = span.end_time > span.start_time
        print(span.name, inside, status, span.status.status_code.name, took)

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
    assert done.stdout.splitlines() == [
        "orchestra advance True accepted UNSET True",
        "mine False None UNSET True",
        "orchestra run False None ERROR True",
    ]


def test_without_a_provider_nobody_is_told():
    assert find_tracer() is None


def test_without_the_package_nobody_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert find_tracer() is None
