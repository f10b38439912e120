"""The poll loop's bookkeeping: what may be in flight, and what is committed."""

import time
from collections import deque
from queue import SimpleQueue

import pytest
from prometheus_client import CollectorRegistry

from tests.support.fakes import record
from worker.decode import Decoder
from worker.errors import Transient
from worker.metrics import Metrics
from worker.records import Lease, Progress
from worker.stages.intake import STALL_SECONDS, Intake, Limits

LEASE = Lease(0, 1)


class Source:
    """Gives what it is given; remembers what is asked of it."""

    def __init__(self):
        self.leases, self.batches, self.positions = [LEASE], deque(), {}
        self.ended, self.events, self.paused = [], ["assigned"], False
        self.commits, self.asked, self.busy, self.rebuilt = [], [], False, []
        self.rewinds = 0

    def poll(self, *, timeout, max_records):
        self.asked.append(max_records)
        if self.paused or not self.batches:
            return []
        batch = self.batches.popleft()
        if isinstance(batch, Exception):
            raise batch
        return batch

    def take_ended(self):
        ended, self.ended = self.ended, []
        return ended

    def take_events(self):
        events, self.events = self.events, []
        return events

    def pause(self):
        self.paused = True

    def resume(self):
        self.paused = False

    def position(self, lease):
        return self.positions.get(lease)

    def commit(self, offsets):
        if self.busy:
            return False
        self.commits.append(dict(offsets))
        return True

    def commit_now(self, offsets, *, timeout):
        self.commits.append(dict(offsets))

    def rebuild(self, reason):
        self.rebuilt.append(reason)

    def rewind(self):
        self.rewinds += 1
        self.ended, self.leases = self.leases, [Lease(0, 2)]
        self.batches.clear()

    def close(self, *, timeout, leave):
        pass


class Desk:
    def __init__(self, *, transactional=False, **limits):
        self.accepted, self.documents, self.done, self.ended = [], [], [], []
        self.progress, self.positions = SimpleQueue(), []
        self.let_in = 10**6
        self.registry = CollectorRegistry()
        chosen = {"records": 10, "bytes": 10**6, "commit_interval": 0.0, **limits}
        self.intake = Intake(
            decoder=Decoder(format="json", text_field="text", id_field="id", max_bytes=1_000),
            limits=Limits(**chosen),
            progress=self.progress,
            accept=self.accepted.extend,
            documents=self.documents.extend,
            done=self.done.extend,
            ended=self.ended.extend,
            positions=self.positions.append if transactional else None,
            gate=self,
            metrics=Metrics(
                input_topic="in", output_topic="out", dlq_topic="dlq", version="0",
                registry=self.registry,
            ),
        )  # fmt: skip
        self.source = Source()

    def turn(self, *records, reading=True):
        if records:
            self.source.batches.append(list(records))
        self.intake.turn(self.source, reading=reading)

    def measure(self):
        """A turn that looks at the positions and updates the gauges."""
        self.intake._next_measure = 0
        self.turn()

    def stall(self):
        """As if nothing had come for long."""
        self.intake._paused_at -= STALL_SECONDS + 1
        for account in self.intake._accounts.values():
            account.moved -= STALL_SECONDS + 1

    def room(self, *, in_flight, most):
        return min(most, self.let_in)

    def took(self, records):
        self.let_in -= records

    def settle(self, committable, records, lease=LEASE, size=0):
        self.progress.put(Progress(lease, committable, records, size))


@pytest.fixture
def desk():
    return Desk()


def test_records_are_accepted_before_anything_else_sees_them(desk):
    desk.turn(record(1), record(2, b"bad"), record(3, None))
    assert [r.offset for r in desk.accepted] == [1, 2, 3]
    assert [d.record.offset for d in desk.documents] == [1]
    assert [o.record.offset for o in desk.done] == [2, 3]
    assert desk.intake.in_flight == 3


