"""The producer side under failures: order, and only what is refused alone is refused."""

from collections import deque
from dataclasses import replace
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")

from kafka.errors import (  # noqa: E402 - importing the client warns on Python 3.11
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)

from tests.support.fakes import record  # noqa: E402
from worker import awake  # noqa: E402
from worker.awake import AwakeClock  # noqa: E402
from worker.errors import Fatal, Transient  # noqa: E402
from worker.kafka.cluster.topics import Topic  # noqa: E402
from worker.kafka.produce.at_least_once import Sink  # noqa: E402
from worker.kafka.produce.outage import Outage  # noqa: E402
from worker.kafka.produce.writer import Writer  # noqa: E402
from worker.records import Lease, Output  # noqa: E402


class Future:
    def __init__(self):
        self.is_done, self.exception = False, None

    def get(self, timeout):
        if self.exception is not None:
            raise self.exception


class Broker:
    """Producers that share a log. `script` says what becomes of a record, by its number."""

    def __init__(self):
        self.log, self.producers, self.script, self.holding = [], 0, {}, False

    def admin(self):
        raise Transient("nobody tells the topics' limits")

    def producer(self, **_):
        self.producers += 1
        return Producer(self)


class Producer:
    """As kafka-python's: after a refusal it fails all that follows with the same error."""

    def __init__(self, broker):
        self.broker, self.poison, self.waiting = broker, None, []
        self._closed = False
        self._sender = SimpleNamespace(force_close=lambda: None, join=lambda _: None)
        self._accumulator = SimpleNamespace(has_incomplete=False)
        self._metadata = SimpleNamespace(_partitions={})  # so every output goes through send

    def send(self, topic, *, value, **_):
        number = int(value)
        verdicts = self.broker.script.get(number, deque())
        verdict = verdicts.popleft() if verdicts else None
        if verdict == "raise":
            raise KafkaTimeoutError("no metadata")
        future = Future()
        self.waiting.append((future, number, verdict))
        if not self.broker.holding:
            self.deliver()
        return future

    def deliver(self):
        for future, number, verdict in self.waiting:
            future.exception = self.poison or verdict
            if future.exception is None:
                self.broker.log.append(number)
            elif not isinstance(verdict, KafkaTimeoutError):
                self.poison = future.exception
            future.is_done = True
        self.waiting.clear()

    def close(self, timeout):
        self.waiting.clear()


def output(number, *, epoch=1, **changes):
    made = Output(
        record=record(number, epoch=epoch), kind="labelled", topic="out", partition=None,
        key=b"k", value=b"%d" % number, headers=[], timestamp=None,
    )  # fmt: skip
    return made._replace(**changes)


TOPIC = Topic("out", None, 1, 1_000_000, False, 2**63 - 1, 3_600_000)


@pytest.fixture
def broker():
    return Broker()


@pytest.fixture
def sink(broker):
    return make_sink(broker)


def make_sink(broker, topic=TOPIC, tell=lambda _: None):
    def in_place(refused, refusal):
        return refused._replace(value=b"%d" % (1_000 + refused.record.offset), headers=[("r", b"")])

    writer = Writer(
        connection=broker, topics={"out": topic}, compression="none", delivery_timeout=10,
        outage=Outage(limit=20, stopping=lambda: False, tell=tell),
    )  # fmt: skip
    return Sink(writer=writer, replace=in_place, on_error=lambda _: None)


def drained(sink):
    taken = []
    while len(sink):
        taken += sink.take_acknowledged(following=0)
    return [entry.record.offset for entry in [*taken, *sink.take_acknowledged(following=0)]]


def test_outputs_are_acknowledged_once_each_in_order(sink, broker):
    for number in range(5):
        sink.send(output(number))
    assert drained(sink) == broker.log == [0, 1, 2, 3, 4]


def test_a_refused_record_is_replaced_and_takes_no_innocent_with_it(sink, broker):
    broker.script[2] = deque([MessageSizeTooLargeError(), MessageSizeTooLargeError()])
    for number in range(6):
        sink.send(output(number, headers=[("h", b"large")] if number == 2 else []))
    assert drained(sink) == [0, 1, 2, 3, 4, 5]
    assert broker.log == [0, 1, 1_002, 3, 4, 5]


