"""The publish thread: what it takes before it asks the sink, and how it ends."""

from queue import SimpleQueue

import pytest
from prometheus_client import CollectorRegistry

from tests.support.fakes import record
from worker.encode import Encoder
from worker.errors import Transient
from worker.messages import (
    Abort,
    Accepted,
    Barrier,
    Drained,
    Ended,
    Outcomes,
    Positions,
    Progress,
    Writable,
)
from worker.metrics import Metrics
from worker.records import Lease, Tombstone
from worker.stages.publish import Publisher, PublishStage
from worker.stages.shutdown import Shutdown

LEASE = Lease(0, 1)


class Sink:
    """Has everything acknowledged whenever it is asked, and notes how much that was."""

    def __init__(self):
        self.pending, self.settled, self.following = [], [], []
        self.forgotten, self.closed = [], False

    def __len__(self):
        return len(self.pending)

    def send(self, output):
        self.pending.append(output)

    def forget(self, leases):
        self.forgotten.append(leases)

    def take_acknowledged(self, *, following):
        taken, self.pending = self.pending, []
        self.settled.append(len(taken))
        self.following.append(following)
        return taken

    def close(self, *, timeout):
        self.closed = True


class OffsetSink(Sink):
    def __init__(self):
        super().__init__()
        self.positions = []

    def commit_positions(self, positions):
        self.positions.append(positions)


class Desk:
    def __init__(self, sink, make_sink=None):
        self.sink = sink
        self.inbox, self.sent, self.judged = SimpleQueue(), [], []
        self.shutdown = Shutdown(deadline=25.0)
        metrics = Metrics(
            input_topic="in", output_topic="out", dlq_topic="dlq", version="0",
            registry=CollectorRegistry(),
        )  # fmt: skip
        encoder = Encoder(
            output_topic="out", dlq_topic="dlq", output_partitions=1, labels=("joy",),
            model_name="stub", model_version="0",
        )  # fmt: skip
        publisher = Publisher(
            encoder=encoder, metrics=metrics, report=self.sent.append, judged=self.judged.extend
        )
        self.stage = PublishStage(
            inbox=self.inbox, publisher=publisher, make_sink=make_sink or (lambda: sink),
            poll=self.sent.append, shutdown=self.shutdown, metrics=metrics,
        )  # fmt: skip

    def put(self, *messages):
        for message in messages:
            self.inbox.put(message)


def test_outputs_that_are_there_share_a_transaction():
    """One by one, at 20 ms each, a steady stream of single records would fall behind."""
    desk = Desk(Sink())
    for number in range(5):
        desk.put(Accepted([record(number)]), Outcomes([Tombstone(record(number))]))
    desk.put(Barrier())
    desk.stage.run()
    assert desk.sink.settled[0] == 5
    assert desk.sent == [Writable(), Progress(LEASE, 5, 5, 5 * record().size), Drained()]
    assert desk.judged == [None] * 5
    assert desk.sink.closed


def test_the_sink_hears_how_many_outputs_will_follow():
    desk = Desk(Sink())
    desk.put(Accepted([record(number) for number in range(4)]), Outcomes([Tombstone(record(0))]))
    desk.put(Barrier())
    desk.stage.run()
    assert desk.sink.following[0] == 3


def test_leases_that_ended_are_forgotten_by_the_sink_too_and_late_outcomes_are_nothing():
    desk = Desk(Sink())
    desk.put(Accepted([record(0)]), Ended(frozenset([LEASE])), Outcomes([Tombstone(record(0))]))
    desk.put(Barrier())
    desk.stage.run()
    assert desk.sink.forgotten == [frozenset([LEASE])]
    assert desk.sink.settled == [0, 0]


def test_positions_go_to_a_sink_that_commits_offsets_and_to_no_other():
    desk = Desk(OffsetSink())
    desk.put(Positions({LEASE: 9}), Barrier())
    desk.stage.run()
    assert desk.sink.positions == [{LEASE: 9}]
    desk = Desk(Sink())
    desk.put(Positions({LEASE: 9}))
    with pytest.raises(TypeError):
        desk.stage.run()
    assert desk.sink.closed


def test_an_abort_ends_it_and_nothing_counts_as_drained():
    desk = Desk(Sink())
    desk.put(Accepted([record(0)]), Abort())
    desk.stage.run()
    assert desk.sent == [Writable()]
    assert desk.sink.closed


def test_a_worker_that_stops_before_a_broker_answers_has_no_sink():
    def no_answer():
        desk.shutdown.drain()
        raise Transient("no broker answers")

    desk = Desk(Sink(), make_sink=no_answer)
    desk.stage.run()
    assert desk.sent == []
