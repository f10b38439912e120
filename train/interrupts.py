"""Ctrl-C that arrives."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

AGAIN_AFTER = 0.01  # seconds


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt in the block, and no library loses it.

    Python drops an exception that a `__del__` or a weak reference's callback raises, be it the
    user's Ctrl-C: on a small model, one of seven sent while a Trainer starts. A dropped one is
    sent again. To be entered by the main thread.
    """
    # A container's stop is Ctrl-C by another name: the same clearing up has to happen.
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    hook = sys.unraisablehook

    def dropped(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            hook(unraisable)
            return
        # Not from here, where it would be dropped again.
        # To the main thread itself, so that it wakes up where it sleeps or waits.
        timer = threading.Timer(
            AGAIN_AFTER, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)
        )
        timer.daemon = True
        timer.start()

    sys.unraisablehook = dropped
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, handler)
