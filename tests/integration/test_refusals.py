"""Outputs that a topic refuses, or that a slow link takes long for, in both guarantees."""

import json
import random
import time
from collections import Counter

import pytest

from tests.support.kafka_helpers import (
    Message,
    admin,
    committed,
    end_offsets,
    produce,
    read_all,
)
from tests.support.proxy import Api
from tests.support.scene import Scene

GUARANTEES = ["at_least_once", "exactly_once"]


@pytest.fixture
def scene(proxied_kafka, tmp_path):
    return Scene(*proxied_kafka, tmp_path, partitions=4)


def worker(scene, guarantee, **options):
    return scene.worker(delivery__guarantee=guarantee, kafka__replica_id="replica", **options)


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


def audit(scene, count, refused, *, once):
    """Each was labelled, those in `refused` dead-lettered, once where that is promised."""
    kafka, names = scene.direct, scene.names
    assert committed(kafka, scene.topic) == end_offsets(kafka, scene.topic, "read_committed")
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
def test_a_few_oversized_outputs_hold_the_others_up_by_seconds_at_most(scene, guarantee):
    limit(scene.direct, scene.names["output_topic"], max_message_bytes=20_000)
    large = set(range(500, 10_000, 1_000))
    produce(scene.direct, scene.topic, tweets(10_000, large, headers=noise(30_000)))
    with worker(scene, guarantee).start() as process:
        process.wait_processed(1)
        began = time.monotonic()
        process.wait_processed(10_000, timeout=60)
        took = time.monotonic() - began
        assert process.metric("worker_commits_total", outcome="failed") <= 2
        assert process.stop() == 0
    reasons = audit(scene, 10_000, large, once=guarantee == "exactly_once")
    assert set(reasons) == {"output_too_large"}
    assert took < 30


