"""A span of outputs with the offsets that they settle, sent as one transaction.

Both the exactly-once sink and redrive send through `Spans`; each decides what an answer means for
it:

    Committed      every read_committed reader can see outputs and offsets
    OutputRefused  a topic refuses outputs for good: replace those that are known and send again
    Aborted        nothing was committed: send it again
    Unknown        the commit was requested and may have happened: ask for the group's offsets
    Fenced         another producer, or member, has this one's identity
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import kafka.errors
import structlog
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from worker.kafka.produce.span_size import SpanSize
from worker.kafka.produce.transaction import END_SECONDS, Transaction, fence_of
from worker.kafka.produce.writer import require_hope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from worker.errors import Refusal
    from worker.kafka.produce.writer import Sendable, Writer

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Committed:
    """Outputs and offsets are committed."""


@dataclass(frozen=True, slots=True)
class OutputRefused:
    """A topic refuses outputs for good. Nothing was committed."""

    error: Exception
    refused: Mapping[int, Refusal]
    """By index. Empty while it is only known that there is one: the next spans find it."""


@dataclass(frozen=True, slots=True)
class Aborted:
    """Nothing was committed."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Unknown:
    """The commit was requested, and it is unknown whether it happened."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Fenced:
    """Another producer, or another member of the group, has this one's identity."""

    error: Exception
    """What the client raised."""
    cause: BaseException
    """What the broker said."""


Answer: TypeAlias = Committed | OutputRefused | Aborted | Unknown | Fenced


class OffsetOwner(Protocol):
    """Who commits the offsets of a span."""

    def transaction(self) -> AbstractContextManager[None]:
        """Entered while the transaction is open."""

    def proof(self) -> Any | None:
        """What the client commits the offsets with: group metadata, or a group id.

        None where the offsets must not be committed any more.
        """

    def replaced_itself(self) -> bool:
        """Whether this process itself has replaced the member that was fenced."""


class NoProof(kafka.errors.KafkaError):  # type: ignore[misc]
    """Out of the group, or a lease of the span ended, after its outputs were sent."""


class Spans:
    """Sends spans by one producer after another. Owned by the thread that sends.

    An output counts as refused only if the broker named it, or refused a batch that held nothing
    else. If a broker says less, the outputs are sent in halves until the refused one is alone.

    Args:
        writer: Gives transactional producers.
        topic: The topic whose offsets are committed.
        size: How much a span may hold.
    """

    def __init__(self, *, writer: Writer, topic: str, size: SpanSize | None = None) -> None:
        self._writer = writer
        self._topic = topic
        self._size = size or SpanSize()
        self.failing = False
        """Whether the last span was not committed."""

    def take(self, sizes: Iterable[int]) -> int:
        """How many of the outputs that wait, of these sizes in bytes, the next span may hold."""
        return self._size.take(sizes)

    def send(
        self, outputs: Sequence[Sendable], offsets: Mapping[int, int], owner: OffsetOwner
    ) -> Answer:
        """Sends outputs and commits the offsets that they settle.

        After any other answer than `Committed` the producer was ended.

        Args:
            outputs: In the order in which they are to stand in their topics.
            offsets: By partition.
            owner: Gives the proof to commit the offsets with.

        Raises:
            Fatal: Nothing can be written, or the outage limit has passed.
            Transient: The process is to stop while the broker is away.
        """
        self.failing = True
        transaction: Transaction | None = None
        began = time.monotonic()
        try:
            with owner.transaction():
                transaction = Transaction(self._writer.ready())
                began = time.monotonic()
                transaction.send(outputs)
                sent = time.monotonic()
                proof = owner.proof()
                if proof is None:
                    raise NoProof("a rebalance came between")
                transaction.commit(self._structs(offsets), proof)
        except (kafka.errors.KafkaError, ValueError) as error:
            try:
                return self._failed(error, transaction, outputs, owner, time.monotonic() - began)
            finally:
                # By its traceback the error would hold the outputs, in a cycle.
                error.__traceback__ = None
                if transaction is not None:
                    transaction.forget()
        self.failing = False
        self._writer.outage.succeeded()
        ended = time.monotonic()
        # Where brokers answer late, sending takes no longer than the commit: smaller spans would
        # not be faster.
        excess = (sent - began) - (ended - sent)
        self._size.committed(len(outputs), seconds=ended - began, excess=excess)
        return Committed()

    def _failed(
        self,
        error: Exception,
        transaction: Transaction | None,
        outputs: Sequence[Sendable],
        owner: OffsetOwner,
        seconds: float,
    ) -> Answer:
        commit_asked = transaction is not None and transaction.commit_asked
        log.warning(
            "transaction_failed",
            error=type(error).__name__,
            detail=str(error)[:200],
            outcome="unknown" if commit_asked else "aborted",
        )
        fence = fence_of(error, self._writer.producer)
        if fence is not None and not (_of_the_group(fence) and owner.replaced_itself()):
            self._writer.discard(timeout=1.0, force=True)
            return Fenced(error, fence)
        require_hope(error)
        answer = None
        if transaction is not None and not commit_asked:
            answer = self._refused(error, transaction, outputs)
        self._writer.discard(timeout=END_SECONDS, force=True)
        if answer is not None:
            return answer
        self._size.failed(seconds=seconds)
        if commit_asked:
            self._size.found()
            return Unknown(error)
        return Aborted(error)

    def _refused(
        self, error: Exception, transaction: Transaction, outputs: Sequence[Sendable]
    ) -> OutputRefused | None:
        """What is known of refused outputs; None if none was refused."""
        blame, refusal = transaction.blame(error)
        refused = dict(blame.refused)
        searched = not refused and len(outputs) == 1
        if searched and refusal is not None:
            refused = {0: refusal}
        if refused:
            self._size.found()
            # First: readers wait for the end of the open transaction.
            self._writer.discard(timeout=END_SECONDS, force=True)
            for at, why in refused.items():
                self._writer.forecast.refused(outputs[at], why, searched=searched)
            return OutputRefused(error, refused)
        if refusal is None:
            return None
        self._size.refused_among(blame.among or len(outputs))
        return OutputRefused(error, {})

    def _structs(self, offsets: Mapping[int, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {
            TopicPartition(self._topic, number): OffsetAndMetadata(offset, "", -1)
            for number, offset in offsets.items()
        }


def _of_the_group(fence: BaseException) -> bool:
    return isinstance(fence, kafka.errors.FencedInstanceIdError)