def test_what_a_refused_suspect_teaches_holds_for_what_waits_already(sink, broker):
    broker.holding = True
    old = 1_000_000
    for number in range(6):
        refused = deque([InvalidTimestampError() for _ in range(9)])
        broker.script[number] = refused if number % 2 else deque()
        sink.send(output(number, timestamp=old if number % 2 else None))
    sink._replace = lambda refused, _: refused._replace(
        timestamp=None, value=b"%d" % (1_000 + refused.record.offset)
    )
    broker.holding = False
    sink._writer.producer.deliver()
    for future, _ in list(sink._unacknowledged)[1:]:
        future.exception = sink._unacknowledged[1][0].exception
    assert drained(sink) == [0, 1, 2, 3, 4, 5]
    assert broker.log[-5:] == [1_001, 2, 1_003, 4, 1_005]
    assert broker.producers == 3, "for the first, and to find the first refused one alone"


def test_an_innocent_that_fails_first_in_the_refused_ones_batch_is_not_refused(sink, broker):
    broker.holding = True
    innocent = KafkaError("part of a batch which had one more more invalid records")
    broker.script[1] = deque([innocent])
    broker.script[2] = deque([InvalidTimestampError(), InvalidTimestampError()])
    for number in range(5):
        sink.send(output(number))
    producer = sink._writer.producer
    futures = [future for future, _ in sink._unacknowledged]
    broker.holding = False
    producer.deliver()
    assert futures[1].exception is innocent
    # The client poisons all that follow the refused one, not those before it.
    for future in futures[2:]:
        future.exception = InvalidTimestampError()
    drained(sink)
    assert 1_002 in broker.log
    assert {1, 3, 4} <= set(broker.log)
    assert 1_001 not in broker.log


def test_after_a_time_out_all_goes_out_again_in_order(sink, broker):
    broker.holding = True
    for number in range(5):
        sink.send(output(number))
    for future, _ in list(sink._unacknowledged)[1:]:
        future.exception, future.is_done = KafkaTimeoutError("expired"), True
    first = sink._unacknowledged[0][0]
    first.is_done = True
    broker.holding = False
    assert drained(sink) == [0, 1, 2, 3, 4]
    assert broker.log == [1, 2, 3, 4]


def test_a_producer_that_fails_in_the_middle_of_sending_again_turns_no_order_around(sink, broker):
    broker.holding = True
    for number in range(1, 6):
        sink.send(output(number))
    for future, _ in sink._unacknowledged:
        future.exception, future.is_done = KafkaTimeoutError("expired"), True
    broker.script[3] = deque(["raise"])
    producers = broker.producers
    sink._collect()
    sink._writer.producer.deliver()
    assert drained(sink) == [1, 2, 3, 4, 5]
    assert broker.log == [1, 2, 3, 4, 5]
    assert broker.producers == producers + 2


def test_outputs_of_ended_leases_are_not_sent_again(sink, broker):
    broker.holding = True
    sink.send(output(1, epoch=1))
    sink.send(output(2, epoch=2))
    sink.forget(frozenset([Lease(0, 1)]))
    for future, _ in sink._unacknowledged:
        future.exception, future.is_done = KafkaTimeoutError("expired"), True
    broker.holding = False
    assert drained(sink) == [2]
    assert broker.log == [2]


def test_what_the_topic_refuses_for_certain_is_never_sent(broker):
    sink = make_sink(broker, replace(TOPIC, compacted=True, latest_ms=60_000))
    sink.send(output(1, key=None))
    sink.send(output(2, timestamp=4_000_000_000_000))
    sink.send(output(3))
    assert drained(sink) == [1, 2, 3]
    assert broker.log == [1_001, 1_002, 3]
    assert broker.producers == 1, "no producer was poisoned"


def test_no_permission_ends_the_process_and_refuses_nothing(sink, broker):
    broker.script[1] = deque([TopicAuthorizationFailedError()])
    sink.send(output(1))
    with pytest.raises(Fatal, match="outputs cannot be written: TopicAuthorizationFailedError"):
        drained(sink)
    assert broker.log == []


