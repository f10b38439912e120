"""The poll loop's turns: what may be in flight, what is committed, and what is measured."""

from collections import deque
from queue import SimpleQueue

import pytest
from prometheus_client import CollectorRegistry

from tests.support.fakes import record
from worker.decode import Decoder
from worker.errors import Transient
from worker.messages import (
    Accepted,
    Documents,
    Drained,
    Ended,
    EndOffsets,
    Outcomes,
    Positions,
    Progress,
    Rewind,
    Writable,
)
from worker.metrics import Metrics
from worker.records import HEADER_BYTES, Lease
from worker.stages.accounts import Accounts, Limits
from worker.stages.commit import ConsumerCommits, TransactionCommits
from worker.stages.dispatch import DECODE_SECONDS, Dispatch
from worker.stages.inflow import Inflow
from worker.stages.intake import MEASURE_SECONDS, Intake, Reports
from worker.stages.lag import STALL_SECONDS, Lag

LEASE = Lease(0, 1)
DECODER = Decoder(format="json", text_field="text", id_field="id", max_bytes=1_000)
NOW = 1_800_000_000.0
"""Unix time at which a test begins."""


class Source:
    """Gives what it is given; remembers what is asked of it."""

    def __init__(self):
        self.leases, self.batches, self.positions = [LEASE], deque(), {}
        self.ended, self.events, self.paused = [], ["assigned"], False
        self.commits, self.asked, self.busy, self.rebuilt = [], [], False, []
        self.rewinds = 0

    def poll(self, *, timeout, max_records, max_bytes):
        self.asked.append(max_records)
        self.bytes_asked = max_bytes
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
    def __init__(self, *, transactional=False, commit_interval=0.0, **limits):
        self.sent, self.inbox = [], SimpleQueue()
        self.now, self.wall = 100.0, NOW
        self.let_in = 10**6
        self.registry = CollectorRegistry()
        metrics = Metrics(
            input_topic="in", output_topic="out", dlq_topic="dlq", version="0",
            registry=self.registry,
        )  # fmt: skip
        self.accounts = Accounts(limits=Limits(**{"records": 10, "bytes": 10**6, **limits}))
        lag = Lag(
            accounts=self.accounts, metrics=metrics, clock=lambda: self.now, wall=lambda: self.wall
        )
        if transactional:
            self.commits = TransactionCommits(accounts=self.accounts, publish=self.sent.append)
        else:
            self.commits = ConsumerCommits(accounts=self.accounts, metrics=metrics)
        self.intake = Intake(
            reports=Reports(inbox=self.inbox, accounts=self.accounts, lag=lag),
            accounts=self.accounts,
            inflow=Inflow(accounts=self.accounts, gate=self, metrics=metrics),
            dispatch=Dispatch(
                decoder=self,
                assemble=self.sent.append,
                publish=self.sent.append,
                metrics=metrics,
                clock=lambda: self.now,
            ),
            committer=self.commits,
            commit_interval=commit_interval,
            lag=lag,
            metrics=metrics,
            clock=lambda: self.now,
        )
        self.source = Source()
        self.seconds_to_decode = 0.0

    def decode(self, record):
        self.now += self.seconds_to_decode
        return DECODER.decode(record)

    def turn(self, *records, reading=True):
        if records:
            self.source.batches.append(list(records))
        self.intake.turn(self.source, reading=reading)

    def measure(self):
        """A turn that looks at the positions and updates the gauges."""
        self.now += MEASURE_SECONDS
        self.turn()

    def stall(self):
        """Nothing comes for long."""
        self.now += STALL_SECONDS + 1

    def room(self, *, in_flight, most):
        return min(most, self.let_in)

    def took(self, records):
        self.let_in -= records

    def settle(self, committable, records, lease=LEASE, size=0):
        self.inbox.put(Progress(lease, committable, records, size))

    def ends(self, offsets):
        self.inbox.put(EndOffsets(offsets, self.wall))

    def messages(self, kind):
        return [message for message in self.sent if isinstance(message, kind)]

    @property
    def ended(self):
        return [lease for message in self.messages(Ended) for lease in message.leases]


@pytest.fixture
def desk():
    return Desk()


def test_records_are_accepted_before_anything_else_sees_them(desk):
    desk.turn(record(1), record(2, b"bad"), record(3, None))
    accepted, outcomes, documents = desk.sent
    assert accepted == Accepted([record(1), record(2, b"bad"), record(3, None)])
    assert isinstance(outcomes, Outcomes)
    assert [outcome.record.offset for outcome in outcomes.outcomes] == [2, 3]
    assert isinstance(documents, Documents)
    assert [document.record.offset for document in documents.documents] == [1]
    assert desk.accounts.in_flight == 3


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


