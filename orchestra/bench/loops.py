"""Async functions on the loop that is measured, which a signal ends at once."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import anyio

from orchestra.sched.scheduler import loop_caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

__all__ = ["Loop", "run_on"]

Loop = Literal["asyncio", "uvloop", "trio"]
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_on(loop: Loop, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run an async function on a new loop of this kind.

    SIGINT and SIGTERM cancel it. They are raised again when it has ended, for whoever handles them
    otherwise: an exception raised by a handler in the midst of a loop may be one callback's or one
    task's, and everything else goes on.
    """
    noted: list[int] = []

    async def stoppable() -> Any:
        with anyio.CancelScope() as scope, _signals(noted, partial(loop_caller(), scope.cancel)):
            return await function(*arguments)

    backend = "trio" if loop == "trio" else "asyncio"
    uvloop = {"use_uvloop": loop == "uvloop"} if backend == "asyncio" else {}
    result = anyio.run(stoppable, backend=backend, backend_options=uvloop)
    if noted:
        signal.raise_signal(noted[0])
    return result


@contextmanager
def _signals(noted: list[int], cancel: Callable[[], object]) -> Iterator[None]:
    """Note signals that are not ignored, and cancel; only the main thread gets any."""

    def note(number: int, _: FrameType | None) -> None:
        noted.append(number)
        cancel()

    main = threading.current_thread() is threading.main_thread()
    known = {number: signal.getsignal(number) for number in SIGNALS if main}
    before = {number: old for number, old in known.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
