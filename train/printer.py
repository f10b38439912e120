"""Standard output: colours and a moving bar on a terminal, plain lines anywhere else."""

import contextlib
import sys
from collections.abc import Iterator, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 160
"""Columns where no terminal has a width: the tables in a log must not be folded at 80."""

GAP = 3
"""Columns of the terminal between two columns of a table, and around all of them."""

LONG_WORD = 24
"""A longer word in the last column of a table is broken: a text may hold an address."""


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
        """Whether it prints to a terminal on which a bar can move: not to one of TERM=dumb."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def line(self, text: str = "") -> None:
        """Prints a line: folded between words on a terminal, and not at all in a log."""
        self.console.print(Text(text), soft_wrap=not self.live)

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Says what the block does: beside a moving sign on a terminal, in a line in a log."""
        if not self.live:
            self.line(what)
            yield
            return
        with self.console.status(Text(what)):
            yield

    def heading(self, text: str) -> None:
        """Prints an empty line and a bold one."""
        self.console.print()
        self.console.print(Text(text, style="bold"), soft_wrap=not self.live)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Prints a table: numbers to the right, the rest to the left, floats with four decimals.

        No word is broken: where the columns do not fit beside each other, the rows are blocks of
        lines.
        """
        cells = [[cell(value) for value in row] for row in rows]
        widths = _widths([list(columns), *cells], self.console.width)
        if widths is None:
            self._blocks(columns, cells)
            return
        table = Table(box=box.SIMPLE_HEAD if self.live else None, pad_edge=False)
        for i, column in enumerate(columns):
            numbers = bool(rows) and all(isinstance(row[i], int | float) for row in rows)
            table.add_column(
                column,
                justify="right" if numbers else "left",
                overflow="fold",
                width=widths[i],
            )
        for row in cells:
            table.add_row(*(Text(text) for text in row))
        self.console.print(table)

    def _blocks(self, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        for row in cells:
            self.console.print()
            for column, text in zip(columns, row, strict=True):
                self.console.print(Text.assemble((column, "bold"), " ", text))


def _widths(lines: Sequence[Sequence[str]], available: int) -> list[int] | None:
    """Widths of columns in which no word is broken; None where there is no room for them.

    The last column may hold texts of people: a word that is longer than `LONG_WORD` is broken.
    """
    wanted = [max(cell_len(text) for text in column) for column in zip(*lines, strict=True)]
    least = [
        max(cell_len(word) for text in column for word in (text.split() or [""]))
        for column in zip(*lines, strict=True)
    ]
    least[-1] = min(least[-1], LONG_WORD)
    room = available - GAP * len(wanted)
    if sum(least) > room:
        return None
    while sum(wanted) > room:
        widest = max(range(len(wanted)), key=lambda i: wanted[i] - least[i])
        wanted[widest] -= 1
    return wanted


def counted(count: float, noun: str) -> str:
    """A number with its noun: `1 epoch`, `0.5 epochs`, `5,250 texts`."""
    number = f"{int(count):,}" if count == int(count) else f"{count:g}"
    return f"{number} {noun}" if count == 1 else f"{number} {noun}s"


def cell(value: object) -> str:
    """A value as it stands in a table."""
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def warn(text: str) -> None:
    """Prints a line on standard error: standard output is for results."""
    sys.stderr.write(f"emotion-train: warning: {text}\n")
