"""Outputs that a topic refuses, or that a slow link takes long for, in both guarantees."""

import json
import random
import time
import uuid
from collections import Counter

import pytest

from tests.support.kafka_helpers import (
    Message,
    admin,
    committed,
    create_topic,
    end_offsets,
    produce,
    read_all,
    wait_until,
)
from tests.support.worker_process import WorkerProcess

GUARANTEES = ["at_least_once", "exactly_once"]


@pytest.fixture
def worker(kafka, topic, tmp_path):
    """A function that makes a worker; `.topics` are its three names."""
    made = []

    def make(guarantee, *, partitions=4, output=None, **options):
        names = {
            "input_topic": topic("in", partitions=partitions),
            "output_topic": topic("out", partitions=partitions, config=output),
            "dlq_topic": topic("dlq"),
        }
        process = WorkerProcess(
            directory=tmp_path, group=names["input_topic"], bootstrap=kafka,
            delivery__guarantee=guarantee, kafka__replica_id="replica", **names, **options,
        )  # fmt: skip
        process.topics = names
        made.append(process)
        return process

    yield make
    for process in made:
        process.__exit__()


def tweets(count, odd=(), **changes):
    return [
        Message(
            value=json.dumps({"text": f"n {n}", "id": n}).encode(), key=b"%d" % (n % 50),
            **(changes if n in odd else {}),
        )
        for n in range(count)
    ]  # fmt: skip


def noise(size):
    return (("noise", random.Random(0).randbytes(size)),)


def audit(kafka, names, count, refused, *, once):
    """Each was labelled, those in `refused` dead-lettered, once where that is promised."""
    wait_until(
        lambda: committed(kafka, names["input_topic"])
        == end_offsets(kafka, names["input_topic"], "read_committed"),
        60, "all is committed",
    )  # fmt: skip
    outputs = read_all(kafka, names["output_topic"], "read_committed")
    labels = Counter(json.loads(output.value)["id"] for output in outputs)
    letters = read_all(kafka, names["dlq_topic"], "read_committed")
    dead = Counter(json.loads(letter.value)["id"] for letter in letters)
    assert labels.keys() == set(range(count)) - set(refused)
    assert dead.keys() == set(refused)
    assert not once or max([*labels.values(), *dead.values()]) == 1
    last = {}
    for output in outputs:
        source = json.loads(output.value)["source"]
        assert not once or last.get(source["partition"], -1) < source["offset"]
        last[source["partition"]] = source["offset"]
    return Counter(dict(letter.headers)["dlq.reason"].decode() for letter in letters)


def limit(kafka, topic, **values):
    from kafka.admin import ConfigResource, ConfigResourceType

    policy = {name.replace("_", "."): str(value) for name, value in values.items()}
    with admin(kafka) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, policy)])


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_few_oversized_outputs_hold_the_others_up_by_seconds_at_most(kafka, worker, guarantee):
    process = worker(guarantee, output={"max.message.bytes": "20000"})
    large = set(range(500, 10_000, 1_000))
    produce(kafka, process.topics["input_topic"], tweets(10_000, large, headers=noise(30_000)))
    with process.start():
        process.wait_processed(1)
        began = time.monotonic()
        process.wait_processed(10_000, timeout=60)
        took = time.monotonic() - began
        assert process.metric("worker_commits_total", outcome="failed") <= 2
        assert process.stop() == 0
    reasons = audit(kafka, process.topics, 10_000, large, once=guarantee == "exactly_once")
    assert set(reasons) == {"output_too_large"}
    assert took < 30


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_every_record_without_a_key_of_a_topic_that_became_compacted_is_found(
    kafka, worker, guarantee
):
    process = worker(guarantee)
    keyless = set(random.Random(1).sample(range(3_000), 40))
    with process.start():
        process.wait_ready()
        limit(kafka, process.topics["output_topic"], cleanup_policy="compact")
        produce(kafka, process.topics["input_topic"], [
            Message(value=message.value, key=None if n in keyless else message.key)
            for n, message in enumerate(tweets(3_000))
        ])  # fmt: skip
        process.wait_processed(3_000, timeout=100)
        assert process.stop() == 0
    reasons = audit(kafka, process.topics, 3_000, keyless, once=guarantee == "exactly_once")
    assert set(reasons) == {"output_refused"}


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_limit_that_falls_below_a_whole_batch_costs_no_label(kafka, worker, guarantee):
    process = worker(guarantee, kafka__compression="none")
    large = {700, 1_900}
    with process.start():
        process.wait_ready()
        limit(kafka, process.topics["output_topic"], max_message_bytes=2_000)
        produce(kafka, process.topics["input_topic"], tweets(3_000, large, headers=noise(2_500)))
        process.wait_processed(3_000, timeout=100)
        assert process.stop() == 0
    audit(kafka, process.topics, 3_000, large, once=guarantee == "exactly_once")


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_slow_link_makes_smaller_spans_and_stops_nothing(proxied_kafka, tmp_path, guarantee):
    direct, proxy = proxied_kafka
    names = {
        f"{role}_topic": create_topic(direct, f"{role}-slow-{uuid.uuid4().hex[:8]}", 4)
        for role in ("input", "output", "dlq")
    }
    messages = tweets(400, set(range(400)), headers=noise(20_000))
    produce(direct, names["input_topic"], messages)
    process = WorkerProcess(
        directory=tmp_path, group=names["input_topic"], bootstrap=proxy.bootstrap_servers,
        delivery__guarantee=guarantee, kafka__replica_id="replica", kafka__compression="none",
        **names,
    )  # fmt: skip
    proxy.narrow(600_000)  # the 8 MB take 14 s: one span of them could not be committed in time
    with process:
        process.start()
        process.wait_processed(400, timeout=60)
        assert process.metric("worker_commits_total", outcome="failed") <= 4
        proxy.narrow(1e9)
        assert process.stop() == 0
    audit(direct, names, 400, (), once=guarantee == "exactly_once")
