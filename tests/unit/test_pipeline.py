"""The threads together, without Kafka: what can be shown in milliseconds."""

import signal
import time

import pytest

from worker.pipeline import Pipeline


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
