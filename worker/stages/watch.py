"""The watch thread: asks the cluster about topics and end offsets, on a connection of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import structlog

from worker import awake
from worker.errors import Fatal, Transient
from worker.logs import Lasting
from worker.messages import EndOffsets

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.endpoints import Health
    from worker.messages import ToPoll
    from worker.metrics import Metrics
    from worker.stages.shutdown import Shutdown

log = structlog.get_logger(__name__)

WATCH_SECONDS = 2.0
"""Pause between questions to the cluster."""


class Cluster(Protocol):
    """What answers about the cluster."""

    def look(self) -> dict[int, int]:
        """Looks once at everything that is watched; returns where the input's partitions end.

        Raises:
            Transient: No broker answers.
            Fatal: A topic is gone.
        """


class WatchStage:
    """Looks at the cluster again and again, and ends the worker when it stays away.

    Args:
        cluster: Answers about the cluster.
        device_memory: Gives bytes of device memory by kind. Safe beside the model.
        poll: Takes the end offsets.
        outage_limit: Seconds without an answer after which the worker ends.
        shutdown: Says when to stop.
        metrics, health: Show whether the broker answers.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        device_memory: Callable[[], dict[str, int]],
        poll: Callable[[ToPoll], None],
        outage_limit: float,
        shutdown: Shutdown,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._cluster = cluster
        self._device_memory = device_memory
        self._poll = poll
        self._outage_limit = outage_limit
        self._shutdown = shutdown
        self._metrics = metrics
        self._health = health

    def run(self) -> None:
        """Runs until the worker stops.

        Raises:
            Fatal: A topic is gone, or no broker has answered for too long.
        """
        heard = awake.now()
        away = Lasting(log, "broker_away")
        while not self._shutdown.stopping:
            try:
                ends = self._cluster.look()
            except Transient as error:
                self._metrics.broker_reachable(reachable=False)
                away.still(str(error))
                silent = awake.now() - heard
                if silent > self._outage_limit:
                    raise Fatal(
                        f"no broker has answered for {silent:.0f} s (kafka.outage_limit): nothing "
                        "unacknowledged was committed; it is read again after a restart"
                    ) from error
            else:
                away.over()
                self._poll(EndOffsets(ends, time.time()))
                self._metrics.device_memory(self._device_memory())
                self._metrics.broker_reachable(reachable=True)
                self._health.broker_heard = heard = awake.now()
            self._shutdown.wait(WATCH_SECONDS)
