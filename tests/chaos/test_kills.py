"""kill -9 in mid-stream: every input has its output, whatever is killed."""

import json
import os
import random

from tests.support.kafka_helpers import (
    Message,
    committed,
    end_offsets,
    produce,
    read_all,
    wait_until,
)
from tests.support.worker_process import WorkerProcess

LONG = os.environ.get("CHAOS") == "long"
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))


def test_three_kills_in_twenty_thousand_messages_lose_nothing(kafka, topic, tmp_path):
    print(f"CHAOS_SEED={SEED}")
    rng = random.Random(SEED)
    count, kills = (100_000, 15) if LONG else (20_000, 3)
    names = {
        "input_topic": topic("in", partitions=4),
        "output_topic": topic("out", partitions=4),
        "dlq_topic": topic("dlq"),
    }
    worker = WorkerProcess(
        bootstrap=kafka,
        directory=tmp_path,
        group=names["input_topic"],
        seconds_per_batch=0.03,
        kafka__session_timeout=6,
        kafka__heartbeat_interval=1,
        **names,
    )
    sent = [
        Message(value=json.dumps({"text": f"n {n}", "id": n}).encode(), key=b"%d" % (n % 500))
        for n in range(count)
    ]
    produce(kafka, names["input_topic"], sent)
    with worker:
        for kill in range(kills):
            worker.start()
            enough = rng.randint(300, count // (2 * kills))
            worker.wait_processed(enough)
            worker.kill()
            done = sum(offset or 0 for offset in committed(kafka, names["input_topic"]).values())
            assert done < count, f"kill {kill + 1} came after the end"
        worker.start()
        wait_until(
            lambda: (
                committed(kafka, names["input_topic"]) == end_offsets(kafka, names["input_topic"])
            ),
            240,
            "all is committed",
        )
        assert worker.stop() == 0
    ids = [json.loads(output.value)["id"] for output in read_all(kafka, names["output_topic"])]
    doubled = len(ids) - len(set(ids))
    print(f"{kills} kills, {count} inputs: 0 missing, {doubled} doubled ({doubled / count:.2%})")
    assert set(ids) == set(range(count))
    assert read_all(kafka, names["dlq_topic"]) == []
    # A crash repeats what was in flight (8 micro-batches of 256) and what was settled since the
    # last commit (0.1 s of at most 256 records each 0.03 s, and as much again for slow machines).
    assert doubled <= kills * (8 * 256 + 2 * 853)
