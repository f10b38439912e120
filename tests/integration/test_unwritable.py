"""A partition of the output topic that takes no writes: its replicas are not in sync."""

import json
from collections import Counter

import pytest

from tests.support.audit import read_committed
from tests.support.kafka_helpers import wait_until
from tests.support.scene import Scene


def doubles(outputs):
    """Partition and source of each input that has several outputs."""
    found = Counter((one.partition, str(json.loads(one.value)["source"])) for one in outputs)
    return [entry for entry, times in found.items() if times > 1]


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_the_worker_waits_for_the_partition_says_so_and_repeats_no_other_s_outputs(
    proxied_kafka, tmp_path, guarantee
):
    direct, proxy = proxied_kafka
    scene = Scene(direct, proxy, tmp_path, partitions=4)
    with scene.worker(
        delivery__guarantee=guarantee, kafka__replica_id="r", kafka__delivery_timeout=5
    ).start() as worker:
        proxy.lacks_replicas(1)
        scene.feed(400)
        unready = "no output was acknowledged for "
        wait_until(lambda: worker.get("/readyz")[1].startswith(unready), 60, "not ready")
        assert worker.get("/livez") == (200, "ok\n")
        assert worker.alive()
        proxy.lacks_replicas()
        worker.wait_processed(400)
        wait_until(lambda: worker.get("/readyz") == (200, "ok\n"), 20, "ready again")
        assert worker.stop() == 0
    verdict = scene.verdict()
    assert verdict.missing == []
    if guarantee == "exactly_once":
        assert verdict.doubled == 0
    else:
        assert verdict.doubled > 0, "the broker wrote what it did not acknowledge"
        outputs = read_committed(direct, scene.names["output_topic"])
        assert {number for number, _ in doubles(outputs)} == {1}
