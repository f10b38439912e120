"""The stream's recent past, and the frames that the live view shows of it."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from worker.demo.frame import Counts, Frame, Recent, Sample
from worker.demo.ledger import counted_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.demo.frame import Story
    from worker.demo.ledger import Ledger
    from worker.demo.sender import Sender
    from worker.demo.supervisor import Supervisor

SAMPLE_SECONDS = 0.5
"""Pause between samples, and so between scrapes of the worker."""
RATE_SAMPLES = 7
"""Samples over which the figure of the rate is a mean: three seconds."""
CHART_SAMPLES = 3
"""The same for a bar of the chart: one second."""
PAST = 400
"""Samples that the charts show: more than three minutes."""


class Recorder:
    """Takes samples of the stream, and makes frames. Owned by the main thread.

    Args:
        ledger: What became of the messages.
        sender: Sends them.
        supervisor: The worker.
        topics: Names of the input and the output topic.
        now: When the stream begins, in seconds.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        sender: Sender,
        supervisor: Supervisor,
        topics: tuple[str, str],
        now: float,
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._supervisor = supervisor
        self._topics = topics
        self._began = self._next = now
        self._settled: deque[tuple[float, int]] = deque(maxlen=RATE_SAMPLES)
        self._past: deque[Sample] = deque(maxlen=PAST)

    def sample(self, now: float, story: Story) -> None:
        """Takes a sample, and scrapes the worker's metrics, when it is time to."""
        if now < self._next:
            return
        self._next = now + SAMPLE_SECONDS
        if self._supervisor.scraper is not None and self._supervisor.ready:
            self._supervisor.scraper.scrape()
        self._settled.append((now, self._ledger.settled))
        self._past.append(
            Sample(
                rate=rate([*self._settled][-CHART_SAMPLES:]),
                lag=self._ledger.waiting,
                phase=story.phase,
                down=story.down,
            )
        )

    def frame(self, now: float, story: Story, *, total: int | None) -> Frame:
        """What the live view shows now.

        Args:
            now: In seconds.
            story: What happens.
            total: How many messages will be sent; None where it is not known.
        """
        ledger, scraper = self._ledger, self._supervisor.scraper
        reading = scraper.last if scraper else None
        latencies = Counter(ledger.recent)
        return Frame(
            elapsed=now - self._began,
            counts=Counts(
                sent=self._sender.sent,
                total=total,
                labelled=ledger.labelled,
                dead=ledger.dead,
                labels=ledger.labels.mix(),
                reasons=ledger.reasons,
            ),
            recent=Recent(
                rate=rate(self._settled),
                lag=ledger.waiting,
                p50=counted_quantile(latencies, 0.5),
                p99=counted_quantile(latencies, 0.99),
                batch=scraper.batch_size() if scraper else None,
            ),
            story=story,
            past=tuple(self._past),
            shown=tuple(ledger.shown),
            model=reading.model if reading else "",
            topics=self._topics,
        )


def rate(settled: Sequence[tuple[float, int]]) -> float:
    """Outputs a second, from times in seconds and how many outputs there were by then."""
    if not settled:
        return 0.0
    (then, before), (now, after) = settled[0], settled[-1]
    return (after - before) / (now - then) if now > then else 0.0
