"""What a worker does when its model or its input fails: the process, on a real Apache Kafka."""

import json
import math
import random
import re
import signal
import time

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import AbortTransactionSpec
from kafka.errors import KafkaError

from tests.support.fakes import BREAKS, expected_label
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
from tests.support.worker_process import WorkerProcess, no_echo


@pytest.fixture
def worker(kafka, topic, tmp_path):
    """A function that makes a worker on fresh topics; `.topics` are its three names."""
    made = []

    def make(*, partitions=2, **options):
        names = {
            "input_topic": topic("in", partitions=partitions),
            "output_topic": topic("out", partitions=partitions),
            "dlq_topic": topic("dlq"),
        }
        options = {"bootstrap": kafka, "group": names["input_topic"], **options}
        process = WorkerProcess(directory=tmp_path, **names, **options)
        process.topics = names
        made.append(process)
        return process

    yield make
    for process in made:
        process.__exit__()


def tweet(number, text=None):
    value = {"text": text or f"message number {number}", "id": number}
    return Message(value=json.dumps(value).encode(), key=b"%d" % number)


def tweets(count):
    return [tweet(number) for number in range(count)]


def send(process, messages):
    return produce(process.environment["WORKER_KAFKA__BOOTSTRAP_SERVERS"],
                   process.topics["input_topic"], messages)  # fmt: skip


def done(kafka, process):
    """Records up to the committed offsets."""
    group = process.environment["WORKER_KAFKA__GROUP_ID"]
    return sum(committed(kafka, group).values())


def labelled(kafka, process):
    return [json.loads(o.value) for o in read_all(kafka, process.topics["output_topic"])]


def dead(kafka, process):
    return read_all(kafka, process.topics["dlq_topic"])


def events(process, name):
    return [event for event in process.events() if event.get("event") == name]


def errors(process):
    return [event["event"] for event in process.events() if event.get("level") == "error"]


def all_committed(kafka, process):
    name = process.topics["input_topic"]
    return committed(kafka, name) == {p: end for p, end in end_offsets(kafka, name).items() if end}


# The model ---------------------------------------------------------------------------------


def test_a_hung_model_call_ends_the_process_with_one_line_and_commits_nothing_of_it(kafka, worker):
    process = worker(partitions=1, stub={"hangs_after": 3}, model__deadline=3,
                     batch__max_records=20)  # fmt: skip
    send(process, tweets(500))
    process.start()
    assert process.wait(90) == 1
    (line,) = errors(process)
    assert line.startswith("a call of the model has not come back for 3 s (its deadline: 3 s)")
    assert len(labelled(kafka, process)) == 60
    assert done(kafka, process) <= 60
    assert dead(kafka, process) == []


def test_a_model_that_breaks_for_everything_dead_letters_nothing(kafka, worker):
    process = worker(partitions=1, stub={"breaks_after": 5}, batch__max_records=20,
                     seconds_per_batch=0.2)  # fmt: skip
    send(process, tweets(1_000))
    process.start()
    assert process.wait(90) == 1
    (line,) = errors(process)
    assert line.startswith("the model fails for every text, a known-good one included")
    assert dead(kafka, process) == []
    assert 0 < done(kafka, process) <= len(labelled(kafka, process)) <= 100


def losses_until_it_ends(process):
    """How many lost devices the last scrape showed: the worker waits for one that does."""
    seen = []

    def ended():
        body = process.get("/metrics")[1].splitlines()
        seen.extend(line for line in body if line.startswith("worker_inference_errors_total{"))
        return process.process.poll() is not None

    wait_until(ended, 60, "the worker ends", every=0.1)
    return max(float(line.split()[1]) for line in seen if 'kind="device"' in line)


def test_a_lost_device_ends_the_process_at_once_with_its_own_line_and_dead_letters_nothing(
    kafka, worker, tmp_path
):
    calls = tmp_path / "calls"
    process = worker(partitions=1, stub={"lost_after": 5, "calls_file": str(calls)},
                     batch__max_records=20, seconds_per_batch=0.2)  # fmt: skip
    send(process, tweets(1_000))
    process.start()
    assert losses_until_it_ends(process) == 1
    assert process.wait(30) == 1
    (line,) = errors(process)
    assert line.startswith(
        "the GPU is lost to this process: CUDA error: unspecified launch failure: look for an XID"
    )
    assert len(calls.read_text().splitlines()) == 6  # the sixth found it, and was not halved
    assert dead(kafka, process) == []
    assert 0 < done(kafka, process) <= len(labelled(kafka, process)) <= 100