def test_a_pause_of_the_whole_process_is_no_outage(broker, monkeypatch):
    class Raw:
        now = 100.0

        def __call__(self):
            return self.now

    raw = Raw()
    clock = AwakeClock(raw)
    monkeypatch.setattr(awake, "now", clock)
    with clock.ticking():
        sink = make_sink(broker)
        broker.holding = True
        sink.send(output(1))
        raw.now += 3_600
        assert sink.take_acknowledged(following=0) == []


def test_an_outage_beyond_the_limit_ends_the_process(broker, monkeypatch):
    sink = make_sink(broker)
    broker.holding = True
    sink.send(output(1))
    sink._writer.outage._last_good -= 21
    with pytest.raises(Fatal, match=r"no output was acknowledged for 21 s \(kafka.outage_limit\)"):
        sink.take_acknowledged(following=0)


def test_a_partition_that_takes_no_writes_makes_no_other_s_outputs_go_out_again(sink, broker):
    broker.holding = True
    for number in range(8):
        sink.send(output(number, partition=number % 2))
    for future, written in sink._unacknowledged:
        unwritable = written.partition == 0
        future._produce_future = SimpleNamespace(
            topic_partition=("out", written.partition), wait=lambda _: True, value=(-1, None)
        )
        future.exception = KafkaTimeoutError("expired") if unwritable else None
        future.is_done = True
    broker.holding = False
    assert sorted(drained(sink)) == list(range(8))
    assert broker.log == [0, 2, 4, 6]


def test_behind_a_failed_output_all_of_its_partition_go_out_again_in_order(sink, broker):
    broker.holding = True
    for number in range(8):
        sink.send(output(number, partition=number % 2))
    for future, written in sink._unacknowledged:
        future._produce_future = SimpleNamespace(
            topic_partition=("out", written.partition), wait=lambda _: True, value=(-1, None)
        )
        failed = written.record.offset in {2, 3}
        future.exception = KafkaTimeoutError("expired") if failed else None
        future.is_done = True
    broker.holding = False
    assert sorted(drained(sink)) == list(range(8))
    assert broker.log == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("suspects", [0, 1], ids=["together", "alone"])
def test_outputs_that_wait_for_long_are_told_of_until_one_is_acknowledged(
    broker, monkeypatch, suspects
):
    now, told = [100.0], []
    monkeypatch.setattr(awake, "now", lambda: now[0])
    sink = make_sink(broker, tell=told.append)
    broker.holding = True

    def pause(seconds):
        now[0] += 1
        if now[0] > 115:
            broker.holding = False
            sink._writer.producer.deliver()

    monkeypatch.setattr("worker.kafka.produce.at_least_once.time.sleep", pause)
    sink._suspects = suspects
    sink.send(output(1))
    while not sink.take_acknowledged(following=0):
        pause(1)
    assert told == [11.0, 12.0, 13.0, 14.0, 15.0, 0.0]


def test_outputs_that_are_void_by_now_wait_for_nothing_any_more(broker, monkeypatch):
    now, told = [100.0], []
    monkeypatch.setattr(awake, "now", lambda: now[0])
    sink = make_sink(broker, tell=told.append)
    broker.holding = True
    sink.send(output(1))
    now[0] += 11
    sink.take_acknowledged(following=0)
    sink.forget(frozenset([Lease(0, 1)]))
    future = sink._unacknowledged[0][0]
    future.exception, future.is_done = KafkaTimeoutError("expired"), True
    sink.take_acknowledged(following=0)
    assert len(sink) == 0
    assert told[-1] == 0.0


def test_what_others_have_acknowledged_is_no_outage(sink, broker, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(awake, "now", lambda: now[0])
    sink._writer.outage.succeeded()
    broker.holding = True
    for number in range(4):
        sink.send(output(number, partition=number % 2))
    now[0] += 21
    for future, written in sink._unacknowledged:
        future._produce_future = SimpleNamespace(
            topic_partition=("out", written.partition), wait=lambda _: True, value=(-1, None)
        )
        future.exception = KafkaTimeoutError("expired") if written.partition == 0 else None
        future.is_done = True
    broker.holding = False
    assert sorted(drained(sink)) == [0, 1, 2, 3]