def test_at_the_limit_intake_pauses_and_goes_on_when_there_is_room(desk):
    desk.turn(*[record(offset) for offset in range(10)])
    desk.turn()
    assert desk.source.paused
    desk.settle(1, 1)
    desk.turn()
    assert desk.source.paused, "a little room is not worth a poll"
    desk.settle(3, 3)
    desk.turn()
    assert not desk.source.paused
    assert desk.source.asked[-1] == 3


def test_bytes_are_a_limit_too():
    desk = Desk(bytes=100)
    desk.turn(record(1, b"x" * 200))
    desk.turn()
    assert desk.source.paused
    desk.settle(2, 1, size=201)
    desk.turn()
    assert not desk.source.paused


def test_a_closed_gate_pauses_intake_and_one_that_is_ajar_lets_so_many_in(desk):
    desk.let_in = 0
    desk.turn()
    assert desk.source.paused
    desk.let_in = 3
    desk.turn(record(1), record(2))
    assert not desk.source.paused
    assert (desk.source.asked[-1], desk.let_in) == (3, 1)


def test_a_draining_intake_reads_nothing_and_keeps_polling(desk):
    desk.turn()
    desk.turn(reading=False)
    assert desk.source.paused
    assert len(desk.source.asked) == 2


def test_only_what_is_settled_is_committed(desk):
    desk.turn(record(5), record(6))
    assert desk.source.commits == []
    desk.settle(6, 1)
    desk.turn()
    assert desk.source.commits == [{LEASE: 6}]
    desk.turn()
    assert len(desk.source.commits) == 1, "nothing new"


def test_when_all_is_settled_the_position_is_committed_and_never_less(desk):
    desk.turn(record(5))
    desk.settle(6, 1)
    desk.source.positions[LEASE] = 9
    desk.measure()
    assert desk.source.commits[-1] == {LEASE: 9}
    del desk.source.positions[LEASE]  # as while the consumer closes
    assert desk.intake.settled([LEASE]) == {LEASE: 9}
    desk.intake.commit_last(desk.source, timeout=1)
    assert desk.source.commits[-1] == {LEASE: 9}


def test_an_idle_partition_of_transaction_markers_is_committed_to_its_end(desk):
    desk.source.positions[LEASE] = 2
    desk.turn()
    assert desk.source.commits == [{LEASE: 2}]


def test_a_failed_commit_is_made_up_for_by_the_next(desk):
    desk.turn(record(5))
    desk.settle(6, 1)
    desk.turn()
    desk.intake.commit_ended("failed")
    desk.turn()
    assert desk.source.commits == [{LEASE: 6}, {LEASE: 6}]


def test_a_commit_that_is_under_way_is_repeated_at_the_end(desk):
    desk.turn(record(5))
    desk.settle(6, 1)
    desk.turn()
    desk.intake.commit_last(desk.source, timeout=1)
    assert desk.source.commits == [{LEASE: 6}, {LEASE: 6}]


def test_a_lease_that_ended_frees_its_room_and_its_late_progress_is_nothing(desk):
    desk.turn(*[record(offset) for offset in range(10)])
    desk.source.leases, desk.source.ended = [Lease(0, 2)], [LEASE]
    desk.source.events = ["revoked", "assigned"]
    desk.turn()
    assert desk.ended == [LEASE]
    assert desk.intake.in_flight == 0
    desk.settle(10, 10)
    desk.turn()
    assert desk.source.commits == []


def test_an_outage_is_no_end(desk):
    desk.source.batches.append(Transient("the broker is away"))
    desk.turn()
    desk.turn(record(1))
    assert len(desk.accepted) == 1


def test_lag_is_told_per_partition_and_goes_with_it(desk):
    desk.intake.ends({0: 8})
    desk.turn(record(5), record(6))
    desk.settle(6, 1)
    desk.intake._next_measure = 0
    desk.turn()
    labels = {"topic": "in", "partition": "0"}
    assert desk.registry.get_sample_value("worker_consumer_lag_records", labels) == 2
    assert desk.registry.get_sample_value("worker_consumer_lag_seconds", labels) > 1e6
    desk.source.leases, desk.source.ended = [], [LEASE]
    desk.turn()
    assert desk.registry.get_sample_value("worker_consumer_lag_records", labels) is None


