"""Memory does not grow with the backlog, nor while outputs cannot be written.

`CHAOS=long` (`make chaos`): 500,000 messages and an outage of 20 s, otherwise a short version.
"""

import os
import time

import pytest

from tests.support.kafka_helpers import Message, create_topic, produce, wait_until
from tests.support.worker_process import WorkerProcess

LONG = os.environ.get("CHAOS") == "long"
# All that waits at once, were it read in, would take over 80 MB in the short version.
PLANS = {1: (500_000, 20.0), 2: (500_000, 20.0)} if LONG else {1: (100_000, 8.0), 2: (40_000, 4.0)}
"""Messages and seconds of the outage, by the number of processes of the worker."""
EARLY = 12_000
MEGABYTE = 1 << 20
ALLOWED = 60 * MEGABYTE


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("processes", PLANS)
def test_memory_stays_flat_through_a_backlog_and_an_outage_of_the_output_broker(
    own_kafka, tmp_path, processes
):
    """The input lives on node 1, the outputs on node 2, which is stopped for a while."""
    total, outage = PLANS[processes]
    cluster = own_kafka(nodes=2)
    bootstrap = cluster.bootstrap_servers
    create_topic(bootstrap, "in", assignment={n: [1] for n in range(4)})
    create_topic(bootstrap, "out", assignment={n: [2] for n in range(4)})
    create_topic(bootstrap, "dlq", assignment={0: [2]})
    worker = WorkerProcess(
        bootstrap=bootstrap, input_topic="in", output_topic="out", dlq_topic="dlq",
        directory=tmp_path, log__level="warning", processes=processes,
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
        worker.wait_processed(EARLY)
        before = worker.resident_bytes()
        worker.wait_processed(total // 2, timeout=300)
        cluster.suspend(node=2)
        highest = []
        wait_until(
            lambda: worker.metric("worker_consumer_paused") == processes, 30, "intake pauses"
        )
        seen = [-1]

        def nothing_more_is_acknowledged():
            seen.append(worker.processed())
            return seen[-1] == seen[-2]

        wait_until(nothing_more_is_acknowledged, 60, "the outputs stop", every=1)
        done = seen[-1]
        end = time.monotonic() + outage

        def is_over():
            highest.append(worker.resident_bytes())
            return time.monotonic() > end

        wait_until(is_over, 60, "the outage ends", every=0.5)
        assert worker.get("/livez")[0] == 200
        assert worker.processed() == done, "nothing counts as done that was not acknowledged"
        cluster.resume(node=2)
        worker.wait_processed(total, timeout=400)
        after = worker.resident_bytes()
        assert worker.stop() == 0
    print(
        f"resident MB: {before / MEGABYTE:.0f} at {EARLY}, "
        f"{max(highest) / MEGABYTE:.0f} at most in the outage, {after / MEGABYTE:.0f} at {total}"
    )
    assert after - before < ALLOWED * processes
    assert max(highest) - before < ALLOWED * processes
