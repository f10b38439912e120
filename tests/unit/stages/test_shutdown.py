"""When the worker stops: asked from any thread, decided by one."""

import threading

import pytest
from structlog.testing import capture_logs

from worker.errors import Fatal, Transient
from worker.stages import shutdown as module
from worker.stages.shutdown import Shutdown


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


def test_a_drain_labels_for_a_share_of_its_deadline_and_keeps_some_for_the_last_commit():
    clock = Clock()
    shutdown = Shutdown(deadline=100.0, clock=clock)
    assert not shutdown.stopping
    shutdown.drain()
    assert shutdown.stopping
    assert not shutdown.aborting()
    assert shutdown.hand_back_at == 1_060.0
    assert shutdown.left() == 85.0
    clock.now += 80.0
    assert shutdown.left() == 15.0, "never less"


def test_an_abort_stops_too():
    shutdown = Shutdown(deadline=1.0)
    shutdown.abort()
    assert shutdown.stopping
    assert shutdown.aborting()


def test_whoever_waits_on_any_thread_is_woken_when_the_worker_stops():
    shutdown = Shutdown(deadline=1.0)
    waiting = [threading.Thread(target=shutdown.wait, args=[60]) for _ in range(4)]
    for thread in waiting:
        thread.start()
    shutdown.drain()
    for thread in waiting:
        thread.join(10)
    assert not any(thread.is_alive() for thread in waiting)


def test_what_needs_a_broker_is_tried_until_one_answers_or_the_worker_stops(monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.001)
    answers = [Transient("no"), Transient("no"), "made"]

    def make():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    shutdown = Shutdown(deadline=1.0)
    with capture_logs() as logs:
        assert shutdown.reached(make) == "made"
    assert [line["error"] for line in logs] == ["no"]  # once, and then at intervals

    def stops():
        shutdown.drain()
        raise Transient("no")

    assert shutdown.reached(stops) is None
    assert shutdown.reached(lambda: "made") is None


def test_any_other_failure_is_the_callers():
    def fails():
        raise Fatal("no hope")

    with pytest.raises(Fatal):
        Shutdown(deadline=1.0).reached(fails)
