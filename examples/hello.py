"""Run a bare-metal program until it halts.

Output:

    hello from the guest
    halted with code 0 after 135 cycles
    a0 is 0x0, the program starts with 0x40008437
"""

from orchestra import Boot, Halted, Machine, MachineConfig, Ram
from orchestra.guest import HELLO

config = MachineConfig(ram=Ram(length=1 << 20), boot=Boot(elf=HELLO))

with Machine.create(config) as machine:
    stop = machine.run()
    print(machine.console_output().decode(), end="")
    assert isinstance(stop, Halted)
    print(f"halted with code {stop.code} after {stop.cycle} cycles")
    word = int.from_bytes(machine.read(0x8000_0000, 4), "little")
    print(f"a0 is {machine.registers['a0']:#x}, the program starts with {word:#x}")
