"""Keys go where the client's own partitioner sends them."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner import DefaultPartitioner

from worker.kafka.produce import partitioner as module
from worker.kafka.produce.partitioner import LONGEST_KEY, KeyPartitioner


def cluster(*partitions):
    known = {"emotions": set(partitions)}
    return SimpleNamespace(
        topics=lambda: set(known),
        partitions_for_topic=known.get,
        available_partitions_for_topic=known.get,
    )


def place(partitioner, key, known, topic="emotions"):
    return partitioner.partition(topic, key, key, b"v", b"v", known)


@given(
    st.lists(st.binary(max_size=LONGEST_KEY + 9), min_size=1),
    st.sets(st.integers(0, 99), min_size=1),
)
def test_a_key_goes_where_the_client_sends_it_now_and_again(keys, partitions):
    known, ours, theirs = cluster(*partitions), KeyPartitioner(), DefaultPartitioner()
    for key in [*keys, *keys]:
        assert place(ours, key, known) == place(theirs, key, known)


def test_more_partitions_than_before_are_all_used():
    ours = KeyPartitioner()
    keys = [b"user-%d" % number for number in range(200)]
    assert {place(ours, key, cluster(0, 1)) for key in keys} == {0, 1}
    assert {place(ours, key, cluster(0, 1, 2, 3)) for key in keys} == {0, 1, 2, 3}


def test_without_a_key_any_partition_with_a_leader_is_taken():
    ours = KeyPartitioner()
    assert {place(ours, None, cluster(3, 7)) for _ in range(100)} == {3, 7}


def test_an_unknown_topic_is_an_error():
    with pytest.raises(ValueError, match="not found"):
        place(KeyPartitioner(), b"key", cluster(0), topic="others")


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MOST_KEYS", 100)
    ours = KeyPartitioner()
    for number in range(1_000):
        place(ours, b"user-%d" % number, cluster(0, 1))
        place(ours, b"x" * (LONGEST_KEY + number + 1), cluster(0, 1))
    assert len(ours._hashes) <= 100
    assert max(map(len, ours._hashes)) <= LONGEST_KEY