def test_an_xid_ends_an_idle_worker_with_the_line_of_a_lost_gpu(kafka, worker):
    process = worker(partitions=1, stub={"looks": 2})
    process.start()
    wait_until(lambda: process.metric("worker_device_utilization_ratio") == 0.42, 10, "a look")
    assert process.metric("worker_device_throttled", uuid="GPU-0", reason="power_cap") == 1
    assert process.metric("worker_model_info", device_name="a stub", driver="580.95.05") == 1

    assert losses_until_it_ends(process) == 1
    assert process.wait(30) == 1
    (line,) = errors(process)
    assert line.startswith("the GPU is lost to this process: XID 79 (it has fallen off the bus): ")


def test_random_model_failures_are_dead_lettered_exactly_and_found_in_few_calls(
    kafka, worker, tmp_path
):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    calls = tmp_path / "calls"
    process = worker(stub={"calls_file": str(calls)})
    marked = set(random.Random(seed).sample(range(8_000), 200))
    texts = [f"{BREAKS} it {n}" if n in marked else f"message number {n}" for n in range(8_000)]
    send(process, [tweet(number, text) for number, text in enumerate(texts)])
    process.start()
    process.wait_processed(8_000)
    batches = process.metric("worker_batch_records_count")
    assert process.stop() == 0
    letters = dead(kafka, process)
    assert {dict(letter.headers)["dlq.reason"] for letter in letters} == {b"model_failed"}
    assert sorted(json.loads(letter.value)["id"] for letter in letters) == sorted(marked)
    outputs = labelled(kafka, process)
    assert sorted(o["id"] for o in outputs) == [n for n in range(8_000) if n not in marked]
    assert all(o["label"] == expected_label(texts[o["id"]]) for o in outputs)
    made = len(calls.read_text().splitlines())
    each = (made - batches) / 200
    print(f"{made} calls for {batches:.0f} batches: {each:.1f} more for each failure")
    assert each <= 2 * math.log2(256) + 1


def test_out_of_memory_makes_smaller_batches_and_loses_nothing(kafka, worker):
    process = worker(stub={"rows_of_memory": 20}, batch__max_records=64)
    send(process, tweets(2_000))
    process.start()
    process.wait_processed(2_000)
    failures = process.metric("worker_inference_errors_total", kind="oom")
    assert process.stop() == 0
    assert len(labelled(kafka, process)) == 2_000
    assert dead(kafka, process) == []
    # Two batches of 64 (one was staged), their halves, and one of 32 with its successor.
    assert 3 <= failures <= 12
    assert [e["max_records"] for e in events(process, "batches_halved")] == [32, 16]


@pytest.mark.slow
def test_a_model_slower_than_three_poll_intervals_keeps_its_partitions_and_its_memory(
    kafka, worker
):
    process = worker(seconds_per_batch=30, kafka__max_poll_interval=10)
    send(process, tweets(30_000))
    process.start()
    wait_until(lambda: process.metric("worker_consumer_paused") == 1, 60, "intake pauses")
    before, highest = process.resident_bytes(), 0
    end = time.monotonic() + 120
    while process.processed() == 0 and time.monotonic() < end:
        highest = max(highest, process.resident_bytes())
        assert process.get("/livez")[0] == process.get("/readyz")[0] == 200
        time.sleep(1)
    assert process.processed() > 0
    assert process.metric("worker_stage_duration_seconds_sum", stage="model") >= 30
    assert process.metric("worker_assigned_partitions") == 2
    assert process.metric("worker_rebalances_total") == 1, "the first assignment"
    wait_until(lambda: done(kafka, process) > 0, 60, "it may commit")
    print(f"resident MB: {before >> 20} before, {highest >> 20} at most")
    assert highest - before < 30 << 20