def test_the_age_of_a_new_record_is_its_own_not_that_of_the_last_one_before_it(desk):
    desk.turn(record(5, timestamp=1_000))
    desk.settle(6, 1)
    desk.turn()
    now = int(time.time() * 1_000)
    desk.intake.ends({0: 21})
    desk.intake._next_measure = 0
    desk.turn(record(20, timestamp=now))
    labels = {"topic": "in", "partition": "0"}
    assert 0 <= desk.registry.get_sample_value("worker_consumer_lag_seconds", labels) < 60


def test_the_age_of_what_is_not_read_yet_is_not_that_of_an_earlier_backlog(desk):
    desk.intake.ends({0: 9})
    desk.source.positions[LEASE] = 0
    desk.measure()
    desk.intake._accounts[LEASE].lagging_since -= 7_200
    desk.turn(record(5, timestamp=int(time.time() * 1_000)))
    desk.measure()
    desk.settle(6, 1)
    desk.measure()
    labels = {"topic": "in", "partition": "0"}
    assert desk.registry.get_sample_value("worker_consumer_lag_records", labels) == 3
    assert 0 <= desk.registry.get_sample_value("worker_consumer_lag_seconds", labels) < 60


def test_what_was_read_since_the_end_was_told_is_part_of_the_lag(desk):
    desk.intake.ends({0: 1})
    desk.turn(record(0))
    desk.settle(1, 1)
    desk.turn(record(1), record(2))
    desk.measure()
    labels = {"topic": "in", "partition": "0"}
    assert desk.registry.get_sample_value("worker_consumer_lag_records", labels) == 2
    assert desk.registry.get_sample_value("worker_consumer_lag_seconds", labels) > 1e6


def test_a_consumer_that_brings_nothing_though_records_wait_is_replaced(desk):
    desk.source.positions[LEASE] = 5
    desk.intake.ends({0: 9})
    desk.turn()
    assert desk.source.rebuilt == []
    desk.stall()
    desk.measure()
    assert desk.source.rebuilt == ["records wait and none comes"]
    desk.measure()
    assert len(desk.source.rebuilt) == 1, "the new one has its time"


def test_one_partition_that_brings_nothing_is_not_hidden_by_one_that_flows(desk):
    other = Lease(1, 1)
    desk.source.leases.append(other)
    desk.source.positions = {LEASE: 0, other: 0}
    desk.intake.ends({0: 9, 1: 9})
    desk.turn()
    desk.stall()
    desk.turn(record(0, partition=1))
    desk.settle(1, 1, lease=other)
    desk.measure()
    assert desk.source.rebuilt == ["records wait and none comes"]


def test_a_partition_that_nobody_knows_where_to_begin_is_no_progress_and_in_the_end_replaced(desk):
    """A transaction that hangs on the group's offsets: every poll is empty, for ever."""
    desk.source.positions = {}
    desk.intake.ends({0: 9})
    desk.measure()
    assert desk.registry.get_sample_value("worker_last_progress_timestamp_seconds") == 0
    desk.stall()
    desk.measure()
    assert desk.source.rebuilt == ["records wait and none comes"]


def test_waiting_for_nothing_is_progress_and_a_lag_is_not(desk):
    name = "worker_last_progress_timestamp_seconds"
    desk.source.positions[LEASE] = 5
    desk.intake.ends({0: 9})
    desk.measure()
    assert desk.registry.get_sample_value(name) == 0
    desk.intake.ends({0: 5})
    desk.measure()
    assert desk.registry.get_sample_value(name) == pytest.approx(time.time(), abs=60)


def test_a_broker_that_is_away_is_no_progress_though_nothing_is_known_to_wait(desk):
    name = "worker_last_progress_timestamp_seconds"
    desk.source.positions[LEASE] = 5
    desk.measure()
    assert desk.registry.get_sample_value(name) == 0
    desk.intake._progressed[0] -= 700
    desk.intake.ends({0: 5})
    desk.intake._ends_told -= 600
    before = desk.intake._ends_told
    desk.measure()
    assert desk.registry.get_sample_value(name) == partition_progress(desk, 0) == before
    desk.intake.ends({0: 5})
    desk.measure()
    now = pytest.approx(time.time(), abs=60)
    assert desk.registry.get_sample_value(name) == now
    assert partition_progress(desk, 0) == now


