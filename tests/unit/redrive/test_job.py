"""A redrive under failures: what it makes again, what it counts, and what ends it."""

import math
from collections import deque
from types import SimpleNamespace

import pytest
from kafka.errors import (
    CorruptRecordError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailedError,
)

from tests.support.transactional import DONE, HANGS, FakeBroker
from worker.errors import Fatal, Refused, Transient
from worker.kafka.cluster.topics import Topic
from worker.kafka.consume import reader
from worker.redrive import backlog, mover
from worker.redrive.decisions import Chooser, Filter, Tally
from worker.redrive.job import Redrive, Task

INPUT = Topic("tweets", None, 4, 1_000_000, False, 2**63 - 1, 2**63 - 1)
DLQ = Topic("dlq", None, 2, 1_000_000, False, 2**63 - 1, 2**63 - 1)


class Broker(FakeBroker):
    """With dead letters."""

    def __init__(self, count):
        super().__init__()
        self.letters = [letter(n) for n in range(count)]
        self.old = set()

    def consumer(self, **_):
        verdict = self.verdict("consumer")
        if verdict is not None:
            raise verdict
        return Consumer(self)

    def end_offsets(self, topic, partitions):
        return {0: len(self.letters), 1: 0}

    def start_offsets(self, topic, partitions):
        return {0: 0, 1: 0}

    def offsets_kept(self):
        return 604_800.0

    def begins_before(self, topic, partitions, age):
        assert age == 604_800.0
        return self.old


class Consumer:
    """Gives dead letters from where it was put."""

    def __init__(self, broker):
        self.broker, self.at, self.partitions, self.rests = broker, 0, set(), set()
        self._fetcher = SimpleNamespace(
            _append=None, _paused_partition_records={}, _next_in_line_exception_metadata=None
        )

    def committed(self, partition, timeout_ms):
        verdict = self.broker.verdict("committed")
        if verdict is not None:
            raise verdict
        return self.broker.offsets.get(partition.partition)

    def assign(self, partitions):
        self.partitions = set(partitions)

    def assignment(self):
        return self.partitions

    def paused(self):
        return self.rests

    def pause(self, partition):
        self.rests.add(partition)

    def seek(self, partition, offset):
        self.at = offset

    def position(self, partition, timeout_ms):
        verdict = self.broker.verdict("position")
        if verdict is not None:
            raise verdict
        return self.at

    def poll(self, timeout_ms, max_records):
        found = self.broker.letters[self.at : self.at + max_records]
        self.at += len(found)
        return {0: found} if found else {}

    def close(self, autocommit, timeout_ms):
        pass


def letter(number, reason="invalid_json"):
    told = {"reason": reason, "message": "", "topic": "tweets", "partition": 0,
            "offset": number, "timestamp": 5}  # fmt: skip
    headers = [(f"dlq.{name}", str(value).encode()) for name, value in told.items()]
    return SimpleNamespace(
        partition=0, offset=number, timestamp=5, key=b"k", value=b"%d" % number, headers=headers
    )


class Job:
    def __init__(self, count=20, *, limit=None, from_oldest=False, broker=None, outage_limit=5.0):
        self.broker, self.tally, self.troubles = broker or Broker(count), Tally(), []
        self.stopping, self.stop_after = False, math.inf
        task = Task(
            input_topic=INPUT, dlq_topic=DLQ, group_id="g-redrive", limit=limit,
            from_oldest=from_oldest, compression="none", fetch_max_bytes=1 << 20,
            chooser=Chooser(input_topic="tweets", partitions=4, chosen=Filter()),
            outage_limit=outage_limit,
        )  # fmt: skip
        self.redrive = Redrive(
            connection=self.broker, desk=self.broker, task=task, stopping=lambda: self.stopping,
            on_moved=self.moved, on_trouble=self.trouble,
        )  # fmt: skip

    def moved(self, moves):
        self.tally.add(moves)
        self.stopping = self.stopping or self.counted() >= self.stop_after

    def trouble(self, name):
        self.troubles.append(name)
        self.stopping = self.stopping or len(self.troubles) >= self.stop_after

    def run(self):
        self.redrive.open(preview=False)
        self.redrive.run()

    def refuse(self, *numbers):
        """Too large for the input topic."""
        self.broker.refused = {(INPUT.name, number) for number in numbers}

    def put_back(self):
        return [number for topic, number in self.broker.log if topic == "tweets"]

    def counted(self):
        return self.tally.again.total()


@pytest.fixture(autouse=True)
def spans_of_five(monkeypatch):
    monkeypatch.setattr(backlog, "SPAN_RECORDS", 5)
    monkeypatch.setattr(mover.time, "sleep", lambda _: None)


