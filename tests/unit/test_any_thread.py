"""The objects that more than one thread touches say so, and bear it."""

import threading
from collections import Counter
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from worker.endpoints import Health
from worker.kafka.consume.membership import Membership
from worker.metrics import Metrics
from worker.records import Lease
from worker.stages.breaker import Breaker, Tolerance
from worker.stages.gate import Gate
from worker.stages.shutdown import Shutdown
from worker.watchdog import Watchdog

THREADS, TIMES = 4, 2_000


@pytest.mark.parametrize("kind", [Metrics, Gate, Health, Watchdog, Membership, Shutdown])
def test_it_says_so(kind):
    assert "any thread" in kind.__doc__.lower()


def beside(work, *, threads=THREADS):
    """Runs ``work`` on several threads at once; raises what it raises."""
    failures, begin = [], threading.Barrier(threads)

    def run():
        begin.wait()
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    running = [threading.Thread(target=run) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failures:
        raise failures[0]


def metrics(registry):
    return Metrics(
        input_topic="in", output_topic="out", dlq_topic="dlq", version="0", registry=registry
    )


def test_metrics_lose_no_count():
    registry = CollectorRegistry()
    counted = metrics(registry)

    def work():
        for _ in range(TIMES):
            counted.stage_ran("publish", 0.5)
            counted.committed("ok")

    beside(work)
    name, labels = "worker_stage_duration_seconds_count", {"stage": "publish"}
    assert registry.get_sample_value(name, labels) == THREADS * TIMES
    commits = {
        sample.labels["outcome"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "worker_commits_total"
    }
    assert commits["ok"] == THREADS * TIMES


def test_the_gate_judges_every_verdict_that_was_reported():
    judged = Counter()

    class Counts(Breaker):
        def judge(self, verdicts, now):
            judged.update(verdicts)
            super().judge(verdicts, now)

    breaker = Counts(Tolerance(threshold=1.0, window=100, minimum=100))
    gate = Gate(breaker=breaker, metrics=metrics(CollectorRegistry()), health=None)
    done = threading.Event()

    def polls():
        while not done.is_set():
            gate.room(in_flight=0, most=1)

    poll = threading.Thread(target=polls)
    poll.start()

    def work():
        for _ in range(TIMES):
            gate.report([None, "invalid_json"])

    beside(work)
    done.set()
    poll.join()
    gate.room(in_flight=0, most=1)
    assert judged == {None: THREADS * TIMES, "invalid_json": THREADS * TIMES}


def test_health_answers_while_its_fields_are_written():
    health = Health(clock=lambda: 100.0)
    done = threading.Event()

    def writes():
        while not done.is_set():
            health.loop_turned = health.moved = health.broker_heard = 100.0
            health.bad_input = None if health.bad_input else "200 of the last 200"

    writer = threading.Thread(target=writes)
    writer.start()
    answers = set()
    try:
        beside(lambda: answers.update(health.ready() for _ in range(TIMES)))
        beside(lambda: answers.update(health.live() for _ in range(TIMES)))
    finally:
        done.set()
        writer.join()
    assert answers <= {
        None, "the model is not loaded", "the broker does not answer",
        "the consumer has not started", "most of the input is bad: 200 of the last 200",
    }  # fmt: skip


@pytest.mark.slow
def test_a_call_that_returns_again_and_again_is_never_overdue():
    """The main thread looks while another enters and leaves: it must not add up several calls."""
    now = 0.0
    watchdog = Watchdog(model_deadline=5.0, clock=lambda: now)
    done = threading.Event()

    def calls():
        while not done.is_set():
            with watchdog.model:
                pass

    caller = threading.Thread(target=calls)
    caller.start()
    try:
        for _ in range(200):
            before = watchdog.model.returned
            while watchdog.model.returned == before:
                pass
            now += 0.5
            assert watchdog.overdue() is None
    finally:
        done.set()
        caller.join()


def test_a_proof_is_never_that_of_a_membership_in_which_the_leases_were_not_held():
    """As a member that falls out of its group and comes back as another, again and again."""
    membership = Membership()
    state = SimpleNamespace(generation_id=1, member_id="member-1")
    consumer = SimpleNamespace(group_metadata=lambda: SimpleNamespace(**vars(state)))
    membership.joins_with(consumer)
    membership.holds({Lease(0, 1): "member-1"})
    done = threading.Event()

    def moves():
        number = 1
        while not done.is_set():
            state.generation_id, state.member_id = -1, ""
            membership.holds({})
            number += 1
            membership.holds({Lease(0, number): f"member-{number}"})
            state.member_id = f"member-{number}"
            state.generation_id = number

    mover = threading.Thread(target=moves)
    mover.start()

    def work():
        for _ in range(TIMES):
            lease = Lease(0, membership.newest_epoch)
            proof = membership.proof([lease])
            if proof is not None:
                assert proof.member_id == f"member-{lease.epoch}"

    try:
        beside(work)
    finally:
        done.set()
        mover.join()


def test_a_shutdown_is_seen_by_every_thread():
    shutdown = Shutdown(deadline=1.0)
    waiting = threading.Thread(target=beside, args=[lambda: shutdown.wait(60)])
    waiting.start()
    shutdown.abort()
    waiting.join(10)
    assert not waiting.is_alive()
