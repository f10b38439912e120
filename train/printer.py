"""Standard output: colours and a moving bar on a terminal, plain lines anywhere else."""

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 160
"""Columns where no terminal has a width: the tables in a log must not be folded at 80."""


class Printer:
    """Prints lines, headings and tables. Owned by the main thread.

    Args:
        console: Where it prints; None: standard output.
    """

    def __init__(self, *, console: Console | None = None) -> None:
        if console is None:
            console = Console(highlight=False, emoji=False, markup=False)
            if not console.is_terminal:
                console = Console(
                    highlight=False, emoji=False, markup=False, width=PLAIN_WIDTH, no_color=True
                )
        self.console = console

    @property
    def live(self) -> bool:
        """Whether it prints to a terminal, on which a bar can move."""
        return self.console.is_terminal

    def line(self, text: str = "") -> None:
        """Prints a line; it is not folded."""
        self.console.print(Text(text), soft_wrap=True)

    def heading(self, text: str) -> None:
        """Prints an empty line and a bold one."""
        self.console.print()
        self.console.print(Text(text, style="bold"), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Prints a table: numbers to the right, the rest to the left, floats with four decimals."""
        table = Table(box=box.SIMPLE_HEAD if self.live else None, pad_edge=False)
        for i, column in enumerate(columns):
            numbers = bool(rows) and all(isinstance(row[i], int | float) for row in rows)
            table.add_column(column, justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(cell(value)) for value in row))
        self.console.print(table)


def cell(value: object) -> str:
    """A value as it stands in a table."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def warn(text: str) -> None:
    """Prints a line on standard error: standard output is for results."""
    sys.stderr.write(f"emotion-train: warning: {text}\n")
