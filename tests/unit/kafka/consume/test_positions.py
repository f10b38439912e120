"""Where the consumer reads on after a rewind, a late answer, and a log that was cut."""

from types import SimpleNamespace

import pytest
from kafka import TopicPartition
from kafka.coordinator.base import MemberState
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.errors import KafkaTimeoutError, LogTruncationError, OffsetOutOfRangeError
from kafka.future import Future
from kafka.structs import OffsetAndMetadata

from worker.kafka.consume import positions
from worker.kafka.consume.group import Group
from worker.kafka.consume.membership import Membership
from worker.kafka.consume.source import Source
from worker.kafka.consume.start import Start
from worker.records import Lease

ZERO, ONE = TopicPartition("in", 0), TopicPartition("in", 1)


class Coordinator:
    """The client's own question for committed offsets, over a group that is asked by hand."""

    fetch = ConsumerCoordinator.fetch_committed_offsets_async

    def __init__(self):
        self.asked = []
        self._offset_fetch_futures = {}
        self._manager = SimpleNamespace(call_soon=self.send, wait_for=self.wait_for)
        self._net = SimpleNamespace(sleep=self.sleep)
        self._send_offset_fetch_request = None
        self.config = {"retry_backoff_ms": 100}

    def send(self, _, partitions):
        self.asked.append((set(partitions), Future()))
        return self.asked[-1][1]

    async def wait_for(self, future, _):
        if not future.is_done:
            raise KafkaTimeoutError

    async def sleep(self, _):
        pass

    async def ensure_coordinator_ready_async(self, **_):
        return True

    def ask(self, *partitions):
        """An answer that is there already, or comes at once; else it is too late."""
        try:
            self.fetch(set(partitions), 0).send(None)
        except StopIteration as found:
            return {partition: at.offset for partition, at in found.value.items()}
        except KafkaTimeoutError:
            return "too late"


class Consumer:
    """As far as a source touches one; its group has committed `offsets`."""

    def __init__(self, **offsets):
        self.at, self.raises = {}, []
        self.offsets = {int(name[1:]): offset for name, offset in offsets.items()}
        self._coordinator = Coordinator()
        self._fetcher = SimpleNamespace(
            _append=None, _paused_partition_records={}, _next_in_line_exception_metadata=None
        )
        self.state, self.member_id = MemberState.STABLE, "member"
        self.asked_for = lambda: None

    def subscribe(self, topics, listener):
        self.listener = listener

    def group_metadata(self):
        return SimpleNamespace(state=self.state, member_id=self.member_id, generation_id=1)

    def assignment(self):
        return {ZERO, ONE}

    def committed(self, partition, timeout_ms):
        self.asked_for()
        return self.offsets.get(partition.partition)

    def seek(self, partition, offset):
        self.at[partition.partition] = offset

    def seek_to_beginning(self, *partitions):
        self.at |= {partition.partition: 0 for partition in partitions}

    def beginning_offsets(self, partitions, timeout_ms):
        return dict.fromkeys(partitions, 3)

    def position(self, partition, timeout_ms):
        if self.raises:
            raise self.raises.pop()
        return self.at.get(partition.partition)

    def poll(self, timeout_ms, max_records):
        if self.raises:
            raise self.raises.pop()
        return {
            TopicPartition("in", number): [SimpleNamespace(
                topic="in", partition=number, offset=offset, timestamp=0, key=None, value=b"",
                headers=[],
            )]
            for number, offset in self.at.items()
        }  # fmt: skip


class Desk:
    def __init__(self, **offsets):
        self.consumer, self.membership, self.expired = Consumer(**offsets), Membership(), []
        group = Group(
            topic="in", group_id="g", instance_id=None, assignment="cooperative-sticky",
            session_timeout=10, heartbeat_interval=3, max_poll_interval=300,
            fetch_max_bytes=1 << 20,
        )  # fmt: skip
        self.source = Source(
            connection=SimpleNamespace(consumer=lambda **_: self.consumer), group=group,
            membership=self.membership, before_revocation=lambda _: {},
            on_commit=lambda _: None, on_expired=self.expired.append,
        )  # fmt: skip
        self.assign(ZERO, ONE)
        self.consumer.at = {0: 100, 1: 200}

    def assign(self, *partitions):
        with pytest.raises(StopIteration):
            self.consumer.listener.on_partitions_assigned(partitions).send(None)

    def poll(self):
        return [
            (record.lease, record.offset)
            for record in self.source.poll(timeout=0, max_records=10, max_bytes=10**9)
        ]


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(positions, "STALE_SECONDS", 0.01)


