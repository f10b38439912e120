"""Where outputs go, and which of them take the short way."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import KafkaError
from kafka.partitioner import DefaultPartitioner, murmur2

from worker.kafka.produce import appender as module
from worker.kafka.produce.appender import LARGEST, LONGEST_KEY, Appender, KeyHashes


def output(key=b"k", value=b"v", *, partition=None, topic="out"):
    return SimpleNamespace(
        topic=topic, key=key, value=value, partition=partition, headers=[], timestamp=1_000
    )


class Producer:
    """Says which way an output came, and where it went by the short one."""

    def __init__(self, *partitions):
        self._metadata = SimpleNamespace(_partitions={"out": dict.fromkeys(partitions)})
        self._accumulator = SimpleNamespace(append=self.append)
        self._sender = SimpleNamespace(wakeup=lambda: self.log.append("wakeup"))
        self.log = []
        self.answer = (False, False)

    def append(self, place, *_):
        self.log.append(place.partition)
        return ("future", *self.answer, False)

    def send(self, *_, **given):
        self.log.append(("send", given["partition"], given["key"]))

    def begin_transaction(self):
        self.log.append("begin")


def place(sent, appender, producer):
    producer.log.clear()
    appender.send(sent)
    return producer.log[0]


def cluster(partitions):
    known = {"out": set(partitions)}
    return SimpleNamespace(
        topics=lambda: set(known),
        partitions_for_topic=known.get,
        available_partitions_for_topic=known.get,
    )


@given(
    st.lists(st.binary(max_size=LONGEST_KEY + 9), min_size=1),
    st.sets(st.integers(0, 99), min_size=1),
)
def test_a_key_goes_where_the_client_sends_it_now_and_again(keys, partitions):
    theirs, producer = DefaultPartitioner(), Producer(*partitions)
    appender = Appender(producer, KeyHashes())
    for key in [*keys, *keys]:
        expected = theirs.partition("out", key, key, b"v", b"v", cluster(partitions))
        assert place(output(key), appender, producer) == expected


def test_more_partitions_than_before_are_all_used():
    producer = Producer(0, 1)
    appender = Appender(producer, KeyHashes())
    keys = [b"user-%d" % number for number in range(200)]
    assert {place(output(key), appender, producer) for key in keys} == {0, 1}
    producer._metadata._partitions = {"out": dict.fromkeys(range(4))}
    assert {place(output(key), appender, producer) for key in keys} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "unusual",
    [
        output(topic="unknown"),
        output(partition=9),
        output(key=None),
        output(value=None),
        output(value=b"v" * (LARGEST + 1)),
        output(key=b"k" * (LARGEST + 1)),
    ],
    ids=["topic not known", "no such partition", "no key", "no value", "large", "large key"],
)
def test_what_is_not_ordinary_is_left_to_the_client(unusual):
    producer = Producer(0, 1)
    went = place(unusual, Appender(producer, KeyHashes()), producer)
    assert went == ("send", unusual.partition, unusual.key)


def test_a_partition_that_is_named_needs_no_key():
    producer = Producer(0, 1)
    assert place(output(key=None, partition=1), Appender(producer, KeyHashes()), producer) == 1


@pytest.mark.parametrize("answer", [(True, False), (False, True)], ids=["full", "new"])
def test_the_sender_is_woken_for_a_batch_that_is_full_or_new(answer):
    producer = Producer(0)
    producer.answer = answer
    Appender(producer, KeyHashes()).send(output())
    assert producer.log == [0, "wakeup"]


def test_a_partition_is_added_to_each_transaction_once_and_first():
    producer = Producer(0)
    producer._transaction_manager = SimpleNamespace(
        is_transactional=lambda: True,
        has_error=lambda: False,
        maybe_add_partition_to_transaction=lambda tp: producer.log.append(("add", tp.partition)),
    )
    appender = Appender(producer, KeyHashes())
    for _ in range(2):
        appender.begin_transaction()
        appender.send(output())
        appender.send(output())
    assert producer.log == ["begin", ("add", 0), 0, 0] * 2


def test_a_transaction_that_has_failed_takes_no_more():
    producer = Producer(0)
    producer._transaction_manager = SimpleNamespace(
        is_transactional=lambda: True, has_error=lambda: True
    )

    def refuse(*_, **__):
        raise KafkaError("Cannot perform send")

    producer.send = refuse
    with pytest.raises(KafkaError, match="Cannot perform send"):
        Appender(producer, KeyHashes()).send(output())
    assert producer.log == []


def test_a_long_key_is_hashed_once(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "murmur2", lambda key: calls.append(key) or murmur2(key))
    hashes, key = KeyHashes(), b"k" * 200
    assert hashes.of(key) == hashes.of(key) == murmur2(key) & 0x7FFF_FFFF
    assert calls == [key]


@pytest.mark.parametrize(("most_keys", "most_bytes"), [(100, 1_000_000), (1_000_000, 10_000)])
def test_memory_is_bounded(monkeypatch, most_keys, most_bytes):
    monkeypatch.setattr(module, "MOST_KEYS", most_keys)
    monkeypatch.setattr(module, "MOST_BYTES", most_bytes)
    hashes = KeyHashes()
    for number in range(1_000):
        hashes.of(b"user-%d" % number)
        hashes.of(b"x" * (LONGEST_KEY + number + 1))
        hashes.of(b"%0900d" % number)
        assert len(hashes._known) <= most_keys
        assert sum(map(len, hashes._known)) < most_bytes + LONGEST_KEY
    assert max(map(len, hashes._known)) <= LONGEST_KEY
