"""Reads the demo's three topics from their beginning into the ledger."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import kafka.errors
import orjson
from kafka import TopicPartition
from kafka.admin import OffsetSpec

from worker.demo.matching import Position
from worker.demo.topics import PARTITIONS, PHASE, SENT, admin
from worker.errors import Fatal, Transient

if TYPE_CHECKING:
    from kafka import KafkaConsumer

    from worker.demo.ledger import Ledger
    from worker.demo.topics import DemoTopics
    from worker.kafka.cluster.clients import Connection


class Reader:
    """A consumer of all partitions of the three topics, without a group. Owned by the main thread.

    It reads only what is committed, as a careful consumer of the user's would.

    Args:
        link: Makes the consumer.
        topics: What it reads.
        ledger: Gets every record.

    Raises:
        Fatal: The cluster does not answer.
    """

    def __init__(self, *, link: Connection, topics: DemoTopics, ledger: Ledger) -> None:
        self._topics = topics
        self._ledger = ledger
        self._partitions = [
            TopicPartition(topic, number) for topic in topics.all() for number in range(PARTITIONS)
        ]
        self._link = link
        try:
            self._consumer: KafkaConsumer = link.consumer(
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                fetch_max_wait_ms=50,
                fetch_max_bytes=8 << 20,
                max_poll_records=2_000,
            )
        except Transient as error:
            raise Fatal(str(error)) from error
        self._consumer.assign(self._partitions)
        self._consumer.seek_to_beginning(*self._partitions)

    def read(self, seconds: float) -> int:
        """Waits at most so long for records, and enters them; returns how many came.

        Raises:
            Fatal: The topics cannot be read.
        """
        try:
            fetched = self._consumer.poll(timeout_ms=int(seconds * 1_000))
        except kafka.errors.KafkaError as error:
            raise Fatal(f"the demo's topics cannot be read: {error}") from error
        now_ms = time.time_ns() // 1_000_000
        for partition, records in fetched.items():
            for record in records:
                self._enter(partition.topic, record, now_ms)
        return sum(map(len, fetched.values()))

    def behind(self) -> bool:
        """Whether the topics hold more than was read.

        Raises:
            Fatal: The cluster does not answer.
        """
        with admin(self._link) as client:
            ends = client.list_partition_offsets(dict.fromkeys(self._partitions, OffsetSpec.LATEST))
        return any(self._consumer.position(at) < end.offset for at, end in ends.items())

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()

    def _enter(self, topic: str, record: Any, now_ms: int) -> None:
        headers = dict(record.headers)
        if topic == self._topics.input:
            self._ledger.read_input(
                Position(partition=record.partition, offset=record.offset),
                time_ms=int(headers[SENT]),
                phase=headers[PHASE].decode(),
                text=_text(record.value),
            )
        elif topic == self._topics.output:
            value = orjson.loads(record.value)
            source = value["source"]
            self._ledger.read_label(
                Position(partition=source["partition"], offset=source["offset"]),
                time_ms=now_ms,
                identity=value["id"],
                label=value["label"],
                score=value["score"],
                known=value["scores"],
            )
        else:
            self._ledger.read_dead_letter(
                Position(
                    partition=int(headers["dlq.partition"]), offset=int(headers["dlq.offset"])
                ),
                time_ms=now_ms,
                reason=headers["dlq.reason"].decode(),
            )


def _text(value: bytes | None) -> str:
    """The text of an input; the value itself where it has none."""
    raw = (value or b"").decode(errors="replace")
    with contextlib.suppress(orjson.JSONDecodeError):
        found = orjson.loads(value or b"")
        if isinstance(found, dict) and isinstance(found.get("text"), str):
            return str(found["text"])
    return raw
