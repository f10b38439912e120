"""Dead letters moved in transactions: each is put back, or appended again, and settled, at once.

There is one transactional id and one group for a dead-letter topic. A redrive makes its producer
first, which fences the redrive before it and ends that one's last transaction, and only then reads
the group's offsets: so what it finds is final, and nobody else can move them while its producer
lives. Whenever it has to make another producer it looks whether they were moved all the same.

This is why offsets are committed here without a member's proof (the group is empty, and the
broker takes it): the proof is the producer. Membership would prove nothing more, and keep a redrive
that is run again after a kill waiting for the session of the one before.
"""

from __future__ import annotations

import shlex
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

import kafka.errors
import structlog
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from worker.errors import Fatal, Refused, Transient
from worker.kafka.consume.letters import Letters
from worker.kafka.produce.exactly_once import (
    END_SECONDS,
    Transaction,
    fence_of,
    transactional_writer,
)
from worker.kafka.produce.writer import foretold, refusal_of, require_hope
from worker.redrive.decisions import refused, without_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.kafka.cluster.clients import Connection
    from worker.kafka.cluster.topics import Topic, TopicDesk
    from worker.kafka.produce.writer import Refusal, Writer
    from worker.records import Record
    from worker.redrive.decisions import Chooser, Move

log = structlog.get_logger(__name__)

SPAN_RECORDS = 500
"""Dead letters in one transaction: 60 ms of work on two busy cores, 8,000 a second. A kill undoes
that much and no more; a stop waits for it."""
SPAN_BYTES = 8_388_608
"""The same in bytes: far below what a slow broker takes within a transaction's 10 s."""
CAREFUL_RECORDS = 50
"""Dead letters in a transaction that looks, one by one, for a refused one."""
START_SECONDS = 45.0
"""Longest wait for a cluster that is not ready yet, or for offsets that a transaction of
somebody else's holds."""
POLL_SECONDS = 0.2
PAUSE_SECONDS = 0.1
"""Between attempts."""

T = TypeVar("T")


