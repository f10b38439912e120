"""One of several worker processes: gets its settings from the supervisor, then is a worker.

`python -m worker.processes.child DESCRIPTOR`: what the supervisor starts, and nobody else.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from worker.errors import EXIT_DRAINED
from worker.processes.lifeline import ChildEnd, Errors
from worker.signals import DrainSignals

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.settings import Settings

    Run = Callable[..., int]
    """Runs a worker: `worker.run.run`, or another with its arguments."""


def main(descriptor: int, run: Run | None = None) -> int:
    """Runs the worker; returns its exit code: 0 drained, 1 failed, 2 refused.

    Args:
        descriptor: Of the child's end of the lifeline.
        run: In place of `worker.run.run`, for tests.
    """
    # As in `emotion-worker run`: signals are caught before anything is imported.
    with DrainSignals() as signals:
        end = ChildEnd(descriptor)
        start = end.settings()
        if start is None:
            end.close()
            return EXIT_DRAINED
        end.heed(signals)
        number, settings = start
        _log(number, settings, end)
        return (run or _run())(settings, signals=signals, listening=end.listening)


def _run() -> Run:
    from worker.run import run  # noqa: PLC0415 - after the signals are caught

    return run


def _log(number: int, settings: Settings, end: ChildEnd) -> None:
    from worker import logs  # noqa: PLC0415

    logs.configure(format=settings.log.format, level=settings.log.level, process=number)
    logging.getLogger().addHandler(Errors(end))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
