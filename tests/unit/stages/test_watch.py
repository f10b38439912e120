"""The watch thread: what it reports, and how long it bears a broker that is away."""

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from worker import awake
from worker.awake import AwakeClock
from worker.endpoints import Health
from worker.errors import Fatal, Transient
from worker.messages import EndOffsets
from worker.metrics import Metrics
from worker.stages import watch
from worker.stages.shutdown import Shutdown
from worker.stages.watch import WatchStage


class Cluster:
    """Gives the answers of a test, then has the worker stop."""

    def __init__(self, shutdown, answers):
        self.shutdown, self.answers = shutdown, list(answers)

    def look(self):
        answer = self.answers.pop(0)
        if not self.answers:
            self.shutdown.drain()
        if isinstance(answer, Exception):
            raise answer
        return answer


def watched(*answers, outage_limit=600.0):
    """What the stage sent, the metric of the broker, and the probes' fields."""
    sent, shutdown, registry = [], Shutdown(deadline=1.0), CollectorRegistry()
    health = Health(clock=lambda: 0.0)
    stage = WatchStage(
        cluster=Cluster(shutdown, answers), device_memory=dict, poll=sent.append,
        outage_limit=outage_limit, shutdown=shutdown, health=health,
        metrics=Metrics(
            input_topic="in", output_topic="out", dlq_topic="dlq", version="0", registry=registry
        ),
    )  # fmt: skip
    stage.run()
    return sent, registry.get_sample_value("worker_broker_reachable"), health


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(watch, "WATCH_SECONDS", 0.0)


def test_end_offsets_go_to_the_poll_thread_with_the_time_of_the_answer():
    sent, reachable, health = watched({0: 7, 1: 9})
    (message,) = sent
    assert isinstance(message, EndOffsets)
    assert message.offsets == {0: 7, 1: 9}
    assert message.at > 1_700_000_000
    assert (reachable, health.broker_heard is not None) == (1, True)


def test_a_broker_that_is_away_is_shown_and_its_return_too():
    away = Transient("no broker answers")
    assert watched({0: 1}, away)[1] == 0
    sent, reachable, _ = watched(away, {0: 1})
    assert (len(sent), reachable) == (1, 1)


def test_a_broker_that_stays_away_ends_the_worker():
    with pytest.raises(Fatal, match=r"no broker has answered .*kafka\.outage_limit"):
        watched(Transient("no broker answers"), {0: 1}, outage_limit=0.0)


def test_a_pause_of_the_whole_process_is_no_silence_of_the_broker(monkeypatch):
    class Raw:
        now = 100.0

        def __call__(self):
            return self.now

    raw, away = Raw(), Transient("no broker answers")
    clock = AwakeClock(raw)
    monkeypatch.setattr(awake, "now", clock)

    def stopped_meanwhile(_shutdown, _seconds):
        raw.now += 3_600

    monkeypatch.setattr(Shutdown, "wait", stopped_meanwhile)
    with clock.ticking():
        assert watched({0: 1}, away, away, outage_limit=60.0)[1] == 0


def test_a_topic_that_is_gone_ends_the_worker():
    with pytest.raises(Fatal, match="was deleted"):
        watched(Fatal("topic in was deleted while the worker ran"), {0: 1})


def test_a_broker_that_stays_away_is_logged_once_at_first():
    with capture_logs() as logs:
        watched(*[Transient("no broker answers")] * 9, {0: 1})
    assert [line["error"] for line in logs if line["event"] == "broker_away"] == [
        "no broker answers"
    ]
