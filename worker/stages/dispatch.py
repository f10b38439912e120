"""Decodes records and sends each to the stage that is next for it. Owned by the poll thread."""

from __future__ import annotations

import time
from collections import Counter
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


class Dispatch:
    """Sends texts to the model, and what needs no model straight to the publish thread.

    Args:
        decoder: Makes documents of records.
        assemble: Takes documents.
        publish: Takes records, and the outcomes of those that are no documents.
        metrics: Counts records and the time that decoding takes.
    """

    def __init__(
        self,
        *,
        decoder: Decoder,
        assemble: Callable[[ToAssemble], None],
        publish: Callable[[ToPublish], None],
        metrics: Metrics,
    ) -> None:
        self._decoder = decoder
        self._assemble = assemble
        self._publish = publish
        self._metrics = metrics

    def records(self, records: Sequence[Record]) -> None:
        """Records were read."""
        begin = time.perf_counter()
        # Sent first: an outcome must find its record accepted.
        self._publish(Accepted(records))
        documents: list[Document] = []
        outcomes: list[Outcome] = []
        reasons: Counter[str] = Counter()
        for record in records:
            decoded = self._decoder.decode(record)
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
        self._metrics.records_consumed(len(records))
        self._metrics.stage_ran("decode", time.perf_counter() - begin)

    def ended(self, leases: Iterable[Lease]) -> None:
        """Leases ended."""
        message = Ended(frozenset(leases))
        self._publish(message)
        self._assemble(message)
