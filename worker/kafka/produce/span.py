"""A span of outputs with the offsets that they settle, sent as one transaction.

Both the exactly-once sink and redrive send through `Spans`; each decides what an answer means for
it:

    Committed      every read_committed reader can see outputs and offsets
    OutputRefused  a topic refuses an output for good: replace it and send again
    Aborted        nothing was committed: send it again
    Unknown        the commit was requested and may have happened: ask for the group's offsets
    Fenced         another producer, or member, has this one's identity
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import kafka.errors
import structlog
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from worker.kafka.produce.transaction import END_SECONDS, Transaction, fence_of
from worker.kafka.produce.writer import refusal_of, require_hope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from worker.errors import Refusal
    from worker.kafka.produce.writer import Sendable, Writer

log = structlog.get_logger(__name__)

CAREFUL_RECORDS = 64
"""Outputs of a span that are sent one by one to find a refused one: each costs a round trip."""


@dataclass(frozen=True, slots=True)
class Committed:
    """Outputs and offsets are committed."""


@dataclass(frozen=True, slots=True)
class OutputRefused:
    """A topic refuses an output for good. Nothing was committed."""

    error: Exception
    at: int | None
    """Index of the refused output; None while it is only known that there is one."""
    refusal: Refusal


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

    After a refusal it finds the refused output in small spans, whose outputs are sent one by one:
    only an output that is refused when it is sent alone counts as refused. `most` is how large the
    next span may be.

    Args:
        writer: Gives transactional producers.
        topic: The topic whose offsets are committed.
    """

    def __init__(self, *, writer: Writer, topic: str) -> None:
        self._writer = writer
        self._topic = topic
        self._suspects = 0

    @property
    def most(self) -> int | None:
        """Most outputs of the next span; None where there is no limit."""
        return CAREFUL_RECORDS if self._suspects else None

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
        transaction: Transaction | None = None
        at = 0
        one_by_one = self._suspects > 0
        try:
            with owner.transaction():
                transaction = Transaction(self._writer.ready())
                if one_by_one:
                    for at, output in enumerate(outputs):  # noqa: B007 - which one was refused
                        transaction.send_alone(output)
                else:
                    transaction.send_together(outputs)
                proof = owner.proof()
                if proof is None:
                    raise NoProof("a rebalance came between")
                transaction.commit(self._structs(offsets), proof)
        except (kafka.errors.KafkaError, ValueError) as error:
            commit_asked = transaction is not None and transaction.commit_asked
            answer = self._failed(error, owner, commit_asked=commit_asked)
            if isinstance(answer, OutputRefused) and one_by_one:
                return OutputRefused(answer.error, at, answer.refusal)
            if isinstance(answer, OutputRefused):
                self._suspects = max(self._suspects, len(outputs))
            return answer
        self._writer.succeeded()
        self._suspects = max(0, self._suspects - len(outputs))
        return Committed()

    def _failed(self, error: Exception, owner: OffsetOwner, *, commit_asked: bool) -> Answer:
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
        self._writer.discard(timeout=END_SECONDS, force=True)
        if commit_asked:
            self._suspects = 0
            return Unknown(error)
        refusal = refusal_of(error)
        return Aborted(error) if refusal is None else OutputRefused(error, None, refusal)

    def _structs(self, offsets: Mapping[int, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {
            TopicPartition(self._topic, number): OffsetAndMetadata(offset, "", -1)
            for number, offset in offsets.items()
        }


def _of_the_group(fence: BaseException) -> bool:
    return isinstance(fence, kafka.errors.FencedInstanceIdError)
