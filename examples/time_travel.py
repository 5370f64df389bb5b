"""Stop at an exact cycle, look at one instruction, go back, and arrive at the same state again.

Output:

    stopped at cycle 1000, pc 0x80...
    core   0: 3 0x0000000080... (0x...)...
    rolled back to cycle 1000
    one run of 500 cycles and 500 runs of one end in the same state: True
"""

from orchestra import Boot, Machine, MachineConfig
from orchestra.guest import LEDGER

with Machine.create(MachineConfig(boot=Boot(elf=LEDGER))) as machine:
    machine.run()
    machine.send_response(b"spin 1000000")  # an input, and the machine stands before it

    stop = machine.run(until=1000)
    print(f"stopped at cycle {stop.cycle}, pc {machine.registers['pc']:#x}")

    machine.checkpoint()
    for line in machine.trace(max_cycles=1):
        print(line)
    machine.run(until=1500)
    digest = machine.digest()

    machine.rollback()
    print("rolled back to cycle", machine.cycle)
    for _ in range(500):
        machine.run(max_cycles=1)
    same = machine.digest() == digest
    print("one run of 500 cycles and 500 runs of one end in the same state:", same)
