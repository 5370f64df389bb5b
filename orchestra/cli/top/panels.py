"""The screens on top of the tables: what the keys do, and all about one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.table import Table as Grid
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Label, Sparkline, Static

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.app import ComposeResult

    from orchestra.cli.top.columns import Table
    from orchestra.cli.top.figures import Row

__all__ = ["Details", "Help"]

CLOSE = "escape,q,enter,question_mark"
KEYS = (
    ("1 2 3, tab", "machines, applications, pools"),
    ("< >", "sort by the column to the left or right; a click on a title does as well"),
    ("r", "sort the other way round"),
    ("/", "show only rows with these words; empty shows all"),
    ("enter", "all about the chosen row, and its last minute"),
    ("space", "pause, and go on"),
    ("+ -", "look more often, or less"),
    ("q", "quit"),
)


class Panel(ModalScreen[None]):
    """A box in the middle, which Escape closes."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding(CLOSE, "dismiss", "Close")]
    DEFAULT_CSS = """
    Panel { align: center middle; }
    Panel > VerticalScroll {
        width: 76; max-width: 100%; height: auto; max-height: 100%;
        border: round $foreground; padding: 0 1;
    }
    Panel Sparkline { height: 3; margin-top: 1; }
    """


class Help(Panel):
    """What the keys do, and what the columns mean."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._table = table

    def compose(self) -> ComposeResult:
        """Put it together."""
        with VerticalScroll():
            yield Label("keys")
            yield Static(_grid(KEYS))
            yield Label(f"\ncolumns of {self._table.name}")
            yield Static(_grid((each.title, each.meaning) for each in self._table.columns))


class Details(Panel):
    """All about one row, as long as it is there."""

    def __init__(self, table: Table, row: Row, minute: list[float]) -> None:
        super().__init__()
        self.table = table
        self.key = row.key
        self._row = row
        self._minute = minute

    def compose(self) -> ComposeResult:
        """Put it together."""
        with VerticalScroll():
            yield Label(self._row.name, id="name", markup=False)
            yield Static(self._facts(), id="facts")
            yield Sparkline(self._minute)
            yield Label(f"{self.table.pulse.title} ({self.table.pulse.meaning}), the last minute")

    def show(self, row: Row | None, minute: list[float]) -> None:
        """Show what was found out since; None when it is gone."""
        if row is None:
            self.query_one("#name", Label).update(f"{self._row.name}: no longer there")
            return
        self._row = row
        self.query_one("#name", Label).update(row.name)
        self.query_one("#facts", Static).update(self._facts())
        self.query_one(Sparkline).data = minute

    def _facts(self) -> Grid:
        return _grid((each.title, each.text(self._row)) for each in self.table.columns)


def _grid(pairs: Iterable[tuple[str, str]]) -> Grid:
    grid = Grid.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for title, text in pairs:
        grid.add_row(title, text)
    return grid
