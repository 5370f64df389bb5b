"""`orchestra create | snapshot | clone | info`: machines as folders."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from orchestra.cli.attend import Attendant
from orchestra.cli.facts import Facts, look_at
from orchestra.cli.options import (
    Bootargs,
    Config,
    CopyImages,
    CyclesPerTick,
    Directory,
    DiscardTorn,
    Drives,
    Durable,
    Firmware,
    Initrd,
    Json,
    Kernel,
    MachineOptions,
    RamSize,
    Seed,
    Target,
    Wait,
    build_config,
    examples,
    torn_choice,
)
from orchestra.cli.output import emit, human_bytes
from orchestra.machine.clone import clone_machine
from orchestra.machine.machine import Machine

__all__ = [
    "CLONE_EXAMPLES",
    "CREATE_EXAMPLES",
    "INFO_EXAMPLES",
    "SNAPSHOT_EXAMPLES",
    "by_method",
    "clone",
    "create",
    "info",
    "snapshot",
]

CREATE_EXAMPLES = examples(
    "orchestra create app prog.elf --ram 128MiB     a program and its memory",
    "orchestra create app --config app.toml         all of a config file",
    "orchestra create box --firmware fw_jump.bin --kernel Image --initrd root.cpio \\",
    "    --bootargs 'console=ttyS0' --drive disk=disk.img",
    "orchestra create app prog.elf --drive scratch=,length=16MiB",
)
SNAPSHOT_EXAMPLES = examples(
    "orchestra snapshot app monday              keep the state app is in",
    "orchestra snapshot app monday --durable    through a power failure, too",
    "orchestra inspect monday 'balance alice'   a snapshot answers like its machine",
)
CLONE_EXAMPLES = examples(
    "orchestra clone app other      two machines from here on",
    "orchestra clone monday again   a machine that starts from a snapshot",
    "orchestra clone app plain --flatten",
)
INFO_EXAMPLES = examples(
    "orchestra info app             what it is, where it stands, what it occupies",
    "orchestra info app --digest    and the digest of its whole state",
    "orchestra info app --json",
)


def create(
    directory: Annotated[Path, typer.Argument(help="The folder to make.", metavar="DIR")],
    program: Annotated[
        Path | None,
        typer.Argument(help="An ELF, or a raw image for the start of RAM.", metavar="PROGRAM"),
    ] = None,
    config: Config = None,
    ram: RamSize = None,
    firmware: Firmware = None,
    kernel: Kernel = None,
    initrd: Initrd = None,
    bootargs: Bootargs = None,
    drive: Drives = None,
    cycles_per_tick: CyclesPerTick = None,
    seed: Seed = None,
    durable: Durable = False,
    copy_images: CopyImages = False,
    json: Json = False,
) -> None:
    """Make a machine: a folder with all that it needs, at cycle 0.

    Files are shared with it by reflinks where the file system can, else by hard links: then do not
    write into them afterwards, which opening the folder would tell. With --copy-images, and across
    file systems, they are copied without their holes. A drive that is ,shared is a file in the
    folder that the guest writes in place.
    """
    made = build_config(
        MachineOptions(
            program=program,
            config=config,
            ram=ram,
            firmware=firmware,
            kernel=kernel,
            initrd=initrd,
            bootargs=bootargs,
            drives=tuple(drive or ()),
            cycles_per_tick=cycles_per_tick,
            seed=seed,
        )
    )
    links = not copy_images
    Machine.create(made, directory, storage="memory", durable=durable, link_images=links).close()
    report_created(directory, json=json)


def report_created(directory: Path, *, json: bool) -> None:
    """Say what a new folder holds."""
    facts = look_at(directory)
    if json:
        emit(facts.as_json())
        return
    typer.echo(
        f"{directory}: {human_bytes(facts.record.config.ram.length)} of RAM, "
        f"{len(facts.record.config.drives)} drives; {human_bytes(facts.allocated_bytes)} on disk"
    )


def snapshot(
    directory: Directory,
    target: Target,
    durable: Durable = False,
    wait: Wait = 0,
    discard_torn: DiscardTorn = False,
    json: Json = False,
) -> None:
    """Keep the state of a machine as a folder of its own, whole or not at all.

    The snapshot links the machine's layers, so it occupies next to nothing and either may be
    deleted. A machine that runs is snapshotted by the process that runs it.
    """
    with contextlib.ExitStack() as stack:
        machine = stack.enter_context(
            Machine.open(directory, wait_seconds=wait, torn=torn_choice(discard=discard_torn))
        )
        result = machine.snapshot(target, durable=durable)
    if json:
        emit(
            {
                "directory": str(result.directory),
                "cycle": result.cycle,
                "pages": result.pages,
                "methods": result.methods,
            }
        )
    else:
        typer.echo(f"{target}: cycle {result.cycle}, {by_method(result.methods)}")


def clone(
    directory: Directory,
    target: Target,
    flatten: Annotated[
        bool, typer.Option("--flatten", help="Make plain images of its RAM and drives.")
    ] = False,
    durable: Durable = False,
    wait: Wait = 0,
    discard_torn: DiscardTorn = False,
    json: Json = False,
) -> None:
    """Make a second machine of a machine that does not run, or of a snapshot.

    Both go their own ways from here on. Layers are linked; files that are written in place are
    reflinked, or copied where the file system cannot. With --flatten the copy has ram.img and a
    plain image of each drive instead, reflinked as far as can be, and no layers to go through.
    """
    summary = clone_machine(
        directory,
        target,
        durable=durable,
        wait_seconds=wait,
        torn=torn_choice(discard=discard_torn),
        flatten=flatten,
    )
    if json:
        emit(
            {
                "directory": str(summary.directory),
                "cycle": summary.cycle,
                "methods": summary.methods,
                "copied_bytes": summary.copied_bytes,
            }
        )
    else:
        copied = human_bytes(summary.copied_bytes)
        typer.echo(
            f"{target}: cycle {summary.cycle}, {by_method(summary.methods)}, {copied} copied"
        )


def by_method(methods: dict[str, int]) -> str:
    """Say in words how files came into a folder."""
    words = {"link": "linked", "reflink": "reflinked"}
    parts = [f"{number} files {words.get(name, 'copied')}" for name, number in methods.items()]
    return ", ".join(parts) or "no files"


def info(
    directory: Directory,
    digest: Annotated[
        bool, typer.Option("--digest", help="Open it and hash its whole state.")
    ] = False,
    json: Json = False,
) -> None:
    """Say what a machine is made of, where it stands and what it occupies on disk.

    A machine that runs is described as it was sealed last. "own" bytes are those of files that no
    other folder links: what deleting this one would free.
    """
    facts = look_at(directory)
    state = None
    if digest:
        with Attendant() as attendant, Machine.open(directory) as machine:
            state = machine.digest()
            attendant.check()
    if json:
        emit(facts.as_json() | ({"digest": state} if digest else {}))
        return
    _print_facts(facts, state)


def _print_facts(facts: Facts, digest: str | None) -> None:
    record, config = facts.record, facts.record.config
    rows = [
        ("machine", str(facts.directory)),
        ("id", record.id + (f", of {record.parent}" if record.parent else "")),
        ("cycle", str(record.cycle) + ("" if record.reproducible else ", not reproducible")),
        ("state", facts.condition),
        ("RAM", human_bytes(config.ram.length)),
        ("processor", f"{config.processor.isa}, {config.processor.cycles_per_tick} cycles a tick"),
        ("engine", config.engine),
    ]
    if digest:
        rows.insert(3, ("digest", digest))
    for drive in config.drives:
        words = [drive.kind, human_bytes(drive.length or 0)]
        words += ["read-only"] * drive.read_only + ["shared"] * drive.shared
        rows.append(("drive", f"{drive.name}: {', '.join(words)}"))
    if config.boot.bootargs:
        rows.append(("bootargs", config.boot.bootargs))
    for item in facts.files:
        links = f", {item.links} links" if item.links > 1 else ""
        pages = "" if item.pages is None else f", {item.pages} pages"
        sizes = f"{human_bytes(item.logical_bytes)}, {human_bytes(item.allocated_bytes)} on disk"
        rows.append(("file", f"{item.name}: {sizes}{pages}{links}"))
    total = f"{human_bytes(facts.logical_bytes)}, {human_bytes(facts.allocated_bytes)} on disk"
    rows.append(("bytes", f"{total}, {human_bytes(facts.own_bytes)} of them own"))
    for area in facts.layout.ranges:
        where = f"{area.start:#012x}  {human_bytes(area.length):>8}  {area.kind}"
        rows.append(("range", f"{area.name:<10}{where}"))
    for name, text in rows:
        typer.echo(f"{name:<11}{text}")
