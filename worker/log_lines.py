"""Writes log lines on a thread of their own: whoever reads them may stall, and nobody else does.

A container runtime that restarts, or a full disk behind a pipe, stops its reader. A thread that
writes to the full pipe waits without limit, with all that wait for it: labelling, the drain, and
the exit of a process that hangs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading

MOST_LINES = 10_000
"""Lines that wait to be written; more are dropped, and counted."""
FLUSH_SECONDS = 2.0
"""Longest wait for the reader when the process ends."""


class LogLines(logging.Handler):
    """A handler that never waits. `flush` does, for a limited time. Any thread.

    Args:
        descriptor: Of the file to write to; -1: nobody is to read the lines.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        # Its own: at the end of the process the interpreter takes the lock of the stream's buffer.
        self._file = os.dup(descriptor) if descriptor >= 0 else os.open(os.devnull, os.O_WRONLY)
        self._lines: queue.Queue[str] = queue.Queue(MOST_LINES)
        self._dropped = 0  # written under the handler's lock
        self._told = 0  # written by the thread
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a line; drops it if too many wait."""
        try:
            self._lines.put_nowait(self.format(record) + "\n")
        except queue.Full:
            self._dropped += 1
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)

    def flush(self) -> None:
        """Waits until all is written, or `FLUSH_SECONDS`."""
        lines = self._lines
        with lines.all_tasks_done:
            lines.all_tasks_done.wait_for(lambda: not lines.unfinished_tasks, FLUSH_SECONDS)

    def _write(self) -> None:
        while True:
            self._write_line(self._lines.get())
            if self._dropped > self._told:
                self._write_line(self._told_of_dropped())
            self._lines.task_done()

    def _write_line(self, line: str) -> None:
        left = line.encode(errors="backslashreplace")
        with contextlib.suppress(OSError):  # the reader is gone
            while left:
                left = left[os.write(self._file, left) :]

    def _told_of_dropped(self) -> str:
        # Not logged: who waits in `flush` may hold the handler's lock.
        dropped = self._dropped - self._told
        self._told += dropped
        line = {"msg": "log_lines_dropped", "lines": dropped, "levelname": "WARNING"}
        return self.format(logging.makeLogRecord(line)) + "\n"
