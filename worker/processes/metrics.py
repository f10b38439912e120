"""What the supervisor counts and measures: of its children, and of itself."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)

from worker.processes.merge import LABEL


class ProcessMetrics:
    """The supervisor's instruments. Any thread may call its methods.

    Args:
        count: How many children there are to be.
    """

    def __init__(self, count: int) -> None:
        self.labelled = CollectorRegistry()
        """What it counts of the children: their number is in the label."""
        self.own = CollectorRegistry()
        """What every process says of itself; without a label."""
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.own)
        self._wanted = Gauge(
            "worker_processes",
            "Worker processes that the supervisor is to run. Absent with one process.",
            registry=self.labelled,
        )
        self._up = Gauge(
            "worker_process_up",
            "1 if the process answered this scrape, else 0. Absent with one process.",
            [LABEL],
            registry=self.labelled,
        )
        self._restarts = Counter(
            "worker_process_restarts_total",
            "Ends of the process that nobody asked for; it is started again. Absent with one "
            "process.",
            [LABEL],
            registry=self.labelled,
        )
        self._wanted.set(count)
        for number in range(1, count + 1):
            self._up.labels(str(number))
            self._restarts.labels(str(number))

    def answered(self, number: int, up: bool) -> None:  # noqa: FBT001 - a callback's second argument
        """Whether a child answered the scrape."""
        self._up.labels(str(number)).set(up)

    def restarted(self, number: int) -> None:
        """A child has ended, and is started again."""
        self._restarts.labels(str(number)).inc()
