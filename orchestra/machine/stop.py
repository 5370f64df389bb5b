"""Why a run returned: one frozen value per reason, each with the machine's cycle."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

__all__ = [
    "REQUEST_ADVANCE",
    "REQUEST_INSPECT",
    "YIELD_ACCEPTED",
    "YIELD_EXCEPTION",
    "YIELD_OUTPUT",
    "YIELD_PROGRESS",
    "YIELD_REJECTED",
    "YIELD_REPORT",
    "ConsoleOutput",
    "Halted",
    "Idle",
    "Interrupted",
    "ReachedCycle",
    "Stop",
    "YieldKind",
    "Yielded",
]

YieldKind: TypeAlias = Literal["automatic", "manual"]

# Reasons of automatic yields: the run goes on at the next call (DESIGN 2.2).
YIELD_PROGRESS = 1
YIELD_OUTPUT = 2
YIELD_REPORT = 4

# Reasons of manual yields: the machine waits for a response.
YIELD_ACCEPTED = 1
YIELD_REJECTED = 2
YIELD_EXCEPTION = 4

# Reasons of responses: what the host asks of the guest.
REQUEST_ADVANCE = 0
REQUEST_INSPECT = 1


class Halted(Struct, frozen=True, gc=False):
    """The guest switched itself off with `code`; it can never run again."""

    cycle: int
    code: int


class Yielded(Struct, frozen=True, gc=False):
    """The guest spoke to its host: `data` is 32 bits, mostly the length of what it left in tx."""

    cycle: int
    kind: YieldKind
    reason: int
    data: int


class ReachedCycle(Struct, frozen=True, gc=False):
    """The cycle that was asked for is reached, exactly."""

    cycle: int


class Interrupted(Struct, frozen=True, gc=False):
    """Somebody called `interrupt()`; run again to go on as if nothing had happened."""

    cycle: int


class Idle(Struct, frozen=True, gc=False):
    """The guest waits for an interrupt (WFI) that no timer and no device will ever send."""

    cycle: int


class ConsoleOutput(Struct, frozen=True, gc=False):
    """The console has output, and the caller asked to be told."""

    cycle: int


Stop: TypeAlias = Halted | Yielded | ReachedCycle | Interrupted | Idle | ConsoleOutput
