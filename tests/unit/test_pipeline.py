"""The threads: how they start, drain, fail and stop, without any stage of the worker."""

import signal
import threading
import time
from queue import SimpleQueue

import pytest

from worker.errors import Fatal
from worker.messages import Abort
from worker.pipeline import Pipeline
from worker.stages.shutdown import Shutdown
from worker.watchdog import POLL_DEADLINE, Watchdog


class Waits:
    """A stage that ends when the worker stops, or never."""

    def __init__(self, shutdown, *, for_ever=False):
        self.shutdown, self.for_ever = shutdown, for_ever
        self.released = threading.Event()

    def run(self):
        if self.for_ever:
            self.released.wait(60)
        while not self.shutdown.stopping:
            self.shutdown.wait(60)


class Fails:
    def run(self):
        raise ValueError("a stage that fails")


def pipeline(*stages, shutdown, inbox=None, watchdog=None):
    return Pipeline(
        stages={f"stage-{number}": stage for number, stage in enumerate(stages)},
        watch=Waits(shutdown),
        abort=[] if inbox is None else [inbox.put],
        shutdown=shutdown,
        watchdog=watchdog or Watchdog(model_deadline=60.0),
    )


@pytest.mark.timeout(60)
def test_the_main_thread_wakes_up_whenever_a_signal_comes():
    """SimpleQueue.get(timeout) sleeps for ever when a signal comes as its time runs out."""
    idle = pipeline(shutdown=Shutdown(deadline=1.0))
    before = signal.signal(signal.SIGALRM, lambda *_: time.sleep(0.001))
    try:
        for _ in range(300):
            signal.setitimer(signal.ITIMER_REAL, 0.0004)
            assert idle.failure(timeout=0.0005) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_drain_waits_for_every_stage():
    shutdown = Shutdown(deadline=60.0)
    running = pipeline(Waits(shutdown), Waits(shutdown), shutdown=shutdown)
    running.start()
    assert running.failure(timeout=0) is None
    assert running.drain(hurried=lambda: False) is None
    assert running.join(timeout=10)
    assert not shutdown.aborting()


def test_the_failure_of_a_stage_reaches_the_main_thread_as_it_was_raised():
    shutdown = Shutdown(deadline=60.0)
    running = pipeline(Waits(shutdown), Fails(), shutdown=shutdown)
    running.start()
    failure = running.failure(timeout=30)
    assert (type(failure), str(failure)) == (ValueError, "a stage that fails")
    running.abort()
    assert running.join(timeout=10)


@pytest.mark.parametrize(
    ("deadline", "hurried", "line"),
    [(0.05, False, "missed its deadline of 0.05 s"), (60.0, True, "aborted by a second signal")],
)
def test_a_drain_that_takes_too_long_or_is_hurried_aborts_every_stage(deadline, hurried, line):
    shutdown, inbox = Shutdown(deadline=deadline), SimpleQueue()
    stage = Waits(shutdown, for_ever=True)
    running = pipeline(stage, shutdown=shutdown, inbox=inbox)
    running.start()
    failure = running.drain(hurried=lambda: hurried)
    assert isinstance(failure, Fatal)
    assert line in str(failure)
    assert inbox.get_nowait() == Abort()
    assert shutdown.aborting()
    assert not running.join(timeout=0.01)
    stage.released.set()
    assert running.join(timeout=10)


def test_a_poll_that_never_comes_back_is_a_failure_for_the_main_thread():
    now = 100.0
    watchdog = Watchdog(model_deadline=60.0, clock=lambda: now)
    idle = pipeline(shutdown=Shutdown(deadline=1.0), watchdog=watchdog)
    failures = []
    with watchdog.poll:
        while now < 100 + POLL_DEADLINE + 2:
            now += 0.5
            failures.append(idle.failure(timeout=0.0001))
    assert [failure for failure in failures[:60] if failure] == []
    assert isinstance(failures[-1], Fatal)
    assert "the poll loop" in str(failures[-1])
    assert idle.failure(timeout=0.0001) is None
