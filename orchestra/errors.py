"""What can happen to a machine, its files or a fleet, as exceptions."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "AtCapacity",
    "BackingFault",
    "BadConfig",
    "BadImage",
    "FolderExists",
    "GuestError",
    "InputConflict",
    "LogFault",
    "MachineBusy",
    "MachineClosed",
    "MachineForked",
    "MachineLocked",
    "MachineTorn",
    "OrchestraError",
    "StateDiverged",
]


class OrchestraError(Exception):
    """The base of every error orchestra raises on purpose."""


class BadConfig(OrchestraError, ValueError):
    """A configuration cannot be: which field, what was found, what is expected."""

    def __init__(self, field: str, found: object, expected: str) -> None:
        super().__init__(f"config field {field!r}: found {found!r}, expected {expected}")
        self.field, self.found, self.expected = field, found, expected


class BadImage(OrchestraError):
    """A file is not what it must be: which file and field, what was found, what is expected."""

    def __init__(self, path: Path | str, field: str, found: object, expected: str) -> None:
        super().__init__(f"{path}: {field}: found {found!r}, expected {expected}")
        self.path, self.field, self.found, self.expected = Path(path), field, found, expected


class FolderExists(OrchestraError, FileExistsError):
    """The folder to be published is there already; nothing was replaced."""

    def __init__(self, path: Path | str) -> None:
        OrchestraError.__init__(
            self, f"{path} exists already; choose another name or remove it first"
        )
        self.path = Path(path)


class MachineLocked(OrchestraError):
    """Somebody else's use of the folder or file excludes ours; `holder` says who, when known."""

    def __init__(self, path: Path | str, holder: str | None = None) -> None:
        who = holder or "another descriptor"
        super().__init__(f"{path} is locked by {who}; wait for it, or work on a snapshot of it")
        self.path, self.holder = Path(path), holder


class MachineTorn(OrchestraError):
    """A writer died while it ran here; its unsealed pages are not a state of the machine."""

    def __init__(
        self,
        path: Path | str,
        last_good: str,
        way: str = "open with torn='discard' (--discard-torn) to go back to it",
    ) -> None:
        super().__init__(
            f"{path}: its writer died before sealing its pages; the last good state is "
            f"{last_good}; {way}"
        )
        self.path, self.last_good = Path(path), last_good


class MachineForked(OrchestraError):
    """The process was forked; a machine on shared files belongs to the parent only."""


class MachineClosed(OrchestraError):
    """The machine, fleet or pool was closed before the call."""


class MachineBusy(OrchestraError):
    """The machine is running on another thread, or its guest is not ready for what was asked."""


class BackingFault(OrchestraError):
    """A page of a file could not be read or written; the machine stands before that access."""

    def __init__(self, path: Path | str, offset: int, reason: str) -> None:
        super().__init__(f"{path}: offset {offset:#x}: {reason}; mend the storage and run again")
        self.path, self.offset, self.reason = Path(path), offset, reason


class AtCapacity(OrchestraError):
    """The pool and its queue are full; try again later or ask to wait."""


class GuestError(OrchestraError):
    """The guest did something its protocol does not allow; the message says what."""


class LogFault(OrchestraError):
    """An application's log could not be read or written; no input was taken."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}; the input was undone; mend the storage and try again")
        self.path, self.reason = Path(path), reason


class InputConflict(OrchestraError):
    """An input came under a number that is another input's, or not the next one."""

    def __init__(self, number: int, following: int, *, gone: bool = False) -> None:
        what = (
            "was taken, and is no longer in the log"
            if gone
            else "is not the payload that the log has under that number"
            if number < following
            else f"would leave a gap: the next one is number {following}"
        )
        super().__init__(f"input {number} {what}")
        self.number, self.following = number, following


class StateDiverged(OrchestraError):
    """A replay did not end in the state that the log has for that input."""

    def __init__(self, path: Path | str, number: int, found: object, expected: object) -> None:
        super().__init__(
            f"{path}: after input {number}: found {found}, the log says {expected}; "
            "its snapshot or its log was changed: restore both from one backup"
        )
        self.path, self.number, self.found, self.expected = Path(path), number, found, expected
