"""The brokers come back at other addresses, behind the same bootstrap address."""

import json
import time

import pytest

from tests.support.kafka_helpers import Message, create_topic, produce, read_all
from tests.support.proxy import Proxy
from tests.support.worker_process import WorkerProcess


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_a_broker_that_comes_back_at_another_port_is_found_in_seconds(
    proxied_kafka, tmp_path, guarantee
):
    direct, bootstrap = proxied_kafka
    names = {
        f"{role}_topic": create_topic(direct, f"{role}-moved-{time.time_ns()}", 2)
        for role in ("input", "output", "dlq")
    }

    def tweets(numbers):
        return [Message(value=json.dumps({"text": "x", "id": n}).encode()) for n in numbers]

    with Proxy(bootstrap.target) as former, Proxy(bootstrap.target) as latter:
        for proxy in (bootstrap, former):
            proxy.advertise("127.0.0.1", former.port)
        latter.advertise("127.0.0.1", latter.port)
        process = WorkerProcess(
            bootstrap=bootstrap.bootstrap_servers, directory=tmp_path, group=names["input_topic"],
            delivery__guarantee=guarantee, kafka__replica_id="r", **names,
        )  # fmt: skip
        with process:
            process.start()
            produce(direct, names["input_topic"], tweets(range(100)))
            process.wait_processed(100)
            bootstrap.advertise("127.0.0.1", latter.port)
            former.refuse()
            moved = time.monotonic()
            produce(direct, names["input_topic"], tweets(range(100, 200)))
            process.wait_processed(200, timeout=60)
            took = time.monotonic() - moved
            assert process.stop() == 0
    found = [json.loads(one.value)["id"] for one in read_all(
        direct, names["output_topic"], "read_committed"
    )]  # fmt: skip
    assert set(found) == set(range(200))
    assert guarantee == "at_least_once" or len(found) == 200
    assert took < 30
