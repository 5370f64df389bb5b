"""A machine's registers by name: ABI names, x0..x31, f0..f31, pc, privilege, and every CSR."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING

from ._core import REGISTERS

if TYPE_CHECKING:
    from ._core import Core

__all__ = ["Registers"]

WORD = 1 << 64


class Registers(MutableMapping[str, int]):
    """Registers as a mapping from name to unsigned 64-bit value.

    Writes follow the register's own rules (WARL), like a CSR instruction in M-mode. Unknown names
    raise KeyError; values that are out of range, or that a register cannot have, ValueError.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    def __getitem__(self, name: str) -> int:
        return self._core.register(REGISTERS[name])

    def __setitem__(self, name: str, value: int) -> None:
        number = REGISTERS[name]
        if not -(WORD >> 1) <= value < WORD:
            raise ValueError(f"{name}: {value} is not a 64-bit value")
        if not self._core.set_register(number, value % WORD):
            raise ValueError(f"{name} cannot be {value:#x}")

    def __delitem__(self, name: str) -> None:
        raise TypeError("registers cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(REGISTERS)

    def __len__(self) -> int:
        return len(REGISTERS)
