"""The classify thread: how many batches it launches, in which order, and how it ends."""

from queue import SimpleQueue

import pytest
from prometheus_client import CollectorRegistry

from tests.support.fakes import StubClassifier, encoded
from worker.messages import Abort, Barrier, Finished, Outcomes
from worker.metrics import Metrics
from worker.records import MicroBatch
from worker.stages.classify import ClassifyStage
from worker.stages.inference import Inference, stage
from worker.stages.shutdown import Shutdown


class Noting(StubClassifier):
    """Notes launches and results."""

    def __init__(self):
        super().__init__()
        self.calls_made = []

    def launch(self, staged):
        self.calls_made.append("launch")
        return super().launch(staged)

    def scores(self, launched):
        self.calls_made.append("scores")
        return super().scores(launched)


class Slow(Noting):
    """Takes seconds of the desk's clock."""

    def __init__(self, clock, seconds):
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def scores(self, launched):
        self.clock.now += self.seconds
        return super().scores(launched)


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


class Desk:
    def __init__(self, depth, seconds=0.0):
        self.inbox, self.assemble, self.publish = SimpleQueue(), [], []
        self.clock = Clock()
        self.shutdown = Shutdown(deadline=25.0, clock=self.clock)
        self.classifier = Slow(self.clock, seconds)
        metrics = Metrics(
            input_topic="in", output_topic="out", dlq_topic="dlq", version="0",
            registry=CollectorRegistry(),
        )  # fmt: skip
        self.stage = ClassifyStage(
            inbox=self.inbox,
            inference=Inference(classifier=self.classifier, on_error=lambda _: None),
            depth=depth, assemble=self.assemble.append, publish=self.publish.append,
            shutdown=self.shutdown, metrics=metrics, clock=self.clock,
        )  # fmt: skip

    def put(self, *offsets):
        self.batches = [MicroBatch((encoded(offset),), "full") for offset in offsets]
        for batch in self.batches:
            self.inbox.put(stage(self.classifier, batch))


@pytest.mark.parametrize(
    ("depth", "calls"),
    [
        (1, ["launch", "scores", "launch", "scores", "launch", "scores"]),
        (2, ["launch", "launch", "scores", "launch", "scores", "scores"]),
    ],
)
def test_so_many_batches_are_launched_before_the_first_is_waited_for(depth, calls):
    desk = Desk(depth)
    desk.put(1, 2, 3)
    desk.inbox.put(Barrier())
    desk.stage.run()
    assert desk.classifier.calls_made == calls


def test_every_batch_is_finished_before_the_barrier_goes_on():
    desk = Desk(depth=2)
    desk.put(1, 2, 3)
    desk.inbox.put(Barrier())
    desk.stage.run()
    *outcomes, barrier = desk.publish
    assert barrier == Barrier()
    assert all(isinstance(message, Outcomes) for message in outcomes)
    offsets = [o.document.record.offset for message in outcomes for o in message.outcomes]
    assert offsets == [1, 2, 3]
    assert desk.assemble == [
        Finished(batch, out_of_memory=False, seconds=0.0) for batch in desk.batches
    ]


def test_an_abort_leaves_what_is_not_launched():
    desk = Desk(depth=1)
    desk.inbox.put(Abort())
    desk.put(1)
    desk.stage.run()
    assert (desk.publish, desk.classifier.calls_made) == ([], [])


def handed_back(desk):
    return [message.seconds is None for message in desk.assemble]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.1, [False] * 4),
        (4.0, [False, False, False, True]),  # of the drain: 4 s, 8 s, 12 s, no more
        (7.0, [False, False, True, True]),
        (10.0, [False, True, True, True]),
        (40.0, [False, True, True, True]),
    ],
)
def test_a_drain_runs_only_what_ends_in_time_and_hands_back_the_rest(seconds, expected):
    desk = Desk(depth=1, seconds=seconds)
    desk.put(1, 2, 3, 4)
    desk.inbox.put(Barrier())
    desk.shutdown.drain()  # the first is tried: nobody knows yet what it takes
    desk.stage.run()
    assert handed_back(desk) == expected
    *outcomes, barrier = desk.publish
    assert barrier == Barrier()
    assert len(outcomes) == expected.count(False)
    assert desk.clock.now <= 1_000 + max(15.0, seconds)


def test_without_a_drain_a_slow_model_runs_everything():
    desk = Desk(depth=1, seconds=60.0)
    desk.put(1, 2, 3)
    desk.inbox.put(Barrier())
    desk.stage.run()
    assert desk.assemble == [
        Finished(batch, out_of_memory=False, seconds=60.0) for batch in desk.batches
    ]
