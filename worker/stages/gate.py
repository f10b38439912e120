"""The breaker between threads: takes reports, shows its state in metrics, readiness and log."""

from __future__ import annotations

import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.endpoints import Health
    from worker.errors import Reason
    from worker.metrics import Metrics
    from worker.stages.breaker import Breaker

log = structlog.get_logger(__name__)


class Gate:
    """Holds records back while most of the input is bad.

    Any thread may call `report`; the publish thread does, which knows what became of records. All
    other methods are the poll thread's.

    Args:
        breaker: Decides.
        metrics, health: Show whether it is open.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        breaker: Breaker,
        metrics: Metrics,
        health: Health,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._breaker = breaker
        self._metrics = metrics
        self._health = health
        self._clock = clock
        self._reports: SimpleQueue[list[Reason | None]] = SimpleQueue()

    def report(self, verdicts: list[Reason | None]) -> None:
        """Takes why each of these records became a dead letter, None for others.

        Called before they count as settled: a probe is over when none of its records is in flight.
        """
        self._reports.put(verdicts)

    def took(self, records: int) -> None:
        """Records were read."""
        self._breaker.took(records)

    def room(self, *, in_flight: int, most: int) -> int:
        """How many of `most` records may be read now."""
        breaker, now = self._breaker, self._clock()
        before = breaker.state
        while not self._reports.empty():
            breaker.judge(self._reports.get(), now)
        room = breaker.room(in_flight=in_flight, now=now)
        if breaker.state != before:
            self._show()
        return most if room is None else min(most, room)

    def _show(self) -> None:
        breaker = self._breaker
        if breaker.state == "open":
            bad, seen = sum(breaker.reasons.values()), breaker.seen
            log.warning(
                "input_mostly_bad", bad=bad, of=seen, next_try=breaker.pause, **breaker.reasons
            )
            self._metrics.breaker_open(is_open=True)
            self._health.bad_input = f"{bad} of the last {seen} records became dead letters"
        elif breaker.state == "closed":
            log.info("input_good_again")
            self._metrics.breaker_open(is_open=False)
            self._health.bad_input = None
