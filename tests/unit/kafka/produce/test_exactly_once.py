"""Exactly once under failures: what is retried, what is read again, and what ends the process."""

import gc
import time
from collections import deque
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")

from kafka.errors import (  # noqa: E402 - importing the client warns on Python 3.11
    CommitFailedError,
    FencedInstanceIdError,
    InvalidProducerEpochError,
    KafkaError,
    KafkaTimeoutError,
    NotCoordinatorError,
    ProducerFencedError,
    TransactionalIdAuthorizationFailedError,
)
from kafka.producer.transaction_manager import TransactionManager  # noqa: E402

from tests.support.fakes import record  # noqa: E402
from tests.support.transactional import DONE, HANGS, FakeBroker  # noqa: E402
from worker import awake  # noqa: E402
from worker.errors import Fatal, Transient  # noqa: E402
from worker.kafka.cluster.topics import Topic  # noqa: E402
from worker.kafka.consume.membership import Membership  # noqa: E402
from worker.kafka.produce import exactly_once, span, span_times, transaction  # noqa: E402
from worker.kafka.produce.exactly_once import Callbacks, SpanLimits, TransactionalSink  # noqa: E402
from worker.kafka.produce.outage import Outage  # noqa: E402
from worker.records import Lease, Output  # noqa: E402

HOUR, DAY = 3_600_000, 86_400_000
TOPIC = Topic("out", None, 1, 1_000_000, False, 2**63 - 1, 2**63 - 1)


class Consumer:
    def __init__(self):
        self.generation_id, self.member_id = 1, "member"

    def group_metadata(self):
        return SimpleNamespace(generation_id=self.generation_id, member_id=self.member_id)


class Desk:
    def __init__(self, **options):
        self.broker, self.consumer = FakeBroker(), Consumer()
        self.rewinds, self.commits, self.replaced = [], [], False
        self.membership = Membership()
        self.membership.joins_with(self.consumer)
        self.hold(Lease(0, 1))
        made = transaction.transactional_writer(
            connection=self.broker, topics={"out": TOPIC}, compression="none",
            outage=Outage(limit=options.get("outage_limit", 5), stopping=lambda: False),
            transactional_id="group-replica", replaced=lambda: self.replaced,
        )  # fmt: skip
        self.sink = TransactionalSink(
            writer=made, spans=span.Spans(writer=made, topic="in"), standing=self.membership,
            replica_id="replica",
            limits=SpanLimits(
                seconds=options.get("interval", 0.0), records=options.get("span_records", 1_000),
                bytes=options.get("span_bytes", 1_000_000),
            ),
            replace=lambda refused, _: refused._replace(value=b"%d" % (1_000 + int(refused.value))),
            callbacks=Callbacks(
                rewind=lambda: self.rewinds.append(1), on_commit=self.commits.append,
                on_error=lambda _: None,
            ),
        )  # fmt: skip

    def hold(self, *leases, member="member"):
        self.membership.holds(dict.fromkeys(leases, member))

    def send(self, *numbers, epoch=1):
        for number in numbers:
            self.sink.send(output(number, epoch))

    def refuse(self, *numbers):
        self.broker.refused = {("out", number) for number in numbers}

    @property
    def log(self):
        return [number for _, number in self.broker.log]

    def taken(self, times=1, following=1):
        return [
            output.record.offset
            for _ in range(times)
            for output in self.sink.take_acknowledged(following=following)
        ]


def busy(**options):
    """A sink that has just committed a span."""
    desk = Desk(**options)
    desk.send(0)
    assert desk.taken(following=5) == [0]
    return desk


