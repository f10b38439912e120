"""The worker process on a real Apache Kafka, with a model that is instant."""

import json
import random
import signal
import time
import zlib

import pytest

from tests.support.fakes import BREAKS, NOT_FINITE, expected_label
from tests.support.kafka_helpers import (
    Message,
    add_partitions,
    admin,
    committed,
    compact_now,
    create_topic,
    delete_records,
    delete_topic,
    end_offsets,
    produce,
    produce_transaction,
    read_all,
    wait_until,
)
from tests.support.worker_process import WorkerProcess, no_echo


@pytest.fixture
def worker(kafka, topic, tmp_path):
    """A function that makes a worker on fresh topics; `.topics` are its three names."""
    made = []

    def make(*, partitions=4, **options):
        names = {
            "input_topic": options.pop("input_topic", None) or topic("in", partitions=partitions),
            "output_topic": options.pop("output_topic", None)
            or topic("out", partitions=partitions),
            "dlq_topic": options.pop("dlq_topic", None) or topic("dlq"),
        }
        options.setdefault("bootstrap", kafka)
        process = WorkerProcess(directory=tmp_path, group=names["input_topic"], **names, **options)
        process.topics = names
        made.append(process)
        return process

    yield make
    for process in made:
        process.__exit__()


def tweet(text, number=None, **kwargs):
    return Message(value=json.dumps({"text": text, "id": number}).encode(), **kwargs)


def position(output):
    source = json.loads(output.value)["source"]
    return source["partition"], source["offset"]


def assert_all_committed(kafka, worker):
    group, source = worker.topics["input_topic"], worker.topics["input_topic"]
    done = {p: offset for p, offset in committed(kafka, group).items() if offset is not None}
    ends = {p: end for p, end in end_offsets(kafka, source).items() if end > 0}
    assert {p: done.get(p) for p in ends} == ends


def test_every_record_becomes_one_output_like_it(kafka, worker):
    process, present = worker(), int(time.time() * 1_000)
    sent = [
        tweet(
            f"message number {number}",
            number,
            key=None if number % 7 == 0 else b"key-%d" % (number % 50),
            headers=(("trace", b"%d" % number), ("trace", b"again"), ("empty", None)),
            timestamp=present + number,
            partition=number % 4,
        )
        for number in range(2_000)
    ]
    where = produce(kafka, process.topics["input_topic"], sent)
    process.start()
    process.wait_processed(len(sent))
    assert process.stop() == 0

    outputs = read_all(kafka, process.topics["output_topic"])
    by_position = {position(output): output for output in outputs}
    assert len(outputs) == len(by_position) == len(sent)
    for message, metadata in zip(sent, where, strict=True):
        output = by_position[metadata.partition, metadata.offset]
        value = json.loads(output.value)
        assert value["label"] == expected_label(json.loads(message.value)["text"])
        assert value["id"] == json.loads(message.value)["id"]
        assert output.key == message.key
        assert output.timestamp == message.timestamp
        headers = [(name, b"" if value is None else value) for name, value in message.headers]
        assert list(output.headers) == headers
        if message.key is None:
            assert output.partition == metadata.partition
    assert_order_is_kept(outputs)
    assert_all_committed(kafka, process)


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_a_new_group_begins_at_the_end_and_reads_all_that_comes_then(kafka, worker, guarantee):
    process = worker(input__start="latest", delivery__guarantee=guarantee)
    name = process.topics["input_topic"]
    old = [tweet(f"old {n}", n, partition=n % 3) for n in range(40)]  # none in partition 3
    produce(kafka, name, old)
    process.start()
    assert process.get("/metrics")[0] == 200
    wait_until(lambda: len(committed(kafka, name)) == 4, 60, "the ends are committed")
    process.kill()  # before it has labelled anything
    produce(kafka, name, [tweet(f"new {n}", n, partition=n % 4) for n in range(100, 140)])
    process.start()
    process.wait_processed(40)
    assert process.stop() == 0
    outputs = read_all(kafka, process.topics["output_topic"], "read_committed")
    assert sorted(json.loads(o.value)["id"] for o in outputs) == list(range(100, 140))


