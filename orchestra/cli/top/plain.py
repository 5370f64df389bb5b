"""One look at a fleet as plain tables, for `--once` and for who has no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestra.cli.top.columns import TABLES, chosen, summary

if TYPE_CHECKING:
    from rich.console import Console

    from orchestra.cli.top.columns import Table
    from orchestra.cli.top.figures import Sight

__all__ = ["print_sight"]

MACHINES = 20


def print_sight(console: Console, sight: Sight) -> None:
    """Print the fleet and a table for each kind; of the machines the busiest."""
    from rich.text import Text

    line = Text("  ").join(
        Text(title, style="dim") + Text(f" {text}") for title, text in summary(sight).items()
    )
    console.print(line)
    for table in TABLES:
        _print_table(console, table, sight)


def _print_table(console: Console, table: Table, sight: Sight) -> None:
    from rich import box
    from rich.table import Table as Grid

    sort = next(column for column in table.columns if column.title == table.sorted_by)
    rows = chosen(table, table.rows(sight), "", sort, descending=not sort.is_text)
    grid = Grid(box=box.SIMPLE_HEAD, title=table.name, title_justify="left", pad_edge=False)
    for column in table.columns:
        grid.add_column(
            column.title,
            justify="left" if column.is_text else "right",
            no_wrap=not column.is_text,
            overflow="fold",
        )
    for row in rows[:MACHINES]:
        grid.add_row(*(column.text(row) for column in table.columns))
    left = len(rows) - MACHINES if len(rows) > MACHINES else 0
    left += sight.others if table.name == "machines" else 0
    console.print(grid)
    if left:
        console.print(f"and {left:,} more")
