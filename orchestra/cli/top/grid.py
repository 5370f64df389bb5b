"""A table on the screen that is written anew at every look, and stays where the eye left it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import DataTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestra.cli.top.columns import Column, Table
    from orchestra.cli.top.figures import Row

__all__ = ["Grid"]


class Grid(DataTable[Text]):
    """The rows of one table; the cursor stays with its row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("home,g", "scroll_top", show=False),
        Binding("end,G", "scroll_bottom", show=False),
    ]

    def __init__(self, table: Table) -> None:
        super().__init__(cursor_type="row", zebra_stripes=True, id=f"{table.name}-rows")
        self.table = table

    def fill(self, rows: Sequence[Row], sorting: Column, *, descending: bool) -> None:
        """Write these rows."""
        key = self._key_at(self.cursor_row)
        at = self.scroll_x, self.scroll_y
        self.clear(columns=True)
        for column in self.table.columns:
            mark = ("▼" if descending else "▲") if column is sorting else ""
            self.add_column(Text(column.title + mark, justify=_justify(column)))
        for row in rows:
            texts = ((column.text(row), _justify(column)) for column in self.table.columns)
            self.add_row(*(Text(text, justify=side) for text, side in texts), key=row.key)
        index = next((nth for nth, row in enumerate(rows) if row.key == key), self.cursor_row)
        self.move_cursor(row=min(index, len(rows) - 1), animate=False, scroll=False)
        self.scroll_to(*at, animate=False)

    def _key_at(self, index: int) -> str | None:
        if not self.is_valid_row_index(index):
            return None
        return self.ordered_rows[index].key.value


def _justify(column: Column) -> Literal["left", "right"]:
    return "left" if column.is_text else "right"
