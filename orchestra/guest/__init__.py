"""Guest programs in the package, and the makers of a Debian guest."""

from pathlib import Path
from typing import Final

__all__ = ["AGENT", "FOLDER", "HELLO", "INCLUDE", "KERNELS", "LEDGER", "PYTHON"]

FOLDER: Final = Path(__file__).resolve().parent
HELLO: Final = FOLDER / "hello/hello.elf"  # bare metal: prints a line and halts
LEDGER: Final = FOLDER / "ledger/ledger.elf"  # bare metal: accounts, by advance and inspect
KERNELS: Final = FOLDER / "kernels/kernels.elf"  # bare metal: what `orchestra bench cpu` times
AGENT: Final = FOLDER / "agent/agent.elf"  # Linux: requests are shell commands
INCLUDE: Final = FOLDER / "include"  # orchestra.h, for guests in C
PYTHON: Final = FOLDER / "python"  # orchestra_guest.py, for guests in Python
