"""How much of what the client has fetched one poll takes: the client limits it in records only.

A thousand records of 256 KiB are 250 MB, and one record with as many headers as fit takes a third
of a second to unpack. So the records are counted in bytes and in time while the client unpacks
them, and what is beyond the limits stays in the client, for the next poll.

What pausing a partition leaves in the client is found again, too.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from worker.records import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kafka import KafkaConsumer

UNPACK_SECONDS = 1.0
"""Longest time that one poll unpacks records, one record more included: a turn of the poll loop
may take 30 s."""
LARGE = 16_384
"""Bytes of a record after which the time is looked at: smaller ones take microseconds."""


class Portion:
    """Limits what each poll of a consumer returns, to one record beyond. Owned by its thread.

    The client hands its fetched records to a poll partition by partition in `Fetcher._append`,
    until it has as many as were asked for. That method is replaced for this one consumer.

    Args:
        consumer: Is limited as long as it lives.
        clock: Monotonic seconds.
    """

    def __init__(
        self, consumer: KafkaConsumer, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # The client has no other place for a limit.
        self._fetcher: Any = consumer._fetcher  # noqa: SLF001
        self._append = self._fetcher._append  # noqa: SLF001
        self._fetcher._append = self._limited  # noqa: SLF001
        self._clock = clock
        self.left = 0
        """Bytes that this poll may still take; 0 or less when it has all that it may."""
        self._until: float | None = None

    def allow(self, max_bytes: int) -> None:
        """The next poll returns records until they have so many bytes, at least one.

        Raises:
            Exception: The client's, for a record that the last poll could not read.
        """
        self.left = max(1, max_bytes)
        self._until = None
        self._raise_what_waits()
        self._take_up_what_is_laid_aside()

    def look_at_the_time(self) -> None:
        """Ends this poll if it has unpacked records for long."""
        if self._until is not None and self._clock() > self._until:
            self.left = 0

    def _raise_what_waits(self) -> None:
        """Raises what the last poll kept for this one, since it had records to return.

        kafka-python 3.0.12 does so itself, unless the partition was paused in between: then it
        drops the error, and the first poll after the pause never ends.
        """
        fetcher = self._fetcher
        kept = fetcher._next_in_line_exception_metadata  # noqa: SLF001
        if kept is None:
            return
        subscriptions = fetcher._subscriptions  # noqa: SLF001
        if (
            subscriptions.is_paused(kept.partition)
            and subscriptions.position(kept.partition).offset == kept.fetched_offset
        ):
            raise kept.exception

    def _take_up_what_is_laid_aside(self) -> None:
        """Lets partitions that were paused in the middle of their records go on, in turns.

        kafka-python 3.0.12 lays such records aside, and takes them up again only while it holds no
        other partition's, not even used up ones: of the resumed partition nothing more would come.
        """
        fetcher = self._fetcher
        aside = fetcher._paused_partition_records  # noqa: SLF001
        if not aside:
            return
        if held := fetcher._next_partition_records:  # noqa: SLF001 - false where they are used up
            aside[held.topic_partition] = held
        fetcher._next_partition_records = None  # noqa: SLF001

    def _limited(self, drained: Any, part: Any, max_records: int, update_offsets: bool) -> int:  # noqa: FBT001 - the client's
        if self._until is None:
            self._until = self._clock() + UNPACK_SECONDS
        if part and not isinstance(part.record_iterator, _Metered):
            part.record_iterator = _Metered(part.record_iterator, self)
        taken: int = self._append(drained, part, max_records, update_offsets)
        # As many as were asked for: the client then asks no other partition.
        return taken if self.left > 0 else max_records


class _Metered:
    """A partition's records: each iteration gives as many as its poll may take."""

    __slots__ = ("_portion", "_records")

    def __init__(self, records: Iterator[Any], portion: Portion) -> None:
        self._records = records
        self._portion = portion

    def __iter__(self) -> Iterator[Any]:
        portion = self._portion
        if portion.left <= 0:
            return
        for record in self._records:
            size = len(record.value) if record.value else 0
            if record.key:
                size += len(record.key)
            if record.headers:
                size += record.serialized_header_size + HEADER_BYTES * len(record.headers)
            portion.left -= size
            if size > LARGE:
                portion.look_at_the_time()
            yield record
            if portion.left <= 0:
                return
