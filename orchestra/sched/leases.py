"""Machines that queries may spoil: forks of one template, reset and kept warm."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from orchestra.errors import OrchestraError

if TYPE_CHECKING:
    from orchestra.sched.jobs import MachineLike

__all__ = ["Leases"]


class Leases:
    """A template and the leases made of it; closed when retired and all leases are back.

    Used by all workers at once. A lease that comes back is rolled back to the template's state and
    kept warm; one whose host failed is dropped.
    """

    def __init__(self, template: MachineLike) -> None:
        self.template = template
        self.cycle = template.cycle  # to be told while others close the template
        self._lock = threading.Lock()  # a machine is used by one thread at a time, so is a fork
        self._warm: list[MachineLike] = []
        self._out = 0
        self._retired = False
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether all leases and the template are closed."""
        return self._closed.is_set()

    @property
    def warm(self) -> int:
        """How many leases are ready."""
        return len(self._warm)

    def lease(self) -> MachineLike | None:
        """Return a machine in the template's state, or None when they are retired."""
        with self._lock:
            if self._retired:
                return None
            machine = self._warm.pop() if self._warm else self.template.fork()
            self._out += 1
            return machine

    def give_back(self, machine: MachineLike, *, spoiled: bool, clean: bool = False) -> None:
        """Take a lease back; a clean one was rolled back already."""
        if not (spoiled or clean or self._retired):
            try:
                machine.rollback()
            except OrchestraError:
                spoiled = True
        with self._lock:
            self._out -= 1
            keep = not (spoiled or self._retired)
            if keep:
                self._warm.append(machine)
            last = self._retired and self._out == 0
        if not keep:
            close(machine)
        if last:
            self._close()

    def retire(self) -> None:
        """Lease no more; close what is not in use now and the rest when it comes back."""
        with self._lock:
            if self._retired:
                return
            self._retired = True
            warm, self._warm = self._warm, []
            last = self._out == 0
        for machine in warm:
            close(machine)
        if last:
            self._close()

    def wait_closed(self) -> None:
        """Wait for the last lease to come back; retire first."""
        self._closed.wait()

    def _close(self) -> None:
        close(self.template)
        self._closed.set()


def close(machine: MachineLike) -> None:
    """Close a machine that nobody will miss."""
    with suppress(OrchestraError):
        machine.close()
