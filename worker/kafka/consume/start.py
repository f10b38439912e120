"""Where a group begins in a partition for which it has committed nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import kafka.errors
import structlog
from kafka.structs import OffsetAndMetadata

from worker.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Collection

    from kafka import KafkaConsumer, TopicPartition

log = structlog.get_logger(__name__)

START_MS = 5_000
"""Longest wait for each answer about partitions' offsets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The beginning of each partition, its end, or a time."""

    latest: bool = False
    """Whether it is the end. A partition that was added since the worker started is read from its
    beginning all the same: what came before the worker knew of it is not skipped."""
    time_ms: int | None = None
    """Records of this time, in ms since 1970, and later."""
    partitions: int = 0
    """How many the topic had when the worker started."""

    def seek(self, consumer: KafkaConsumer, partitions: Collection[TopicPartition]) -> None:
        """Moves the consumer there.

        It is committed first: if the partition moved before anything in it is settled, its new
        owner would begin at a later end, and know an added partition as an old one.

        Raises:
            Transient: The broker is away; nothing was moved.
        """
        old = [each for each in partitions if each.partition < self.partitions]
        if not self.latest and self.time_ms is None:
            consumer.seek_to_beginning(*partitions)
            return
        try:
            offsets = self._offsets(consumer, old) if old else {}
            added = [each for each in partitions if each not in offsets]
            if added:
                offsets |= consumer.beginning_offsets(added, timeout_ms=START_MS)
            structs = {each: OffsetAndMetadata(offset, "", -1) for each, offset in offsets.items()}
            consumer.commit(structs, timeout_ms=START_MS)
        except kafka.errors.KafkaError as error:
            raise Transient(f"the start is not known: {type(error).__name__}") from error
        log.info("group_begins", at={each.partition: offset for each, offset in offsets.items()})
        for each, offset in offsets.items():
            consumer.seek(each, offset)

    def _offsets(
        self, consumer: KafkaConsumer, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, int]:
        found: dict[TopicPartition, int] = consumer.end_offsets(
            list(partitions), timeout_ms=START_MS
        )
        if self.time_ms is not None:
            times = dict.fromkeys(partitions, self.time_ms)
            for each, at in consumer.offsets_for_times(times, timeout_ms=START_MS).items():
                if at is not None:
                    found[each] = at.offset
        return found