def test_a_new_group_begins_at_a_time(kafka, worker):
    noon = 1_795_341_600_000
    process = worker(input__start="2026-11-22T10:00:00Z")
    name = process.topics["input_topic"]
    sent = [
        tweet(f"at {n}", n, partition=n % 4, timestamp=noon + n * 1_000) for n in range(-20, 20)
    ]
    produce(kafka, name, sent)
    process.start()
    process.wait_processed(20)
    assert process.stop() == 0
    outputs = read_all(kafka, process.topics["output_topic"])
    assert sorted(json.loads(o.value)["id"] for o in outputs) == list(range(20))


def test_with_partition_input_each_label_is_in_the_partition_of_its_record(kafka, worker):
    process = worker(output__partition="input")
    keys = [None, b"", *(b"key-%d" % number for number in range(80))]
    sent = [
        # As librdkafka chooses by default: CRC32 of the key.
        tweet(f"of {key}", number, key=key, partition=zlib.crc32(key or b"%d" % number) % 4)
        for number, key in enumerate(keys * 3)
    ]
    produce(kafka, process.topics["input_topic"], [*sent, Message(value=None, key=b"gone")])
    process.start()
    process.wait_processed(len(sent) + 1)
    assert process.stop() == 0
    outputs = [o for o in read_all(kafka, process.topics["output_topic"]) if o.value is not None]
    assert len(outputs) == len(sent)
    assert [o.partition for o in outputs] == [position(o)[0] for o in outputs]
    assert_order_is_kept(outputs)


def test_with_partition_input_fewer_partitions_are_refused(kafka, worker, topic):
    process = worker(output__partition="input", output_topic=topic("out", partitions=3))
    process.start(ready=False)
    assert process.wait() == 2
    line = process.events()[-1]["event"]
    assert line.startswith("output.partition: input needs as many partitions as ")
    assert "(4)" in line
    assert "has 3: add some to it, or set output.partition=key" in line


def assert_order_is_kept(outputs):
    """Of each input partition, in each output partition: offsets rise."""
    last = {}
    for output in outputs:
        partition, offset = position(output)
        lane = (partition, output.partition)
        assert offset > last.get(lane, -1), f"{lane}: {offset} after {last[lane]}"
        last[lane] = offset


BAD = {
    "invalid_utf8": b'{"text": "\xff\xfe"}',
    "invalid_json": b'{"text": "no end',
    "not_an_object": b'["text"]',
    "nested_too_deep": b'{"text": "x", "more": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "missing_text": b'{"txt": "hello"}',
    "text_not_string": b'{"text": 5}',
    "invalid_unicode": b'{"text": "\\ud800"}',
    "empty_text": b'{"text": "  \\n "}',
    "input_too_large": b'{"text": "' + b"x" * 20_000 + b'"}',
    "model_failed": json.dumps({"text": f"this {BREAKS} the model"}).encode(),
}


