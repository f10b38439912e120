"""Writes to standard error, or output, without waiting for whoever reads it.

A container runtime that restarts, or a full disk behind a pipe, stops its reader. A thread that
writes to the full pipe waits without limit, with all that wait for it: labelling, the drain, and
the exit of a process that hangs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import stat
import sys
import threading
import time
from queue import SimpleQueue
from typing import TextIO

MOST_BYTES = 16_777_216
"""Bytes of lines that wait for the reader; further lines are dropped, and counted."""
FLUSH_SECONDS = 2.0
"""Longest wait for the reader when the process ends."""


def write(descriptor: int, data: bytes, *, seconds: float) -> int:
    """Writes as much as the reader makes room for; returns how many bytes.

    Args:
        descriptor: Of a file, pipe, socket or terminal; it may be blocking.
        data: If the reader is gone, all of it counts as written.
        seconds: Longest wait for room.
    """
    end = time.monotonic() + seconds
    written = 0
    with contextlib.suppress(OSError, ValueError):  # nobody reads any more, or nobody ever did
        room = select.poll()
        room.register(descriptor, select.POLLOUT)
        while written < len(data):
            if not room.poll(max(0.0, end - time.monotonic()) * 1_000):
                return written
            # So much is taken at once where there is room at all: a blocking write does not wait.
            with contextlib.suppress(BlockingIOError):  # others write, too
                written += os.write(descriptor, data[written : written + select.PIPE_BUF])
    return len(data)


def say(line: str) -> None:
    """Writes a line to standard error, for a process that is about to end."""
    try:
        descriptor = sys.stderr.fileno()
    except (AttributeError, OSError):  # closed from the start, or replaced by an object in memory
        if sys.stderr is not None:
            sys.stderr.write(f"{line}\n")
    else:
        write(descriptor, f"{line}\n".encode(errors="backslashreplace"), seconds=FLUSH_SECONDS)


class Unblocked(io.TextIOBase):
    """Writes text to a stream's file, and waits `FLUSH_SECONDS` for the reader, once.

    Text that found no room is kept, up to `MOST_BYTES`, and written before the next, without
    another wait until all of it is written. One thread.

    Args:
        stream: It has a file descriptor.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left = b""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        """Takes text, of which more than `MOST_BYTES` is dropped; returns its length."""
        seconds = 0.0 if self._left else FLUSH_SECONDS
        data = text.encode(self.encoding, errors="backslashreplace")
        if len(self._left) + len(data) <= MOST_BYTES:
            self._left += data
        self._left = self._left[write(self._stream.fileno(), self._left, seconds=seconds) :]
        return len(text)


def _opened(descriptor: int) -> int:
    """A descriptor of the same file; of a pipe one that never blocks.

    Several processes may write to one pipe: another may take the room that a poll has seen.
    """
    with contextlib.suppress(OSError):  # another user's pipe may not be opened
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
    return os.dup(descriptor)


class LogLines(logging.Handler):
    """A handler that never waits. `flush` does, for a limited time. Any thread.

    A line is written at once if there is room: it is there if the process crashes next. Otherwise
    it waits, and a thread writes it.

    Args:
        descriptor: Of the file to write to; -1: nobody is to read the lines.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._file = _opened(descriptor) if descriptor >= 0 else os.open(os.devnull, os.O_WRONLY)
        # Simple: a finalizer, or a signal handler, may log while a line is being put.
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._put = 0  # bytes; these two are written under the handler's lock
        self._dropped = 0
        self._written = 0  # bytes; these two are written by the thread
        self._told = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Takes a line; drops it if too many wait."""
        try:
            line = f"{self.format(record)}\n".encode(errors="backslashreplace")
            if self._put == self._written:
                line = line[write(self._file, line, seconds=0.0) :]
            elif self._put - self._written + len(line) > MOST_BYTES:
                self._dropped += 1
                return
            if line:
                self._put += len(line)
                self._lines.put(line)
        except Exception:  # noqa: BLE001 - as every handler of the standard library
            self.handleError(record)

    def flush(self) -> None:
        """Waits until all is written, or `FLUSH_SECONDS`."""
        end = time.monotonic() + FLUSH_SECONDS
        while self._written < self._put and time.monotonic() < end:
            time.sleep(0.005)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            self._write_whole(line)
            if self._dropped > self._told:
                self._write_whole(self._told_of_dropped())
            self._written += len(line)

    def _write_whole(self, line: bytes) -> None:
        while line:
            line = line[write(self._file, line, seconds=60.0) :]

    def _told_of_dropped(self) -> bytes:
        # Not logged: who waits in `flush` may hold the handler's lock.
        dropped = self._dropped - self._told
        self._told += dropped
        line = {"msg": "log_lines_dropped", "lines": dropped, "levelname": "WARNING"}
        return f"{self.format(logging.makeLogRecord(line))}\n".encode()