def test_where_no_group_can_be_described_a_refused_output_costs_a_transaction_and_not_the_worker(
    scene,
):
    """The worker asks its group before a new transaction whether it was replaced."""
    scene.proxy.offer({Api.DESCRIBE_GROUPS: None, Api.DESCRIBE_CONFIGS: None})
    limit(scene.direct, scene.names["output_topic"], max_message_bytes=20_000)
    produce(scene.direct, scene.topic, tweets(300, {150}, headers=noise(30_000)))
    with worker(scene, "exactly_once", kafka__outage_limit=20).start() as process:
        process.wait_processed(300, timeout=60)
        assert process.metric("worker_commits_total", outcome="failed") >= 1
        assert process.stop() == 0
    audit(scene, 300, {150}, once=True)


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_every_record_without_a_key_of_a_topic_that_became_compacted_is_found(scene, guarantee):
    keyless = set(random.Random(1).sample(range(3_000), 40))
    with worker(scene, guarantee).start() as process:
        limit(scene.direct, scene.names["output_topic"], cleanup_policy="compact")
        produce(scene.direct, scene.topic, [
            Message(value=message.value, key=None if n in keyless else message.key)
            for n, message in enumerate(tweets(3_000))
        ])  # fmt: skip
        process.wait_processed(3_000, timeout=100)
        assert process.stop() == 0
    reasons = audit(scene, 3_000, keyless, once=guarantee == "exactly_once")
    assert set(reasons) == {"output_refused"}


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_limit_that_falls_below_a_whole_batch_costs_no_label(scene, guarantee):
    large = {700, 1_900}
    with worker(scene, guarantee, kafka__compression="none").start() as process:
        limit(scene.direct, scene.names["output_topic"], max_message_bytes=2_000)
        produce(scene.direct, scene.topic, tweets(3_000, large, headers=noise(2_500)))
        process.wait_processed(3_000, timeout=100)
        assert process.stop() == 0
    audit(scene, 3_000, large, once=guarantee == "exactly_once")


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_slow_link_makes_smaller_spans_and_stops_nothing(scene, guarantee):
    produce(scene.direct, scene.topic, tweets(400, set(range(400)), headers=noise(20_000)))
    scene.proxy.narrow(600_000)  # the 8 MB take 14 s: one span of them could not be in time
    with worker(scene, guarantee, kafka__compression="none").start() as process:
        process.wait_processed(400, timeout=60)
        assert process.metric("worker_commits_total", outcome="failed") <= 4
        scene.proxy.narrow(1e9)
        assert process.stop() == 0
    audit(scene, 400, (), once=guarantee == "exactly_once")


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_where_the_topic_compresses_anew_one_that_is_too_large_condemns_no_smaller_one(
    scene, guarantee
):
    output, dlq = scene.names["output_topic"], scene.names["dlq_topic"]
    for topic in (output, dlq):
        limit(scene.direct, topic, compression_type="uncompressed", max_message_bytes=20_000)
    messages = tweets(2_000, set(range(0, 2_000, 4)), headers=noise(600))
    large = set(range(1, 2_000, 400))
    for number in large:  # compressed by the client they are smaller than others
        message = messages[number]
        messages[number] = Message(
            value=message.value, key=message.key, headers=(("zeros", bytes(30_000)),)
        )
    bad = [Message(value=b"x" * 100_000), *(Message(value=b"\xff" + m.value * 30)
                                            for m in messages[:100])]  # fmt: skip
    with worker(scene, guarantee).start() as process:
        produce(scene.direct, scene.topic, [*messages, *bad])
        process.wait_processed(2_101, timeout=60)
        assert process.stop() == 0
    outputs = read_all(scene.direct, output, "read_committed")
    labelled = {json.loads(one.value)["id"] for one in outputs}
    assert labelled == set(range(2_000)) - large
    letters = read_all(scene.direct, dlq, "read_committed")
    cut = [one for one in letters if "dlq.truncated" in dict(one.headers)]
    assert {dict(one.headers)["dlq.reason"] for one in cut} <= {b"invalid_json",
                                                                b"output_too_large"}  # fmt: skip
    assert len({one.value for one in cut}) <= 1 + len(large)


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_refused_timestamp_beside_a_missing_key_costs_no_label(scene, guarantee):
    dice = random.Random(3)
    keyless = set(dice.sample(range(3_000), 50))
    old = set(dice.sample(range(3_000), 100)) - keyless
    before = int(time.time() * 1_000) - 10**9
    messages = [
        Message(
            value=message.value,
            key=None if number in keyless else message.key,
            timestamp=before if number in old else None,
        )
        for number, message in enumerate(tweets(3_000))
    ]
    with worker(scene, guarantee).start() as process:
        limit(
            scene.direct, scene.names["output_topic"],
            cleanup_policy="compact", message_timestamp_before_max_ms=3_600_000,
        )  # fmt: skip
        produce(scene.direct, scene.topic, messages)
        process.wait_processed(3_000, timeout=100)
        assert process.stop() == 0
    audit(scene, 3_000, keyless, once=guarantee == "exactly_once")


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_refused_timestamps_that_no_broker_names_or_foretells_are_learnt(scene, guarantee):
    limit(
        scene.direct, scene.names["output_topic"],
        message_timestamp_before_max_ms=86_400_000, message_timestamp_after_max_ms=3_600_000,
    )  # fmt: skip
    limit(scene.direct, scene.topic, message_timestamp_after_max_ms=10**12)
    scene.proxy.offer({Api.PRODUCE: 7, Api.DESCRIBE_CONFIGS: None})
    now = int(time.time() * 1_000)
    away = {0: -10 * 86_400_000, 5: 10 * 86_400_000}
    produce(scene.direct, scene.topic, [
        Message(value=message.value, key=message.key,
                timestamp=now + away[n % 10] if n % 10 in away else None)
        for n, message in enumerate(tweets(3_000))
    ])  # fmt: skip
    with worker(scene, guarantee).start() as process:
        process.wait_processed(3_000, timeout=60)
        assert process.metric("worker_commits_total", outcome="failed") <= 40
        assert process.stop() == 0
    audit(scene, 3_000, (), once=guarantee == "exactly_once")


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_limit_that_fell_is_read_again_after_the_first_refusal(scene, guarantee):
    large = set(range(0, 3_000, 10))
    bytes_ = noise(50_000)[0][1]
    with worker(scene, guarantee).start() as process:
        limit(scene.direct, scene.names["output_topic"], max_message_bytes=20_000)
        produce(scene.direct, scene.topic, [
            Message(value=message.value, key=message.key,
                    headers=(("noise", bytes_[:50_000 - n * 8]),) if n in large else ())
            for n, message in enumerate(tweets(3_000))
        ])  # fmt: skip
        process.wait_processed(3_000, timeout=60)
        failed = process.metric("worker_produce_errors_total", code="MessageSizeTooLargeError")
        assert failed <= 20
        assert process.stop() == 0
    assert set(audit(scene, 3_000, large, once=guarantee == "exactly_once")) == {"output_too_large"}
