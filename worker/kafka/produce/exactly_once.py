"""Outputs and offsets in one transaction: exactly once. Owned by the publish thread.

Outputs are gathered while the model works on, and go out as a span: begin, send, every future
good, offsets, commit. A span holds exactly the outputs of the offsets that it commits.

kafka-python 3.0.12 has faults that lose data or hang here, so none of its blocking calls is used
without a limit, nothing is committed while a future is open, and a producer that failed once is
ended and replaced by one with the same identity, whose ``init_transactions`` settles what the
broker knows of the old one's last transaction:

    failed before the commit was asked for   it was not committed: the same span again
    failed later                             nobody knows: go back to what the group has committed
    another producer has the identity        end the process: a new producer would fence it
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

import kafka.errors
import structlog
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from worker.errors import Fatal, Transient
from worker.kafka.produce.writer import Refusal, Writer, refusal_of, require_hope, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from kafka import KafkaProducer

    from worker.kafka.cluster.clients import Connection
    from worker.kafka.cluster.topics import Topic
    from worker.kafka.consume.membership import Membership
    from worker.kafka.produce.writer import Writable
    from worker.records import Lease, Output

log = structlog.get_logger(__name__)

TRANSACTION_TIMEOUT = 15.0
"""Seconds after which the broker aborts a transaction by itself."""
DEADLINE = 10.0
"""Seconds from begin to the answer to commit, after which the producer is given up. Below the
broker's limit: kafka-python reports a commit of what the broker has aborted as done."""
DELIVERY_TIMEOUT = 8.0
END_SECONDS = 6.0
"""Longest wait for a given-up producer's thread, which may sit in a request of 4 s: a thread left
alive could still fence its successor."""
CAREFUL_RECORDS = 64
"""Outputs of a span among which a refused one is looked for, one by one."""
PROOF_PAUSE = 0.01
"""Seconds between looks for a membership to commit with: a rebalance takes tenths of one."""
FENCED_PAUSE = 3.0
"""Seconds before a fenced worker ends: two with one identity must not fence each other in a
loop."""

_FENCED = (
    kafka.errors.ProducerFencedError,
    kafka.errors.InvalidProducerEpochError,
    kafka.errors.FencedInstanceIdError,
)


class _Late(kafka.errors.KafkaError):  # type: ignore[misc]
    """The transaction's deadline has passed."""


class _NoProof(kafka.errors.KafkaError):  # type: ignore[misc]
    """Out of the group, or a lease of the span ended, after its outputs were sent."""


def transactional_writer(
    *,
    connection: Connection,
    topics: dict[str, Topic],
    compression: str,
    outage_limit: float,
    stopping: Callable[[], bool],
    transactional_id: str,
) -> Writer:
    """A writer whose producers are one after the other the same transactional one.

    Raises:
        Transient: No broker answers.
        Fatal: The cluster refuses the identity.
    """

    def prepare(producer: KafkaProducer) -> None:
        try:
            producer.init_transactions()
        except kafka.errors.RetriableError as error:
            raise Transient(f"no transactions yet: {type(error).__name__}") from error
        except kafka.errors.KafkaError as error:
            raise Fatal(
                f"no transactions with transactional id {transactional_id}: "
                f"{type(error).__name__}: {error}"
            ) from error

    return Writer(
        connection=connection,
        topics=topics,
        compression=compression,
        delivery_timeout=DELIVERY_TIMEOUT,
        outage_limit=outage_limit,
        stopping=stopping,
        options={
            "transactional_id": transactional_id,
            "transaction_timeout_ms": int(TRANSACTION_TIMEOUT * 1_000),
            "max_block_ms": 5_000,
        },
        prepare=prepare,
    )


class Transaction:
    """One transaction of a producer, from begin to commit within one deadline.

    After any error the producer is of no more use. Whether the transaction happened is known then
    only where ``commit_asked`` is false: it did not.
    """

    def __init__(self, producer: KafkaProducer) -> None:
        self.commit_asked = False
        self._producer = producer
        self._manager = producer._transaction_manager  # noqa: SLF001 - its results can be waited for
        self._deadline = time.monotonic() + DEADLINE
        producer.begin_transaction()

    def send_together(self, outputs: Iterable[Writable]) -> None:
        """Sends, and returns when every output is acknowledged."""
        futures = [send(self._producer, output) for output in outputs]
        with contextlib.suppress(kafka.errors.UnknownError):  # of a batch that was split
            self._producer.flush(timeout=self._left())
        for future in futures:
            left = self._left()
            with contextlib.suppress(kafka.errors.KafkaError):
                future.get(timeout=left)
        failures = [future.exception for future in futures if future.exception is not None]
        if not all(future.is_done for future in futures):
            raise _Late("outputs are not acknowledged in time")
        if failures:
            # The innocents of a refused record's batch fail with another error than its own.
            raise next(filter(refusal_of, failures), failures[0])

    def send_alone(self, output: Writable) -> None:
        """Sends one output and waits: only what is refused alone is refused."""
        send(self._producer, output).get(timeout=self._left())

    def commit(self, offsets: Mapping[TopicPartition, OffsetAndMetadata], proof: Any) -> None:
        """Adds the offsets, with the group metadata to commit them with, and commits."""
        self._wait(self._manager.send_offsets_to_transaction(offsets, proof))
        # Once it is asked for, only the broker knows whether it happened.
        ending = self._manager.begin_commit()
        self.commit_asked = True
        self._wait(ending)

    def _wait(self, result: Any) -> None:
        """Waits for a transactional request, which the client alone would do without limit."""
        self._producer._sender.wakeup()  # noqa: SLF001
        if not result.wait(timeout_ms=self._left() * 1_000):
            raise _Late("the coordinator does not answer")

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _Late(f"a transaction took longer than {DEADLINE:g} s")
        return left


