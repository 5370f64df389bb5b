"""Running, storing, copying and closing in any order: every folder holds what it was given."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import MachineTorn
from orchestra.machine import Machine
from orchestra.machine.clone import clone_machine
from orchestra.machine.compact import compact_machine
from orchestra.machine.verify import verify_folder
from tests.guests import ledger_config

RUNS = ("mint alice 1", "fill 40 7", "fill 3000 5", "page 3", "page 400", "burn nobody 1")
DETOURS = (
    "snapshot",
    "checkpoint and roll back",
    "fork",
    "fork that stores",
    "close and open",
    "close and open to read",
    "compact",
    "clone and go on there",
    "flatten and go on there",
    "copy and go on there",
    "a snapshot and go on there",
    "delete a snapshot",
    "compact a snapshot",
    "write",
    "root hash",
    "die after a seal",
    "die after a snapshot",
)


class Detours:
    """A machine on its way, a reference in memory beside it, and the snapshots that were made."""

    def __init__(self, folder):
        self.folder, self.count = folder, 0
        self.reference = Machine.create(ledger_config())
        self.reference.run()
        self.snapshots = {}
        self.app = folder / "app"
        self.machine = Machine.create(ledger_config(), self.app)
        self.machine.run()
        self.reopen()

    def fresh(self, kind):
        self.count += 1
        return self.folder / f"{kind}{self.count}"

    def run(self, text):
        outcomes = [one.advance(text.encode()) for one in (self.machine, self.reference)]
        assert outcomes[0].status == outcomes[1].status
        assert outcomes[0].outputs == outcomes[1].outputs

    def store(self, machine):
        target = self.fresh("snap")
        machine.snapshot(target)
        self.snapshots[target] = machine.digest()

    def reopen(self, storage="backing"):
        self.machine.close()
        self.machine = Machine.open(self.app, storage=storage)

    def move(self, make, source=None):
        self.machine.close()
        target = self.fresh("app")
        make(source or self.app, target)
        self.app = target
        self.machine = Machine.open(self.app, storage="backing")

    def detour(self, name):
        machine = self.machine
        match name:
            case "snapshot":
                self.store(machine)
            case "checkpoint and roll back":
                machine.checkpoint()
                machine.advance(b"page 300")
                machine.write(0x8100_0000, b"gone")
                machine.rollback()
                self.reference.checkpoint()
            case "fork" | "fork that stores":
                with machine.fork() as copy:
                    copy.advance(b"page 300")
                    if name == "fork that stores":
                        self.store(copy)
            case "close and open":
                self.reopen()
            case "close and open to read":
                self.reopen("memory")
                self.store(self.machine)
                self.reopen()
            case "compact":
                self.machine.close()
                compact_machine(self.app)
                self.machine = Machine.open(self.app, storage="backing")
            case "clone and go on there":
                self.move(clone_machine)
            case "flatten and go on there":
                self.move(lambda source, target: clone_machine(source, target, flatten=True))
            case "copy and go on there":
                self.move(shutil.copytree)
            case "a snapshot and go on there":
                self.store(machine)
                self.move(clone_machine, next(reversed(self.snapshots)))
            case "delete a snapshot" if self.snapshots:
                target = next(iter(self.snapshots))
                shutil.rmtree(target)
                del self.snapshots[target]
            case "compact a snapshot" if self.snapshots:
                compact_machine(next(iter(self.snapshots)))
            case "write":
                for one in (machine, self.reference):
                    one.write(0x8100_0000, b"%d" % self.count)
            case "root hash":
                assert machine.root_hash() == self.reference.root_hash()
            case "die after a seal":
                self.reopen()
                self.die()
            case "die after a snapshot":
                self.store(machine)
                self.die()

    def die(self):
        """Go back to where the machine was stored last, as after a killed process."""
        self.machine.advance(b"page 300")
        self.machine.discard()
        with pytest.raises(MachineTorn):
            Machine.open(self.app)
        self.machine = Machine.open(self.app, storage="backing", torn="discard")

    def check(self):
        assert self.machine.digest() == self.reference.digest()

    def end(self):
        self.check()
        self.machine.close()
        for folder, digest in {**self.snapshots, self.app: self.reference.digest()}.items():
            with Machine.open(folder) as machine:
                assert machine.digest() == digest, folder
            report = verify_folder(folder)
            assert report.ok, report.flaws
        self.reference.close()


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(st.sampled_from(RUNS + DETOURS), min_size=3, max_size=14))
def test_every_folder_holds_the_state_it_was_given_whatever_came_between(steps):
    with tempfile.TemporaryDirectory() as folder:
        way = Detours(Path(folder))
        for step in steps:
            if step in RUNS:
                way.run(step)
            else:
                way.detour(step)
            way.check()
        way.end()
