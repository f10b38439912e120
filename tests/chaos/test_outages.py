"""The broker away in mid-stream: the worker waits, goes on by itself, loses and doubles nothing.

`CHAOS=long` (`make chaos`): twenty times 30 s, otherwise a short version.
"""

import json
import os
import random
import time

import pytest

from tests.support.audit import read_committed
from tests.support.kafka_helpers import committed, wait_until
from tests.support.proxy import Api

LONG = os.environ.get("CHAOS") == "long"
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))
ROUNDS, SECONDS = (20, 30.0) if LONG else (3, 6.0)
PER_ROUND = 1_500
MOMENTS = {
    "exactly_once": [
        Api.ADD_PARTITIONS_TO_TXN, Api.PRODUCE, Api.ADD_OFFSETS_TO_TXN, Api.TXN_OFFSET_COMMIT,
        Api.END_TXN,
    ],
    "at_least_once": [Api.PRODUCE, Api.OFFSET_COMMIT, Api.FETCH],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(2_400 if LONG else 600)
@pytest.mark.parametrize("guarantee", MOMENTS)
def test_outages_in_mid_stream_restart_nothing_and_lose_nothing(scene, guarantee):
    print(f"CHAOS_SEED={SEED}")
    rng = random.Random(SEED)
    stage = scene(partitions=2)
    worker = stage.worker(
        delivery__guarantee=guarantee, kafka__replica_id="r", seconds_per_batch=0.02,
        batch__max_records=64,
    )  # fmt: skip
    returns, resident = [], []
    with worker.start():
        for _ in range(ROUNDS):
            moment = stage.proxy.drop_request(rng.choice(MOMENTS[guarantee]), nth=rng.randint(1, 4))
            stage.feed(PER_ROUND)
            moment.wait(150)
            stage.proxy.refuse()
            before = stage.committed()
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                assert worker.get("/livez")[0] == 200, worker.log()
                time.sleep(0.5)
            if SECONDS > 15:
                assert worker.get("/readyz")[0] == 503
            resident.append(worker.resident_bytes())
            stage.proxy.accept()
            back = time.monotonic()
            wait_until(lambda before=before: stage.committed() > before, 120, "it goes on")
            returns.append(time.monotonic() - back)
            stage.wait_all_committed(worker)
            stage.proxy.clear()
        wait_until(lambda: worker.get("/readyz")[0] == 200, 30, "it is ready again")
        assert worker.stop() == 0
    verdict = stage.verdict()
    print(
        f"{guarantee}, {ROUNDS} outages of {SECONDS:g} s; "
        f"first commit after the return {sorted(round(s, 1) for s in returns)} s; "
        f"{min(resident) >> 20}-{max(resident) >> 20} MB"
    )
    assert not verdict.missing
    assert not verdict.wrong
    assert guarantee == "at_least_once" or verdict.exactly_once
    assert sorted(returns)[len(returns) // 2] < (5 if LONG else 30), (
        "the short run is on any machine"
    )
    assert max(resident) < 1.2 * min(resident)


@pytest.mark.parametrize("guarantee", MOMENTS)
@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_an_outage_beyond_the_limit_ends_the_process_and_commits_nothing_more(
    scene, guarantee, busy
):
    stage = scene(partitions=2)
    worker = stage.worker(
        delivery__guarantee=guarantee, kafka__replica_id="r", kafka__outage_limit=4,
        seconds_per_batch=0.02 if busy else 0.0, batch__max_records=32,
    )  # fmt: skip
    with worker.start():
        stage.feed(6_000 if busy else 10)
        worker.wait_processed(10)
        if not busy:
            wait_until(lambda: stage.committed() == 10, 60, "all is committed")
        stage.proxy.refuse()
        assert worker.wait(90) == 1
    assert "(kafka.outage_limit): nothing unacknowledged was committed" in worker.log()
    stage.proxy.accept()
    outputs = read_committed(stage.direct, stage.names["output_topic"])
    sources = [json.loads(output.value)["source"] for output in outputs]
    done = {(source["partition"], source["offset"]) for source in sources}
    for partition, offset in committed(stage.direct, stage.topic).items():
        assert all((partition.partition, at) in done for at in range(offset))