def fence_of(error: Exception, producer: KafkaProducer | None) -> BaseException | None:
    """The error that says that another producer, or member, has this one's identity."""
    manager = producer._transaction_manager if producer is not None else None  # noqa: SLF001
    # Later calls raise an untyped error: the manager keeps the cause.
    causes = (error, getattr(manager, "last_error", None))
    return next((cause for cause in causes if isinstance(cause, _FENCED)), None)


class TransactionalSink:
    """Gathers outputs and commits them with their offsets, span by span.

    Args:
        writer: Gives transactional producers.
        membership: Of the consumer whose offsets are committed.
        input_topic: Whose offsets they are.
        replica_id: For the line that a fenced worker ends with.
        interval: Seconds for which outputs are gathered.
        span_records: Outputs that are not waited beyond.
        replace: Makes the output that takes a refused one's place.
        rewind: Asks the poll thread to go back to what the group has committed.
        on_commit: Called with ``ok`` or ``failed`` after every transaction.
        on_error: Called with the error's name for every failed transaction.
    """

    def __init__(
        self,
        *,
        writer: Writer,
        membership: Membership,
        input_topic: str,
        replica_id: str,
        interval: float,
        span_records: int,
        replace: Callable[[Output, Refusal], Output],
        rewind: Callable[[], None],
        on_commit: Callable[[str], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._writer = writer
        self._membership = membership
        self._input_topic = input_topic
        self._replica_id = replica_id
        self._interval = interval
        self._span_records = span_records
        self._replace = replace
        self._rewind = rewind
        self._on_commit = on_commit
        self._on_error = on_error
        self._pending: deque[Output] = deque()
        self._positions: dict[Lease, int] = {}
        self._reached: dict[Lease, int] = {}
        self._committed: list[Output] = []
        self._due_at: float | None = None
        self._careful = 0
        self._void_epoch = 0
        self._transaction: Transaction | None = None

    def __len__(self) -> int:
        return len(self._pending) + len(self._positions)

    def send(self, output: Output) -> None:
        """Takes an output into the next span."""
        lease = output.record.lease
        if lease.epoch <= self._void_epoch:
            return  # read before the last rewind, and read again since
        certain = self._writer.foretold(output)
        if certain is not None:
            output = self._replace(output, certain)
        self._begin_waiting()
        self._pending.append(output)

    def commit_positions(self, positions: dict[Lease, int]) -> None:
        """Offsets past which there are no records: transaction markers, compaction holes."""
        for lease, offset in positions.items():
            if lease.epoch > self._void_epoch and offset > self._reached.get(lease, 0):
                self._begin_waiting()
                self._positions[lease] = offset

    def expect(self, records: int) -> None:
        """How many records are under way whose outputs follow: without any, why wait?"""
        if records == 0 and self._due_at is not None:
            self._due_at = 0.0

    def forget(self, leases: AbstractSet[Lease]) -> None:
        """Leases ended: their outputs are not committed, since another owner reads them again."""
        self._pending = deque(o for o in self._pending if o.record.lease not in leases)
        self._positions = {
            lease: at for lease, at in self._positions.items() if lease not in leases
        }
        self._reached = {lease: at for lease, at in self._reached.items() if lease not in leases}
        if not len(self):
            self._due_at = None

    def take_acknowledged(self) -> list[Output]:
        """Outputs that are committed, in the order they were sent, each once.

        Runs a transaction when one is due; blocks for its time, and while the broker is away.

        Raises:
            Fatal: Fenced, the outage limit has passed, or nothing can be written.
            Transient: The process is to stop.
        """
        due = self._due_at is not None and time.monotonic() >= self._due_at
        if due or len(self._pending) >= self._span_records:
            self._commit_span()
        committed, self._committed = self._committed, []
        return committed

    def close(self, *, timeout: float) -> None:
        """Ends the producer."""
        self._writer.discard(timeout=timeout)

    def _begin_waiting(self) -> None:
        if self._due_at is None:
            self._due_at = time.monotonic() + self._interval
            self._writer.succeeded()

    def _commit_span(self) -> None:
        ended = self._membership.ended(self._leases())
        if ended:
            self.forget(ended)
        if not len(self):
            return
        careful = self._careful > 0
        outputs = list(islice(self._pending, CAREFUL_RECORDS if careful else None))
        positions = dict(self._positions)
        if self._membership.proof(self._leases()) is None:
            # Between two memberships: either the leases end, or there is a generation again.
            self._writer.check_outage()
            time.sleep(PROOF_PAUSE)
            return
        self._transaction = None
        reached = _reached(outputs, positions)
        try:
            with self._membership.transaction():
                self._transact(outputs, reached, one_by_one=careful)
        except (kafka.errors.KafkaError, ValueError) as error:
            self._failed(error, reached.keys())
            return
        self._writer.succeeded()
        self._on_commit("ok")
        self._reached |= reached
        for _ in outputs:
            self._pending.popleft()
        self._careful = max(0, self._careful - len(outputs))
        self._positions = {
            lease: at for lease, at in self._positions.items() if positions.get(lease) != at
        }
        self._committed += outputs
        self._due_at = 0.0 if len(self) else None

    def _transact(
        self, outputs: list[Output], reached: dict[Lease, int], *, one_by_one: bool
    ) -> None:
        transaction = self._transaction = Transaction(self._writer.ready())
        if one_by_one:
            self._send_one_by_one(transaction, outputs)
        else:
            transaction.send_together(outputs)
        proof = self._membership.proof(reached)
        if proof is None:
            raise _NoProof("a rebalance came between")
        offsets = {
            TopicPartition(self._input_topic, lease.partition): OffsetAndMetadata(offset, "", -1)
            for lease, offset in reached.items()
        }
        transaction.commit(offsets, proof)

    def _send_one_by_one(self, transaction: Transaction, outputs: list[Output]) -> None:
        """Only what is refused alone is refused: it is replaced, and the span begins again."""
        for at, output in enumerate(outputs):
            try:
                transaction.send_alone(output)
            except kafka.errors.KafkaError as error:
                refusal = refusal_of(error)
                if refusal is not None:
                    self._pending[at] = self._replace(output, refusal)
                raise

    def _failed(self, error: Exception, leases: AbstractSet[Lease]) -> None:
        name = type(error).__name__
        commit_asked = self._transaction is not None and self._transaction.commit_asked
        self._on_error(name)
        self._on_commit("failed")
        log.warning(
            "transaction_failed",
            error=name,
            detail=str(error)[:200],
            outcome="unknown" if commit_asked else "aborted",
        )
        self._end_if_fenced(error, leases)
        require_hope(error)
        self._writer.discard(timeout=END_SECONDS, force=True)
        self._due_at = 0.0
        if commit_asked:
            self._go_back()
        elif refusal_of(error) is not None:
            self._careful = max(self._careful, len(self._pending))
        else:
            self._writer.check_outage()
            time.sleep(0.1)

    def _go_back(self) -> None:
        """Nobody knows whether the span was committed: the group's offsets will tell."""
        self._void_epoch = max(self._void_epoch, self._membership.newest_epoch)
        self._pending.clear()
        self._positions.clear()
        self._careful = 0
        self._due_at = None
        self._writer.ready()  # settles the old transaction, one way or the other
        self._rewind()

    def _end_if_fenced(self, error: Exception, leases: AbstractSet[Lease]) -> None:
        """Raises where another worker has this one's identity.

        Raises:
            Fatal: That is so.
        """
        fenced = fence_of(error, self._writer.producer)
        if fenced is None:
            return
        by_instance = isinstance(fenced, kafka.errors.FencedInstanceIdError)
        if by_instance and self._membership.ended(leases):
            return  # by this worker's own new consumer
        self._writer.discard(timeout=1.0, force=True)
        time.sleep(FENCED_PAUSE)
        raise Fatal(
            f"fenced ({type(fenced).__name__}): another worker uses the replica identity "
            f"{self._replica_id}, or this one stood still for too long; kafka.replica_id (the "
            "host name by default) must be its own for every worker; nothing is lost"
        ) from error

    def _leases(self) -> set[Lease]:
        return {output.record.lease for output in self._pending} | self._positions.keys()


def _reached(outputs: Iterable[Output], positions: dict[Lease, int]) -> dict[Lease, int]:
    """The offset to commit for each lease."""
    reached = dict(positions)
    for output in outputs:
        record = output.record
        reached[record.lease] = max(reached.get(record.lease, 0), record.offset + 1)
    return reached
