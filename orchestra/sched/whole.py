"""What is done to its end, even when asyncio itself cancels the task that waits for it.

Shields of anyio hold off cancellation by anyio. But `asyncio.wait_for` and `asyncio.timeout` cancel
the task itself, which knows of no shields; that reaches no other task of a group, though.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["whole"]

T = TypeVar("T")


async def whole(work: Callable[[], Awaitable[T]], undo: Callable[[T], object] | None = None) -> T:
    """Return what `work` does. Who is cancelled meanwhile goes on when it is over.

    What it returned is lost then: give an `undo` if it has to be closed.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    async def carry_out() -> None:
        try:
            with anyio.CancelScope(shield=True):
                results.append(await work())
        except BaseException as error:  # noqa: BLE001 - raised below, outside of the group
            errors.append(error)

    try:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                group.start_soon(carry_out)
    except BaseException:
        if results and undo is not None:
            undo(results[0])
        raise
    if errors:
        raise errors[0]
    return results[0]