def test_no_more_bytes_are_asked_for_than_there_is_room():
    desk = Desk(bytes=1_000)
    desk.turn(record(1, b"x" * 199))  # and a byte of key
    assert desk.source.bytes_asked == 1_000
    desk.turn()
    assert desk.source.bytes_asked == 800


def test_headers_are_in_flight_with_what_they_take_in_memory():
    desk = Desk(bytes=1_000 * HEADER_BYTES)
    desk.turn(record(1, headers=[("", b"")] * 1_000))
    desk.turn()
    assert desk.source.paused


@pytest.fixture
def slow(desk):
    """What takes longer to decode than a turn may: four records a turn."""
    desk.seconds_to_decode = DECODE_SECONDS / 4
    return desk


def decoded(desk):
    return [document.record.offset for m in desk.messages(Documents) for document in m.documents]


def test_a_turn_decodes_for_a_while_and_the_next_one_goes_on(slow):
    """A thousand records of 102 ms each were one turn, beyond the poll's deadline."""
    slow.turn(*[record(offset) for offset in range(10)])
    assert decoded(slow) == [0, 1, 2, 3]
    (accepted,) = slow.messages(Accepted)
    assert len(accepted.records) == slow.accounts.in_flight == 10
    slow.turn(record(10))
    assert slow.source.paused, "it goes on polling, and reads nothing"
    assert decoded(slow) == list(range(8))
    slow.turn()
    assert decoded(slow) == list(range(10))
    slow.settle(10, 10)
    slow.turn()
    assert not slow.source.paused
    assert decoded(slow) == list(range(11))


def test_a_record_that_alone_takes_longer_than_a_turn_is_decoded(desk):
    desk.seconds_to_decode = 3 * DECODE_SECONDS
    desk.turn(record(1), record(2))
    desk.turn()
    assert decoded(desk) == [1, 2]


def test_what_is_not_decoded_when_its_lease_ends_is_void(slow):
    other = Lease(1, 1)
    slow.source.leases.append(other)
    slow.turn(*[record(n) for n in range(6)], *[record(n, partition=1) for n in range(10, 12)])
    slow.source.leases, slow.source.ended = [other], [LEASE]
    slow.turn()
    assert decoded(slow) == [0, 1, 2, 3, 10, 11]
    assert slow.accounts.in_flight == 2


def test_what_is_not_decoded_at_a_rewind_is_void(slow):
    slow.turn(*[record(offset) for offset in range(6)])
    slow.inbox.put(Rewind())
    slow.turn()
    assert decoded(slow) == [0, 1, 2, 3]
    assert not slow.intake.behind
    assert slow.accounts.in_flight == 0


def test_what_a_drain_hands_back_is_never_decoded(slow):
    slow.turn(*[record(offset) for offset in range(6)])
    assert slow.intake.behind
    slow.intake.hand_back()
    slow.turn(reading=False)
    assert decoded(slow) == [0, 1, 2, 3]


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
    assert desk.intake.before_revocation([LEASE]) == {LEASE: 9}
    desk.intake.commit_last(desk.source, timeout=1)
    assert desk.source.commits[-1] == {LEASE: 9}


def test_an_idle_partition_of_transaction_markers_is_committed_to_its_end(desk):
    desk.turn()
    desk.source.positions[LEASE] = 2
    desk.measure()
    assert desk.source.commits == [{LEASE: 2}]


def test_what_is_settled_after_a_pause_is_committed_at_once():
    desk = Desk(commit_interval=0.1)
    desk.turn(*[record(offset) for offset in range(9)])
    for number, seconds in enumerate((0.0, 0.04, 0.07, 0.01, 0.2, 0.01), 1):
        desk.now += seconds
        desk.settle(number, number)
        desk.turn()
    assert desk.source.commits == [{LEASE: 1}, {LEASE: 3}, {LEASE: 5}], (
        "the first, the one after 0.1 s, and the one after a pause; never two within 0.1 s"
    )
    desk.now += 0.1
    desk.turn()
    assert desk.source.commits[-1] == {LEASE: 6}


