"""`orchestra verify`: reads all of a machine's folder and compares it with its checksums."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from orchestra.cli.options import Directory, Json, Wait, examples
from orchestra.cli.output import emit, human_bytes
from orchestra.cli.progress import make_bars, on_terminal
from orchestra.machine.verify import Report, verify_folder

__all__ = ["EXAMPLES", "verify"]

EXAMPLES = examples(
    "orchestra verify app          is all of it as it was stored?",
    "orchestra verify app --json   and its root hash, file by file",
)
FAILED = 1


def verify(directory: Directory, wait: Wait = 0, json: Json = False) -> None:
    """Read all of a machine's folder and compare it with every checksum and digest in it.

    It must not run meanwhile. Every flaw is named: file, field, what was found, what is expected;
    the exit status is 1 if there is one. A sound folder has a root hash: that of its memory, its
    registers and devices, by which two machines can be told apart from afar.
    """
    with _bar(directory) as progress:
        report = verify_folder(directory, progress=progress, wait_seconds=wait)
    if json:
        emit(_as_json(report))
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(FAILED)


def _print(report: Report) -> None:
    for flaw in report.flaws:
        typer.echo(str(flaw))
    if report.torn:
        typer.echo("its writer died; --discard-torn goes back to its seal")
    for name in report.strangers:
        typer.echo(f"{name}: not a file of this machine")
    for item in report.files:
        blind = item.pages - item.compared
        compared = f", {blind} of them without a digest to compare with" if blind else ""
        typer.echo(f"{item.name}: {item.pages} pages{compared}")
    verdict = "sound" if report.ok else "torn" if not report.flaws else "flawed"
    typer.echo(f"{report.directory}: {verdict}" + (f", root {report.root}" if report.root else ""))


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "directory": str(report.directory),
        "ok": report.ok,
        "torn": report.torn,
        "cycle": report.cycle,
        "root": report.root,
        "files": [
            {
                "name": item.name,
                "kind": item.kind,
                "pages": item.pages,
                "compared": item.compared,
            }
            for item in report.files
        ],
        "flaws": [
            {
                "path": str(flaw.path),
                "field": flaw.field,
                "found": str(flaw.found),
                "expected": flaw.expected,
            }
            for flaw in report.flaws
        ],
        "strangers": list(report.strangers),
    }


@contextlib.contextmanager
def _bar(directory: Path) -> Iterator[Callable[[int, int], None] | None]:
    if not on_terminal():
        yield None
        return
    with make_bars() as bars:
        task = bars.add_task(f"reading {directory}", total=None, detail="")

        def show(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total, detail=human_bytes(done))

        yield show
