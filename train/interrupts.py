"""Ctrl-C that is never lost."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

AGAIN_AFTER = 0.01
"""Seconds after which a lost Ctrl-C is sent again."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raises KeyboardInterrupt in the block at SIGINT and SIGTERM, and again where it is lost.

    Python drops an exception that is raised in a `__del__` or in the callback of a weak reference,
    also the user's Ctrl-C: on a small model one of seven, while a Trainer starts. A dropped one is
    sent again. Entered by the main thread.
    """
    # SIGTERM is how a container is stopped, and has to clean up as Ctrl-C does.
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    hook = sys.unraisablehook

    def dropped(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            hook(unraisable)
            return
        # Not raised here, where it would be dropped again; sent to the main thread itself, so that
        # it wakes up where it sleeps or waits.
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