class Redrive:
    """Moves the dead letters that there are at its start. Owned by the main thread.

    Args:
        connection: How to reach the cluster.
        desk: Answers about the topics.
        input_topic: Where dead letters are put back.
        dlq_topic: Where they are, and where those that are left are appended again.
        group_id: The group whose offsets tell what is settled; also the transactional id.
        chooser: Decides over each.
        limit: How many are put back at most; None for all.
        from_oldest: Begin with the oldest where offsets are not known and may be forgotten.
        compression: Codec of batches, or ``none``.
        fetch_max_bytes: Most bytes of one fetch.
        outage_limit: Seconds without any progress after which ``Fatal`` is raised.
        stopping: Whether to end before the next transaction.
        on_moved: Told what a transaction moved, once it is committed.
        on_trouble: Told, in a few words, why a transaction failed.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        desk: TopicDesk,
        input_topic: Topic,
        dlq_topic: Topic,
        group_id: str,
        chooser: Chooser,
        limit: int | None,
        from_oldest: bool,
        compression: str,
        fetch_max_bytes: int,
        outage_limit: float,
        stopping: Callable[[], bool],
        on_moved: Callable[[list[Move]], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._desk = desk
        self._topics = {topic.name: topic for topic in (input_topic, dlq_topic)}
        self._dlq = dlq_topic
        self._group_id = group_id
        self._chooser = chooser
        self._limit = limit
        self._from_oldest = from_oldest
        self._compression = compression
        self._outage_limit = outage_limit
        self._stopping = stopping
        self._on_moved = on_moved
        self._on_trouble = on_trouble
        self._queue: deque[Record] = deque()
        self._committed: dict[int, int] = {}
        self._put_back = 0
        self._writer: Writer | None = None
        self._letters = Letters(
            connection=connection,
            topic=dlq_topic.name,
            partitions=dlq_topic.partitions,
            group_id=group_id,
            fetch_max_bytes=fetch_max_bytes,
            outage_limit=outage_limit,
        )

    @property
    def left(self) -> int:
        """Offsets of the dead-letter topic that are still before it."""
        return self._letters.left + len(self._queue)

    @property
    def done(self) -> bool:
        """Whether nothing is left of what there was at the start."""
        return self._letters.done and not self._queue

    @property
    def limit_reached(self) -> bool:
        """Whether it ends because no more are to be put back."""
        return self._limit is not None and self._put_back >= self._limit

    def open(self, *, preview: bool) -> None:
        """Begins: fences any other redrive, unless it is a preview, and looks what there is to do.

        Raises:
            Transient: No broker answers.
            Fatal: The cluster refuses the identity.
            Refused: The group's offsets are not of this topic, or may be forgotten.
        """
        if not preview:
            self._writer = self._patiently(self._new_writer)
        self._committed = self._patiently(self._letters.committed)
        topic, partitions = self._dlq.name, self._dlq.partitions
        ends = self._desk.end_offsets(topic, partitions)
        beyond = [n for n, offset in self._committed.items() if offset > ends.get(n, 0)]
        if beyond:
            raise Refused(
                f"group {self._group_id} is past the end of {topic} (partition {beyond[0]}): was "
                "the topic deleted and made again? If so, this puts back all that is in it: "
                "kafka-consumer-groups.sh --bootstrap-server "
                f"{shlex.quote(self._connection.bootstrap_servers)} --reset-offsets "
                f"--to-earliest --group {self._group_id} --topic {topic} --execute"
            )
        oldest = self._desk.start_offsets(topic, partitions)
        unknown = {n for n in ends if n not in self._committed and oldest[n] < ends[n]}
        if unknown and not self._from_oldest:
            self._require_young(unknown)
        starts = {n: max(self._committed.get(n, 0), oldest[n]) for n in ends}
        self._letters.begin(starts=starts, ends=ends)

    def _require_young(self, unknown: set[int]) -> None:
        """What is younger than any offset that was forgotten cannot have been settled before.

        Raises:
            Refused: There is something older.
        """
        kept = self._desk.offsets_kept()
        old = unknown & self._desk.begins_before(self._dlq.name, self._dlq.partitions, kept)
        if old:
            raise Refused(
                f"group {self._group_id} has no offset for partition {min(old)} of "
                f"{self._dlq.name}, whose dead letters are older than the cluster remembers "
                f"offsets ({kept / 86_400:.1f} days, offsets.retention.minutes): add --from-oldest "
                "if none of them was put back yet; with --since and the time of the last redrive "
                "if some were"
            )

    def preview(self) -> None:
        """Tells ``on_moved`` what `run` would move, and moves nothing.

        Raises:
            Fatal: The dead letters cannot be read.
        """
        while self._goes_on():
            moves, _ = self._next_span()
            self._count(moves)

    def run(self) -> None:
        """Moves all, up to the limit, or until it is to stop.

        Raises:
            Fatal: Fenced, the outage limit has passed, or nothing can be read or written.
            Transient: It is to stop while the broker is away.
        """
        if self.done and self._committed:
            self._commit([], {}, one_by_one=False)  # or the cluster forgets the offsets
        while self._goes_on():
            moves, reached = self._next_span()
            if not moves and not self._letters.done:
                continue  # nothing but markers yet: their offsets go with the next span
            if reached and not self._commit(moves, reached, one_by_one=False):
                self._commit_carefully(moves, reached)

    def close(self) -> None:
        """Ends the clients; an open transaction is left to the broker, or to the next redrive."""
        self._letters.close()
        if self._writer is not None:
            self._writer.discard(timeout=1.0, force=True)

    def _goes_on(self) -> bool:
        return not (self.done or self.limit_reached or self._stopping())

    def _next_span(self) -> tuple[list[Move], dict[int, int]]:
        """What goes into one transaction: moves, and the offset that each partition reaches."""
        if not self._queue:
            self._queue.extend(self._letters.poll(timeout=POLL_SECONDS, max_records=SPAN_RECORDS))
        room = None if self._limit is None else self._limit - self._put_back
        moves: list[Move] = []
        size = again = 0
        while self._queue and size < SPAN_BYTES and again != room:
            letter = self._queue.popleft()
            moves.append(self._decided(letter))
            size += letter.size
            again += moves[-1].fate == "again"
        reached = _reached(moves)
        if not self._queue:
            # Past markers; never back, where a position is not known for a moment.
            for number, position in self._letters.positions.items():
                reached[number] = max(position, reached.get(number, 0))
        return moves, {n: at for n, at in reached.items() if at > self._committed.get(n, 0)}

    def _decided(self, letter: Record) -> Move:
        move = self._chooser.choose(letter)
        certain = foretold(self._topics[move.topic], move)
        return move if certain is None else self._instead(move, certain)

    def _instead(self, move: Move, refusal: Refusal) -> Move:
        """The move in place of one that its topic refuses.

        Raises:
            Fatal: The dead-letter topic does not take back what it has given.
        """
        if refusal == "timestamp" and move.timestamp is not None:
            return without_time(move)
        if move.fate == "again":
            return refused(move)
        letter = move.letter
        raise Fatal(
            f"{self._dlq.name} does not take back its own record of partition "
            f"{letter.lease.partition} offset {letter.offset} ({refusal}): is its "
            "max.message.bytes lower than it was? Nothing is lost: the record is still there"
        )

    def _commit_carefully(self, moves: list[Move], reached: dict[int, int]) -> None:
        """The span in small transactions, which look for the record that is refused."""
        for at in range(0, len(moves), CAREFUL_RECORDS):
            piece = moves[at : at + CAREFUL_RECORDS]
            last = at + CAREFUL_RECORDS >= len(moves)
            upto = reached if last else _reached(piece)
            while not self._commit(piece, upto, one_by_one=True):
                pass  # one of the piece was replaced

    def _commit(self, moves: list[Move], reached: dict[int, int], *, one_by_one: bool) -> bool:
        """Moves, and settles their offsets. False where a topic refuses one of them."""
        writer = self._writer_in_use()
        while True:
            transaction = None
            try:
                transaction = Transaction(writer.ready())
                if one_by_one:
                    self._send_one_by_one(transaction, moves)
                else:
                    transaction.send_together(moves)
                # All, not only what moves: the cluster forgets offsets that nobody renews.
                transaction.commit(self._structs(self._committed | reached), self._group_id)
            except (kafka.errors.KafkaError, ValueError) as error:
                asked = transaction is not None and transaction.commit_asked
                if self._happened(error, reached if asked else {}):
                    break
                if refusal_of(error) is not None:
                    return False
            else:
                break
        writer.succeeded()
        self._committed |= reached
        self._count(moves)
        return True

    def _send_one_by_one(self, transaction: Transaction, moves: list[Move]) -> None:
        for at, move in enumerate(moves):
            try:
                transaction.send_alone(move)
            except kafka.errors.KafkaError as error:
                refusal = refusal_of(error)
                if refusal is not None:
                    moves[at] = self._instead(move, refusal)
                raise

    def _happened(self, error: Exception, reached: dict[int, int]) -> bool:
        """After a failure: another producer, and whether the transaction was committed after all.

        Args:
            error: The failure.
            reached: What was to be committed; empty where the commit was not asked for.

        Raises:
            Fatal: Another redrive has taken over, or a new producer does not help.
            Transient: It is to stop while the broker is away.
        """
        name = type(error).__name__
        log.info("transaction_failed", error=name, detail=str(error)[:200], asked=bool(reached))
        writer = self._writer_in_use()
        if fence_of(error, writer.producer) is not None:
            raise Fatal(self._taken_over(name)) from error
        require_hope(error)
        if refusal_of(error) is None:
            self._on_trouble(name)
        writer.discard(timeout=END_SECONDS, force=True)
        writer.check_outage()
        time.sleep(PAUSE_SECONDS)
        writer.ready()  # settles the old transaction, one way or the other
        committed = self._settled(writer)
        if committed == self._committed:
            return False
        if reached and committed == self._committed | reached:
            return True
        raise Fatal(self._taken_over("offsets moved"))

    def _settled(self, writer: Writer) -> dict[int, int]:
        while True:
            try:
                return self._letters.committed()
            except Transient:
                writer.check_outage()
                time.sleep(PAUSE_SECONDS)

    def _taken_over(self, how: str) -> str:
        return (
            f"another redrive of {self._dlq.name} has taken over, or this one stood still for too "
            f"long ({how}): nothing is lost, nothing was put back twice; let the other one end, "
            "or run it again"
        )

    def _count(self, moves: list[Move]) -> None:
        self._put_back += sum(move.fate == "again" for move in moves)
        self._on_moved(moves)

    def _structs(self, offsets: dict[int, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {
            TopicPartition(self._dlq.name, number): OffsetAndMetadata(offset, "", -1)
            for number, offset in offsets.items()
        }

    def _writer_in_use(self) -> Writer:
        if self._writer is None:
            raise RuntimeError("a preview writes nothing")
        return self._writer

    def _new_writer(self) -> Writer:
        return transactional_writer(
            connection=self._connection,
            topics=self._topics,
            compression=self._compression,
            outage_limit=self._outage_limit,
            stopping=self._stopping,
            transactional_id=self._group_id,
        )

    def _patiently(self, ask: Callable[[], T]) -> T:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                return ask()
            except Transient:
                if self._stopping() or time.monotonic() > end:
                    raise
                time.sleep(PAUSE_SECONDS)


def _reached(moves: list[Move]) -> dict[int, int]:
    """The offset to commit for each partition."""
    return {move.letter.lease.partition: move.letter.offset + 1 for move in moves}