def test_a_thousand_bad_records_harm_none_of_ten_thousand_good_ones(kafka, worker, topic):
    process = worker(
        output_topic=topic("out", partitions=4, config={"max.message.bytes": "6000"}),
        input__max_bytes=16_384,
        kafka__compression="none",
        log__level="warning",
    )
    bad = [(reason, value, ()) for reason, value in BAD.items()]
    bad.append(("model_failed", json.dumps({"text": f"scores are {NOT_FINITE}"}).encode(), ()))
    bad.append(("output_too_large", b'{"text": "large headers"}', (("h", b"y" * 7_000),)))
    bad.append(("invalid_json", b"", ()))
    sent, expected = [], []
    for number in range(11_000):
        key = b"%d" % (number % 100)
        if number % 11 == 5:
            reason, value, headers = bad[(number // 11) % len(bad)]
            sent.append(Message(value=value, key=key, headers=(("n", b"%d" % number), *headers)))
            expected.append((number, reason, value))
        else:
            sent.append(tweet(f"good number {number}", number, key=key))
    assert len(expected) == 1_000
    where = produce(kafka, process.topics["input_topic"], sent)
    process.start()
    process.wait_processed(len(sent), timeout=240)
    assert process.stop() == 0

    labelled = read_all(kafka, process.topics["output_topic"])
    assert len(labelled) == 10_000
    assert len({json.loads(output.value)["id"] for output in labelled}) == 10_000
    assert_order_is_kept(labelled)
    found = read_all(kafka, process.topics["dlq_topic"])
    letters = {int(dict(letter.headers)["n"]): letter for letter in found}
    assert len(found) == len(letters) == 1_000
    for number, reason, value in expected:
        letter = letters[number]
        headers = dict(letter.headers)
        assert headers["dlq.reason"].decode() == reason, number
        assert letter.value == value
        assert letter.key == sent[number].key
        assert int(headers["dlq.partition"]) == where[number].partition
        assert int(headers["dlq.offset"]) == where[number].offset
        assert letter.headers[0] == ("n", b"%d" % number), "the original headers come first"
    assert_all_committed(kafka, process)


def test_a_record_that_the_broker_refuses_takes_no_innocent_with_it(kafka, worker, topic):
    # Compacted: refuses records without a key. No timestamp more than a minute ahead.
    process = worker(
        input_topic=topic("in", config={"message.timestamp.after.max.ms": str(10**13)}),
        output_topic=topic(
            "out", partitions=2,
            config={"cleanup.policy": "compact", "message.timestamp.after.max.ms": "60000"},
        ),
    )  # fmt: skip
    ahead = 4_000_000_000_000
    sent = [tweet(f"good {number}", number, key=b"%d" % number) for number in range(300)]
    sent[100] = tweet("no key", 100)
    sent[200] = tweet("far ahead", 200, key=b"200", timestamp=ahead)
    sent[250] = Message(value=None, key=None)
    produce(kafka, process.topics["input_topic"], sent)
    process.start()
    process.wait_processed(len(sent))
    assert process.stop() == 0

    outputs = {
        json.loads(o.value)["id"]: o for o in read_all(kafka, process.topics["output_topic"])
    }
    assert sorted(outputs) == [n for n in range(300) if n not in (100, 250)]
    assert json.loads(outputs[200].value)["source"]["timestamp"] == ahead
    assert outputs[200].timestamp < ahead
    letters = read_all(kafka, process.topics["dlq_topic"])
    assert [dict(letter.headers)["dlq.reason"] for letter in letters] == [b"output_refused"] * 2
    assert [letter.value for letter in letters] == [sent[100].value, None]


def test_a_refusal_that_nothing_foretold_takes_no_innocent_with_it(kafka, worker):
    process = worker(partitions=1)
    process.start()
    # The limit falls after the worker has read it: only the broker knows.
    from kafka.admin import ConfigResource, ConfigResourceType

    with admin(kafka) as client:
        client.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, process.topics["output_topic"],
                            {"max.message.bytes": "3000"})]
        )  # fmt: skip
    sent = [tweet(f"good {number}", number, key=b"k") for number in range(60)]
    noise = random.Random(0).randbytes(5_120)  # noise does not compress
    sent[30] = tweet("large", 30, key=b"k", headers=(("noise", noise),))
    produce(kafka, process.topics["input_topic"], sent)
    process.wait_processed(len(sent))
    assert process.stop() == 0
    outputs = read_all(kafka, process.topics["output_topic"])
    # At least once: what was under way when the producer was replaced may come twice.
    assert {json.loads(o.value)["id"] for o in outputs} == set(range(60)) - {30}
    letters = read_all(kafka, process.topics["dlq_topic"])
    assert [dict(letter.headers)["dlq.reason"] for letter in letters] == [b"output_too_large"]


