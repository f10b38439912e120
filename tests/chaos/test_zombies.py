"""A replica that is stopped in the worst moment and goes on when others have taken over."""

import os
import signal
import subprocess
import time

import psutil
import pytest

from tests.support.kafka_helpers import admin, wait_until
from tests.support.proxy import Api

SESSION = 6.0
HELD = [Api.END_TXN, Api.TXN_OFFSET_COMMIT]
UNANSWERED = [None, Api.ADD_OFFSETS_TO_TXN]
REQUEST_SECONDS = 5.0
"""More than the client waits for an answer to a request of a transaction."""
if os.environ.get("CHAOS") == "long":
    UNANSWERED += [Api.TXN_OFFSET_COMMIT, Api.END_TXN, Api.PRODUCE]
    HELD += [Api.ADD_OFFSETS_TO_TXN, Api.PRODUCE, Api.ADD_PARTITIONS_TO_TXN]


@pytest.fixture
def stage(scene):
    return scene(partitions=4)


def replica(stage, number):
    return stage.worker(
        delivery__guarantee="exactly_once", kafka__replica_id=f"replica-{number}",
        kafka__session_timeout=SESSION, kafka__heartbeat_interval=1, seconds_per_batch=0.05,
        batch__max_records=32,
    )  # fmt: skip


def assert_exactly_once(stage):
    verdict = stage.verdict()
    assert verdict.exactly_once, verdict


def wait_group_empty(stage):
    def empty():
        with admin(stage.direct) as client:
            return client.describe_groups([stage.topic])[stage.topic]["group_state"] == "Empty"

    wait_until(empty, 60, "the group is empty")


def ends_or_drains(worker):
    """A zombie that was fenced has ended by itself; one that was not drains."""
    try:
        code = worker.process.wait(20)
    except subprocess.TimeoutExpired:  # it lives
        code = worker.stop()
    assert code in (0, 1), worker.log()
    if code == 1:
        assert "fenced" in worker.log()
    return code


@pytest.mark.slow
@pytest.mark.parametrize("held", HELD)
def test_stopped_with_a_request_on_its_way_while_another_takes_over(stage, held):
    """The request reaches the broker when the successor has its partitions.

    With the end of the transaction held back its offsets are pending: only a consumer that is
    itself `read_committed` waits for them; else the successor doubles what the zombie commits.
    """
    zombie, other = replica(stage, 0), replica(stage, 1)
    with zombie.start():
        stage.feed(4_000)
        zombie.wait_processed(200)
        on_its_way = stage.proxy.hold_request(held)
        on_its_way.wait(150)
        psutil.Process(zombie.process.pid).suspend()
        with other.start():
            wait_until(lambda: other.metric("worker_assigned_partitions") == 4, 60, "it took over")
            on_its_way.release()
            on_its_way.wait_answered()
            zombie.process.send_signal(signal.SIGCONT)
            stage.feed(1_000)
            stage.wait_all_committed(other)
            ends_or_drains(zombie)
            assert other.stop() == 0
    assert_exactly_once(stage)


@pytest.mark.slow
def test_alone_stopped_until_its_group_is_empty(stage):
    """An empty group takes any offset from a member without a generation: it would go back."""
    zombie = replica(stage, 0)
    with zombie.start():
        stage.feed(4_000)
        for _ in range(2):
            zombie.wait_processed(zombie.processed() + 200)
            psutil.Process(zombie.process.pid).suspend()
            wait_group_empty(stage)
            psutil.Process(zombie.process.pid).resume()
        stage.feed(1_000)
        stage.wait_all_committed(zombie)
        assert zombie.stop() == 0
    assert_exactly_once(stage)


@pytest.mark.slow
@pytest.mark.parametrize("unanswered", UNANSWERED)
def test_replaced_under_its_own_name_it_ends_and_its_successor_does_not(stage, unanswered):
    """Kubernetes may start a pod's successor while the node of the old one is only cut off.

    With a request of its transaction out of time, it would begin anew before the group tells it.
    """
    zombie, successor = replica(stage, 0), replica(stage, 0)
    with zombie.start():
        stage.feed(4_000)
        zombie.wait_processed(200)
        if unanswered is not None:
            stage.proxy.hold_response(unanswered).wait(150)
        stopped = time.monotonic()
        psutil.Process(zombie.process.pid).suspend()
        with successor.start():
            successor.wait_processed(200)
            if unanswered is not None:
                wait_until(lambda: time.monotonic() - stopped > REQUEST_SECONDS, 60)
            psutil.Process(zombie.process.pid).resume()
            assert zombie.wait(60) == 1
            assert "another worker" in zombie.log()
            stage.wait_all_committed(successor)  # they do not fence each other
            assert successor.stop() == 0
    assert_exactly_once(stage)
