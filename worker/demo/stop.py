"""Ctrl-C and SIGTERM: the first ends the demo in order, the second at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from worker.errors import EXIT_INTERRUPTED
from worker.signals import CaughtSignals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.demo.children import Child

_SHOW_CURSOR_AND_MAIN_SCREEN = b"\x1b[?25h\x1b[?1049l"


class Interrupted(BaseException):
    """The user wants the demo to end. No library may swallow it."""


class Stop(CaughtSignals):
    """The wish to end. Owned by the main thread.

    A signal only notes it, so that no library is torn out of its work. It is heeded at `check`,
    or at any moment of an `at_once` block.
    """

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        super().__init__()
        self.children: list[Child] = []
        """Killed by the second signal. Apache Kafka sees to itself."""
        self.leftovers = ""
        """What the second signal leaves behind, for its line."""
        self._heeded = False
        self._at_once = False

    def check(self) -> None:
        """Heeds the wish, once: what clears up afterwards is not interrupted.

        Raises:
            Interrupted: There was a signal.
        """
        if self.heed():
            raise Interrupted

    def heed(self) -> bool:
        """Whether there was a signal that nobody has heeded yet."""
        new = self.asked and not self._heeded
        self._heeded = self._heeded or new
        return new

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """In this block, which may block for long, a signal raises.

        One that Python drops (raised while an object was being deleted) is heeded at its end.
        """
        self._at_once = True
        try:
            self.check()
            yield
        except Interrupted:
            self._heeded = True
            raise
        finally:
            self._at_once = False
        self.check()

    def _first(self) -> None:
        if self._at_once:
            raise Interrupted

    def _second(self) -> None:
        for child in self.children:
            child.kill()
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), _SHOW_CURSOR_AND_MAIN_SCREEN)
        line = f"emotion-worker: interrupted twice: killed at once{self.leftovers}\n"
        os.write(sys.stderr.fileno(), line.encode())
        os._exit(EXIT_INTERRUPTED)
