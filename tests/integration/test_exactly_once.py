"""Exactly once on a real Apache Kafka: outputs and offsets in transactions."""

import functools
import json
import os
import random
from collections import Counter

import pytest

from tests.support.fakes import BREAKS, expected_label
from tests.support.kafka_helpers import (
    Message,
    admin,
    committed,
    compact_now,
    end_offsets,
    produce,
    produce_transaction,
    read_all,
    wait_until,
)
from tests.support.worker_process import WorkerProcess

SEED = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))

SLOW = {"seconds_per_batch": 0.05, "batch__max_records": 64}  # about 1,200 records a second


@pytest.fixture
def worker(kafka, topic, tmp_path):
    """A function that makes an exactly-once worker; `.topics` are its three names."""
    made = []

    def make(*, partitions=4, like=None, **options):
        names = like.topics if like is not None else {
            "input_topic": options.pop("input_topic", None) or topic("in", partitions=partitions),
            "output_topic": topic("out", partitions=partitions),
            "dlq_topic": topic("dlq"),
        }  # fmt: skip
        options.setdefault("kafka__replica_id", f"replica-{len(made)}")
        options.setdefault("bootstrap", kafka)
        options = {"kafka__session_timeout": 6, "kafka__heartbeat_interval": 1, **options}
        options.setdefault("delivery__guarantee", "exactly_once")
        process = WorkerProcess(
            directory=tmp_path, group=names["input_topic"], **names, **options
        )  # fmt: skip
        process.topics = names
        made.append(process)
        return process

    yield make
    for process in made:
        process.__exit__()


def tweets(numbers, **options):
    return [
        Message(value=json.dumps({"text": f"n {n}", "id": n}).encode(), key=b"%d" % (n % 50),
                **options)
        for n in numbers
    ]  # fmt: skip


def all_committed(kafka, names):
    """Whether the group has all of the input behind it, transaction markers too."""
    topic = names["input_topic"]
    return committed(kafka, topic) == end_offsets(kafka, topic, "read_committed")


def wait_all_committed(kafka, names, timeout=240):
    wait_until(lambda: all_committed(kafka, names), timeout, "all is committed")


def labelled(kafka, names):
    """Ids of the committed labels, in each partition's order."""
    outputs = read_all(kafka, names["output_topic"], "read_committed")
    return [json.loads(output.value)["id"] for output in outputs]


def audit(kafka, names, count, *, once=True):
    """Fails unless each of the ids below `count` was labelled once, in its partition's order."""
    outputs = read_all(kafka, names["output_topic"], "read_committed")
    values = [json.loads(output.value) for output in outputs]
    times = Counter(value["id"] for value in values)
    assert [n for n in range(count) if n not in times] == []
    assert not once or {n: many for n, many in times.items() if many > 1} == {}
    assert all(value["label"] == expected_label(f"n {value['id']}") for value in values)
    last = {}
    for value in values:
        source = value["source"]
        assert not once or last.get(source["partition"], -1) < source["offset"]
        last[source["partition"]] = source["offset"]


def test_labels_dead_letters_tombstones_and_offsets_are_committed_together(kafka, worker):
    process = worker()
    names = process.topics
    rng = random.Random(SEED)
    bad = set(rng.sample(range(3_000), 60))
    produce(kafka, names["input_topic"], [
        Message(value=b"not json" if n in bad else json.dumps({"text": f"n {n}", "id": n}).encode())
        for n in range(3_000)
    ])  # fmt: skip
    produce(kafka, names["input_topic"], [Message(key=b"k%d" % n, value=None) for n in range(10)])
    produce(kafka, names["input_topic"], [Message(value=json.dumps({"text": BREAKS}).encode())])
    with process.start():
        process.wait_processed(3_011)
        wait_all_committed(kafka, names)
        assert process.metric("worker_commits_total", outcome="ok") > 0
        assert process.metric("worker_commits_total", outcome="failed") == 0
        assert process.stop() == 0
    outputs = read_all(kafka, names["output_topic"], "read_committed")
    assert sum(output.value is None for output in outputs) == 10
    ids = [json.loads(output.value)["id"] for output in outputs if output.value is not None]
    assert sorted(ids) == [n for n in range(3_000) if n not in bad]
    reasons = Counter(
        dict(record.headers)["dlq.reason"]
        for record in read_all(kafka, names["dlq_topic"], "read_committed")
    )
    assert reasons == {b"invalid_json": 60, b"model_failed": 1}


def test_transaction_markers_of_the_input_leave_no_lag(kafka, worker):
    process = worker(partitions=1)
    names = process.topics
    produce_transaction(kafka, names["input_topic"], tweets(range(10)))
    produce_transaction(kafka, names["input_topic"], tweets(range(10, 20)), commit=False)
    produce_transaction(kafka, names["input_topic"], tweets(range(20, 30)))
    with process.start():
        process.wait_processed(20)
        wait_all_committed(kafka, names, 60)
        wait_until(lambda: process.metric("worker_consumer_lag_records") == 0, 30, "no lag")
        assert process.stop() == 0
    assert labelled(kafka, names) == [*range(10), *range(20, 30)]


