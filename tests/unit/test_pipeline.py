"""The threads together, without Kafka: what can be shown in milliseconds."""

import signal
import threading
import time
from unittest.mock import MagicMock

import pytest

from tests.support.fakes import record
from worker.errors import Fatal
from worker.pipeline import BARRIER, Pipeline
from worker.records import Tombstone
from worker.watchdog import POLL_DEADLINE, Watchdog


class Nothing:
    """Stands for every part that a pipeline does not touch before it starts."""

    def __getattr__(self, name):
        return Nothing()

    def __call__(self):
        return None


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


def test_a_poll_that_never_comes_back_is_a_failure_for_the_main_thread():
    class HangingIntake:
        asked, released = threading.Event(), threading.Event()

        def take_moved(self):
            return True

        def turn(self, source, *, reading):
            self.asked.set()
            self.released.wait(60)

    now = 100.0
    parts = Nothing()
    parts.watchdog = Watchdog(model_deadline=60.0, clock=lambda: now)
    pipeline = Pipeline(parts)
    pipeline.intake = HangingIntake()
    poll = threading.Thread(target=pipeline._turn, args=[None], kwargs={"reading": True})
    poll.start()
    assert pipeline.intake.asked.wait(60)
    failures = []
    while now < 100 + POLL_DEADLINE + 2:
        now += 0.5
        failures.append(pipeline.failure(timeout=0.0001))
    pipeline.intake.released.set()
    poll.join()
    assert [failure for failure in failures[:60] if failure] == []
    assert isinstance(failures[-1], Fatal)
    assert "the poll loop" in str(failures[-1])
    assert pipeline.failure(timeout=0.0001) is None