def test_positions_past_markers_wait_for_the_interval_too_and_are_not_forgotten():
    desk = Desk(commit_interval=60.0)
    desk.turn(record(0))
    desk.settle(1, 1)
    desk.turn()
    desk.source.positions[LEASE] = 9
    for _ in range(8):
        desk.measure()
    assert desk.source.commits == [{LEASE: 1}]
    desk.now += 60 - 8 * MEASURE_SECONDS - 0.1
    desk.turn()
    desk.now += 0.2
    desk.turn()
    assert desk.source.commits == [{LEASE: 1}, {LEASE: 9}]


def test_a_commit_that_cannot_begin_is_tried_again_in_the_next_turn():
    desk = Desk(commit_interval=0.1)
    desk.turn(record(0))
    desk.settle(1, 1)
    desk.source.busy = True
    desk.turn()
    desk.source.busy = False
    desk.turn()
    assert desk.source.commits == [{LEASE: 1}]


def test_a_failed_commit_is_made_up_for_by_the_next(desk):
    desk.turn(record(5))
    desk.settle(6, 1)
    desk.turn()
    desk.commits.ended("failed")
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
    assert desk.ended == [LEASE, LEASE], "for the publish and the assemble thread"
    assert desk.accounts.in_flight == 0
    desk.settle(10, 10)
    desk.turn()
    assert desk.source.commits == []


def test_an_outage_is_no_end(desk):
    desk.source.batches.append(Transient("the broker is away"))
    desk.turn()
    desk.turn(record(1))
    assert len(desk.messages(Accepted)) == 1


def test_lag_is_told_per_partition_and_goes_with_it(desk):
    desk.ends({0: 8})
    desk.turn(record(5), record(6))
    desk.settle(6, 1)
    desk.measure()
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
    desk.ends({0: 21})
    desk.now += MEASURE_SECONDS
    desk.turn(record(20, timestamp=int(NOW * 1_000)))
    labels = {"topic": "in", "partition": "0"}
    assert 0 <= desk.registry.get_sample_value("worker_consumer_lag_seconds", labels) < 60


def test_the_age_of_what_is_not_read_yet_is_not_that_of_an_earlier_backlog(desk):
    desk.ends({0: 9})
    desk.source.positions[LEASE] = 0
    desk.measure()
    desk.now += 7_200
    desk.wall += 7_200
    desk.turn(record(5, timestamp=int(desk.wall * 1_000)))
    desk.measure()
    desk.settle(6, 1)
    desk.measure()
    labels = {"topic": "in", "partition": "0"}
    assert desk.registry.get_sample_value("worker_consumer_lag_records", labels) == 3
    assert 0 <= desk.registry.get_sample_value("worker_consumer_lag_seconds", labels) < 60


def test_what_was_read_since_the_end_was_told_is_part_of_the_lag(desk):
    desk.ends({0: 1})
    desk.turn(record(0))
    desk.settle(1, 1)
    desk.turn(record(1), record(2))
    desk.measure()
    labels = {"topic": "in", "partition": "0"}
    assert desk.registry.get_sample_value("worker_consumer_lag_records", labels) == 2
    assert desk.registry.get_sample_value("worker_consumer_lag_seconds", labels) > 1e6


def test_a_consumer_that_brings_nothing_though_records_wait_is_replaced(desk):
    desk.source.positions[LEASE] = 5
    desk.ends({0: 9})
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
    desk.ends({0: 9, 1: 9})
    desk.turn()
    desk.stall()
    desk.turn(record(0, partition=1))
    desk.settle(1, 1, lease=other)
    desk.measure()
    assert desk.source.rebuilt == ["records wait and none comes"]


def test_a_partition_that_nobody_knows_where_to_begin_is_no_progress_and_in_the_end_replaced(desk):
    """A transaction that hangs on the group's offsets: every poll is empty, for ever."""
    desk.source.positions = {}
    desk.ends({0: 9})
    desk.measure()
    assert desk.registry.get_sample_value("worker_last_progress_timestamp_seconds") == 0
    desk.stall()
    desk.measure()
    assert desk.source.rebuilt == ["records wait and none comes"]


def test_waiting_for_nothing_is_progress_and_a_lag_is_not(desk):
    name = "worker_last_progress_timestamp_seconds"
    desk.source.positions[LEASE] = 5
    desk.ends({0: 9})
    desk.measure()
    assert desk.registry.get_sample_value(name) == 0
    desk.ends({0: 5})
    desk.measure()
    assert desk.registry.get_sample_value(name) == NOW


