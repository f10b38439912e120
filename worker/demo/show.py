"""What the demo prints: steps, live view, summary; plain lines where there is no terminal."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker.demo import view

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOG_SECONDS = 2.0
"""Pause between the view's lines in a log."""
STEP_SECONDS = 10.0
"""Pause between a step's lines in a log."""
PLAIN_WIDTH = 160
"""Columns of a log, which has none: its lines must not be folded at 80."""


class Show:
    """Standard output. Owned by the main thread."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Sentences and bars on a terminal that knows only ASCII.
            sys.stdout.reconfigure(errors="replace")
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        self.console = Console(highlight=False, emoji=False, markup=False, width=width)
        self._farewell = self.console.status("Stopping the worker and Apache Kafka")
        self.live = sys.stdout.isatty() and not self.console.is_dumb_terminal

    def line(self, text: str = "", style: str = "") -> None:
        self.console.print(Text(text, style=style), soft_wrap=True)
        self.console.file.flush()

    def step(self, text: str) -> Step:
        """Something that takes a while."""
        return Step(self, text)

    def stream(self) -> Stream:
        """The live view."""
        return Stream(self)

    def stopping(self, kind: object, *_: object) -> None:
        """The exit of a block: where it fails or is interrupted, what follows may take seconds."""
        if kind is not None and self.live:
            self._farewell.start()

    @contextlib.contextmanager
    def farewell(self) -> Iterator[None]:
        """At this block's end nothing more is waited for."""
        try:
            yield
        finally:
            self._farewell.stop()

    def summary(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and values."""
        self.line()
        self.line("Summary", style="bold")
        if self.live:
            grid = Table.grid(padding=(0, 2))
            for name, value in rows:
                grid.add_row(Text(f"  {name}", style="dim", no_wrap=True), Text(value))
            self.console.print(grid)
        else:
            width = max(len(name) for name, _ in rows) + 2
            for name, value in rows:
                self.line(f"  {name:<{width}}{value}")
        self.line()


class Step:
    """Tells that it has begun, how far it is, and how long it took."""

    def __init__(self, show: Show, text: str) -> None:
        self._show = show
        self._text = text
        self._began = self._told = time.monotonic()
        self._status = show.console.status(Text(text)) if show.live else None
        self.result = ""
        """What to say of it at its end."""

    def at(self, detail: str) -> None:
        """How far it is."""
        now = time.monotonic()
        if self._status is not None:
            more = f": {detail}" if detail else ""
            self._status.update(Text(f"{self._text}{more} ({now - self._began:.0f} s)"))
        elif detail and now - self._told > STEP_SECONDS:
            self._told = now
            self._show.line(f"  {detail}")

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        else:
            self._show.line(f"{self._text} ...")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._status is not None:
            self._status.stop()
        if kind is not None:
            return
        took = f"{time.monotonic() - self._began:.0f} s"
        result = f"{self.result}, {took}" if self.result else took
        self._show.line(f"✓ {self._text}: {result}" if self._show.live else f"  {result}")


class Stream:
    """The live view on the terminal's second screen, or a line of a log now and then."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._next_line = 0.0
        self._live = Live(
            console=show.console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def frame(self, frame: view.Frame) -> None:
        """Shows it, now or, in a log, when the next line is due."""
        if self._show.live:
            size = self._show.console.size
            self._live.update(view.draw(frame, width=size.width, height=size.height), refresh=True)
        elif frame.elapsed >= self._next_line:
            self._next_line = frame.elapsed + LOG_SECONDS
            self._show.line(view.log_line(frame))

    def __enter__(self) -> Self:
        if self._show.live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._show.live:
            with contextlib.suppress(OSError):  # the terminal is gone
                self._live.stop()
