"""Each fault that makes the client lose data or hang in a transaction, provoked on purpose.

One worker lives through all of them: no fault may end the process, lose an input or double one.
"""

from collections import Counter

import pytest

from tests.support.proxy import Api

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
def test_one_worker_lives_through_every_fault_and_loses_and_doubles_nothing(scene):
    stage = scene(partitions=2)
    worker = stage.worker(
        delivery__guarantee="exactly_once", kafka__replica_id="r", seconds_per_batch=0.02,
        batch__max_records=64,
    )  # fmt: skip
    with worker.start():
        for fault, strike in FAULTS.items():
            outcomes = Counter(_outcomes(worker))
            struck = strike(stage.proxy)
            stage.feed(800)
            if struck is not None:
                struck.wait(150)  # a consumer that the client leaves stuck is replaced after 60 s
            stage.wait_all_committed(worker, f"{fault}: all is committed")
            print(f"{fault}: {dict(Counter(_outcomes(worker)) - outcomes)}")
            # A request that only its client dropped may still be waiting in it.
            stage.proxy.clear()
        assert worker.stop() == 0
    verdict = stage.verdict()
    assert verdict.exactly_once, verdict
    assert {"unknown", "aborted"} <= set(_outcomes(worker)), "the faults struck"


def _outcomes(worker):
    return [e["outcome"] for e in worker.events() if e["event"] == "transaction_failed"]
