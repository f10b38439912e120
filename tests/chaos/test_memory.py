"""Memory does not grow with the backlog, nor while outputs cannot be written."""

import os

import pytest

from tests.support.kafka_helpers import Message, create_topic, produce, wait_until
from tests.support.worker_process import WorkerProcess

MEGABYTE = 1 << 20
ALLOWED = 60 * MEGABYTE


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_stays_flat_through_a_backlog_and_an_outage_of_the_output_broker(
    own_kafka, tmp_path
):
    """The input lives on node 1, the outputs on node 2, which is stopped for 20 s."""
    total, early = 500_000, 20_000
    cluster = own_kafka(nodes=2)
    bootstrap = cluster.bootstrap_servers
    create_topic(bootstrap, "in", assignment={n: [1] for n in range(4)})
    create_topic(bootstrap, "out", assignment={n: [2] for n in range(4)})
    create_topic(bootstrap, "dlq", assignment={0: [2]})
    worker = WorkerProcess(
        bootstrap=bootstrap, input_topic="in", output_topic="out", dlq_topic="dlq",
        directory=tmp_path, log__level="warning",
    )  # fmt: skip

    def messages(count):
        padding = "x" * 100
        return (
            Message(
                value=b'{"text": "message %d %s"}' % (n, padding.encode()), key=b"%d" % (n % 999)
            )
            for n in range(count)
        )

    produce(bootstrap, "in", messages(total), compression_type="lz4")
    with worker.start():
        worker.wait_processed(early)
        before = worker.resident_bytes()
        worker.wait_processed(total // 3, timeout=300)
        cluster.suspend(node=2)
        highest = []
        wait_until(lambda: worker.metric("worker_consumer_paused") == 1, 30, "intake pauses")
        done = worker.processed()
        end = os.times().elapsed + 20

        def twenty_seconds_passed():
            highest.append(worker.resident_bytes())
            return os.times().elapsed > end

        wait_until(twenty_seconds_passed, 60, "the outage ends", every=0.5)
        assert worker.get("/livez")[0] == 200
        assert worker.processed() == done, "nothing counts as done that was not acknowledged"
        cluster.resume(node=2)
        worker.wait_processed(total, timeout=400)
        after = worker.resident_bytes()
        assert worker.stop() == 0
    print(
        f"resident MB: {before / MEGABYTE:.0f} at {early}, "
        f"{max(highest) / MEGABYTE:.0f} at most in the outage, {after / MEGABYTE:.0f} at {total}"
    )
    assert after - before < ALLOWED
    assert max(highest) - before < ALLOWED
