"""Ctrl-C and SIGTERM: one ends a command, wherever it comes, and a second tears no clean-up."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

NUMBERS = (signal.SIGINT, signal.SIGTERM)
"""SIGTERM is how a container is stopped, and has to clean up as Ctrl-C does."""

AGAIN_AFTER = 0.01
"""Seconds after which a lost signal is sent again."""

ECHO_SECONDS = 0.5
"""A second signal within this time counts as the first one: a key that is pressed twice, or a
wrapper that passes on what the terminal has sent to every process. Later ones count, for a library
may have swallowed the first."""


AFTERMATH_SECONDS = 10.0
"""An error that comes later than this after a signal is not its doing: a library has swallowed the
signal, and what happened since is what the user has to know."""


class Interrupts:
    """Raises KeyboardInterrupt in its block at SIGINT and SIGTERM, and again where it is lost.

    Python drops an exception that is raised in a `__del__` or in the callback of a weak reference,
    also the user's Ctrl-C: on a small model one of seven, while a Trainer starts. A dropped one is
    sent again. Entered and owned by the main thread.

    Args:
        last: Whether the process ends after the block. Then the handlers are not put back, and a
            later signal ends the process in silence. Python's own would tear what libraries do at
            the end, with a traceback.
        clock: Seconds, of any beginning.
    """

    def __init__(self, *, last: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._last = last
        self._clock = clock
        self._raised_at: float | None = None
        self._heeded = False
        self._came_at: float | None = None  # the last one
        self.number = signal.SIGINT
        """The first signal that came."""

    def __enter__(self) -> Self:
        # A signal that is ignored stays so: `nohup`, and what a script starts in the background.
        self._before = {
            number: signal.signal(number, self._caught)
            for number in NUMBERS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        self._hook = sys.unraisablehook
        sys.unraisablehook = self._dropped
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._hook
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if self._last else handler)

    @property
    def what(self) -> str:
        """What the signal did, for the user."""
        return "interrupted" if self.number == signal.SIGINT else f"ended by {self.number.name}"

    def ended(self, error: BaseException) -> bool:
        """Whether a signal ended the block, and not its own error; from then on all are ignored.

        Where a signal tears a library out of its work, what comes up may be another error.
        """
        torn = self._came_at is not None and self._clock() - self._came_at < AFTERMATH_SECONDS
        if isinstance(error, KeyboardInterrupt) or (torn and isinstance(error, Exception)):
            self._heeded = True
        return self._heeded

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        now = self._clock()
        if self._came_at is None:
            self.number = signal.Signals(number)
        self._came_at = now
        echo = self._raised_at is not None and now - self._raised_at < ECHO_SECONDS
        if echo or self._heeded:
            return
        self._raised_at = now
        raise KeyboardInterrupt

    def _dropped(self, unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            self._hook(unraisable)
            return
        number = self.number

        def again() -> None:
            # No echo, but the first one, which was not heard.
            self._raised_at = None
            # Sent to the main thread itself, so that it wakes up where it sleeps or waits.
            signal.pthread_kill(threading.main_thread().ident or 0, number)

        # Not raised here, where it would be dropped again.
        timer = threading.Timer(AGAIN_AFTER, again)
        timer.daemon = True
        timer.start()


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Lets a signal that comes in the block wait for its end: for clean-up, which has to be whole.

    On another thread than the main one, which alone gets signals, it does nothing.
    """
    came: list[int] = []
    try:
        before = {
            number: signal.signal(number, lambda number, _: came.append(number))
            for number in NUMBERS
            if signal.getsignal(number) is not signal.SIG_IGN
        }
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def saying(what: Callable[[], str]) -> Iterator[None]:
    """Adds to a KeyboardInterrupt of the block what the user should know.

    Args:
        what: A clause, such as `the checkpoint is saved`; empty: there is nothing to add.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.args = tuple(filter(None, [what()]))
        raise
