"""Ctrl-C and SIGTERM: the first ends a redrive between two transactions, the second at once."""

from __future__ import annotations

import os
import sys

from worker.errors import EXIT_INTERRUPTED
from worker.log_lines import say
from worker.signals import CaughtSignals

_SHOW_CURSOR = b"\x1b[?25h"


class Stop(CaughtSignals):
    """Whether the redrive is to end. Owned by the main thread."""

    def _first(self) -> None:
        """Only noted."""

    def _second(self) -> None:
        # Safe at any moment, as a kill is: the open transaction is never committed.
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), _SHOW_CURSOR)
        say("emotion-worker: interrupted twice: ended at once; run it again to go on")
        os._exit(EXIT_INTERRUPTED)
