"""One transaction of a producer, with limits that the client does not have.

kafka-python 3.0.12 has faults that lose data or hang here, so none of its blocking calls is used
without a limit, nothing is committed while a future is open, and a producer that failed once is
ended and replaced by one with the same identity, whose `init_transactions` ends the old one's last
transaction at the broker.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import kafka.errors

from worker.errors import Fatal, Refused, Transient
from worker.kafka.cluster import limits
from worker.kafka.produce.refusals import blame, refusal_of
from worker.kafka.produce.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kafka import KafkaProducer, TopicPartition
    from kafka.structs import OffsetAndMetadata

    from worker.errors import Refusal
    from worker.kafka.cluster.clients import Connection
    from worker.kafka.cluster.topics import Topic
    from worker.kafka.produce.appender import Appender
    from worker.kafka.produce.outage import Outage
    from worker.kafka.produce.refusals import Blame
    from worker.kafka.produce.writer import Sendable

TRANSACTION_TIMEOUT = 15.0
"""Seconds after which the broker aborts a transaction by itself."""
DEADLINE = 13.0
"""Seconds from begin to the answer to commit, after which the producer is given up: six requests
that take 2 s each. Below the broker's limit, which counts from the first request: kafka-python
reports success for the commit of a transaction that the broker has aborted."""
BEGIN_TRIES = 2
"""How often a new producer may wait 5 s for the end of the last one's transaction."""
DELIVERY_TIMEOUT = 8.0
ANSWERS_SECONDS = 1.0
"""Longest wait for the answers to what was sent beside a refused output."""
END_SECONDS = 6.0
"""Longest wait for a given-up producer's thread, which may sit in a request of 4 s: a thread left
alive could still fence its successor."""

_FENCED = (
    kafka.errors.ProducerFencedError,
    kafka.errors.InvalidProducerEpochError,
    kafka.errors.FencedInstanceIdError,
)


class Late(kafka.errors.KafkaError):  # type: ignore[misc]
    """The transaction's deadline has passed."""


def transactional_writer(
    *,
    connection: Connection,
    topics: dict[str, Topic],
    compression: str,
    outage: Outage,
    transactional_id: str,
    replaced: Callable[[], bool] = lambda: False,
) -> Writer:
    """A writer that, when its producer fails, opens a new one under the same transactional id.

    Args:
        connection: How to reach the cluster.
        topics: The topics that are written, by name.
        compression: Codec of batches, or `none`.
        outage: Says when waiting for the broker is to end.
        transactional_id: The identity of all its producers.
        replaced: Asks whether another process has this one's place. A new producer would fence that
            one's: `ready` raises FencedInstanceIdError then.

    Raises:
        Transient: No broker answers.
        Refused: The brokers do not allow transactions that take so long.
        Fatal: The cluster refuses the identity.
    """

    def prepare(producer: KafkaProducer) -> None:
        never_bump(producer)
        try:
            _begin(producer, outage, replaced)
            for topic in topics:  # asked for within a transaction, this would be of its time
                producer.partitions_for(topic)
        except kafka.errors.FencedInstanceIdError:
            raise
        except kafka.errors.RetriableError as error:
            raise Transient(f"no transactions yet: {type(error).__name__}") from error
        except kafka.errors.KafkaError as error:
            # The client wraps it into an error without a type.
            if kafka.errors.InvalidTransactionTimeoutError.__name__ in str(error):
                raise Refused(limits.transaction_refused(TRANSACTION_TIMEOUT)) from error
            raise Fatal(
                f"no transactions with transactional id {transactional_id}: "
                f"{type(error).__name__}: {error}"
            ) from error

    return Writer(
        connection=connection,
        topics=topics,
        compression=compression,
        delivery_timeout=DELIVERY_TIMEOUT,
        outage=outage,
        options={
            "transactional_id": transactional_id,
            "transaction_timeout_ms": int(TRANSACTION_TIMEOUT * 1_000),
            "max_block_ms": 5_000,
        },
        prepare=prepare,
    )


