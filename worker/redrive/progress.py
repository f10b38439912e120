"""What a redrive prints: how far it is, and what has become of the dead letters."""

from __future__ import annotations

import sys
import time
from typing import IO, TYPE_CHECKING, Self, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from worker.log_lines import Unblocked

if TYPE_CHECKING:
    from worker.redrive.decisions import Fate, Tally

LINE_SECONDS = 5.0
"""Pause between lines where there is no terminal."""

FATES: dict[Fate, str] = {
    "unchosen": "not asked for",
    "truncated": "truncated, never put back",
    "refused": "refused by the input topic",
    "elsewhere": "of another input topic",
    "foreign": "not written by a worker",
}


class Show:
    """Prints to standard output. Owned by the main thread."""

    def __init__(self, *, tally: Tally, dry_run: bool) -> None:
        self._tally = tally
        self._dry_run = dry_run
        self._began = self._told = time.monotonic()
        self._console = Console(file=_output(), highlight=False, emoji=False, markup=False)
        self._bar: Progress | None = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begins(self, left: int) -> None:
        """Shows how many offsets there are to read."""
        if self._bar is not None:
            self._bar.add_task(self._counts(), total=left)

    def at(self, left: int) -> None:
        """Shows how many offsets are left, and what was moved."""
        now = time.monotonic()
        if self._bar is not None:
            (task,) = self._bar.tasks
            done = None if task.total is None else task.total - left
            self._bar.update(task.id, completed=done, description=self._counts())
        elif now - self._told >= LINE_SECONDS:
            self._told = now
            self.line(f"{self._counts()}, {left:,} offsets before the end")

    def line(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        self._console.print(Text(text), soft_wrap=True)
        self._console.file.flush()

    def trouble(self, name: str) -> None:
        """Prints that a transaction failed and is tried again."""
        self.line(f"a transaction failed ({name}) and is tried again")

    def summary(self, *, input_topic: str, dlq_topic: str) -> None:
        """Prints what has become of the dead letters."""
        tally = self._tally
        would = "would be " if self._dry_run else ""
        rows = [(f"{would}put back on {input_topic}", tally.again.total())]
        rows += [(f"  {reason}", count) for reason, count in sorted(tally.again.items())]
        rows.append((f"{would}left in {dlq_topic}", tally.left.total()))
        rows += [(f"  {text}", tally.left[f]) for f, text in FATES.items() if tally.left[f]]
        width = max(len(name) for name, _ in rows) + 2
        for name, count in rows:
            self.line(f"{name:<{width}}{count:>9,}")
        self.line(f"{'elapsed':<{width}}{time.monotonic() - self._began:>7.1f} s")
        for fate, named in tally.examples.items():
            more = tally.left[fate] - len(named)
            self.line(
                f"{FATES[fate]}: the original of each is where dlq.topic, dlq.partition and "
                f"dlq.offset say, while retention lasts: {', '.join(named)}"
                + (f" and {more:,} more" if more else "")
            )

    def _counts(self) -> str:
        again, left = self._tally.again.total(), self._tally.left.total()
        return f"{again:,} put back, {left:,} left"


def _output() -> IO[str] | None:
    """Standard output; where it is no terminal, nobody who fails to read it holds a redrive.

    A terminal is waited for: whoever stops it wants to read.
    """
    try:
        if sys.stdout.isatty() or sys.stdout.fileno() < 0:
            return None
    except (AttributeError, OSError, ValueError):  # closed, or replaced by an object in memory
        return None
    return cast("IO[str]", Unblocked(sys.stdout))
