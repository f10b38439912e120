"""One poll of the client's own fetcher returns what was allowed, and the next one goes on there."""

from types import SimpleNamespace

import pytest
from kafka import TopicPartition
from kafka.consumer.fetcher import CompletedFetch, Fetcher
from kafka.consumer.subscription_state import SubscriptionState
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecordsBuilder
from kafka.record.memory_records import MemoryRecords

from worker.kafka.cluster.topics import Topic
from worker.kafka.consume.portion import LARGE, UNPACK_SECONDS, Portion
from worker.kafka.consume.reader import BoundedReader
from worker.records import HEADER_BYTES

ZERO, ONE = TopicPartition("in", 0), TopicPartition("in", 1)
BIG = 262_144


class Desk:
    """A fetcher that has fetched batches of records; a batch is a list of `(value, headers)`."""

    def __init__(self, *fetches, compression=0):
        self.now = 0.0
        subscriptions = SubscriptionState()
        subscriptions.assign_from_user([ZERO, ONE])
        subscriptions.seek(ZERO, 0)
        subscriptions.seek(ONE, 0)
        client = SimpleNamespace(_manager=SimpleNamespace(_net=None))
        self.fetcher = Fetcher(client, subscriptions)
        self.fetcher._parse_fetched_data = self.parsed
        self.portion = Portion(SimpleNamespace(_fetcher=self.fetcher), clock=lambda: self.now)
        for partition, records in fetches:
            builder = MemoryRecordsBuilder(
                magic=2, compression_type=compression, batch_size=1 << 30
            )
            for value, headers in records:
                builder.append(timestamp=0, key=None, value=value, headers=headers)
            builder.close()
            fetch = CompletedFetch(partition, 0, 0, MemoryRecords(bytes(builder.buffer())), None)
            self.fetcher._completed_fetches.append(fetch)

    def parsed(self, fetch):
        return self.fetcher.PartitionRecords(0, fetch.topic_partition, fetch.partition_data)

    def poll(self, max_bytes, max_records=1_000):
        self.portion.allow(max_bytes)
        records, _ = self.fetcher.fetched_records(max_records)
        return [
            (partition.partition, record.offset)
            for partition, batch in records.items()
            for record in batch
        ]


def plain(count, size=BIG):
    return [(b"x" * size, [])] * count


class Consumer:
    """A consumer, as a redrive's reader uses it, that has fetched what a desk has."""

    def __init__(self, desk):
        self._fetcher, self.at, self.seek = desk.fetcher, {}, lambda *_: None

    def assign(self, partitions):
        self.at = dict.fromkeys(partitions, 0)

    def assignment(self):
        return set(self.at)

    def paused(self):
        return set()

    def pause(self, partition):
        pass

    def poll(self, *, timeout_ms, max_records):
        records, _ = self._fetcher.fetched_records(max_records)
        for partition, batch in records.items():
            self.at[partition] = batch[-1].offset + 1
        return records

    def position(self, partition, timeout_ms):
        return self.at[partition]


def test_the_reader_of_a_redrive_takes_no_more_bytes_than_it_may():
    desk = Desk((ZERO, plain(12)))
    reader = BoundedReader(
        connection=SimpleNamespace(consumer=lambda **_: Consumer(desk)),
        topic=Topic("in", None, 1, 1_000_000, False, 0, 0), group_id="g", fetch_max_bytes=1,
        outage_limit=1.0,
    )  # fmt: skip
    reader.begin(starts={0: 0}, ends={0: 12})
    taken = []
    while not reader.done:
        taken.append(len(reader.poll(timeout=0, max_records=500, max_bytes=4 * BIG + 1)))
    assert taken == [5, 5, 2]


@pytest.mark.parametrize("compression", [0, 1])
def test_a_poll_takes_one_record_beyond_its_bytes_at_most(compression):
    """Compressed, a thousand records are a few kilobytes of one fetch: a poll took in 250 MB."""
    desk = Desk((ZERO, plain(60)), compression=compression)
    assert desk.poll(10 * BIG + 1) == [(0, offset) for offset in range(11)]
    assert desk.poll(1) == [(0, 11)]
    assert desk.poll(10 * BIG) == [(0, offset) for offset in range(12, 22)]


def test_large_records_behind_small_ones_are_no_surprise():
    desk = Desk((ZERO, plain(100, size=10) + plain(50)))
    assert desk.poll(2 * BIG) == [(0, offset) for offset in range(102)]


def test_partitions_share_what_is_allowed_and_none_is_forgotten():
    desk = Desk((ZERO, plain(3)), (ONE, plain(3)))
    assert desk.poll(4 * BIG) == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert desk.poll(10 * BIG) == [(1, 1), (1, 2)]
    assert desk.poll(10 * BIG) == []


def test_records_are_limited_as_before():
    desk = Desk((ZERO, plain(5, size=10)), (ONE, plain(5, size=10)))
    assert desk.poll(BIG, max_records=7) == [*((0, n) for n in range(5)), (1, 0), (1, 1)]
    assert desk.poll(BIG) == [(1, 2), (1, 3), (1, 4)]


def test_what_was_laid_aside_while_its_partition_was_paused_comes_after_it_resumes():
    """kafka-python 3.0.12 forgets it where another partition's fetch has been used up."""
    desk = Desk((ZERO, plain(4)), (ONE, plain(4)))
    assert desk.poll(BIG) == [(0, 0)]
    desk.fetcher._subscriptions.pause(ZERO)
    assert desk.poll(BIG) == [(1, 0)]
    desk.fetcher._subscriptions.resume(ZERO)
    found = [record for _ in range(4) for record in desk.poll(8 * BIG)]
    assert sorted(found) == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]
    assert desk.fetcher._fetchable_partitions() == [ZERO, ONE]


