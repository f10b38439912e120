"""The publish thread: outcomes to acknowledged outputs.

`Publisher` holds one ledger per lease: outputs are sent in their partition's order, and how far the
broker has acknowledged them without a gap is sent to the poll thread as `Progress`; nothing beyond
it may be committed. `PublishStage` feeds the publisher from its inbox and owns the sink.
"""

from __future__ import annotations

import time
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol, assert_never, runtime_checkable

from worker import awake
from worker.errors import Fatal
from worker.messages import (
    Abort,
    Accepted,
    Barrier,
    Drained,
    Ended,
    Outcomes,
    Positions,
    Progress,
    Writable,
)
from worker.offsets import Ledger
from worker.records import Classified, Outcome, Output
from worker.stages.inbox import next_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from collections.abc import Set as AbstractSet
    from queue import SimpleQueue

    from worker.encode import Encoder
    from worker.errors import Reason, Refusal
    from worker.messages import ToPoll, ToPublish
    from worker.metrics import Metrics
    from worker.records import Lease, Record
    from worker.stages.shutdown import Shutdown

ACK_POLL = 0.002
"""Seconds between looks for acknowledgements: half of it is added to the latency."""


class OutputSink(Protocol):
    """Sends outputs and returns those that are safe: acknowledged, or committed by a transaction.

    Every method may raise `Fatal` if nothing can be written, and `Transient` if the process stops
    while the broker is away.
    """

    def __len__(self) -> int:
        """How many outputs, and offsets, are not safe yet."""

    def send(self, output: Output) -> None:
        """Takes an output. Outputs of a partition come in its order."""

    def forget(self, leases: AbstractSet[Lease]) -> None:
        """Leases ended: another owner reads again what is not committed."""

    def take_acknowledged(self, *, following: int) -> list[Output]:
        """Outputs that became safe since the last call, each once.

        Args:
            following: Records in flight whose outputs are not sent yet.
        """

    def close(self, *, timeout: float) -> None:
        """Ends the producer; waits no longer than `timeout` seconds for acknowledgements."""


@runtime_checkable
class OffsetSink(OutputSink, Protocol):
    """A sink that commits offsets together with its outputs."""

    def commit_positions(self, positions: Mapping[Lease, int]) -> None:
        """Takes offsets to commit that no output carries."""