def test_a_broker_that_is_away_is_no_progress_though_nothing_is_known_to_wait(desk):
    name = "worker_last_progress_timestamp_seconds"
    desk.source.positions[LEASE] = 5
    desk.measure()
    assert desk.registry.get_sample_value(name) == 0
    desk.wall += 100
    desk.ends({0: 5})
    desk.wall += 600
    desk.measure()
    assert desk.registry.get_sample_value(name) == partition_progress(desk, 0) == NOW + 100
    desk.ends({0: 5})
    desk.measure()
    assert desk.registry.get_sample_value(name) == partition_progress(desk, 0) == NOW + 700


def test_a_partition_that_stands_still_is_told_apart_from_one_that_flows(desk):
    other = Lease(1, 1)
    desk.source.leases.append(other)
    desk.source.positions = {LEASE: 0, other: 0}
    desk.ends({0: 9, 1: 9})
    desk.turn()
    desk.wall += 600
    desk.turn(record(0, partition=1))
    desk.settle(1, 1, lease=other)
    desk.measure()
    assert partition_progress(desk, 0) == NOW
    assert partition_progress(desk, 1) == NOW + 600


def test_a_partition_that_stands_still_does_so_through_a_new_lease(desk):
    """Else a consumer that is replaced every minute, and brings nothing, would never stall."""
    desk.source.positions[LEASE] = 0
    desk.ends({0: 9})
    desk.turn()
    desk.wall += 600
    desk.source.leases, desk.source.ended = [], [LEASE]
    desk.turn()
    assert partition_progress(desk, 0) is None
    desk.source.leases, desk.source.events = [Lease(0, 2)], ["assigned"]
    desk.measure()
    assert partition_progress(desk, 0) == NOW


def test_a_slow_model_is_no_stall(desk):
    desk.ends({0: 9})
    desk.turn(record(0))
    desk.settle(1, 1)
    desk.turn(record(1))
    desk.stall()
    desk.measure()
    assert desk.source.rebuilt == []


def test_a_pause_is_no_stall(desk):
    desk.source.positions[LEASE] = 5
    desk.ends({0: 9})
    desk.turn()
    desk.stall()
    desk.let_in = 0
    desk.turn()
    desk.let_in = 9
    desk.measure()
    assert desk.source.rebuilt == []


def test_a_consumer_that_has_nothing_to_bring_is_not_replaced(desk):
    desk.source.positions[LEASE] = 9
    desk.ends({0: 9})
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
    assert desk.messages(Positions) == [], (
        "the transaction of what is under way carries its own offset"
    )
    desk.settle(3, 2)
    desk.measure()
    desk.measure()
    assert desk.messages(Positions) == [Positions({LEASE: 9})]
    desk.intake.commit_last(desk.source, timeout=1)
    assert desk.source.commits == []


def test_with_transactions_the_consumer_commits_nothing_at_a_revocation():
    desk = Desk(transactional=True)
    desk.turn(record(1))
    desk.settle(2, 1)
    assert desk.intake.before_revocation([LEASE]) == {}


def test_with_transactions_what_was_settled_by_one_is_not_sent_again():
    desk = Desk(transactional=True)
    desk.turn(record(1))
    desk.settle(2, 1)
    desk.source.positions[LEASE] = 2
    desk.measure()
    desk.turn(record(2))
    desk.measure()
    assert desk.messages(Positions) == []


def test_a_rewind_voids_what_is_in_flight():
    desk = Desk(transactional=True)
    desk.turn(record(1), record(2))
    desk.inbox.put(Rewind())
    desk.turn()
    assert desk.ended == [LEASE, LEASE]
    assert desk.accounts.in_flight == 0
    desk.turn()
    assert desk.source.rewinds == 1


def test_a_rewind_that_is_asked_for_during_one_is_not_lost():
    desk = Desk(transactional=True)
    desk.turn(record(1))
    rewind = desk.source.rewind

    def asked_again():
        rewind()
        if desk.source.rewinds == 1:
            desk.inbox.put(Rewind())

    desk.source.rewind = asked_again
    desk.inbox.put(Rewind())
    desk.turn()
    desk.turn()
    assert desk.source.rewinds == 2


def partition_progress(desk, partition):
    name = "worker_partition_progress_timestamp_seconds"
    return desk.registry.get_sample_value(name, {"topic": "in", "partition": str(partition)})


def test_what_ends_a_wait_and_a_drain_is_kept_until_it_is_asked_for():
    desk = Desk()
    assert (desk.intake.reports.writable, desk.intake.reports.drained) == (False, False)
    desk.inbox.put(Writable())
    desk.intake.reports.take(timeout=1)
    assert (desk.intake.reports.writable, desk.intake.reports.drained) == (True, False)
    desk.inbox.put(Drained())
    desk.turn()
    assert desk.intake.reports.drained