def test_a_dead_letter_that_is_refused_whole_is_cut(kafka, worker, topic):
    process = worker(
        dlq_topic=topic("dlq", config={"max.message.bytes": "3000"}), kafka__compression="none"
    )
    value = b"not json " * 1_000
    produce(
        kafka, process.topics["input_topic"], [Message(value=value, key=b"k"), tweet("good", 1)]
    )
    process.start()
    process.wait_processed(2)
    assert process.stop() == 0
    (letter,) = read_all(kafka, process.topics["dlq_topic"])
    headers = dict(letter.headers)
    assert headers["dlq.reason"] == b"invalid_json"
    assert headers["dlq.truncated"] == b"9000"
    assert value.startswith(letter.value)
    assert len(letter.value) == 1_024


def test_tombstones_are_forwarded_as_tombstones(kafka, worker):
    process = worker()
    sent = [Message(value=None, key=b"k", headers=(("a", b"1"),)), Message(value=None, key=None)]
    produce(kafka, process.topics["input_topic"], sent)
    process.start()
    process.wait_processed(2)
    assert process.stop() == 0
    outputs = read_all(kafka, process.topics["output_topic"])
    assert sorted((o.key, o.value, tuple(o.headers)) for o in outputs if o.key) == [
        (b"k", None, (("a", b"1"),))
    ]
    assert [o.value for o in outputs if o.key is None] == [None]


def test_compaction_holes_are_no_gaps(kafka, worker, topic):
    name = topic("in", create=False)
    compact_now(
        kafka, name, [tweet(f"m {n}", n, key=b"%d" % (n % 10)) for n in range(400)]
    )  # fmt: skip
    left = len(read_all(kafka, name))
    assert 0 < left < 400
    process = worker(input_topic=name)
    process.start()
    process.wait_processed(left)
    wait_until(lambda: process.metric("worker_consumer_lag_records") == 0, 20, "lag is 0")
    assert process.stop() == 0
    assert len(read_all(kafka, process.topics["output_topic"])) == left
    assert_all_committed(kafka, process)


def test_transactional_input_is_read_committed_and_its_lag_reaches_zero(kafka, worker):
    process = worker(partitions=1)
    name = process.topics["input_topic"]
    produce_transaction(kafka, name, [tweet(f"kept {n}", n) for n in range(20)])
    produce_transaction(kafka, name, [tweet("aborted", 99)] * 5, commit=False)
    process.start()
    process.wait_processed(20)
    wait_until(
        lambda: committed(kafka, name) == end_offsets(kafka, name), 30, "offsets reach the end"
    )
    wait_until(lambda: process.metric("worker_consumer_lag_records") == 0, 20, "lag is 0")
    produce_transaction(kafka, name, [tweet("later", 100)])
    process.wait_processed(21)
    wait_until(
        lambda: committed(kafka, name) == end_offsets(kafka, name), 30, "offsets reach the end"
    )
    assert process.stop() == 0
    ids = [json.loads(o.value)["id"] for o in read_all(kafka, process.topics["output_topic"])]
    assert ids == [*range(20), 100]
    assert_all_committed(kafka, process)


def test_partitions_added_while_running_are_found(kafka, worker):
    process = worker(partitions=1, kafka__metadata_max_age=1)
    name = process.topics["input_topic"]
    process.start()
    produce(kafka, name, [tweet("one", 1)])
    process.wait_processed(1)
    add_partitions(kafka, name, 3)
    wait_until(lambda: process.metric("worker_assigned_partitions") == 3, 60, "3 partitions")
    produce(kafka, name, [tweet(f"n {n}", n, partition=n % 3) for n in range(30)])
    process.wait_processed(31)
    assert process.stop() == 0
    assert len(read_all(kafka, process.topics["output_topic"])) == 31
    assert_all_committed(kafka, process)


