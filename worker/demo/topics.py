"""The demo's three topics on the cluster: their names, how they are made and deleted."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import kafka.errors

from worker.errors import Fatal, Transient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kafka import KafkaProducer

    from worker.kafka.cluster.clients import Connection

PARTITIONS = 4
"""Of each topic."""
SENT, PHASE = "sent-ms", "phase"
"""Headers of a message: when it was handed to the producer, in Unix ms, and in which phase. The
worker copies headers to the output, which so carries both."""
LINGER_MS = 25
"""How long the producer waits for messages to share a request. With 5 ms a steady stream makes some
170 requests a second, and as many fetches: on two cores sender, broker and the worker's client take
so much from the model that latency at half of the capacity is 843 ms (p50) and 2,265 ms (p99), in
place of 232 and 472 ms."""
_SETTINGS = {
    # Retention goes by the records' timestamps: the broker's clock sets them, not the sender's.
    "message.timestamp.type": "LogAppendTime",
    # `--forever` must not fill the disk: each partition keeps its last 16 to 24 MiB.
    "retention.ms": "-1",
    "retention.bytes": str(16 << 20),
    "segment.bytes": str(8 << 20),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTopics:
    """Names of the three topics, and of the group that reads the input."""

    input: str
    output: str
    dlq: str
    group: str

    @classmethod
    def named(cls, *, shared: bool) -> DemoTopics:
        """The plain names; with a random prefix where others share the cluster."""
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
    """Checks that the cluster answers.

    Raises:
        Fatal: It does not.
    """
    with admin(link):
        pass


def create(link: Connection, topics: DemoTopics) -> None:
    """Creates the topics; returns when each partition has a leader.

    Raises:
        Fatal: The cluster does not answer, or refuses.
    """
    layout = {"num_partitions": PARTITIONS, "replication_factor": -1, "configs": _SETTINGS}
    with admin(link) as client:
        client.create_topics(dict.fromkeys(topics.all(), layout))
        client.wait_for_topics(topics.all())


def delete(link: Connection, topics: DemoTopics) -> None:
    """Deletes the topics and the group; what does not exist is passed over.

    Raises:
        Fatal: The cluster does not answer.
    """
    with admin(link) as client:
        client.delete_topics(topics.all(), raise_errors=False)
        # A group that stays is empty, and expires soon.
        with contextlib.suppress(kafka.errors.KafkaError):
            client.delete_groups([topics.group])


def producer(link: Connection) -> KafkaProducer:
    """An idempotent producer: it loses and doubles nothing.

    Raises:
        Fatal: The cluster does not answer.
    """
    try:
        return link.producer(acks="all", enable_idempotence=True, linger_ms=LINGER_MS)
    except Transient as error:
        raise Fatal(str(error)) from error


@contextlib.contextmanager
def admin(link: Connection) -> Iterator[Any]:
    """An admin client for the length of the block.

    Raises:
        Fatal: The cluster does not answer, or refuses what the block asks for.
    """
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