def test_each_is_put_back_in_order_and_its_offset_settled():
    job = Job()
    job.run()
    assert job.put_back() == list(range(20))
    assert job.broker.offsets == {0: 20}
    assert job.broker.proof == "g-redrive"
    assert job.counted() == 20
    assert len(job.broker.producers) == 1


@pytest.mark.parametrize(
    ("request_", "verdict"),
    [
        ("send", KafkaTimeoutError("expired")),
        ("offsets", KafkaError("what?")),
        ("offsets", HANGS),
        ("commit", HANGS),
        ("commit", DONE),
        ("commit", KafkaError("what?")),
    ],
)
@pytest.mark.parametrize("at", [0, 2, 3])
def test_after_a_failure_another_producer_goes_on_from_what_is_committed(request_, verdict, at):
    job = Job()
    job.broker.fails[request_] = deque([None] * at + [verdict])
    job.run()
    assert job.put_back() == list(range(20)), "once, and in order"
    assert job.counted() == 20, "and counted once"
    assert job.broker.offsets == {0: 20}
    assert [producer.ended for producer in job.broker.producers] == [True, False]
    assert len(job.troubles) == 1


def test_offsets_that_are_not_known_yet_are_asked_for_again():
    job = Job()
    unstable = [KafkaTimeoutError("pending")] * 3
    job.broker.fails = {"committed": deque([*unstable, None, *unstable]), "commit": deque([DONE])}
    job.run()
    assert job.put_back() == list(range(20))


@pytest.mark.parametrize("request_", ["send", "offsets", "commit"])
def test_a_fenced_redrive_ends_and_makes_no_new_producer(request_):
    job = Job()
    job.broker.fails[request_] = deque([None, None, ProducerFencedError()])
    with pytest.raises(Fatal, match="another redrive of dlq has taken over"):
        job.run()
    assert len(job.broker.producers) == 1


@pytest.mark.parametrize("verdict", [DONE, HANGS])
def test_offsets_that_another_has_moved_end_it(verdict):
    job = Job()
    job.broker.fails["commit"] = deque([None, verdict])

    def another_redrive():
        job.broker.offsets[0] = 17

    job.broker.fails["init"] = deque([None, another_redrive])
    with pytest.raises(Fatal, match=r"taken over.*offsets moved"):
        job.run()
    assert job.put_back() == list(range(10 if verdict == DONE else 5))


def test_another_that_has_settled_the_very_span_ends_it_too():
    job = Job()
    job.broker.fails["send"] = deque([None] * 5 + [KafkaTimeoutError("expired")])

    def another_redrive():
        job.broker.offsets[0] = 10

    job.broker.fails["init"] = deque([None, another_redrive])
    with pytest.raises(Fatal, match=r"taken over.*offsets moved"):
        job.run()
    assert job.counted() == 5


def test_while_a_refused_one_is_looked_for_only_what_was_moved_is_settled():
    job = Job()
    job.refuse(3)
    # The span, then its first three records; the next one is not committed any more.
    job.broker.fails["offsets"] = deque([None, ProducerFencedError()])
    with pytest.raises(Fatal, match="taken over"):
        job.run()
    assert job.put_back() == [0, 1, 2]
    assert job.broker.offsets == {0: 3}


@pytest.mark.parametrize("at_once", [False, True])
def test_what_is_refused_is_left_alone_and_the_rest_of_its_span_put_back(at_once):
    job = Job()
    job.refuse(3, 6, 7)
    job.broker.at_once = at_once
    job.run()
    assert job.put_back() == [n for n in range(20) if n not in (3, 6, 7)]
    assert [n for topic, n in job.broker.log if topic == "dlq"] == [3, 6, 7]
    assert (job.counted(), job.tally.left) == (17, {"refused": 3})
    assert job.broker.offsets == {0: 20}
    assert job.troubles == []


def test_the_limit_ends_it_in_the_middle_of_what_was_read():
    job = Job(limit=7)
    job.run()
    assert job.put_back() == list(range(7))
    assert job.broker.offsets == {0: 7}
    assert job.redrive.limit_reached


def test_what_is_refused_does_not_count_towards_the_limit():
    job = Job(limit=7)
    job.refuse(0, 6)
    job.run()
    assert job.put_back() == [1, 2, 3, 4, 5, 7, 8]
    assert job.broker.offsets == {0: 9}


def test_every_transaction_renews_all_offsets_and_a_run_with_nothing_to_do_too():
    """The cluster forgets those that nobody commits for a week, of each partition by itself."""
    first = Job()
    first.broker.offsets = {1: 0}
    first.run()
    assert all(offsets[1] == 0 for offsets in first.broker.commits)
    assert len(first.broker.commits) == 4
    Job(broker=first.broker).run()
    assert first.broker.commits[4:] == [{0: 20, 1: 0}]
    assert first.broker.spans[4:] == [0]


