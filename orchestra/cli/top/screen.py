"""The live view: a fleet's figures above tables that are sorted, filtered, and looked into."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual.app import App
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import DataTable, Footer, Input, Sparkline, Static, TabbedContent, TabPane

from orchestra.cli.top.columns import TABLES, Column, Table, chosen, summary
from orchestra.cli.top.figures import compare
from orchestra.cli.top.grid import Grid
from orchestra.cli.top.panels import Details, Help
from orchestra.cli.top.pulse import Pulses
from orchestra.cli.top.watcher import Watcher
from orchestra.errors import OrchestraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

    from orchestra.cli.top.figures import Row, Sight

__all__ = ["Top"]

FASTEST_SECONDS, SLOWEST_SECONDS = 0.1, 60.0


class Found(Message):
    """What the watcher found, or why it found nothing."""

    def __init__(self, found: dict[str, Any] | OrchestraError) -> None:
        super().__init__()
        self.found = found


class Top(App[None]):
    """Shows one fleet; `ask` gives the next look, in a thread, and may raise OrchestraError."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #summary { height: auto; padding: 0 1; }
    #minute { height: 2; margin: 0 1; }
    #state { height: auto; padding: 0 1; text-style: bold; }
    #filter { display: none; }
    #filter.shown { display: block; }
    TabbedContent { height: 1fr; }
    TabPane { padding: 0; }
    Grid { height: 1fr; }
    Grid:nocolor > .datatable--cursor { text-style: reverse; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("question_mark,h", "help", "Help"),
        Binding("slash", "filter", "Filter"),
        Binding("less_than_sign,comma", "sort(-1)", "Sort", key_display="< >"),
        Binding("greater_than_sign,full_stop", "sort(1)", show=False),
        Binding("r", "reverse", "Reverse"),
        Binding("space,p", "pause", "Pause"),
        Binding("plus,equals_sign", "pace(0.5)", show=False),
        Binding("minus", "pace(2)", show=False),
        *(
            Binding(str(nth), f"table('{table.name}')", show=False)
            for nth, table in enumerate(TABLES, 1)
        ),
    ]

    def __init__(
        self,
        ask: Callable[[], dict[str, Any]],
        first: dict[str, Any],
        address: str,
        interval: float,
    ) -> None:
        # The terminal's own colours: those alone can be left out.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.address = address
        self.paused = False
        self.words = ""
        self._look = first
        self._sight = compare(first, None)
        self._answered = time.time()
        self._trouble: OrchestraError | None = None
        self._pulses = Pulses()
        self._sorting = {table.name: _first_sorting(table) for table in TABLES}
        self._watcher = Watcher(ask, lambda found: self.post_message(Found(found)), interval)

    def compose(self) -> ComposeResult:
        """Put it together."""
        yield Static(id="summary")
        yield Sparkline(id="minute")
        yield Static(id="state", markup=False)
        yield Input(placeholder="words to look for", id="filter")
        with TabbedContent():
            for table in TABLES:
                with TabPane(table.name, id=table.name):
                    yield Grid(table)
        yield Footer()

    def on_mount(self) -> None:
        """Show the first look, and ask for more."""
        self._note(self._sight)
        self._show()
        self._grid(self.table).focus()
        self._watcher.start()

    def on_unmount(self) -> None:
        """Ask no more."""
        self._watcher.stop()

    @property
    def table(self) -> Table:
        """The table that is shown."""
        active = self.query_one(TabbedContent).active
        return next((table for table in TABLES if table.name == active), TABLES[0])

    def on_found(self, message: Found) -> None:
        """Show what was found."""
        found = message.found
        if isinstance(found, OrchestraError):
            self._trouble = found
        elif not self.paused:
            self._trouble, self._answered = None, time.time()
            self._sight = compare(found, self._look)
            self._look = found
            self._note(self._sight)
            self._show()
        else:
            self._trouble = None
        self._show_state()

    def on_tabbed_content_tab_activated(self) -> None:
        """Show the table that was chosen."""
        self._show()
        if not self.query_one("#filter").has_focus:
            self._grid(self.table).focus()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by the column that was clicked, or the other way round."""
        column = self.table.columns[event.column_index]
        if column is self._sorting[self.table.name][0]:
            self.action_reverse()
        else:
            self._sort(column)

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Show all about a row."""
        row = self._find(self.table, str(event.row_key.value))
        if row is not None:
            self.push_screen(Details(self.table, row, self._pulses.values(row.key)))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what matches so far."""
        self.words = event.value
        self._show()

    def on_input_submitted(self) -> None:
        """Go back to the table, with the filter or, when it is empty, without."""
        self.query_one("#filter").set_class(bool(self.words), "shown")
        self._grid(self.table).focus()

    def on_key(self, event: Any) -> None:
        """Let Escape take the filter away."""
        if event.key == "escape" and self.screen is self.screen_stack[0]:
            self.words = self.query_one("#filter", Input).value = ""
            self.on_input_submitted()
            self._show()

    def action_filter(self) -> None:
        """Ask for words to look for."""
        wanted = self.query_one("#filter", Input)
        wanted.add_class("shown")
        wanted.focus()

    def action_help(self) -> None:
        """Tell what the keys do."""
        self.push_screen(Help(self.table))

    def action_table(self, name: str) -> None:
        """Show a table."""
        self.query_one(TabbedContent).active = name

    def action_sort(self, step: int) -> None:
        """Sort by a column further on."""
        columns, (column, _) = self.table.columns, self._sorting[self.table.name]
        self._sort(columns[(columns.index(column) + step) % len(columns)])

    def action_reverse(self) -> None:
        """Sort the other way round."""
        column, descending = self._sorting[self.table.name]
        self._sorting[self.table.name] = column, not descending
        self._show()

    def action_pause(self) -> None:
        """Show no more looks, or show them again."""
        self.paused = not self.paused
        self._show_state()

    def action_pace(self, factor: float) -> None:
        """Look more often, or less."""
        wanted = self._watcher.interval * factor
        self._watcher.interval = min(max(wanted, FASTEST_SECONDS), SLOWEST_SECONDS)
        self._show_state()

    def _sort(self, column: Column) -> None:
        self._sorting[self.table.name] = column, not column.is_text
        self._show()

    def _note(self, sight: Sight) -> None:
        values = {"fleet": sight.fleet.rate("cycles")}
        for table in TABLES:
            values |= {row.key: table.pulse.value(row) for row in table.rows(sight)}
        self._pulses.add(time.monotonic(), values)

    def _find(self, table: Table, key: str) -> Row | None:
        return next((row for row in table.rows(self._sight) if row.key == key), None)

    def _grid(self, table: Table) -> Grid:
        return self.screen_stack[0].query_one(f"#{table.name}-rows", Grid)

    def _show(self) -> None:
        """Show the last look."""
        base = self.screen_stack[0]
        parts = (
            Text(f"{name} ", "dim") + Text(text, "bold")
            for name, text in summary(self._sight).items()
        )
        base.query_one("#summary", Static).update(Text("  ").join(parts))
        base.query_one("#minute", Sparkline).data = self._pulses.values("fleet")
        self._show_state()
        table = self.table
        column, descending = self._sorting[table.name]
        rows = chosen(table, table.rows(self._sight), self.words, column, descending=descending)
        self._grid(table).fill(rows, column, descending=descending)
        if isinstance(self.screen, Details):
            row = self._find(self.screen.table, self.screen.key)
            self.screen.show(row, self._pulses.values(self.screen.key))

    def _show_state(self) -> None:
        if self._trouble is not None:
            since = time.strftime("%H:%M:%S", time.localtime(self._answered))
            text = f"no answer since {since}, trying again: {self._trouble}"
        else:
            interval = f"every {self._watcher.interval:g} s"
            text = f"{self.address}  {'paused' if self.paused else interval}"
            if self.table.name == "machines" and self._sight.others:
                text += f"  and {self._sight.others:,} machines more"
        self.screen_stack[0].query_one("#state", Static).update(text)


def _first_sorting(table: Table) -> tuple[Column, bool]:
    column = next(column for column in table.columns if column.title == table.sorted_by)
    return column, not column.is_text
