"""Spans of calls for OpenTelemetry, when a program has set up a provider of them."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["Tracer", "find_tracer"]

# Providers that keep nothing: with them a span would only cost.
SILENT = ("ProxyTracerProvider", "NoOpTracerProvider")


class Tracer:
    """Tells a call as one span, when it has ended."""

    def __init__(self, tracer: Any, failed: Any) -> None:
        self._tracer = tracer
        self._failed = failed

    def tell(self, name: str, fields: dict[str, Any]) -> None:
        """Make a span that ends now; its parent is the span the caller is in.

        `duration` is where it began, `error` makes it a failed one; the rest are attributes.
        """
        now = time.time_ns()
        began = now - int(fields["duration"] * 1e9)
        attributes = {
            f"orchestra.{key}": value
            for key, value in fields.items()
            if key not in ("duration", "error")
        }
        span = self._tracer.start_span(
            f"orchestra {name.partition('.')[0]}", start_time=began, attributes=attributes
        )
        if "error" in fields:
            span.set_status(self._failed, str(fields["error"]))
        span.end(end_time=now)


def find_tracer() -> Tracer | None:
    """Return a tracer if the API is installed and somebody listens."""
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    if type(trace.get_tracer_provider()).__name__ in SILENT:
        return None
    return Tracer(trace.get_tracer("orchestra"), trace.StatusCode.ERROR)