def test_the_rest_of_a_group_takes_over_when_a_worker_leaves(kafka, worker):
    one = worker(seconds_per_batch=0.005)
    two = worker(**one.topics)
    name = one.topics["input_topic"]
    sent = [tweet(f"n {n}", n, key=b"%d" % n) for n in range(20_000)]
    one.start()
    produce(kafka, name, sent[:10_000])
    two.start()
    wait_until(lambda: two.metric("worker_assigned_partitions") == 2, 60, "two shares")
    assert one.metric("worker_assigned_partitions") == 2
    produce(kafka, name, sent[10_000:])
    assert one.stop() == 0
    wait_until(lambda: two.metric("worker_assigned_partitions") == 4, 30, "two has all")
    wait_until(lambda: committed(kafka, name) == end_offsets(kafka, name), 120, "all is done")
    assert two.stop() == 0
    ids = [json.loads(o.value)["id"] for o in read_all(kafka, one.topics["output_topic"])]
    assert set(ids) == set(range(20_000))


# Topics ------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["input", "output", "dlq"])
def test_a_missing_topic_is_refused_and_never_made(kafka, worker, topic, role):
    missing = topic("missing", create=False)
    process = worker(**{f"{role}_topic": missing})
    process.start(ready=False)
    assert process.wait() == 2
    (line,) = [event["event"] for event in process.events() if event.get("level") == "error"]
    assert line.startswith(f"there is no topic for {role}.topic {missing}")
    assert f"--create --topic {missing}" in line
    with admin(kafka) as client:
        assert missing not in client.list_topics()


@pytest.mark.parametrize("role", ["input", "output"])
def test_a_topic_deleted_while_running_ends_the_worker_and_stays_deleted(kafka, worker, role):
    process = worker(kafka__metadata_max_age=1)
    process.start()
    produce(kafka, process.topics["input_topic"], [tweet("one", 1)])
    process.wait_processed(1)
    gone = process.topics[f"{role}_topic"]
    delete_topic(kafka, gone)
    assert process.wait() == 1
    (line,) = [event["event"] for event in process.events() if event.get("level") == "error"]
    assert line == f"topic {gone} was deleted while the worker ran"
    with admin(kafka) as client:
        assert gone not in client.list_topics()


def test_a_topic_made_again_while_running_ends_the_worker(kafka, worker):
    process = worker()
    process.start()
    gone = process.topics["input_topic"]
    delete_topic(kafka, gone)
    create_topic(kafka, gone)
    assert process.wait() == 1
    assert "was deleted" in process.log()


def test_a_compacted_dead_letter_topic_is_refused(worker, topic):
    process = worker(dlq_topic=topic("dlq", config={"cleanup.policy": "compact"}))
    process.start(ready=False)
    assert process.wait() == 2
    assert "is compacted" in process.log()


# The way down ------------------------------------------------------------------------------

SEVERAL = pytest.mark.parametrize("processes", [1, 2])


@pytest.mark.parametrize(
    ("number", "processes"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)]
)
def test_a_signal_in_mid_stream_drains_and_commits_exactly_what_was_published(
    kafka, worker, tmp_path, number, processes
):
    process = worker(
        seconds_per_batch=0.01, batch__max_records=16, processes=processes,
        stub={"device": str(tmp_path / "device")},
    )  # fmt: skip
    name = process.topics["input_topic"]
    process.start()
    process.wait_shared(4)  # a partition that moves in mid-stream may repeat some labels
    produce(kafka, name, [tweet(f"n {n}", n, key=b"%d" % n) for n in range(10_000)])
    process.wait_processed(1_000)
    assert process.stop(number=number) == 0
    outputs = read_all(kafka, process.topics["output_topic"])
    done = sum(offset or 0 for offset in committed(kafka, name).values())
    assert len(outputs) == len({position(o) for o in outputs}) == done < 10_000


@SEVERAL
def test_a_drain_hands_back_what_it_cannot_finish(kafka, worker, tmp_path, processes):
    process = worker(
        seconds_per_batch=1.0 / processes, drain__deadline=8, batch__max_records=20,
        batch__in_flight=400, processes=processes, stub={"device": str(tmp_path / "device")},
    )  # fmt: skip
    name = process.topics["input_topic"]
    process.start()
    process.wait_shared(4)
    produce(kafka, name, [tweet(f"n {n}", n, key=b"%d" % n) for n in range(1_000)])
    process.wait_processed(20)
    assert process.stop() == 0
    assert any(event["event"] == "records_handed_back" for event in process.events())
    outputs = read_all(kafka, process.topics["output_topic"])
    done = sum(offset or 0 for offset in committed(kafka, name).values())
    assert len(outputs) == done


