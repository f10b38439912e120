"""The threads together, without Kafka: what can be shown in milliseconds."""

import signal
import time
from unittest.mock import MagicMock

import pytest

from tests.fakes import record
from worker.pipeline import BARRIER, Pipeline
from worker.records import Tombstone


class Nothing:
    """Stands for every part that a pipeline does not touch before it starts."""

    def __getattr__(self, name):
        return Nothing()


@pytest.mark.timeout(60)
def test_the_main_thread_wakes_up_whenever_a_signal_comes():
    """SimpleQueue.get(timeout) sleeps for ever when a signal comes as its time runs out."""
    pipeline = Pipeline(Nothing())
    before = signal.signal(signal.SIGALRM, lambda *_: time.sleep(0.001))
    try:
        for _ in range(300):
            signal.setitimer(signal.ITIMER_REAL, 0.0004)
            assert pipeline.failure(timeout=0.0005) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class CountingSink:
    """Notes how many outputs wait whenever it is asked what is acknowledged."""

    def __init__(self):
        self.pending, self.settled = [], []

    def __len__(self):
        return len(self.pending)

    def send(self, output):
        self.pending.append(output)

    def expect(self, records):
        pass

    def take_acknowledged(self):
        taken, self.pending = self.pending, []
        self.settled.append(len(taken))
        return taken

    def close(self, *, timeout):
        pass


def test_outputs_that_are_there_share_a_transaction():
    """One by one, at 20 ms each, a steady stream of single records would fall behind."""
    sink = CountingSink()
    parts = MagicMock(transactional=True, make_sink=lambda *_: sink)
    parts.encoder.encode = lambda outcome: MagicMock(record=outcome.record)
    pipeline = Pipeline(parts)
    for number in range(5):
        pipeline._publish_inbox.put([record(number)])
        pipeline._publish_inbox.put((Tombstone(record(number)),))
    pipeline._publish_inbox.put(BARRIER)
    pipeline._publish()
    assert sink.settled[0] == 5
