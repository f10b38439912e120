"""Decodes records and sends each to the stage that is next for it. Owned by the poll thread."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING

import structlog

from worker.messages import Accepted, Documents, Ended, Outcomes
from worker.records import Document, Rejection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from worker.decode import Decoder
    from worker.messages import ToAssemble, ToPublish
    from worker.metrics import Metrics
    from worker.records import Lease, Outcome, Record

log = structlog.get_logger(__name__)

DECODE_SECONDS = 1.0
"""Longest time that one turn decodes, one record more included. Ordinary records take 2 us each and
are all decoded in the turn that reads them; the worst take 0.2 us a byte, and a turn may take
30 s."""


class Dispatch:
    """Sends texts to the model, and what needs no model straight to the publish thread.

    Args:
        decoder: Makes documents of records.
        assemble: Takes documents.
        publish: Takes records, and the outcomes of those that are no documents.
        metrics: Counts records and the time that decoding takes.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        decoder: Decoder,
        assemble: Callable[[ToAssemble], None],
        publish: Callable[[ToPublish], None],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decoder = decoder
        self._assemble = assemble
        self._publish = publish
        self._metrics = metrics
        self._clock = clock
        self._waiting: deque[Record] = deque()

    @property
    def behind(self) -> bool:
        """Whether records wait to be decoded. They count as in flight."""
        return bool(self._waiting)

    def accept(self, records: Sequence[Record]) -> None:
        """Records were read: they wait to be decoded, in this order."""
        # Sent first: an outcome must find its record accepted.
        self._publish(Accepted(records))
        self._waiting.extend(records)
        self._metrics.records_consumed(len(records))

    def decode(self) -> None:
        """Decodes what waits, for at most `DECODE_SECONDS`, and sends it on."""
        if not self._waiting:
            return
        begin, clock, waiting = self._clock(), self._clock, self._waiting
        documents: list[Document] = []
        outcomes: list[Outcome] = []
        reasons: Counter[str] = Counter()
        while waiting and clock() - begin < DECODE_SECONDS:
            decoded = self._decoder.decode(waiting.popleft())
            if isinstance(decoded, Document):
                documents.append(decoded)
                continue
            outcomes.append(decoded)
            if isinstance(decoded, Rejection):
                reasons[decoded.reason] += 1
        if outcomes:
            self._publish(Outcomes(outcomes))
        if documents:
            self._assemble(Documents(documents))
        if reasons:
            log.warning("records_rejected", **reasons)
        self._metrics.stage_ran("decode", clock() - begin)

    def ended(self, leases: Iterable[Lease]) -> None:
        """Leases ended: what waits under them is void."""
        message = Ended(frozenset(leases))
        self._waiting = deque(r for r in self._waiting if r.lease not in message.leases)
        self._publish(message)
        self._assemble(message)

    def hand_back(self) -> None:
        """Forgets what waits: a drain has no time for it, and the next owner reads it again."""
        if self._waiting:
            log.info("records_handed_back", records=len(self._waiting))
            self._waiting.clear()
