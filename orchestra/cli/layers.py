"""`orchestra compact | export`: a folder's layers merged into one, or into a plain file."""

from pathlib import Path
from typing import Annotated

import typer

from orchestra.cli.machines import by_method
from orchestra.cli.options import Directory, Json, Wait, examples
from orchestra.cli.output import emit, human_bytes
from orchestra.machine.clone import export_range
from orchestra.machine.compact import compact_machine

__all__ = ["COMPACT_EXAMPLES", "EXPORT_EXAMPLES", "compact", "export"]

COMPACT_EXAMPLES = examples(
    "orchestra compact app                    one layer instead of many, the same machine",
    "orchestra clone app plain --flatten      or plain images, in a folder of their own",
)
EXPORT_EXAMPLES = examples(
    "orchestra export app disk disk.img       what is on a drive, to be mounted on the host",
    "orchestra export monday ram ram.bin      all of RAM, with holes where it is zeros",
)


def compact(directory: Directory, wait: Wait = 0, json: Json = False) -> None:
    """Merge the layers of a machine or snapshot into one; it stays the same machine.

    Nobody may run in it or read it meanwhile. Layers that other folders link stay there. Every page
    is compared with its checksum on the way; when anything is wrong, all stays as it is. A process
    that is killed leaves the folder as it was, or compacted; so does a power failure.
    """
    summary = compact_machine(directory, wait_seconds=wait)
    if json:
        emit(
            {
                "directory": str(summary.directory),
                "cycle": summary.cycle,
                "layers": summary.layers,
                "pages": summary.pages,
                "layer_bytes": summary.layer_bytes,
                "before_bytes": summary.before_bytes,
            }
        )
    elif summary.layers < 2:
        typer.echo(f"{directory}: one layer already, {human_bytes(summary.layer_bytes)}")
    else:
        typer.echo(
            f"{directory}: {summary.layers} layers, {human_bytes(summary.before_bytes)}, became "
            f"one of {summary.pages} pages, {human_bytes(summary.layer_bytes)}"
        )


def export(
    directory: Directory,
    name: Annotated[
        str, typer.Argument(help="A drive, or ram, rx, tx, dtb (see info).", metavar="RANGE")
    ],
    target: Annotated[Path, typer.Argument(help="The file to make.", metavar="FILE")],
    wait: Wait = 0,
    json: Json = False,
) -> None:
    """Make a plain file of what a drive, or RAM, of a machine or snapshot holds.

    A drive's file can be mounted on the host. It shares blocks with the machine's image where the
    file system can; pages that the machine wrote are laid over it.
    """
    summary = export_range(directory, name, target, wait_seconds=wait)
    if json:
        emit(
            {
                "file": str(summary.directory),
                "cycle": summary.cycle,
                "methods": summary.methods,
                "copied_bytes": summary.copied_bytes,
            }
        )
    else:
        length = human_bytes(target.stat().st_size)
        typer.echo(f"{target}: {length} at cycle {summary.cycle}, {by_method(summary.methods)}")
