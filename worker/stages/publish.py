"""Outcomes to acknowledged outputs: the publish stage. Owned by the publish thread.

It holds one ledger per lease: outputs leave in their partition's order, and what the broker
acknowledged without a gap is told back as progress, which alone may be committed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from worker.errors import Fatal
from worker.offsets import Ledger
from worker.records import Classified, Outcome, Output, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet

    from worker.encode import Encoder
    from worker.errors import Reason
    from worker.kafka.produce.writer import Refusal
    from worker.metrics import Metrics
    from worker.records import Lease, Record


class OutputSink(Protocol):
    """What takes outputs and says which of them are safe."""

    def __len__(self) -> int: ...

    def send(self, output: Output) -> None: ...

    def expect(self, records: int) -> None: ...

    def commit_positions(self, positions: dict[Lease, int]) -> None: ...

    def forget(self, leases: AbstractSet[Lease]) -> None: ...

    def take_acknowledged(self) -> list[Output]: ...

    def close(self, *, timeout: float) -> None: ...


class Publisher:
    """Puts outcomes in order, sends them, and follows their acknowledgements.

    Args:
        encoder: Makes outputs.
        metrics: Told of every settled record.
        report: Takes progress.
        judged: Takes why each settled record is a dead letter, None for others; before progress.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        metrics: Metrics,
        report: Callable[[Progress], None],
        judged: Callable[[list[Reason | None]], None],
    ) -> None:
        self._encoder = encoder
        self._metrics = metrics
        self._report = report
        self._judged = judged
        self._ledgers: dict[Lease, Ledger[Outcome]] = {}
        self._outcomes: dict[tuple[Lease, int], Outcome] = {}

    def accept(self, records: Iterable[Record]) -> None:
        """Records were read; their outcomes follow, in any order."""
        for record in records:
            ledger = self._ledgers.get(record.lease)
            if ledger is None:
                ledger = self._ledgers[record.lease] = Ledger()
            ledger.accept([(record.offset, record.size)])

    def drop(self, leases: Iterable[Lease]) -> None:
        """Leases ended: what is in flight under them is void, late results included."""
        gone = frozenset(leases)
        for lease in gone:
            self._ledgers.pop(lease, None)
        self._outcomes = {at: o for at, o in self._outcomes.items() if at[0] not in gone}

    def publish(self, outcomes: Iterable[Outcome], sink: OutputSink) -> None:
        """Sends what has its turn; keeps the rest until the records before it are done."""
        touched: dict[Lease, Ledger[Outcome]] = {}
        for outcome in outcomes:
            record = record_of(outcome)
            ledger = self._ledgers.get(record.lease)
            if ledger is not None:
                ledger.complete(record.offset, outcome)
                touched[record.lease] = ledger
        for lease, ledger in touched.items():
            for outcome in ledger.sendable():
                self._outcomes[lease, record_of(outcome).offset] = outcome
                sink.send(self._encoder.encode(outcome))

    def settle(self, sink: OutputSink) -> None:
        """Takes acknowledgements and reports progress."""
        sink.expect(sum(map(len, self._ledgers.values())) - len(self._outcomes))
        acknowledged = sink.take_acknowledged()
        if not acknowledged:
            return
        now, wall = time.monotonic(), time.time()
        touched: dict[Lease, Ledger[Outcome]] = {}
        for output in acknowledged:
            record = output.record
            self._outcomes.pop((record.lease, record.offset), None)
            ledger = self._ledgers.get(record.lease)
            if ledger is not None:
                ledger.acknowledge(record.offset)
                touched[record.lease] = ledger
        self._judged([output.reason for output in acknowledged])
        self._metrics.outputs_acknowledged(acknowledged, now=now, wall=wall)
        for lease, ledger in touched.items():
            if ledger.committable is not None:
                self._report(
                    Progress(
                        lease, ledger.committable, ledger.settled_records, ledger.settled_bytes
                    )
                )

    def replace(self, output: Output, refusal: Refusal) -> Output:
        """What takes the place of an output that the broker refused when it was alone.

        Raises:
            Fatal: The broker refuses the cut dead letter, too.
        """
        record = output.record
        outcome = self._outcomes.get((record.lease, record.offset))
        if output.kind == "dead_letter":
            if any(name == "dlq.truncated" for name, _ in output.headers):
                raise Fatal(
                    f"the broker refuses the dead letter of {record.topic} partition "
                    f"{record.lease.partition} offset {record.offset} even when it is cut: "
                    f"check the limits of {output.topic}"
                )
            message = "the broker refused the dead letter whole"
            return self._encoder.dead_letter(
                record, output.reason or "output_refused", message, cut=True
            )
        if refusal == "timestamp" and output.timestamp is not None and outcome is not None:
            return self._encoder.encode(outcome, refused_timestamp=True)
        if refusal == "too_large":
            message = f"the broker refuses the output as too large for {output.topic}"
            return self._encoder.dead_letter(record, "output_too_large", message)
        message = f"the broker refuses the output: {refusal}"
        return self._encoder.dead_letter(record, "output_refused", message)


def record_of(outcome: Outcome) -> Record:
    """The record an outcome belongs to."""
    return outcome.document.record if isinstance(outcome, Classified) else outcome.record
