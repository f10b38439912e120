"""Three brokers, three workers, and everything that can be killed, is: what readers then see.

`CHAOS=long` (`make chaos`) runs the numbers that tests/README.md gives; else a short version runs.
"""

import os
import random
from collections import Counter

import pytest
from pydantic import ValidationError

from tests.support.audit import audit, read_committed
from tests.support.conductor import Conductor, Plan
from tests.support.kafka_helpers import create_topic
from worker.settings import DeliverySettings

LONG = os.environ.get("CHAOS") == "long"
SEED = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))
# Each of several processes on one simulated device may be killed, and so may their supervisor.
SEVERAL = (
    Plan(
        messages=60_000, workers=2, processes=2, kills=15, child_kills=30, joins=8, stops=6,
        broker_kills=2,
    )
    if LONG
    else Plan(
        messages=1_500, partitions=4, workers=1, processes=2, kills=1, child_kills=1, joins=0,
        stops=0, broker_kills=0,
    )
)  # fmt: skip
SHORT_PLAN = Plan(messages=4_000, kills=3, joins=1, stops=1, broker_kills=1)
LONG_PLAN = Plan(messages=100_000, kills=50, joins=20, stops=10, broker_kills=3)
DRAIN_DEADLINE = 25.0
GUARANTEES = pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])


@pytest.mark.slow
@pytest.mark.timeout(5_400 if LONG else 600)
@GUARANTEES
def test_whatever_is_killed_each_input_has_its_output(own_kafka, tmp_path, guarantee):
    run(own_kafka(nodes=3), tmp_path, guarantee, LONG_PLAN if LONG else SHORT_PLAN)


@pytest.mark.slow
@pytest.mark.timeout(5_400 if LONG else 600)
@GUARANTEES
def test_whichever_of_several_processes_is_killed_each_input_has_its_output(
    own_kafka, tmp_path, guarantee
):
    nodes = 3 if SEVERAL.broker_kills else 1
    stub = {"device": str(tmp_path / "device")}
    run(own_kafka(nodes=nodes), tmp_path, guarantee, SEVERAL, replicas=nodes, stub=stub)


def run(cluster, tmp_path, guarantee, plan, *, replicas=3, **settings):
    try:
        DeliverySettings(guarantee=guarantee)
    except ValidationError as refused:
        pytest.skip(str(refused.errors()[0]["msg"]))
    print(f"CHAOS_SEED={SEED}")
    bootstrap = cluster.bootstrap_servers
    for name, partitions in {"in": plan.partitions, "out": plan.partitions, "dlq": 1}.items():
        create_topic(bootstrap, name, partitions, replicas=replicas)
    conductor = Conductor(
        cluster=cluster,
        topics={"input_topic": "in", "output_topic": "out", "dlq_topic": "dlq"},
        plan=plan,
        rng=random.Random(SEED),
        directory=tmp_path,
        settings={
            "delivery__guarantee": guarantee,
            "drain__deadline": DRAIN_DEADLINE,
            "batch__max_records": 20,
            "seconds_per_batch": 0.05,
            **settings,
        },
    )
    try:
        conductor.run()
        seconds = conductor.seconds
        inputs, outputs, letters = (
            read_committed(bootstrap, name) for name in ("in", "out", "dlq")
        )
        verdict = audit(inputs, outputs, letters, topic="in")
        print(
            f"{guarantee}, seed {SEED}: {verdict}. "
            f"Struck in {seconds:.0f} s: {dict(conductor.struck)}. "
            f"Exits nobody asked for: {len(conductor.exits)} {conductor.exits}. "
            f"Drains: {len(conductor.drains)}, the slowest "
            f"{max(took for _, _, took in conductor.drains):.1f} s. "
            f"Warnings: {dict(conductor.warnings())}"
        )
        print((tmp_path / "chaos.log").read_text())
    finally:
        conductor.close()
    assert len({record.value for record in inputs}) == len(inputs) == plan.messages
    assert +conductor.struck == +Counter(
        kill=plan.kills, child=plan.child_kills, join=plan.joins, leave=plan.joins,
        stop=plan.stops, broker=plan.broker_kills,
    )  # fmt: skip
    bad = [
        f"{replica.name}: exit {code} after {took:.1f} s\n{replica.worker.log()[-3_000:]}"
        for replica in conductor.replicas
        for code, took in [replica.left]
        if code != 0 or took >= DRAIN_DEADLINE
    ]
    assert not bad, "\n".join(bad)
    assert not verdict.missing, verdict.missing[:20]
    assert not verdict.wrong, verdict.wrong[:20]
    assert not verdict.dead_lettered
    if guarantee == "exactly_once":
        assert verdict.exactly_once, f"{verdict}: {verdict.disordered[:20]}"
