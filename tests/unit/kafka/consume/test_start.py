"""Where a group begins that has committed nothing: in old partitions, and in new ones."""

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError, RebalanceInProgressError
from kafka.structs import OffsetAndTimestamp

from worker.errors import Transient
from worker.kafka.consume.positions import go_back
from worker.kafka.consume.start import Start

ZERO, ONE, NEW = (TopicPartition("in", number) for number in (0, 1, 7))
ENDS = {ZERO: 100, ONE: 0, NEW: 30}


class Consumer:
    """Partitions that end at `ENDS`; at 1,000 ms partition 0 has offset 40, the others nothing."""

    def __init__(self, committed=(), fails=None):
        self.at, self.committed_now, self.fails = {}, dict(committed), fails
        self._coordinator = self
        self._offset_fetch_futures = {}

    def assignment(self):
        return set(ENDS)

    def committed(self, partition, timeout_ms):
        return self.committed_now.get(partition)

    def commit(self, offsets, timeout_ms):
        if self.fails:
            raise self.fails
        assert self.at == {}, "committed before anything moves"
        self.committed_now |= {each: one.offset for each, one in offsets.items()}

    def end_offsets(self, partitions, timeout_ms):
        return {each: ENDS[each] for each in partitions}

    def beginning_offsets(self, partitions, timeout_ms):
        return dict.fromkeys(partitions, 3)

    def offsets_for_times(self, times, timeout_ms):
        return {
            each: OffsetAndTimestamp(40, 1_005, -1) if each == ZERO and ms <= 1_005 else None
            for each, ms in times.items()
        }

    def seek(self, partition, offset):
        self.at[partition] = offset

    def seek_to_beginning(self, *partitions):
        self.at |= dict.fromkeys(partitions, "beginning")


EARLIEST = Start(partitions=2)
LATEST = Start(latest=True, partitions=2)


def since(ms):
    return Start(time_ms=ms, partitions=2)


@pytest.mark.parametrize(
    ("start", "at"),
    [
        (EARLIEST, ["beginning", "beginning", "beginning"]),
        (LATEST, [100, 0, 3]),
        (since(1_000), [40, 0, 3]),
        (since(9_999), [100, 0, 3]),
        (since(0), [40, 0, 3]),
    ],
)
def test_a_group_begins_where_it_was_told_and_in_a_new_partition_at_the_beginning(start, at):
    consumer = Consumer()
    start.seek(consumer, [ZERO, ONE, NEW])
    assert [consumer.at[each] for each in (ZERO, ONE, NEW)] == at


@pytest.mark.parametrize("start", [LATEST, since(1_000)])
def test_a_start_is_committed_at_once_so_that_the_next_owner_begins_there_too(start):
    consumer = Consumer()
    start.seek(consumer, [ZERO, NEW])
    # An added partition's beginning, too: to a worker that starts later it is an old partition.
    assert consumer.committed_now == {ZERO: consumer.at[ZERO], NEW: 3}


def test_a_beginning_needs_no_commit():
    consumer = Consumer()
    EARLIEST.seek(consumer, [ZERO, ONE])
    assert consumer.committed_now == {}


@pytest.mark.parametrize("error", [KafkaTimeoutError("late"), RebalanceInProgressError()])
def test_a_start_that_cannot_be_committed_moves_nothing(error):
    consumer = Consumer(fails=error)
    with pytest.raises(Transient, match="the start is not known"):
        LATEST.seek(consumer, [ZERO, NEW])
    assert consumer.at == {}


def test_going_back_leaves_committed_offsets_alone_and_takes_the_start_for_the_others():
    consumer = Consumer(committed={ZERO: 5})
    go_back(consumer, "in", [0, 1, 7], start=LATEST, timeout=1)
    assert consumer.at == {ZERO: 5, ONE: 0, NEW: 3}
