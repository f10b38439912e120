"""Ctrl-C and SIGTERM: the first signal ends the demo in order, the second at once."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from worker.errors import EXIT_INTERRUPTED
from worker.log_lines import say
from worker.signals import CaughtSignals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.demo.children import Child

_SHOW_CURSOR_AND_MAIN_SCREEN = b"\x1b[?25h\x1b[?1049l"


class Interrupted(BaseException):
    """The user wants the demo to end. No library may swallow it."""


class Stop(CaughtSignals):
    """The user's wish to end. Owned by the main thread.

    A signal is only noted, so that it tears no library out of its work. It is heeded at the next
    `check`, or at any moment of an `at_once` block.
    """

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        super().__init__()
        self.children: list[Child] = []
        """The second signal kills them. Apache Kafka ends with this process by itself."""
        self.leftovers = ""
        """What the second signal leaves behind, for the line that it prints."""
        self._heeded = False
        self._at_once = False

    def check(self) -> None:
        """Heeds the wish, only once: clearing up afterwards is not interrupted.

        Raises:
            Interrupted: There was a signal.
        """
        if self.heed():
            raise Interrupted

    def heed(self) -> bool:
        """Whether there was a signal, and this is the first call since."""
        new = self.asked and not self._heeded
        self._heeded = self._heeded or new
        return new

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A block in which a signal raises at once, since it may hold a call that takes long.

        A library may drop what is raised in the middle of it, or end with an error of its own that
        follows from it: the end of the block then raises it.

        Raises:
            Interrupted: There was a signal.
        """
        self._at_once = True
        try:
            self.check()
            yield
        except Exception as error:
            if self.heed():
                raise Interrupted from error
            raise
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
        say(f"emotion-worker: interrupted twice: killed at once{self.leftovers}")
        os._exit(EXIT_INTERRUPTED)
