"""One machine: config -> memory map -> run -> stop -> snapshot. Starts no task.

config    what a machine is made of        layout, boot, image   where everything goes
machine   the face                         view, delta, record   files <-> layers
stop      why a run returned               request               one question to a guest
_core     the only speaker to core/, interpreter and translator in C
"""

from .config import (
    Boot,
    Devices,
    Drive,
    Engine,
    Image,
    MachineConfig,
    Processor,
    Ram,
    load_config,
)
from .machine import Machine, SnapshotResult
from .proof import Proof
from .request import Event, Limits, Outcome, Output, Progress, Report
from .stop import (
    ConsoleOutput,
    Halted,
    Idle,
    Interrupted,
    ReachedCycle,
    Stop,
    Yielded,
)

__all__ = [
    "Boot",
    "ConsoleOutput",
    "Devices",
    "Drive",
    "Engine",
    "Event",
    "Halted",
    "Idle",
    "Image",
    "Interrupted",
    "Limits",
    "Machine",
    "MachineConfig",
    "Outcome",
    "Output",
    "Processor",
    "Progress",
    "Proof",
    "Ram",
    "ReachedCycle",
    "Report",
    "SnapshotResult",
    "Stop",
    "Yielded",
    "load_config",
]