def output(number, epoch=1):
    return Output(
        record=record(number, epoch=epoch), kind="labelled", topic="out", partition=None,
        key=b"k", value=b"%d" % number, headers=[], timestamp=None,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(exactly_once.time, "sleep", lambda _: None)


@pytest.fixture
def desk():
    return Desk()


def test_outputs_and_their_offsets_are_one_transaction(desk):
    desk.send(1, 2, 3)
    assert desk.taken() == [1, 2, 3]
    assert (desk.log, desk.broker.offsets) == ([1, 2, 3], {0: 4})
    assert desk.broker.proof.generation_id == 1
    assert desk.commits == ["ok"]
    assert len(desk.sink) == 0


def test_the_client_is_told_what_the_rules_ask_for(desk):
    options = desk.broker.options
    assert options["transactional_id"] == "group-replica"
    assert options["transaction_timeout_ms"] / 1_000 > transaction.DEADLINE
    assert options["delivery_timeout_ms"] / 1_000 < transaction.DEADLINE
    assert options["request_timeout_ms"] <= 5_000
    assert options["enable_idempotence"] is True
    assert options["acks"] == "all"


def test_outputs_are_gathered_while_more_are_under_way_and_no_longer():
    desk = busy(interval=60)
    desk.send(1, 2)
    assert desk.taken(following=5) == []
    assert desk.taken(following=0) == [1, 2]


def test_outputs_after_a_pause_are_not_gathered(monkeypatch):
    desk = busy(interval=60)
    later = time.monotonic() + 61
    monkeypatch.setattr(span_times.time, "monotonic", lambda: later)
    desk.send(1, 2)
    assert desk.taken(following=5) == [1, 2]
    desk.send(3)
    assert desk.taken(following=5) == []


def test_between_slow_spans_there_is_a_gap_in_which_leases_may_end(monkeypatch):
    desk, now = busy(interval=0.1), [time.monotonic() + 1.0]
    monkeypatch.setattr(span_times.time, "monotonic", lambda: now[0])
    send = desk.sink._spans.send

    def slow(*arguments):
        now[0] += 0.5
        return send(*arguments)

    monkeypatch.setattr(desk.sink._spans, "send", slow)
    desk.send(1)
    assert desk.taken(following=5) == [1]
    desk.send(2)
    assert desk.taken(following=5) == []
    now[0] += span_times.GAP
    assert desk.taken(following=5) == [2]


def test_a_full_span_does_not_wait():
    desk = busy(interval=60, span_records=3)
    desk.send(1, 2)
    assert desk.taken() == []
    desk.send(3)
    assert desk.taken() == [1, 2, 3]


@pytest.mark.parametrize(
    ("request_", "verdict"),
    [
        ("send", KafkaTimeoutError("expired")),
        ("send", HANGS),
        ("offsets", CommitFailedError("stale generation")),
        ("offsets", HANGS),
        ("offsets", NotCoordinatorError()),
    ],
)
def test_what_fails_before_the_commit_is_sent_again_by_a_new_producer(desk, request_, verdict):
    desk.broker.fails[request_] = deque([verdict])
    desk.send(1, 2, 3)
    assert desk.taken() == []
    assert desk.log == []
    assert desk.broker.producers[0].ended, "a producer that failed once is not used again"
    assert desk.taken() == [1, 2, 3]
    assert (desk.log, desk.broker.offsets) == ([1, 2, 3], {0: 4})
    assert desk.rewinds == []
    assert desk.commits == ["failed", "ok"]


@pytest.mark.parametrize("verdict", [HANGS, DONE, KafkaError("what?")])
def test_where_nobody_knows_the_outcome_the_group_is_asked(desk, verdict):
    desk.broker.fails["commit"] = deque([verdict])
    desk.send(1, 2, 3)
    assert desk.taken() == []
    assert desk.rewinds == [1]
    assert len(desk.broker.producers) == 2, "the new one has settled the old one's transaction"
    # What was read before the rewind is read again: its outputs would be doubled, or leave a gap.
    desk.send(4, 5)
    assert desk.taken(3) == []
    assert len(desk.sink) == 0
    desk.hold(Lease(0, 2))
    desk.send(4, epoch=2)
    assert desk.taken() == [4]


@pytest.mark.parametrize(
    ("request_", "verdict"),
    [
        ("send", InvalidProducerEpochError()),
        ("offsets", ProducerFencedError()),
        ("offsets", FencedInstanceIdError()),
        ("commit", ProducerFencedError()),
    ],
)
def test_a_fenced_worker_ends_and_makes_no_new_producer(desk, request_, verdict):
    desk.broker.fails[request_] = deque([verdict])
    desk.send(1)
    with pytest.raises(Fatal, match="another worker uses the replica identity replica"):
        desk.taken()
    assert len(desk.broker.producers) == 1
    assert desk.log == []


def test_a_fence_that_shows_as_an_untyped_error_is_seen(desk):
    desk.broker.fails["send"] = deque([KafkaError("cannot perform send")])
    desk.broker.producers[0]._transaction_manager.last_error = ProducerFencedError()
    desk.send(1)
    with pytest.raises(Fatal, match="ProducerFencedError"):
        desk.taken()


def test_a_worker_that_replaced_its_own_consumer_is_not_fenced_by_it(desk):
    desk.broker.fails["offsets"] = deque([FencedInstanceIdError()])
    desk.send(1)
    ends = desk.broker.producers[0].offsets

    def meanwhile(offsets, proof):
        desk.hold()
        return ends(offsets, proof)

    desk.broker.producers[0]._transaction_manager.send_offsets_to_transaction = meanwhile
    assert desk.taken(2) == []
    assert len(desk.sink) == 0


def test_outside_the_group_nothing_is_committed_and_nothing_forgotten(desk):
    desk.consumer.generation_id, desk.consumer.member_id = -1, ""
    desk.send(1, 2)
    assert desk.taken(3) == []
    assert len(desk.broker.producers[0].open or ()) == 0
    desk.consumer.generation_id, desk.consumer.member_id = 7, "member"
    assert desk.taken() == [1, 2]


def test_no_proof_is_no_proof_even_for_leases_that_name_no_member(desk):
    """An empty group takes offsets from ('', -1): they would go back, and outputs double."""
    desk.hold(Lease(0, 1), member="")
    desk.consumer.generation_id, desk.consumer.member_id = -1, ""
    desk.send(1)
    assert desk.taken(3) == []
    assert desk.log == []


def test_a_lease_kept_through_a_rebalance_is_committed_under_the_new_generation(desk):
    desk.send(1)
    desk.consumer.generation_id = 9
    assert desk.taken() == [1]
    assert desk.commits == ["ok"]


def test_a_lease_given_to_an_earlier_member_is_not_committed(desk):
    desk.send(1)
    desk.consumer.member_id = "another"
    assert desk.taken(3) == []
    assert desk.log == []


def test_a_lease_that_ends_while_its_outputs_are_on_their_way_is_not_committed(desk):
    desk.hold(Lease(0, 1), Lease(1, 2))
    producer = desk.broker.producers[0]
    sent = producer.send

    def send(topic, **options):
        desk.hold(Lease(1, 2))
        return sent(topic, **options)

    producer.send = send
    desk.send(1)
    assert desk.taken(2) == []
    assert desk.log == []
    assert len(desk.sink) == 0


def test_outputs_of_ended_leases_are_dropped_and_the_others_committed(desk):
    desk.hold(Lease(0, 1), Lease(0, 2))
    desk.send(1)
    desk.send(7, epoch=2)
    desk.sink.forget(frozenset([Lease(0, 1)]))
    assert desk.taken() == [7]
    assert desk.log == [7]


def test_a_refused_output_is_replaced_and_takes_no_innocent_with_it(desk):
    desk.refuse(2, 5)
    desk.send(*range(1, 8))
    assert desk.taken(20) == [1, 2, 3, 4, 5, 6, 7]
    assert desk.log == [1, 1_002, 3, 4, 1_005, 6, 7]
    assert desk.broker.offsets == {0: 8}


@pytest.mark.parametrize("at_once", [False, True])
def test_an_innocent_of_the_refused_ones_batch_is_not_taken_for_it(desk, at_once):
    desk.refuse(3)
    desk.broker.innocent_first, desk.broker.at_once = True, at_once
    desk.send(1, 2, 3, 4)
    assert desk.taken(20) == [1, 2, 3, 4]
    assert desk.log == [1, 2, 1_003, 4]


@pytest.mark.parametrize("at_once", [False, True])
def test_a_refused_output_among_thousands_is_found_by_halves(at_once):
    desk = Desk(span_records=2_000)
    desk.refuse(1_500)
    desk.broker.at_once = at_once
    desk.send(*range(1, 2_001))
    assert desk.taken(40) == list(range(1, 2_001))
    assert desk.log[1_499] == 2_500
    assert len(desk.broker.producers) <= 13, "one for each half that was refused"


def test_outputs_refused_while_the_rest_of_their_span_is_sent_hold_nothing_up(desk):
    desk.refuse(3, 400, 401, 990)
    desk.broker.at_once = True
    desk.send(*range(1, 2_001))
    assert desk.taken(200) == list(range(1, 2_001))
    assert {1_003, 1_400, 1_401, 1_990} <= set(desk.log)
    assert not {3, 400, 401, 990} & set(desk.log)


def times(kind, number, now):
    """The timestamp of an output, in ms: now, or two days off."""
    far = {"old": -2 * DAY, "future": 2 * DAY}
    if kind == "both":
        return now + (far["old"] if number % 6 else far["future"]) if number % 3 == 0 else now
    if number % 10 and kind != "all":
        return now
    return now + far.get(kind, far["old"])


@pytest.mark.parametrize("kind", ["old", "future", "both", "all"])
def test_of_refused_timestamps_that_no_broker_names_a_few_are_tried_and_the_others_known(kind):
    desk = Desk(span_records=3_000)
    now = int(time.time() * 1_000)
    desk.broker.timely = range(now - DAY, now + HOUR)
    desk.sink._replace = lambda refused, _: refused._replace(timestamp=None)
    for number in range(1, 3_001):
        desk.sink.send(output(number)._replace(timestamp=times(kind, number, now)))
    assert desk.taken(60) == desk.log == list(range(1, 3_001))
    assert len(desk.broker.producers) <= 30


def test_among_many_refused_ones_that_nothing_foretells_spans_grow_again_from_one():
    desk = Desk(span_records=3_000)
    desk.refuse(*range(5, 1_000, 10))
    desk.send(*range(1, 1_001))
    assert desk.taken(2_000) == list(range(1, 1_001))
    assert len(desk.broker.producers) <= 4 * 100 + 10, "four for each, not log2 of what waits"


def test_a_span_holds_no_more_than_its_limits(desk):
    desk = Desk(span_records=10, span_bytes=1_000_000)
    desk.send(*range(1, 36))
    desk.taken(10)
    assert desk.broker.spans == [10, 10, 10, 5]


def test_a_span_that_is_late_is_halved_until_it_is_in_time(monkeypatch):
    desk, now = Desk(span_records=10_000, span_bytes=1), [0.0]
    slow = desk.broker.producer

    def at_1_kb_a_second(**options):
        producer = slow(**options)
        send = producer.send

        def sends(topic, *, value, **more):
            now[0] += (len(value) + 1) / 1_000
            if now[0] - producer.began > transaction.DEADLINE:
                raise KafkaTimeoutError("the deadline has passed")
            return send(topic, value=value, **more)

        def begins():
            producer.began = now[0]
            begin()

        begin = producer.begin_transaction
        producer.send, producer.begin_transaction = sends, begins
        return producer

    desk.broker.producer = at_1_kb_a_second
    monkeypatch.setattr(span.time, "monotonic", lambda: now[0])
    desk.sink._writer.discard(timeout=0)
    desk.sink._writer._connection = SimpleNamespace(producer=at_1_kb_a_second)
    desk.sink._writer.outage.limit = 1_000
    desk.sink._spans._size = span.SpanSize(most=20_000)
    desk.send(*range(10_000, 14_000))
    assert desk.taken(40) == list(range(10_000, 14_000))
    assert len(desk.broker.producers) < 8
    assert max(desk.broker.spans) * 6 < 10_000


def answering_late(desk, monkeypatch, seconds):
    """Each request of a transaction is answered after so many seconds; returns the clock."""
    now = [0.0]
    monkeypatch.setattr(span.time, "monotonic", lambda: now[0])

    def wait(result, timeout_ms, requests):
        if requests * seconds * 1_000 > timeout_ms:
            now[0] += timeout_ms / 1_000
            return False
        now[0] += requests * seconds
        return result.verdict is None

    made = desk.broker.producer

    def producer(**options):
        new = made(**options)
        manager = new._transaction_manager
        offsets, commit = manager.send_offsets_to_transaction, manager.begin_commit

        def slow(result, requests):
            result.wait = lambda timeout_ms: wait(result, timeout_ms, requests)
            return result

        def flush(timeout):
            now[0] += min(timeout, 2 * seconds)

        new.flush = flush
        manager.send_offsets_to_transaction = lambda *args: slow(offsets(*args), 3)
        manager.begin_commit = lambda: slow(commit(), 1)
        return new

    desk.sink._writer.discard(timeout=0)
    desk.sink._writer._connection = SimpleNamespace(producer=producer)
    desk.sink._writer.outage.limit = 1_000
    return now


@pytest.mark.parametrize("seconds", [1.0, 1.9])
def test_where_every_request_is_answered_late_spans_are_committed_all_the_same(
    monkeypatch, seconds
):
    desk = Desk()
    now = answering_late(desk, monkeypatch, seconds)
    size = desk.sink._spans._size
    for first in range(1, 40, 4):
        epoch = 1 + len(desk.rewinds)  # an answer that was too late: all is read again
        desk.hold(Lease(0, epoch))
        desk.send(*range(first, first + 4), epoch=epoch)
        desk.taken(4)
    assert desk.log == list(range(1, 41))
    assert "failed" not in desk.commits
    assert size.take([1_000] * 9_000) > 8_000, "smaller spans would not be answered sooner"
    assert now[0] < 10 * 6 * seconds + 1


@pytest.mark.parametrize(("late", "producers"), [(1, 2), (2, 3)])
def test_a_producer_has_two_waits_to_end_the_transaction_of_the_last(desk, late, producers):
    writer = desk.sink._writer
    writer.discard(timeout=0)
    desk.broker.fails["init"] = deque([KafkaTimeoutError()] * late + [None])
    assert writer.ready()
    assert len(desk.broker.producers) == producers
    assert writer.producer.asked == ["out"], "not within a transaction's time"


def test_time_in_which_nothing_waits_is_no_outage_after_a_failure_either(monkeypatch):
    desk, now = Desk(outage_limit=5), [0.0]
    monkeypatch.setattr(awake, "now", lambda: now[0])
    desk.sink._writer.outage.succeeded()
    desk.broker.fails["send"] = deque([KafkaTimeoutError("expired")] * 2)
    desk.send(1)
    desk.taken()
    desk.membership.holds({Lease(0, 2): "member"})
    desk.sink.forget(frozenset([Lease(0, 1)]))
    now[0] += 1_000
    desk.send(2, epoch=2)
    assert desk.taken(3) == [2]


def test_an_outage_whose_answers_stay_unknown_ends_the_process_too(monkeypatch):
    desk, now = Desk(outage_limit=5), [0.0]
    monkeypatch.setattr(awake, "now", lambda: now[0])
    desk.sink._writer.outage.succeeded()
    desk.broker.fails["commit"] = deque([HANGS] * 50)

    def try_again(epoch):
        desk.hold(Lease(0, epoch))
        desk.send(epoch, epoch=epoch)
        now[0] += 1
        desk.taken()

    for epoch in range(1, 6):
        try_again(epoch)
    with pytest.raises(Fatal, match="no output was acknowledged"):
        try_again(6)


@pytest.mark.parametrize("request_", ["send", "offsets", "commit"])
def test_a_process_that_was_replaced_makes_no_producer_that_would_fence_its_successor(
    desk, request_
):
    """It stood still: its requests are out of time, and its group has told it nothing yet."""
    desk.broker.fails[request_] = deque([HANGS])
    desk.replaced = True
    desk.send(1)
    with pytest.raises(Fatal, match=r"fenced \(FencedInstanceIdError\)"):
        desk.taken(times=2)
    ended, asked = desk.broker.producers
    assert ended.ended
    assert asked.ended
    assert asked.asked == [], "not begun"
    assert desk.rewinds == []


def test_one_that_is_replaced_while_it_waits_to_begin_does_not_try_again(desk):
    def late():
        desk.replaced = True
        raise KafkaTimeoutError

    desk.broker.fails |= {"send": deque([KafkaTimeoutError("expired")]), "init": deque([late])}
    desk.send(1)
    with pytest.raises(Fatal, match=r"fenced \(FencedInstanceIdError\)"):
        desk.taken(2)
    assert desk.broker.producers[-1].asked == [], "not begun"


def test_an_outage_beyond_the_limit_names_what_it_waited_for(desk):
    def away():
        raise Transient("the group does not answer: NotCoordinatorError")

    desk.broker.fails["init"] = deque([away] * 3)
    desk.sink._writer.discard(timeout=0)
    desk.sink._writer.outage.limit = -1
    with pytest.raises(Fatal, match=r"; last: the group does not answer: NotCoordinatorError$"):
        desk.sink._writer.ready()


def test_positions_are_committed_alone_and_never_go_back(desk):
    desk.sink.commit_positions({Lease(0, 1): 4})
    assert desk.taken() == []
    assert desk.broker.offsets == {0: 4}
    desk.send(7)
    assert desk.taken() == [7]
    desk.sink.commit_positions({Lease(0, 1): 5})
    desk.taken(2)
    assert desk.broker.offsets == {0: 8}


def test_no_permission_ends_the_process(desk):
    desk.broker.fails["offsets"] = deque([TransactionalIdAuthorizationFailedError()])
    desk.send(1)
    with pytest.raises(Fatal, match="outputs cannot be written: TransactionalIdAuthorization"):
        desk.taken()


def test_an_outage_beyond_the_limit_ends_the_process():
    desk = Desk(outage_limit=0)
    desk.broker.fails["send"] = deque([KafkaTimeoutError("expired")] * 3)
    desk.send(1)
    with pytest.raises(Fatal, match=r"no output was acknowledged for \d+ s \(kafka.outage_limit\)"):
        desk.taken(2)


def test_while_a_transaction_is_open_a_revocation_can_wait_for_its_end(desk):
    seen = []
    commit = desk.broker.producers[0]._transaction_manager.begin_commit

    def looking():
        seen.append(desk.membership.wait_until_quiet(0.01))
        return commit()

    desk.broker.producers[0]._transaction_manager.begin_commit = looking
    desk.send(1)
    desk.taken()
    assert seen == [False]
    assert desk.membership.wait_until_quiet(0.01)


def test_a_producer_whose_epoch_is_refused_asks_for_no_newer_one():
    """Where that is refused too the client asks as one that knows no epoch: a zombie would fence
    its successor."""
    manager = TransactionManager(transactional_id="group-replica", api_version=(4, 3))
    assert manager.classify_batch_error(InvalidProducerEpochError(), None) == "NEEDS_EPOCH_BUMP"
    transaction.never_bump(SimpleNamespace(_transaction_manager=manager))
    assert manager.classify_batch_error(InvalidProducerEpochError(), None) == "FATAL"


def test_every_producer_of_a_transactional_writer_is_such(desk):
    desk.broker.fails["send"] = deque([KafkaTimeoutError("expired")])
    desk.send(1)
    assert desk.taken(2) == [1]
    managers = [producer._transaction_manager for producer in desk.broker.producers]
    assert [manager._supports_epoch_bump() for manager in managers] == [False, False]


@pytest.mark.parametrize("failure", ["refused", "aborted", "late"])
def test_a_failed_transaction_is_held_by_no_cycle(desk, failure):
    """A span of 8 MB would be held by its errors until Python looks for cycles."""
    gc.collect()
    before = alive()
    gc.disable()
    try:
        if failure == "refused":
            desk.refuse(2)
        else:
            verdict = KafkaTimeoutError() if failure == "aborted" else HANGS
            desk.broker.fails = {"send": deque([None, verdict])}
        desk.send(1, 2, 3)
        assert desk.taken(times=6) == [1, 2, 3]
        assert "failed" in desk.commits
        assert alive() == before
    finally:
        gc.enable()


def alive():
    return sum(type(one) is Output for one in gc.get_objects())
