"""What the integration tests need of Kafka, over plain functions that leave nothing open.

Not the worker's own adapters: a test that shares them with the worker would share their faults.
"""

import contextlib
import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from kafka.protocol.consumer import IsolationLevel
from kafka.serializer import Serializer

T = TypeVar("T")

_CLIENT = {"reconnect_backoff_max_ms": 1000}  # the default of 30 s outlives a test's deadline
_NOT_YET = (CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError)
_IN_FLIGHT = 10_000  # records; the producer itself bounds nothing
MARKERS_SECONDS = 5.0
ASK_AGAIN, SELDOM = 4, 0.5
"""A wait does nothing for so many times as long as its question took; at most so many seconds."""
_ISOLATION = {
    "read_uncommitted": IsolationLevel.READ_UNCOMMITTED,
    "read_committed": IsolationLevel.READ_COMMITTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A record to produce; nulls are real ones, in headers too."""

    value: bytes | None = None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int | None = None
    """In ms; None for the present."""
    partition: int | None = None


def wait_until(
    predicate: Callable[[], T], timeout: float = 30.0, message: str = "", every: float = 0.05
) -> T:
    """The predicate's first true value; fails with the message and its last value.

    A predicate that takes long is asked more rarely than `every` so many seconds: the questions
    of the suite's tests would else be a good part of what it takes of the processor.
    """
    deadline = time.monotonic() + timeout
    while True:
        asked = time.monotonic()
        value = predicate()
        if value:
            return value
        now = time.monotonic()
        if now > deadline:
            what = message or getattr(predicate, "__name__", "condition")
            raise AssertionError(f"{what}: not within {timeout:g} s; last: {value!r}")
        time.sleep(max(every, min(ASK_AGAIN * (now - asked), SELDOM)) if every else 0)


@contextlib.contextmanager
def admin(bootstrap: str) -> Iterator[Any]:
    client = KafkaAdminClient(bootstrap_servers=bootstrap, **_CLIENT)
    try:
        yield client
    finally:
        client.close()


def create_topic(
    bootstrap: str,
    name: str,
    partitions: int = 1,
    *,
    config: Mapping[str, str] | None = None,
    replicas: int = -1,
    assignment: Mapping[int, list[int]] | None = None,
) -> str:
    """Create it and wait until every partition has a leader.

    `assignment` names the brokers of each partition, its preferred leader first; partitions
    and replicas then follow from it. `replicas=-1` takes the broker's default.
    """
    layout: dict[str, Any] = {"num_partitions": partitions, "replication_factor": replicas}
    if assignment:
        layout = {"assignments": dict(assignment)}
    with admin(bootstrap) as client:
        # The client asks again where an answer is late, and the first request has made it.
        with contextlib.suppress(TopicAlreadyExistsError):
            client.create_topics({name: {**layout, "configs": dict(config or {})}})
        client.wait_for_topics([name])
    return name


def delete_topic(bootstrap: str, name: str) -> None:
    with admin(bootstrap) as client:
        client.delete_topics([name])
        wait_until(lambda: name not in client.list_topics(), message=f"deletion of {name}")


def delete_records(bootstrap: str, topic: str, before: int, partition: int = 0) -> None:
    """As retention does: the log begins at `before` from now on."""
    with admin(bootstrap) as client:
        client.delete_records({TopicPartition(topic, partition): before})


def add_partitions(bootstrap: str, topic: str, total: int) -> None:
    with admin(bootstrap) as client:
        client.create_partitions({topic: total})
        wait_until(lambda: len(_partitions(client, topic)) == total, message=f"{total} partitions")
        client.wait_for_topics([topic])


def _partitions(client: Any, topic: str) -> list[TopicPartition]:
    # By the admin client: a consumer or producer that asks would create the topic.
    (found,) = client.describe_topics([topic])
    if found["error_code"]:
        raise UnknownTopicOrPartitionError(topic)
    return sorted(TopicPartition(topic, p["partition_index"]) for p in found["partitions"])


def end_offsets(
    bootstrap: str, topic: str, isolation: str = "read_uncommitted"
) -> dict[TopicPartition, int]:
    """Where the next record goes; with `read_committed`, where the first open transaction is."""
    with admin(bootstrap) as client:
        return _offsets(client, topic, OffsetSpec.LATEST, isolation)


def _offsets(
    client: Any, topic: str, spec: OffsetSpec, isolation: str
) -> dict[TopicPartition, int]:
    specs = dict.fromkeys(_partitions(client, topic), spec)
    found = client.list_partition_offsets(specs, isolation_level=_ISOLATION[isolation])
    return {partition: at.offset for partition, at in found.items()}


def committed(bootstrap: str, group: str) -> dict[TopicPartition, int]:
    with admin(bootstrap) as client:

        def ask() -> list[Any]:
            try:
                return [client.list_group_offsets({group: None})[group]]
            except _NOT_YET:  # the first question creates the topic that holds the answer
                return []

        (found,) = wait_until(ask, message=f"the coordinator of {group}")
    return {partition: at.offset for partition, at in found.items() if at.offset >= 0}


def read_all(
    bootstrap: str, topic: str, isolation: str = "read_uncommitted", timeout: float = 60.0
) -> list[Any]:
    """The consumer records from the beginning to the end of now, by partition and offset.

    With `read_committed` it waits some seconds for open transactions: the broker answers a commit
    before its marker is in each partition, and what is behind one that lacks it is not seen.
    """
    with admin(bootstrap) as client:
        ends = _offsets(client, topic, OffsetSpec.LATEST, isolation)
        patience = time.monotonic() + MARKERS_SECONDS
        while (
            isolation == "read_committed"
            and time.monotonic() < patience
            and ends != _offsets(client, topic, OffsetSpec.LATEST, "read_uncommitted")
        ):
            time.sleep(0.05)
            ends = _offsets(client, topic, OffsetSpec.LATEST, isolation)
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
        fetch_max_bytes=16 << 20,
        **_CLIENT,
    )
    records: list[Any] = []
    try:
        consumer.assign(list(ends))
        consumer.seek_to_beginning(*ends)
        deadline = time.monotonic() + timeout
        # By position, which passes compaction's holes and transaction markers; counting
        # records would wait for ever for what is not there.
        while behind := [p for p, end in ends.items() if consumer.position(p) < end]:
            if time.monotonic() > deadline:
                raise AssertionError(f"{topic}: {len(records)} records, still behind: {behind}")
            for fetched in consumer.poll(timeout_ms=200).values():
                records += fetched
    finally:
        consumer.close()
    within = (r for r in records if r.offset < ends[TopicPartition(topic, r.partition)])
    return sorted(within, key=lambda r: (r.partition, r.offset))


def produce(
    bootstrap: str, topic: str, records: Iterable[Message | bytes | str], **config: Any
) -> list[Any]:
    """Send and wait until each is acknowledged; returns their metadata, in order.

    Text or bytes stand for a record of that value. `config` goes to the producer. The topic
    is created by the broker if it does not exist and the broker is set so.
    """
    with _producer(bootstrap, **config) as producer:
        return _send(producer, topic, records)


def produce_transaction(
    bootstrap: str,
    topic: str,
    records: Iterable[Message | bytes | str],
    *,
    commit: bool = True,
) -> list[Any]:
    """Send in one transaction, in the log in either case, and commit or abort it.

    Returns when `read_committed` readers get past it: the markers are written after the
    producer's call returns.
    """
    with _producer(bootstrap, transactional_id=f"helper-{uuid.uuid4().hex}") as producer:
        producer.init_transactions()
        producer.begin_transaction()
        sent = _send(producer, topic, records)
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    last = {TopicPartition(topic, each.partition): each.offset for each in sent}

    def passed() -> bool:
        stable = end_offsets(bootstrap, topic, "read_committed")
        return all(stable[partition] > offset for partition, offset in last.items())

    wait_until(passed, message=f"transaction markers on {topic} (another one open?)")
    return sent


COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.001",
    "delete.retention.ms": "0",
}


def compact_now(
    bootstrap: str, topic: str, records: Iterable[Message], timeout: float = 90.0
) -> list[Any]:
    """A new topic of one partition that has been compacted; returns what is left in it.

    The last record opens the segment that compaction leaves alone, so of the others the last
    of each key stays, and there must be something to remove. The broker looks every
    `log.cleaner.backoff.ms`: 15 s by default.
    """
    *older, newest = records
    offset_of_key = {message.key: offset for offset, message in enumerate(older)}
    expected = [*sorted(offset_of_key.values()), len(older)]
    if len(expected) > len(older):
        raise ValueError("no key is repeated before the last record: there is nothing to compact")
    create_topic(bootstrap, topic, config=COMPACTED)
    produce(bootstrap, topic, older)
    time.sleep(0.2)  # past segment.ms, in the records' own time: there is nothing to wait for
    produce(bootstrap, topic, [newest])
    left: list[Any] = []

    def compacted() -> bool:
        left[:] = read_all(bootstrap, topic)
        return [record.offset for record in left] == expected

    wait_until(compacted, timeout, f"compaction of {topic} to offsets {expected}", every=0.5)
    return left


_NULL = b"a null key: the client refuses a null key with a null value, but not one that turns null"


class _Headers(list[tuple[str, bytes | None]]):
    """Headers with nulls, past a client that can write them and refuses to.

    `send` checks for bytes first and serializes the key next, which puts the nulls in; what
    would then measure a null is skipped for headers that are false.
    """

    def __init__(self, headers: Iterable[tuple[str, bytes | None]]) -> None:
        self.real = list(headers)
        super().__init__((name, value or b"") for name, value in self.real)

    def __bool__(self) -> bool:
        return False


class _Keys(Serializer):  # type: ignore[misc]
    def serialize(self, _topic: str, headers: Any, data: bytes | None) -> bytes | None:
        if isinstance(headers, _Headers):
            headers[:] = headers.real
        return None if data == _NULL else data


@contextlib.contextmanager
def _producer(bootstrap: str, **config: Any) -> Iterator[Any]:
    defaults = {
        "enable_idempotence": True,
        "linger_ms": 5,
        "batch_size": 256 << 10,
        "max_request_size": 16 << 20,
        "key_serializer": _Keys(),
    }
    producer = KafkaProducer(bootstrap_servers=bootstrap, **_CLIENT, **{**defaults, **config})
    try:
        yield producer
    except BaseException:
        # A refused record poisons it: an ordinary close would raise again and hide the cause.
        producer._sender.force_close()
        producer.close(timeout=5)
        raise
    producer.close(timeout=30)


def _send(producer: Any, topic: str, records: Iterable[Message | bytes | str]) -> list[Any]:
    sent = []
    remaining = iter(records)
    while batch := list(itertools.islice(remaining, _IN_FLIGHT)):
        futures = [_send_one(producer, topic, record) for record in batch]
        producer.flush(60)
        sent += [future.get(timeout=60) for future in futures]  # flush tells of no failure
    return sent


def _send_one(producer: Any, topic: str, record: Message | bytes | str) -> Any:
    if isinstance(record, str):
        record = record.encode()
    if isinstance(record, bytes):
        record = Message(value=record)
    null = record.key is None and record.value is None
    return producer.send(
        topic,
        value=record.value,
        key=_NULL if null else record.key,
        headers=_Headers(record.headers),
        partition=record.partition,
        timestamp_ms=record.timestamp,
    )
