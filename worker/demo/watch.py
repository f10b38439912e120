"""The middle of the demo: messages go out, outputs come back, the view follows."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from worker.demo.ledger import counted_quantile
from worker.demo.view import Frame
from worker.errors import Fatal

if TYPE_CHECKING:
    from worker.demo.children import Child
    from worker.demo.ledger import Ledger
    from worker.demo.scrape import Scraper
    from worker.demo.show import Stream
    from worker.demo.source import Source
    from worker.demo.stop import Stop
    from worker.demo.topics import Reader

FRAME_SECONDS = 0.25
"""Pause between frames. Half of it costs the worker a few percent of two cores."""
SCRAPE_SECONDS = 0.5
STALL_SECONDS = 60.0
"""Without any output for so long while messages wait, the worker is stuck."""
_RATE_SAMPLES = 7
"""Scrapes that the rate looks back on: three seconds."""
_RATES = 120


class Watch:
    """Runs the stream and keeps what the view shows. Owned by the main thread."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        reader: Reader,
        source: Source,
        worker: Child,
        scraper: Scraper,
        stop: Stop,
        total: int | None,
        topics: tuple[str, str],
    ) -> None:
        self._ledger = ledger
        self._reader = reader
        self._source = source
        self._worker = worker
        self._scraper = scraper
        self._stop = stop
        self._total = total
        self._topics = topics
        self._settled: deque[tuple[float, int]] = deque(maxlen=_RATE_SAMPLES)
        self._rates: deque[float] = deque(maxlen=_RATES)

    def run(self, screen: Stream) -> None:
        """Until every message has its output; without an end, until a signal and then so.

        Raises:
            Interrupted: A signal came, and there is an end.
            Fatal: The worker ended or is stuck, or a message could not be sent.
        """
        began = moved = time.monotonic()
        next_scrape = next_frame = began
        settled = 0
        ending = False
        self._source.start()
        while True:
            self._reader.read(FRAME_SECONDS / 2)
            now = time.monotonic()
            if self._total is not None:
                self._stop.check()
            elif self._stop.heed():
                self._source.finish()
            ending = self._source.ended()
            if now >= next_scrape:
                next_scrape = now + SCRAPE_SECONDS
                self._scrape(now)
            done = ending and self._ledger.inputs == self._source.sent and not self._ledger.waiting
            if done or now >= next_frame:
                next_frame = now + FRAME_SECONDS
                screen.frame(self._frame(now - began, ending=ending))
            if done:
                return
            if self._ledger.settled != settled or not self._ledger.waiting:
                settled, moved = self._ledger.settled, now
            self._check_worker(stalled=now - moved)

    def _check_worker(self, *, stalled: float) -> None:
        code = self._worker.code()
        if code is not None:
            raise Fatal(
                f"the worker ended with code {code} in the middle of the stream: "
                f"{self._worker.last_words()} (its log: {self._worker.log})"
            )
        if stalled > STALL_SECONDS:
            raise Fatal(
                f"no output for {stalled:.0f} s while {self._ledger.waiting:,} messages wait "
                f"(the worker's log: {self._worker.log})"
            )

    def _scrape(self, now: float) -> None:
        self._scraper.scrape()
        self._settled.append((now, self._ledger.settled))
        self._rates.append(self._rate())

    def _rate(self) -> float:
        (then, before), (now, after) = self._settled[0], self._settled[-1]
        return (after - before) / (now - then) if now > then else 0.0

    def _frame(self, elapsed: float, *, ending: bool) -> Frame:
        ledger, reading = self._ledger, self._scraper.last
        recent: dict[int, int] = {}
        for latency in ledger.recent:
            recent[latency] = recent.get(latency, 0) + 1
        return Frame(
            elapsed=elapsed,
            sent=self._source.sent,
            total=self._total,
            ending=ending,
            labelled=ledger.labelled,
            dead=ledger.dead,
            rate=self._rates[-1] if self._rates else 0.0,
            rates=tuple(self._rates),
            lag=reading.lag if reading else None,
            p50=counted_quantile(recent, 0.5),
            p99=counted_quantile(recent, 0.99),
            batch=self._scraper.batch_size(),
            labels=ledger.mix(),
            reasons=ledger.reasons,
            shown=tuple(ledger.shown),
            model=reading.model if reading else "",
            topics=self._topics,
        )
