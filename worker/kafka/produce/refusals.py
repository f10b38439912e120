"""Which outputs a topic refuses for good: by its configuration, by the broker's answers, by memory.

kafka-python fails every record that a producer still holds with the error of a refused one, so an
error alone does not say which record the broker refused.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import kafka.errors
from kafka.record.default_records import DefaultRecordBatchBuilder as Batch
from kafka.record.memory_records import MemoryRecordsBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.errors import Refusal
    from worker.kafka.cluster.topics import Topic
    from worker.kafka.produce.writer import Sendable

REMEMBER_SECONDS = 60.0
"""How long outputs are not tried that are at least as large as one that was refused: so long a
topic whose limit was raised may still lose labels to dead letters."""
MOST_SIZES = 16
"""Sizes that are remembered of a topic: each costs every output of it a comparison."""
OVERHEAD_BYTES = 256
"""Upper bound of what a record batch adds around one record's key, value and headers."""

COMPLETE_SECONDS = 1.0
"""Longest wait until the client has completed all futures of a batch: it takes microseconds."""

_REFUSALS: dict[type[BaseException], Refusal] = {
    kafka.errors.MessageSizeTooLargeError: "too_large",
    kafka.errors.RecordListTooLargeError: "too_large",
    kafka.errors.InvalidTimestampError: "timestamp",
    kafka.errors.InvalidRecordError: "invalid",
    kafka.errors.PolicyViolationError: "invalid",
}
_MESSAGE_FORMAT = 2
_CODECS = {
    "none": Batch.CODEC_NONE,
    "gzip": Batch.CODEC_GZIP,
    "snappy": Batch.CODEC_SNAPPY,
    "lz4": Batch.CODEC_LZ4,
    "zstd": Batch.CODEC_ZSTD,
}


def refusal_of(error: BaseException | None) -> Refusal | None:
    """Why the broker refuses the record for good; None if the error is no such refusal."""
    return next((name for kind, name in _REFUSALS.items() if isinstance(error, kind)), None)


def foretold(topic: Topic, output: Sendable) -> Refusal | None:
    """Why the topic's configuration is certain to refuse an output; None if it is not."""
    if topic.compacted and output.key is None:
        return "keyless"
    if output.timestamp is None:
        return None
    age = int(time.time() * 1_000) - output.timestamp
    outside = age > topic.earliest_ms or -age > topic.latest_ms
    return "timestamp" if outside else None


def size_of(output: Sendable) -> int:
    """Bytes of key, value and headers, before compression."""
    size = len(output.value) if output.value else 0
    if output.key:
        size += len(output.key)
    if output.headers:
        size += sum(len(name) + len(value) for name, value in output.headers)
    return size


@dataclass(frozen=True, slots=True)
class Blame:
    """Which of the outputs that were sent together the broker refused."""

    refused: Mapping[int, Refusal]
    """By index: those that it named, or that were alone in their batch."""
    among: int
    """If it named none: the first is one of so many from the beginning; 0 if there is none."""


def blame(futures: Sequence[Any], cause: BaseException | None) -> Blame:
    """Finds out from the futures of outputs, in the order they were sent, which were refused.

    Args:
        futures: The client's; open ones count as not refused.
        cause: The error that the client keeps; it is more exact where a broker named several.
    """
    for future in futures:
        if future.exception is not None:
            _answered(future)  # waits: then the others of its batch are complete, too
    answered = {
        at: future.exception
        for at, future in enumerate(futures)
        if refusal_of(future.exception) is not None and _answered(future)
    }
    sharing = Counter(id(error) for error in answered.values())
    refused: dict[int, Refusal] = {}
    for at, error in answered.items():
        # All records of a batch share an error, unless the broker named those that it refuses.
        if sharing[id(error)] == 1:
            exact = isinstance(cause, kafka.errors.InvalidTimestampError)
            reason = refusal_of(cause if exact else error)
            if reason is not None:
                refused[at] = reason
    return Blame(refused, max(answered, default=-1) + 1)


def partition_of(future: Any) -> Any:
    """The topic and partition that the client chose for an output."""
    return getattr(getattr(future, "_produce_future", None), "topic_partition", None)


def _answered(future: Any) -> bool:
    """Whether the broker answered for the future's batch, and not the client for the broker.

    A batch that the client gives up has the offset -1; one that the broker refused has none.
    """
    batch = getattr(future, "_produce_future", None)
    # The futures of a batch are completed one by one, and its own comes last.
    if batch is None or not batch.wait(COMPLETE_SECONDS):
        return False
    return isinstance(batch.value, tuple) and batch.value[0] is None


@dataclass(frozen=True, slots=True)
class _Size:
    """What shows that an output is too large for a topic: it has as much of both."""

    batch: int
    """Bytes of a batch of one record, compressed as the client does."""
    plain: int
    """Bytes of key, value and headers."""


class SizeMemory:
    """How large outputs were that a topic refused as too large. Owned by the thread that sends.

    The broker limits the batch as the client compresses it, or as the topic does by its own
    `compression.type`, which may be not at all. So an output that is above the topic's limit tells
    where the limit is; of another nothing is known but that larger ones are refused as well:
    larger compressed and plain.

    Args:
        compression: Codec of batches, or `none`.
        clock: Monotonic seconds.
    """

    def __init__(self, *, compression: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._codec = _CODECS[compression]
        self._clock = clock
        self._refused: dict[str, list[_Size]] = {}
        self._at: dict[str, float] = {}

    def refused(self, output: Sendable, *, limit: int) -> None:
        """The topic, whose limit was `limit` bytes, refused it when it was alone in its batch."""
        size = _Size(self._batch_bytes(output), size_of(output))
        if size.batch > limit:
            size = _Size(limit + 1, 0)  # the limit is still in force
        others = [
            known
            for known in self._known(output.topic)
            if known.batch < size.batch or known.plain < size.plain
        ]
        self._refused[output.topic] = [*others, size][-MOST_SIZES:]
        self._at[output.topic] = self._clock()

    def refuses(self, output: Sendable) -> bool:
        """Whether the topic refused a smaller one, or one of its size, within the last minute."""
        if output.topic not in self._refused:  # for nearly every output
            return False
        plain = size_of(output)
        return any(
            plain >= size.plain and self.exceeds(output, size.batch - 1)
            for size in self._known(output.topic)
        )

    def exceeds(self, output: Sendable, limit: int) -> bool:
        """Whether a batch with this output alone has more than `limit` bytes."""
        at_most = size_of(output) + OVERHEAD_BYTES
        if output.headers:
            at_most += sum(len(name) * 3 + 16 for name, _ in output.headers)
        return at_most > limit and self._batch_bytes(output) > limit

    def _known(self, topic: str) -> list[_Size]:
        since = self._clock() - self._at.get(topic, float("-inf"))
        return [] if since >= REMEMBER_SECONDS else self._refused[topic]

    def _batch_bytes(self, output: Sendable) -> int:
        builder = MemoryRecordsBuilder(_MESSAGE_FORMAT, self._codec, 0)
        timestamp = int(time.time() * 1_000) if output.timestamp is None else output.timestamp
        builder.append(timestamp, output.key, output.value, output.headers)
        builder.close()
        return int(builder.size_in_bytes())
