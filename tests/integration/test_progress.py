"""When a worker says that it gets on: what the alert EmotionWorkerStalled goes by."""

import time
import uuid

from tests.support.kafka_helpers import create_topic, produce, wait_until
from tests.support.worker_process import WorkerProcess

PARTITIONS = 2


def test_an_idle_worker_gets_on_while_the_broker_answers_and_not_while_it_is_away(
    proxied_kafka, tmp_path
):
    direct, proxy = proxied_kafka
    number = uuid.uuid4().hex[:8]
    names = {f"{role}_topic": f"{role}-{number}" for role in ("input", "output", "dlq")}
    for name in names.values():
        create_topic(direct, name, partitions=PARTITIONS)
    worker = WorkerProcess(
        bootstrap=proxy.bootstrap_servers, directory=tmp_path, group=number, **names
    )

    def standstill():
        """Of the worker, and of a partition on average."""
        partitions = worker.metric("worker_partition_progress_timestamp_seconds") / PARTITIONS
        whole = worker.metric("worker_last_progress_timestamp_seconds")
        return time.time() - whole, time.time() - partitions

    with worker.start():
        owned = "worker_assigned_partitions"
        wait_until(lambda: worker.metric(owned) == PARTITIONS, 60, "it owns its partitions")
        produce(direct, names["input_topic"], ['{"text": "hello"}'])
        worker.wait_processed(1)
        settled = time.time()
        # Past the last record: nothing waits, and that is known.
        wait_until(lambda: time.time() - max(standstill()) > settled + 3, 60, "idle, and gets on")
        proxy.refuse()
        wait_until(lambda: min(standstill()) > 8, 60, "the broker is away: it stands still")
        assert worker.metric("worker_broker_reachable") == 0
        assert worker.metric("worker_consumer_lag_records") == 0
        assert worker.get("/livez")[0] == 200
        proxy.accept()
        wait_until(lambda: max(standstill()) < 5, 60, "it gets on again")
        assert worker.stop() == 0
