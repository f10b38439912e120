"""What the demo prints: steps, live view, summary; in a log, which is no terminal, plain lines."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from worker.demo import view

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.progress import TaskID

    from worker.demo.frame import Frame

LOG_SECONDS = 2.0
"""Pause between the live view's lines in a log."""
STEP_SECONDS = 3.0
"""Pause between a step's lines in a log."""
PLAIN_WIDTH = 160
"""Columns of a log, which has none of its own: its lines must not be folded at 80."""


class Terminal:
    """Standard output, which may be a terminal or a log. Owned by the main thread."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal that knows only ASCII shows sentences and bars with question marks.
            sys.stdout.reconfigure(errors="replace")
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        self.console = Console(highlight=False, emoji=False, markup=False, width=width)
        self._farewell = self.console.status("Stopping the worker and Apache Kafka")
        self.done: list[str] = []
        """A line for each step that has ended well."""
        self.live = sys.stdout.isatty() and not self.console.is_dumb_terminal
        """Whether it is a terminal on which things can move."""

    def line(self, text: str = "", style: str = "") -> None:
        """Prints a line, which is not folded."""
        self.console.print(Text(text, style=style), soft_wrap=True)
        self.console.file.flush()

    def step(self, text: str) -> Step:
        """A block that takes a while."""
        return Step(self, text)

    def live_view(self) -> LiveView:
        """The live view, for the length of a block."""
        return LiveView(self)

    def stopping(self, kind: object, *_: object) -> None:
        """Shows that all is being stopped, where the block of this exit callback failed."""
        if kind is not None and self.live:
            self._farewell.start()

    @contextlib.contextmanager
    def farewell(self) -> Iterator[None]:
        """Takes away, at the end of its block, what `stopping` shows."""
        try:
            yield
        finally:
            self._farewell.stop()

    def begun(self, more: str) -> None:
        """Prints the steps that have ended, where there is nothing else to sum up."""
        self.line()
        self.line("Summary so far", style="bold")
        for done in self.done:
            self.line(f"  {done}")
        self.line(f"  {more}")
        self.line()

    def summary(
        self, phases: Sequence[Sequence[str]], rows: Sequence[tuple[str, str]], title: str
    ) -> None:
        """Prints a table, whose first row is its head, then names and values."""
        self.line()
        self.line(title, style="bold")
        widths = [max(map(len, column)) for column in zip(*phases, strict=True)]
        for row in phases:
            name, *figures = (cell.rjust(w) for cell, w in zip(row, widths, strict=True))
            self.line("  " + "   ".join([row[0].ljust(len(name)), *figures]))
        self.line()
        width = max(len(name) for name, _ in rows) + 2
        for name, value in rows:
            self.named(name, value, width)
        self.line()

    def named(self, name: str, value: str, width: int) -> None:
        """Prints a name and its value; a terminal folds a long value behind the name."""
        if not self.live:
            self.line(f"  {name:<{width}}{value}")
            return
        grid = Table.grid()
        grid.add_column(width=width + 2)
        grid.add_column()
        grid.add_row(Text(f"  {name}", style="dim", no_wrap=True), Text(value))
        self.console.print(grid)

    def commands(self, rows: Sequence[tuple[str, str]]) -> None:
        """Prints commands to paste, each below its name, on a line that is never folded."""
        self.line("Next", style="bold")
        for name, command in rows:
            self.line(f"  {name}", style="dim")
            self.line(f"    {command}")
        self.line()


class Step:
    """Prints that something has begun, how far it is, and how long it took.

    The bar, or a log's lines, come from a thread of their own: the main thread, which owns the
    step, may be in a call that takes long.
    """

    def __init__(self, terminal: Terminal, text: str) -> None:
        self._terminal = terminal
        self._text = text
        self._detail = ""
        self._began = time.monotonic()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="step", daemon=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[detail]}", style="dim", markup=False),
            TimeElapsedColumn(),
            console=terminal.console,
            transient=True,
        )
        self._task: TaskID | None = None
        self.result = ""
        """What its last line says besides the seconds."""

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    def at(self, detail: str, *, share: float | None = None) -> None:
        """Notes how far it is: in words, and as a share of the whole (0 to 1) where it is known."""
        self._detail = detail
        if self._task is not None:
            total = None if share is None else 1.0
            room = max(0, self._terminal.console.width - len(self._text) - 32)
            self._bar.update(self._task, total=total, completed=share or 0.0, detail=detail[:room])

    def _tick(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the log is closed
            while not self._over.wait(STEP_SECONDS):
                self._terminal.line(f"  {self.seconds:4.0f} s  {self._detail}".rstrip())

    def __enter__(self) -> Self:
        if self._terminal.live:
            self._bar.start()
            self._task = self._bar.add_task(self._text, total=None, detail="")
        else:
            self._terminal.line(f"{self._text} ...")
            self._ticker.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._terminal.live:
            self._bar.stop()
        else:
            self._over.set()
            self._ticker.join()
        if kind is not None:
            return
        took = f"{self.seconds:.0f} s"
        result = f"{self.result}, {took}" if self.result else took
        self._terminal.done.append(f"✓ {self._text}: {result}")
        self._terminal.line(self._terminal.done[-1] if self._terminal.live else f"  {result}")


class LiveView:
    """The live view on the terminal's second screen; in a log a line every 2 s.

    Owned by the main thread.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._next_line = 0.0
        self._live = Live(
            console=terminal.console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def frame(self, frame: Frame) -> None:
        """Shows the frame, in a log only if the next line is due."""
        if self._terminal.live:
            size = self._terminal.console.size
            self._live.update(view.draw(frame, width=size.width, height=size.height), refresh=True)
        elif frame.elapsed >= self._next_line:
            self._next_line = frame.elapsed + LOG_SECONDS
            self._terminal.line(view.log_line(frame))

    def event(self, text: str) -> None:
        """Prints a line into a log; on a terminal the frame shows it."""
        if not self._terminal.live:
            self._terminal.line(f"--> {text}")

    def __enter__(self) -> Self:
        if self._terminal.live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal.live:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._live.stop()