def test_kills_at_any_moment_lose_and_double_nothing(kafka, worker):
    print(f"CHAOS_SEED={SEED}")
    rng = random.Random(SEED)
    process = worker(seconds_per_batch=0.02)
    names, count = process.topics, 10_000
    produce(kafka, names["input_topic"], tweets(range(count)))
    with process:
        for _ in range(4):
            process.start()
            process.wait_processed(rng.randint(100, count // 6))
            process.kill()
        process.start()
        wait_all_committed(kafka, names)
        assert process.stop() == 0
    audit(kafka, names, count)


def stood_still(process):
    """Whether its consumer had to be replaced, since a partition was not read on for a minute."""
    return [e for e in process.events() if e.get("reason") == "records wait and none comes"]


def test_a_drain_under_load_hands_over_within_seconds_and_doubles_nothing(kafka, worker):
    # It leaves: else its partitions would be nobody's for so long.
    session = {"kafka__session_timeout": 300}
    first = worker(**SLOW, **session)
    second = worker(like=first, **SLOW, **session)
    names, count = first.topics, 12_000
    with first.start(), second.start():
        produce(kafka, names["input_topic"], tweets(range(count)))
        first.wait_processed(300)
        second.wait_processed(300)
        assert first.processed() + second.processed() < count / 2, "a backlog is left"
        assert first.stop() == 0
        wait_until(lambda: second.metric("worker_assigned_partitions") == 4, 120, "all partitions")
        wait_all_committed(kafka, names)
        assert second.stop() == 0
    assert stood_still(second) == []
    audit(kafka, names, count)


@pytest.mark.parametrize("assignment", ["cooperative-sticky", "range"])
@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_replicas_that_come_and_go_lose_and_double_nothing(kafka, worker, guarantee, assignment):
    options = {**SLOW, "kafka__assignment": assignment, "delivery__guarantee": guarantee}
    first = worker(**options)
    names, fed = first.topics, 0

    def feed(count):
        nonlocal fed
        produce(kafka, names["input_topic"], tweets(range(fed, fed + count)))
        fed += count

    with first.start():
        for _ in range(2):
            feed(4_000)  # which it is busy with while the other one joins
            other = worker(like=first, **options)
            with other.start():
                # However long its start took, there is something left for it.
                owned = functools.partial(other.metric, "worker_assigned_partitions")
                wait_until(owned, 120, "it has its share")
                feed(2_000)
                other.wait_processed(200)
                feed(2_000)  # which it leaves to the others
                assert other.stop() == 0
        feed(1_000)
        wait_all_committed(kafka, names)
        print("failed commits:", first.metric("worker_commits_total", outcome="failed"))
        rewound = [e for e in first.events() if e["event"] == "transaction_failed"]
        assert first.stop() == 0
    assert all(event["outcome"] == "aborted" for event in rewound)
    assert stood_still(first) == []
    audit(kafka, names, fed, once=guarantee == "exactly_once")


def test_a_refused_output_becomes_a_dead_letter_and_harms_no_other(kafka, worker, topic):
    process = worker(partitions=1)
    names = process.topics
    with admin(kafka) as client:
        client.alter_configs(_limit(names["output_topic"], 4_000))
    texts = [f"n {n}" for n in range(300)]
    messages = tweets(range(300))
    messages[100] = Message(value=messages[100].value, headers=(("h", random.randbytes(6_000)),))
    messages[101] = Message(value=messages[101].value, headers=(("h", random.randbytes(6_000)),))
    produce(kafka, names["input_topic"], messages)
    with process.start():
        process.wait_processed(len(texts))
        wait_all_committed(kafka, names)
        assert process.stop() == 0
    assert labelled(kafka, names) == [n for n in range(300) if n not in (100, 101)]
    refused = read_all(kafka, names["dlq_topic"], "read_committed")
    assert [json.loads(record.value)["id"] for record in refused] == [100, 101]
    assert {dict(record.headers)["dlq.reason"] for record in refused} == {b"output_too_large"}


def _limit(name, size):
    from kafka.admin import ConfigResource, ConfigResourceType

    return [ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": str(size)})]


def test_two_workers_with_one_identity_one_ends_and_says_why(kafka, worker):
    first = worker(**SLOW, kafka__replica_id="twin")
    twin = worker(like=first, **SLOW, kafka__replica_id="twin")
    names, count = first.topics, 6_000
    produce(kafka, names["input_topic"], tweets(range(count // 2)))
    with first.start():
        first.wait_processed(300)
        with twin.start():
            # Who was fenced hears of it when it commits: however long the start took, there is
            # something left to label.
            produce(kafka, names["input_topic"], tweets(range(count // 2, count)))
            assert first.wait(120) == 1
            assert "another worker uses the replica identity twin" in first.log() or (
                "another worker is the group's static member twin" in first.log()
            )
            # Where the twin's begin tore the first's commit, and it has not joined yet, the first
            # makes a new producer, which fences the twin: then both end, and are started again.
            wait_until(
                lambda: all_committed(kafka, names) or twin.process.poll() is not None,
                240, "all is committed, or the twin ended too",
            )  # fmt: skip
            if twin.process.poll() is not None:
                assert twin.wait() == 1
                assert "another worker uses the replica identity twin" in twin.log()
                twin.start()
                wait_all_committed(kafka, names)
            assert twin.stop() == 0
    audit(kafka, names, count)


def test_compaction_holes_are_no_lag(kafka, worker, topic):
    name = topic("holes", create=False)
    kept = compact_now(kafka, name, [
        Message(key=b"ab"[n // 5 :][:1], value=json.dumps({"text": f"n {n}", "id": n}).encode())
        for n in range(6)
    ])  # fmt: skip
    process = worker(input_topic=name, partitions=1)
    with process.start():
        process.wait_processed(len(kept))
        wait_all_committed(kafka, process.topics, 60)
        assert process.stop() == 0
    assert labelled(kafka, process.topics) == [4, 5]