def _begin(producer: KafkaProducer, outage: Outage, replaced: Callable[[], bool]) -> None:
    for again in reversed(range(BEGIN_TRIES)):
        if replaced():
            raise kafka.errors.FencedInstanceIdError("another process has this one's place")
        try:
            producer.init_transactions()  # the next call waits on for the same answers
        except kafka.errors.KafkaTimeoutError:
            if not again:
                raise
            outage.check()
        else:
            return


def never_bump(producer: KafkaProducer) -> None:
    """Makes a producer whose epoch the broker refuses fail for good, and ask for no newer epoch.

    kafka-python 3.0.12 asks by itself and, if that is refused too, asks again as a producer without
    an epoch: so the client of a worker that was replaced while it stood still fences its successor.
    """
    producer._transaction_manager._supports_epoch_bump = lambda: False  # noqa: SLF001


class Transaction:
    """One transaction of a producer, from begin to commit within one deadline.

    After any error the producer is of no more use. If `commit_asked` is false then, nothing was
    committed; otherwise it is unknown.
    """

    def __init__(self, appender: Appender) -> None:
        self.commit_asked = False
        self._futures: list[Any] = []
        self._appender = appender
        self._producer = producer = appender.producer
        self._manager = producer._transaction_manager  # noqa: SLF001 - its results can be waited for
        self._deadline = time.monotonic() + DEADLINE
        appender.begin_transaction()

    def send(self, outputs: Sequence[Sendable]) -> None:
        """Sends, and returns when every output is acknowledged."""
        try:
            for output in outputs:
                self._futures.append(self._appender.send(output))
        except kafka.errors.KafkaError:
            # After a refusal the client takes no more, and its error here does not say why.
            self._flush(min(ANSWERS_SECONDS, self._left()))
            raise
        self._flush(self._left())
        for future in self._futures:
            left = self._left()
            with contextlib.suppress(kafka.errors.KafkaError):
                future.get(timeout=left)
        if not all(future.is_done for future in self._futures):
            raise Late("outputs are not acknowledged in time")
        if any(future.exception is not None for future in self._futures):
            raise self._failure()

    def forget(self) -> None:
        """Forgets the outputs' futures, after a failure.

        They hold errors whose tracebacks hold this, and the outputs: a cycle of up to 8 MB.
        """
        self._futures = []

    def blame(self, error: Exception) -> tuple[Blame, Refusal | None]:
        """Which outputs were refused, and why the first was, after `send` raised `error`."""
        cause = self._manager.last_error
        return blame(self._futures, cause), refusal_of(error) or refusal_of(cause)

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], proof: Any) -> None:
        """Adds the offsets, with the group metadata to commit them with, and commits."""
        self._wait(self._manager.send_offsets_to_transaction(offsets, proof))
        # Once the commit is requested, only the broker knows whether it happened.
        ending = self._manager.begin_commit()
        self.commit_asked = True
        self._wait(ending)

    def _failure(self) -> BaseException:
        """Why outputs failed; `send` keeps it in no variable, where it would hold itself."""
        failures = [f.exception for f in self._futures if f.exception is not None]
        # Other records of a refused record's batch fail with another error than its own.
        found: BaseException = next(filter(refusal_of, failures), failures[0])
        return found

    def _flush(self, seconds: float) -> None:
        # Of a batch that was split the client says that it failed; of others the futures say more.
        with contextlib.suppress(kafka.errors.KafkaError):
            self._producer.flush(timeout=seconds)

    def _wait(self, result: Any) -> None:
        """Waits for a transactional request, which the client alone would do without limit."""
        self._producer._sender.wakeup()  # noqa: SLF001
        if not result.wait(timeout_ms=self._left() * 1_000):
            raise Late("the coordinator does not answer")

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise Late(f"a transaction took longer than {DEADLINE:g} s")
        return left


def fence_of(error: Exception, producer: KafkaProducer | None) -> BaseException | None:
    """The error that says that another producer, or member, has this one's identity."""
    manager = producer._transaction_manager if producer is not None else None  # noqa: SLF001
    # Later calls raise an untyped error: the manager keeps the cause.
    causes = (error, getattr(manager, "last_error", None))
    return next((cause for cause in causes if isinstance(cause, _FENCED)), None)
