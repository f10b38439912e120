"""Dead letters put back on a real Apache Kafka: once, whatever is killed, lost or run twice."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import OffsetAndMetadata

from tests.support.fakes import expected_label
from tests.support.kafka_helpers import (
    Message,
    admin,
    committed,
    create_topic,
    end_offsets,
    produce,
    produce_transaction,
    read_all,
    wait_until,
)
from tests.support.proxy import Api
from tests.support.worker_process import ROOT, WorkerProcess, clean_environment, no_echo

SEED = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))
PARTITIONS = 4
REASONS = ("invalid_json", "empty_text", "model_failed")
SMALL = ("--kafka.fetch-max-bytes", "65536")
"""A fetch brings some 150 dead letters of these tests: many transactions, much to interrupt."""


class Place:
    """An input topic, its dead letters, and the command that puts them back."""

    def __init__(self, direct, proxy, **config):
        self.direct, self.proxy = direct, proxy
        self.now = int(time.time() * 1_000)
        self.worker_group = f"g-{uuid.uuid4().hex[:8]}"
        self.input, self.dlq = f"{self.worker_group}.in", f"{self.worker_group}.dlq"
        self.group = f"{self.dlq}-redrive"
        create_topic(direct, self.input, PARTITIONS, config=config)
        create_topic(direct, self.dlq, 2)

    def letter(self, number, reason="invalid_json", *, ours=(), **options):
        """The dead letter of record `number` of the input topic, by the wire contract."""
        own = (("trace", b"%d" % number), ("trace", b"again"), ("empty", b""))
        told = {
            "dlq.reason": reason, "dlq.message": "why", "dlq.topic": self.input,
            "dlq.partition": number % PARTITIONS, "dlq.offset": number,
            "dlq.timestamp": self.now - number, **dict(ours),
        }  # fmt: skip
        headers = own + tuple((name, str(value).encode()) for name, value in told.items())
        given = {"value": b"\x00value %d" % number, "key": b"k%d" % (number % 50), **options}
        return Message(headers=headers, **given)

    def produce(self, letters):
        # Small batches: a fetch brings whole ones.
        produce(self.direct, self.dlq, letters, batch_size=4_096)

    def start(self, *options, bootstrap=None):
        command = [
            sys.executable, "-m", "worker", "redrive", "--kafka.group-id", self.worker_group,
            "--kafka.bootstrap-servers", bootstrap or self.direct,
            "--input.topic", self.input, "--dlq.topic", self.dlq, *options,
        ]  # fmt: skip
        return subprocess.Popen(
            command, cwd=ROOT, env=clean_environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def redrive(self, *options, bootstrap=None):
        """Runs to the end: exit code, output, lines of standard error."""
        return ended(self.start(*options, bootstrap=bootstrap))

    def done(self, *options, bootstrap=None):
        """The counts of a run that must succeed without a word on standard error."""
        code, out, err = self.redrive(*options, bootstrap=bootstrap)
        print(out)
        assert (code, err) == (0, [])
        return counts(out)

    def put_back(self):
        return read_all(self.direct, self.input, "read_committed")

    def waiting(self):
        """What the next redrive has before it: the dead letters behind the group's offsets."""
        settled = {
            at.partition: offset for at, offset in committed(self.direct, self.group).items()
        }
        letters = read_all(self.direct, self.dlq, "read_committed")
        return [each for each in letters if each.offset >= settled.get(each.partition, 0)]

    def ends(self):
        return end_offsets(self.direct, self.input) | end_offsets(self.direct, self.dlq)

    def audit(self, chosen, others):
        """Fails unless each of `chosen` was put back once, and each of `others` waits once."""
        assert missing_and_doubled(map(number_of, self.put_back()), chosen) == ([], {})
        assert missing_and_doubled(map(number_of, self.waiting()), others) == ([], {})


def number_of(record):
    return int(next(value for name, value in record.headers if name == "trace"))


def missing_and_doubled(found, wanted):
    times, wanted = Counter(found), set(wanted)
    assert times.keys() <= wanted
    return sorted(wanted - times.keys()), {n: many for n, many in times.items() if many > 1}


def ended(process, timeout=120):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err.splitlines()


