"""Each fault that makes the client lose data or hang in a transaction, provoked on purpose.

The worker talks to the broker through a proxy that hits the very request; checks go past it. One
worker lives through all of them: no fault may end the process, lose an input or double one.
"""

import json
import uuid
from collections import Counter

import pytest

from tests.fakes import expected_label
from tests.kafka_helpers import (
    Message,
    committed,
    create_topic,
    end_offsets,
    produce,
    read_all,
    wait_until,
)
from tests.proxy import Api
from tests.worker_process import WorkerProcess

FAULTS = {
    # The outcome is unknown, and the broker has committed.
    "the answer to commit is lost": lambda p: p.swallow_response(Api.END_TXN),
    "the answer to commit never comes": lambda p: p.swallow_response(Api.END_TXN, close=False),
    # The outcome is unknown, and the broker has not committed.
    "commit does not arrive": lambda p: p.drop_request(Api.END_TXN),
    # The client drops its request here, and waits for ever.
    "the coordinator refuses at commit": lambda p: p.drop_request(Api.END_TXN, refuse=1.5),
    "the coordinator refuses at offsets": lambda p: p.drop_request(
        Api.TXN_OFFSET_COMMIT, refuse=1.5
    ),
    "the coordinator refuses at begin": lambda p: p.drop_request(
        Api.ADD_PARTITIONS_TO_TXN, refuse=1.5
    ),
    "the answer to offsets is lost": lambda p: p.swallow_response(Api.TXN_OFFSET_COMMIT),
    "the answer to adding offsets is lost": lambda p: p.swallow_response(Api.ADD_OFFSETS_TO_TXN),
    # Records expire unsent, and the client would commit all the same.
    "outputs expire": lambda p: p.swallow_response(Api.PRODUCE, close=False, times=4),
    # The transaction outlives its deadline, and with 20 s the broker's own limit.
    "outputs are late": lambda p: p.delay(Api.PRODUCE, 20.0, times=4),
    "the answer to outputs is lost": lambda p: p.swallow_response(Api.PRODUCE),
    "the broker is away": lambda p: p.refuse(5.0),
}


@pytest.mark.slow
def test_one_worker_lives_through_every_fault_and_loses_and_doubles_nothing(
    proxied_kafka, tmp_path
):
    direct, proxy = proxied_kafka
    number = uuid.uuid4().hex[:8]
    names = {f"{role}_topic": f"{role}-{number}" for role in ("input", "output", "dlq")}
    topic = names["input_topic"]
    for name in names.values():
        create_topic(direct, name, partitions=2)
    worker = WorkerProcess(
        bootstrap=proxy.bootstrap_servers, directory=tmp_path, group=topic,
        delivery__guarantee="exactly_once", kafka__replica_id="r", seconds_per_batch=0.02,
        batch__max_records=64, **names,
    )  # fmt: skip
    count = 0
    with worker.start():
        for fault, strike in FAULTS.items():
            outcomes = Counter(_outcomes(worker))
            struck = strike(proxy)
            produce(direct, topic, [_tweet(n) for n in range(count, count + 2_000)])
            count += 2_000
            if struck is not None:
                struck.wait(150)  # a consumer that the client leaves stuck is replaced after 60 s
            wait_until(
                lambda: (
                    worker._alive()
                    and committed(direct, topic)
                    == end_offsets(direct, topic, "read_committed")
                ),
                180, f"{fault}: all is committed",
            )  # fmt: skip
            print(f"{fault}: {dict(Counter(_outcomes(worker)) - outcomes)}")
            # A request that only its client dropped may still be waiting in it.
            proxy.clear()
        assert worker.stop() == 0
    outputs = [
        json.loads(o.value) for o in read_all(direct, names["output_topic"], "read_committed")
    ]
    times = Counter(output["id"] for output in outputs)
    assert [n for n in range(count) if n not in times] == []
    assert {n: many for n, many in times.items() if many > 1} == {}
    assert all(output["label"] == expected_label(f"n {output['id']}") for output in outputs)
    assert {"unknown", "aborted"} <= set(_outcomes(worker)), "the faults struck"


def _tweet(number):
    return Message(
        value=json.dumps({"text": f"n {number}", "id": number}).encode(), key=b"%d" % (number % 50)
    )


def _outcomes(worker):
    return [e["outcome"] for e in worker.events() if e["event"] == "transaction_failed"]
