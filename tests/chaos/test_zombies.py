"""A replica that is stopped in the worst moment and goes on when others have taken over."""

import json
import os
import signal
import time
import uuid

import psutil
import pytest

from tests.chaos.audit import audit, read_committed
from tests.kafka_helpers import Message, committed, create_topic, end_offsets, produce, wait_until
from tests.proxy import Api
from tests.worker_process import WorkerProcess

SESSION = 6.0
HELD = [Api.END_TXN, Api.TXN_OFFSET_COMMIT]
if os.environ.get("CHAOS") == "long":
    HELD += [Api.ADD_OFFSETS_TO_TXN, Api.PRODUCE, Api.ADD_PARTITIONS_TO_TXN]


class Scene:
    """Two replicas that could be, one topic; the first one's requests go through a proxy."""

    def __init__(self, direct, proxy, directory, name):
        self.direct, self.proxy = direct, proxy
        self.names = {f"{role}_topic": f"{role}-{name}" for role in ("input", "output", "dlq")}
        self.topic = self.names["input_topic"]
        self.directory = directory
        self.count = 0
        for topic in self.names.values():
            create_topic(direct, topic, partitions=4)

    def replica(self, number, **options):
        return WorkerProcess(
            bootstrap=self.proxy.bootstrap_servers, directory=self.directory, group=self.topic,
            delivery__guarantee="exactly_once", kafka__replica_id=f"replica-{number}",
            kafka__session_timeout=SESSION, kafka__heartbeat_interval=1, seconds_per_batch=0.05,
            batch__max_records=32, **self.names, **options,
        )  # fmt: skip

    def feed(self, count):
        produce(self.direct, self.topic, [
            Message(value=json.dumps({"text": f"n {n}", "id": n}).encode(), key=b"%d" % (n % 50))
            for n in range(self.count, self.count + count)
        ])  # fmt: skip
        self.count += count

    def wait_all_committed(self):
        wait_until(
            lambda: (
                committed(self.direct, self.topic)
                == end_offsets(self.direct, self.topic, "read_committed")
            ),
            120, "all is committed",
        )  # fmt: skip

    def audit(self):
        verdict = audit(
            *(read_committed(self.direct, name) for name in self.names.values()), topic=self.topic
        )
        print(verdict)
        assert verdict.inputs == self.count
        assert verdict.exactly_once, verdict


@pytest.fixture
def scene(proxied_kafka, tmp_path):
    return Scene(*proxied_kafka, tmp_path, uuid.uuid4().hex[:8])


def ends_or_drains(worker):
    """A zombie that was fenced has ended by itself; one that was not drains."""
    try:
        code = worker.process.wait(20)
    except Exception:  # noqa: BLE001 - it lives
        code = worker.stop()
    assert code in (0, 1), worker.log()
    if code == 1:
        assert "fenced" in worker.log()
    return code


@pytest.mark.slow
@pytest.mark.parametrize("held", HELD)
def test_stopped_with_a_request_on_its_way_while_another_takes_over(scene, held):
    """The request reaches the broker when the successor has its partitions.

    With the end of the transaction held back its offsets are pending: only a consumer that is
    itself `read_committed` waits for them; else the successor doubles what the zombie commits.
    """
    zombie, other = scene.replica(0), scene.replica(1)
    with zombie.start():
        scene.feed(4_000)
        zombie.wait_processed(200)
        on_its_way = scene.proxy.hold_request(held)
        time.sleep(0.5)
        psutil.Process(zombie.process.pid).suspend()
        with other.start():
            wait_until(lambda: other.metric("worker_assigned_partitions") == 4, 60, "it took over")
            on_its_way.release()
            time.sleep(1)
            zombie.process.send_signal(signal.SIGCONT)
            scene.feed(1_000)
            scene.wait_all_committed()
            ends_or_drains(zombie)
            assert other.stop() == 0
    scene.audit()


@pytest.mark.slow
def test_alone_stopped_until_its_group_is_empty(scene):
    """An empty group takes any offset from a member without a generation: it would go back."""
    zombie = scene.replica(0)
    with zombie.start():
        scene.feed(4_000)
        for _ in range(2):
            zombie.wait_processed(zombie.processed() + 200)
            psutil.Process(zombie.process.pid).suspend()
            time.sleep(SESSION + 3)
            psutil.Process(zombie.process.pid).resume()
            time.sleep(1)
            if zombie.process.poll() is not None:
                zombie.start()
        scene.feed(1_000)
        scene.wait_all_committed()
        assert zombie.stop() == 0
    scene.audit()


@pytest.mark.slow
def test_replaced_under_its_own_name_it_ends_and_its_successor_does_not(scene):
    """Kubernetes may start a pod's successor while the node of the old one is only cut off."""
    zombie, successor = scene.replica(0), scene.replica(0)
    with zombie.start():
        scene.feed(4_000)
        zombie.wait_processed(200)
        psutil.Process(zombie.process.pid).suspend()
        with successor.start():
            successor.wait_processed(200)
            psutil.Process(zombie.process.pid).resume()
            assert zombie.wait(60) == 1
            assert "another worker" in zombie.log()
            scene.wait_all_committed()
            assert successor.process.poll() is None, "they fence each other"
            assert successor.stop() == 0
    scene.audit()