@pytest.mark.parametrize("preview", [False, True])
def test_where_offsets_may_be_forgotten_a_person_decides(preview):
    job = Job()
    job.broker.old = {0, 1}
    with pytest.raises(Refused, match=r"no offset for partition 0 .*7\.0 days.*--from-oldest"):
        job.redrive.open(preview=preview)
    job = Job(from_oldest=True)
    job.broker.old = {0}
    job.run()
    assert job.put_back() == list(range(20))
    again = Job(broker=job.broker)
    again.run()
    assert again.counted() == 0, "known offsets are none that were forgotten"


@pytest.mark.parametrize("at", range(4))
def test_a_position_that_is_not_known_for_a_moment_skips_nothing(at):
    job = Job()
    job.broker.fails["position"] = deque([None] * at + [KafkaTimeoutError("reset")])
    job.run()
    assert job.put_back() == list(range(20))
    assert job.broker.offsets == {0: 20}


def test_what_the_client_reads_again_is_not_put_back_again(monkeypatch):
    """After a leader's log was truncated it goes back by itself."""
    job = Job()
    job.redrive.open(preview=False)
    consumer = job.redrive._reader._consumer
    poll = consumer.poll

    def back_once(**options):
        if consumer.at == 10:
            monkeypatch.setattr(consumer, "poll", poll)
            consumer.at = 5
        return poll(**options)

    monkeypatch.setattr(consumer, "poll", back_once)
    job.redrive.run()
    assert job.put_back() == list(range(20))


def test_while_no_broker_answers_the_old_consumer_goes_on_until_the_outage_limit(monkeypatch):
    monkeypatch.setattr(reader, "STALL_SECONDS", 0.0)
    job = Job()
    job.broker.fails["consumer"] = deque([Transient("no broker answers")] * 9)
    job.redrive.open(preview=False)
    reading = job.redrive._reader
    monkeypatch.setattr(reading._consumer, "poll", lambda **_: {})
    assert reading.poll(timeout=0, max_records=5, max_bytes=1) == []
    assert reading.poll(timeout=0, max_records=5, max_bytes=1) == []
    reading._progress -= 6
    with pytest.raises(Fatal, match=r"nothing could be read from dlq for 6 s"):
        reading.poll(timeout=0, max_records=5, max_bytes=1)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (TopicAuthorizationFailedError("dlq"), "topic dlq cannot be consumed: TopicAuthoriz"),
        (CorruptRecordError("crc"), "a record that cannot be read.*partition 0 offset 0"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "bad"), "a record that cannot be read"),
    ],
)
def test_only_a_record_is_called_unreadable(monkeypatch, error, line):
    job = Job()
    job.redrive.open(preview=False)

    def poll(**_):
        raise error

    monkeypatch.setattr(job.redrive._reader._consumer, "poll", poll)
    with pytest.raises(Fatal, match=line):
        job.redrive.run()


def test_what_is_appended_meanwhile_is_not_chased():
    job = Job()
    job.redrive.open(preview=False)
    job.broker.letters += [letter(n) for n in range(20, 40)]
    job.redrive.run()
    assert job.put_back() == list(range(20))
    assert job.broker.offsets == {0: 20}


def test_a_preview_counts_the_same_and_makes_no_producer():
    job = Job(limit=12)
    job.redrive.open(preview=True)
    job.redrive.preview()
    assert job.counted() == 12
    assert (job.broker.producers, job.broker.log, job.broker.offsets) == ([], [], {})


def test_asked_to_stop_it_ends_between_two_transactions():
    job = Job()
    job.stop_after = 10
    job.run()
    assert job.put_back() == list(range(10))
    assert job.broker.offsets == {0: 10}


def test_no_permission_and_a_long_outage_end_it():
    job = Job()
    job.broker.fails["offsets"] = deque([TransactionalIdAuthorizationFailedError()])
    with pytest.raises(Fatal, match="outputs cannot be written: TransactionalIdAuthorization"):
        job.run()
    job = Job(outage_limit=0.0)
    job.broker.fails["send"] = deque([KafkaTimeoutError("expired")] * 99)
    job.redrive.open(preview=False)
    with pytest.raises(Fatal, match=r"no output was acknowledged .*kafka.outage_limit"):
        job.redrive.run()
    assert job.put_back() == []


def test_asked_to_stop_while_the_broker_is_away_it_does_not_wait():
    job = Job()
    job.broker.fails["send"] = deque([KafkaTimeoutError("expired")] * 99)
    job.redrive.open(preview=False)
    job.stop_after = 1
    with pytest.raises(Transient):
        job.redrive.run()
