"""The brokers come back at other addresses, behind the same bootstrap address."""

import time

import pytest

from tests.support.kafka_helpers import wait_until
from tests.support.proxy import Proxy
from tests.support.scene import Scene


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_a_broker_that_comes_back_at_another_port_is_found_in_seconds(
    proxied_kafka, tmp_path, guarantee
):
    direct, bootstrap = proxied_kafka
    scene = Scene(direct, bootstrap, tmp_path, partitions=2)
    with Proxy(bootstrap.target) as former, Proxy(bootstrap.target) as latter:
        for proxy in (bootstrap, former):
            proxy.advertise("127.0.0.1", former.port)
        latter.advertise("127.0.0.1", latter.port)
        scene.feed(100)
        with scene.worker(delivery__guarantee=guarantee, kafka__replica_id="r").start() as worker:
            worker.wait_processed(100)
            bootstrap.advertise("127.0.0.1", latter.port)
            former.refuse()
            moved = time.monotonic()
            scene.feed(100)
            worker.wait_processed(200, timeout=60)
            took = time.monotonic() - moved
            assert worker.stop() == 0
    verdict = scene.verdict()
    assert verdict.missing == []
    assert guarantee == "at_least_once" or verdict.doubled == 0
    assert took < 30


def test_while_no_broker_is_found_the_worker_is_not_ready(proxied_kafka, tmp_path):
    direct, bootstrap = proxied_kafka
    scene = Scene(direct, bootstrap, tmp_path, partitions=2)
    with Proxy(bootstrap.target) as former, Proxy(bootstrap.target) as latter:
        for proxy in (bootstrap, former):
            proxy.advertise("127.0.0.1", former.port)
        latter.advertise("127.0.0.1", latter.port)
        with scene.worker().start() as worker:
            former.refuse()
            bootstrap.refuse()
            scene.feed(100)
            silent = (503, "the broker does not answer\n")
            wait_until(lambda: worker.get("/readyz") == silent, 40, "not ready")
            assert worker.get("/livez") == (200, "ok\n")
            bootstrap.advertise("127.0.0.1", latter.port)
            bootstrap.accept()
            wait_until(lambda: worker.get("/readyz")[0] == 200, 40, "ready again")
            worker.wait_processed(100)
            assert worker.stop() == 0
    assert scene.verdict().missing == []
