"""A thread that asks a server again and again, and says what it found, or what went wrong."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from orchestra.errors import OrchestraError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Watcher"]


class Watcher(threading.Thread):
    """Asks every `interval` seconds until it is stopped.

    A daemon: a server that does not answer keeps nobody from leaving.
    """

    def __init__(
        self,
        ask: Callable[[], dict[str, Any]],
        tell: Callable[[dict[str, Any] | OrchestraError], object],
        interval: float,
    ) -> None:
        super().__init__(name="orchestra top", daemon=True)
        self.interval = interval
        self._ask = ask
        self._tell = tell
        self._stopped = threading.Event()

    def run(self) -> None:
        """Ask and tell."""
        while not self._stopped.wait(self.interval):
            try:
                found: dict[str, Any] | OrchestraError = self._ask()
            except OrchestraError as error:
                found = error
            if not self._stopped.is_set():
                self._tell(found)

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()
