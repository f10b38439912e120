"""Reads a topic up to an end, for a redrive. One thread at a time calls it.

The group has no members: the consumer here takes its partitions by itself, and only the
committed offsets are the group's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kafka.errors
import structlog
from kafka import TopicPartition

from worker import awake
from worker.errors import Fatal, Transient
from worker.kafka.consume import poll_errors
from worker.kafka.consume.portion import Portion
from worker.records import Lease, Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kafka import KafkaConsumer

    from worker.kafka.cluster.clients import Connection
    from worker.kafka.cluster.topics import Topic

log = structlog.get_logger(__name__)

STALL_SECONDS = 30.0
"""Without any progress for so long the consumer is replaced: the client can forget a fetch that
failed while it was sent, and then waits for ever."""
COMMITTED_MS = 5_000
"""Longest wait for one committed offset: brokers withhold it while a transaction may move it."""


class BoundedReader:
    """Reads every partition of a topic once, from given offsets up to an end.

    Args:
        connection: How to reach the cluster.
        topic: The topic.
        group_id: The group whose committed offsets say what was settled before.
        fetch_max_bytes: Most bytes of one fetch.
        outage_limit: Seconds without progress after which `Fatal` is raised.

    Raises:
        Transient: No broker answers.
    """

    def __init__(
        self,
        *,
        connection: Connection,
        topic: Topic,
        group_id: str,
        fetch_max_bytes: int,
        outage_limit: float,
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._options: dict[str, Any] = {
            "group_id": group_id,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            "fetch_max_wait_ms": 50,
            "fetch_max_bytes": fetch_max_bytes,
            "metrics_enabled": False,
        }
        self._outage_limit = outage_limit
        self._positions: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._progress = self._replaced = awake.now()
        self._take(self._connected())

    def committed(self) -> dict[int, int]:
        """The group's offsets; partitions without one are left out.

        Read with `read_committed`: an offset that an open transaction may move is waited for.

        Raises:
            Transient: The offsets are not known yet.
            Fatal: This client may not read them.
        """
        found = {}
        for number in range(self._topic.partitions):
            try:
                offset = self._consumer.committed(
                    TopicPartition(self._topic.name, number), timeout_ms=COMMITTED_MS
                )
            except kafka.errors.AuthorizationError as error:
                raise Fatal(f"group {self._group_id} may not be read: add an ACL") from error
            except kafka.errors.KafkaError as error:
                name = type(error).__name__
                raise Transient(f"the offsets of group {self._group_id}: {name}") from error
            if offset is not None:
                found[number] = offset
        return found

    def begin(self, *, starts: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """Begins to read each partition, from its start to its end."""
        self._ends = {number: end for number, end in ends.items() if starts[number] < end}
        self._positions = {number: starts[number] for number in self._ends}
        self._progress = awake.now()
        self._assign(self._ends)

    @property
    def done(self) -> bool:
        """Whether everything up to the end was read."""
        return all(self._positions[number] >= end for number, end in self._ends.items())

    @property
    def left(self) -> int:
        """Offsets that are still to be read, transaction markers among them."""
        return sum(end - self._positions[number] for number, end in self._ends.items())

    @property
    def positions(self) -> dict[int, int]:
        """Offset of the next record of each partition: past markers, at most the end."""
        return dict(self._positions)

    def poll(self, *, timeout: float, max_records: int, max_bytes: int) -> list[Record]:
        """The next records in each partition's order; waits up to `timeout` seconds.

        Args:
            timeout: Seconds.
            max_records: How many at most.
            max_bytes: Bytes of their keys, values and headers at most, and one record more.

        Raises:
            Fatal: A record cannot be read, or nothing could be read for too long.
        """
        if not self._consumer.assignment():
            return []
        try:
            self._portion.allow(max_bytes)
            polled = self._consumer.poll(timeout_ms=int(timeout * 1_000), max_records=max_records)
        except kafka.errors.RetriableError:
            polled = {}
        except Exception as error:
            # After a codec, CRC or header error the client's next poll() spins for ever.
            raise Fatal(self._explained(error)) from error
        records = [
            Record(
                self._topic.name, Lease(raw.partition, 0), raw.offset, raw.timestamp, raw.key,
                raw.value, tuple(raw.headers), 0.0,
            )
            for batch in polled.values()
            for raw in batch
            if self._positions[raw.partition] <= raw.offset < self._ends[raw.partition]
        ]  # fmt: skip
        self._advance()
        return records

    def close(self) -> None:
        """Closes the consumer."""
        try:
            self._consumer.close(autocommit=False, timeout_ms=1_000)
        except kafka.errors.KafkaError as error:
            log.debug("consumer_close_failed", error=type(error).__name__)

    def _advance(self) -> None:
        moved = False
        for partition in self._consumer.assignment() - self._consumer.paused():
            number, end = partition.partition, self._ends[partition.partition]
            try:
                position = self._consumer.position(partition, timeout_ms=0)
            except kafka.errors.KafkaError:
                continue
            if position is None:
                continue
            moved = moved or position > self._positions[number]
            self._positions[number] = max(self._positions[number], min(position, end))
            if position >= end:
                self._consumer.pause(partition)
        now = awake.now()
        if moved or self.done:
            self._progress = self._replaced = now
        elif now - self._progress > self._outage_limit:
            raise Fatal(
                f"nothing could be read from {self._topic.name} for {now - self._progress:.0f} s "
                "(kafka.outage_limit)"
            )
        elif now - self._replaced > STALL_SECONDS:
            self._replaced = now
            self._replace()

    def _replace(self) -> None:
        try:
            consumer = self._connected()
        except Transient as error:
            log.info("no_new_consumer", error=str(error))
            return  # the old one goes on, until the outage limit
        self.close()
        self._take(consumer)
        self._assign(
            {n: end for n, end in self._ends.items() if self._positions[n] < end},
        )

    def _assign(self, ends: Mapping[int, int]) -> None:
        self._consumer.assign([TopicPartition(self._topic.name, number) for number in ends])
        for number in ends:
            self._consumer.seek(TopicPartition(self._topic.name, number), self._positions[number])

    def _take(self, consumer: KafkaConsumer) -> None:
        self._consumer, self._portion = consumer, Portion(consumer)

    def _connected(self) -> KafkaConsumer:
        return self._connection.consumer(**self._options)

    @property
    def _group_id(self) -> str:
        return str(self._options["group_id"])

    def _explained(self, error: Exception) -> str:
        unread = {n: at for n, at in self._positions.items() if at < self._ends[n]}
        line = poll_errors.line(error, topic=self._topic.name, positions=unread)
        return f"{line}; the group is {self._group_id}" if poll_errors.of_a_record(error) else line
