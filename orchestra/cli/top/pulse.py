"""How a figure went in the last minute."""

from __future__ import annotations

from collections import deque

__all__ = ["Pulses"]

MINUTE_SECONDS = 60.0


class Pulses:
    """Values of the last minute under their keys; those not heard of for so long are dropped."""

    def __init__(self) -> None:
        self._found: dict[str, deque[tuple[float, float]]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, at: float, values: dict[str, float | None]) -> None:
        """Note what was found at a time, in seconds."""
        for key, value in values.items():
            if value is not None:
                self._found.setdefault(key, deque()).append((at, value))
        for key, found in list(self._found.items()):
            while found and found[0][0] < at - MINUTE_SECONDS:
                found.popleft()
            if not found:
                del self._found[key]

    def values(self, key: str) -> list[float]:
        """Return what was found under a key, the oldest first."""
        return [value for _, value in self._found.get(key, ())]
