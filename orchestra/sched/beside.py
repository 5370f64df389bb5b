"""A task beside the body of an `async with`: ended with it, and the body's error left as it is."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

__all__ = ["beside"]


@asynccontextmanager
async def beside(
    work: Callable[[], Coroutine[Any, Any, None]], *, end: Callable[[], object] | None = None
) -> AsyncIterator[None]:
    """Do `work` beside the body. When that is left `end` is called, else the work is cancelled.

    An error of the body comes out as itself, not in a group of one.
    """
    failure: BaseException | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(work)
        try:
            yield
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001 - raised below
            failure = error
        finally:
            (end or group.cancel_scope.cancel)()
    if failure is not None:
        raise failure
