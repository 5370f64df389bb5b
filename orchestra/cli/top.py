"""`orchestra top`: what a served fleet does, in the terminal, until Ctrl-C."""

import http.client
import json as jsonlib
import time
import urllib.error
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.cli.bench import FILE_COLUMNS
from orchestra.cli.options import Json, examples
from orchestra.cli.output import emit
from orchestra.errors import BadConfig, MachineClosed

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["EXAMPLES", "top"]

EXAMPLES = examples(
    "orchestra top                                     of orchestra serve on this host",
    "orchestra top http://node:8000 --token SECRET --interval 2",
    "orchestra top --once                              one look, then exit",
)
ANSWER_SECONDS = 10
MEGABYTE = 1_000_000
CLASSES = ("advance", "inspect", "background")


def top(
    address: Annotated[
        str, typer.Argument(help="Where it is served.", metavar="URL")
    ] = "http://127.0.0.1:8000",
    token: Annotated[
        str | None,
        typer.Option(help="The server's token.", metavar="TOKEN", envvar="ORCHESTRA_TOKEN"),
    ] = None,
    interval: Annotated[
        float, typer.Option(help="Time between two looks.", metavar="SECONDS", min=0.1)
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    json: Json = False,
) -> None:
    """Watch a fleet: queues, cycles per second, latencies, memory, and each application.

    Rates are of the time between two looks, or since the server began when there was only one.
    """
    now = _look(address, token)
    if json:
        emit(now)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console()
    if not console.is_terminal:
        console.width = FILE_COLUMNS
    if once:
        console.print(_page(now, None, 0))
        return
    with Live(_page(now, None, 0), console=console, screen=True) as live:
        began = time.monotonic()
        while True:
            time.sleep(interval)
            before, now = now, _look(address, token)
            seconds = time.monotonic() - began
            began += seconds
            live.update(_page(now, before, seconds), refresh=True)


def _look(address: str, token: str | None) -> dict[str, Any]:
    if not address.startswith(("http://", "https://")):
        raise BadConfig("URL", address, "http://host:port")
    try:
        url = f"{address.rstrip('/')}/statistics"
        request = urllib.request.Request(url)  # noqa: S310 - checked above
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
            found = jsonlib.load(answer)
    except urllib.error.HTTPError as error:
        detail = f"{error.code} {error.reason}"
        with error, suppress(ValueError, KeyError, TypeError):
            detail = jsonlib.load(error)["detail"]
        raise MachineClosed(f"{address}: {detail}") from error
    except OSError as error:
        raise MachineClosed(f"{address}: {getattr(error, 'reason', error)}") from error
    except http.client.InvalidURL as error:
        raise BadConfig("URL", address, "http://host:port") from error
    except (http.client.HTTPException, ValueError) as error:
        raise MachineClosed(f"{address}: what answers there is no fleet: {error}") from error
    if not isinstance(found, dict) or not found.keys() >= {"fleet", "memory_bytes", "disk_bytes"}:
        raise MachineClosed(f"{address}: what answers there is no fleet")
    return found


def _page(now: dict[str, Any], before: dict[str, Any] | None, seconds: float) -> "Group":
    from rich.console import Group

    return Group(_fleet(now, before, seconds), _applications(now, before, seconds))


def _fleet(now: dict[str, Any], before: dict[str, Any] | None, seconds: float) -> Any:
    from rich.table import Table

    fleet = now["fleet"]
    old = before["fleet"] if before else {"cycles": 0, "calls": 0, "seconds": 0.0}
    cpu = fleet["seconds"] - old["seconds"]
    table = Table(title="fleet", title_justify="left")
    cells = {
        "workers": str(fleet["workers"]),
        "running": str(fleet["running"]),
        "waiting": " ".join(
            f"{name} {count}"
            for name, count in zip(CLASSES, fleet["runnable"], strict=True)
            if count
        )
        or "nobody",
        "Mcycles/cpu s": f"{(fleet['cycles'] - old['cycles']) / cpu / 1e6:,.0f}" if cpu else "",
        "calls/s": f"{(fleet['calls'] - old['calls']) / seconds:,.0f}" if seconds else "",
        "served in": _median(fleet["serving_seconds"]),
        "memory": f"{now['memory_bytes'] / MEGABYTE:,.0f} MB",
    }
    for name in cells:
        table.add_column(name, justify="right")
    table.add_row(*cells.values())
    return table


def _applications(now: dict[str, Any], before: dict[str, Any] | None, seconds: float) -> Any:
    from rich.table import Table

    table = Table(title="applications", title_justify="left")
    for name in (
        *("name", "inputs", "/s", "refused", "waiting", "input in", "inspects", "/s", "waiting"),
        *("cycle", "snapshot", "disk"),
    ):
        table.add_column(name, justify="left" if name == "name" else "right")
    old = {app["name"]: app for app in before["fleet"]["applications"]} if before else {}
    for app in now["fleet"]["applications"]:
        pool, was = app["pool"], old.get(app["name"])
        inputs = f"{(app['inputs'] - was['inputs']) / seconds:,.0f}" if was else ""
        asked = f"{(pool['ended'] - was['pool']['ended']) / seconds:,.0f}" if was else ""
        refused = sum(count for status, count in app["statuses"].items() if status != "accepted")
        disk = now["disk_bytes"].get(app["name"], 0) / MEGABYTE
        table.add_row(
            *(app["name"], f"{app['inputs']:,}", inputs, f"{refused:,}", str(app["waiting"])),
            *(_median(app["serving_seconds"]), f"{pool['ended']:,}", asked, str(pool["waiting"])),
            *(f"{app['cycle']:,}", f"{app['snapshot']:,}", f"{disk:,.1f} MB"),
        )
    return table


def _median(histogram: dict[str, Any]) -> str:
    """Write a bound that half of the durations stay below."""
    counts = histogram["counts"]
    seen = 0
    for power, count in enumerate(counts):
        seen += count
        if count and 2 * seen >= sum(counts):
            return f"< {2**power / 1000:g} ms"
    return ""
