"""What the operator of an application decides: snapshots, hashes, durability, room, limits."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from orchestra.errors import BadConfig
from orchestra.machine.request import Limits

__all__ = ["ApplicationSettings", "SnapshotPolicy"]

_Count = Annotated[int, Meta(ge=1)]
SnapshotPolicy = Literal["never", "every_input", "on_demand"] | _Count


class ApplicationSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How an application is kept and served; every field has a default that suits a small one.

    `snapshots`: when to store one: "never", "every_input", a number for every so many inputs, or
    "on_demand" only. The first, of the state before any input, is there too. `keep` is how many
    of the others are kept. `keep_inputs`: how many of the newest inputs the log has at least; those
    before them go when no snapshot of these needs them any more, and the first snapshot with them.
    `state_hashes`: note the root hash after each input and check it in replay; without it only
    cycles are noted and checked. `durable`: an input that was answered survives a power failure;
    without it only the death of the process. `storage`: where the pages go that change while it
    runs. `queue`: how many inputs may wait. `limits` are those of an advance that brings none of
    its own, `inspect_limits` the same for inspects; `inspect_size` and `inspect_queue` are the
    pool's.
    """

    snapshots: SnapshotPolicy = "on_demand"
    keep: _Count = 4
    keep_inputs: Literal["all"] | _Count = "all"
    state_hashes: bool = True
    durable: bool = True
    storage: Literal["memory", "backing"] = "memory"
    weight: float = 1.0
    queue: Annotated[int, Meta(ge=0)] = 1024
    limits: Limits = Limits()
    inspect_size: _Count = 64
    inspect_queue: Annotated[int, Meta(ge=0)] = 1024
    inspect_limits: Limits = Limits()

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise BadConfig("weight", self.weight, "a positive, finite number")
        policy = self.snapshots
        if isinstance(policy, int) and policy < 1:
            raise BadConfig("snapshots", policy, "at least 1, or a word")

    @property
    def every(self) -> int | None:
        """After how many inputs a snapshot is stored; None when only on demand or never."""
        if isinstance(self.snapshots, int):
            return self.snapshots
        return 1 if self.snapshots == "every_input" else None

    def replace(self, **changes: object) -> ApplicationSettings:
        """Return a copy with some fields changed."""
        return msgspec.structs.replace(self, **changes)