@pytest.mark.slow
def test_a_process_that_was_stopped_goes_on_where_it_was(kafka, worker):
    process = worker(seconds_per_batch=0.5, batch__max_records=20, model__deadline=1)
    send(process, tweets(400))
    process.start()
    process.wait_processed(40)
    # Longer than every deadline of the worker: the poll loop's 30 s and its last resort's 30 more,
    # and longer than the session of the group.
    process.process.send_signal(signal.SIGSTOP)
    time.sleep(65)
    process.process.send_signal(signal.SIGCONT)
    lives = [process.get("/livez") for _ in range(20) if not time.sleep(0.1)]
    assert lives == [(200, "ok\n")] * 20
    process.wait_processed(400)
    assert process.stop() == 0
    assert errors(process) == []
    assert sorted({o["id"] for o in labelled(kafka, process)}) == list(range(400))


# The input ---------------------------------------------------------------------------------


def test_mostly_bad_input_pauses_intake_until_it_is_good_again(kafka, worker):
    # A long session: on a busy machine a short one would end by itself.
    process = worker(partitions=1, batch__in_flight=200, kafka__session_timeout=45)
    bad = [Message(value=b"no json", key=b"%d" % n) for n in range(470)]
    send(process, [*bad, *tweets(500)])
    process.start(ready=False)
    wait_until(lambda: events(process, "input_mostly_bad"), 90, "the breaker opens", every=0.02)
    status, said = process.get("/readyz")  # a moment later: some more may have become such
    found = re.fullmatch(
        r"most of the input is bad: (\d+) of the last \1 records became dead letters\n", said
    )
    assert status == 503
    assert 200 <= int(found[1]) < 470
    assert process.get("/livez")[0] == 200
    assert process.metric("worker_breaker_open") == 1
    assert process.metric("worker_dead_letters_total") < 470
    process.wait_processed(970)
    process.wait_ready()
    assert process.metric("worker_breaker_open") == 0
    assert process.metric("worker_rebalances_total", event="revoked") == 0
    assert process.metric("worker_rebalances_total", event="lost") == 0
    first, *more = events(process, "input_mostly_bad")
    # It opens at the 200th; those that settled together with it count too.
    assert 200 <= first["invalid_json"] == first["of"] < 470
    # Some 200 to 400 of them were read when it opened, then at most 100 with each probe.
    assert len(more) >= 1
    assert [event["next_try"] for event in (first, *more)] == [2**n for n in range(len(more) + 1)]
    assert process.stop() == 0
    assert len(dead(kafka, process)) == 470
    assert sorted(o["id"] for o in labelled(kafka, process)) == list(range(500))
    assert all_committed(kafka, process)


@pytest.fixture
def abandoned(kafka):
    """Makes a transaction that nobody will end: `abandoned(topic)`; gives its producer."""
    left = []

    def begin(name):
        producer = KafkaProducer(
            bootstrap_servers=kafka, transactional_id=f"left-{name}", transaction_timeout_ms=800_000
        )
        left.append(producer)
        producer.init_transactions()
        producer.begin_transaction()
        for number in range(3):
            producer.send(name, tweet(-number, "never committed").value).get(60)

    yield begin
    for producer in left:
        producer._sender.force_close()
        producer.close(timeout=5)


@pytest.mark.parametrize("role", ["input", "output"])
def test_a_hanging_transaction_is_named_and_after_its_end_nothing_is_lost(
    kafka, worker, abandoned, role
):
    process = worker(partitions=1, kafka__hanging_after=2)
    name = process.topics[f"{role}_topic"]
    send(process, tweets(20))
    process.start()
    process.wait_processed(20)
    assert process.metric("worker_hanging_transactions") == 0
    start = end_offsets(kafka, name)[TopicPartition(name, 0)]
    abandoned(name)
    send(process, [tweet(number) for number in range(20, 30)])
    wait_until(lambda: process.metric("worker_hanging_transactions") == 1, 90, "it is noticed")
    (event,) = events(process, "hanging_transaction")
    assert (event["topic"], event["partition"], event["start_offset"]) == (name, 0, start)
    partition = TopicPartition(name, 0)
    with admin(kafka) as client:
        (state,) = [
            state
            for state in client.describe_producers([partition])[partition].active_producers
            if state.current_transaction_start_offset == start
        ]
        assert event["producer_id"] == state.producer_id
        assert event["producer_epoch"] == state.producer_epoch
        client.abort_transaction(
            AbortTransactionSpec(
                partition, event["producer_id"], event["producer_epoch"], event["coordinator_epoch"]
            )
        )
    process.wait_processed(30)
    wait_until(lambda: process.metric("worker_hanging_transactions") == 0, 90, "it is over")
    assert process.stop() == 0
    outputs = read_all(kafka, process.topics["output_topic"], "read_committed")
    assert sorted(json.loads(o.value)["id"] for o in outputs) == list(range(30))
    assert len(events(process, "hanging_transaction")) == 1
    assert len(events(process, "hanging_transaction_ended")) == 1