class Publisher:
    """Puts outcomes in order, sends them, and follows their acknowledgements.

    Args:
        encoder: Makes outputs.
        metrics: Counts acknowledged outputs.
        report: Takes progress.
        judged: Takes why each settled record is a dead letter, None for others; before `report`.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        metrics: Metrics,
        report: Callable[[ToPoll], None],
        judged: Callable[[list[Reason | None]], None],
    ) -> None:
        self._encoder = encoder
        self._metrics = metrics
        self._report = report
        self._judged = judged
        self._ledgers: dict[Lease, Ledger[Outcome]] = {}

    def accept(self, records: Iterable[Record]) -> None:
        """Records were read; their outcomes follow, in any order."""
        for lease, batch in groupby(records, key=attrgetter("lease")):
            ledger = self._ledgers.get(lease)
            if ledger is None:
                ledger = self._ledgers[lease] = Ledger()
            ledger.accept((record.offset, record.size) for record in batch)

    def drop(self, leases: Iterable[Lease]) -> None:
        """Leases ended: what is in flight under them is void, late results included."""
        for lease in leases:
            self._ledgers.pop(lease, None)

    def publish(self, outcomes: Iterable[Outcome], sink: OutputSink) -> None:
        """Sends the outcomes whose turn has come; keeps the others until those before are done."""
        touched: dict[Lease, Ledger[Outcome]] = {}
        for outcome in outcomes:
            record = record_of(outcome)
            ledger = self._ledgers.get(record.lease)
            if ledger is not None:
                ledger.complete(record.offset, outcome)
                touched[record.lease] = ledger
        for ledger in touched.values():
            for outcome in ledger.sendable():
                sink.send(self._encoder.encode(outcome))

    def settle(self, sink: OutputSink) -> None:
        """Takes acknowledgements and reports progress."""
        unsent = sum(ledger.unsent for ledger in self._ledgers.values())
        acknowledged = sink.take_acknowledged(following=unsent)
        if not acknowledged:
            return
        now, wall = awake.now(), time.time()
        touched: dict[Lease, Ledger[Outcome]] = {}
        for output in acknowledged:
            record = output.record
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
        """The output to send instead of one that the broker refuses.

        Raises:
            Fatal: The broker refuses the cut dead letter, too.
        """
        record = output.record
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
        untimely = refusal in ("timestamp", "invalid") and output.timestamp is not None
        if untimely and output.outcome is not None:
            return self._encoder.encode(output.outcome, refused_timestamp=True)
        if refusal == "too_large":
            message = f"the broker refuses the output as too large for {output.topic}"
            return self._encoder.dead_letter(record, "output_too_large", message)
        message = f"the broker refuses the output: {refusal}"
        return self._encoder.dead_letter(record, "output_refused", message)


class PublishStage:
    """Feeds the publisher from its inbox. Owns the sink.

    Args:
        inbox: Accepted records, outcomes, ended leases, positions, and the barrier.
        publisher: Puts outcomes in order.
        make_sink: Makes the sink, on this thread; raises `Transient` while no broker answers.
        poll: Takes `Writable` at the start, and `Drained` at the end.
        shutdown: Says when to stop.
        metrics: Counts the time of this stage.
    """

    def __init__(
        self,
        *,
        inbox: SimpleQueue[ToPublish],
        publisher: Publisher,
        make_sink: Callable[[], OutputSink],
        poll: Callable[[ToPoll], None],
        shutdown: Shutdown,
        metrics: Metrics,
    ) -> None:
        self._inbox = inbox
        self._publisher = publisher
        self._make_sink = make_sink
        self._poll = poll
        self._shutdown = shutdown
        self._metrics = metrics

    def run(self) -> None:
        """Runs until everything before the barrier is settled, or an abort.

        Raises:
            Fatal: Nothing can be written any more.
            Transient: The worker stops while the broker is away.
        """
        sink = self._shutdown.reached(self._make_sink)
        if sink is None:
            return
        self._poll(Writable())
        try:
            if self._serve(sink):
                self._poll(Drained())
        finally:
            sink.close(timeout=1.0)

    def _serve(self, sink: OutputSink) -> bool:
        """Whether everything up to the barrier is settled."""
        barrier = False
        while not (barrier and len(sink) == 0):
            message = next_of(self._inbox, ACK_POLL if len(sink) else None)
            # Takes every message first: a transaction takes as long for one output as for many.
            while message is not None:
                match message:
                    case Abort():
                        return False
                    case Barrier():
                        barrier = True
                    case _:
                        self._handle(message, sink)
                message = next_of(self._inbox, 0.0)
            self._publisher.settle(sink)
        self._publisher.settle(sink)
        return True

    def _handle(self, message: Accepted | Outcomes | Ended | Positions, sink: OutputSink) -> None:
        match message:
            case Accepted(records):
                self._publisher.accept(records)
            case Outcomes(outcomes):
                begin = time.perf_counter()
                self._publisher.publish(outcomes, sink)
                self._metrics.stage_ran("publish", time.perf_counter() - begin)
            case Ended(leases):
                self._publisher.drop(leases)
                sink.forget(leases)
            case Positions(offsets):
                if not isinstance(sink, OffsetSink):
                    raise TypeError("offsets were sent to a sink that commits none")
                sink.commit_positions(offsets)
            case _:
                assert_never(message)


def record_of(outcome: Outcome) -> Record:
    """The record an outcome belongs to."""
    return outcome.document.record if isinstance(outcome, Classified) else outcome.record