def counts(out):
    """The summary's rows: name to number."""
    rows = [line.rsplit(maxsplit=1) for line in out.splitlines() if line[-1:].isdigit()]
    return {name.strip(): int(number.replace(",", "")) for name, number in rows}


def likeness(record):
    """All of a record but its place."""
    return record.key, record.value, tuple(record.headers), record.timestamp


@pytest.fixture
def place(proxied_kafka):
    return Place(*proxied_kafka)


def test_all_are_put_back_as_they_were_and_there_is_nothing_left_to_do(place):
    odd = {3: {"key": None}, 4: {"value": b""}, 5: {"key": b"", "value": b"\xff"}}
    odd[6] = {"key": None, "value": None}
    letters = [place.letter(n, REASONS[n % 3], **odd.get(n, {})) for n in range(300)]
    produce_transaction(place.direct, place.dlq, letters)
    produce_transaction(place.direct, place.dlq, letters[:9], commit=False)
    told = place.done()
    assert told == {
        f"put back on {place.input}": 300, f"left in {place.dlq}": 0,
        **dict.fromkeys(REASONS, 100),
    }  # fmt: skip
    found = sorted(place.put_back(), key=number_of)
    assert [number_of(record) for record in found] == list(range(300))
    for number, record in enumerate(found):
        assert record.partition == number % PARTITIONS
        assert likeness(record) == (
            letters[number].key, letters[number].value,
            (
                ("trace", b"%d" % number), ("trace", b"again"), ("empty", b""),
                ("dlq.redriven", b"1"),
            ),
            place.now - number,
        )  # fmt: skip
    # Nothing is left to read, the transactions' markers neither, and a second run does nothing.
    ends = end_offsets(place.direct, place.dlq, "read_committed")
    assert committed(place.direct, place.group) == ends
    before = place.ends()
    assert place.done() == {f"put back on {place.input}": 0, f"left in {place.dlq}": 0}
    assert place.ends() == before


def test_what_a_filter_leaves_is_appended_as_it_is_and_found_by_the_next(place):
    hour = 3_600_000
    letters = [
        place.letter(n, REASONS[n % 3], timestamp=place.now - (n % 5) * hour, partition=n % 2)
        for n in range(600)
    ]
    place.produce(letters)
    asked = {n for n in range(600) if REASONS[n % 3] != "model_failed"}
    told = place.done("--reason", "invalid_json", "--reason", "empty_text")
    assert told["not asked for"] == 200
    place.audit(asked, set(range(600)) - asked)
    wanted = {n: letters[n] for n in set(range(600)) - asked}
    for record in place.waiting():
        original = wanted[number_of(record)]
        assert record.partition == original.partition
        assert likeness(record) == (
            original.key, original.value, original.headers, original.timestamp
        )  # fmt: skip
    # By the time of the dead letter, which appending it again has kept.
    place.done("--since", "150m", "--until", "30m")
    asked |= {n for n in range(600) if n % 5 in (1, 2)}
    place.audit(asked, set(range(600)) - asked)
    assert place.done()[f"left in {place.dlq}"] == 0
    place.audit(range(600), [])


def test_what_cannot_be_put_back_is_left_and_told_of(place):
    strangers = [
        Message(value=b"stranger", headers=(("trace", b"900"),)),
        Message(headers=(("trace", b"901"), ("null", None))),
    ]
    place.produce(
        [place.letter(n) for n in range(10)]
        + [place.letter(n, "output_too_large", ours={"dlq.truncated": 9}) for n in range(10, 17)]
        + [place.letter(n, ours={"dlq.topic": "another"}) for n in (20, 21)]
        + strangers
    )
    left = [*range(10, 17), 20, 21, 900, 901]
    for again in (10, 0):
        code, out, err = place.redrive()
        assert (code, err) == (0, [])
        told = counts(out)
        assert told[f"put back on {place.input}"] == again
        assert told[f"left in {place.dlq}"] == len(left)
        assert told["truncated, never put back"] == 7
        assert told["of another input topic"] == 2
        assert told["not written by a worker"] == 2
        (line,) = [line for line in out.splitlines() if "dlq.offset" in line]
        assert f"{place.input}-2 offset 10" in line
        assert line.endswith("and 2 more")
    place.audit(range(10), left)


