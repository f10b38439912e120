"""Which outputs a broker refused, found out from the real client's futures."""

import random
import threading
from dataclasses import dataclass, field

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")

from kafka import TopicPartition  # noqa: E402 - importing the client warns on Python 3.11
from kafka.errors import (  # noqa: E402
    InvalidRecordError,
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
)
from kafka.producer.producer_batch import ProducerBatch  # noqa: E402
from kafka.record.memory_records import MemoryRecordsBuilder  # noqa: E402

from worker.kafka.produce.refusals import (  # noqa: E402
    REMEMBER_SECONDS,
    Blame,
    SizeMemory,
    blame,
    refusal_of,
)


@dataclass
class Sent:
    key: bytes | None = b"k"
    value: bytes | None = b"v"
    headers: list = field(default_factory=list)
    topic: str = "out"
    partition: int | None = None
    timestamp: int | None = 1


def batch(records, partition=0):
    made = ProducerBatch(
        TopicPartition("out", partition), MemoryRecordsBuilder(2, 0, 1_000_000), now=0.0
    )
    return made, [made.try_append(1, b"k", b"v", [], now=0.0) for _ in range(records)]


def named(error, *positions):
    """As the client maps what a broker says of some records of a batch."""
    return lambda at: type(error)("this one") if at in positions else KafkaError("part of a batch")


def test_records_that_the_broker_names_are_refused_and_no_others():
    refused, futures = batch(5)
    behind, later = batch(3, partition=1)
    top = InvalidRecordError("bad")
    refused.complete_exceptionally(top, named(top, 1, 3))
    behind.abort(top)
    assert blame([*futures, *later], top).refused == {1: "invalid", 3: "invalid"}


def test_one_that_is_alone_in_its_batch_is_refused_though_all_others_fail_with_its_error():
    before, earlier = batch(3, partition=1)
    refused, futures = batch(1)
    top = MessageSizeTooLargeError("large")
    refused.complete_exceptionally(top, lambda _: top)
    before.abort(top)
    assert blame([*earlier, *futures], top) == Blame({3: "too_large"}, 4)


def test_a_batch_of_which_the_broker_names_none_leaves_suspects():
    refused, futures = batch(4)
    behind, later = batch(3, partition=1)
    top = InvalidTimestampError("old")
    refused.complete_exceptionally(top, lambda _: top)
    behind.abort(top)
    assert blame([*later[:1], *futures, *later[1:]], top) == Blame({}, 5)


def test_two_batches_that_are_refused_at_once_are_both_seen():
    first, one = batch(1)
    second, two = batch(1, partition=1)
    errors = [MessageSizeTooLargeError("a"), MessageSizeTooLargeError("b")]
    first.complete_exceptionally(errors[0], lambda _: errors[0])
    second.complete_exceptionally(errors[1], lambda _: errors[1])
    assert blame([*one, *two], errors[1]).refused == {0: "too_large", 1: "too_large"}


def test_of_several_named_for_their_time_the_kept_error_says_so():
    refused, futures = batch(3)
    top = InvalidTimestampError("old")
    refused.complete_exceptionally(top, named(InvalidRecordError("x"), 0, 2))
    assert blame(futures, top).refused == {0: "timestamp", 2: "timestamp"}


def test_what_expired_or_is_open_or_acknowledged_is_not_refused():
    expired, futures = batch(1)
    error = KafkaTimeoutError("expired")
    expired.complete_exceptionally(error, lambda _: error)
    done, good = batch(1)
    done.complete(5, -1)
    _, open_ = batch(1)
    assert blame([*futures, *good, *open_], None) == Blame({}, 0)


def test_no_error_is_no_refusal():
    assert refusal_of(None) is None
    assert refusal_of(KafkaError("x")) is None


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_a_size_is_that_of_the_batch_that_the_client_sends(compression):
    memory = SizeMemory(compression=compression)
    output = Sent(value=bytes(range(256)) * 100, headers=[("name", b"x" * 500)])
    attributes = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}[compression]
    builder = MemoryRecordsBuilder(2, attributes, 262_144)
    made = ProducerBatch(TopicPartition("out", 0), builder, now=0.0)
    made.try_append(1, output.key, output.value, output.headers, now=0.0)
    builder.set_producer_state(7, 3, 12, is_transactional=True)
    builder.close()
    assert memory.exceeds(output, builder.size_in_bytes() - 1)
    assert not memory.exceeds(output, builder.size_in_bytes())


def test_what_is_as_large_as_a_refused_one_is_foretold_for_a_while():
    now = [0.0]
    memory = SizeMemory(compression="none", clock=lambda: now[0])
    assert not memory.refuses(Sent(value=b"x" * 10_000))
    memory.refused(Sent(value=b"x" * 5_000), limit=6_000)
    assert memory.refuses(Sent(value=b"x" * 5_000))
    assert memory.refuses(Sent(headers=[("h", b"x" * 6_000)]))
    assert not memory.refuses(Sent(value=b"x" * 4_999))
    assert not memory.refuses(Sent(value=b"x" * 5_000, topic="dlq")), "of another topic"
    memory.refused(Sent(value=b"x" * 7_000), limit=8_000)
    assert memory.refuses(Sent(value=b"x" * 5_000)), "the smallest counts"
    now[0] = REMEMBER_SECONDS
    assert not memory.refuses(Sent(value=b"x" * 9_000)), "the limit may have been raised"


def test_one_that_the_limit_does_not_explain_condemns_only_what_is_larger_in_both_measures():
    """The topic compresses anew, or lowered its limit: nobody knows which."""
    noise = random.Random(1).randbytes
    memory = SizeMemory(compression="lz4")
    memory.refused(Sent(value=bytes(30_000)), limit=20_000)
    assert memory.refuses(Sent(value=bytes(30_000)))
    assert memory.refuses(Sent(value=noise(30_000)))
    assert not memory.refuses(Sent(value=noise(29_000)))
    memory.refused(Sent(value=noise(2_000)), limit=20_000)
    assert memory.refuses(Sent(value=noise(2_000)))
    assert not memory.refuses(Sent(value=noise(1_900)))
    assert not memory.refuses(Sent(value=bytes(29_000))), "compressed far smaller than both"
    assert memory.refuses(Sent(value=bytes(30_000)))


def test_an_output_above_the_limit_that_was_refused_shows_that_the_limit_is_in_force():
    memory = SizeMemory(compression="none")
    memory.refused(Sent(value=b"x" * 9_000), limit=5_000)
    assert memory.refuses(Sent(value=b"x" * 5_000))
    assert not memory.refuses(Sent(value=b"x" * 4_800))


def test_a_batch_whose_futures_are_not_all_complete_yet_is_waited_for():
    """Else the first of them would seem to have been alone, and be blamed for another."""
    refused, futures = batch(3)
    top = InvalidRecordError("bad")
    between, goes_on = threading.Event(), threading.Event()
    futures[0].add_errback(lambda _: (between.set(), goes_on.wait(5)))
    broker = threading.Thread(
        target=refused.complete_exceptionally, args=(top, lambda _: top), daemon=True
    )
    broker.start()
    assert between.wait(5)
    assert [future.exception for future in futures] == [top, None, None]
    threading.Timer(0.05, goes_on.set).start()
    assert blame(futures, top) == Blame({}, 3)
    broker.join()
