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


class Desk:
    def __init__(self, depth):
        self.inbox, self.assemble, self.publish = SimpleQueue(), [], []
        self.classifier = Noting()
        metrics = Metrics(
            input_topic="in", output_topic="out", dlq_topic="dlq", version="0",
            registry=CollectorRegistry(),
        )  # fmt: skip
        self.stage = ClassifyStage(
            inbox=self.inbox,
            inference=Inference(classifier=self.classifier, on_error=lambda _: None),
            depth=depth, assemble=self.assemble.append, publish=self.publish.append,
            metrics=metrics,
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
    assert desk.assemble == [Finished(batch, out_of_memory=False) for batch in desk.batches]


def test_an_abort_leaves_what_is_not_launched():
    desk = Desk(depth=1)
    desk.inbox.put(Abort())
    desk.put(1)
    desk.stage.run()
    assert (desk.publish, desk.classifier.calls_made) == ([], [])