def test_a_dry_run_tells_the_same_and_changes_nothing(place):
    place.produce([place.letter(n, REASONS[n % 3]) for n in range(300)])
    before = place.ends()
    code, out, err = place.redrive("--dry-run", "--reason", "empty_text")
    assert (code, err) == (0, [])
    assert counts(out) == {
        f"would be put back on {place.input}": 100, "empty_text": 100,
        f"would be left in {place.dlq}": 200, "not asked for": 200,
    }  # fmt: skip
    assert place.ends() == before
    with admin(place.direct) as client:
        assert place.group not in {group["group_id"] for group in client.list_groups()}
    told = place.done("--reason", "empty_text")
    assert (told["empty_text"], told["not asked for"]) == (100, 200)


def test_at_most_so_many_are_put_back_and_the_next_run_goes_on(place):
    place.produce([place.letter(n, REASONS[n % 2]) for n in range(400)])
    asked = {n for n in range(400) if n % 2}
    for times in (1, 2):
        told = place.done("--max", "90", "--reason", REASONS[1])
        assert told[f"put back on {place.input}"] == 90
        assert len(place.put_back()) == 90 * times
    assert place.done("--reason", REASONS[1])[f"put back on {place.input}"] == 20
    place.audit(asked, set(range(400)) - asked)


def test_a_record_that_the_input_topic_refuses_is_left_and_harms_no_other(proxied_kafka):
    place = Place(
        *proxied_kafka, **{"max.message.bytes": "2000", "message.timestamp.before.max.ms": "60000"}
    )
    big = {n: random.randbytes(5_000) for n in (30, 31, 290)}
    place.produce(
        place.letter(
            n, ours={"dlq.timestamp": 1_000} if n == 7 else {}, value=big.get(n, b"v%d" % n)
        )
        for n in range(300)
    )
    told = place.done()
    assert told["refused by the input topic"] == 3
    place.audit(set(range(300)) - big.keys(), big)
    (old,) = [record for record in place.put_back() if number_of(record) == 7]
    assert abs(old.timestamp - time.time() * 1_000) < 600_000, "the present time"


def test_from_dead_letter_to_label_and_around_again(proxied_kafka, tmp_path):
    direct, proxy = proxied_kafka
    place, count = Place(direct, proxy), 200
    output = create_topic(direct, f"{place.worker_group}.out", 2)
    sent = [
        Message(
            value=json.dumps({"text": f"n {n}", "id": n}).encode(), key=b"%d" % (n % 9),
            headers=(("trace", b"%d" % n),), partition=n % PARTITIONS,
        )
        for n in range(count)
    ]  # fmt: skip
    produce(direct, place.input, sent)

    def label(*, text_field, records):
        worker = WorkerProcess(
            bootstrap=direct, directory=tmp_path, group=place.worker_group,
            input_topic=place.input, output_topic=output, dlq_topic=place.dlq,
            delivery__guarantee="exactly_once", kafka__replica_id="r",
            kafka__session_timeout=6, kafka__heartbeat_interval=1, input__text_field=text_field,
        )  # fmt: skip
        with worker.start():
            worker.wait_processed(records)
            ends = end_offsets(direct, place.input, "read_committed")
            wait_until(
                lambda: committed(direct, place.worker_group) == ends, 60, "all is committed"
            )
            assert worker.stop() == 0

    for times in (b"1", b"2"):
        label(text_field="tweet", records=count)  # the wrong one
        told = place.done()
        assert told == {
            f"put back on {place.input}": count, "missing_text": count, f"left in {place.dlq}": 0,
        }  # fmt: skip
        newest = place.put_back()[-1]
        assert newest.headers[1:] == [("dlq.redriven", times)], "counted up, and nothing else"
    label(text_field="text", records=count)
    outputs = read_all(direct, output, "read_committed")
    assert sorted(json.loads(each.value)["id"] for each in outputs) == list(range(count))
    for each in outputs:
        value = json.loads(each.value)
        assert value["label"] == expected_label(f"n {value['id']}")
        assert each.headers == [("trace", b"%d" % value["id"]), ("dlq.redriven", b"2")]
    assert place.waiting() == []


