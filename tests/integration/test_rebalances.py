"""Rebalances while the worker is paused: the client forgets a join that ends between two polls."""

import json
import uuid

from tests.support.kafka_helpers import Message, create_topic, produce, wait_until
from tests.support.proxy import Api
from tests.support.worker_process import WorkerProcess


def test_paused_workers_join_once_and_not_for_ever(proxied_kafka, tmp_path):
    direct, proxy = proxied_kafka
    number = uuid.uuid4().hex[:8]
    names = {f"{role}_topic": f"{role}-{number}" for role in ("input", "output", "dlq")}
    for name in names.values():
        create_topic(direct, name, partitions=4)
    produce(direct, names["input_topic"], [
        Message(value=json.dumps({"text": f"n {n}", "id": n}).encode()) for n in range(3_000)
    ])  # fmt: skip

    def replica():
        return WorkerProcess(
            bootstrap=proxy.bootstrap_servers, directory=tmp_path, group=names["input_topic"],
            seconds_per_batch=4.0, batch__max_records=16, batch__in_flight=16,
            kafka__session_timeout=6, kafka__heartbeat_interval=1, **names,
        )  # fmt: skip

    first, second = replica(), replica()
    with first.start():
        first.wait_processed(16)
        wait_until(lambda: first.metric("worker_consumer_paused") == 1, 30, "it is paused")
        before = proxy.seen[Api.JOIN_GROUP]
        with second.start():
            wait_until(
                lambda: (
                    first.metric("worker_assigned_partitions") == 2
                    and second.metric("worker_assigned_partitions") == 2
                ),
                60, "both have their share",
            )  # fmt: skip
            joins = proxy.seen[Api.JOIN_GROUP] - before
            print(f"{joins} joins")
            # Two rounds of a cooperative rebalance, and a first join without a member id.
            assert joins <= 9, f"{joins} joins"
            assert second.stop() == 0
        assert first.stop() == 0
