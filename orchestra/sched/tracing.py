"""Spans of calls for OpenTelemetry, when a program has set up a provider of them."""

from __future__ import annotations

import time
from types import MappingProxyType
from typing import Any

__all__ = ["SPAN_NAMES", "Tracer", "find_tracer"]

# The span of each event that has one. Names are stable, and so are attributes: the event's fields
# as orchestra.FIELD, but for duration and error, which a span has ways of its own to say.
SPAN_NAMES = MappingProxyType(
    {
        "run.ended": "orchestra run",
        "advance.ended": "orchestra advance",
        "inspect.ended": "orchestra inspect",
        "machine.called": "orchestra call",
        "machine.opened": "orchestra open",
        "application.opened": "orchestra application",
        "snapshot.stored": "orchestra snapshot",
        "pool.published": "orchestra publish",
    }
)
# Providers that keep nothing: with them a span would only cost.
SILENT = ("ProxyTracerProvider", "NoOpTracerProvider")


class Tracer:
    """Tells a call as one span, when it has ended."""

    def __init__(self, tracer: Any, api: Any) -> None:
        self.tracer = tracer
        self.api = api

    def tell(
        self,
        event: str,
        fields: dict[str, Any],
        error: BaseException | None = None,
        waited_seconds: float | None = None,
    ) -> None:
        """Make a span that ends now; its parent is the span the caller is in.

        `duration` is where it began; an error makes it a failed one and is an event of it;
        `waited_seconds` after it began a worker came, which is another.
        """
        now = time.time_ns()
        began = now - int(fields["duration"] * 1e9)
        attributes = {
            f"orchestra.{key}": value
            for key, value in fields.items()
            if key not in ("duration", "error") and value is not None
        }
        span = self.tracer.start_span(SPAN_NAMES[event], start_time=began, attributes=attributes)
        if waited_seconds is not None:
            span.add_event("orchestra started", timestamp=began + int(waited_seconds * 1e9))
        if error is not None:
            span.record_exception(error, timestamp=now)
            span.set_status(self.api.StatusCode.ERROR, str(error) or repr(error))
        span.end(end_time=now)


def find_tracer() -> Tracer | None:
    """Return a tracer if the API is installed and somebody listens."""
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    if type(trace.get_tracer_provider()).__name__ in SILENT:
        return None
    return Tracer(trace.get_tracer("orchestra"), trace)
