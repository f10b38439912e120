"""Logs: a constant message plus fields, as JSON for machines or in colour for people."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import structlog

from worker.log_lines import LogLines

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, Processor

FIRST_PAUSE = 10.0
"""Seconds until a state that lasts is logged again; the next pause is twice as long."""
LONGEST_PAUSE = 300.0
FORGOTTEN = 60.0
"""Seconds without a state after which it counts as new: one that comes and goes is not logged each
time. More than one attempt to reach a broker takes."""


class Lasting:
    """Logs a state that lasts when it begins, and then at growing intervals. One thread.

    Args:
        log: The logger of whoever notices the state.
        event: The line's constant message.
        clock: Monotonic seconds.
    """

    def __init__(
        self, log: Any, event: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._event = event
        self._clock = clock
        self._spells: dict[str, _Spell] = {}  # by error
        self._since: float | None = None

    def still(self, error: str) -> None:
        """The state is there, or goes on.

        Args:
            error: What is wrong. Each has intervals of its own.
        """
        now = self._clock()
        self._since = now if self._since is None else self._since
        self._spells = {e: s for e, s in self._spells.items() if now - s.seen < FORGOTTEN}
        spell = self._spells.setdefault(error, _Spell(now))
        spell.seen = now
        if now >= spell.due:
            self._log.warning(self._event, error=error, seconds=round(now - self._since))
            spell.due, spell.pause = now + spell.pause, min(2 * spell.pause, LONGEST_PAUSE)

    def over(self) -> None:
        """The state is not there any more."""
        self._since = None


class _Spell:
    def __init__(self, now: float) -> None:
        self.due = self.seen = now
        self.pause = FIRST_PAUSE


FIRST = ("event", "timestamp", "level", "logger")
"""Fields that a JSON line begins with: what a narrow view of a line shows."""


def _ordered(_log: Any, _method: str, line: EventDict) -> EventDict:
    """The line with its first fields first; the others in the order in which they were given."""
    return {name: line[name] for name in dict.fromkeys((*FIRST, *line)) if name in line}


def configure(
    *,
    format: Literal["json", "console"],  # noqa: A002 - the setting's name
    level: str,
    process: int | None = None,
) -> None:
    """Sends this program's and its libraries' logs to standard error, one line each.

    No thread waits for whoever reads them; `logging.shutdown` does at the end, for a limited time.

    Args:
        format: As in the settings.
        level: As in the settings.
        process: Which of several processes this is: a field of each line.
    """

    def numbered(_log: Any, _method: str, line: EventDict) -> EventDict:
        return line if process is None else {**line, "process": process}

    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        numbered,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last: list[Processor] = [_ordered, structlog.processors.JSONRenderer()]
    if format == "console":
        last = [structlog.dev.ConsoleRenderer(colors=os.isatty(2), pad_event_to=0)]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = LogLines(2 if sys.stderr else -1)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(["lines"])],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("worker").setLevel(level.upper())
    # In an outage the client logs the same warning many times a second; ours suffice.
    logging.getLogger("kafka").setLevel(logging.DEBUG if level == "debug" else logging.CRITICAL)
    # At DEBUG these log passwords and tokens: a client's options, requests, bytes on the wire.
    for name in ("kafka.admin.client", "kafka.net.connection", "kafka.protocol.parser"):
        logging.getLogger(name).setLevel(logging.INFO if level == "debug" else logging.CRITICAL)
