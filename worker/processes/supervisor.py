"""`run` with several processes: starts them, serves their metrics and probes as one, drains them.

    signals ──► fleet ──lifeline──► child 1 … child N      each a worker, a member of the group
                  │                    │
    /livez, /readyz, /metrics ◄──probes and scrapes over the loopback

The supervisor holds no model and no client: it never imports torch, transformers or kafka, so that
only a child touches CUDA, and none of their faults can end it.
"""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING

import structlog

from worker import awake
from worker.endpoints import Endpoints
from worker.errors import EXIT_FAILED, EXIT_REFUSED, Refused
from worker.processes.fleet import Fleet
from worker.processes.merge import OPEN_METRICS, SCRAPE_SECONDS, Merged, scraped
from worker.processes.metrics import ProcessMetrics
from worker.processes.process import COMMAND, Process, get

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from worker.settings import Settings
    from worker.signals import DrainSignals

log = structlog.get_logger(__name__)

TURN_SECONDS = 0.1
"""Pause of the loop: how late a signal, or the end of a child, is noticed."""


def supervise(
    settings: Settings, *, signals: DrainSignals, command: Sequence[str] = COMMAND
) -> int:
    """Runs `settings.processes` workers until a signal drains them or none can work.

    Args:
        settings: All settings.
        signals: Signals that are caught already.
        command: Starts a child; the descriptor of its lifeline is appended.

    Returns:
        The exit code: 0 drained, 1 failed, 2 refused.
    """
    signals.heeded()
    with awake.now.ticking():
        try:
            return _supervise(settings, signals, command)
        except Refused as error:
            log.error(str(error))  # noqa: TRY400 - the line says it all
            return EXIT_REFUSED
        except Exception:
            log.exception("unexpected_failure")
            return EXIT_FAILED


def _supervise(settings: Settings, signals: DrainSignals, command: Sequence[str]) -> int:
    def spawn(number: int) -> Process:
        process = Process(
            command=command,
            number=number,
            settings=settings.of_process(number),
            clock=awake.now,
        )
        log.info("process_started", process=number, pid=process.pid)
        return process

    metrics = ProcessMetrics(settings.processes)
    fleet = Fleet(
        count=settings.processes,
        spawn=spawn,
        clock=awake.now,
        drain_deadline=settings.drain.deadline,
        restarted=metrics.restarted,
    )

    def scrape() -> Mapping[int, str | None]:
        return scraped(fleet.ports(), _exposition)

    endpoints = Endpoints(
        host=settings.http.host,
        port=settings.http.port,
        registry=Merged(
            scrape=scrape, labelled=metrics.labelled, own=metrics.own, answered=metrics.answered
        ),
        health=fleet,
    )
    endpoints.start()
    log.info("http_listening", host=settings.http.host, port=endpoints.port)
    try:
        while (code := fleet.turn(asked=signals.asked, hurried=signals.hurried)) is None:
            time.sleep(TURN_SECONDS)
        return code
    finally:
        fleet.kill()
        endpoints.close()


def _exposition(port: int) -> str | None:
    status, body = get(port, "/metrics", seconds=SCRAPE_SECONDS, accept=OPEN_METRICS)
    return body if status == http.client.OK else None
