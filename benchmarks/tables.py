"""Tables as a terminal shows them, or as Markdown for the documents."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

WIDTH = 150  # characters; a pipe has no width of its own

ABSENT = "-"


@dataclass(frozen=True)
class TextTable:
    """Cells as text, the first column names the row."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def show(table: TextTable, *, markdown: bool) -> None:
    """Print a table."""
    if markdown:
        print(markdown_from_table(table))
        return
    drawn = Table(title=table.title, title_justify="left", box=SIMPLE)
    for index, name in enumerate(table.header):
        drawn.add_column(name, justify="right" if index else "left", no_wrap=not index)
    for row in table.rows:
        drawn.add_row(*row)
    Console(width=WIDTH).print(drawn)


def markdown_from_table(table: TextTable) -> str:
    """The title in bold, a line of headings, a line for each row."""
    rules = ["---", *("---:" for _ in table.header[1:])]
    lines = [" | ".join(cells) for cells in (table.header, rules, *table.rows)]
    return "\n".join([f"**{table.title}**", "", *(f"| {line} |" for line in lines), ""])


def number(value: float | None, digits: int = 1) -> str:
    """A number as a cell."""
    if value is None:
        return ABSENT
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def verdict(*, met: bool) -> str:
    """Whether a budget or a floor holds."""
    return "met" if met else "MISSED"
