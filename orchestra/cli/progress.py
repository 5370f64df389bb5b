"""Progress on stderr: a bar on a terminal, a line per step elsewhere."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Self

from orchestra.cli.output import human_count, note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress

__all__ = ["Steps", "cycles_bar"]


def on_terminal() -> bool:
    """Whether somebody looks at stderr."""
    return sys.stderr.isatty()


def make_bars() -> Progress:
    """Make a set of bars on stderr that vanishes when it is done."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=10,
    )


@contextlib.contextmanager
def cycles_bar(
    what: str, start: int, end: int | None, *, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the machine's cycle now and then.

    It shows nothing off a terminal, or when `quiet` because a guest prints there.
    """
    if quiet or not on_terminal():
        yield lambda _: None
        return
    with make_bars() as bars:
        total = None if end is None else end - start
        task = bars.add_task(what, total=total, detail="")

        def show(cycle: int) -> None:
            bars.update(task, completed=cycle - start, detail=f"cycle {human_count(cycle)}")

        yield show


def _ignore(_done: float, _detail: str = "") -> None:
    pass


class Steps:
    """Long work in steps, each with a name: `with steps.step("booting", total) as update:`."""

    def __init__(self) -> None:
        self._bars = make_bars() if on_terminal() else None

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    @contextlib.contextmanager
    def step(self, what: str, total: float | None = None) -> Iterator[Callable[[float, str], None]]:
        """Yield a function that takes how much is done and a few words about it."""
        if self._bars is None:
            note(f"{what} ...")
            yield _ignore
            return
        task = self._bars.add_task(what, total=total, detail="")

        def show(done: float, detail: str = "") -> None:
            assert self._bars is not None
            self._bars.update(task, completed=done, detail=detail)

        yield show
        self._bars.update(task, completed=total or 1, total=total or 1)
