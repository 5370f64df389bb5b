"""Fleets of deterministic RISC-V machines that run straight out of their files.

errors    what can happen
io        files: mapped, sparse, layered, cloned, locked
machine   one machine: config -> memory map -> run -> stop -> snapshot (blocking)
sched     many machines: whose turn it is, on which thread, within which limits (async)
guest     programs that run inside: the SDK, a ledger, Debian
cli       the command line
testing   a scripted machine and a clock, for tests without guests
"""

from orchestra.errors import (
    AtCapacity,
    BackingFault,
    BadConfig,
    BadImage,
    FolderExists,
    GuestError,
    InputConflict,
    LogFault,
    MachineBusy,
    MachineClosed,
    MachineForked,
    MachineLocked,
    MachineTorn,
    OrchestraError,
    StateDiverged,
)
from orchestra.machine import (
    Boot,
    ConsoleOutput,
    Devices,
    Drive,
    Event,
    Halted,
    Idle,
    Image,
    Interrupted,
    Limits,
    Machine,
    MachineConfig,
    Outcome,
    Output,
    Processor,
    Progress,
    Proof,
    Ram,
    ReachedCycle,
    Report,
    SnapshotResult,
    Stop,
    Yielded,
    load_config,
)
from orchestra.sched.application import Application
from orchestra.sched.console import ConsoleStream
from orchestra.sched.events import Call
from orchestra.sched.fleet import Fleet, open_fleet
from orchestra.sched.input_log import InputOutcome
from orchestra.sched.inspection import InspectPool
from orchestra.sched.limits import Status
from orchestra.sched.plan import Priority
from orchestra.sched.settings import ApplicationSettings
from orchestra.sched.statistics import (
    ApplicationStatistics,
    FleetStatistics,
    HistogramSnapshot,
    MachineStatistics,
    PoolStatistics,
)

__all__ = [
    "Application",
    "ApplicationSettings",
    "ApplicationStatistics",
    "AtCapacity",
    "BackingFault",
    "BadConfig",
    "BadImage",
    "Boot",
    "Call",
    "ConsoleOutput",
    "ConsoleStream",
    "Devices",
    "Drive",
    "Event",
    "Fleet",
    "FleetStatistics",
    "FolderExists",
    "GuestError",
    "Halted",
    "HistogramSnapshot",
    "Idle",
    "Image",
    "InputConflict",
    "InputOutcome",
    "InspectPool",
    "Interrupted",
    "Limits",
    "LogFault",
    "Machine",
    "MachineBusy",
    "MachineClosed",
    "MachineConfig",
    "MachineForked",
    "MachineLocked",
    "MachineStatistics",
    "MachineTorn",
    "OrchestraError",
    "Outcome",
    "Output",
    "PoolStatistics",
    "Priority",
    "Processor",
    "Progress",
    "Proof",
    "Ram",
    "ReachedCycle",
    "Report",
    "SnapshotResult",
    "StateDiverged",
    "Status",
    "Stop",
    "Yielded",
    "load_config",
    "open_fleet",
]