# The way down, in every state --------------------------------------------------------------


def test_a_signal_while_the_breaker_is_open_drains(kafka, worker):
    process = worker(partitions=1, batch__in_flight=300)
    send(process, [Message(value=b"no json", key=b"k")] * 5_000)
    process.start(ready=False)
    wait_until(lambda: events(process, "input_mostly_bad"), 90, "the breaker opens")
    assert process.stop() == 0
    assert len(dead(kafka, process)) == done(kafka, process) < 5_000


def test_a_signal_while_the_model_loads_ends_at_once(worker):
    process = worker(stub={"seconds_to_load": 300})
    process.start(ready=False)
    wait_until(lambda: process.get("/livez")[0] == 200, 90, "it listens")
    assert process.get("/readyz")[0] == 503
    assert process.stop(timeout=15) == 0
    assert events(process, "stopped_before_start")


def test_a_model_that_does_not_load_in_time_ends_the_process_with_one_line(worker):
    process = worker(stub={"seconds_to_load": 300}, model__load_deadline=2)
    process.start(ready=False)
    assert process.wait() == 1
    assert process.events()[-1]["event"].startswith("the model is not loaded and warm after 2 s: ")


def counted(cluster, process):
    """Committed records and outputs; nothing while the broker that was stopped has no leaders."""
    try:
        written = read_all(cluster.bootstrap_servers, "out")
        return done(cluster.bootstrap_servers, process), len(written)
    except KafkaError:
        return None


def test_a_drain_runs_no_batch_that_would_end_too_late(kafka, worker):
    # The batch that runs when the signal comes, and the one that is ready: 2 * 5 s of 7.2.
    process = worker(partitions=1, seconds_per_batch=5, batch__max_records=10, drain__deadline=12)
    send(process, tweets(200))
    process.start()
    process.wait_processed(10)
    assert process.stop() == 0
    assert events(process, "records_handed_back")
    outputs = labelled(kafka, process)
    assert 10 < len(outputs) <= 30
    assert done(kafka, process) == len(outputs)


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_while_the_broker_is_away_ends_within_the_deadline(own_kafka, tmp_path, signals):
    cluster = own_kafka()
    names = {"input_topic": "in", "output_topic": "out", "dlq_topic": "dlq"}
    for name in names.values():
        create_topic(cluster.bootstrap_servers, name)
    # The drain ends at its deadline; a second signal ends it long before.
    process = WorkerProcess(
        bootstrap=cluster.bootstrap_servers, directory=tmp_path,
        drain__deadline=8 if signals == 1 else 90,
        seconds_per_batch=0.05, batch__max_records=10, **names,
    )  # fmt: skip
    process.topics = names
    with process:
        send(process, tweets(20_000))
        process.start()
        process.wait_processed(100)
        cluster.suspend()
        wait_until(lambda: process.metric("worker_consumer_paused") == 1, 60, "outputs wait")
        begin = time.monotonic()
        process.process.send_signal(signal.SIGTERM)
        if signals == 2:
            wait_until(lambda: events(process, "drain_started"), 30, "the drain")
            no_echo()
            process.process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 1
        took = time.monotonic() - begin
        assert took < 45, "within the deadline, or long before it"
        cluster.resume()
        settled, written = wait_until(lambda: counted(cluster, process), 60, "it serves again")
        assert 0 < settled <= written
    print(f"{signals} signals: {took:.1f} s; {errors(process)}")
