"""What the system that inspired this one measured: its table, on its hardware."""

from __future__ import annotations

from typing import Final

__all__ = ["SEED"]

_FILESYSTEMS = ("ext4", "btrfs", "xfs")
_RATES = {
    "load-config/memory/discard": (3407, 3512, 3482),
    "load-config/memory/store": (16, 15, 18),
    "load-config/backing/discard": (11, 577, 1155),
    "load-config/backing/store": (12, 536, 1038),
    "load-snapshot/memory/discard": (13668, 14464, 14640),
    "load-snapshot/memory/store": (14, 12, 15),
    "load-snapshot/backing/discard": (10, 866, 1812),
    "load-snapshot/backing/store": (11, 886, 1467),
    "roll-snapshot/memory/discard": (130663, 211551, 131551),
    "roll-snapshot/memory/store": (19, 16, 20),
    "roll-snapshot/backing/discard": (478351, 199130, 328092),
    "roll-snapshot/backing/store": (17, 4476, 2312),
    "mb-per-snapshot/roll-snapshot/backing/store": (124, 0.05, 0.05),
}

# row -> file system -> operations per second, each advancing 1000 cycles, or MB
SEED: Final = {name: dict(zip(_FILESYSTEMS, row, strict=True)) for name, row in _RATES.items()}