def test_a_missed_drain_deadline_is_a_failure(kafka, worker):
    process = worker(seconds_per_batch=30, drain__deadline=1)
    produce(kafka, process.topics["input_topic"], [tweet("slow", 1)])
    process.start()
    wait_until(lambda: process.metric("worker_in_flight_records") == 1, 90, "in flight")
    assert process.stop() == 1
    assert "missed its deadline" in process.log()


@SEVERAL
def test_a_second_signal_aborts(kafka, worker, processes):
    process = worker(seconds_per_batch=30, processes=processes)
    produce(kafka, process.topics["input_topic"], [tweet("slow", 1)])
    process.start()
    wait_until(lambda: process.metric("worker_in_flight_records") == 1, 90, "in flight")
    process.process.send_signal(signal.SIGTERM)
    wait_until(lambda: process.get("/readyz")[1].startswith("the worker is draining"), 10, "drain")
    no_echo()
    assert process.stop(timeout=10) == 1
    assert "second signal" in process.log()


def test_without_a_broker_the_worker_waits_and_stops_when_asked(worker):
    process = worker(bootstrap="127.0.0.1:9", log__format="console")
    process.start(ready=False)
    wait_until(lambda: "no broker answers at 127.0.0.1:9" in process.log(), 40, "it says so")
    assert process.get("/livez")[0] == 200
    assert process.get("/readyz")[0] == 503
    assert process.stop() == 0


def test_what_retention_deleted_before_it_was_read_is_counted_and_told(worker, kafka):
    process = worker(partitions=1)
    name = process.topics["input_topic"]
    produce(kafka, name, [tweet(f"n {n}", n) for n in range(10)])
    with process.start():
        process.wait_processed(10)
        assert process.metric("worker_records_expired_total") == 0
        assert process.stop() == 0
    produce(kafka, name, [tweet(f"n {n}", n) for n in range(10, 40)])
    delete_records(kafka, name, 25)
    with process.start():
        process.wait_processed(15)
        assert process.metric("worker_records_expired_total", topic=name) == 15
        assert process.stop() == 0
    (event,) = [event for event in process.events() if event["event"] == "records_expired"]
    assert (event["partition"], event["first"], event["records"]) == (0, 10, 15)
    labelled = [json.loads(r.value)["id"] for r in read_all(kafka, process.topics["output_topic"])]
    assert labelled == [*range(10), *range(25, 40)]


def test_what_retention_deletes_under_a_running_worker_is_counted_too(worker, kafka):
    process = worker(partitions=1, seconds_per_batch=0.3, batch__max_records=10,
                     kafka__fetch_max_bytes=65_536)  # fmt: skip
    name = process.topics["input_topic"]
    padding = "x" * 2_000
    count = 3_000
    produce(kafka, name, [tweet(f"n {n}", n, headers=(("h", padding.encode()),))
                          for n in range(count)], batch_size=16_384, linger_ms=0)  # fmt: skip
    with process.start():
        process.wait_processed(10)
        delete_records(kafka, name, count - 100)
        wait_until(lambda: process.metric("worker_records_expired_total") > 0, 120, "it is told")
        expired = int(process.metric("worker_records_expired_total"))
        wait_until(lambda: process.metric("worker_consumer_lag_records") == 0, 120, "no lag")
        assert process.processed() + expired == count
        assert process.stop() == 0


def test_a_new_group_begins_at_the_beginning_and_nothing_counts_as_expired(worker, kafka):
    process = worker(partitions=1)
    name = process.topics["input_topic"]
    produce(kafka, name, [tweet(f"n {n}", n) for n in range(10)])
    delete_records(kafka, name, 4)
    with process.start():
        process.wait_processed(6)
        assert process.metric("worker_records_expired_total") == 0
        assert process.stop() == 0
