"""The short way to the producer beside its `send`: on a real broker, with the real client."""

import inspect
import uuid

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.producer.record_accumulator import RecordAccumulator

from tests.support.fakes import record
from tests.support.kafka_helpers import create_topic, read_all
from worker.kafka.produce.appender import Appender, KeyHashes, NullableKey
from worker.records import Output

pytestmark = pytest.mark.kafka

PARTITIONS = 5


def outputs(topic):
    """Of every kind that the worker makes."""
    kinds = [
        {"key": b"k%d" % number, "value": b"v%d" % number, "timestamp": 1_000_000 + number}
        for number in range(300)
    ]
    kinds += [
        {"key": None, "value": b"placed", "partition": 3},
        {"key": None, "value": None, "partition": 2},
        {"key": b"", "value": b"empty key"},
        {"key": b"tombstone", "value": None},
        {"key": b"x" * 10_000, "value": b"long key"},
        {"key": b"big", "value": b"v" * 300_000},
        {"key": b"empty value", "value": b""},
        {"key": b"h", "value": b"headers", "headers": [("é", b"\xff"), ("a", b""), ("a", b"2")]},
    ]
    common = {"record": record(), "kind": "labelled", "topic": topic, "partition": None}
    return [
        Output(**{**common, "headers": [], "timestamp": 1_700_000_000_000, **kind})
        for kind in kinds
    ]


def seen(kafka, topic):
    return sorted(
        (one.partition, one.offset, one.timestamp, one.key, one.value, tuple(one.headers))
        for one in read_all(kafka, topic, isolation="read_committed")
    )


@pytest.mark.parametrize("transactional", [False, True], ids=["idempotent", "transactional"])
def test_both_ways_write_the_same_records(kafka, transactional):
    topics = [f"appended-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    written = []
    for topic, short in zip(topics, (False, True), strict=True):
        create_topic(kafka, topic, PARTITIONS)
        options = {"transactional_id": topic} if transactional else {}
        producer = KafkaProducer(
            bootstrap_servers=kafka, key_serializer=NullableKey(),
            compression_type="lz4", linger_ms=5, **options,
        )  # fmt: skip
        appender, calls, send = Appender(producer, KeyHashes()), [], producer.send
        producer.send = lambda *args, calls=calls, send=send, **kwargs: (
            calls.append(args),
            send(*args, **kwargs),
        )[1]
        producer.partitions_for(topic)  # else the first goes through `send`
        if transactional:
            producer.init_transactions()
            appender.begin_transaction()
        if short:
            futures = [appender.send(output) for output in outputs(topic)]
        else:
            futures = [appender._send(output) for output in outputs(topic)]
        assert len(calls) == (2 if short else len(futures))  # those without a value
        producer.flush(timeout=30)
        assert all(future.succeeded() for future in futures)
        if transactional:
            producer.commit_transaction()
        producer.close()
        written.append(seen(kafka, topic))
    assert len(written[0]) == len(outputs(""))
    assert written[0] == written[1]


def test_what_is_relied_on_is_there(kafka):
    """Of kafka-python 3.0.12: a new release has to be read again where this fails."""
    names = ["self", "tp", "timestamp_ms", "key", "value", "headers", "now", "abort_on_new_batch"]
    assert list(inspect.signature(RecordAccumulator.append).parameters) == names
    topic = f"pinned-{uuid.uuid4().hex[:8]}"
    create_topic(kafka, topic, 2)
    producer = KafkaProducer(bootstrap_servers=kafka, transactional_id=topic)
    try:
        assert producer._metadata._partitions.get(topic) is None
        assert producer.partitions_for(topic) == {0, 1}
        before = producer._metadata._partitions[topic]
        assert set(before) == {0, 1}
        create_topic(kafka, f"{topic}-more", 1)
        producer.partitions_for(f"{topic}-more")
        assert producer._metadata._partitions[topic] is not before, "an update replaces it"
        manager = producer._transaction_manager
        assert (manager.is_transactional(), manager.has_error()) == (True, False)
        producer.init_transactions()
        producer.begin_transaction()
        place = TopicPartition(topic, 0)
        manager.maybe_add_partition_to_transaction(place)
        assert manager.is_partition_pending_add(place)
        answer = producer._accumulator.append(place, None, b"k", b"v", [])
        assert [answer[at] for at in (1, 2, 3)] == [False, True, False]
        producer._sender.wakeup()
        assert answer[0].get(timeout=20).partition == 0
        producer.abort_transaction()
    finally:
        producer.close()
