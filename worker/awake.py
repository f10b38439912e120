"""A monotonic clock that stands still while the whole process is stopped.

SIGSTOP, a frozen container and a paused virtual machine stop every thread at once, while
`time.monotonic` goes on: at the thaw every wait would look as long as the pause. So what ends a
call, a connection or the process when it takes too long is measured by `now`.

A thread reads the clock four times a second. Where two reads, by any thread, are further apart than
`LONGEST_STEP`, the process did not run in between, and only that step counts.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST_STEP = 1.0
"""Most seconds that count between two reads. Shorter, a thread that waits for the interpreter's
lock would seem to be stopped; longer, more of each pause counts."""
TICK_SECONDS = 0.25
"""Pause between the reads of the clock's own thread."""


class AwakeClock:
    """Monotonic seconds without those in which the whole process was stopped. Any thread.

    It is a plain monotonic clock while its thread does not run: nothing would tell a pause from a
    time in which nobody looked.

    Args:
        clock: Monotonic seconds, those of a pause included.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = clock()
        self._stopped_for = 0.0
        self._ticking = False

    def __call__(self) -> float:
        """Seconds. Not for signal handlers: they might interrupt a thread that holds the lock."""
        with self._lock:
            now = self._clock()
            if self._ticking:
                self._stopped_for += max(0.0, now - self._last - LONGEST_STEP)
            self._last = now
            return now - self._stopped_for

    @contextlib.contextmanager
    def ticking(self) -> Iterator[None]:
        """Reads the clock again and again, on a thread of its own, while the block runs."""
        over = threading.Event()

        def tick() -> None:
            while not over.wait(TICK_SECONDS):
                self()

        self()
        self._ticking = True
        thread = threading.Thread(target=tick, name="clock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ticking = False
            over.set()
            thread.join()


now = AwakeClock()
"""The process's clock."""