def test_a_partition_that_stands_still_is_told_apart_from_one_that_flows(desk):
    other = Lease(1, 1)
    desk.source.leases.append(other)
    desk.source.positions = {LEASE: 0, other: 0}
    desk.intake.ends({0: 9, 1: 9})
    desk.turn()
    for partition in (0, 1):
        desk.intake._progressed[partition] -= 600
    desk.turn(record(0, partition=1))
    desk.settle(1, 1, lease=other)
    desk.measure()
    now = time.time()
    assert now - partition_progress(desk, 0) > 500
    assert now - partition_progress(desk, 1) < 60


def test_a_partition_that_stands_still_does_so_through_a_new_lease(desk):
    """Else a consumer that is replaced every minute, and brings nothing, would never stall."""
    desk.source.positions[LEASE] = 0
    desk.intake.ends({0: 9})
    desk.turn()
    desk.intake._progressed[0] -= 600
    desk.source.leases, desk.source.ended = [], [LEASE]
    desk.turn()
    assert partition_progress(desk, 0) is None
    desk.source.leases, desk.source.events = [Lease(0, 2)], ["assigned"]
    desk.measure()
    assert time.time() - partition_progress(desk, 0) > 500


def test_a_slow_model_is_no_stall(desk):
    desk.intake.ends({0: 9})
    desk.turn(record(0))
    desk.settle(1, 1)
    desk.turn(record(1))
    desk.stall()
    desk.measure()
    assert desk.source.rebuilt == []


def test_a_pause_is_no_stall(desk):
    desk.source.positions[LEASE] = 5
    desk.intake.ends({0: 9})
    desk.turn()
    desk.stall()
    desk.let_in = 0
    desk.turn()
    desk.let_in = 9
    desk.measure()
    assert desk.source.rebuilt == []


def test_a_consumer_that_has_nothing_to_bring_is_not_replaced(desk):
    desk.source.positions[LEASE] = 9
    desk.intake.ends({0: 9})
    desk.turn()
    desk.stall()
    desk.measure()
    assert desk.source.rebuilt == []


def test_with_transactions_only_positions_past_all_records_are_committed_and_by_the_sink():
    desk = Desk(transactional=True)
    desk.turn(record(1), record(2))
    desk.source.positions[LEASE] = 9
    desk.settle(2, 1)
    desk.turn()
    assert desk.positions == [], "the transaction of what is under way carries its own offset"
    desk.settle(3, 2)
    desk.measure()
    desk.measure()
    assert desk.positions == [{LEASE: 9}]
    desk.intake.commit_last(desk.source, timeout=1)
    assert desk.source.commits == []


def test_with_transactions_a_failed_one_repeats_no_offset():
    desk = Desk(transactional=True)
    desk.turn(record(1))
    desk.settle(2, 1)
    desk.turn()
    desk.intake.commit_ended("failed")
    desk.turn(record(2))
    desk.turn()
    assert desk.positions == []


def test_a_rewind_voids_what_is_in_flight():
    desk = Desk(transactional=True)
    desk.turn(record(1), record(2))
    desk.intake.ask_rewind()
    desk.turn()
    assert desk.ended == [LEASE]
    assert desk.intake.in_flight == 0
    desk.turn()
    assert desk.source.rewinds == 1


def test_a_rewind_that_is_asked_for_during_one_is_not_lost():
    desk = Desk(transactional=True)
    desk.turn(record(1))
    rewind = desk.source.rewind

    def asked_again():
        rewind()
        if desk.source.rewinds == 1:
            desk.intake.ask_rewind()

    desk.source.rewind = asked_again
    desk.intake.ask_rewind()
    desk.turn()
    desk.turn()
    assert desk.source.rewinds == 2


def partition_progress(desk, partition):
    name = "worker_partition_progress_timestamp_seconds"
    return desk.registry.get_sample_value(name, {"topic": "in", "partition": str(partition)})
