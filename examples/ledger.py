"""Give an application inputs, ask it questions, and see a refused input leave no trace.

Output:

    mint alice 100           accepted  1 mint alice 100
    transfer alice bob 30    accepted  2 transfer alice bob 30
    transfer bob alice 1000  rejected  insufficient balance: bob
    fail for a reason        exception for a reason
    balances: alice 70, bob 30
    a refused input changes nothing: True
    an input that takes too long: limit_exceeded after 10000 cycles
"""

from orchestra import Boot, Limits, Machine, MachineConfig
from orchestra.guest import LEDGER

INPUTS = [
    "mint alice 100",
    "transfer alice bob 30",
    "transfer bob alice 1000",
    "fail for a reason",
]

with Machine.create(MachineConfig(boot=Boot(elf=LEDGER))) as machine:
    machine.run()  # until it waits for the first request

    for text in INPUTS:
        outcome = machine.advance(text.encode())
        said = (*outcome.outputs, *outcome.reports, outcome.exception or b"")
        print(f"{text:<24} {outcome.status:<9} {b''.join(said).decode()}")

    accounts = machine.inspect(b"accounts").reports[0].decode()
    print("balances:", ", ".join(accounts.splitlines()))

    before = machine.digest()
    machine.advance(b"burn alice 1000000")
    print("a refused input changes nothing:", machine.digest() == before)

    outcome = machine.advance(b"spin 1000000000", Limits(max_cycles=10_000))
    print(f"an input that takes too long: {outcome.status} after {outcome.cycles} cycles")