def test_what_was_laid_aside_waits_for_no_backlog_of_another_partition():
    desk = Desk((ZERO, plain(4)), (ONE, plain(50)))
    assert desk.poll(BIG) == [(0, 0)]
    desk.fetcher._subscriptions.pause(ZERO)
    assert desk.poll(BIG) == [(1, 0)]
    desk.fetcher._subscriptions.resume(ZERO)
    found = [record for _ in range(6) for record in desk.poll(BIG)]
    assert found == [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (1, 3)]


def test_a_partition_that_stays_paused_holds_no_other_up():
    desk = Desk((ZERO, plain(4)), (ONE, plain(4)))
    assert desk.poll(BIG) == [(0, 0)]
    desk.fetcher._subscriptions.pause(ZERO)
    assert [record for _ in range(6) for record in desk.poll(BIG)] == [(1, n) for n in range(4)]
    desk.fetcher._subscriptions.resume(ZERO)
    assert desk.poll(8 * BIG) == [(0, 1), (0, 2), (0, 3)]


def test_the_position_follows_what_was_returned():
    desk = Desk((ZERO, plain(5)))
    desk.poll(2 * BIG)
    assert desk.fetcher._subscriptions.position(ZERO).offset == 2


def test_headers_count_with_what_they_take_in_memory():
    """A record of 1 MiB may have 350,000 headers of two empty strings: 0 bytes, and 60 MB."""
    desk = Desk((ZERO, [(b"", [("", b"")] * 1_000)] * 10))
    assert desk.poll(2_000 * HEADER_BYTES) == [(0, 0), (0, 1)]


def test_a_poll_ends_when_unpacking_takes_long():
    desk = Desk((ZERO, plain(10, size=LARGE + 1)))
    look = desk.portion.look_at_the_time

    def slowly():
        desk.now += UNPACK_SECONDS / 3
        look()

    desk.portion.look_at_the_time = slowly
    assert len(desk.poll(100 * BIG)) == 4
    assert len(desk.poll(100 * BIG)) == 4
    assert len(desk.poll(100 * BIG)) == 2


def damage(desk, fetch, *, batch):
    """The batch of this number, from 1 on, cannot be read."""
    following, batches = desk.fetcher._completed_fetches[fetch].partition_data.next_batch, [0]

    def next_batch():
        batches[0] += 1
        if batches[0] == batch:
            raise CorruptRecordError("a batch is damaged")
        return following()

    desk.fetcher._completed_fetches[fetch] = desk.fetcher._completed_fetches[fetch]._replace(
        partition_data=SimpleNamespace(next_batch=next_batch)
    )


@pytest.mark.timeout(60)
@pytest.mark.parametrize("batch", [1, 2], ids=["first", "later"])
def test_a_record_that_cannot_be_unpacked_is_told_also_if_its_partition_is_paused_then(batch):
    """kafka-python 3.0.12 forgot it, and never came back from the first poll after the pause."""
    desk = Desk((ONE, plain(3, size=10)), (ZERO, plain(3, size=10)))
    damage(desk, 1, batch=batch)
    assert len(desk.poll(BIG)) == 3 * batch
    desk.fetcher._subscriptions.pause(ZERO)
    desk.fetcher._subscriptions.pause(ONE)
    with pytest.raises(CorruptRecordError):
        desk.poll(BIG)


def test_an_error_of_records_that_were_left_since_is_not_told():
    desk = Desk((ONE, plain(3, size=10)), (ZERO, plain(3, size=10)))
    damage(desk, 1, batch=1)
    assert len(desk.poll(BIG)) == 3
    desk.fetcher._subscriptions.pause(ZERO)
    desk.fetcher._subscriptions.seek(ZERO, 2)
    assert desk.poll(BIG) == []


def test_several_that_were_laid_aside_come_one_with_each_poll_and_one_that_was_left_does_not():
    desk = Desk((ZERO, plain(4)), (ONE, plain(4)))
    subscriptions = desk.fetcher._subscriptions
    assert desk.poll(BIG) == [(0, 0)]
    subscriptions.pause(ZERO)
    assert desk.poll(BIG) == [(1, 0)]
    subscriptions.pause(ONE)
    assert desk.poll(BIG) == []
    subscriptions.resume(ZERO)
    subscriptions.resume(ONE)
    subscriptions.seek(ZERO, 1)  # to where it is: its records are still the next ones
    assert [record for _ in range(4) for record in desk.poll(BIG)] == [
        (0, 1), (1, 1), (0, 2), (1, 2),
    ]  # fmt: skip
    subscriptions.pause(ONE)
    assert desk.poll(BIG) == [(0, 3)]
    subscriptions.seek(ONE, 0)
    subscriptions.resume(ONE)
    assert [record for _ in range(3) for record in desk.poll(BIG)] == []
    assert desk.fetcher._fetchable_partitions() == [ZERO, ONE]


def test_a_record_that_cannot_be_unpacked_fails_the_poll_after_those_before_it():
    desk = Desk((ZERO, plain(3, size=10)))
    damage(desk, 0, batch=2)
    assert desk.poll(BIG) == [(0, 0), (0, 1), (0, 2)]
    with pytest.raises(CorruptRecordError):
        desk.poll(BIG)
