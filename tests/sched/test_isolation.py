"""No inspect can tell that there were others: not by memory, registers, devices or the clock."""

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.guest.build import FOLDER, Program, compile_program
from orchestra.machine import Boot, Drive, Machine, MachineConfig, Ram
from orchestra.machine.request import Limits
from orchestra.sched.fleet import open_fleet

HERE = __file__.rpartition("/")[0]
LOOPS_FOR = 100_000  # cycles
SPOILS = 8  # one thing by each bit
STATUSES = {
    b"a": "accepted",
    b"r": "rejected",
    b"e": "exception",
    b"h": "halted",
    b"l": "limit_exceeded",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A machine that shows what it sees, and then spoils what the query says."""
    elf = tmp_path_factory.mktemp("isolation") / "devices.elf"
    sources = str(FOLDER / "ledger/start.S"), f"{HERE}/devices_guest.c"
    compile_program(Program("devices", sources), elf)
    config = MachineConfig(
        boot=Boot(elf=elf), ram=Ram(1 << 20), drives=(Drive("disk", length=1 << 20),), seed=7
    )
    with Machine.create(config) as machine:
        machine.run()
        yield machine


def said(outcome):
    return outcome.status, outcome.reports, outcome.cycles


async def until_all_are_back(pool):
    """Wait for the leases whose callers have been told or are gone."""
    while pool._leases._out or not pool._leases.warm:
        await anyio.lowlevel.checkpoint()


def test_the_guest_spoils_each_thing_it_shows(template):
    """Else the test below proves nothing: what one query leaves, the next one would see."""
    (clean,) = template.fork().inspect(b"\0a").reports
    for bit in range(SPOILS):
        with template.fork() as machine:
            assert machine.advance(bytes([1 << bit]) + b"a").accepted
            (spoilt,) = machine.inspect(b"\0a", Limits(max_cycles=LOOPS_FOR)).reports or (None,)
            assert spoilt != clean
            assert machine.digest() != template.digest()


@settings(max_examples=25, deadline=None)
@given(
    backend=st.sampled_from(["asyncio", "trio"]),
    size=st.integers(1, 3),
    queries=st.lists(
        st.tuples(st.integers(0, 255), st.sampled_from(sorted(STATUSES)), st.booleans()),
        min_size=1,
        max_size=30,
    ),
)
def test_every_inspect_sees_the_template_and_every_lease_returns_to_it(
    template, backend, size, queries
):
    limits = Limits(max_cycles=LOOPS_FOR)
    before = template.digest()
    alone = {}
    for bits, end, _ in [*queries, (0, b"a", False)]:
        query = bytes([bits]) + end
        with template.fork() as machine:
            alone[query] = said(machine.inspect(query, limits))
        assert alone[query][0] == STATUSES[end]
    warm = []

    async def main():
        async with open_fleet(2) as fleet, fleet.inspect_pool(template, size=size) as pool:

            async def ask(query, gives_up):
                with anyio.move_on_after(0.001 if gives_up else 60):
                    assert said(await pool.inspect(query, limits)) == alone[query]

            async with anyio.create_task_group() as group:
                for bits, end, gives_up in queries:
                    group.start_soon(ask, bytes([bits]) + end, gives_up)
            await ask(b"\0a", gives_up=False)
            await until_all_are_back(pool)
            warm.extend(machine.digest() for machine in pool._leases._warm)

    anyio.run(main, backend=backend)
    assert warm
    assert set(warm) == {before}
    assert template.digest() == before
