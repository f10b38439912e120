"""The demo's three topics: made, read to their end, deleted."""

from __future__ import annotations

import contextlib
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import kafka.errors
import orjson
from kafka import TopicPartition
from kafka.admin import OffsetSpec

from worker.demo.ledger import Position
from worker.errors import Fatal, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kafka import KafkaConsumer, KafkaProducer

    from worker.demo.ledger import Ledger
    from worker.kafka.cluster.clients import Connection

PARTITIONS = 4
SENT, PHASE = "sent-ms", "phase"
"""Headers of a message: when it was handed to the producer, and in which phase. The worker copies
headers, so that an output says both of its input."""
LINGER_MS = 25
"""For messages to share a request. With 5 ms a steady stream is some 170 requests a second, and as
many fetches: on two cores source, broker and worker's client take so much from the model that half
of what it can label takes 843 ms (p50) and 2,265 ms (p99), in place of 232 and 472 ms."""
_SETTINGS = {
    # The times are then present ones, whatever a clock says: retention goes by them.
    "message.timestamp.type": "LogAppendTime",
    # `--forever` must not fill the disk: of each partition the last 16 to 24 MiB stay.
    "retention.ms": "-1",
    "retention.bytes": str(16 << 20),
    "segment.bytes": str(8 << 20),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTopics:
    """Names on the cluster, and the group that reads the input."""

    input: str
    output: str
    dlq: str
    group: str

    @classmethod
    def named(cls, *, shared: bool) -> DemoTopics:
        """The plain names, or ones that no other has where others share the cluster."""
        prefix = f"emotion-demo-{uuid.uuid4().hex[:8]}." if shared else ""
        return cls(
            input=f"{prefix}tweets",
            output=f"{prefix}emotions",
            dlq=f"{prefix}tweets.dlq",
            group=f"{prefix}emotion-worker",
        )

    def all(self) -> list[str]:
        """The three topics."""
        return [self.input, self.output, self.dlq]


def reach(link: Connection) -> None:
    """Makes sure of the cluster.

    Raises:
        Fatal: It does not answer.
    """
    with _admin(link):
        pass


def create(link: Connection, topics: DemoTopics) -> None:
    """Makes the topics; returns when each partition has a leader.

    Raises:
        Fatal: The cluster does not answer, or refuses.
    """
    layout = {"num_partitions": PARTITIONS, "replication_factor": -1, "configs": _SETTINGS}
    with _admin(link) as admin:
        admin.create_topics(dict.fromkeys(topics.all(), layout))
        admin.wait_for_topics(topics.all())


def delete(link: Connection, topics: DemoTopics) -> None:
    """Deletes the topics and the group, those that there are.

    Raises:
        Fatal: The cluster does not answer.
    """
    with _admin(link) as admin:
        admin.delete_topics(topics.all(), raise_errors=False)
        with contextlib.suppress(kafka.errors.KafkaError):  # empty, and soon expired, at worst
            admin.delete_groups([topics.group])


def producer(link: Connection) -> KafkaProducer:
    """A producer that loses and doubles nothing.

    Raises:
        Fatal: The cluster does not answer.
    """
    try:
        return link.producer(acks="all", enable_idempotence=True, linger_ms=LINGER_MS)
    except Transient as error:
        raise Fatal(str(error)) from error


class Reader:
    """Reads the three topics from their beginning into a ledger. Owned by the main thread.

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
        """Waits so long for records at most; returns how many came.

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
        """Whether there is more in the topics than was read.

        Raises:
            Fatal: The cluster does not answer.
        """
        with _admin(self._link) as admin:
            ends = admin.list_partition_offsets(dict.fromkeys(self._partitions, OffsetSpec.LATEST))
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


@contextlib.contextmanager
def _admin(link: Connection) -> Iterator[Any]:
    try:
        client = link.admin()
    except Transient as error:
        raise Fatal(str(error)) from error
    try:
        yield client
    except kafka.errors.KafkaError as error:
        raise Fatal(f"the cluster does not do as asked: {error}") from error
    finally:
        client.close()


def _text(value: bytes | None) -> str:
    """What to show of an input: its text, or where there is none the value itself."""
    raw = (value or b"").decode(errors="replace")
    with contextlib.suppress(orjson.JSONDecodeError):
        found = orjson.loads(value or b"")
        if isinstance(found, dict) and isinstance(found.get("text"), str):
            return str(found["text"])
    return raw
