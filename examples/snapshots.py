"""A machine that runs in its own files, a snapshot of it, forks, and one digest for all.

Output:

    the machine is at cycle ... and holds alice 100
    its snapshot is ... pages
    the snapshot has the machine's digest: True
    a fork goes its own way: alice 100 here, alice 75 there
    the snapshot can be opened after the machine is deleted: alice 100
    and it goes on as the fork did: True
"""

import tempfile
from pathlib import Path

from orchestra import Boot, Machine, MachineConfig
from orchestra.guest import LEDGER
from orchestra.io.folder import remove


def accounts(machine: Machine) -> str:
    """Ask who has how much."""
    return machine.inspect(b"accounts").reports[0].decode().strip()


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    with Machine.create(MachineConfig(boot=Boot(elf=LEDGER)), folder / "app") as machine:
        machine.run()
        machine.advance(b"mint alice 100")
        print(f"the machine is at cycle {machine.cycle} and holds {accounts(machine)}")

        print(f"its snapshot is {machine.snapshot(folder / 'snapshot').pages} pages")
        with Machine.open(folder / "snapshot") as stored:
            same = stored.digest() == machine.digest()
            print("the snapshot has the machine's digest:", same)

        with machine.fork() as fork:
            fork.advance(b"burn alice 25")
            print(f"a fork goes its own way: {accounts(machine)} here, {accounts(fork)} there")
            wanted = fork.digest()

    remove(folder / "app")
    with Machine.open(folder / "snapshot") as stored:
        print("the snapshot can be opened after the machine is deleted:", accounts(stored))
        stored.advance(b"burn alice 25")
        print("and it goes on as the fork did:", stored.digest() == wanted)
