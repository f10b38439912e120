"""Logs: a constant message plus fields, as JSON for machines or in colour for people."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal

import structlog

if TYPE_CHECKING:
    from structlog.typing import Processor


def configure(*, format: Literal["json", "console"], level: str) -> None:  # noqa: A002 - the setting's name
    """Sends this program's and its libraries' logs to standard error, one line each."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last: Processor = structlog.processors.JSONRenderer()
    if format == "console":
        last = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
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