@pytest.mark.slow
def test_killed_at_any_moment_each_is_put_back_once(place):
    print(f"CHAOS_SEED={SEED}")
    rng = random.Random(SEED)
    count = 3_000
    others = set(rng.sample(range(count), count // 3))
    place.produce(
        place.letter(n, "model_failed" if n in others else "invalid_json") for n in range(count)
    )
    options = ("--reason", "invalid_json", *SMALL)
    struck = Counter()
    for _ in range(5):
        place.proxy.clear()
        place.proxy.delay(Api.END_TXN, 0.5)
        process = place.start(*options, bootstrap=place.proxy.bootstrap_servers)
        wait_until(lambda: place.proxy.seen[Api.PRODUCE], 60, "it works, or has nothing to do")
        time.sleep(rng.uniform(0, 1.2))
        process.kill()
        code, _, _ = ended(process)
        done = len(place.put_back())
        struck["killed at work" if code == -signal.SIGKILL else "too late"] += 1
        print(f"killed: {code}, {done} of {count - len(others)} put back")
    place.proxy.clear()
    assert struck["killed at work"] >= 3
    told = place.done(*options)
    print(f"the last run put back {told[f'put back on {place.input}']}")
    place.audit(set(range(count)) - others, others)
    # Those that are left may have been appended by a run that was killed, and again: once each.
    place.done()
    place.audit(range(count), [])


FAULTS = {
    "the answer to commit is lost": lambda p: p.swallow_response(Api.END_TXN, nth=2),
    "the answer to commit never comes": lambda p: p.swallow_response(
        Api.END_TXN, nth=2, close=False
    ),
    "commit does not arrive": lambda p: p.drop_request(Api.END_TXN, nth=2),
    "the answer to offsets is lost": lambda p: p.swallow_response(Api.TXN_OFFSET_COMMIT, nth=2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_transaction_loses_doubles_and_miscounts_nothing(place, fault):
    place.produce(place.letter(n, REASONS[n % 2]) for n in range(800))
    struck = FAULTS[fault](place.proxy)
    told = place.done(
        "--reason", REASONS[0], *SMALL, bootstrap=place.proxy.bootstrap_servers
    )  # fmt: skip
    struck.wait(1)
    assert told[f"put back on {place.input}"] == told[f"left in {place.dlq}"] == 400
    place.audit(range(0, 800, 2), range(1, 800, 2))


def test_of_two_at_once_one_goes_on_and_the_other_says_why_it_ends(place):
    count = 2_000
    place.produce(place.letter(n) for n in range(count))
    commit = place.proxy.hold_request(Api.END_TXN, nth=3)
    first = place.start(*SMALL, bootstrap=place.proxy.bootstrap_servers)
    commit.wait()
    second = place.start(*SMALL, bootstrap=place.proxy.bootstrap_servers)
    wait_until(lambda: place.proxy.answered[Api.INIT_PRODUCER_ID] >= 2, 60, "both have producers")
    commit.release()
    runs = [ended(first), ended(second)]
    codes = [code for code, _, _ in runs]
    # The first; on a slow machine it has given its held commit up, and its next producer fenced
    # the second; or both, since a fenced producer may take its successor's transaction with it.
    assert sorted(codes) in ([0, 1], [1, 1])
    for code, _, err in runs:
        assert len(err) == code
        assert all("another redrive" in line for line in err)
        assert all("nothing was put back twice" in line for line in err)
    told = place.done()[f"put back on {place.input}"]
    assert told == 0 or codes == [1, 1]
    place.audit(range(count), [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_tells_what_is_done_and_the_next_run_goes_on(place, number):
    count = 2_000
    place.produce(place.letter(n) for n in range(count))
    place.proxy.delay(Api.END_TXN, 0.2)
    process = place.start(*SMALL, bootstrap=place.proxy.bootstrap_servers)
    wait_until(lambda: place.proxy.seen[Api.END_TXN] >= 2, 60, "it works")
    process.send_signal(number)
    code, out, (line,) = ended(process)
    assert code == 130
    assert line.startswith("emotion-worker: interrupted")
    assert "run it again to go on" in line
    done = counts(out)[f"put back on {place.input}"]
    assert 0 < done < count
    assert len(place.put_back()) == done, "the summary counts what is committed"
    assert place.done()[f"put back on {place.input}"] == count - done
    place.audit(range(count), [])


def test_interrupted_while_it_starts_it_has_done_nothing(place):
    place.produce([place.letter(1)])
    held = place.proxy.hold_response(Api.FIND_COORDINATOR)
    process = place.start(bootstrap=place.proxy.bootstrap_servers)
    held.wait()
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "", ["emotion-worker: interrupted before anything was put back"])
    assert place.put_back() == []


def test_interrupted_twice_it_ends_at_once_and_the_next_run_goes_on(place):
    count = 1_000
    place.produce(place.letter(n) for n in range(count))
    held = place.proxy.hold_request(Api.END_TXN, nth=2)
    process = place.start(*SMALL, bootstrap=place.proxy.bootstrap_servers)
    held.wait()
    process.send_signal(signal.SIGINT)
    no_echo()
    process.send_signal(signal.SIGTERM)
    code, _, (line,) = ended(process, timeout=10)
    assert code == 130
    assert line == "emotion-worker: interrupted twice: ended at once; run it again to go on"
    held.release()
    place.done()
    place.audit(range(count), [])


def test_an_empty_topic_is_done_and_a_missing_or_compacted_one_refused(place):
    assert place.done() == {f"put back on {place.input}": 0, f"left in {place.dlq}": 0}
    code, out, (line,) = place.redrive("--dlq.topic", "nowhere")
    assert (code, out) == (2, "")
    assert "there is no topic for dlq.topic nowhere" in line
    assert "--create --topic nowhere" in line
    code, _, (line,) = place.redrive("--input.topic", "nowhere", "--dry-run")
    assert code == 2
    assert "there is no topic for input.topic nowhere" in line
    with admin(place.direct) as client:
        assert "nowhere" not in client.list_topics()
        policy = {"cleanup.policy": "compact"}
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, place.dlq, policy)])
    wait_until(lambda: place.redrive()[0] == 2, 60, "a compacted topic is refused")


def test_two_groups_that_share_a_dead_letter_topic_double_nothing(place):
    other = Place(place.direct, place.proxy)
    other.dlq, other.group = place.dlq, place.group
    ours, theirs = range(100), range(100, 220)
    place.produce([place.letter(n) for n in ours] + [other.letter(n) for n in theirs])
    assert place.done()["of another input topic"] == len(theirs)
    assert other.done()[f"put back on {other.input}"] == len(theirs)
    assert place.done()[f"put back on {place.input}"] == 0
    place.audit(ours, [])
    other.audit(theirs, [])


def test_offsets_that_the_cluster_may_have_forgotten_are_not_guessed(place):
    long_ago = place.now - 8 * 86_400_000
    place.produce([place.letter(n, timestamp=long_ago, partition=0) for n in range(20)])
    place.produce([place.letter(n, partition=1) for n in range(20, 30)])
    for options in ((), ("--dry-run",)):
        code, out, (line,) = place.redrive(*options)
        assert (code, out) == (2, "")
        assert f"no offset for partition 0 of {place.dlq}" in line
        assert "(7.0 days, offsets.retention.minutes): add --from-oldest" in line
    assert place.done("--from-oldest")[f"put back on {place.input}"] == 30
    with admin(place.direct) as client:  # as its retention does
        client.delete_groups([place.group])
    assert place.redrive()[0] == 2
    told = place.done("--from-oldest", "--since", "1d", "--dry-run")
    assert told[f"would be put back on {place.input}"] == 10
    place.audit(range(30), range(30))


def test_offsets_beyond_the_end_are_refused_and_not_taken_for_nothing_to_do(place):
    place.produce([place.letter(1)])
    with contextlib.closing(
        KafkaConsumer(bootstrap_servers=place.direct, group_id=place.group)
    ) as consumer:
        consumer.commit({TopicPartition(place.dlq, 1): OffsetAndMetadata(99, "", -1)})
    for options in ((), ("--dry-run",)):
        code, out, (line,) = place.redrive(*options)
        assert (code, out) == (2, "")
        assert f"group {place.group} is past the end of {place.dlq} (partition 1)" in line
    assert place.put_back() == []