def test_before_its_last_consumer_closes_a_process_is_known_to_leave():
    """Closed, it is in no group; another thread would take that for leave to make a producer."""
    desk, seen = Desk(), []
    desk.consumer.close = lambda **_: seen.append(desk.membership.left)
    desk.source.close(timeout=1, leave=False)
    assert seen == [True]


def test_a_rewind_ends_all_leases_at_once_and_goes_to_what_is_committed():
    desk = Desk(p0=40, p1=50)
    before = desk.source.leases
    desk.source.rewind()
    assert desk.membership.ended(before) == set(before)
    assert [desk.source.position(lease) for lease in desk.source.leases] == [None, None]
    assert desk.poll() == [(Lease(0, 3), 40), (Lease(1, 4), 50)]
    assert sorted(desk.source.take_ended()) == before


def test_a_rewind_waits_for_the_open_transaction_which_may_move_the_offsets():
    """Even of leases that were assigned since the transaction before failed."""
    desk = Desk(p0=40, p1=50)
    with desk.membership.transaction():
        desk.source.rewind()
        assert desk.poll() == [], "records from beyond are dropped"
        assert desk.consumer.at == {0: 100, 1: 200}
        desk.consumer.offsets[1] = 53
    assert desk.poll() == [(Lease(0, 3), 40), (Lease(1, 4), 53)]


def test_committed_offsets_that_are_not_known_yet_hold_the_records_back():
    desk = Desk(p0=40, p1=50)

    def not_yet():
        raise KafkaTimeoutError

    desk.consumer.asked_for = not_yet
    desk.source.rewind()
    assert desk.poll() == []
    desk.consumer.asked_for = lambda: None
    assert desk.poll() == [(Lease(0, 3), 40), (Lease(1, 4), 50)]


def test_the_client_would_give_an_answer_that_came_too_late_to_the_next_who_asks():
    """Why there is `forget_late_answers`: fails where the client is mended."""
    coordinator = Coordinator()
    assert coordinator.ask(ZERO) == "too late"
    coordinator.asked[0][1].success({ZERO: OffsetAndMetadata(100, "", -1)})
    assert coordinator.ask(ZERO) == {ZERO: 100}, "hours later"
    assert len(coordinator.asked) == 1


@pytest.mark.parametrize("moment", ["assigned", "go_back"])
def test_an_answer_that_came_too_late_is_forgotten(moment):
    desk = Desk(p0=40, p1=50)
    coordinator = desk.consumer._coordinator
    assert coordinator.ask(ZERO) == "too late"
    coordinator.asked[0][1].success({ZERO: OffsetAndMetadata(100, "", -1)})
    if moment == "assigned":
        desk.assign(ZERO)
    else:
        positions.go_back(desk.consumer, "in", [0], start=Start(), timeout=1)
    assert coordinator.ask(ZERO) == "too late"
    assert len(coordinator.asked) == 2


def cut():
    parting = {ZERO: OffsetAndMetadata(70, "", 4), ONE: None}
    return LogTruncationError(parting)


@pytest.mark.parametrize("first", ["poll", "position"])
def test_a_log_that_was_cut_is_read_from_where_it_parts(first):
    desk = Desk()
    assert desk.poll() == [(Lease(0, 1), 100), (Lease(1, 2), 200)]
    desk.consumer.raises = [cut()]
    if first == "poll":
        assert desk.poll() == []
    else:
        assert desk.source.position(desk.source.leases[0]) is None
    assert desk.poll() == [(Lease(0, 3), 70), (Lease(1, 4), 0)]
    assert sorted(desk.source.take_ended()) == [Lease(0, 1), Lease(1, 2)]


def test_a_log_that_ends_before_the_position_begins_a_new_lease_also_before_any_record():
    """Else what the group has committed beyond its end counts as done."""
    desk = Desk()
    desk.consumer.raises = [OffsetOutOfRangeError({ZERO: 100})]
    assert desk.poll() == []
    assert desk.source.take_ended() == [Lease(0, 1)]
    assert desk.poll() == [(Lease(0, 3), 3), (Lease(1, 2), 200)]
    assert desk.expired == []


def test_records_that_expired_are_counted_and_their_lease_goes_on():
    desk = Desk()
    desk.consumer.raises = [OffsetOutOfRangeError({ZERO: 1})]
    assert desk.poll() == []
    assert desk.expired == [2]
    assert desk.poll() == [(Lease(0, 1), 3), (Lease(1, 2), 200)]
