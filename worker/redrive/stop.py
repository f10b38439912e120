"""Ctrl-C and SIGTERM: the first ends a redrive between two transactions, the second at once."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from worker.signals import CaughtSignals

if TYPE_CHECKING:
    from types import FrameType

EXIT_INTERRUPTED = 130
_SHOW_CURSOR = b"\x1b[?25h"


class StoppedEarly(BaseException):
    """A signal came before anything was moved. No library may swallow it."""


class Stop(CaughtSignals):
    """The wish to end. Owned by the main thread."""

    def __init__(self) -> None:
        self.asked = False
        self._starting = True

    def started(self) -> None:
        """From now on the first signal only sets a flag: a transaction is not torn apart."""
        self._starting = False
        if self.asked:
            raise StoppedEarly

    def _caught(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        again, self.asked = self.asked, True
        if again:
            # Safe at any moment, as a kill is: the open transaction is never committed.
            if sys.stdout.isatty():
                os.write(sys.stdout.fileno(), _SHOW_CURSOR)
            line = b"emotion-worker: interrupted twice: ended at once; run it again to go on\n"
            os.write(sys.stderr.fileno(), line)
            os._exit(EXIT_INTERRUPTED)
        if self._starting:
            raise StoppedEarly
